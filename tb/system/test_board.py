"""Boards without boards: the whole FPGA content in Verilator behind a pseudo-terminal, driven by the unchanged host program."""

import random
import re
import subprocess
import sys
import threading
import time

import pytest

from boards.registry import BOARDS
from boards.simulate import BoardSimulator
from gen.config import Config
from tb.link.wire import Wire

LIMIT = 600    # seconds


def flexwave(*words: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", "sw.cli.main", *words], capture_output=True, text=True, timeout=LIMIT)


@pytest.fixture(scope="module")
def orangecrab():
    board = BOARDS["orangecrab"]
    with BoardSimulator(board, Config.load(board.config)).running() as running:
        yield running.device


@pytest.fixture(scope="module")
def ulx3s():
    board = BOARDS["ulx3s"]
    with BoardSimulator(board, Config.load(board.config)).running() as running:
        yield running.device


@pytest.mark.parametrize("sizes", ["16 16 16", "1 1 1", "33 9 21"])
def test_exact_cycles_from_memory_on_the_chip(orangecrab, sizes):
    done = flexwave("gemm", *sizes.split(), "--engine", "board", "--device", orangecrab)
    assert done.returncode == 0, done.stderr
    assert "equal to the golden model" in done.stdout
    cycles, predicted = re.search(r"cycles +([\d,]+), predicted ([\d,]+), array", done.stdout).groups()  # type: ignore[union-attr]
    assert cycles == predicted


def test_a_bad_line_never_gives_a_wrong_result(orangecrab):
    seed = random.randrange(1 << 32)
    print("seed", seed)
    with Wire(orangecrab, seed=seed, drop=0.01, flip=0.01) as wire:
        done = flexwave("gemm", "24", "20", "16", "--engine", "board", "--device", wire.path)
    assert done.returncode == 0, done.stderr
    assert "equal to the golden model" in done.stdout
    assert wire.passed > 3000      # so about sixty bytes were spoilt


def test_a_pulled_cable_is_one_line(orangecrab):
    with Wire(orangecrab) as wire:
        killer = threading.Thread(target=lambda: (_when(lambda: wire.passed > 2000), wire.pull()))
        killer.start()
        done = flexwave("gemm", "40", "40", "40", "--engine", "board", "--device", wire.path)
        killer.join()
    assert done.returncode == 2
    assert re.fullmatch(r"flexwave: device = '\S+' .*\n", done.stderr), done.stderr
    again = flexwave("gemm", "8", "8", "8", "--engine", "board", "--device", orangecrab)
    assert again.returncode == 0, again.stderr


def _when(condition):
    while not condition():
        time.sleep(0.01)


@pytest.mark.slow
def test_digits_through_the_simulated_ulx3s(ulx3s):
    done = subprocess.run([sys.executable, "-m", "sw.demo", "--engine", "board", "--device", ulx3s, "--images", "64"],
                          capture_output=True, text=True, timeout=LIMIT)
    assert done.returncode == 0, done.stderr
    assert "every integer equals the golden model" in done.stdout


@pytest.mark.slow
def test_digits_over_a_bad_line(ulx3s):
    seed = random.randrange(1 << 32)
    print("seed", seed)
    with Wire(ulx3s, seed=seed, drop=0.01, flip=0.01) as wire:
        done = subprocess.run([sys.executable, "-m", "sw.demo", "--engine", "board", "--device", wire.path, "--images", "8"],
                              capture_output=True, text=True, timeout=LIMIT)
    assert done.returncode == 0, done.stderr
    assert "every integer equals the golden model" in done.stdout

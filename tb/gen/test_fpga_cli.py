"""`flexwave fpga`: what a user sees before anything is built."""

import subprocess
import sys

import pytest

from boards.fit import FitError, check, needs
from boards.registry import BOARDS
from gen.config import Config


def flexwave(*words: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", "sw.cli.main", "fpga", *words], capture_output=True, text=True, timeout=120)


def test_list_names_every_board():
    done = flexwave("list")
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert len(lines) == 1 + len(BOARDS)
    for name, board in BOARDS.items():
        assert any(line.startswith(name) and board.device.name in line and board.config in line for line in lines)


@pytest.mark.parametrize("words, text", [
    (["arty"], "board = 'arty' is none of ulx3s, orangecrab, icebreaker, tang-nano-9k (or list)"),
    (["ulx3s", "--seeds", "0"], "seeds = 0 is outside 1..99"),
    (["ulx3s", "--config", "huge"], "config = 'huge' is neither a file nor one of the presets"),
    (["ulx3s", "--simulate", "--program"], "simulate: --simulate goes with --config alone"),
    (["ulx3s", "--config", "paper"], "config = paper needs about"),
    (["icebreaker", "--config", "base"], "config = base needs about"),
    (["tang-nano-9k", "--config", "small"], "at least 64 multipliers and 26 block RAMs; the GW1NR-9C of tang-nano-9k has 8,640, 40 and 26"),
    (["ulx3s", "--json", "/nowhere/report.json"], "the folder '/nowhere' does not exist"),
])
def test_mistakes_are_one_line(words, text):
    done = flexwave(*words)
    assert done.returncode == 2
    assert done.stderr.startswith("flexwave: ") and done.stderr.count("\n") == 1 and text in done.stderr, done.stderr
    assert not done.stdout


def test_every_board_takes_its_own_preset():
    for board in BOARDS.values():
        check(board, Config.load(board.config))


def test_a_refusal_names_what_there_is():
    board = BOARDS["orangecrab"]
    with pytest.raises(FitError) as error:
        check(board, Config.load("base"))
    device = board.device
    assert str(error.value).endswith(f"has {device.luts:,}, {device.multipliers} and {device.block_rams}")


def test_needs_grow_with_the_array():
    board = BOARDS["ulx3s"]
    small, large = needs(board, Config.load("small")), needs(board, Config.load("base"))
    assert small.luts < large.luts and small.block_rams < large.block_rams

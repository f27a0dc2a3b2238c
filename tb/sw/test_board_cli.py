"""`--engine board` of every command, in processes of their own: exit codes, one line for whatever is wrong, reports, files."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from gen.files import ROOT
from gen.isa import Instruction
from gen.presets import PRESETS
from sw.compiler.lower import compile_gemm
from tb.link.device import Device
from tb.link.machine import ToyMachine

TINY = PRESETS["tiny"]


def command(*argv: str, module: str = "sw.cli.main", folder=None) -> tuple[int, str, str]:
    """Exit code, standard output and error of a command."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-m", module, *argv], capture_output=True, text=True, cwd=folder, env=environment, timeout=60)
    return done.returncode, done.stdout, done.stderr


def mistake(folder, *argv: str) -> str:
    """The one line of a command that must fail and leave nothing behind."""
    before = sorted(os.listdir(folder))
    code, out, err = command(*argv, folder=folder)
    assert (code, out) == (2, "") and err.startswith("flexwave: ") and err.count("\n") == 1, (code, out, err)
    assert sorted(os.listdir(folder)) == before
    return err.removeprefix("flexwave: ").rstrip("\n")


BOARD = ("--engine", "board", "--device")


@pytest.mark.parametrize("argv, message", [
    (["gemm", "2", "2", "2", *BOARD, "/dev/none"], "device = '/dev/none' does not exist"),
    (["gemm", "2", "2", "2", *BOARD, "/dev/null"], "device = '/dev/null' is not a serial port"),
    (["gemm", "2", "2", "2", "--engine", "board"], "device: --engine board needs --device, e.g. /dev/ttyUSB0"),
    (["gemm", "2", "2", "2", "--device", "/dev/none"], "device = '/dev/none' needs --engine board, not rtl"),
    (["gemm", "2", "2", "2", "--engine", "model", "--baud", "9600"], "baud = '9600' needs --engine board, not model"),
    (["gemm", "2", "2", "2", *BOARD, "/dev/none", "--baud", "fast"], "baud = 'fast' is not an integer in 300..12000000"),
    (["gemm", "2", "2", "2", *BOARD, "/dev/none", "--memory", "sdr-ulx3s"],
     "memory = 'sdr-ulx3s' simulates a DRAM behind the RTL, a board has its own"),
])
def test_mistakes(capsys, argv, message):
    """In this process: it is what another one would print, and quicker."""
    from sw.cli.main import main

    assert main(argv) == 2
    out, err = capsys.readouterr()
    assert (out, err) == ("", f"flexwave: {message}\n")


@pytest.mark.parametrize("machine, device, argv, message", [
    ({}, {}, ["--config", "small"],
     f"config = small (1G1F, digest {PRESETS['small'].digest()}) is not the board's: tiny (digest {TINY.digest()})"),
    ({"digest": "0123456789abcdef"}, {}, [],
     "config: the board's configuration (digest 0123456789abcdef) is no preset, --config FILE is needed"),
    ({"memory_bytes": 512}, {}, [], "device = 'DEVICE' has 512 bytes of memory, program and operands take "),
    ({}, {"silent": True}, [], "device = 'DEVICE' does not answer"),
    ({}, {"garbage": True}, [], "device = 'DEVICE' answers, but not as a FlexWave board (or not at this baud rate)"),
    ({}, {"pull_after": 12}, [], "device = 'DEVICE' has gone"),
])
def test_trouble(tmp_path, machine, device, argv, message):
    with Device(ToyMachine(TINY, **machine), **device) as board:
        text = mistake(tmp_path, "gemm", "9", "9", "9", *BOARD, board.path, "--out", "c.npy", "--json", "r.json", *argv)
        message = message.replace("DEVICE", board.path)
        assert text == message or (message.endswith(" ") and text.startswith(message))


def test_gemm(tmp_path):
    a = np.random.default_rng(1).integers(-128, 128, (5, 7), np.int8)
    b = np.random.default_rng(2).integers(0, 256, (7, 3), np.uint8)
    np.save(tmp_path / "a.npy", a)
    np.save(tmp_path / "b.npy", b)
    with Device(ToyMachine(TINY), seed=7, drop=0.001, flip=0.001) as board:
        files = ("--a", "a.npy", "--b", "b.npy", "--out", "c.npy", "--json", "r.json")
        code, out, err = command("gemm", *files, *BOARD, board.path, folder=tmp_path)
    assert (code, err) == (0, "") and "tiny, 1G1F, engine board (toy, 50 MHz)" in out and "equal to the golden model" in out
    report = json.loads((tmp_path / "r.json").read_text())
    assert np.array_equal(np.load(tmp_path / "c.npy"), a.astype(np.int32) @ b.astype(np.int32))
    assert (report["engine"], report["board"], report["exact_cycles"], report["cycles"]) == ("board", "toy", True, report["model_cycles"])
    with Device(ToyMachine(TINY, stretch=2, memory_bytes=1 << 20)) as board:
        code, out, err = command("gemm", "4", "4", "4", *BOARD, board.path, "--json", "-")
    assert (code, err) == (0, "") and json.loads(out)["memory_ratio"] == 2.0
    with Device(ToyMachine(TINY, stretch=2)) as board:
        code, out, err = command("gemm", "4", "4", "4", *BOARD, board.path)
    assert code == 1 and err.startswith("flexwave: cycles = ") and "differs from the predicted" in err


def test_run(tmp_path):
    """Raw code and a program file: memory and registers afterwards as on the other engines; where the machine stopped."""
    program = compile_gemm(TINY, 6, 5, 4)
    program.save(tmp_path / "gemm.fw")
    (tmp_path / "bad.bin").write_bytes(Instruction("Barrier").encode())
    np.random.default_rng(3).integers(0, 256, 300, np.uint8).tofile(tmp_path / "in.bin")
    piece = {"slice": 0, "chunks": 1, "beats": 8}
    code = [Instruction("DmaIn", memory=0, **piece), Instruction("Barrier"), Instruction("DmaOut", memory=96, **piece), Instruction("End")]
    (tmp_path / "code.bin").write_bytes(b"".join(instruction.encode() for instruction in code))
    with Device(ToyMachine(TINY)) as board:
        for name, memory in (("code.bin", ["--memory", "in.bin"]), ("gemm.fw", [])):
            argv = ["run", name, *memory, *(["--size", "1024"] if memory else [])]
            config = ["--config", "tiny"] if memory else []
            model = command(*argv, *config, "--engine", "model", "--out", "model.bin", folder=tmp_path)
            there = command(*argv, *BOARD, board.path, "--out", "board.bin", folder=tmp_path)
            assert model[0] == there[0] == 0 and there[2] == ""
            assert (tmp_path / "board.bin").read_bytes() == (tmp_path / "model.bin").read_bytes()
            assert set(model[1].splitlines()) <= set(there[1].splitlines())
        there = (*BOARD, board.path, "--out", "x.bin")
        assert mistake(tmp_path, "run", "bad.bin", "--size", "64", *there) == "the machine stopped at instruction 1: END"
        assert mistake(tmp_path, "run", "gemm.fw", "--config", "small", *there).startswith("config: 'gemm.fw' was compiled for tiny")
        assert mistake(tmp_path, "run", "code.bin", "--size", "70000", *there) == (
            f"device = {board.path!r} has 65536 bytes of memory, program and operands take 70144")


def test_demo():
    """The whole network on a board; and one that has gone."""
    with Device(ToyMachine(TINY, memory_bytes=1 << 18)) as board:
        code, out, err = command("--engine", "board", "--device", board.path, module="sw.demo")
    assert (code, err) == (0, "") and "on tiny (1G1F, 16 PEs), engine board (toy)" in out
    assert "31,232 of 31,232" in out and "every integer equals the golden model, every cycle the prediction" in out
    assert command("--engine", "board", "--device", "/dev/none", module="sw.demo") == (2, "", "demo: device = '/dev/none' does not exist\n")

"""The command line: exit codes, one line for a user's mistake, nothing half-written, files in and out. No engine but what is said."""

import json
import os
import re

import numpy as np
import pytest

from gen import isa
from gen.presets import PRESETS
from sw.cli.main import main


@pytest.fixture
def mistake(capsys, tmp_path, monkeypatch):
    """Runs a command that must fail: returns its one line; no file may have appeared."""
    monkeypatch.chdir(tmp_path)

    def run(*argv: str) -> str:
        before = sorted(os.listdir(tmp_path))
        assert main(argv) == 2
        out, err = capsys.readouterr()
        assert out == "" and err.startswith("flexwave: ") and err.count("\n") == 1, err
        assert sorted(os.listdir(tmp_path)) == before
        return err.removeprefix("flexwave: ").rstrip("\n")

    return run


@pytest.mark.parametrize("argv, message", [
    (["gemm", "0", "1", "1"], "M = 0 is outside 1.."),
    (["gemm", "1", "-3", "1"], "N = -3 is outside 1.."),
    (["gemm", "1", "1", "1.5"], "K = '1.5' is not an integer in 1.."),
    (["gemm", "4", "4", "999999999"], "K = 999999999 is outside 1..268435440 with M = 4, N = 4: memory has 4294967296 bytes"),
    (["gemm", "99999999999", "1", "1"], "M = 99999999999 is outside 1..4294967296"),
    (["gemm", "1", "1"], "M N K: three sizes are needed, not 2"),
    (["gemm", "1", "1", "1", "--seed", "x"], "seed = 'x' is not an integer in 0.."),
    (["gemm", "1", "1", "1", "--config", "huge"], "config = 'huge' is neither a file nor one of the presets tiny, small, base, paper"),
    (["gemm", "1", "1", "1", "--organisation", "2G"], "organisation = '2G' is none of 1G1C, 1G4C, 4G4C, 1G1F, 4G1F"),
    (["gemm", "1", "1", "1", "--engine", "fpga"], "argument --engine: invalid choice: 'fpga'"),
    (["gemm", "1", "1", "1", "--json", "no/such/file"], "json = 'no/such/file': the folder 'no/such' does not exist"),
    (["gemm", "1", "1", "1", "--out", "."], "out = '.' is a folder, not a file"),
    (["gemm", "--a", "a.npy"], "b: --a and --b belong together"),
    (["gemm", "1", "1", "1", "--a", "a.npy", "--b", "b.npy"], "M N K: give sizes or --a and --b, not both"),
    (["gemm", "--a", "none.npy", "--b", "none.npy"], "a = 'none.npy' cannot be read: No such file or directory"),
    (["config", "show", "nothing.toml"], "config = 'nothing.toml' cannot be read: No such file or directory"),
    (["config"], "the following arguments are required: ACTION"),
    (["verilog", "--config", "tiny"], "the following arguments are required: -o/--output"),
    (["fly"], "argument COMMAND: invalid choice: 'fly'"),
    (["disasm", "none.bin"], "program = 'none.bin' cannot be read: No such file or directory"),
])
def test_mistakes(mistake, argv, message):
    assert mistake(*argv).startswith(message)


def test_misspelt_key(mistake, tmp_path):
    (tmp_path / "my.toml").write_text("[array]\nsdie = 8\n")
    assert mistake("config", "check", "my.toml") == "array.sdie is not a field, did you mean 'side'?"
    assert mistake("gemm", "1", "1", "1", "--config", "my.toml") == "array.sdie is not a field, did you mean 'side'?"


GOOD = np.ones((3, 4), np.int8)


@pytest.mark.parametrize("value, message", [
    (np.ones((3, 4)), "a has type float64, allowed: int8, uint8"),
    (np.ones((3, 4), np.int16), "a has type int16, allowed: int8, uint8"),
    (np.ones(4, np.int8), "a has 1 dimensions, a matrix has 2"),
    (np.ones((1, 3, 4), np.uint8), "a has 3 dimensions, a matrix has 2"),
    (np.ones((0, 4), np.int8), "a has shape (0, 4), each size must be at least 1"),
    (np.ones((3, 5), np.int8), "K = 5 columns of a differ from the 4 rows of b"),
    (np.array([None]), "a = 'a.npy' is not a .npy file of int8, uint8 or float32"),
])
def test_operand_files(mistake, tmp_path, value, message):
    np.save(tmp_path / "a.npy", value)
    np.save(tmp_path / "b.npy", GOOD.T)
    assert mistake("gemm", "--a", "a.npy", "--b", "b.npy", "--out", "c.npy") == message


@pytest.mark.parametrize("content", [b"", b"hello", b"\x93NUMPY\x01\x00v\x00{'descr'"])
def test_not_an_array(mistake, tmp_path, content):
    (tmp_path / "a.npy").write_bytes(content)
    np.save(tmp_path / "b.npy", GOOD.T)
    assert mistake("gemm", "--a", "a.npy", "--b", "b.npy").startswith("a = 'a.npy' ")


def test_cut_array_and_archive(mistake, tmp_path):
    np.save(tmp_path / "whole.npy", GOOD)
    np.save(tmp_path / "b.npy", GOOD.T)
    (tmp_path / "a.npy").write_bytes((tmp_path / "whole.npy").read_bytes()[:-3])
    assert mistake("gemm", "--a", "a.npy", "--b", "b.npy").startswith("a = 'a.npy' ")
    np.savez(tmp_path / "c.npz", GOOD)
    assert mistake("gemm", "--a", "c.npz", "--b", "b.npy") == "a = 'c.npz' is an archive, not a .npy file of int8, uint8 or float32"


@pytest.mark.parametrize("name", PRESETS)
def test_config_show(capsys, tmp_path, name):
    assert main(["config", "show", name]) == 0
    text = capsys.readouterr().out
    (tmp_path / "copy.toml").write_text(text)
    assert main(["config", "check", str(tmp_path / "copy.toml")]) == 0
    assert f"{PRESETS[name].pes} PEs" in capsys.readouterr().out
    assert main(["config", "show", "--config", name, "--organisation", "4G1F"]) == 0
    assert "groups = 4" in capsys.readouterr().out


def test_config_list(capsys):
    assert main(["config", "list"]) == 0
    assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines()] == list(PRESETS)


def test_asm_and_disasm(capsys, tmp_path):
    program = [isa.Instruction("LdScale", group=0, slice=2, address=7), isa.Instruction("End")]
    code = b"".join(item.encode() for item in program)
    (tmp_path / "in.bin").write_bytes(code)
    assert main(["disasm", str(tmp_path / "in.bin")]) == 0
    (tmp_path / "text.s").write_text("# a comment\n" + capsys.readouterr().out)
    assert main(["asm", str(tmp_path / "text.s"), "-o", str(tmp_path / "out.bin")]) == 0
    assert (tmp_path / "out.bin").read_bytes() == code


def test_bad_programs(mistake, tmp_path):
    code = bytearray(isa.Instruction("End").encode() * 2)
    (tmp_path / "cut.bin").write_bytes(code[:50])
    assert mistake("disasm", "cut.bin") == "program = 'cut.bin' has 50 bytes, not a multiple of 32 (at least one instruction)"
    assert mistake("run", "cut.bin") == "program = 'cut.bin' has 50 bytes, not a multiple of 32 (at least one instruction)"
    code[32] = 0x01
    (tmp_path / "bad.bin").write_bytes(code)
    assert mistake("disasm", "bad.bin") == "bad.bin: instruction 1: version = 0 is not 1"
    (tmp_path / "bad.s").write_text("End\nEnd nothing=1\n")
    assert mistake("asm", "bad.s", "-o", "out.bin").startswith("bad.s: line 2: End.nothing is not a field")
    (tmp_path / "bytes.s").write_bytes(b"\xff\xfe")
    assert mistake("asm", "bytes.s", "-o", "out.bin") == "source = 'bytes.s' is not text"


def test_interrupt(capsys, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("sw.cli.config.summary", interrupted)
    assert main(["config", "check"]) == 130
    assert capsys.readouterr().err == "flexwave: interrupted\n"


def test_doctor(capsys, monkeypatch):
    assert main(["doctor"]) == 0
    assert "cocotb" in capsys.readouterr().out
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert main(["doctor"]) == 2
    assert "MISSING g++" in capsys.readouterr().out


KEYS = ["m", "n", "k", "config", "organisation", "dtype", "engine", "exact", "cycles", "model_cycles", "array_cycles", "macs",
        "utilization", "waves", "traffic", "energy_pj", "stalls"]


@pytest.mark.parametrize("engine", ["golden", "model"])
def test_gemm_report(capsys, tmp_path, engine):
    a = np.random.default_rng(1).integers(-128, 128, (5, 7), np.int8)
    b = np.random.default_rng(2).integers(0, 256, (7, 3), np.uint8)
    for name, value in (("a", a), ("b", b)):
        np.save(tmp_path / f"{name}.npy", value)
    names = {"a": "a.npy", "b": "b.npy", "out": "c.npy", "json": "r.json"}
    files = [word for option, name in names.items() for word in (f"--{option}", str(tmp_path / name))]
    assert main(["gemm", *files, "--config", "tiny", "--engine", engine]) == 0
    out, err = capsys.readouterr()
    assert "equal to the golden model" in out and err == ""
    result = np.load(tmp_path / "c.npy")
    assert result.dtype == np.int32 and (result == a.astype(np.int64) @ b.astype(np.int64)).all()
    report = json.loads((tmp_path / "r.json").read_text())
    assert list(report) == KEYS
    assert (report["m"], report["n"], report["k"], report["macs"]) == (5, 3, 7, 105)
    assert report["dtype"] == "int8 x uint8" and report["organisation"] == "1G1F" and report["exact"] is True
    assert report["cycles"] == (None if engine == "golden" else report["model_cycles"])
    assert list(report["waves"]) == ["FW", "VSW", "HSW", "ISW"] and sum(report["waves"].values()) > 0
    assert list(report["traffic"]) == ["dram_read_bytes", "dram_write_bytes", "gbuf_to_lbuf_moving_bytes", "gbuf_to_lbuf_stationary_bytes",
                                       "gbuf_store_bytes"]
    assert sum(report["stalls"].values()) == report["model_cycles"] and report["energy_pj"] > 0
    assert report["utilization"] == pytest.approx(105 / (16 * report["model_cycles"]))


def test_gemm_json_to_standard_output(capsys):
    assert main(["gemm", "3", "4", "5", "--config", "tiny", "--engine", "golden", "--json", "-", "--seed", "9"]) == 0
    assert json.loads(capsys.readouterr().out)["engine"] == "golden"


def test_mismatch_is_reported(capsys, monkeypatch):
    """A wrong value and a cycle too many: exit code 1, and what differs."""
    from sw.model import functional
    from sw.runtime.engines import Run

    real = functional.run
    monkeypatch.setattr(functional, "run", lambda *args: real(*args) ^ 1)
    assert main(["gemm", "2", "2", "2", "--config", "tiny", "--engine", "model"]) == 1
    assert capsys.readouterr().err == "flexwave: result differs from the golden model in 4 of 4 values\n"
    monkeypatch.setattr(functional, "run", real)
    whole = Run.__init__

    def late(self, result, counters, prediction):
        whole(self, result, counters | {"cycles": counters["cycles"] + 1}, prediction)

    monkeypatch.setattr(Run, "__init__", late)
    assert main(["gemm", "2", "2", "2", "--config", "tiny", "--engine", "model"]) == 1
    assert re.fullmatch(r"flexwave: cycles = \d+ differs from the predicted \d+\n", capsys.readouterr().err)

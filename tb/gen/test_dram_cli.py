"""`flexwave dram` and `flexwave reproduce nda`: one line for a mistake, the JSON and CSV contracts, and killed runs that leave nothing."""

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from gen import dram
from sw.cli.main import main
from sw.dram import commands, study

KEYS = ("part channels ranks host nda policy engine cycles requests host_bandwidth_fraction host_latency_mean host_latency_p99 "
        "nda_bandwidth_fraction row_hit_rate turnarounds violations data_errors replica_mismatches host_slowdown").split()
MODEL = ("dram", "--engine", "model")
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def mistake(capsys, tmp_path, monkeypatch):
    """Runs a command that must fail: returns its one line; nothing may have been written or run."""
    monkeypatch.chdir(tmp_path)

    def run(*argv: str) -> str:
        before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
        with monkeypatch.context() as patch:
            for name in ("sw.model.dram.run", "gen.simulate_dram.DramSimulator.run"):
                patch.setattr(name, lambda *_, **__: pytest.fail("something was run"))
            assert main(argv) == 2
        out, err = capsys.readouterr()
        assert out == "" and err.startswith("flexwave: ") and err.count("\n") == 1, err
        assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
        return err.removeprefix("flexwave: ").rstrip("\n")

    return run


@pytest.mark.parametrize("argv, message", [
    (["--part", "ddr5", "--host", "mix0"], "part = 'ddr5' is none of ddr4-2400r, "),
    (["--channels", "3", "--host", "mix0"], "channels = 3 is outside 1, 2, 4"),
    (["--channels", "5", "--host", "mix0"], "channels = 5 is outside 1..4"),
    (["--ranks", "0", "--host", "mix0"], "ranks = 0 is outside 1..4"),
    (["--ranks", "2", "--host", "mix0", "--part", "sdr-ulx3s"], "ranks = 2 is outside 1 (SDR part)"),
    (["--host", "mix9"], "traffic = 'mix9' is none of sequential, random, mix0, "),
    (["--host", "mix9", "--requests", "0", "--nda", "dot"], "traffic = 'mix9' is none of sequential, random, mix0, "),
    ([], "the following arguments are required: --host"),
    (["--host", "trace:none.csv"], "none.csv: No such file or directory"),
    (["--host", "mix0", "--nda", "axpyy"], "argument --nda: invalid choice: 'axpyy'"),
    (["--host", "mix0", "--nda", "dot", "--policy", "never"], "argument --policy: invalid choice: 'never'"),
    (["--host", "mix0", "--nda", "dot", "--part", "sdr-ulx3s"], "nda = 'dot': is42s16160g-7 with reserved = 0 has no near-data unit"),
    (["--host", "mix0", "--nda", "dot", "--reserved", "0"], "nda = 'dot': ddr4-2400r with reserved = 0 has no near-data unit"),
    (["--host", "mix0", "--nda", "axpy", "--blocks", "900000"], "blocks = 900000: operands need 28160 frames, the shared region has 8192"),
    (["--host", "mix0", "--nda", "gather", "--blocks", "129"], "blocks = 129 is outside 1..128 (GATHER)"),
    (["--host", "mix0", "--blocks", "-1"], "blocks = -1 is outside 0.."),
    (["--host", "mix0", "--reserved", "3"], "reserved = 3 is outside 0, 1, 2, 4, 8 banks"),
    (["--host", "mix0", "--requests", "0"], "requests = 0 is outside 1.. without a near-data operation (nda)"),
    (["--host", "mix0", "--requests", "many"], "requests = 'many' is not an integer in 0.."),
    (["--host", "random", "--writes", "1.5"], "writes = 1.5 is outside 0..1"),
    (["--host", "random", "--writes", "nan"], "writes = nan is outside 0..1"),
    (["--host", "random", "--seed", "-1"], "seed = -1 is outside 0.."),
    (["--host", "mix0", "--engine", "fpga"], "argument --engine: invalid choice: 'fpga'"),
    (["--host", "mix0", "--json", "no/such/file"], "json = 'no/such/file': the folder 'no/such' does not exist"),
    (["--host", "mix0", "--commands", "."], "commands = '.' is a folder, not a file"),
    (["--host", "mix0", "--commands", "a", "--json", "a"], "commands = 'a' is the file of json too"),
])
def test_mistakes(mistake, argv, message):
    for engine in (["--engine", "model"], []):
        assert mistake("dram", *([] if "--engine" in argv else engine), *argv).startswith(message)


@pytest.mark.parametrize("text, message", [
    ("5,R,100\n5,R\n", "t.csv line 2: '5,R' is not gap,R|W,hex byte address"),
    ("# first\n\n0,R,100\n", "t.csv line 3: gap = '0' is outside 1..4294967295 cycles"),
    ("1,X,100\n", "t.csv line 1: 'X' is neither R nor W"),
    ("1,R,12g\n", "t.csv line 1: address = '12g' is not a hex number"),
    ("1,R,0\n1,W,200000000\n", "t.csv line 2: address = 0x200000000 is outside 0..0x1ffffffff"),
    ("1,W,-40\n", "t.csv line 1: address = -0x40 is outside 0.."),
    ("# nothing\n", "host = 'trace:t.csv' has no requests"),
    ("\xff\n".encode("latin1"), "t.csv: not a text file"),
])
def test_malformed_traces(mistake, tmp_path, text, message):
    (tmp_path / "t.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    assert mistake(*MODEL, "--host", "trace:t.csv").startswith(message)


@pytest.mark.parametrize("changes, message", [
    ({"tRC": dram.Minimum(40)}, "tRC = 40 is outside 55 cycles or more (tRAS + tRP)"),
    ({"tRAS": dram.Minimum(10)}, "tRAS = 10 is outside 16 cycles or more (tRCD)"),
    ({"tCCD_L": dram.Minimum(3)}, "tCCD_L = 3 is outside 4 cycles or more (tCCD_S)"),
    ({"tREFI": dram.Minimum(0, 1000.0)}, "tREFI = 1200 is outside 1680 cycles or more (4 tRFC)"),
    ({"tRPP": dram.Minimum(1)}, "tRPP is not a parameter, did you mean 'tRP'?"),
    ({"tWR": dram.Minimum(-1)}, "tWR = "),
])
def test_inconsistent_part(mistake, monkeypatch, changes, message):
    """A part is data: what is wrong in it is said before anything runs."""
    good = dram.part("ddr4-2400r")
    with pytest.raises(dram.DramError, match=rf"part ddr4-2400r.*: {re.escape(message)}"):
        dataclasses.replace(good, timings={**good.timings, **changes})
    monkeypatch.setattr(dram, "part", lambda name: dataclasses.replace(good, timings={**good.timings, **changes}))
    assert re.match(rf"part ddr4-2400r.*: {re.escape(message)}", mistake(*MODEL, "--host", "mix0"))


def test_report_and_commands(capsys, tmp_path, monkeypatch):
    """JSON and CSV hold the contracts and each other; the text is for people; the same again gives the same bytes."""
    monkeypatch.chdir(tmp_path)
    argv = [*MODEL, "--host", "mix2", "--nda", "axpy", "--policy", "next-rank", "--requests", "900", "--ranks", "2", "--channels", "2",
            "--blocks", "256", "--seed", "5"]
    assert main([*argv, "--json", "r.json", "--commands", "c.csv"]) == 0
    out, err = capsys.readouterr()
    assert "host slowdown" in out and "no timing violation" in out and err == ""
    report = json.loads((tmp_path / "r.json").read_text())
    assert list(report)[:len(KEYS)] == KEYS
    assert {name: report[name] for name in KEYS[:7]} == {
        "part": "ddr4-2400r", "channels": 2, "ranks": 2, "host": "mix2", "nda": "axpy", "policy": "next-rank", "engine": "model"}
    assert report["requests"] == 900 and report["violations"] == 0
    assert report["data_errors"] is None and report["replica_mismatches"] is None    # the model has neither
    assert report["host_slowdown"] > 0.9 and 0 < report["host_bandwidth_fraction"] < 1 and 0 < report["nda_bandwidth_fraction"] < 1
    assert 0 < report["row_hit_rate"] < 1 and report["host_latency_p99"] >= report["host_latency_mean"] > 16
    header = (tmp_path / "c.csv").read_text().split("\n", 1)[0]
    assert header == "cycle,channel,rank,bank_group,bank,command,row,column,source"
    trace = commands.read(tmp_path / "c.csv")
    assert len(trace) == report["commands"] and set(np.unique(trace.channel)) == {0, 1} and set(np.unique(trace.rank)) == {0, 1}
    host = trace.source == commands.HOST
    moves, window = np.isin(trace.command, (commands.RD, commands.WR)), trace.cycle < report["cycles"]
    assert moves[host].sum() >= 900
    assert np.isclose(report["nda_bandwidth_fraction"], (moves & window & ~host).sum() * 4 / (4 * report["cycles"]))
    assert np.isclose(report["host_bandwidth_fraction"], (moves & window & host).sum() * 4 / (2 * report["cycles"]))
    first = (tmp_path / "r.json").read_bytes(), (tmp_path / "c.csv").read_bytes()
    assert main([*argv, "--json", "r.json", "--commands", "c.csv"]) == 0
    assert first == ((tmp_path / "r.json").read_bytes(), (tmp_path / "c.csv").read_bytes())
    assert sorted(os.listdir(tmp_path)) == ["c.csv", "r.json"]
    capsys.readouterr()
    assert main([*argv, "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out) == report


@pytest.mark.parametrize("argv, changes", [
    (["--host", "sequential", "--writes", "0.5"], {"nda": "none", "nda_bandwidth_fraction": 0.0, "host_slowdown": 1.0}),
    (["--host", "mix0", "--requests", "0", "--nda", "dot"], {"nda": "dot", "requests": 0, "host_slowdown": None}),
    (["--part", "sdr-ulx3s", "--host", "random"], {"part": "is42s16160g-7", "channels": 1}),
    (["--host", "mix8", "--nda", "copy", "--policy", "stochastic-16", "--interface", "packet"], {"policy": "stochastic-16"}),
    (["--host", "trace:t.csv", "--requests", "9999"], {"requests": 3, "host": "trace:t.csv"}),
])
def test_other_reports(capsys, tmp_path, monkeypatch, argv, changes):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.csv").write_text("1,R,0\n# comment\n5,W,1000\n7, R, 40\n")
    assert main([*MODEL, *(() if "--requests" in argv else ("--requests", "400")), *argv, "--json", "-"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert list(report)[:len(KEYS)] == KEYS and {name: report[name] for name in changes} == changes and report["violations"] == 0


def test_a_failed_check_is_told(capsys, monkeypatch):
    """A violation: exit code 1, a line on standard error."""
    from sw.dram.checker import Violation

    monkeypatch.setattr("sw.dram.metrics.violations", lambda *_: [Violation("tRP", 5, 0, 0, 0, 0, "too early")])
    assert main([*MODEL, "--host", "mix0", "--requests", "100", "--json", "-"]) == 1
    out, err = capsys.readouterr()
    assert json.loads(out)["violations"] == 1 and re.fullmatch(r"flexwave: violations = 1, first: .*too early.*\n", err)


# The policy study


def test_reproduce(capsys, tmp_path):
    assert main(["reproduce", "nda", "--requests", "300", "--mixes", "mix8", "--operations", "dot", "--out", str(tmp_path)]) == 0
    assert sorted(os.listdir(tmp_path)) == ["nda.svg", "points.json", "table.md"]
    table = (tmp_path / "table.md").read_text()
    assert capsys.readouterr().out.startswith(table) and "| mix8 |" in table and "| dot |" in table
    points = json.loads((tmp_path / "points.json").read_text())["points"]
    assert [point["policy"] for point in points] == list(study.scenario.POLICIES)
    assert all(point["mix"] == "mix8" and point["operation"] == "dot" and point["violations"] == 0 for point in points)
    assert (tmp_path / "nda.svg").read_text().startswith("<?xml")


@pytest.mark.parametrize("argv, message", [
    (["--requests", "99"], "requests = 99 is outside 100.."),
    (["--mixes", "mix0,mix9"], "mixes = 'mix9' is none of mix0, "),
    (["--operations", "dot,"], "operations = '' is none of copy, "),
    (["--seeds", "0"], "seeds = 0 is outside 1..100"),
    (["--out", "file"], "out = 'file' is a file, not a folder"),
])
def test_mistakes_of_reproduce(mistake, tmp_path, argv, message):
    (tmp_path / "file").write_text("")
    assert mistake("reproduce", "nda", *argv).startswith(message)


# Runs that are killed

# `flexwave` with a build folder of its own, which says in a file when the model begins.
FLEXWAVE = """
import sys
from pathlib import Path

from gen import simulate, simulate_dram
from sw.cli.main import main
from sw.model import dram
simulate.BUILD = simulate_dram.BUILD = Path(sys.argv[1])
cycles = dram.cycles
def begin(*arguments):
    Path(sys.argv[1], "begun").touch()
    return cycles(*arguments)
dram.cycles = begin
sys.exit(main(sys.argv[2:]))
"""


def start(build: Path, folder: Path, *argv: str) -> subprocess.Popen:
    """The command in a session of its own, as a terminal's foreground job."""
    build.mkdir(exist_ok=True)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, "-c", FLEXWAVE, str(build), *argv], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            text=True, start_new_session=True, env=environment)


def stop(process: subprocess.Popen, begun, number: int) -> tuple[int, str, str]:
    """Waits until something has begun, then signals the whole job. Returns exit code, output and errors."""
    end = time.monotonic() + 120
    while not begun():
        assert process.poll() is None and time.monotonic() < end, process.communicate()
        time.sleep(0.02)
    time.sleep(0.3)
    os.killpg(process.pid, number)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


INTERRUPTED = (130, "", "flexwave: interrupted\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_killed_model(tmp_path, number):
    build, folder = tmp_path / "build", tmp_path / "work"
    folder.mkdir()
    process = start(build, folder, *MODEL, "--host", "mix0", "--nda", "axpy", "--requests", "5000000", "--json", "r.json", "--commands",
                    "c.csv")
    ended = stop(process, (build / "begun").exists, number)
    assert ended == (INTERRUPTED if number == signal.SIGINT else (-9, "", ""))
    assert os.listdir(folder) == []


def test_killed_rtl(tmp_path):
    """In the middle of the build, and of runs; afterwards a run builds what is missing and gives the model's report."""
    build, folder = tmp_path / "build", tmp_path / "work"
    folder.mkdir()
    files = ("--json", "r.json", "--commands", "c.csv")
    argv = ("dram", "--part", "sdr-ulx3s", "--host", "random", "--seed", "3")

    def compiling() -> bool:
        return bool(list(build.glob("sim/.*/flexwave.v")))

    def running() -> bool:
        return bool(list(build.glob("run/*/0.commands")))

    for number in (signal.SIGINT, signal.SIGKILL):
        ended = stop(start(build, folder, *argv, "--requests", "100", *files), compiling, number)
        assert ended == (INTERRUPTED if number == signal.SIGINT else (-9, "", ""))
        assert os.listdir(folder) == [] and not list(build.glob("sim/*/bench"))
        assert number == signal.SIGKILL or not compiling()
    for number in (signal.SIGINT, signal.SIGKILL):
        for left in build.glob("run/*/0.commands"):
            left.unlink()
        ended = stop(start(build, folder, *argv, "--requests", "2000000", *files), running, number)
        assert ended == (INTERRUPTED if number == signal.SIGINT else (-9, "", ""))
        assert os.listdir(folder) == []
    reports = []
    for engine in ("rtl", "model"):
        process = start(build, folder, *argv, "--requests", "300", "--engine", engine, *files)
        _, err = process.communicate(timeout=300)
        assert (process.returncode, err) == (0, "") and sorted(os.listdir(folder)) == ["c.csv", "r.json"], err
        report = json.loads((folder / "r.json").read_text())
        nothing = 0 if engine == "rtl" else None    # the model has neither data nor replicas
        assert report.pop("engine") == engine and report.pop("data_errors") == nothing and report.pop("replica_mismatches") == nothing
        reports.append((report, (folder / "c.csv").read_bytes()))
    assert reports[0] == reports[1]


def test_interrupted_reproduce(tmp_path):
    """Every processor at work stops, and no table is there."""
    process = start(tmp_path / "build", tmp_path, "reproduce", "nda", "--requests", "400000", "--mixes", "mix0,mix1", "--out", "out")

    def working() -> bool:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        used = [int(Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[11]) for child in children]
        return sum(ticks >= 150 for ticks in used) >= min(2, os.cpu_count() or 1)     # past their start: 1.5 s of a processor

    begun = time.monotonic()
    assert stop(process, working, signal.SIGINT) == INTERRUPTED
    assert time.monotonic() - begun < 60 and os.listdir(tmp_path / "out") == []

"""Programs on a board: results and counters, what a board is and is not, resets, and a real (pseudo-)terminal."""

import random
import time

import numpy as np
import pytest

from gen.config import Config
from gen.isa import Instruction
from gen.link import RECEIVE_BYTES, Identity
from gen.presets import PRESETS
from sw.compiler.lower import compile_gemm
from sw.golden.gemm import gemm as golden
from sw.model import predict
from sw.runtime import engines
from sw.runtime.board import Board, exact_cycles
from sw.runtime.errors import MachineError, UserError
from sw.runtime.gemm import gemm, random_operands
from tb.link.device import Device
from tb.link.line import Line
from tb.link.machine import ToyMachine

TINY, SMALL = PRESETS["tiny"], PRESETS["small"]


@pytest.fixture(autouse=True)
def same_numbers():
    """Sessions begin with the same numbers in every run."""
    random.seed(1)


def board_on(line: Line) -> Board:
    """A board behind a line, without a serial port."""
    return Board(line)  # type: ignore[arg-type]


# Programs

@pytest.mark.parametrize("config", [TINY, SMALL, TINY.organise("4G1F")], ids=lambda config: f"{config.name}-{config.organisation}")
def test_gemm(monkeypatch, config):
    line = Line(ToyMachine(config)).use(monkeypatch)
    a, b = random_operands(9, 10, 11, 5)
    board, told = board_on(line), []
    report = gemm(config, a, b, engine="board", board=board, a_zero_point=3, progress=told.append)
    assert report.exact and np.array_equal(report.result, golden(a, b, a_zero_point=3)) and report.mismatches == ()
    assert report.cycles == report.model_cycles and report.to_dict()["cycles"] == report.cycles
    assert (report.to_dict()["board"], report.to_dict()["clock_mhz"], report.to_dict()["exact_cycles"]) == ("toy", 50.0, True)
    assert "engine board (toy, 50 MHz)" in report.to_text() and f", predicted {report.cycles:,}" in report.to_text()
    again = gemm(config, b.T.copy(), a.T.copy(), engine="board", board=board)
    assert again.exact and line.machine.starts == 2 and any(text.startswith("running") for text in told)


def test_counters_that_differ(monkeypatch):
    """On memory on chip every counter must be the predicted one; on a DRAM those that do not depend on time."""
    a, b = random_operands(6, 6, 6, 1)
    slow = Line(ToyMachine(TINY, stretch=3)).use(monkeypatch)
    report = gemm(TINY, a, b, engine="board", board=board_on(slow))
    assert report.exact and any(text.startswith("cycles = ") for text in report.mismatches)

    slow = Line(ToyMachine(TINY, stretch=3, memory_bytes=1 << 20)).use(monkeypatch)
    report = gemm(TINY, a, b, engine="board", board=board_on(slow))
    assert report.exact and report.mismatches == () and report.to_dict()["memory_ratio"] == 3.0
    assert "with the board's DRAM" in report.to_text() and "ratio 3.000" in report.to_text()

    real = predict.__globals__["Machine"].run

    def more_waves(self):
        prediction = real(self)
        prediction.counters["g0_waves_fw"] += 1
        return prediction

    monkeypatch.setattr(predict.__globals__["Machine"], "run", more_waves)
    monkeypatch.setattr("tb.link.machine.predict", lambda config, instructions, program: _without(predict, config, instructions, program))
    report = gemm(TINY, a, b, engine="board", board=board_on(Line(ToyMachine(TINY, memory_bytes=1 << 20)).use(monkeypatch)))
    assert [text.split(" = ")[0] for text in report.mismatches] == ["g0_waves_fw"]


def _without(predict, config, instructions, program):
    """The prediction less the wave that the test adds."""
    prediction = predict(config, instructions, program=program)
    prediction.counters["g0_waves_fw"] -= 1
    return prediction


def test_wrong_result_is_noticed(monkeypatch):
    """A board that computes something else is not called exact."""
    a, b = random_operands(6, 6, 6, 1)
    real = __import__("sw.model.functional", fromlist=["run"]).run
    monkeypatch.setattr("tb.link.machine.functional.run", lambda *args: real(*args) ^ np.uint8(1))
    report = gemm(TINY, a, b, engine="board", board=board_on(Line(ToyMachine(TINY)).use(monkeypatch)))
    assert not report.exact and report.mismatches[0].startswith("result differs from the golden model in ")


def test_stops(monkeypatch):
    """Cause and index, in the words of the RTL simulation."""
    line = Line(ToyMachine(TINY)).use(monkeypatch)
    code = np.frombuffer(Instruction("Barrier").encode() * 3, np.uint8)
    outcome = board_on(line).run(TINY, code, program=0, count=3, result=(0, 0), limit=1000)
    assert outcome.error == "the machine stopped at instruction 3: END" and outcome.registers["error_index"] == 3
    outcome = board_on(line).run(TINY, code, program=0, count=3, result=(0, 0), limit=99)
    assert outcome.error == "the program did not end within 99 cycles"


def test_never_done(monkeypatch):
    line = Line(ToyMachine(TINY, slow=10**9)).use(monkeypatch)
    start, code = line.clock.now, np.frombuffer(Instruction("End").encode(), np.uint8)
    outcome = board_on(line).run(TINY, code, program=0, count=1, result=(0, 0), limit=5000)
    assert outcome.error and outcome.error.startswith("the program did not end within 5000 cycles, nor within 11 seconds")
    with pytest.raises(MachineError, match="device = 'line' still runs an earlier program after 60 seconds: reset it"):
        board_on(line).run(TINY, code, program=0, count=1, result=(0, 0), limit=5000)
    assert 70 < line.clock.now - start < 75
    line.machine.looks = 3      # it comes to its end after all
    assert board_on(line).run(TINY, np.zeros(1000, np.uint8), program=0, count=1, result=(0, 0), limit=5000).error


def test_any_address(monkeypatch):
    board = board_on(Line(ToyMachine(SMALL)).use(monkeypatch))
    data = np.random.default_rng(4).integers(0, 256, 1003, np.uint8)
    board.write_memory(data)
    for address, size in ((0, 1003), (1, 1), (7, 9), (993, 10), (8, 0)):
        assert np.array_equal(board.read_memory(address, size), data[address:address + size])


@pytest.mark.parametrize("noise", [{}, {"drop": 0.01, "flip": 0.01}], ids=["clean", "bad"])
def test_reset_on_the_way(monkeypatch, noise):
    """Whenever a board is reset, its memory lost: an error or the right result, never a wrong one."""
    program = compile_gemm(TINY, 6, 6, 6)
    a, b = random_operands(6, 6, 6, 2)
    image, wanted, said = program.image(a=a, b=b), golden(a, b), set()
    for frames in range(3, 60):
        random.seed(frames)
        line = Line(ToyMachine(TINY, slow=1), seed=frames, reset_at=frames, **noise).use(monkeypatch)
        try:
            run, = engines.run(TINY, [program], [image], engine="board", board=board_on(line))
            assert np.array_equal(run.result, wanted) and run.mismatches == (), frames
            said.add("")
        except MachineError as error:
            said.add(str(error))
    print("seeds 3..59", said)
    assert "device = 'line' was reset while it was in use" in said
    assert said <= {"", "device = 'line' was reset while it was in use"}


# What it is

def test_exact_cycles_by_memory():
    identity = {"unit": 4, "clock_khz": 1, "config": "x", "board": "y"}
    assert exact_cycles(Identity(memory_bytes=1 << 17, **identity)) and not exact_cycles(Identity(memory_bytes=1 << 20, **identity))


def test_configuration(monkeypatch, tmp_path):
    board = board_on(Line(ToyMachine(TINY)).use(monkeypatch))
    assert board.configuration() is TINY and board.configuration(TINY) is TINY
    (tmp_path / "own.toml").write_text(TINY.to_toml().replace('"tiny"', '"own"'))
    assert board.configuration(Config.load(str(tmp_path / "own.toml"))).name == "own"
    with pytest.raises(UserError) as error:
        board.configuration(SMALL)
    assert str(error.value) == (f"config = small (1G1F, digest {SMALL.digest()}) is not the board's: tiny (digest {TINY.digest()})")
    with pytest.raises(UserError, match=r"^config = small "):
        gemm(SMALL, *random_operands(2, 2, 2, 0), engine="board", board=board)
    board = board_on(Line(ToyMachine(SMALL.organise("4G4C"))).use(monkeypatch))
    assert board.configuration(organisation="4G4C") == board.configuration(SMALL, "4G4C") == SMALL.organise("4G4C")
    with pytest.raises(UserError, match=r"is no preset, --config FILE is needed$"):
        board.configuration()


def test_room(monkeypatch):
    board = board_on(Line(ToyMachine(TINY, memory_bytes=1024)).use(monkeypatch))
    with pytest.raises(UserError, match=r"^device = 'line' has 1024 bytes of memory, program and operands take \d{4}$"):
        gemm(TINY, *random_operands(20, 20, 20, 0), engine="board", board=board)
    assert gemm(TINY, *random_operands(2, 2, 2, 0), engine="board", board=board).exact


@pytest.mark.parametrize("machine, message", [
    ({"protocol": 2}, "device = 'line' speaks protocol 2, not 1"),
    ({"version": 9}, r"device = 'line' has no machine of version 1 \(register identity 0x46574156, version 9\)"),
    ({"board": "\x01\x80"}, "device = 'line' says of itself what no FlexWave board says: "),
])
def test_other_boards(monkeypatch, machine, message):
    with pytest.raises(MachineError, match=message):
        board_on(Line(ToyMachine(TINY, **machine)).use(monkeypatch))


@pytest.mark.parametrize("noise, message", [({"drop": 1.0}, "does not answer"),
                                            ({"flip": 1.0}, "answers, but not as a FlexWave board (or not at this baud rate)")])
def test_no_board(monkeypatch, noise, message):
    line = Line(ToyMachine(TINY), **noise).use(monkeypatch)
    line.noise_in.drop = line.noise_in.flip = 0.0
    with pytest.raises(MachineError) as error:
        board_on(line)
    assert str(error.value) == f"device = 'line' {message}" and 5 <= line.clock.now - 1000 < 6


# On a pseudo-terminal

@pytest.mark.parametrize("seed, bad, delay", [(1, 0.0, 0.0), (2, 0.01, 0.0), (3, 0.01, 0.0), (4, 0.0, 0.03)])
def test_terminal(seed, bad, delay):
    a, b = random_operands(7, 8, 9, seed)
    start = time.monotonic()
    with Device(ToyMachine(TINY), seed=seed, delay=delay, drop=bad, flip=bad) as device:
        with Board.open(device.path) as board:
            report = gemm(board.configuration(), a, b, engine="board", board=board)
    assert np.array_equal(report.result, golden(a, b)) and not report.mismatches and device.machine.starts == 1
    print(f"seed {seed}: {device.frames} frames, {device.most} bytes at most in the buffer, {time.monotonic() - start:.1f} s")
    assert device.most <= RECEIVE_BYTES


def test_sessions():
    """One after the other; not two at once; and after one that broke off in the middle of a transfer."""
    with Device(ToyMachine(TINY, memory_bytes=1 << 17), delay=0.002) as device:
        with Board.open(device.path) as board:
            with pytest.raises(UserError, match=f"device = '{device.path}' is in use by another program"):
                Board.open(device.path)

            def interrupt(text):
                raise KeyboardInterrupt

            with pytest.raises(KeyboardInterrupt):
                board.write_memory(np.ones(1 << 17, np.uint8), interrupt)
            assert gemm(TINY, *random_operands(4, 4, 4, 0), engine="board", board=board).exact      # by a new HELLO
        with Board.open(device.path) as board:
            assert gemm(TINY, *random_operands(5, 4, 3, 0), engine="board", board=board).exact


def test_pulled_cable():
    with Device(ToyMachine(TINY, memory_bytes=1 << 16), pull_after=30) as device, Board.open(device.path) as board:
        with pytest.raises(MachineError, match=f"^device = '{device.path}' has gone$"):
            board.write_memory(np.ones(1 << 16, np.uint8))

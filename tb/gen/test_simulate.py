"""The simulation path, with a stand-in for the machine that copies memory: results, stalls, faults, limits, caching, many jobs."""

import numpy as np
import pytest

from gen.isa import Cause
from gen.presets import PRESETS
from gen.simulate import Job, SimulationError, Simulator, control_file, from_hex, to_hex
from tb.gen.standin import StandIn

CONFIG = PRESETS["tiny"]
BEAT = CONFIG.memory.bytes_per_cycle


@pytest.fixture(scope="module")
def simulator():
    return Simulator(CONFIG, factory=StandIn)


def image(seed: int, size: int = 4096) -> np.ndarray:
    """A random memory image."""
    return np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8)


@pytest.mark.parametrize("beat", [1, 4, 16, 256])
def test_hex(beat):
    data = image(beat, 3 * beat)
    assert (from_hex(to_hex(data, beat), beat) == data).all()
    assert to_hex(np.arange(beat, dtype=np.uint8), beat).split()[0].endswith("0" if beat == 1 else "0100")


def test_jobs(simulator):
    """One process, several jobs: the copy, its cycles, the same with stalls, an unaligned range, a job after one that was given up."""
    data = image(1)
    start, count = 64, 8
    behind = start + count * BEAT
    wanted = data[start:behind] + np.uint8(1)
    job = Job(data, start, count, (behind, count * BEAT))
    told = []
    outcomes = simulator.run([
        job,
        Job(data, start, count, (behind, count * BEAT), stalls=0.5, seed=7),
        Job(data, start, count, (behind, count * BEAT), stalls=0.5, seed=7),
        Job(data, start, count, (behind, count * BEAT), stalls=0.5, seed=8),
        Job(data, start, count, (behind + 3, 7)),
        Job(data, start, 500, limit=100),
        job,
        Job(data, start, count, (behind, count * BEAT), reset=False),
    ], told.append)
    plain, stalled, again, other, part, given_up, after, no_reset = outcomes
    for outcome in (plain, stalled, again, other, after, no_reset):
        assert outcome.error is None and outcome.cause is Cause.NONE
        assert (outcome.result == wanted).all()
    # Per beat: read accepted in t, answer in t + latency, one cycle to add, one to write, one back; one cycle to see that it is done.
    assert plain.registers["cycles"] == count * (CONFIG.memory.latency + 3) + 1
    assert plain.registers == after.registers == no_reset.registers
    assert stalled.registers["cycles"] > plain.registers["cycles"]
    assert stalled.registers == again.registers and stalled.registers["cycles"] != other.registers["cycles"]
    assert (part.result == wanted[3:10]).all()
    assert given_up.error == "the program did not end within 100 cycles"
    assert told[-1] == len(outcomes)


def test_stops(simulator):
    """A machine that stops with a cause, and one that writes outside its image."""
    data = image(2)
    stopped, outside = simulator.run([Job(data, 0, 0xBAD), Job(data, 4096 - 16, 8)])
    assert stopped.error == "the machine stopped at instruction 7: OPCODE" and (stopped.cause, stopped.index) == (Cause.OPCODE, 7)
    assert outside.error == f"a write to address {4096 - 16 + 8 * BEAT:#x} is outside the memory image of 4096 bytes"


def test_builds_are_kept(simulator, monkeypatch):
    """A second simulator of the same content builds nothing; another configuration would."""
    folder = simulator.build()
    again = Simulator(CONFIG, factory=StandIn)
    monkeypatch.setattr(again, "_compile", lambda *_: pytest.fail("it was built again"))
    assert again.build() == folder
    assert {path.name for path in folder.iterdir()} == {"bench", "bench.sv", "build.log", "control.vlt", "flexwave.v"}
    with pytest.raises(pytest.fail.Exception):
        again.build(1 << 25)


def test_a_failed_build_leaves_nothing(monkeypatch):
    simulator = Simulator(CONFIG, factory=StandIn)

    def broken(part, *_):
        (part / "bench").write_text("half")
        raise SimulationError("broken")

    monkeypatch.setattr(simulator, "_compile", broken)
    with pytest.raises(SimulationError):
        simulator.build(1 << 26)
    monkeypatch.setattr(simulator, "_compile", lambda part, *_: (part / "bench").write_text("whole"))
    assert (simulator.build(1 << 26) / "bench").read_text() == "whole"
    (simulator.build(1 << 26) / "bench").unlink()


def test_control_file(tmp_path):
    """Only the bench's own registers are public."""
    from gen.simulate import SIM

    text = control_file(SIM / "bench.sv", ("row",))
    public = [line.split('"')[-2] for line in text.splitlines() if line.startswith("public")]
    assert {"clk", "rst", "read_data", "finished", "limit"} <= set(public) and not {"memory", "queue", "done"} & set(public)
    assert 'no_inline -module "row"' in text


@pytest.mark.parametrize("change, message", [
    ({"image": np.zeros(4, np.int8)}, "image must be a non-empty row of uint8"),
    ({"stalls": 1.0}, "stalls = 1.0 is outside 0..0.9"),
    ({"result": (4000, 97)}, "outside the image of 4096 bytes"),
])
def test_refusals(change, message):
    with pytest.raises(ValueError, match=message):
        Job(**({"image": image(3), "program": 0, "count": 1} | change))

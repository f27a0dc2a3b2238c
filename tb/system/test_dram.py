"""The DRAM system's RTL against its model: every command, answer and cycle, for all traffics, operations and policies; and operands' data.

Every run draws new traffic. A seed is printed where a test fails; FLEXWAVE_SEED=N repeats it. The runs of a memory system share a
simulator process. What is compared is independent: the model, the timing checker's own reading of the datasheets, numpy's results.
"""

import os
import random
from typing import Any

import numpy as np
import pytest

from gen.dram import DramConfig, part
from gen.nda import POLICY_NAMES, Operation, Policy
from gen.simulate_dram import DramJob, DramRecording, DramSimulator
from gen.traffic import Core, Workload
from sw.dram import mapping, metrics, svrg, traffic
from sw.dram.blas import Nda
from sw.dram.engines import RtlEngine
from sw.dram.traffic import MIXES
from sw.golden.training import momentum_step
from sw.model import dram
from sw.train.nda_update import UNIT_BYTES, NearDataUpdate
from tb.sw.test_nda_golden import floats

DDR4 = part("ddr4-2400r")
LIMIT = 2_000_000
PAUSE = 4000      # cycles between the requests that want another row
HOST, NEAR = 0, 1
ACT, RD, WR = 1, 4, 5
SMALL: Any = {"read_entries": 8, "write_entries": 8, "drain_high": 6, "drain_low": 2}     # faster to build, and full more often
MAIN = DramConfig(part=DDR4, channels=1, ranks=2, reserved=2, patience=600)
OTHERS = {
    "one rank, four reserved banks": DramConfig(part=DDR4, channels=1, ranks=1, reserved=4, **SMALL),
    "two channels of two ranks": DramConfig(part=DDR4, channels=2, ranks=2, reserved=2, **SMALL),
    "packet interface": DramConfig(part=DDR4, channels=1, ranks=1, reserved=2, interface="packet", **SMALL),
    "SDR": DramConfig(part=part("sdr-ulx3s"), reserved=0, **SMALL),
}


@pytest.fixture
def rng() -> np.random.Generator:
    """A new seed each time, printed where the test fails."""
    seed = int(os.environ.get("FLEXWAVE_SEED") or random.SystemRandom().randrange(1 << 31))
    print(f"FLEXWAVE_SEED={seed}")
    return np.random.default_rng(seed)


def launches(config: DramConfig, rng, operation: Operation, policy: Policy, blocks: int = 0):
    """A launch on every unit, of a random length unless it is given."""
    return traffic.near_data(config, operation, blocks=blocks or int(rng.integers(1, 120)), policy=policy, seed=int(rng.integers(1 << 20)))


def crowded(config: DramConfig, rng, count: int) -> tuple[Core, ...]:
    """Three cores with reads and writes of few blocks anywhere, also in the near-data units' banks: requests for one block meet.

    The first writes each block before the others begin, so that every read has something to be compared with.
    """
    pool = rng.integers(0, config.blocks, 60)
    found = mapping.locate(config, pool)
    if config.reserved:       # not the launch registers
        pool = pool[(found.row != config.part.rows - 1) | (found.bank != config.part.all_banks - 1)]
    made = []
    for number in range(3):
        gaps, blocks, writes = rng.integers(1, 30, count), rng.choice(pool, count), rng.random(count) < 0.5
        gaps[0] = 3000
        if not number:
            ones = np.ones(len(pool), np.int64)
            gaps, blocks, writes = (np.concatenate(pair) for pair in ((ones, gaps), (pool, blocks), (ones > 0, writes)))
        made.append(Core(gaps.astype(np.uint32), blocks.astype(np.uint64), writes, int(rng.integers(1, 12))))
    return tuple(made)


def trace_file(config: DramConfig, rng, folder) -> str:
    """A trace's name as host traffic."""
    lines = [f"{gap},{'RW'[write]},{address:x}" for gap, write, address in zip(
        rng.integers(1, 200, 300), rng.integers(0, 2, 300), rng.integers(0, config.bytes - mapping.shared_blocks(config) *
                                                                          config.part.block_bytes, 300), strict=True)]
    (folder / "host.csv").write_text("# gap, kind, address\n" + "\n".join(lines) + "\n")
    return f"trace:{folder / 'host.csv'}"


def hosts(config: DramConfig, rng, requests: int, folder) -> dict[str, tuple[Core, ...]]:
    """Every host traffic, and a hostile one."""
    def seed() -> int:
        return int(rng.integers(1 << 30))

    made = {name: traffic.cores(config, name, requests=requests, seed=seed()) for name in MIXES}
    for name in ("sequential", "random"):
        made[name] = traffic.cores(config, name, requests=requests, seed=seed())
        made[f"{name} with writes"] = traffic.cores(config, name, requests=requests, seed=seed(), writes=0.5)
    made["trace"] = traffic.cores(config, trace_file(config, rng, folder), requests=1, seed=0)
    return made | {"crowded": crowded(config, rng, requests // 3)}


def check(config: DramConfig, works: dict[str, Workload]) -> dict[str, DramRecording]:
    """All runs in one process, each compared with the model and checked."""
    recordings = dict(zip(works, DramSimulator(config).run([DramJob(work, limit=LIMIT) for work in works.values()]), strict=True))
    for name, work in works.items():
        run, expected = recordings[name], dram.run(config, work)
        for field in ("commands", "reads"):
            mine, other = getattr(run, field), getattr(expected, field)
            if not np.array_equal(mine, other):
                at = next((i for i, (a, b) in enumerate(zip(mine, other)) if a != b), min(len(mine), len(other)))
                pytest.fail(f"{name}: {field} differ from number {at} on (of {len(mine)}, the model has {len(other)}):\n"
                            f"{mine[at:at + 3]}\n{other[at:at + 3]}")
        assert (run.cycles, run.core_done, run.host_done) == (expected.cycles, expected.core_done, expected.host_done), name
        assert (run.errors, run.data_errors, run.replica_mismatches, run.overruns) == ((), 0, 0, 0), name
        assert metrics.violations(config, run) == [], name
        host = run.commands["source"] == HOST
        moved = np.isin(run.commands["kind"], (RD, WR))
        assert (moved & host).sum() >= metrics.requests(work) and (~host).any() == bool(work.launches), name
    return recordings


def test_everything_on_one_channel_of_two_ranks(rng, tmp_path):
    """At least 10^5 commands: each traffic alone and beside every policy, each operation alone and beside mixes, two in turn."""
    traffics = hosts(MAIN, rng, 600, tmp_path)
    works = {name: Workload(cores) for name, cores in traffics.items()}
    operations = list(Operation)
    for number, (name, cores) in enumerate(traffics.items()):
        for policy in (Policy(number % 4), Policy((number + 1) % 4)):
            operation = operations[int(rng.integers(len(operations)))]
            works[f"{name}, {operation.name}, {policy.name}"] = Workload(cores, launches(MAIN, rng, operation, policy), 0)
    for operation in Operation:
        policy = Policy(int(rng.integers(4)))
        works[f"{operation.name} alone"] = Workload((), launches(MAIN, rng, operation, policy), 2)
        mix = f"mix{rng.integers(9)}"
        works[f"{operation.name} beside {mix}"] = Workload(traffics[mix], launches(MAIN, rng, operation, policy), 0)
    for name, policy in POLICY_NAMES.items():
        both = launches(MAIN, rng, Operation.COPY, policy, 500) + launches(MAIN, rng, Operation.DOT, policy, 128)
        works[f"long writes, {name}"] = Workload(traffics["mix1"], both, 0)
        works[f"long writes alone, {name}"] = Workload((), both, 2)
    recordings = check(MAIN, works)
    total = sum(len(run.commands) for run in recordings.values())
    print(f"{len(works)} runs, {total:,} commands, {sum(run.cycles for run in recordings.values()):,} cycles")
    assert total >= 10**5
    everything = np.concatenate([run.commands for run in recordings.values()])
    for source, kinds in ((HOST, {1, 2, 3, 4, 5, 6}), (NEAR, {1, 2, 4, 5})):
        for rank in range(MAIN.ranks):
            here = everything[(everything["source"] == source) & (everything["rank"] == rank)]
            assert set(here["kind"].tolist()) == kinds


@pytest.mark.parametrize("name", OTHERS)
def test_other_systems(rng, tmp_path, name):
    config = OTHERS[name]
    traffics = hosts(config, rng, 240, tmp_path)
    works = {host: Workload(cores) for host, cores in traffics.items()}
    if config.reserved:
        names = list(traffics)
        for number, operation in enumerate(Operation):
            policy, host = Policy(number % 4), names[int(rng.integers(len(names)))]
            works[f"{operation.name} alone"] = Workload((), launches(config, rng, operation, policy, blocks=70), 1)
            works[f"{operation.name} beside {host}, {policy.name}"] = Workload(
                traffics[host], launches(config, rng, operation, policy), 0)
    recordings = check(config, works)
    used = np.concatenate([run.commands for run in recordings.values()])
    assert len(np.unique(used[["channel", "rank"]])) == config.channels * config.ranks
    print(f"{len(works)} runs, {len(used):,} commands")


def bound(config: DramConfig, ahead: int) -> int:
    """Cycles within which a request is served while others hit open rows, with `ahead` older requests in its queue.

    Those before it leave as hits. It waits `patience` cycles at the head of the queue; then nothing else is scheduled: its bank's row is
    closed (tRAS, tRTP, tWR over) and its own opened, once more after a refresh that falls due in between, and its data moves. Each of the
    seven commands may find its rank taken by the near-data unit or another command for two cycles; four cycles pass on the way in.
    """
    g, t = config.gaps, config.timing
    close = max(g.ras, g.rtp, g.wr) + g.rp
    return ahead * g.ccd_l + config.patience + (close + g.rfc) + close + g.rcd + g.wtr_l + t["tCL"] + config.part.burst_cycles + 7 * 2 + 4


def hostile(config: DramConfig, rng, *, writes: bool) -> tuple[Workload, list[tuple[int, ...]]]:
    """A core that hits one open row without end, and one that now and then wants another row of the same bank. And where those are."""
    bank, count, late = int(rng.integers(config.part.all_banks - 2)), 14_000 if writes else 7000, 6
    row, other = (int(rng.integers(1000)) * 2 + i for i in (0, 1))
    columns = rng.integers(0, config.part.row_blocks, count)
    hits = mapping.block_of(config, 0, 0, bank, row, columns).astype(np.uint64)
    places = [(bank, other, 3 * i) for i in range(late)]
    misses = np.array([int(mapping.block_of(config, 0, 0, *place)) for place in places], np.uint64)
    cores = (Core(np.ones(count, np.uint32), hits, np.full(count, writes), 20),
             Core(np.full(late, PAUSE, np.uint32), misses, np.full(late, writes), 1))
    return Workload(cores, launches(config, rng, Operation.COPY, Policy.NONE, 128), 0), places


def waiting_times(config: DramConfig, work: Workload, run, places) -> list[int]:
    """From the offer of each of the second core's requests to its answer, or to the end of a write's data."""
    if not work.cores[1].writes[0]:
        return (run.reads["answered"] - run.reads["offered"])[run.reads["core"] == 1].astype(int).tolist()
    bank, row, _ = places[0]
    times, opened, offered = [], -1, PAUSE
    for command in run.commands[(run.commands["rank"] == 0) & (run.commands["bank"] == bank)]:
        if command["kind"] == ACT:
            opened = int(command["row"])
        elif command["kind"] == WR and opened == row:
            times.append(int(command["cycle"]) + config.timing["tCWL"] + config.part.burst_cycles - offered)
            offered += PAUSE      # at the earliest, so the time is never too short
    return times


@pytest.mark.parametrize("writes", [False, True], ids=["reads", "writes"])
def test_patience(rng, writes):
    """A request for another row is served although hits never end; with patience without end it would starve (model)."""
    work, places = hostile(MAIN, rng, writes=writes)
    run = check(MAIN, {"hostile": work})["hostile"]
    times = waiting_times(MAIN, work, run, places)
    # A write waits for a place in the full queue before: two more hits are served.
    allowed = bound(MAIN, MAIN.write_entries + 2 if writes else 20)
    print(f"waiting times {times}, bound {allowed}")
    assert len(times) == len(places) and max(times) <= allowed
    patient = DramConfig(part=DDR4, channels=1, ranks=2, reserved=2, patience=20_000)
    starved = waiting_times(patient, work, dram.run(patient, work), places)
    assert max(starved) > allowed, starved


# Data


def test_operations_give_the_golden_results(rng):
    """In each call the engine compares every block of the operands with the golden model; here the values are compared with numpy."""
    engine = RtlEngine()
    nda = Nda(svrg.system(1, 1), engine, "stochastic-4", seed=3)
    size = int(rng.integers(300, 2500))
    whole = rng.integers(-2**31, 2**31, (2, size)).astype(np.int32)
    x, y = nda.array(whole[0]), nda.array(whole[1])
    with np.errstate(over="ignore"):
        expected = np.int32(-7) * whole[0] + whole[1]
    assert np.array_equal(nda.numpy(nda.axpy(-7, x, y)), expected)
    assert nda.last and nda.last.cycles
    values = rng.normal(size=(2, size)).astype(np.float32)
    x, y = nda.array(values[0]), nda.array(values[1])
    assert np.array_equal(nda.numpy(nda.axpby(0.5, x, -3.0, y)), np.float32(0.5) * values[0] + np.float32(-3.0) * values[1])
    assert np.isclose(nda.dot(x, y), float(values[0].astype(float) @ values[1]), rtol=1e-4, atol=1e-3)
    samples, scalars = rng.normal(size=(size, 5)).astype(np.float32), rng.normal(size=5).astype(np.float32)
    total = np.zeros(size, np.float32)
    for column, scalar in zip(samples.T, scalars, strict=True):
        total = scalar * column + total
    assert np.array_equal(nda.numpy(nda.gemv(nda.matrix(samples), scalars)), total)
    rows = rng.normal(size=(40, 100)).astype(np.float32)
    table, indices, row = nda.table(rows), rng.integers(0, 40, 150), rng.normal(size=100).astype(np.float32)
    assert np.allclose(nda.gather(table, indices), rows.astype(float)[indices].sum(0), atol=1e-3)
    nda.scatter_add(table, indices, row)
    for index in indices:
        rows[index] += row
    assert np.array_equal(nda.numpy(table), rows)


def test_svrg_in_rtl():
    """A full gradient on the Verilog: bits of the golden model's, commands of the cycle model's, and near the one in float64."""
    gradient, nda = svrg.short_piece("rtl")
    expected, model = svrg.short_piece("model")
    assert np.array_equal(gradient, expected)
    assert nda.last and nda.last.commands is not None and model.last and model.last.commands is not None
    assert nda.last.cycles == model.last.cycles and np.array_equal(nda.last.commands, model.last.commands)
    problem = svrg.digits(samples=64)
    weights = np.random.default_rng(0).normal(size=problem.samples.shape[1]) / 4
    exact = problem.samples.T.astype(float) @ problem.residuals(problem.margins(weights)) / 64 + problem.penalty * weights
    assert np.allclose(gradient, exact, atol=1e-5)


def test_momentum_step_in_rtl(rng):
    """Two updates of weights and velocities on the Verilog: bits of the golden rule, cycles and bytes of the model's."""
    rule = {"rate": 0.05, "momentum": 0.9, "decay": 5e-4}
    shapes = {"weight": (int(rng.integers(200, 1500)),), "bias": (5,), "matrix": (7, int(rng.integers(1, 40)))}

    def numbers() -> dict[str, np.ndarray]:
        return {name: floats(rng, *shape, special=0.1) for name, shape in shapes.items()}

    weights, velocities, gradients = numbers(), numbers(), [numbers(), numbers()]
    on_rtl, on_model = (NearDataUpdate(Nda(svrg.system(1, 1), engine, "stochastic-4", seed=5), weights, velocities)
                        for engine in ("rtl", "model"))
    for gradient in gradients:
        found, predicted = on_rtl.step(gradient, **rule), on_model.step(gradient, **rule)
        assert found == predicted and found.cycles and found.launches == 2
        assert (found.host_bytes, found.unit_bytes) == (2 * 64, UNIT_BYTES * on_rtl.padded)
        for name in shapes:
            weights[name], velocities[name] = momentum_step(weights[name], velocities[name], gradient[name], **rule)
            assert on_rtl.parameters[name].tobytes() == weights[name].tobytes(), name
            assert on_rtl.velocities[name].tobytes() == velocities[name].tobytes(), name
        print(f"{on_rtl.padded} elements, {found.cycles} cycles")

"""The DRAM system's model: against the timing checker, plain restatements of address map and sequencer, and its own traffic's promises."""

import itertools
import random
from dataclasses import replace as changed

import numpy as np
import pytest

from gen.dram import DramConfig, DramError, Part, part, replace
from gen.nda import STEPS, SUMS, Operand, Operation, Policy, pack
from gen.traffic import Core, Launch, Workload
from sw.dram import mapping, metrics, traffic
from sw.model import dram
from sw.model.dram import tables

ACT, PRE, PREA, RD, WR, REF = range(1, 7)
DDR4 = part("ddr4-2400r")
TINY = Part(name="tiny", family="ddr4", doc="few enough blocks to visit each", clock_khz=DDR4.clock_khz, bus_bytes=8, data_rate=2, burst=8,
            bank_groups=2, banks=2, rows=128, columns=64, timings=DDR4.timings)


def system(**fields) -> DramConfig:
    return DramConfig(**({"part": DDR4, "channels": 1, "ranks": 2, "reserved": 2} | fields))


def core(blocks, *, gaps=None, writes=None, window=8) -> Core:
    count = len(blocks)
    return Core(np.ones(count, np.uint32) if gaps is None else np.array(gaps, np.uint32), np.array(blocks, np.uint64),
                np.zeros(count, bool) if writes is None else np.array(writes, bool), window)


# Addresses


def place(config: DramConfig, block: int) -> tuple[int, ...]:
    """The contract's address map bit by bit, for one block."""
    bits = {name: [] for name in mapping.FIELDS}
    for name, width in config.layout:
        for _ in range(width):
            bits[name].append(block & 1)
            block >>= 1
    for name, masks in config.hash_masks.items():
        for i, mask in enumerate(masks):
            bits[name][i] ^= sum(bit for j, bit in enumerate(bits["row"]) if mask >> j & 1) % 2
    h, k = config.swapped_bits, config.reserved_bits
    if h and all(bits["bank"][k:]) != all(bits["row"][-h:]):
        bits["bank"][k:], bits["row"][-h:] = bits["row"][-h:], bits["bank"][k:]
    return tuple(sum(bit << i for i, bit in enumerate(bits[name])) for name in mapping.FIELDS)


@pytest.mark.parametrize("channels, ranks, reserved, hashed", [
    (1, 1, 0, True), (2, 2, 1, True), (2, 4, 2, True), (4, 2, 2, False), (1, 2, 2, True)])
def test_every_block_has_its_place(channels, ranks, reserved, hashed):
    config = system(part=TINY, channels=channels, ranks=ranks, reserved=reserved, hashed=hashed)
    blocks = np.arange(config.blocks)
    found = mapping.locate(config, blocks)
    rng = random.Random(1)
    for block in rng.sample(range(config.blocks), 500):
        assert tuple(int(value[block]) for value in found) == place(config, block)
    assert len(set(zip(*(value.tolist() for value in found)))) == config.blocks
    assert np.array_equal(mapping.block_of(config, *found), blocks)
    shared = found.bank >= TINY.all_banks - reserved
    assert np.array_equal(shared, blocks >= config.blocks - mapping.shared_blocks(config))


@pytest.mark.parametrize("channels, ranks, reserved", [(1, 2, 1), (2, 2, 2), (1, 4, 2)])
def test_local_order_is_ascending_address(channels, ranks, reserved):
    config = system(part=TINY, channels=channels, ranks=ranks, reserved=reserved)
    size, start = mapping.rank_frame_blocks(config), config.blocks - mapping.shared_blocks(config)
    for frame, channel, rank in itertools.product((0, 1, 5, config.frames - 1), range(channels), range(ranks)):
        blocks = start + frame * config.frame_blocks + np.arange(config.frame_blocks)
        found = mapping.locate(config, blocks)
        own = np.flatnonzero((found.channel == channel) & (found.rank == rank))
        flip = int(mapping.hashed(config, "bank", TINY.rows - config.frames + frame))
        bank, row, column = mapping.local_place(config, frame, np.arange(size), flip)
        assert len(own) == size
        assert [bank.tolist(), row.tolist(), column.tolist()] == [getattr(found, name)[own].tolist() for name in ("bank", "row", "column")]


def test_places_out_of_range():
    with pytest.raises(DramError, match=r"block = 4294967296 is outside 0\.\."):
        mapping.locate(system(), 1 << 32)
    with pytest.raises(DramError, match=r"bank = 16 is outside 0\.\.15"):
        mapping.block_of(system(), 0, 0, 16, 0, 0)
    with pytest.raises(DramError, match="reserved = 0"):
        mapping.launch_block(system(reserved=0), 0, 0)


# Runs


def busy_workload(config: DramConfig, seed: int, policy: Policy = Policy.NEXT_RANK, operation: Operation = Operation.AXPY) -> Workload:
    """Random reads and writes with few distinct blocks (so that reads and writes of one block meet), also in the shared region."""
    rng = np.random.default_rng(seed)
    pool = rng.integers(0, config.blocks, 150)
    found = mapping.locate(config, pool)
    pool = pool[(found.row != config.part.rows - 1) | (found.bank != config.part.all_banks - 1)]
    cores = tuple(core(rng.choice(pool, 500), gaps=rng.integers(1, 25, 500), writes=rng.random(500) < 0.4, window=6) for _ in range(3))
    launches = traffic.near_data(config, operation, blocks=100, policy=policy) if config.reserved else ()
    return Workload(cores, launches, 0)


def check_run(config: DramConfig, workload: Workload, recording):
    """Everything that must hold of any run."""
    assert metrics.violations(config, recording) == []
    reads = [(number, index) for number, item in enumerate(workload.cores) for index in np.flatnonzero(~item.writes)]
    answered = list(zip(recording.reads["core"].tolist(), recording.reads["index"].tolist()))
    assert sorted(answered) == reads, "every read is answered once"
    assert np.all(np.diff(recording.reads["answered"].astype(np.int64)) >= 0)
    least = config.timing["tCL"] + config.part.burst_cycles + 4
    assert np.all(recording.reads["answered"] >= recording.reads["offered"] + least)
    host = recording.commands[recording.commands["source"] == 0]
    blocks, writes = (np.concatenate([getattr(item, name) for item in workload.cores]) for name in ("blocks", "writes"))
    found = mapping.locate(config, blocks)
    rows, launches = {}, 0
    served: dict = {RD: [], WR: []}
    for item in host.tolist():
        _, channel, rank, bank, kind, _, _, column, row, _ = item
        if kind == ACT:
            rows[channel, rank, bank] = row
        elif kind in (RD, WR):
            at = (channel, rank, bank, rows_of(recording, item, rows), column)
            if at[2:4] == (config.part.all_banks - 1, config.part.rows - 1) and config.reserved:
                launches += 1
            else:
                served[kind].append(at)
    for kind, chosen in ((RD, ~writes), (WR, writes)):
        assert sorted(served[kind]) == sorted(zip(*(value[chosen].tolist() for value in found))), "the requests and nothing else"
    assert not config.reserved or not workload.launches or launches


def rows_of(recording, item, rows) -> int:
    """The row open at a host's command: the latest ACT of the bank by either side. Reserved banks are opened by both."""
    cycle, channel, rank, bank = item[:4]
    key = id(recording), channel, rank, bank
    if key not in ROWS:
        acts = recording.commands[(recording.commands["kind"] == ACT) & (recording.commands["channel"] == channel)
                                  & (recording.commands["rank"] == rank) & (recording.commands["bank"] == bank)]
        ROWS[key] = acts["cycle"].astype(np.int64), acts["row"], recording
    cycles, opened, _ = ROWS[key]
    return int(opened[np.searchsorted(cycles, cycle) - 1])


ROWS: dict = {}


@pytest.mark.parametrize("fields, policy", [
    ({}, Policy.NEXT_RANK), ({"ranks": 1, "reserved": 1}, Policy.NONE), ({"channels": 2, "reserved": 4}, Policy.STOCHASTIC_4),
    ({"ranks": 4, "read_entries": 5, "write_entries": 4, "drain_high": 4, "drain_low": 0, "patience": 60}, Policy.STOCHASTIC_16),
    ({"reserved": 0, "clock_khz": 800_000}, Policy.NONE), ({"part": part("is42s16160g-7"), "ranks": 1, "reserved": 0}, Policy.NONE),
    ({"interface": "packet", "channels": 2}, Policy.NEXT_RANK),
])
def test_random_runs_are_legal_and_complete(fields, policy):
    for seed in (1, 2):
        print(f"seed {seed}")
        config = system(**fields)
        workload = busy_workload(config, seed, policy)
        recording = dram.run(config, workload)
        check_run(config, workload, recording)
        again = dram.run(config, workload)
        assert np.array_equal(recording.commands, again.commands) and np.array_equal(recording.reads, again.reads)
        assert (recording.cycles, recording.core_done) == (again.cycles, again.core_done)
        assert recording.host_done == max(recording.core_done) <= recording.cycles


@pytest.mark.parametrize("gap, parameter", [
    ("rcd", "tRCD"), ("ras", "tRAS"), ("rp", "tRP"), ("rtp", "tRTP"), ("wr", "tWR"), ("ccd_s", "tCCD_S"), ("ccd_l", "tCCD_L"),
    ("rrd_s", "tRRD_S"),
    ("rrd_l", "tRRD_L"), ("faw", "tFAW"), ("wtr_s", "tWTR_S"), ("wtr_l", "tWTR_L"), ("rtw", "tRTW"), ("rfc", "tRFC"), ("rd_rd", "tRTRS"),
    ("rd_wr", "tRTRS"), ("wr_wr", "tRTRS"), ("refi", "tREFI"),
])
def test_a_shorter_gap_is_noticed(gap, parameter, monkeypatch):
    """The runs above visit every minimum: with one of the model's a little too short the checker names it."""
    config, plain = system(), tables.constants

    def shorter(*arguments):
        made = plain(*arguments)
        made[gap] = made[gap] * 12 if gap == "refi" else made[gap] - 1
        return made

    monkeypatch.setattr(tables, "constants", shorter)
    rng = np.random.default_rng(1)
    wide = traffic.cores(config, "random", requests=1500, seed=3, writes=0.4)[0]
    near = core(np.sort(rng.integers(0, 1 << 12, 600)), writes=rng.random(600) < 0.5)
    late = core(rng.integers(0, 1 << 20, 12), gaps=[12_000] * 12)
    found = []
    for cores in ((wide,), (near,), (late, late)):
        recording = dram.run(config, Workload(cores, traffic.near_data(config, Operation.COPY, blocks=300, policy=Policy.NONE)))
        found += metrics.violations(config, recording)
    assert parameter in {item.parameter for item in found}


def test_one_read_takes_what_the_contract_says():
    """Offered in 1; arriving 2, incoming 3, in the queue 4, ACT on the pins 5, RD tRCD later, response CL + burst behind it."""
    config = system()
    recording = dram.run(config, Workload((core([0]),)))
    assert [(item["cycle"], item["kind"]) for item in recording.commands] == [(5, ACT), (21, RD)]
    assert (recording.reads["offered"][0], recording.reads["answered"][0], recording.cycles) == (1, 41, 42)
    far = dram.run(replace(config, interface="packet"), Workload((core([0]),)))
    assert [item["cycle"] for item in far.commands] == [13, 29] and far.reads["answered"][0] == 57


def test_refreshes_come_without_requests():
    """Long pauses are skipped, refreshes are not: one a rank and interval."""
    config = system()
    recording = dram.run(config, Workload((core([0, 1], gaps=[5, 10 * config.gaps.refi + 17]),)))
    refreshes = recording.commands[recording.commands["kind"] == REF]
    assert [int((refreshes["rank"] == rank).sum()) for rank in (0, 1)] == [10, 10]
    assert metrics.violations(config, recording) == []


def expected(config: DramConfig, launch: dict, parameters: list[int]) -> list[tuple[int, int, int, int]]:
    """The column commands of a launch in order: kind, bank, row, column; from gen.nda's steps."""
    made, operation, blocks = [], Operation(launch["operation"]), launch["blocks"]
    steps = STEPS[operation]
    repeated = [step for step in steps if step.repeated]
    first = steps.index(repeated[0]) if repeated else len(steps)
    order = [(step, 0) for step in steps[:first]] + [(step, j) for j in range(launch["streams"]) for step in repeated] + [
        (step, 0) for step in steps[first + len(repeated):]]
    for start in range(0, blocks, 128):
        for step, stream in order:
            for block in range(min(128, blocks - start)):
                position, frame = start + block, launch["xyzw"[step.operand]]
                if operation in (Operation.GATHER, Operation.SCATTER) and step.operand == Operand.X:
                    position = parameters[stream] + block
                if operation == Operation.GEMV and step.operand == Operand.X:
                    frame += stream * launch["step"]
                bank, row, column = mapping.local_place(config, frame, position, launch["flip"])
                made.append((WR if step.write else RD, int(bank), int(row), int(column)))
    if operation in SUMS:
        bank, row, column = mapping.local_place(config, launch["w"], 0, launch["flip"])
        made.append((WR, int(bank), int(row), int(column)))
    return made


@pytest.mark.parametrize("operation", list(Operation))
def test_near_data_commands_are_the_steps(operation):
    config, seed = system(reserved=2, ranks=1), int(operation)
    rng = random.Random(seed)
    print(f"seed {seed}")
    indexed = operation in (Operation.GATHER, Operation.SCATTER)
    blocks = rng.choice([1, 90, 128] if indexed else [1, 127, 300, 2500])
    launch = {"operation": operation, "blocks": blocks, "streams": rng.randrange(1, 6),
              "flip": rng.randrange(16), "step": 64, "w": 1, "x": 40, "y": 33, "z": 500, "seed": 3, "policy": rng.randrange(4)}
    parameters = [rng.randrange(0, 3000) for _ in range(16)]
    block = [mapping.launch_block(config, 0, 0, column) for column in (1, 0)]
    words = np.array(parameters, "<u4").tobytes()
    workload = Workload(launches=(Launch(block[0], words), Launch(block[1], pack(**launch))))
    recording = dram.run(config, workload)
    assert metrics.violations(config, recording) == []
    near, rows, found = recording.commands[recording.commands["source"] == 1], {}, []
    for item in near:
        bank = int(item["bank"])
        if item["kind"] == ACT:
            rows[bank] = int(item["row"])
        elif item["kind"] in (RD, WR):
            found.append((int(item["kind"]), bank, rows[bank], int(item["column"])))
    assert found == expected(config, launch, parameters)


def test_reads_and_writes_of_a_block_keep_their_order():
    config = system(reserved=0)
    for seed in (1, 2, 3):
        print(f"seed {seed}")
        rng = np.random.default_rng(seed)
        blocks, writes = rng.choice(rng.integers(0, config.blocks, 20), 600), rng.random(600) < 0.5
        record = dram.run(config, Workload((core(blocks, writes=writes, gaps=rng.integers(1, 8, 600), window=40),))).commands
        rows, seen = {}, {}
        for item in record:
            bank = int(item["rank"]), int(item["bank"])
            if item["kind"] == ACT:
                rows[bank] = int(item["row"])
            elif item["kind"] in (RD, WR):
                seen.setdefault(int(mapping.block_of(config, 0, *bank, rows[bank], item["column"])), []).append(item["kind"] == WR)
        assert seen == {block: writes[blocks == block].tolist() for block in np.unique(blocks).tolist()}


def test_urgent_request_is_served():
    """A row conflict behind a stream of hits waits `patience` cycles, not for ever."""
    config = system(ranks=1, reserved=0, patience=200)
    hits = mapping.block_of(config, 0, 0, 0, 5, np.arange(900) % 128)
    hits[100] = mapping.block_of(config, 0, 0, 0, 9, 0)
    recording = dram.run(config, Workload((core(hits, window=30),)))
    other = recording.reads[recording.reads["index"] == 100]
    assert 200 < other["answered"][0] - other["offered"][0] < 450
    assert metrics.violations(config, recording) == []


def test_host_comes_first():
    """With next-rank prediction near-data work costs a busy host little; the unit still moves data."""
    config = system()
    host = traffic.cores(config, "mix2", requests=12_000, seed=5)
    alone = dram.run(config, Workload(host))
    both = dram.run(config, Workload(host, traffic.near_data(config, Operation.COPY, blocks=4096, policy=Policy.NEXT_RANK), 0))
    assert both.host_done < 1.03 * alone.host_done
    near = both.commands[(both.commands["source"] == 1) & (both.commands["kind"] >= RD)]
    assert len(near) * 4 / both.host_done > 0.3


@pytest.mark.parametrize("workload, text", [
    (Workload((core([1 << 32]),)), "block = 4294967296 is outside"),
    (Workload((core([0], gaps=[0]),)), "core 0: gaps = 0"),
    (Workload((core([0], window=0),)), "core 0: window = 0"),
    (Workload((core([mapping.launch_block(system(), 0, 1)]),)), "is a launch register"),
    (Workload(launches=(Launch(5, bytes(64)),)), "launch block = 5 is no launch register"),
    (Workload(launches=(Launch(mapping.launch_block(system(), 0, 1), bytes(60)),)), "launch data = 60 bytes"),
    (Workload(launches=(Launch(mapping.launch_block(system(), 0, 1), bytes(64)),)), "launch 0: blocks = 0"),
    (Workload(launches=(Launch(mapping.launch_block(system(), 0, 1), pack(operation=15, blocks=1)),)), "launch 0: operation = 15"),
    (Workload(launches=(Launch(mapping.launch_block(system(), 0, 1), pack(blocks=1)),), repeat=0), "repeat = 0 needs"),
    (Workload(launches=(Launch(mapping.launch_block(system(), 0, 1), pack(operation=Operation.GEMV, blocks=1)),)), "launch 0: streams = 0"),
])
def test_workloads_refused(workload, text):
    with pytest.raises(DramError, match=text):
        dram.run(system(), workload)


def test_progress_is_told():
    told = []
    dram.run(system(), Workload(traffic.cores(system(), "sequential", requests=3000, seed=1)), progress=lambda *counts: told.append(counts))
    assert told[-1] == (3000, 3000)


# Traffic


@pytest.mark.parametrize("name", ["sequential", "random", "mix0", "mix5"])
def test_traffic_is_reproducible_and_stays_outside_the_shared_region(name):
    config = system()
    first, again, other = (traffic.cores(config, name, requests=4001, seed=seed, writes=0.25) for seed in (1, 1, 2))
    for a, b in zip(first, again, strict=True):
        assert all(np.array_equal(getattr(a, field), getattr(b, field)) for field in ("gaps", "blocks", "writes"))
    assert any(not np.array_equal(a.writes, b.writes) for a, b in zip(first, other, strict=True))
    assert sum(len(item.blocks) for item in first) == 4001
    assert all(int(item.blocks.max()) < config.blocks - mapping.shared_blocks(config) and item.gaps.min() >= 1 for item in first)
    if name in traffic.MIXES:
        kind = traffic.MIXES[name]
        runs = [1 + np.count_nonzero(np.diff(item.blocks.astype(np.int64)) != 1) for item in first]
        assert abs(4001 / sum(runs) / kind.run - 1) < 0.1
        assert abs(np.concatenate([item.writes for item in first]).mean() - kind.writes) < 0.05


@pytest.mark.parametrize("name", traffic.MIXES)
def test_mixes_use_the_bus_as_stated(name):
    config, kind, requests = system(), traffic.MIXES[name], 12_000
    recording = dram.run(config, Workload(traffic.cores(config, name, requests=requests, seed=9)))
    assert abs(requests * 4 / recording.host_done / kind.bus_use - 1) < 0.06


@pytest.mark.parametrize("line, text", [
    ("1,R", "line 2: '1,R' is not gap,R|W,hex byte address"), ("0,R,40", "line 2: gap = '0' is outside 1"), ("x,R,40", "line 2: gap = 'x'"),
    ("1,Q,40", "line 2: 'Q' is neither R nor W"), ("1,R,zz", "line 2: address = 'zz' is not a hex number"),
    ("1,R,400000000", "line 2: address = 0x400000000 is outside"),
])
def test_bad_traces(tmp_path, line, text):
    path = tmp_path / "trace"
    path.write_text(f"3,W,0x80\n{line}\n")
    with pytest.raises(DramError) as error:
        traffic.cores(system(reserved=0, ranks=1), f"trace:{path}", requests=0, seed=0)
    assert text in str(error.value) and "\n" not in str(error.value)


def test_trace(tmp_path):
    path = tmp_path / "trace"
    path.write_text("# comment\n3,W,0x80\n\n7, R, 1fc0\n")
    found, = traffic.cores(system(), f"trace:{path}", requests=0, seed=0)
    assert (found.gaps.tolist(), found.blocks.tolist(), found.writes.tolist()) == ([3, 7], [2, 0x7f], [True, False])
    for name, text in (("trace:/none", "/none"), ("mix9", "mix9")):
        with pytest.raises(DramError, match=text):
            traffic.cores(system(), name, requests=10, seed=0)


@pytest.mark.parametrize("operation", list(Operation))
def test_near_data_work_fits(operation):
    config = system(channels=2, ranks=4)
    launches = traffic.near_data(config, operation, blocks=100, policy=Policy.NONE)
    assert {launch.wait for launch in launches} - {0} == {1 << unit for unit in range(8)}
    with pytest.raises(DramError, match="blocks"):
        traffic.near_data(config, operation, blocks=1 << 30, policy=Policy.NONE)
    with pytest.raises(DramError, match="reserved = 0"):
        traffic.near_data(changed(config, reserved=0, layout=()), operation, blocks=100, policy=Policy.NONE)



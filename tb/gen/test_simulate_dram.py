"""The simulation path of the DRAM system, with a stand-in that serves one request at a time: players, DRAM, scoreboard, planted faults."""

import random
from pathlib import Path

import numpy as np
import pytest
from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import wiring

from gen.dram import DramConfig, part
from gen.simulate import SimulationError
from gen.simulate_dram import DramJob, DramSimulator, pattern
from gen.traffic import Core, Launch, Workload
from gen.verilog import ports_of
from rtl.memory.address_map import AddressMap
from rtl.memory.dram_system import BEAT_BITS, COMMAND_BITS, system_ports

CONFIG = DramConfig(part=part("ddr4-2400r"), channels=2, ranks=2, reserved=0, hashed=False)
GAPS, T, BURST = CONFIG.gaps, CONFIG.timing, CONFIG.part.burst_cycles
LAST = CONFIG.blocks - 1      # a write here sets the stand-in's fault (byte 0), or starts its near-data copy (byte 1)
NEAR = (0, 0, 1, 5)           # channel, rank, bank and row of the copy: from column 2 to column 3
ACT, PRE, RD, WR = 1, 2, 4, 5
FAULTS = {"flipped": 1, "late read": 2, "no row": 3, "late write": 4, "lost write": 5, "wrong tag": 6, "stuck": 7, "copies differ": 8,
          "no mask": 9, "other column": 10, "both": 11, "open twice": 12}


class StandIn(wiring.Component):
    """For each request ACT, RD or WR and PRE, as far apart as they must be; accepted in t, the next may be in t + SERVICE."""

    def __init__(self, config: DramConfig):
        self.config = config
        super().__init__(system_ports(config))

    def elaborate(self, platform):
        m = Module()
        m.submodules.map = place = AddressMap(self.config)
        fields = {"channel": place.channel} | {name: place.location[name] for name in self.config.field_bits if name != "channel"}
        last = Signal()
        m.d.comb += place.block.eq(self.request_block)
        block = {name: Signal(self.config.field_bits[name], name=name) for name in fields}
        write, tag, data, mask = Signal(), Signal(10), Signal(512), Signal(64)
        age, busy, fault, copying = Signal(8), Signal(), Signal(8), Signal()

        def pins(kind, rank, bank, row, column):
            fields = ((kind, 8), (rank, 8), (bank, 8), (column, 16), (row, 24))
            return Cat((Value.cast(value) | Const(0, width))[:width] for value, width in fields)

        # Ages: 1 ACT, then the column command, PRE, and the next request
        column, close, end = 1 + GAPS.rcd, 1 + GAPS.rcd + GAPS.wr, SERVICE - 1
        late = fault == 2
        m.d.comb += [self.request_ready.eq(~busy & ~copying & (fault != 7)), self.quiet.eq(~busy & ~copying), self.active.eq(copying)]
        m.d.comb += [self.mismatch.eq(fault == 8), self.overrun.eq(Mux(fault == 8, 2, 0))]
        m.d.sync += age.eq(age + 1)
        with m.If(self.request_valid & self.request_ready):
            m.d.sync += [*(block[name].eq(fields[name]) for name in fields), last.eq(self.request_block.all())]
            m.d.sync += [write.eq(self.request_write), tag.eq(self.request_tag), data.eq(self.request_data), mask.eq(self.request_mask)]
            m.d.sync += [busy.eq(1), age.eq(1)]
        with m.If(busy & (age == end)):
            m.d.sync += busy.eq(0)
            with m.If(write & last):
                m.d.sync += [fault.eq(data[:8]), copying.eq(data[8]), age.eq(0)]
        command = Signal(COMMAND_BITS)
        where = [block["rank"], block["bank"], block["row"], block["column"] & Mux((fault == 10) & ~write, ~1, ~0)]
        with m.If(busy & ((age == 1) | ((age == 3) & (fault == 12))) & (fault != 3)):
            m.d.comb += command.eq(pins(ACT, *where))
        with m.If(busy & (age == column) & ~(write & (fault == 5))):
            m.d.comb += command.eq(pins(Mux(write, WR, RD), *where))
        with m.If(busy & (age == close)):
            m.d.comb += command.eq(pins(PRE, *where))
        beat, got = Signal(2), Signal(2)
        m.d.comb += [beat.eq(age - (column + T["tCWL"]) - (fault == 4)), got.eq(age - (column + T["tCL"]) - late)]
        start = column + T["tCWL"] + (fault == 4)
        answer = busy & ~write & (age == column + T["tCL"] + BURST + late)
        for channel in range(self.config.channels):
            mine = block["channel"] == channel
            with m.If(mine):
                m.d.comb += self.commands.word_select(channel, COMMAND_BITS).eq(command)
            with m.If(mine & busy & (age >= start) & (age < start + BURST)):
                m.d.comb += self.write_data.word_select(channel, BEAT_BITS).eq(data.word_select(beat, 128))
                m.d.comb += self.write_mask.word_select(channel, 16).eq(mask.word_select(beat, 16) | Mux(fault == 9, 0xffff, 0))
            with m.If(mine & busy & ~write & (age >= column + T["tCL"] + late) & (age < column + T["tCL"] + BURST + late)):
                m.d.sync += data.word_select(got, 128).eq(self.read_data.word_select(channel, BEAT_BITS))
            m.d.comb += self.response_valid[channel].eq(mine & answer)
            m.d.comb += self.response_tag.word_select(channel, 16).eq(tag ^ Mux(fault == 6, 1, 0))
            m.d.comb += self.response_data.word_select(channel, 512).eq(data ^ Mux(fault == 1, 1 << 77, 0))

        # The near-data copy of one block: ACT, RD, WR, PRE
        read, store = GAPS.rcd, GAPS.rcd + GAPS.rtw + 10
        kept = Signal(512)
        near = self.near_commands[:COMMAND_BITS]
        with m.If(copying):
            for cycle, kind, place in ((0, ACT, 0), (read, RD, 2), (store, WR, 3), (store + GAPS.wr, PRE, 0)):
                with m.If(age == cycle):
                    m.d.comb += near.eq(pins(kind, 0, NEAR[2], NEAR[3], place))
            with m.If((age >= read + T["tCL"]) & (age < read + T["tCL"] + BURST)):
                m.d.sync += kept.word_select((age - (read + T["tCL"]))[:2], 128).eq(self.near_read_data[:128])
            with m.If((age >= store + T["tCWL"]) & (age < store + T["tCWL"] + BURST)):
                m.d.comb += self.near_write_data[:128].eq(kept.word_select((age - (store + T["tCWL"]))[:2], 128))
            with m.If(age == store + GAPS.wr + GAPS.rp):
                m.d.sync += copying.eq(0)
        with m.If((fault == 11) & busy & (age == column)):
            m.d.comb += near.eq(pins(WR, 0, block["bank"], 0, 1))
        return m


SERVICE = 1 + GAPS.rcd + GAPS.wr + GAPS.rp


@pytest.fixture(scope="module")
def simulator():
    return DramSimulator(CONFIG, factory=StandIn)


def make_core(seed: int, count: int, *, blocks: int, window: int = 8, gap: int = 300, writes: float = 0.4) -> Core:
    """Random requests to a few blocks spread over everything below the last row."""
    rng = np.random.default_rng(seed)
    pool = rng.integers(0, CONFIG.blocks // 2, blocks, dtype=np.uint64)
    return Core(rng.integers(1, gap + 1, count).astype(np.uint32), rng.choice(pool, count), rng.random(count) < writes, window)


def fields_of(block: int) -> dict[str, int]:
    """The fields of a block's address; no hashing, nothing reserved."""
    found, done = dict.fromkeys(CONFIG.field_bits, 0), dict.fromkeys(CONFIG.field_bits, 0)
    for name, bits in CONFIG.layout:
        found[name] |= (block & (1 << bits) - 1) << done[name]
        done[name] += bits
        block >>= bits
    return found


def expected(work: Workload) -> tuple[list, list, list, int]:
    """Commands, reads, ends of the cores and the last cycle, by gen/traffic.py, for a system that serves one request in SERVICE cycles."""
    last, following = [0] * len(work.cores), [0] * len(work.cores)
    offered: list[int | None] = [None] * len(work.cores)
    waiting: list[list[int]] = [[] for _ in work.cores]      # cycles of answers to come
    done = [0] * len(work.cores)
    commands, reads, before, free, t, sent = [], [], len(work.cores), 0, 0, 0
    launches = list(work.launches) * work.repeat
    while True:
        offers = []
        for c, core in enumerate(work.cores):
            i = following[c]
            reading = sum(1 for cycle in waiting[c] if cycle >= t)      # an answer in t is seen in t+1
            if i < len(core.gaps) and t >= last[c] + core.gaps[i] and (core.writes[i] or reading < core.window):
                offers.append(c)
                if offered[c] is None:
                    offered[c] = t
        if sent < len(launches):
            offers.append(len(work.cores))
        busy = any(cycle >= t for cycles in waiting for cycle in cycles)
        if not offers and t >= free and not busy and all(f == len(c.gaps) for f, c in zip(following, work.cores)):
            return commands, reads, done, t
        if offers and t >= free:
            order = [(before + step) % (len(work.cores) + 1) for step in range(1, len(work.cores) + 2)]
            c = before = next(player for player in order if player in offers)
            free = t + SERVICE
            launch = c == len(work.cores)
            block, write = (launches[sent].block, True) if launch else (int(work.cores[c].blocks[following[c]]),
                                                                        bool(work.cores[c].writes[following[c]]))
            place = fields_of(block)
            where = place["channel"], place["rank"], place["bank"]
            commands += [(t + 1, *where, ACT, 0, 0, place["row"]), (t + 1 + GAPS.rcd, *where, WR if write else RD, 0, place["column"], 0),
                         (t + 1 + GAPS.rcd + GAPS.wr, *where, PRE, 0, 0, 0)]
            if launch:
                sent += 1
            else:
                end = t if write else t + 1 + GAPS.rcd + T["tCL"] + BURST
                if not write:
                    reads.append((offered[c], end, c, following[c]))
                    waiting[c].append(end)
                done[c], last[c], offered[c] = max(done[c], end), t, None
                following[c] += 1
        t += 1


def test_against_a_few_lines_of_python(simulator):
    """Players, pins and records, cycle by cycle: several cores that compete, a small window, launches, one core, none."""
    launch = Launch(7, bytes(range(64)))
    works = [
        Workload((make_core(1, 60, blocks=9),)),
        Workload((make_core(2, 40, blocks=5, window=1), make_core(3, 50, blocks=8, gap=40), make_core(4, 30, blocks=3, gap=900))),
        Workload((make_core(5, 30, blocks=4, gap=1, window=2), make_core(6, 30, blocks=4, gap=1)), (launch, launch), repeat=3),
        Workload((), (launch,)),
        Workload(),
    ]
    told, shares = [], []
    runs = simulator.run([DramJob(work) for work in works], told.append, shares.append)
    for work, run in zip(works, runs, strict=True):
        assert run.errors == () and run.data_errors == run.replica_mismatches == run.overruns == 0
        commands, reads, done, cycles = expected(work)
        names = ["cycle", "channel", "rank", "bank", "kind", "source", "column", "row"]
        assert [tuple(item[name] for name in names) for item in run.commands] == commands
        assert run.reads.tolist() == reads
        assert (run.cycles, run.core_done, run.host_done) == (cycles, tuple(done), max(done, default=0))
    assert told == [1, 2, 3, 4, 5] and shares == sorted(shares) and shares[0] == 60 / 240 and shares[-1] == 1


def test_blocks(simulator):
    """What is loaded is read by a near-data copy; what a launch writes and what nobody wrote come back."""
    rng = random.Random(1)
    source, target = (*NEAR, 2), (*NEAR, 3)
    data, text = rng.randbytes(64), bytes([0, 1]) + rng.randbytes(62)
    place = fields_of(LAST)
    launched = (place["channel"], place["rank"], place["bank"], place["row"], place["column"])
    untouched = (1, 1, 3, 99, 4)
    waits = (Launch(LAST, text), Launch(3, text, wait=1))
    run, bare, fresh = simulator.run([
        DramJob(Workload((), waits), {source: data}, [target, launched, untouched, source]),
        DramJob(Workload((make_core(1, 20, blocks=4),), waits, repeat=0), record=False),
        DramJob(Workload(), store=[source]),
    ])
    assert run.errors == ()
    assert run.blocks == {target: data, launched: text, untouched: pattern(CONFIG, untouched), source: data}
    assert fresh.blocks == {source: pattern(CONFIG, source)} and fresh.cycles == 0
    near = run.commands[run.commands["source"] == 1]
    assert near["kind"].tolist() == [ACT, RD, WR, PRE] and near["column"].tolist() == [0, 2, 3, 0] and near["row"].tolist() == [5, 0, 0, 0]
    # The second launch waits for the copy, and is on the pins a cycle after it is accepted.
    host = run.commands[(run.commands["source"] == 0) & (run.commands["kind"] == ACT)]
    assert host["cycle"][1] == near["cycle"][-1] + GAPS.rp + 2
    assert len(bare.commands) == 0 and len(bare.reads) and bare.errors == ()


@pytest.mark.parametrize("fault, message", [
    ("flipped", "is not what the DRAM drove"),
    ("late read", "is not what the DRAM drove"),
    ("no row", "which is closed"),
    ("late write", "did not return what was written last"),
    ("lost write", "did not return what was written last"),
    ("wrong tag", "which is not outstanding"),
    ("no mask", "did not return what was written last"),
    ("other column", "it lies at"),
    ("both", "host and near-data unit command rank 0"),
    ("both", "its data path is taken"),
    ("open twice", "is open"),
])
def test_planted_faults(simulator, fault, message):
    """The bench sees each fault of the stand-in; without the fault it sees none in the same requests."""
    seed = 11
    work = make_core(seed, 150, blocks=6, gap=1)
    if fault == "other column":     # two neighbours
        work = Core(work.gaps, work.blocks[0] // np.uint64(64) * np.uint64(64) + np.arange(150, dtype=np.uint64) % 16, work.writes)
    if fault == "both":
        work = Core(work.gaps, work.blocks * np.uint64(0) + np.uint64(2 * 64), work.writes)
    limit = 30_000
    jobs = [DramJob(Workload((work,), (Launch(LAST, bytes([number]) + bytes(63)),)), limit=limit) for number in (0, FAULTS[fault])]
    if fault == "wrong tag":
        with pytest.raises(SimulationError, match=r"job 0 did not end within 30000 cycles: .* 8 reads without answer"):
            simulator.run(jobs[1:])
        return
    good, bad = simulator.run(jobs)
    assert good.data_errors == 0 and good.errors == ()
    assert bad.data_errors and any(message in line for line in bad.errors), bad.errors


def test_signals_of_the_system(simulator):
    """Copies that differ and ignored launches are counted; a system that accepts nothing any more is given up."""
    launch = (Launch(LAST, bytes([FAULTS["copies differ"]]) + bytes(63)),)
    run, = simulator.run([DramJob(Workload((make_core(1, 5, blocks=2),), launch))])
    assert run.replica_mismatches == run.overruns > 100 and run.data_errors == 0
    launch = (Launch(LAST, bytes([FAULTS["stuck"]]) + bytes(63)),)
    with pytest.raises(SimulationError, match=r"job 0 stood still in cycle 10[0-9]{5}: [0-9] of 5 requests accepted"):
        simulator.run([DramJob(Workload((make_core(1, 5, blocks=2),), launch))])


@pytest.mark.parametrize("change", [{}, {"reserved": 0}, {"interface": "packet"}, {"channels": 4, "ranks": 4}])
def test_ports_of_the_real_system(change):
    """What the bench is compiled against: no port without bits, whatever the system lacks, and fields that fit."""
    config = DramConfig(part=CONFIG.part, **change)
    interface = wiring.Signature(system_ports(config)).create()
    ports = {port.name: (port.direction, port.width) for port in ports_of(interface)}
    assert set(ports) == set(system_ports(config)) and min(width for _, width in ports.values()) > 0
    units = config.channels * config.ranks
    assert ports["near_commands"] == ("output", 64 * units) and ports["read_data"] == ("input", 128 * config.channels)


def test_builds_are_kept(simulator, monkeypatch):
    folder = simulator.build()
    again = DramSimulator(CONFIG, factory=StandIn)
    monkeypatch.setattr(again, "_compile", lambda *_: pytest.fail("it was built again"))
    assert again.build() == folder
    assert {path.name for path in folder.iterdir()} == {
        "bench", "build.log", "control.vlt", "dram_bench.cpp", "dram_config.h", "dram_device.h", "flexwave.v"}


def test_a_failed_build_is_reported(monkeypatch):
    """Nothing that a later build would take for a simulator is left."""
    broken = DramSimulator(CONFIG, factory=StandIn)
    monkeypatch.setattr("gen.simulate_dram.settings_header", lambda config: "#error broken\n")
    for _ in range(2):
        with pytest.raises(SimulationError, match=r"building the simulator failed \(Verilator ended with .*\), see .*\.log") as caught:
            broken.build()
    assert "broken" in Path(str(caught.value).split("see ")[1]).read_text()


def test_a_killed_run_is_not_believed(simulator, monkeypatch, tmp_path):
    """A simulator that dies, and one that ends without a result."""
    for text, message in (("kill -9 $$", "it ended with -9"), ("exit 0", "job 0 of 1 did not end")):
        (tmp_path / "bench").write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / "bench").chmod(0o755)
        monkeypatch.setattr(simulator, "build", lambda: tmp_path)
        with pytest.raises(SimulationError, match=message):
            simulator.run([DramJob(Workload())])


GOOD = Core(np.array([1], np.uint32), np.array([0], np.uint64), np.array([False]))


@pytest.mark.parametrize("job, message", [
    (DramJob(Workload((Core(np.array([0], np.uint32), GOOD.blocks, GOOD.writes),))), "gap = 0 of core 0 is outside 1"),
    (DramJob(Workload((Core(GOOD.gaps, np.array([1 << 40], np.uint64), GOOD.writes),))), f"block = {1 << 40} of core 0 is outside"),
    (DramJob(Workload((Core(GOOD.gaps, GOOD.blocks, np.array([], bool)),))), "core 0 has 1 gaps, 1 blocks and 0 writes"),
    (DramJob(Workload((Core(GOOD.gaps, GOOD.blocks, GOOD.writes, 0),))), "window = 0 of core 0 is outside 1..1024"),
    (DramJob(Workload((Core(GOOD.gaps, GOOD.blocks, GOOD.writes, 600),) * 2)), "sum of windows = 1200 is outside 0..1024"),
    (DramJob(Workload((), (Launch(0, bytes(63)),))), "launch 0 has 63 bytes, allowed are 64"),
    (DramJob(Workload((), (Launch(0, bytes(64), 16),))), "wait = 16 of launch 0 is outside 0..15"),
    (DramJob(Workload((), (Launch(0, bytes(64)),), repeat=0)), "repeat = 0 is outside 1.. "),
    (DramJob(Workload(), {(0, 2, 0, 0, 0): bytes(64)}), r"rank = 2 of location \(0, 2, 0, 0, 0\) is outside 0..1"),
    (DramJob(Workload(), store=[(0, 0, 0, 0, 128)]), "column = 128 of location"),
])
def test_refusals(simulator, job, message):
    with pytest.raises(ValueError, match=message):
        simulator.run([job])

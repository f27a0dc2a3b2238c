"""RankControl: every decision, in every cycle, against a reference with absolute cycle numbers; copies that see different things differ."""

import dataclasses
import random

import pytest
from amaranth.hdl import Cat, Elaboratable, Fragment, Module
from amaranth.sim import Simulator

from gen.dram import DramConfig, part
from gen.nda import INDEXED, Operation, Policy, pack, settle
from rtl.memory import sequencer
from rtl.memory.interfaces import Command
from rtl.memory.rank_control import RankControl
from rtl.memory.trackers import FourActivates, Tracker
from tb.unit.rank_reference import NOTHING, Outputs, RankReference
from tb.unit.refused import refused


class Host:
    """Legal random commands, refreshes and launches for one rank; decides in t what is on the pins in t+1."""

    def __init__(self, config: DramConfig, rng: random.Random, *, long: bool = False):
        self.config, self.rng, self.long = config, rng, long
        self.command, self.data = NOTHING, {}            # of the present cycle; cycle -> beat
        self.phase, self.writes, self.until = "work", [], 60
        self.rate, self.holds, self.refreshes = 0.1, (0.0, 0.0), 0.06
        self.hold_all = self.hold_writes = False
        self.launches = 0

    def descriptor(self) -> bytes:
        rng, config = self.rng, self.config
        operation = rng.choice(list(Operation))
        blocks = rng.choice([1, 2, 5, 17]) if not self.long else rng.choice([128, 129, 150])
        frames = {name: rng.randrange(config.frames) for name in ("x", "y", "z", "w", "step")}
        return pack(
            operation=operation, integer=rng.randrange(2), policy=rng.choice(list(Policy)), flip=rng.randrange(16),
            streams=rng.choice([1, 2, 3, 20] if blocks < 5 else [1, 2]), seed=rng.choice([0, rng.randrange(256)]),
            blocks=min(blocks, 128) if operation in INDEXED else blocks, start=128 * rng.choice([0, 1, 7, rng.randrange(1 << 14)]),
            **frames, **{name: rng.getrandbits(32) for name in "abc"})

    def beat(self, cycle: int) -> int:
        return self.data.pop(cycle, None) or self.rng.getrandbits(128)

    def step(self, cycle: int, out: Outputs):
        """Choose the command of cycle + 1 from what the rank decided in `cycle`."""
        rng, last, launch_row = self.rng, self.config.part.all_banks - 1, self.config.part.rows - 1
        self.command = NOTHING
        self.until -= 1
        if self.phase == "work" and self.until <= 0:
            self.phase = "close" if rng.random() < self.refreshes else "launch"
            if self.phase == "launch" and out.busy and rng.random() < 0.9:
                self.phase = "work"
            self.writes = [*rng.sample(range(1, 12), rng.randrange(4)), *([0] if rng.random() < 0.9 else [])]
            self.until = rng.randrange(20, 300)
            self.rate = rng.choice([0.0, 0.02, 0.1, 1.0] if not self.long else [0.0, 0.02])
            self.holds = rng.choice([(0.0, 0.0), (0.3, 0.0), (0.0, 0.3), (0.9, 0.9)] if not self.long else [(0.0, 0.0), (0.1, 0.1)])
        hold = self.phase != "work" and not (self.phase == "refresh" and rng.random() < 0.5)      # `frozen` alone must do
        self.hold_all, self.hold_writes = hold or rng.random() < self.holds[0], rng.random() < self.holds[1]
        if not out.free:
            return
        if self.phase == "close" and out.allowed[Command.PREA][0]:
            self.command, self.phase = (Command.PREA, 0, 0, 0), "refresh"
        elif self.phase == "refresh" and out.allowed[Command.REF][0] and rng.random() < 0.2:
            self.command, self.phase = (Command.REF, 0, 0, 0), "work"
        elif self.phase == "launch":
            row = out.open.get(last)
            if row == launch_row and out.allowed[Command.WR][last]:
                column = self.writes.pop(0) if self.writes else 0
                self.command = (Command.WR, last, 0, column)
                block = self.descriptor() if column == 0 else rng.randbytes(64)
                first = cycle + 1 + self.config.timing["tCWL"]
                self.data |= {first + i: int.from_bytes(block[16 * i:16 * i + 16], "little") for i in range(4)}
                self.launches += column == 0
                self.phase = self.phase if self.writes else "work"
            elif row is None and out.allowed[Command.ACT][last]:
                self.command = (Command.ACT, last, launch_row, 0)
            elif row not in (None, launch_row) and out.allowed[Command.PRE][last]:
                self.command = (Command.PRE, last, 0, 0)
        elif self.phase == "work" and rng.random() < self.rate:
            self.command = self.random_command(out)

    def random_command(self, out: Outputs):
        rng, banks = self.rng, self.config.part.all_banks
        bank = rng.randrange(banks) if rng.random() < 0.2 else rng.randrange(min(6, banks - self.config.reserved))
        bank = banks - 1 if rng.random() < 0.05 else bank
        row = out.open.get(bank)
        if row is None:
            kinds = [Command.ACT]
        else:
            kinds = [Command.RD, Command.RD, Command.WR, Command.WR, Command.PRE]
            if bank == banks - 1 and row == self.config.part.rows - 1:
                kinds = [Command.RD]
        kind = rng.choice(kinds)
        if not out.allowed[kind][bank]:
            return NOTHING
        row = rng.randrange(self.config.part.rows - 1) if kind == Command.ACT else 0
        return (kind, bank, row, rng.randrange(rng.choice([10, self.config.part.row_blocks])))


def bits(values) -> int:
    return sum(bool(value) << i for i, value in enumerate(values))


def pins_of(config: DramConfig, component, command, *, rank: int):
    """A value to set and its number: pins, for all ranks."""
    kind, bank, row, column = command
    fields, pins = config.field_bits, component.pins.command
    value = kind.value | bank << 3 | row << 3 + fields["bank"] | column << 3 + fields["bank"] + fields["row"]
    value |= rank << 3 + fields["bank"] + fields["row"] + fields["column"]
    return Cat(pins, component.pins.rank), value


def compare(ctx, control: RankControl, out: Outputs, config: DramConfig, cycle: int):
    row_bits = config.field_bits["row"]
    banks = range(config.part.all_banks)
    rows = ctx.get(control.rows)
    got = ctx.get(control.command)
    seen = {
        "committed": ctx.get(control.committed), "open": ctx.get(control.open), "busy": ctx.get(control.busy),
        "frozen": ctx.get(control.frozen), "finished": ctx.get(control.finished), "overrun": ctx.get(control.overrun),
        "policy": ctx.get(control.policy),
        "act": ctx.get(control.act_ok), "pre": ctx.get(control.pre_ok), "read": ctx.get(control.read_ok),
        "write": ctx.get(control.write_ok), "prea": ctx.get(control.prea_ok), "ref": ctx.get(control.ref_ok), "soon": ctx.get(control.soon),
        "command": (Command(got.kind), got.bank, got.row, got.column),
        "rows": {b: rows >> b * row_bits & (1 << row_bits) - 1 for b in banks if b in out.open},
        "work": (ctx.get(control.work.read), ctx.get(control.work.write)),
    }
    wanted = {
        "committed": out.committed[0] != Command.NONE, "open": bits(b in out.open for b in banks), "busy": out.busy, "frozen": out.frozen,
        "finished": out.finished,
        "overrun": out.overrun, "policy": out.policy, "act": bits(out.allowed[Command.ACT]), "pre": bits(out.allowed[Command.PRE]),
        "read": bits(out.allowed[Command.RD]), "write": bits(out.allowed[Command.WR]), "prea": out.allowed[Command.PREA][0],
        "ref": out.allowed[Command.REF][0], "soon": bits(out.soon), "command": out.command, "rows": out.open,
        "work": (out.command[0] == Command.RD, out.command[0] == Command.WR),
    }
    assert seen == wanted, f"cycle {cycle}"


CASES = [
    pytest.param(1, 0, 2, False, 1, id="1-rank"),
    pytest.param(2, 1, 2, False, 7, id="2-ranks"),
    pytest.param(2, 0, 1, False, 3, id="1-bank"),
    pytest.param(2, 0, 4, False, 4, id="4-banks"),
    pytest.param(4, 3, 8, False, 5, id="8-banks"),
    pytest.param(1, 0, 2, True, 6, id="chunks"),
]


@pytest.mark.parametrize("ranks, rank, reserved, long, seed", CASES)
def test_every_decision(ranks, rank, reserved, long, seed):
    print(f"seed {seed}")
    rng = random.Random(seed)
    config = DramConfig(part=part("ddr4-2400r"), ranks=ranks, reserved=reserved)
    control, reference, host = RankControl(config, rank=rank), RankReference(config), Host(config, rng, long=long)
    counts = dict.fromkeys(Command, 0)
    finished = 0

    async def bench(ctx):
        nonlocal finished
        for cycle in range(7000 if long else 4000):
            beat, command = host.beat(cycle), host.command
            shown = command if command != NOTHING or ranks == 1 or rng.random() < 0.7 else (rng.choice(list(Command)), 3, 4, 5)
            where = rank if shown == command else (rank + 1) % ranks        # or a command to another rank, which changes nothing
            ctx.set(*pins_of(config, control, shown, rank=where))
            ctx.set(Cat(control.inhibit, control.write_data), host.hold_writes | host.hold_all << 1 | beat << 2)
            out = reference.decide(command, hold_writes=host.hold_writes, hold_all=host.hold_all)
            compare(ctx, control, out, config, cycle)
            counts[out.committed[0]] += 1
            finished += out.finished
            host.step(cycle, out)
            reference.advance(command, out.committed, beat)
            await ctx.tick()

    simulator = Simulator(control)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    print(counts, host.launches, finished)
    assert min(counts[kind] for kind in (Command.ACT, Command.RD, Command.WR, Command.PRE)) > 3 and finished >= 2


class Elaborated(Elaboratable):
    """A component elaborated with one function of a module replaced."""

    def __init__(self, component, module, name: str, function):
        self.component, self.module, self.name, self.function = component, module, name, function

    def elaborate(self, platform):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(self.module, self.name, self.function)
            return Fragment.get(self.component, platform)


def first_difference(seed: int, fault: str | None, *, cycles: int = 3000) -> tuple[int | None, int | None]:
    """Run two copies; from cycle 100 on the second one suffers `fault` once. Cycles of the fault and of the first difference in `state`."""
    rng = random.Random(seed)
    config = DramConfig(part=part("ddr4-2400r"), ranks=2)
    copies = RankControl(config, rank=1), RankControl(config, rank=1)
    top = Module()
    top.submodules.first = copies[0]
    genuine = sequencer.lfsr_next
    if fault == "lfsr":
        top.submodules.second = Elaborated(copies[1], sequencer, "lfsr_next", lambda state: genuine(genuine(state)))
    else:
        top.submodules.second = copies[1]
    reference, host = RankReference(config), Host(config, rng)
    host.refreshes = 0.5 if fault in ("lost PREA", "lost REF") else host.refreshes
    happened = seen = None

    async def bench(ctx):
        nonlocal happened, seen
        for cycle in range(cycles):
            beat, command = host.beat(cycle), host.command
            out = reference.decide(command, hold_writes=host.hold_writes, hold_all=host.hold_all)
            inputs = changed = (command, host.hold_writes | host.hold_all << 1 | beat << 2)
            arriving = [column for first, column, _ in reference.bursts if first <= cycle < first + 4]
            due = happened is None and cycle >= 100
            if due and (fault == "lost " + command[0].name or (fault == "lost any" and command != NOTHING)):
                happened, changed = cycle, (NOTHING, inputs[1])
            elif due and fault == "row" and command[0] == Command.ACT:
                happened, changed = cycle, ((command[0], command[1], command[2] ^ 1, command[3]), inputs[1])
            elif due and fault == "inhibit" and not host.hold_all and out.committed != NOTHING:
                happened, changed = cycle, (command, inputs[1] | 2)
            elif due and fault == "data" and arriving and arriving[0] <= 8 and not out.busy:
                happened, changed = cycle, (command, inputs[1] ^ 4)
            for copy, (shown, others) in zip(copies, (inputs, changed)):
                ctx.set(*pins_of(config, copy, shown, rank=1))
                ctx.set(Cat(copy.inhibit, copy.write_data), others)
            if ctx.get(copies[0].state) != ctx.get(copies[1].state):
                seen = cycle
                return
            host.step(cycle, out)
            reference.advance(command, out.committed, beat)
            await ctx.tick()

    simulator = Simulator(top)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    return happened, seen


FAULTS = ["lost any", "lost ACT", "lost RD", "lost WR", "lost PRE", "lost PREA", "lost REF", "row", "inhibit", "data"]


@pytest.mark.parametrize("fault", FAULTS)
def test_copies_that_see_different_things_differ(fault):
    print("seed 11")
    happened, seen = first_difference(11, fault)
    assert happened is not None and seen is not None and happened <= seen <= happened + 1


def test_copies_with_different_generators_differ():
    print("seed 12")
    assert first_difference(12, "lfsr")[1] is not None


def test_copies_that_see_the_same_agree():
    print("seed 12")
    assert first_difference(12, None, cycles=1500) == (None, None)


def test_without_reserved_banks():
    """A host's commands alone, also of a part with other sizes."""
    print("seed 13")
    rng = random.Random(13)
    config = DramConfig(part=part("ddr4-2400r"), reserved=0)
    control, reference, host = RankControl(config, rank=0), RankReference(config), Host(config, rng)
    host.rate, host.until = 1.0, 10**9

    async def bench(ctx):
        for cycle in range(600):
            ctx.set(*pins_of(config, control, host.command, rank=0))
            out = reference.decide(host.command, hold_writes=False, hold_all=False)
            compare(ctx, control, out, config, cycle)
            command = host.command
            host.step(cycle, out)
            reference.advance(command, NOTHING, 0)
            await ctx.tick()

    simulator = Simulator(control)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert max(reference.activates) > 500


@pytest.mark.parametrize("operation, blocks, pause", [
    (Operation.SCAL, 5, True), (Operation.SCAL, 6, False), (Operation.NRM2, 5, True), (Operation.NRM2, 6, True)])
def test_pause_between_steps(operation, blocks, pause):
    """In place, so that the write finds its row open: it waits for the arithmetic where its block was just read, and nowhere else."""
    print("seed 14")
    config = DramConfig(part=part("ddr4-2400r"))
    block = pack(operation=operation, blocks=blocks, x=5, w=5)
    control, reference, host = RankControl(config, rank=0), RankReference(config), Host(config, random.Random(14))
    host.descriptor, host.phase, host.until, host.rate = lambda: block, "launch", 10**9, 0.0
    columns = {Command.RD: [], Command.WR: []}

    async def bench(ctx):
        for cycle in range(250):
            beat, command = host.beat(cycle), host.command
            ctx.set(*pins_of(config, control, command, rank=0))
            ctx.set(Cat(control.inhibit, control.write_data), host.hold_writes | host.hold_all << 1 | beat << 2)
            out = reference.decide(command, hold_writes=host.hold_writes, hold_all=host.hold_all)
            compare(ctx, control, out, config, cycle)
            columns.get(out.command[0], []).append(cycle)
            host.step(cycle, out)
            reference.advance(command, out.committed, beat)
            await ctx.tick()

    simulator = Simulator(control)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert len(columns[Command.RD]) == blocks and host.launches == 1
    assert columns[Command.WR][0] - columns[Command.RD][-1] == (settle(config.timing) if pause else config.gaps.rtw)


@pytest.mark.parametrize("cycles", [1, 2, 3, 8])
def test_tracker_holds_back_exactly_so_long(cycles):
    for near in (0, 1):
        tracker = Tracker(cycles=cycles)

        async def bench(ctx, tracker=tracker, near=near):
            ctx.set(tracker.near if near else tracker.host, 1)     # the command is on the rank in cycle `near`
            await ctx.tick()
            ctx.set(Cat(tracker.near, tracker.host), 0)
            for cycle in range(1, cycles + 4):
                assert ctx.get(tracker.clear) == (cycle + 1 >= near + cycles)
                assert ctx.get(tracker.clears) == (cycle + 2 >= near + cycles)
                await ctx.tick()

        simulator = Simulator(tracker)
        simulator.add_clock(1e-6)
        simulator.add_testbench(bench)
        simulator.run()


def test_refused():
    config = DramConfig(part=part("ddr4-2400r"), ranks=2)
    assert refused(lambda: RankControl(config, rank=2)) == "rank = 2 is outside 0..1"
    assert refused(lambda: Tracker(cycles=0)) == refused(lambda: FourActivates(cycles=0)) == "cycles = 0 is outside 1 or more"
    narrow = dataclasses.replace(part("ddr4-2400r"), bus_bytes=4)
    assert "32 bytes in 4 cycles is outside 64 bytes" in refused(lambda: RankControl(DramConfig(part=narrow), rank=0))

"""The queue in front of a unit: order, places, and the cycle in which an instruction leaves."""

import random

import pytest
from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator

from gen.config import Array, Config, Control
from gen.config import Unit as ArrayUnit
from gen.isa import Instruction, Mode, Unit
from rtl.control.instruction_queue import instruction_queue
from rtl.instruction import entry_layout, unit_bits

DEPTH = 4
CONFIG = Config(control=Control(queue_depth=DEPTH))


class Taker(wiring.Component):
    """A unit that takes an instruction when it is told to."""

    def __init__(self, config: Config, kind: Unit):
        super().__init__({"instruction": In(stream.Signature(entry_layout(config, kind))), "take": In(1)})

    def elaborate(self, platform):
        m = Module()
        m.d.comb += self.instruction.ready.eq(self.take & self.instruction.valid)
        return m


class Bench(wiring.Component):
    """A unit behind its queue."""

    def __init__(self, config: Config, kind: Unit):
        self.config, self.kind = config, kind
        super().__init__({"push": In(1), "entry": In(unit_bits(config, kind)), "full": Out(1), "take": In(1), "valid": Out(1),
                          "instruction": Out(entry_layout(config, kind))})

    def elaborate(self, platform):
        m = Module()
        m.submodules.unit = unit = Taker(self.config, self.kind)
        m.submodules.queue = queue = instruction_queue(m, self.kind, unit, config=self.config, bits=self.entry)
        m.d.comb += [
            queue.push.eq(self.push), self.full.eq(queue.full), unit.take.eq(self.take),
            self.valid.eq(unit.instruction.valid), self.instruction.eq(unit.instruction.payload),
        ]
        return m


@pytest.mark.parametrize("kind", [Unit.LOAD_H, Unit.STORE])
def test_against_a_list(kind):
    """What is pushed in t is seen from t + 1 on; what is taken in d leaves in d + 1: the next one and a free place are seen in d + 2."""
    seed = kind.value
    print(f"seed {seed}")
    rng = random.Random(seed)
    bench, queue, leaving, seen = Bench(CONFIG, kind), [], False, {"full": 0, "taken": 0, "masked": 0}
    entry = 0

    async def drive(ctx):
        nonlocal leaving, entry
        for _ in range(900):
            before, take = entry, rng.random() < 0.3
            if rng.random() < 0.5:
                entry = rng.getrandbits(unit_bits(CONFIG, kind))
            push = entry == before
            ctx.set(bench.push, push)
            ctx.set(bench.entry, entry)
            ctx.set(bench.take, take)
            visible = bool(queue) and not leaving
            full = len(queue) == DEPTH
            assert ctx.get(bench.full) == full
            assert ctx.get(bench.valid) == visible
            if visible:
                assert ctx.get(bench.instruction).bits == queue[0]
            seen["full"] += full
            seen["masked"] += leaving and len(queue) > 1
            if leaving:
                queue.pop(0)
            leaving = visible and take
            seen["taken"] += leaving
            if push and not full:
                queue.append(entry)
            await ctx.tick()

    simulator = Simulator(bench)
    simulator.add_clock(1e-6)
    simulator.add_testbench(drive)
    simulator.run()
    assert min(seen.values()) > 20, seen


@pytest.mark.parametrize("unit", ArrayUnit)
def test_words_of_a_wave(unit):
    """LOAD_H's queue says how many words of the ring a wave takes: rows dealt among the parts of its mode, none for SetConv."""
    config = Config(array=Array(unit=unit), control=Control(queue_depth=DEPTH))
    parts = {ArrayUnit.FLEX: dict(zip(Mode, (1, 2, 2, 4))), ArrayUnit.QUAD: {Mode.ISW: 4}, ArrayUnit.SINGLE: {Mode.FW: 1}}[unit]
    program = [(Instruction("SetConv", out_width=4095, in_width=4095, pad_x=15, x_step=65535, row_step=65535), 0)]
    program += [(Instruction("LdLBUF_H", mode=mode, rows=rows, waves=3, pitch=7), -(-rows // parts[mode]))
                for mode in parts for rows in (1, 2, 3, 4, 5, 1021, 65535)]
    bench = Bench(config, Unit.LOAD_H)

    async def drive(ctx):
        ctx.set(bench.take, 1)
        for instruction, words in program:
            ctx.set(bench.entry, int.from_bytes(instruction.encode(), "little") & ((1 << len(bench.entry)) - 1))
            await ctx.tick()
            ctx.set(bench.push, 1)
            await ctx.tick()
            ctx.set(bench.push, 0)
            assert ctx.get(bench.valid) and ctx.get(bench.instruction).wave_words == words, instruction
            await ctx.tick().repeat(2)

    simulator = Simulator(bench)
    simulator.add_clock(1e-6)
    simulator.add_testbench(drive)
    simulator.run()

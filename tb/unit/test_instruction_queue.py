"""The queue in front of a unit: order, places, and the cycle in which an instruction leaves."""

import random

import pytest
from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator

from gen.config import Config
from gen.isa import Unit
from rtl.control.instruction_queue import instruction_queue
from rtl.instruction import entry_layout, unit_bits

CONFIG, DEPTH = Config(), 4


class Taker(wiring.Component):
    """A unit that takes an instruction when it is told to."""

    def __init__(self, kind: Unit):
        super().__init__({"instruction": In(stream.Signature(entry_layout(CONFIG, kind))), "take": In(1)})

    def elaborate(self, platform):
        m = Module()
        m.d.comb += self.instruction.ready.eq(self.take & self.instruction.valid)
        return m


class Bench(wiring.Component):
    """A unit behind its queue."""

    def __init__(self, kind: Unit):
        self.kind = kind
        super().__init__({"push": In(1), "entry": In(unit_bits(CONFIG, kind)), "full": Out(1), "take": In(1), "valid": Out(1),
                          "bits": Out(unit_bits(CONFIG, kind))})

    def elaborate(self, platform):
        m = Module()
        m.submodules.unit = unit = Taker(self.kind)
        m.submodules.queue = queue = instruction_queue(m, self.kind, unit, depth=DEPTH)
        m.d.comb += [
            queue.push.eq(self.push), queue.entry.eq(self.entry), self.full.eq(queue.full), unit.take.eq(self.take),
            self.valid.eq(unit.instruction.valid), self.bits.eq(unit.instruction.p.bits),
        ]
        return m


@pytest.mark.parametrize("kind", [Unit.LOAD_H, Unit.STORE])
def test_against_a_list(kind):
    """What is pushed in t is seen from t + 1 on; what is taken in d leaves in d + 1: the next one and a free place are seen in d + 2."""
    seed = kind.value
    print(f"seed {seed}")
    rng = random.Random(seed)
    bench, queue, leaving, seen = Bench(kind), [], False, {"full": 0, "taken": 0, "masked": 0}

    async def drive(ctx):
        nonlocal leaving
        for _ in range(600):
            push, take, entry = rng.random() < 0.5, rng.random() < 0.4, rng.getrandbits(unit_bits(CONFIG, kind))
            ctx.set(bench.push, push)
            ctx.set(bench.entry, entry)
            ctx.set(bench.take, take)
            visible = bool(queue) and not leaving
            full = len(queue) == DEPTH
            assert ctx.get(bench.full) == full
            assert ctx.get(bench.valid) == visible
            if visible:
                assert ctx.get(bench.bits) == queue[0]
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

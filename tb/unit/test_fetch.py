"""Fetch: every beat and instruction in its cycle, for beats narrower and wider than an instruction; the same under back-pressure."""

import dataclasses
import random

import pytest
from amaranth.hdl import ResetInserter, Signal
from amaranth.sim import Simulator

from gen.config import Config
from gen.isa import BY_CODE, FLOATING, Unit
from gen.presets import PRESETS
from rtl.control.fetch import Fetch
from rtl.instruction import shown_bits
from rtl.interfaces import Tag
from tb.unit.memory_model import MemoryModel


def config_of(beat: int) -> Config:
    base = PRESETS["tiny"]
    return dataclasses.replace(
        base,
        array=dataclasses.replace(base.array, side=max(2, beat // 16)),
        memory=dataclasses.replace(base.memory, bytes_per_cycle=beat, latency=7),
        buffers=dataclasses.replace(base.buffers, moving_words=256, store_lanes=2, slice_words=512),
        control=dataclasses.replace(base.control, fetch_depth=32),
    )


def expected(config: Config, count: int, ready: list[bool]) -> tuple[list[int], list[int]]:
    """Cycles of the accepted beats and of the pops, straight from the rules: nothing pauses but the dispatcher (`ready` by cycle)."""
    burst, beat = max(4, config.memory.bytes_per_cycle // 32), config.memory.bytes_per_cycle
    beats = burst * 32 // beat
    accepted: list[int] = []
    pops: list[int] = []
    available: dict[int, int] = {}      # instruction -> cycle
    allocated, idle_at, cycle = 0, 0, 0
    while len(pops) < count:
        popped = sum(pop < cycle - 1 for pop in pops)       # visible in this cycle
        if idle_at <= cycle and allocated < count and allocated - popped + burst <= config.control.fetch_depth:
            for i in range(burst):
                available[allocated + i] = cycle + 1 + ((i + 1) * 32 - 1) // beat + config.memory.latency + 1
            accepted += range(cycle + 1, cycle + 1 + beats)
            allocated += burst
            idle_at = cycle + beats + 1
        if available.get(popped, cycle + 1) <= cycle and popped == len(pops) and ready[cycle]:
            pops.append(cycle)
        cycle += 1
    return accepted, pops


def simulate(config: Config, count: int, ready: list[bool], *, pause: float = 0.0):
    rng = random.Random(5)
    program = 128 * max(1, config.memory.bytes_per_cycle // 32)
    data = bytearray(rng.randbytes(program + 32 * count + 2048))
    kept = shown_bits(config) - 1       # of the bits behind, only whether any is set
    for i in range(0, count, 3):
        word = rng.getrandbits(kept) | (i & 1) << kept      # none is, or the first one
        data[program + 32 * i:program + 32 * i + 32] = word.to_bytes(32, "little")
    fetch = Fetch(config)
    memory = MemoryModel(fetch.request, fetch.response, data=data, latency=config.memory.latency, beat=config.memory.bytes_per_cycle,
                         pause=pause)
    pops: list[tuple[int, int]] = []

    held = Signal(init=1)
    memory.cycle = -2

    async def bench(ctx):
        ctx.set(fetch.program, program)
        ctx.set(fetch.count, count)
        await ctx.tick().repeat(2)
        ctx.set(held, 0)
        for cycle, takes in enumerate(ready):
            ctx.set(fetch.instruction.ready, takes)
            gone = sum(pop < cycle - 1 for pop, _ in pops)
            assert ctx.get(fetch.index) == gone
            assert ctx.get(fetch.exhausted) == (gone == count)
            if gone < len(pops):        # on its way
                assert not ctx.get(fetch.instruction.valid) and ctx.get(fetch.instruction.payload) == pops[-1][1]
            if takes and ctx.get(fetch.instruction.valid):
                pops.append((cycle, ctx.get(fetch.instruction.payload)))
                op = BY_CODE.get(pops[-1][1] & 15)
                assert ctx.get(fetch.group) == pops[-1][1] >> 8 & 3
                assert ctx.get(fetch.ends) == (op is not None and op.name == "End")
                if op is None or op.name in FLOATING:
                    assert ctx.get(fetch.kind) == 0
                else:
                    assert ctx.get(fetch.kind) == 1 << (Unit.VECTOR if op.unit is None else op.unit)
            await ctx.tick()
        assert not ctx.get(fetch.busy)

    simulator = Simulator(ResetInserter(held)(fetch))
    simulator.add_clock(1e-6)
    simulator.add_testbench(memory.process, background=True)
    simulator.add_testbench(bench)
    simulator.run()
    instructions = [int.from_bytes(data[program + 32 * i:program + 32 * i + 32], "little") for i in range(count)]
    assert [item for _, item in pops] == [word & (1 << kept) - 1 | bool(word >> kept) << kept for word in instructions]
    beats = [beat for _, beat in memory.beats]
    step, burst = config.memory.bytes_per_cycle, config.fetch_beats
    assert [beat["address"] for beat in beats] == [program + step * i for i in range(len(beats))]
    assert [beat["beats"] for beat in beats] == [burst - i % burst for i in range(len(beats))]
    assert all(beat["last"] == (beat["beats"] == 1) and beat["tag"] == Tag.FETCH and not beat["write"] for beat in beats)
    return [cycle for cycle, _ in memory.beats], [cycle for cycle, _ in pops]


@pytest.mark.parametrize("beat", [4, 16, 32, 64, 256])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_every_cycle(beat, seed):
    print(f"seed {seed}")
    rng = random.Random(seed)
    config, count = config_of(beat), 77 if beat > 4 else 42
    share = (1.0, 0.5, 0.1)[seed]       # a dispatcher that is always ready, sometimes, rarely
    ready = [rng.random() < share for _ in range(1100)]
    assert simulate(config, count, ready) == expected(config, count, ready)


@pytest.mark.parametrize("beat", [8, 128])
def test_back_pressure_changes_only_the_timing(beat):
    rng = random.Random(9)
    simulate(config_of(beat), 40, [rng.random() < 0.5 for _ in range(1500)], pause=0.5)


def test_no_instructions():
    config = config_of(16)
    assert simulate(config, 0, [True] * 10) == ([], [])


def test_answers_for_others_are_not_instructions():
    fetch = Fetch(config_of(16))

    async def bench(ctx):
        ctx.set(fetch.count, 4)
        ctx.set(fetch.response.valid, 1)
        ctx.set(fetch.response.payload, {"tag": Tag.DMA_IN, "data": 0})
        await ctx.tick().repeat(2)
        for _ in range(40):
            assert ctx.get(fetch.busy) and not ctx.get(fetch.instruction.valid)
            await ctx.tick()

    simulator = Simulator(fetch)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()

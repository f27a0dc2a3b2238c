"""DMA_IN and DMA_OUT: addresses, bursts and data against plain loops, decisions and tokens in their cycles, back-pressure."""

import dataclasses
import random
from collections import deque

import pytest
from amaranth.sim import Simulator

from gen.config import Config
from gen.isa import Instruction
from gen.presets import PRESETS
from rtl.control.dma_in import DmaIn
from rtl.control.dma_out import DmaOut
from tb.unit.memory_model import MemoryModel

MEMORY = 1 << 14


def config_of(beat: int, latency: int) -> Config:
    tiny = PRESETS["tiny"]
    return dataclasses.replace(tiny, memory=dataclasses.replace(tiny.memory, bytes_per_cycle=beat, latency=latency, burst_beats=4),
                               control=dataclasses.replace(tiny.control, landing_depth=2))


def program(rng: random.Random, name: str, beat: int, length: int) -> list[Instruction]:
    """Transfers with room between them, so that the order of writes cannot matter."""
    found = []
    for number in range(length):
        chunks, beats = rng.choice([(1, 1), (1, 9), (3, 1), (3, 4), (2, 6), (4, 5)])
        found.append(Instruction(
            name, memory=number * 1024 + beat * rng.randrange(4), slice=rng.randrange(3), address=number * 512 + rng.randrange(64),
            chunks=chunks, beats=beats, memory_stride=beat * (beats + rng.randrange(3)), buffer_stride=beats * beat // 2 + rng.randrange(5),
            group=rng.randrange(4), wait=rng.choice([0, 3]), signal=1 << number))
    return found


def walk(item: Instruction, step: int, base: str, stride: str) -> list[int]:
    return [item.values[base] + chunk * item.values[stride] + beat * step for chunk in range(item.chunks) for beat in range(item.beats)]


def bursts(item: Instruction, longest: int) -> list[int]:
    """`beats` field of every beat: what is left of its burst."""
    return [min(longest, item.beats - beat // longest * longest) - beat % longest for _ in range(item.chunks) for beat in range(item.beats)]


class Tokens:
    """The tokens' side of a unit's port: ready at random, and notes takes and signals by cycle."""

    def __init__(self, rng: random.Random, share: float, cycles: int):
        self.granted = [rng.random() < share for _ in range(cycles)]
        self.takes: list[tuple[int, int]] = []
        self.signals: list[tuple[int, int, int]] = []

    def step(self, ctx, port, cycle: int):
        ctx.set(port.ready, self.granted[cycle] or not ctx.get(port.wait))
        if ctx.get(port.take):
            self.takes.append((cycle, ctx.get(port.group)))
        if ctx.get(port.signal):
            self.signals.append((cycle, ctx.get(port.signal), ctx.get(port.signal_group)))

    def first(self, item: Instruction, cycle: int) -> int:
        """First cycle from `cycle` on in which the item's tokens are there."""
        while item.wait and not self.granted[cycle]:
            cycle += 1
        return cycle


def feed(ctx, unit, queue: deque, leaving: bool):
    """Shows the head of a queue of (index, instruction); in the cycle after it was taken anything, without `valid`."""
    ctx.set(unit.instruction.valid, bool(queue) and not leaving)
    if leaving:
        ctx.set(unit.instruction.payload, {"index": 99, "bits": (1 << len(unit.instruction.p.bits)) - 1})
    elif queue:
        index, item = queue[0]
        bits = int.from_bytes(item.encode(), "little")
        ctx.set(unit.instruction.payload, {"index": index, "bits": bits & (1 << len(unit.instruction.p.bits)) - 1})


CASES = [(4, 6, 0.0, 1.0), (4, 1, 0.0, 0.3), (8, 30, 0.0, 1.0), (2, 5, 0.0, 0.5), (4, 9, 0.4, 0.5)]


@pytest.mark.parametrize(("beat", "latency", "pause", "share"), CASES)
@pytest.mark.parametrize("seed", [1, 2])
def test_dma_in(seed, beat, latency, pause, share):
    print(f"seed {seed}")
    rng = random.Random(seed)
    config, cycles = config_of(beat, latency), 900
    items = program(rng, "DmaIn", beat, 12)
    tokens, waiting = Tokens(rng, share, cycles), deque(enumerate(items))
    unit = DmaIn(config)
    data = bytearray(rng.randbytes(MEMORY))
    memory = MemoryModel(unit.request, unit.response, data=data, latency=latency, beat=beat, pause=pause, seed=seed)
    written: dict = {}
    writes: list[int] = []
    idle: list[bool] = []

    async def bench(ctx):
        leaving = False
        for cycle in range(cycles):
            feed(ctx, unit, waiting, leaving)
            tokens.step(ctx, unit.tokens, cycle)
            idle.append(ctx.get(unit.idle))
            assert ctx.get(unit.waiting) == (idle[-1] and bool(waiting) and not leaving)
            if ctx.get(unit.write.enable):
                assert ctx.get(unit.write.enable) == (1 << config.beat_words) - 1
                writes.append(cycle)
                for i, word in enumerate(unit.write.data):
                    place = ctx.get(unit.write_group), ctx.get(unit.write.slice), ctx.get(unit.write.address) + i
                    assert place not in written
                    written[place] = ctx.get(word)
            if leaving:
                waiting.popleft()
            leaving = bool(ctx.get(unit.instruction.ready) and ctx.get(unit.instruction.valid))
            await ctx.tick()

    simulator = Simulator(unit)
    simulator.add_clock(1e-6)
    simulator.add_testbench(memory.process, background=True)
    simulator.add_testbench(bench)
    simulator.run()

    want, side = {}, config.array.side
    for item in items:
        for source, target in zip(walk(item, beat, "memory", "memory_stride"), walk(item, config.beat_words, "address", "buffer_stride")):
            for i in range(config.beat_words):
                want[item.group, item.slice, target + i] = int.from_bytes(memory.data[source + side * i:source + side * (i + 1)], "little")
    assert written == want
    assert [beat_["address"] for _, beat_ in memory.beats] == [a for item in items for a in walk(item, beat, "memory", "memory_stride")]
    assert [beat_["beats"] for _, beat_ in memory.beats] == [left for item in items for left in bursts(item, 4)]
    assert all(beat_["last"] == (beat_["beats"] == 1) and beat_["tag"] == 1 for _, beat_ in memory.beats)
    assert [(signal, group) for _, signal, group in tokens.signals] == [(item.signal, item.group) for item in items]
    assert [group for _, group in tokens.takes] == [item.group for item in items]
    if pause:
        return
    decision, asked, landed, signals = 0, [], [], []
    for number, item in enumerate(items):
        if number >= config.control.landing_depth:
            decision = max(decision, landed[number - config.control.landing_depth] + 1)
        decision = tokens.first(item, decision)
        assert tokens.takes[number][0] == decision
        beats = item.chunks * item.beats
        asked += range(decision + 3, decision + 3 + beats)
        landed.append(asked[-1] + latency)
        signals.append(landed[-1] + 1)
        decision = asked[-1] + 1
    assert [cycle for cycle, _ in memory.beats] == asked
    assert writes == [cycle + latency + 1 for cycle in asked]
    assert [cycle for cycle, _, _ in tokens.signals] == signals
    assert not idle[signals[-1]] and idle[signals[-1] + 1]


@pytest.mark.parametrize(("beat", "latency", "pause", "share"), CASES)
@pytest.mark.parametrize("seed", [1, 2])
def test_dma_out(seed, beat, latency, pause, share):
    print(f"seed {seed}")
    rng = random.Random(seed)
    config, cycles = config_of(beat, latency), 900
    items = program(rng, "DmaOut", beat, 12)
    tokens, waiting = Tokens(rng, share, cycles), deque(enumerate(items))
    unit = DmaOut(config)
    memory = MemoryModel(unit.request, None, data=bytearray(MEMORY), latency=latency, beat=beat, pause=pause, seed=seed)
    side = config.array.side

    def stored(group: int, part: int, address: int) -> int:
        return (group * 7919 + part * 104729 + address * 31337) % (1 << 8 * side)

    async def bench(ctx):
        coming: deque = deque([None, None, None])
        leaving = False
        for cycle in range(cycles):
            feed(ctx, unit, waiting, leaving)
            words = coming.popleft()
            for i, word in enumerate(unit.read.data):   # nothing but the asked-for words may be used
                ctx.set(word, words[i] if words else rng.getrandbits(8 * side))
            tokens.step(ctx, unit.tokens, cycle)
            place = ctx.get(unit.read_group), ctx.get(unit.read.slice)
            coming.append([stored(*place, ctx.get(address)) for address in unit.read.addresses] if ctx.get(unit.read.enable) else None)
            if leaving:
                waiting.popleft()
            leaving = bool(ctx.get(unit.instruction.ready) and ctx.get(unit.instruction.valid))
            await ctx.tick()

    simulator = Simulator(unit)
    simulator.add_clock(1e-6)
    simulator.add_testbench(memory.process, background=True)
    simulator.add_testbench(bench)
    simulator.run()

    want = []
    for item in items:
        targets, sources = walk(item, beat, "memory", "memory_stride"), walk(item, config.beat_words, "address", "buffer_stride")
        for target, source, left in zip(targets, sources, bursts(item, 4)):
            value = sum(stored(item.group, item.slice, source + i) << 8 * side * i for i in range(config.beat_words))
            want.append({"write": 1, "tag": 2, "last": left == 1, "beats": left, "address": target, "data": value})
    assert [beat_ for _, beat_ in memory.beats] == want
    assert [(signal, group) for _, signal, group in tokens.signals] == [(item.signal, item.group) for item in items]
    ends, at = [], -1
    for item in items:
        at += item.chunks * item.beats
        ends.append(memory.beats[at][0])
    assert [cycle for cycle, _, _ in tokens.signals] == [end + 1 for end in ends]
    if pause:
        return
    decision, sent = 0, []
    for number, item in enumerate(items):
        decision = tokens.first(item, decision)
        assert tokens.takes[number][0] == decision
        sent += range(decision + 6, decision + 6 + item.chunks * item.beats)
        decision = sent[-1] + 2
    assert [cycle for cycle, _ in memory.beats] == sent


"""The bridge between accelerator and DRAM: random bursts against a byte array, with a memory that answers in any order."""

import random
from collections import deque

import pytest
from amaranth.sim import Simulator

from gen.config import Array, Buffers, Config, Memory
from gen.dram import DramConfig, part
from gen.presets import PRESETS
from rtl.memory.bridge import Bridge
from tb.unit.refused import refused

# bytes of a block: 16, 32, 64
MEMORIES = {
    16: DramConfig(part=part("is42s16160g-7"), reserved=0),
    32: DramConfig(part=part("em638325-6"), reserved=0),
    64: DramConfig(part=part("ddr4-2400r"), reserved=0, channels=2, ranks=2),
}
BEATS = {config.memory.bytes_per_cycle: config for config in PRESETS.values()}
BEATS[64] = Config(array=Array(side=16), buffers=Buffers(), memory=Memory(bytes_per_cycle=64))
SIZE = 4096          # bytes in use


class AnyOrder:
    """Serves requests: order is kept within a block only, answers come in any order, at most one a channel and cycle."""

    def __init__(self, bridge: Bridge, rng: random.Random, *, pause: float, delay: tuple[int, int], interval: int = 1):
        self.bridge, self.rng, self.pause, self.delay, self.interval = bridge, rng, pause, delay, interval
        self.size = bridge.block_bytes
        self.data = bytearray(rng.randbytes(SIZE))
        self.reads: list[int] = []
        self.writes: list[tuple[int, int]] = []
        self.most = 0

    async def process(self, ctx):
        port, waiting, cycle, free = self.bridge.dram, [], 0, 0
        channels = len(port.responses)
        while True:
            ready = cycle >= free and self.rng.random() >= self.pause
            ctx.set(port.request.ready, ready)
            for channel in range(channels):
                due = [item for item in waiting if item[0] <= cycle and item[1] == channel]
                ctx.set(port.responses[channel].valid, bool(due))
                if due:
                    item = self.rng.choice(due)
                    waiting.remove(item)
                    ctx.set(port.responses[channel].payload, {"tag": item[2], "data": item[3]})
            _, _, valid, request = await ctx.tick().sample(port.request.valid, port.request.payload)
            if valid and ready:
                free = cycle + self.interval
                place = slice(request.block * self.size, (request.block + 1) * self.size)
                assert place.stop <= SIZE
                old = int.from_bytes(self.data[place], "little")
                if request.write:
                    keep = sum(0 if request.mask >> i & 1 else 0xFF << 8 * i for i in range(self.size))
                    self.data[place] = (old & keep | request.data & ~keep).to_bytes(self.size, "little")
                    self.writes.append((request.block, request.mask))
                else:
                    self.reads.append(request.block)
                    waiting.append((cycle + self.rng.randint(*self.delay), self.rng.randrange(channels), request.tag, old))
                    tags = [item[2] for item in waiting]
                    assert len(set(tags)) == len(tags), "a tag is used twice"
                    self.most = max(self.most, len(waiting))
            cycle += 1


def random_bursts(rng: random.Random, beat: int, count: int) -> list[tuple]:
    """Bursts of a few beats, mostly near each other: (write, tag, address, beats)."""
    bursts = []
    for _ in range(count):
        beats = rng.choice([1, 1, 2, 3, 8, 16])
        if beat * beats > SIZE:
            beats = 1
        last = (SIZE - beat * beats) // beat
        spread = min(last, rng.choice([2, 8, last]))
        write = rng.random() < 0.5
        bursts.append((write, 2 if write else rng.randrange(2), beat * rng.randint(0, spread), beats))
    return bursts


def play(beat: int, block: int, bursts: list[tuple], *, seed: int, pause: float = 0.0, gaps: float = 0.0, delay=(1, 60), interval: int = 1,
         reads: int = 32):
    """Runs bursts and checks every answer and the memory's final content. Returns the memory and the cycle of the last answer."""
    rng = random.Random(seed)
    bridge = Bridge(BEATS[beat], MEMORIES[block], reads=reads)
    memory = AnyOrder(bridge, rng, pause=pause, delay=delay, interval=interval)
    content, expected, ended = bytearray(memory.data), deque(), []

    async def bench(ctx):
        cycle, items = 0, deque()
        for write, tag, address, beats in bursts:
            for i in range(beats):
                items.append((write, tag, address + i * beat, beats - i, rng.getrandbits(8 * beat) if write else 0))
        offered, quiet = False, 0
        while items or expected or quiet < 2:
            offered = bool(items) and (offered or rng.random() >= gaps)
            ctx.set(bridge.accelerator.request.valid, offered)
            if offered:
                write, tag, address, left, value = items[0]
                ctx.set(bridge.accelerator.request.payload, {
                    "write": write, "tag": tag, "address": address, "beats": left, "last": left == 1, "data": value})
            quiet = quiet + 1 if ctx.get(bridge.idle) and not items else 0
            ready = ctx.get(bridge.accelerator.request.ready)
            if offered and ready:
                items.popleft()
                offered = False
                if write:
                    content[address:address + beat] = value.to_bytes(beat, "little")
                else:
                    expected.append((tag, int.from_bytes(content[address:address + beat], "little")))
            if ctx.get(bridge.accelerator.response.valid):
                answer = ctx.get(bridge.accelerator.response.payload)
                assert (answer.tag, answer.data) == expected.popleft(), f"cycle {cycle}"
                ended.append(cycle)
            cycle += 1
            assert cycle < 60_000
            await ctx.tick()

    simulator = Simulator(bridge)
    simulator.add_clock(1e-6)
    simulator.add_process(memory.process)
    simulator.add_testbench(bench)
    simulator.run()
    assert memory.data == content
    return memory, (ended or [0])[-1]


@pytest.mark.parametrize("block", sorted(MEMORIES))
@pytest.mark.parametrize("beat", sorted(BEATS))
def test_random_bursts(beat, block):
    seed = 100 * beat + block
    print(f"seed {seed}")
    rng = random.Random(seed)
    for pause, gaps, reads in ((0.0, 0.0, 32), (0.4, 0.3, 16)):
        play(beat, block, random_bursts(rng, beat, 60 if beat < 256 else 24), seed=seed, pause=pause, gaps=gaps, reads=reads)


@pytest.mark.parametrize("block", [16, 64])
def test_pieces_join_until_the_last_has_left(block):
    """Beats asked for one by one, some in the very cycle in which all that were asked for before have left."""
    print("seed 9")
    bursts = [(False, address // 512 % 2, address, 1) for address in range(0, SIZE // 2, 4)]
    play(4, block, bursts, seed=9, gaps=0.7, delay=(1, 4))


@pytest.mark.parametrize("block", sorted(MEMORIES))
@pytest.mark.parametrize("beat", [4, 16, 64])
def test_each_block_moves_once(beat, block):
    """Consecutive beats: a block is read once, and written once with all its bytes."""
    half = SIZE // 2
    bursts = [(False, 1, address, 64 // beat) for address in range(0, half, 64)] + \
             [(True, 2, address, 64 // beat) for address in range(half, SIZE, 64)]
    memory, _ = play(beat, block, bursts, seed=5)
    assert memory.reads == list(range(half // block))
    assert memory.writes == [(number, (1 << block) - 1) for number in range(half // block, SIZE // block)]


@pytest.mark.parametrize(("beat", "block", "interval"), [(16, 64, 4), (64, 64, 4), (16, 16, 1), (256, 64, 2), (4, 16, 8)])
def test_bandwidth(beat, block, interval):
    """With a latency of 60 cycles and a block every `interval` cycles, reads are limited by the slower of port and memory."""
    memory, end = play(beat, block, [(False, 0, address, max(1, 64 // beat)) for address in range(0, SIZE, max(64, beat))],
                       seed=1, delay=(60, 60), interval=interval, reads=64)
    pieces, blocks = SIZE // min(beat, block), SIZE // block
    assert end <= max(pieces, interval * blocks) + 60 + 12
    assert memory.most >= min(8, 60 // interval - 1)


def test_part_of_a_block_goes_out_by_itself():
    memory, _ = play(4, 64, [(True, 2, 64, 3)], seed=1)
    assert memory.writes == [(1, 0xFFF)]


def test_a_read_sends_its_block_out_first():
    """Before the time is over in which a gathered block goes by itself."""
    memory, end = play(4, 64, [(True, 2, 64, 3), (False, 1, 68, 1)], seed=1, delay=(1, 1))
    assert memory.writes == [(1, 0xFFF)] and end <= 12


@pytest.mark.parametrize("reads", [4, 33, 2048])
def test_refused(reads):
    assert refused(lambda: Bridge(BEATS[4], MEMORIES[16], reads=reads)) == \
        f"reads = {reads} is outside the powers of two in 8..1024 blocks"

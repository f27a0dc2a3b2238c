"""Main memory on chip: every read to the cycle, against a dictionary of beats."""

import random

import pytest
from amaranth.sim import Simulator

from gen.config import Array, Buffers, Config, Memory
from rtl.memory.on_chip import OnChipMemory
from tb.unit.refused import refused


def config(unit: int, latency: int) -> Config:
    """A machine whose memory has this beat and latency."""
    return Config(array=Array(side=min(unit, 8)), buffers=Buffers(store_lanes=1), memory=Memory(bytes_per_cycle=unit, latency=latency))


@pytest.mark.parametrize("unit, latency, size", [(1, 2, 2), (4, 2, 256), (8, 3, 1024), (16, 7, 512)])
def test_to_the_cycle(unit, latency, size):
    seed = latency
    print(f"seed {seed}")
    rng = random.Random(seed)
    memory, beats, due = OnChipMemory(config(unit, latency), size_bytes=size), {}, {}

    async def bench(ctx):
        port = memory.port
        for cycle in range(600):
            valid, write, tag = rng.random() < 0.8, rng.random() < 0.5, rng.randrange(3)
            number, data = rng.randrange(min(size // unit, 16)), rng.getrandbits(8 * unit)
            address = unit * number + size * rng.choice([0, 0, 1, 5])       # addresses behind the end wrap
            ctx.set(port.request.valid, valid)
            ctx.set(port.request.payload, {"write": write, "tag": tag, "last": 1, "beats": 1, "address": address, "data": data})
            assert ctx.get(port.request.ready)
            answer = due.pop(cycle, None)
            assert ctx.get(port.response.valid) == (answer is not None)
            if answer is not None:
                payload = ctx.get(port.response.payload)
                assert (payload.tag, payload.data) == answer
            if valid and write:
                beats[number] = data
            elif valid:
                due[cycle + latency] = tag, beats.get(number, 0)
            await ctx.tick()

    simulator = Simulator(memory)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


def test_all_of_it_is_there():
    memory = OnChipMemory(config(8, 2), size_bytes=1024)

    async def bench(ctx):
        port = memory.port
        ctx.set(port.request.valid, 1)
        for write in (1, 0):
            for cycle in range(128 + 2):
                ctx.set(port.request.payload, {"write": write and cycle < 128, "tag": 0, "last": 1, "beats": 1, "address": 8 * cycle,
                                               "data": cycle * 0x01010101})
                if not write and cycle >= 2:
                    assert ctx.get(port.response.p.data) == (cycle - 2) * 0x01010101
                await ctx.tick()

    simulator = Simulator(memory)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


def test_refused():
    assert refused(lambda: OnChipMemory(config(8, 1), size_bytes=1024)) == (
        "memory.latency = 1 is outside 2..1024 cycles (main memory on chip)")
    for size in (0, 8, 1000, 1 << 25):
        assert refused(lambda size=size: OnChipMemory(config(8, 2), size_bytes=size)) == (
            f"size_bytes = {size} must be a power of two in 16..16777216 bytes (main memory on chip)")

"""Global buffer: words, banks, latencies and collisions against a plain array of words."""

import dataclasses

import numpy as np
import pytest
from amaranth.sim import Simulator

from gen.config import Array, Buffers, Config, Memory, Unit, Vector
from rtl.buffer.global_buffer import GlobalBuffer


def names(config: Config) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of the read and of the write ports."""
    if config.array.dtype == "bf16":
        return ("load_h", "load_v", "dma_out", "vector_a", "vector_b"), ("dma_in", "store_write", "vector_write")
    return ("load_h", "load_v", "dma_out", "store_read"), ("dma_in", "store_write")


CONFIGS = [
    Config(array=Array(side=side, unit=unit), memory=Memory(bytes_per_cycle=beat), name=f"{unit}{side}_beat{beat}",
           buffers=Buffers(slices=slices, slice_words=16 * max(4, beat // side), store_lanes=1))
    for side, unit, beat, slices in [(2, Unit.FLEX, 4, 4), (1, Unit.FLEX, 8, 3), (4, Unit.SINGLE, 4, 5), (2, Unit.QUAD, 16, 3)]
]
CONFIGS += [dataclasses.replace(config, vector=Vector(window=0)).as_bf16() for config in CONFIGS[::2]]
every_config = pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.name)


def simulate(dut, bench):
    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


def as_int(word):
    return int.from_bytes(bytes(word), "little")


@pytest.mark.parametrize("seed", range(2))
@every_config
def test_random_traffic(config, seed):
    """Every port busy in slices of its own choice, without collisions; a write presented in t is seen by reads issued from t + 2."""
    print("seed", seed)
    rng = np.random.default_rng(seed)
    dut = GlobalBuffer(config)
    bytes_, banks, size, slices = config.word_bytes, config.banks, config.buffers.slice_words, config.buffers.slices
    store = np.zeros((slices, size, bytes_), np.uint8)
    readers, writers = names(config)
    pending, expected = [], {}

    async def bench(ctx):
        for cycle in range(100):
            # Writes of cycle - 2 become visible; one of cycle - 1 is avoided by the reads below.
            for _, s, address, word in [p for p in pending if p[0] <= cycle - 2]:
                store[s, address] = word
            pending[:] = [p for p in pending if p[0] > cycle - 2]
            wanted = expected.pop(cycle, {})
            for (name, lane), word in wanted.items():
                assert ctx.get(getattr(dut, name).data[lane]) == as_int(word), (cycle, name, lane)
            for members, ports in ((readers, "read"), (writers, "write")):
                where = rng.permutation(slices)
                for i, name in enumerate(members):
                    port = getattr(dut, name)
                    enable = bool(rng.integers(0, 4)) and i < slices
                    if ports == "read":
                        ctx.set(port.enable, enable)
                        if not enable:
                            continue
                        ctx.set(port.slice, int(where[i]))
                        lanes = len(port.addresses)
                        chosen = [int(rng.integers(size // banks)) * banks + int(b) for b in rng.permutation(banks)[:lanes]]
                        if lanes == 4 and rng.integers(2):
                            chosen[2:] = chosen[:2]     # the same words twice
                        if name != "load_h" and (name, config.array.dtype) != ("load_v", "bf16"):       # consecutive words
                            run = [0, *rng.integers(0, banks, lanes)[1:]] if name == "load_v" else range(lanes)
                            chosen = [(chosen[0] + int(step)) % size for step in run]
                        for lane, address in enumerate(chosen):
                            ctx.set(port.addresses[lane], address + size * int(rng.integers(0, 65536 // size)))
                            if not any(p[1] == where[i] and p[2] == address for p in pending):
                                expected.setdefault(cycle + 3, {})[name, lane] = store[where[i], address].copy()
                    else:
                        lanes = len(port.data)
                        mask = int(rng.integers(0, 1 << lanes)) if enable else 0
                        address = int(rng.integers(0, size))
                        ctx.set(port.enable, mask)
                        ctx.set(port.slice, int(where[i]))
                        ctx.set(port.address, address)
                        for lane in range(lanes):
                            word = rng.integers(0, 256, bytes_).astype(np.uint8)
                            place = (address + lane) % config.planes if name != "dma_in" else lane
                            ctx.set(port.data[place], as_int(word))
                            if mask >> place & 1:
                                pending.append((cycle, where[i], (address + lane) % size, word))
            assert not ctx.get(dut.collision)
            await ctx.tick()

    simulate(dut, bench)


@every_config
def test_write_is_readable_two_cycles_later(config):
    dut, place = GlobalBuffer(config), 7 % config.planes
    read = getattr(dut, names(config)[0][3])

    async def bench(ctx):
        for cycle in range(8):
            ctx.set(dut.store_write.enable, 1 << place if cycle == 1 else 0)
            ctx.set(dut.store_write.slice, 2)
            ctx.set(dut.store_write.address, 7)
            ctx.set(dut.store_write.data[place], 0x5A)
            ctx.set(read.enable, cycle == 3)
            ctx.set(read.slice, 2)
            ctx.set(read.addresses[0], 7)
            if cycle == 6:
                assert ctx.get(read.data[0]) == 0x5A
            await ctx.tick()

    simulate(dut, bench)


def test_first_lane_wins_a_bank():
    """An unused higher lane in the bank of a lower one does not spoil it."""
    config = CONFIGS[0]
    dut = GlobalBuffer(config)

    async def bench(ctx):
        for row in range(4):
            ctx.set(dut.store_write.enable, 15)
            ctx.set(dut.store_write.address, 4 * row)
            for lane in range(4):
                ctx.set(dut.store_write.data[lane], 16 * row + lane)
            await ctx.tick()
        ctx.set(dut.store_write.enable, 0)
        await ctx.tick()
        ctx.set(dut.load_h.enable, 1)
        for lane, address in enumerate((1, 6, 9, 14)):
            ctx.set(dut.load_h.addresses[lane], address)
        await ctx.tick().repeat(3)
        assert ctx.get(dut.load_h.data[0]) == 0x01
        assert ctx.get(dut.load_h.data[1]) == 0x12

    simulate(dut, bench)


@pytest.mark.parametrize("config", [CONFIGS[0], CONFIGS[-1]], ids=lambda config: config.name)
def test_collision(config):
    """Every pair of one kind in one slice is reported in the next cycle; a reader beside a writer, or different slices, are not."""
    dut, (readers, writers) = GlobalBuffer(config), names(config)

    async def bench(ctx):
        ports = [getattr(dut, name) for name in (*readers, *writers)]
        for i, first in enumerate(ports):
            for j, second in enumerate(ports[:i]):
                for same in (0, 1):
                    for port in ports:
                        ctx.set(port.enable, 0)
                    for port, where in ((first, 1), (second, 1 if same else 3)):
                        ctx.set(port.enable, 1)
                        ctx.set(port.slice, where)
                    await ctx.tick()
                    assert ctx.get(dut.collision) == (same and (i >= len(readers)) == (j >= len(readers)))
                    for port in ports:
                        ctx.set(port.enable, 0)
                    await ctx.tick()
                    assert not ctx.get(dut.collision)

    simulate(dut, bench)

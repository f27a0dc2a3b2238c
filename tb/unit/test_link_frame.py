"""CRC against zlib; escapes both ways, with streams that pause; the buffer of received bytes against a queue."""

import random
import zlib

import pytest
from amaranth.sim import Simulator

from rtl.link.frame import RESIDUE, Crc32, Escape, Unescape
from rtl.link.receive_buffer import ReceiveBuffer
from tb.unit.refused import refused

FLAG, ESCAPE = 0x7E, 0x7D


def simulate(component, bench):
    """Run one testbench."""
    simulator = Simulator(component)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


def test_crc():
    """Against zlib, with pauses and restarts; behind message and CRC the register holds the residue; a CRC leaves byte by byte."""
    rng, crc = random.Random(1), Crc32()

    async def step(ctx, byte: int):
        ctx.set(crc.step, 1)
        ctx.set(crc.byte, byte)
        await ctx.tick()
        ctx.set(crc.step, 0)
        ctx.set(crc.byte, rng.randrange(256))
        await ctx.tick().repeat(rng.randrange(1, 3))

    async def bench(ctx):
        for size in (0, 1, 2, 3, 4, 17, 100):
            message = rng.randbytes(size)
            for byte in message:
                await step(ctx, byte)
            check = zlib.crc32(message)
            assert ctx.get(crc.value) ^ 0xFFFFFFFF == check
            if size % 2:
                for byte in check.to_bytes(4, "little"):
                    await step(ctx, byte)
                assert ctx.get(crc.value) == RESIDUE
            else:
                sent = []
                for _ in range(4):
                    low = ctx.get(crc.value) & 0xFF
                    sent.append(low ^ 0xFF)
                    await step(ctx, low)
                assert bytes(sent) == check.to_bytes(4, "little")
            ctx.set(crc.restart, 1)
            ctx.set(crc.step, rng.randrange(2))
            await ctx.tick()
            ctx.set(crc.restart, 0)
            ctx.set(crc.step, 0)

    simulate(crc, bench)


async def carry(ctx, source, sink, items, rng, stalls: float, cycles: int) -> list:
    """Offer items on one stream and collect those of the other, both with pauses. What is offered stands until it is taken."""
    left, got, offered = list(items), [], False
    for _ in range(cycles):
        offered = offered or (bool(left) and rng.random() >= stalls)
        ctx.set(source.valid, offered)
        if offered:
            ctx.set(source.payload, left[0])
        ready = rng.random() >= stalls
        ctx.set(sink.ready, ready)
        taken, valid, payload = ctx.get(source.ready), ctx.get(sink.valid), ctx.get(sink.payload)
        if offered and taken:
            left.pop(0)
            offered = False
        if ready and valid:
            got.append(payload)
        await ctx.tick()
    assert not left
    return got


@pytest.mark.parametrize("stalls", [0.0, 0.5])
def test_unescape(stalls):
    rng, dut = random.Random(2), Unescape()
    # received bytes, and what they are: data, end, damaged
    cases = [
        ([0x41], (0x41, 0, 0)), ([FLAG], (None, 1, 0)), ([ESCAPE, 0x5E], (FLAG, 0, 0)), ([ESCAPE, 0x5D], (ESCAPE, 0, 0)),
        ([ESCAPE, 0x00], (0x20, 0, 0)), ([ESCAPE, ESCAPE], (0x5D, 0, 0)), ([ESCAPE, FLAG], (None, 1, 1)), ([0x41 | 256], (None, 0, 1)),
        ([FLAG | 256], (None, 0, 1)), ([ESCAPE | 256], (None, 0, 1)), ([ESCAPE, FLAG | 256], (None, 0, 1)),
    ]
    chosen = [*cases, *(rng.choice(cases) for _ in range(100))]
    offered = [{"data": byte & 255, "error": byte >> 8} for received, _ in chosen for byte in received]

    async def bench(ctx):
        got = await carry(ctx, dut.received, dut.unescaped, offered, rng, stalls, 1200)
        assert len(got) == len(chosen)
        for item, (_, (byte, end, damaged)) in zip(got, chosen):
            assert (item.end, item.damaged) == (end, damaged) and (byte is None or item.data == byte)

    simulate(dut, bench)


@pytest.mark.parametrize("stalls", [0.0, 0.5])
def test_escape(stalls):
    rng, dut = random.Random(3), Escape()
    items = [rng.choice([FLAG, ESCAPE, 0x5D, 0x5E, None, rng.randrange(256)]) for _ in range(150)]
    expected = [byte for item in items for byte in (
        [FLAG] if item is None else [ESCAPE, item ^ 0x20] if item in (FLAG, ESCAPE) else [item])]

    async def bench(ctx):
        got = await carry(ctx, dut.frame, dut.sent, [{"data": item or 0, "end": item is None, "check": 0} for item in items], rng, stalls,
                          1500)
        assert got == expected

    simulate(dut, bench)


@pytest.mark.parametrize("depth, stalls", [(2, 0.3), (8, 0.0), (8, 0.7), (16, 0.5)])
def test_receive_buffer(depth, stalls):
    """In order and none twice. A byte is kept when fewer than `depth` are inside, and lost when there are two more (on their way out)."""
    seed = depth
    print(f"seed {seed}")
    rng, dut = random.Random(seed), ReceiveBuffer(depth=depth)
    offers, takes = [], []      # (cycle, byte)

    async def bench(ctx):
        for cycle in range(2000):
            offered, ready = cycle < 1900 and rng.random() < (0.5 if stalls else 0.3), cycle >= 1900 or rng.random() >= stalls
            number = len(offers) % 512
            ctx.set(dut.bytes.valid, offered)
            ctx.set(dut.bytes.payload, {"data": number & 255, "error": number >> 8})
            ctx.set(dut.received.ready, ready)
            if ctx.get(dut.received.valid) and ready:
                payload = ctx.get(dut.received.payload)
                takes.append((cycle, payload.data | payload.error << 8))
            if offered:
                offers.append((cycle, number))
            await ctx.tick()

    simulate(dut, bench)
    kept = 0
    for cycle, number in offers:
        inside = kept - sum(taken < cycle for taken, _ in takes)
        if kept < len(takes) and takes[kept][1] == number:
            assert inside < depth + 2
            kept += 1
        else:
            assert inside >= depth
    assert kept == len(takes) > 100
    assert (kept < len(offers)) == (stalls > 0)


def test_refused():
    assert refused(lambda: ReceiveBuffer(depth=12)) == "depth = 12 must be a power of two, at least 2"

"""UART: against bit times computed in real numbers, with a sender's clock that is off and bits that jitter; the transmitter's waveform."""

import random
from itertools import pairwise

import pytest
from amaranth.sim import Simulator

from rtl.link.uart import UartReceiver, UartTransmitter
from tb.unit.refused import refused

DIVISORS = [4, 5, 33]


Line = list[tuple[float, int]]      # time in cycles, level from then on


def edges(rng: random.Random, data: list[int], divisor: int, *, pace: float, jitter: float, gap: float) -> tuple[Line, list[float]]:
    """A sender's line, and when the middle of each stop bit is. Bits last `pace` times `divisor`, each longer or shorter by up to
    `jitter` of it; between bytes the line rests up to `gap` cycles."""
    now = 10 + rng.random()
    line: Line = [(0.0, 1)]
    middles = []
    for byte in data:
        for bit in (0, *(byte >> i & 1 for i in range(8)), 1):
            line.append((now, bit))
            length = divisor * (pace + rng.uniform(-jitter, jitter))
            middles.append(now + length / 2)
            now += length
        now += rng.uniform(0, gap)
    return line, middles[9::10]


def receive(divisor: int, line: Line) -> list[tuple[int, int, bool]]:
    """What the receiver makes of a line: (cycle, byte, error). The pin in cycle t has the line's level at time t."""
    receiver, got = UartReceiver(divisor=divisor), []

    async def bench(ctx):
        left = list(line)
        for cycle in range(int(line[-1][0]) + 2 * divisor + 10):
            while left and left[0][0] <= cycle:
                ctx.set(receiver.rx, left.pop(0)[1])
            if ctx.get(receiver.bytes.valid):
                payload = ctx.get(receiver.bytes.payload)
                got.append((cycle, payload.data, bool(payload.error)))
            await ctx.tick()

    simulator = Simulator(receiver)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    return got


@pytest.mark.parametrize("divisor", DIVISORS)
@pytest.mark.parametrize("pace, jitter", [(1.0, 0.0), (0.98, 0.0), (1.02, 0.0), (1.0, 0.02)])
def test_receiver(divisor, pace, jitter):
    seed = divisor
    print(f"seed {seed}")
    rng = random.Random(seed)
    data = [0x00, 0xFF, 0x55, 0xAA, *(rng.randrange(256) for _ in range(25))]
    for gap in (0, 3 * divisor):
        line, middles = edges(rng, data, divisor, pace=pace, jitter=jitter, gap=gap)
        got = receive(divisor, line)
        assert [(byte, error) for _, byte, error in got] == [(byte, False) for byte in data]
        # Two cycles of synchronisation, then one; the edge is known to a cycle and the sender may be off.
        late = [cycle - middle - 3 for (cycle, _, _), middle in zip(got, middles)]
        off = 10 * divisor * 0.02 * (pace != 1 or jitter > 0)
        assert -1 - off <= min(late) and max(late) <= 1 + off


@pytest.mark.parametrize("divisor", DIVISORS)
def test_wrong_stop_bit(divisor):
    """A stop bit that is low is told with its byte; a line that stays low is one byte, not many; then bytes are right again."""
    bits = [0, *[1] * 8, 0, 1, 1, 0, 1, 0, 1, 0, 0, 1, 1, 0, 1, *[1] * 3, *[0] * 50, 1, 1, 0, *[1, 0] * 4, 1]
    line = [(0.0, 1), *((20.3 + divisor * i, bit) for i, bit in enumerate(bits)), (20.3 + divisor * len(bits), 1)]
    assert [(byte, error) for _, byte, error in receive(divisor, line)] == [(0xFF, True), (0x65, False), (0x00, True), (0x55, False)]


@pytest.mark.parametrize("divisor", DIVISORS)
def test_noise(divisor):
    """Too short for a start bit: nothing is received, and the next byte is."""
    line: Line = [(0.0, 1)]
    for start in (20, 25 + 2 * divisor, 30 + 4 * divisor):
        line += [(start, 0), (start + max(1, divisor // 2 - 1), 1)]
    begin = 40 + 8 * divisor
    line += [(begin + divisor * i, bit) for i, bit in enumerate([0, *[0, 1] * 4, 1])]
    assert [(byte, error) for _, byte, error in receive(divisor, line)] == [(0xAA, False)]


@pytest.mark.parametrize("divisor", DIVISORS)
def test_transmitter(divisor):
    """Every level lasts as long as it must, bytes offered in time follow without a gap, and the line rests high."""
    seed = 10 + divisor
    print(f"seed {seed}")
    rng = random.Random(seed)
    transmitter, levels, taken = UartTransmitter(divisor=divisor), [], []
    data = [rng.randrange(256) for _ in range(24)]
    pauses = [0] * 8 + [rng.randrange(25 * divisor) for _ in range(16)]

    async def bench(ctx):
        left, pause = list(data), 5
        for cycle in range(700 * divisor):
            offered = bool(left) and not pause
            pause -= pause > 0
            ctx.set(transmitter.bytes.valid, offered)
            ctx.set(transmitter.bytes.payload, left[0] if offered else 0)
            levels.append(ctx.get(transmitter.tx))
            if offered and ctx.get(transmitter.bytes.ready):
                taken.append(cycle)
                left.pop(0)
                pause = pauses[len(taken) - 1]
            await ctx.tick()

    simulator = Simulator(transmitter)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert len(taken) == len(data)
    expected = [1] * len(levels)
    for cycle, byte in zip(taken, data):
        bits = [bit for bit in (0, *(byte >> i & 1 for i in range(8)), 1) for _ in range(divisor)]
        expected[cycle + 1:cycle + 1 + len(bits)] = bits
    assert levels == expected
    assert [after - before for before, after in pairwise(taken[:9])] == [10 * divisor] * 8


def test_refused():
    for component in (UartReceiver, UartTransmitter):
        assert refused(lambda component=component: component(divisor=3)) == "divisor = 3 is below 4 clock cycles a bit"

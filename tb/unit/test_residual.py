"""The sum of a result and a residual: random and extreme operands against fractions, one pair a cycle."""

import random
from fractions import Fraction

import pytest
from amaranth.sim import Simulator

from rtl.vector.residual import ResidualAdder

MOST = (1 << 26) - 1


def reference(own: int, residual: int, *, multiplier: int, residual_multiplier: int, own_zero_point: int, residual_zero_point: int,
              zero_point: int, residual_signed: int, is_signed: int, relu: int) -> int:
    """The result as a byte."""
    own, residual = (byte - 256 if signed and byte > 127 else byte for byte, signed in ((own, is_signed), (residual, residual_signed)))
    exact = Fraction((own - own_zero_point) * multiplier + (residual - residual_zero_point) * residual_multiplier, 1 << 24)
    rounded = max(round(exact), 0) if relu else round(exact)        # Python rounds half to even
    low, high = (-128, 127) if is_signed else (0, 255)
    return min(max(rounded + zero_point, low), high) & 0xFF


def additions(rng: random.Random) -> dict[str, int]:
    def scale():
        return rng.choice([0, 1, 1 << 22, 1 << 23, 1 << 24, 3 << 23, MOST, rng.randrange(MOST), rng.randrange(1 << 24)])

    def zero_point():
        return rng.choice([0, -128, 128, -256, 255, rng.randint(-256, 255)])

    return {"multiplier": scale(), "residual_multiplier": scale(), "own_zero_point": zero_point(), "residual_zero_point": zero_point(),
            "zero_point": zero_point(), "residual_signed": rng.randrange(2), "is_signed": rng.randrange(2), "relu": rng.randrange(2)}


@pytest.mark.parametrize("seed", range(4))
def test_sums(seed):
    """Ties come with multipliers of 2^23 and 3 * 2^23."""
    print(f"seed {seed}")
    rng, dut = random.Random(seed), ResidualAdder()

    async def bench(ctx):
        for _ in range(40):
            fields = additions(rng)
            ctx.set(dut.addition, fields)
            due: list[tuple[int, int]] = []
            for cycle in range(60 + dut.LATENCY):
                own, residual = (rng.choice([0, 127, 128, 255, rng.randrange(256)]) for _ in range(2))
                ctx.set(dut.own, own)
                ctx.set(dut.residual, residual)
                due.append((own, residual))
                if cycle >= dut.LATENCY:
                    pair = due[cycle - dut.LATENCY]
                    assert ctx.get(dut.result) == reference(*pair, **fields), (pair, fields)
                await ctx.tick()

    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(bench)
    sim.run()

"""Requantiser: bit-exact against rational arithmetic, on special and random operands."""

import random
import struct
from fractions import Fraction

import pytest
from amaranth.sim import Simulator

from rtl.vector.requantise import Requantiser


def float_bits(value: float) -> int:
    """The bits of a float32."""
    return struct.unpack("<I", struct.pack("<f", value))[0]


def wrapped(value: int) -> int:
    """A whole number modulo 2^32, as int32."""
    return (value + 2**31) % 2**32 - 2**31


def reference(total: int, multiplier: int, zero_point: int, is_signed: bool, relu: bool) -> int:
    """The definition: exact product of int32 and float32 (its bits), rounded half to even, shifted, clipped."""
    scale = Fraction(struct.unpack("<f", struct.pack("<I", multiplier))[0])
    result = round(Fraction(wrapped(total)) * scale) + zero_point    # Python rounds halves to even
    if relu:
        result = max(result, zero_point)
    low, high = (-128, 127) if is_signed else (0, 255)
    return min(max(result, low), high)


def special_cases() -> list[tuple[int, int, int]]:
    """(sum, bias, multiplier bits): extremes, exact halves, the ends of every shift."""
    sums = [0, 1, -1, 2, -2, 3, -3, 5, -5, 127, 128, 255, 256, 257, -128, -129]
    sums += [2**16 - 1, 2**17 - 1, 2**17, -2**17, 2**31 - 1, -2**31, -2**31 + 1]
    exponents = [1, 2, 90, 93, 94, 95, 96, 97, 110, 118, 119, 120, 125, 126, 127, 128, 134, 148, 149, 150, 151, 152, 200, 253, 254]
    mantissas = [0, 1, 0x40_0000, 0x7F_FFFF, 0x01_FFFF, 0x7E_0000, 0x55_5555]
    cases = [(s, 0, e << 23 | f) for s in sums for e in exponents for f in mantissas]
    cases += [(s, s, 127 << 23) for s in sums] + [(2**31 - 1, 1, 100 << 23), (-2**31, -1, 100 << 23)]
    # halves: odd * 2^(k-1) times 2^-k, for every k, and its neighbours
    for k in range(1, 31):
        for odd in (1, 3, 5, -1, -3, -5, 201, 203, -201):
            half = odd << (k - 1)
            if abs(half) < 2**31 - 1:
                cases += [(half + near, 0, (127 - k) << 23) for near in (-1, 0, 1)]
    # halves from a mantissa of two ones, with sums of more bits
    cases += [(total, 0, (127 - k) << 23 | 0x40_0000) for total in range(-40, 41) for k in (1, 2, 3, 4)]
    return cases


def random_cases(seed: int, count: int) -> list[tuple[int, int, int]]:
    rng = random.Random(seed)
    cases = []
    for _ in range(count):
        width = rng.randint(1, 32)
        total = rng.getrandbits(width) - (1 << (width - 1))
        bias = wrapped(rng.getrandbits(32)) if rng.random() < 0.5 else 0
        # mostly results of about eight bits; sometimes any exponent
        exponent = min(max(127 + 8 - width + rng.randint(-4, 4), 1), 254) if rng.random() < 0.9 else rng.randint(1, 254)
        fraction = rng.getrandbits(23) & rng.choice([0x7F_FFFF, 0x7F_FFFF, 0x60_0000, 0x70_0000, 0])
        cases.append((wrapped(total - bias), bias, exponent << 23 | fraction))
    return cases


def run(cases, *, zero_point: int, is_signed: bool, relu: bool) -> tuple[list[int], list[int]]:
    """`result` and `total` for each case, one case a cycle."""
    dut = Requantiser()
    results, totals = [], []

    async def bench(ctx):
        ctx.set(dut.zero_point, zero_point)
        ctx.set(dut.is_signed, is_signed)
        ctx.set(dut.relu, relu)
        for cycle in range(len(cases) + dut.LATENCY):
            if cycle < len(cases):
                total, bias, multiplier = cases[cycle]
                ctx.set(dut.sum, total)
                ctx.set(dut.bias, bias)
                ctx.set(dut.multiplier, multiplier)
            if cycle >= dut.TOTAL_LATENCY:
                totals.append(ctx.get(dut.total))
            if cycle >= dut.LATENCY:
                value = ctx.get(dut.result)
                results.append(value - 256 if is_signed and value >= 128 else value)
            await ctx.tick()

    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(bench)
    sim.run()
    return results, totals


def check(cases, zero_point, is_signed, relu):
    results, totals = run(cases, zero_point=zero_point, is_signed=is_signed, relu=relu)
    for (total, bias, multiplier), result, sum32 in zip(cases, results, totals, strict=False):
        assert result == reference(total + bias, multiplier, zero_point, is_signed, relu), (total, bias, hex(multiplier))
        assert sum32 == (max(wrapped(total + bias), 0) if relu else wrapped(total + bias))
    return results


@pytest.mark.parametrize("zero_point,is_signed,relu", [(0, True, False), (-128, True, False), (128, False, True), (255, False, False)])
def test_special(zero_point, is_signed, relu):
    cases = special_cases()
    results = check(cases, zero_point, is_signed, relu)
    assert len(set(results)) > (1 if zero_point == 255 else 20)


@pytest.mark.parametrize("seed,zero_point,is_signed,relu", [
    (1, 0, True, False), (2, 3, True, False), (3, -100, True, True),
    (4, 17, False, False), (5, 128, False, True), (6, -256, False, False), (7, 255, True, True),
])
def test_random(seed, zero_point, is_signed, relu):
    print(f"seed {seed}")
    check(random_cases(seed, 3000), zero_point, is_signed, relu)


def test_out_of_range_multipliers():
    """Not enforced but stated: exponent 0 gives 0, exponent 255 saturates, the sign is ignored."""
    cases = [(-2**31, 0, 0x7F_FFFF), (2**31 - 1, 0, 0), (1, 0, 255 << 23), (-1, 0, 255 << 23), (0, 0, 255 << 23), (5, 0, float_bits(-1.0))]
    assert run(cases, zero_point=0, is_signed=True, relu=False)[0] == [0, 0, 127, -128, 0, 5]

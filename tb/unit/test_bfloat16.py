"""bf16: rounding from fp32 against ml_dtypes, every upper half with every kind of lower one; comparisons and maxima against numpy."""

import ml_dtypes
import numpy as np
import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from rtl.arith import bfloat16
from sw.golden import float32
from tb.unit.test_float32 import SEED, check, doubles, floats, random_pairs, special_pairs
from tb.unit.verilated import verilated

LOWER = [0, 1, 2, 0x7FFE, 0x7FFF, 0x8000, 0x8001, 0xC000, 0xFFFE, 0xFFFF]     # halves around the tie


class Units(wiring.Component):
    """Everything at once, on two fp32 numbers and on their upper halves."""

    def __init__(self):
        super().__init__({"x": In(32), "y": In(32), "narrow": Out(16), "wide": Out(32), "less": Out(1), "larger": Out(32),
                          "half_less": Out(1), "half_larger": Out(16), "clocked": Out(1)})

    def elaborate(self, platform):
        m = Module()
        halves = self.x[16:], self.y[16:]
        m.d.sync += self.clocked.eq(~self.clocked)      # the bench wants a clock
        m.d.comb += [
            self.narrow.eq(bfloat16.narrowed(self.x)),
            self.wide.eq(bfloat16.widened(halves[0])),
            self.less.eq(bfloat16.less(self.x, self.y)),
            self.larger.eq(bfloat16.maximum(self.x, self.y)),
            self.half_less.eq(bfloat16.less(*halves)),
            self.half_larger.eq(bfloat16.maximum(*halves)),
        ]
        return m


@pytest.fixture(scope="module")
def units(tmp_path_factory):
    return verilated(Units(), tmp_path_factory.mktemp("bfloat16"))


def wanted_larger(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """By float64: `a` unless `b` is larger."""
    with np.errstate(all="ignore"):
        x, y = doubles(a), doubles(b)
        larger = np.where(y > x, y, x).astype(np.float32).view(np.uint32)
    return np.where(np.isnan(x) | np.isnan(y), np.uint32(0x7FC0_0000), larger)


def halves() -> np.ndarray:
    """Every upper half with every lower one of `LOWER` and with some random ones."""
    rng = np.random.default_rng(SEED)
    lower = np.concatenate([np.tile(np.array(LOWER, np.uint32)[:, None], (1, 1 << 16)), rng.integers(0, 1 << 16, (6, 1 << 16), np.uint32)])
    return (np.arange(1 << 16, dtype=np.uint32) << 16 | lower).ravel()


def test_every_upper_half_is_rounded(units):
    """A million numbers; ml_dtypes keeps subnormal numbers and knows other NaNs."""
    print(f"seed {SEED}")
    x = halves()
    assert len(x) > 10**6
    with np.errstate(all="ignore"):
        theirs = np.where(x & 0x7F80_0000, x, x & 1 << 31).view(np.float32).astype(ml_dtypes.bfloat16).view(np.uint16)
    theirs = np.where(np.isnan(floats(x)), 0x7FC0, theirs).astype(np.uint32)
    found = units(x, x)
    check(found["narrow"], theirs, x, x, "narrow")
    check(found["wide"], x & 0xFFFF_0000, x, x, "wide")
    check(float32.narrow(floats(x)).view(np.uint32), theirs << 16, x, x, "golden narrow")


def test_comparisons(units):
    """Special pairs and more than a million random ones, equal numbers and neighbours among them."""
    print(f"seed {SEED}")
    pairs = [special_pairs(), random_pairs(SEED, 90_000)]
    a, b = (np.concatenate(parts) for parts in zip(*pairs))
    near = np.random.default_rng(SEED).integers(-2, 3, len(a)).astype(np.uint32)
    b = np.where(np.arange(len(a)) % 4, b, a + near)
    assert len(a) > 10**6
    found, upper_a, upper_b = units(a, b), a & 0xFFFF_0000, b & 0xFFFF_0000
    with np.errstate(all="ignore"):
        check(found["less"], doubles(a) < doubles(b), a, b, "less")
        check(found["half_less"], doubles(upper_a) < doubles(upper_b), a, b, "less, bf16")
    check(found["larger"], wanted_larger(a, b), a, b, "maximum")
    check(found["half_larger"], wanted_larger(upper_a, upper_b) >> 16, a, b, "maximum, bf16")
    check(float32.maximum(floats(a), floats(b)).view(np.uint32), wanted_larger(a, b), a, b, "golden maximum")


def test_products_are_exact():
    """Every product of two bf16 numbers that is a normal fp32 number is that number."""
    print(f"seed {SEED}")
    a, b = (bits & 0xFFFF_0000 for bits in random_pairs(SEED, 20_000))
    with np.errstate(all="ignore"):
        exact, found = doubles(a) * doubles(b), float32.multiply(floats(a), floats(b)).astype(np.float64)
    normal = (np.abs(exact) >= np.finfo(np.float32).tiny) & (np.abs(exact) <= np.finfo(np.float32).max)
    assert normal.sum() > 100_000 and (found[normal] == exact[normal]).all()

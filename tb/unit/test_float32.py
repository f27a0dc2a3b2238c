"""fp32 adder and multiplier: bit-exact with numpy for special and a million random pairs, at every latency; the golden model likewise."""

import os
import subprocess
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from gen import verilog
from gen.simulate import ARGUMENTS, build_environment, find_verilator
from rtl.arith.float32 import Add, Multiply
from sw.golden import float32
from tb.unit.refused import refused

BENCH = Path(__file__).with_name("float32_bench.sv")
LATENCIES = (1, 2, 3, 4)
PAIRS = 1 << 21         # at most, of one run of the bench
KIND_PAIRS = 100_000    # of each kind of random pairs
SEED = 20_250_321

# What drives the bench's clock: Verilator's own main wants delays in the bench, and these C++20.
MAIN = """
#include "Vbench.h"

int main(int argc, char** argv) {
    VerilatedContext context;
    context.commandArgs(argc, argv);
    Vbench bench{&context};
    for (bench.clk = 0; !context.gotFinish(); bench.clk = !bench.clk) bench.eval();
    bench.final();
}
"""

SPECIAL = [
    # zeros, subnormal numbers, smallest normal numbers
    0x0000_0000, 0x0000_0001, 0x0000_0002, 0x0012_3456, 0x0040_0000, 0x007F_FFFE, 0x007F_FFFF,
    0x0080_0000, 0x0080_0001, 0x0080_0002, 0x00FF_FFFF, 0x0100_0000, 0x0100_0001,
    # square roots of the smallest and of the largest number; with a partner near 1 or near these, products at both ends
    0x1FFF_FFFF, 0x2000_0000, 0x2035_04F3, 0x5F7F_FFFF, 0x5F80_0000, 0x5F80_0001,
    # powers of two around rounding: units, halves and quarters of the last place of 1, and their neighbours
    0x3200_0000, 0x3300_0000, 0x3300_0001, 0x337F_FFFF, 0x3380_0000, 0x3380_0001, 0x33C0_0000, 0x3400_0000, 0x3400_0001, 0x3440_0000,
    # around one half, one, two, three
    0x3EFF_FFFF, 0x3F00_0000, 0x3F00_0001, 0x3F7F_FFFE, 0x3F7F_FFFF, 0x3F80_0000, 0x3F80_0001, 0x3F80_0002, 0x3FC0_0000,
    0x3FFF_FFFF, 0x4000_0000, 0x4000_0001, 0x4040_0000,
    # whole numbers around 2^24, where units become twos
    0x4B00_0001, 0x4B7F_FFFF, 0x4B80_0000, 0x4B80_0001, 0x4C00_0000,
    # the largest numbers, and half a unit in their last place
    0x7280_0000, 0x7300_0000, 0x7300_0001, 0x7EFF_FFFF, 0x7F00_0000, 0x7F7F_FFFE, 0x7F7F_FFFF,
    # infinity and NaNs, quiet and signalling
    0x7F80_0000, 0x7F80_0001, 0x7FBF_FFFF, 0x7FC0_0000, 0x7FFF_FFFF,
]

# Operation, a, b, result: worked out by hand.
KNOWN = [
    ("add", 0x3F80_0000, 0x3380_0000, 0x3F80_0000),         # 1 + half a unit: tie to even
    ("add", 0x3F80_0001, 0x3380_0000, 0x3F80_0002),         # tie from an odd number
    ("add", 0x3F80_0000, 0x3380_0001, 0x3F80_0001),         # a little above the tie
    ("add", 0x3F80_0000, 0xB300_0000, 0x3F80_0000),         # 1 - a quarter: tie between 1 and the number below
    ("add", 0x3F80_0000, 0xB300_0001, 0x3F7F_FFFF),
    ("add", 0x3F80_0000, 0xBF80_0000, 0x0000_0000),         # x - x = +0
    ("add", 0x8000_0000, 0x8000_0000, 0x8000_0000),
    ("add", 0x0000_0000, 0x8000_0000, 0x0000_0000),
    ("add", 0x8000_0001, 0x8040_0000, 0x8000_0000),         # subnormal operands
    ("add", 0x007F_FFFF, 0x0080_0000, 0x0080_0000),
    ("add", 0x8080_0001, 0x0080_0000, 0x8000_0000),         # subnormal result: zero of its sign
    ("add", 0x7F7F_FFFF, 0x7300_0000, 0x7F80_0000),         # the largest number + half a unit: infinity
    ("add", 0x7F7F_FFFF, 0x72FF_FFFF, 0x7F7F_FFFF),
    ("add", 0x7F80_0000, 0xFF80_0000, 0x7FC0_0000),
    ("add", 0xFF80_0000, 0x7F7F_FFFF, 0xFF80_0000),
    ("add", 0xFFC1_2345, 0x3F80_0000, 0x7FC0_0000),
    ("multiply", 0x3FC0_0000, 0xC000_0000, 0xC040_0000),
    ("multiply", 0x3F80_0001, 0x3F80_0001, 0x3F80_0002),
    ("multiply", 0x3F7F_FFFF, 0x0080_0000, 0x0080_0000),    # 2^-126 - 2^-150: half way, up to the smallest normal number
    ("multiply", 0xBF7F_FFFE, 0x0080_0000, 0x8000_0000),    # 2^-126 - 2^-149: the largest subnormal number
    ("multiply", 0x3F00_0000, 0x00FF_FFFF, 0x0080_0000),    # half way again, with an even significand before it is rounded
    ("multiply", 0x3F00_0000, 0x00FF_FFFE, 0x0000_0000),
    ("multiply", 0x0000_0001, 0x7F80_0000, 0x7FC0_0000),    # a subnormal operand is zero, and zero times infinity no number
    ("multiply", 0x8000_0000, 0x7F7F_FFFF, 0x8000_0000),
    ("multiply", 0x7F7F_FFFF, 0x3F80_0001, 0x7F80_0000),
    ("multiply", 0x7F00_0000, 0xC000_0000, 0xFF80_0000),
    ("multiply", 0xFF80_0000, 0xBF80_0000, 0x7F80_0000),
]


class Units(wiring.Component):
    """Adders and multipliers of every latency side by side, on the same operands."""

    def __init__(self):
        outputs = {f"{name}_{latency}": Out(32) for name in ("sum", "product") for latency in LATENCIES}
        super().__init__({"a": In(32), "b": In(32), **outputs})

    def elaborate(self, platform):
        m = Module()
        for kind, name in ((Add, "sum"), (Multiply, "product")):
            for latency in LATENCIES:
                m.submodules[f"{name}_{latency}"] = unit = kind(latency=latency)
                m.d.comb += [unit.a.eq(self.a), unit.b.eq(self.b), getattr(self, f"{name}_{latency}").eq(unit.result)]
        return m


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    """The bench as a function of operands' bits and latency: the bits of sums and products, through Verilator."""
    folder = tmp_path_factory.mktemp("float32")
    (folder / "flexwave.v").write_text(verilog.convert(Units()).verilog)
    executable, _ = find_verilator()
    env = os.environ | build_environment(executable, os.environ.get("PATH", ""))
    (folder / "main.cpp").write_text(MAIN)
    sources = [folder / "flexwave.v", BENCH, folder / "main.cpp"]
    command = [executable, "--cc", "--exe", "--build", *ARGUMENTS, f"-GPAIRS={PAIRS}", "--top-module", "bench", "-o", "bench"]
    built = subprocess.run([*command, "--Mdir", folder / "made", *sources], env=env, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr

    def run(a: np.ndarray, b: np.ndarray, latency: int) -> tuple[np.ndarray, np.ndarray]:
        words = np.stack([b, a], axis=1).astype(">u4")
        (folder / "operands").write_text(words.tobytes().hex("\n", 8) + "\n")
        arguments = [f"+operands={folder / 'operands'}", f"+results={folder / 'results'}", f"+count={len(a)}", f"+latency={latency}"]
        done = subprocess.run([folder / "made" / "bench", *arguments], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        lines = [line for line in (folder / "results").read_text().splitlines() if not line.startswith(("@", "/"))]
        found = np.frombuffer(bytes.fromhex("".join(lines)), ">u4").reshape(-1, 2).astype(np.uint32)
        assert len(found) == len(a)
        return found[:, 1], found[:, 0]

    return run


def floats(bits) -> np.ndarray:
    return np.asarray(bits, dtype=np.uint32).view(np.float32)


def doubles(bits: np.ndarray) -> np.ndarray:
    """The numbers as float64, subnormal ones as zeros."""
    return floats(np.where(bits & 0x7F80_0000, bits, bits & 1 << 31)).astype(np.float64)


def expected(operation: Callable, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """numpy's own result, bits to bits, with subnormal numbers as zeros before and after, and one NaN."""
    def without_subnormals(x):
        return np.where(np.abs(x) < np.finfo(np.float32).tiny, np.copysign(np.float32(0), x), x)

    with np.errstate(all="ignore"):
        result = without_subnormals(operation(without_subnormals(floats(a)), without_subnormals(floats(b))))
    assert result.dtype == np.float32
    return np.where(np.isnan(result), np.uint32(0x7FC0_0000), result.view(np.uint32))


def special_pairs() -> tuple[np.ndarray, np.ndarray]:
    """Every special value, of both signs, with every other."""
    values = np.array(SPECIAL + [value | 1 << 31 for value in SPECIAL], np.uint32)
    a, b = np.meshgrid(values, values)
    return a.ravel(), b.ravel()


def random_pairs(seed: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """`count` pairs of each of twelve kinds."""
    rng = np.random.default_rng(seed)

    def any_of(low: int, high: int) -> np.ndarray:
        return rng.integers(low, high + 1, count)     # both ends included

    def fraction() -> np.ndarray:
        """Evenly spread, or with runs of zeros or of ones at the end."""
        bits, mask = any_of(0, 0x7F_FFFF), (1 << any_of(0, 23)) - 1
        return np.choose(any_of(0, 3), [bits, bits, bits & ~mask, bits | mask])

    def number(exponent: np.ndarray, bits: np.ndarray | None = None) -> np.ndarray:
        return any_of(0, 1) << 31 | np.clip(exponent, 0, 255) << 23 | (fraction() if bits is None else bits & 0x7F_FFFF)

    def odd(bits: np.ndarray) -> np.ndarray:
        """A significand with so many bits from its leading one to its lowest one."""
        low = 24 - bits
        return (any_of(0, 0x7F_FFFF) | 1 << 23) >> low << low | 1 << low

    base, above = number(any_of(1, 254)), any_of(30, 250)
    half_below = np.where(base >> 23 & 0xFF > 1, base - (1 << 23), base)
    shift, middle, low, bits = any_of(1, 24), any_of(120, 134), any_of(1, 126), any_of(2, 23)
    # A partner for every number, so that their product is 2^-126 or 2^128 but for its rounding
    upper, small = any_of(0, 1) == 1, number(any_of(2, 126))
    edge = np.where(upper, small + (127 << 23), small)
    partner = (np.where(upper, 2.0**128, 2.0**-126) / floats(edge)).astype(np.float32)
    kinds = [
        (any_of(0, 2**32 - 1), any_of(0, 2**32 - 1)),
        (base, number((base >> 23 & 0xFF) + any_of(-28, 28))),                          # near exponents
        (base, base ^ 1 << 31 ^ any_of(0, 0xFF)),                                       # differences of equal exponents,
        (base, half_below ^ 1 << 31 ^ any_of(0, 0x3FF)),                                # and of neighbours
        (number(any_of(253, 254)), number(np.where(any_of(0, 1), 254, any_of(228, 254)))),   # sums near 2^128
        (number(any_of(0, 30)), number(any_of(0, 6))),                                  # and near 2^-126
        (number(above), number(above - shift, odd(25 - shift))),                        # half way: the last one moves to the guard bit
        (number(above), number(above - any_of(0, 26), any_of(0, 1) << 22)),             # few bits far down
        (number(above), number(254 + middle - above)),                                  # products near 2^128
        (number(low), number(middle - low)),                                            # and near 2^-126
        (edge, partner.view(np.uint32) + any_of(-1, 1)),                                # the same, within units of the last place
        (number(above, odd(bits)), number(any_of(90, 160), odd(25 - bits))),            # half way, if the product has 25 bits
    ]
    swap = np.tile(any_of(0, 1) == 1, len(kinds))
    a, b = (np.concatenate(part).astype(np.uint32) for part in zip(*kinds))
    return np.where(swap, b, a), np.where(swap, a, b)


def check(found: np.ndarray, wanted: np.ndarray, a: np.ndarray, b: np.ndarray, name: str):
    wrong = np.flatnonzero(found != wanted)
    shown = [f"{a[i]:08x}, {b[i]:08x}: {found[i]:08x}, not {wanted[i]:08x}" for i in wrong[:5]]
    assert not wrong.size, f"{name}: {wrong.size} of {len(a)} results are wrong: {shown}"


@pytest.mark.parametrize("latency", LATENCIES)
def test_special_pairs(bench, latency):
    a, b = special_pairs()
    sums, products = bench(a, b, latency)
    check(sums, expected(np.add, a, b), a, b, "add")
    check(products, expected(np.multiply, a, b), a, b, "multiply")


@pytest.mark.parametrize("latency", LATENCIES)
def test_random_pairs(bench, latency):
    """More than a million pairs through each pipeline."""
    seed = SEED + latency
    print(f"seed {seed}")
    a, b = random_pairs(seed, KIND_PAIRS)
    assert 10**6 <= len(a) <= PAIRS
    sums, products = bench(a, b, latency)
    check(sums, expected(np.add, a, b), a, b, "add")
    check(products, expected(np.multiply, a, b), a, b, "multiply")


def test_random_pairs_reach_what_they_are_for():
    """The random pairs hold thousands of ties, overflows, subnormal results and results rounded up to the smallest normal number."""
    print(f"seed {SEED}")
    tiny, largest = (float(value) for value in (np.finfo(np.float32).tiny, np.finfo(np.float32).max))
    with np.errstate(all="ignore"):
        a, b = (doubles(bits) for bits in random_pairs(SEED, 20_000))
        for name, exact in (("add", a + b), ("multiply", a * b)):
            size = np.abs(exact)
            fraction = np.abs(exact).view(np.uint64) & np.uint64((1 << 29) - 1)
            reached = {
                "ties": (fraction == 1 << 28) & np.isfinite(exact) & (size >= tiny),
                "overflows": (size > largest) & np.isfinite(exact),
                "subnormal": (size > 0) & (size < tiny),
            }
            if name == "multiply":
                reached["up to the smallest normal"] = (size < tiny) & (exact.astype(np.float32).view(np.uint32) & 0x7FFF_FFFF == 1 << 23)
            for what, where in reached.items():
                print(name, what, int(where.sum()))
                assert where.sum() >= 1000, (name, what, int(where.sum()))


@pytest.mark.parametrize("name, a, b, wanted", KNOWN)
def test_known_results(name, a, b, wanted):
    """Golden model and this file's reference, by hand; the hardware is compared with the latter."""
    found = int(getattr(float32, name)(floats([a]), floats([b])).view(np.uint32)[0])
    assert found == wanted, f"{found:#010x}"
    for x, y in ((a, b), (b, a)):
        assert expected(getattr(np, name), np.array([x], np.uint32), np.array([y], np.uint32))[0] == wanted


def test_golden_against_double_precision():
    """float64 holds products of float32 exactly, and its sums round to float32 as if exact (53 >= 2 * 24 + 2 bits)."""
    print(f"seed {SEED}")
    a, b = (np.concatenate(parts) for parts in zip(special_pairs(), random_pairs(SEED, 20_000)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sums, products = float32.add(floats(a), floats(b)), float32.multiply(floats(a), floats(b))
    assert sums.dtype == products.dtype == np.float32
    with np.errstate(all="ignore"):
        x, y = doubles(a), doubles(b)
        for name, found, exact in (("add", sums, x + y), ("multiply", products, x * y)):
            bits = exact.astype(np.float32).view(np.uint32)
            bits = np.where(bits & 0x7F80_0000, bits, bits & 1 << 31)
            bits = np.where(np.isnan(exact), 0x7FC0_0000, bits)
            check(found.view(np.uint32), bits, a, b, name)


def test_golden_shapes_and_types():
    x = floats([[0x0000_0001, 0x8000_0001, 0x3F80_0000], [0x7F80_0001, 0xFF80_0000, 0x807F_FFFF]])
    flushed = float32.flush(x)
    assert flushed.shape == (2, 3)
    assert flushed.view(np.uint32).tolist() == [[0, 0x8000_0000, 0x3F80_0000], [0x7F80_0001, 0xFF80_0000, 0x8000_0000]]
    assert float32.add(x, floats(0x3F80_0000)).shape == float32.multiply(x[:, :1], x[0]).shape == (2, 3)
    for wrong in (np.zeros(1), np.zeros(1, np.int32)):
        with pytest.raises(ValueError, match="allowed: float32"):
            float32.add(wrong, x)


@pytest.mark.parametrize("kind", [Add, Multiply])
@pytest.mark.parametrize("latency", [0, 5, -1])
def test_wrong_latency(kind, latency):
    assert refused(lambda: kind(latency=latency)) == f"latency = {latency} is outside 1..4"

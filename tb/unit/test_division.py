"""fp32 division and square root: bit-exact with numpy for special and a million random values, in exactly the stated cycles."""

import subprocess

import numpy as np
import pytest

from rtl.arith.division import Divide, SquareRoot
from sw.golden import float32
from tb.unit.test_float32 import SEED, SPECIAL, check, expected, floats, random_pairs, special_pairs
from tb.unit.verilated import built

# Operands as early as they are taken, but for gaps now and then; each result must come `latency` cycles behind its operands, and the unit
# must be free from `interval` cycles behind them on.
MAIN = """
#include "Vflexwave.h"
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <deque>
int main(int, char **arguments)
{
    FILE *in = fopen(arguments[1], "rb"), *out = fopen(arguments[2], "wb");
    const int64_t latency = atoi(arguments[3]), interval = atoi(arguments[4]);
    Vflexwave dut;
    uint64_t operands, gaps = 0;
    std::deque<int64_t> taken;
    int64_t cycle = 0, free_at = 0;
    bool more = fread(&operands, sizeof operands, 1, in);
    for (; more || !taken.empty(); cycle++) {
        dut.operands__valid = more && cycle % 89;
        dut.operands__payload = operands;
        dut.clk = 0; dut.eval();
        if (dut.operands__ready != (cycle >= free_at)) return printf("cycle %ld: ready is %d", (long)cycle, dut.operands__ready), 1;
        bool due = !taken.empty() && taken.front() + latency == cycle;
        if (dut.result__valid != due) return printf("cycle %ld: valid is %d", (long)cycle, dut.result__valid), 1;
        if (due) {
            uint32_t result = dut.result__payload;
            fwrite(&result, sizeof result, 1, out);
            taken.pop_front();
        }
        if (dut.operands__valid && dut.operands__ready) {
            taken.push_back(cycle);
            free_at = cycle + interval;
            more = fread(&operands, sizeof operands, 1, in);
        }
        dut.clk = 1; dut.eval();
    }
    return fclose(in) || fclose(out);
}
"""

# Worked out by hand.
QUOTIENTS = [
    (0x3F80_0000, 0x4040_0000, 0x3EAA_AAAB),        # 1/3
    (0x3F80_0000, 0xC000_0000, 0xBF00_0000),
    (0x4040_0000, 0x3F80_0000, 0x4040_0000),
    (0x3F80_0001, 0x3F80_0001, 0x3F80_0000),
    (0x3F7F_FFFF, 0x3F80_0000, 0x3F7F_FFFF),
    (0x0080_0000, 0x4000_0000, 0x0000_0000),        # 2^-127 is subnormal
    (0x00FF_FFFF, 0x4000_0000, 0x0080_0000),        # 2^-126 - 2^-150: half way, up to the smallest normal number
    (0x00FF_FFFE, 0x4000_0000, 0x0000_0000),
    (0x7F7F_FFFF, 0x3F00_0000, 0x7F80_0000),
    (0x3F80_0000, 0x8000_0000, 0xFF80_0000),        # by zero
    (0x0000_0000, 0x8000_0000, 0x7FC0_0000),
    (0x0000_0001, 0x3F80_0000, 0x0000_0000),        # subnormal operands are zeros
    (0x3F80_0000, 0x0000_0001, 0x7F80_0000),
    (0x7F80_0000, 0xFF80_0000, 0x7FC0_0000),
    (0x4000_0000, 0xFF80_0000, 0x8000_0000),
]
ROOTS = [
    (0x4000_0000, 0x3FB5_04F3), (0x4080_0000, 0x4000_0000), (0x3F80_0001, 0x3F80_0000), (0x3F80_0002, 0x3F80_0001),
    (0x3F7F_FFFF, 0x3F7F_FFFF), (0x0080_0000, 0x2000_0000), (0x7F7F_FFFF, 0x5F7F_FFFF), (0x7F80_0000, 0x7F80_0000),
    (0x8000_0000, 0x8000_0000), (0x8000_0001, 0x8000_0000), (0x0000_0001, 0x0000_0000), (0xBF80_0000, 0x7FC0_0000),
    (0xFF80_0000, 0x7FC0_0000), (0x7F80_0001, 0x7FC0_0000),
]


def bench(folder, component):
    """The component as a function of operands (64-bit words), with its timing checked."""
    program = built(component, folder, MAIN.replace("__", "___05F"))     # as Verilator spells it

    def run(words: np.ndarray) -> np.ndarray:
        words.astype("<u8").tofile(folder / "in")
        done = subprocess.run([program, folder / "in", folder / "out", str(component.latency), str(component.interval)],
                              capture_output=True, text=True)
        assert done.returncode == 0, done.stdout
        return np.fromfile(folder / "out", "<u4")

    return run


@pytest.fixture(scope="module")
def divide(tmp_path_factory):
    return bench(tmp_path_factory.mktemp("divide"), Divide())


@pytest.fixture(scope="module")
def square_root(tmp_path_factory):
    return bench(tmp_path_factory.mktemp("square_root"), SquareRoot())


def halfway(seed: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """At most `count` dividends and divisors whose quotients lie as near to the middle of two numbers as quotients do."""
    rng = np.random.default_rng(seed)
    divisor, rest = rng.integers(1 << 22, 1 << 23, count) << 1 | 1, rng.integers(-8, 8, count) << 1 | 1
    inverse = divisor
    for _ in range(5):
        inverse = inverse * (2 - divisor * inverse)     # modulo 2^64
    middle = (rest * inverse) % (1 << 25)               # odd, of 25 bits: what is divided is `rest` less than middle * divisor
    dividend = (middle * divisor - rest) >> 25
    kept = (middle >> 24 > 0) & (dividend >> 23 == 1)
    ends = rng.integers(40, 210, (2, count)) << 23 | rng.integers(0, 2, (2, count)) << 31
    return tuple((part & 0x7F_FFFF | end)[kept].astype(np.uint32) for part, end in zip((dividend, divisor), ends))


def squares(seed: int, count: int) -> np.ndarray:
    """Numbers next to squares: of numbers with 12 bits, which are exact, and of the middles of two numbers."""
    rng = np.random.default_rng(seed)
    roots = rng.integers(1 << 24, 1 << 25, count)
    roots = np.where(rng.integers(0, 2, count), roots >> 13 << 13, roots | 1).astype(np.float64)
    near = (roots * roots).astype(np.float32).view(np.uint32)
    return (near + rng.integers(-1, 2, count) + (rng.integers(-40, 30, count) << 24)).astype(np.uint32)


def test_divide(divide):
    """More than a million pairs."""
    print(f"seed {SEED}")
    a, b = (np.concatenate(parts) for parts in zip(special_pairs(), random_pairs(SEED, 90_000), halfway(SEED, 200_000)))
    assert len(a) > 10**6
    check(divide(b.astype(np.uint64) << 32 | a), expected(np.divide, a, b), a, b, "divide")


def test_square_root(square_root):
    """More than a million numbers."""
    print(f"seed {SEED}")
    special = np.array(SPECIAL + [value | 1 << 31 for value in SPECIAL], np.uint32)
    x = np.concatenate([special, random_pairs(SEED, 60_000)[0], squares(SEED, 500_000)])
    assert len(x) > 10**6
    check(square_root(x), expected(lambda value, _: np.sqrt(value), x, x), x, x, "square root")


def test_random_numbers_reach_what_they_are_for():
    """Thousands of quotients within a 2^-18th of a unit of the last place from the middle of two numbers; roots that are numbers, and
    roots within a quarter of a unit from a middle."""
    print(f"seed {SEED}")
    a, b = (floats(bits).astype(np.float64) for bits in halfway(SEED, 20_000))
    assert (middle_distance(a / b) < 2**-18).sum() > 3000
    roots = np.sqrt(floats(squares(SEED, 20_000)).astype(np.float64))
    assert (middle_distance(roots) == 0.5).sum() > 1000 and (middle_distance(roots) < 0.25).sum() > 1000


def middle_distance(exact: np.ndarray) -> np.ndarray:
    """From a float64 number to the nearest middle of two neighbouring float32 numbers, in units of the last place of those."""
    return np.abs((np.abs(exact).view(np.int64) & (1 << 29) - 1) - (1 << 28)) / (1 << 29)


@pytest.mark.parametrize("a, b, wanted", QUOTIENTS)
def test_known_quotients(divide, a, b, wanted):
    assert float32.divide(floats([a]), floats([b])).view(np.uint32)[0] == wanted
    assert divide(np.array([b << 32 | a], np.uint64)).tolist() == [wanted]


@pytest.mark.parametrize("x, wanted", ROOTS)
def test_known_roots(square_root, x, wanted):
    assert float32.square_root(floats([x])).view(np.uint32)[0] == wanted
    assert square_root(np.array([x])).tolist() == [wanted]


def test_golden_against_double_precision():
    """float64 has more than twice the bits: its quotients and roots round to float32 as if exact."""
    print(f"seed {SEED}")
    a, b = (np.concatenate(parts) for parts in zip(special_pairs(), random_pairs(SEED, 20_000)))
    quotients, roots = float32.divide(floats(a), floats(b)), float32.square_root(floats(a))
    with np.errstate(all="ignore"):
        x, y = (floats(np.where(bits & 0x7F80_0000, bits, bits & 1 << 31)).astype(np.float64) for bits in (a, b))
        for name, found, exact in (("divide", quotients, x / y), ("square root", roots, np.sqrt(x))):
            bits = exact.astype(np.float32).view(np.uint32)
            bits = np.where(bits & 0x7F80_0000, bits, bits & 1 << 31)
            check(found.view(np.uint32), np.where(np.isnan(exact), 0x7FC0_0000, bits), a, b, name)

"""The compute unit: random programs of waves of all modes, back to back, against numpy."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
from amaranth.sim import Simulator

from gen.config import Array, Buffers, Config, DType, Memory, Unit, Vector
from rtl.array.unit import ComputeUnit
from sw.golden import bfloat16


def machine(side: int, unit: str, row_latency: int, multiplier_latency: int, dtype: str = "int8") -> Config:
    return Config(
        array=Array(side=side, unit=Unit(unit), row_latency=row_latency, multiplier_latency=multiplier_latency, dtype=DType(dtype)),
        buffers=Buffers(moving_words=64, accumulator_words=16, slice_words=256, store_lanes=1),
        memory=Memory(bytes_per_cycle=max(4, 2 * side)),
        vector=Vector(window=0),
    )


@dataclass
class Wave:
    """One wave; tall and wide decide its mode. Matrices are padded to what the mode covers."""

    side: int
    tall: bool
    wide: bool
    a: np.ndarray
    b: np.ndarray
    start: int = 0
    load: int = 0

    def rows_of(self, core: int) -> range:
        low, right = divmod(core, 2)
        rows = range(len(self.a))
        if not self.wide:
            rows = rows[right::2]
        return rows if self.tall else rows[low::2]

    def k_of(self, core: int) -> slice:
        low = core // 2 if self.tall else 0
        return slice(low * self.side, (low + 1) * self.side)

    def n_of(self, core: int) -> slice:
        right = core % 2 if self.wide else 0
        return slice(right * self.side, (right + 1) * self.side)

    def length(self) -> int:
        return -(-len(self.a) // ((1 if self.tall else 2) * (1 if self.wide else 2)))


def random_waves(rng, config: Config, count: int) -> list[Wave]:
    side, waves = config.array.side, []
    for _ in range(count):
        match config.array.unit:
            case Unit.FLEX:
                tall, wide = map(bool, rng.integers(0, 2, 2))
            case Unit.QUAD:
                tall = wide = False
            case Unit.SINGLE:
                tall = wide = True
        k, n = side * (1 + (tall and config.cores == 4)), side * (1 + (wide and config.cores == 4))
        m = int(rng.integers(1, 6 * side + 2))
        a, b = numbers(rng, config, (m, k)), numbers(rng, config, (k, n))
        if rng.random() < 0.1:
            a[:], b[:] = -255, rng.choice([-255, 255])
        waves.append(Wave(side, tall, wide, a, b))
    return waves


def numbers(rng, config: Config, shape) -> np.ndarray:
    """Random operands: 9-bit integers, or bf16 numbers as float32, with now and then a zero, a subnormal number or a very large one."""
    if not config.floating:
        return rng.integers(-255, 256, shape)
    exponent = np.where(rng.random(shape) < 0.9, rng.integers(120, 132, shape), rng.choice([0, 0, 1, 60, 190, 254], shape))
    exponent = np.where(rng.random((*shape[:-1], 1)) < 0.1, 0, exponent)      # rows of zeros: of one sign, so may their sum be
    bits = rng.integers(0, 2, shape) << 31 | exponent << 23 | rng.integers(0, 128, shape) << 16
    return bits.astype(np.uint32).view(np.float32)


def pack(values) -> int:
    """A word of the array: lanes of 9 bits, or of 16 for bf16 numbers."""
    if values.dtype == np.float32:
        return sum((int(value) >> 16) << 16 * i for i, value in enumerate(values.view(np.uint32)))
    return sum((int(value) & 511) << 9 * i for i, value in enumerate(values))


def times(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The product of a wave."""
    return bfloat16.wave(a, b) if a.dtype == np.float32 else a @ b


def bits_of(sums: np.ndarray, width: int = 32) -> np.ndarray:
    """Sums as the bits that the hardware holds."""
    return sums.view(np.uint32).astype(np.int64) if sums.dtype == np.float32 else sums & (1 << width) - 1


def simulate(config: Config, waves: list[Wave]):
    """Drive the unit as the controller would at full speed and return sums[cycle][core][column]."""
    side, rng = config.array.side, np.random.default_rng(1)
    for before, wave in zip([None, *waves], waves):
        if before is not None:
            wave.load = before.start + 1
        earliest = 0 if before is None else before.start + before.length()
        wave.start = max(earliest, wave.load + max(side - 1, 1))
    offsets = [config.core_offset(q) for q in range(config.cores)]
    end = waves[-1].start + waves[-1].length() + 2 * offsets[-1] + 4 * side * config.array.row_latency + 10
    moving, stationary = rng.integers(0, 1 << min(config.operand_bits * side, 54), (2, end, config.cores)).astype(object)
    swap, capture, tall, wide = np.zeros((4, end), int)
    for wave in waves:
        swap[wave.start], capture[wave.load] = 1, 1
        tall[wave.start:wave.start + wave.length()] = wave.tall
        wide[wave.start:wave.start + wave.length()] = wave.wide
        for q in range(config.cores):
            if not (wave.wide and q % 2):
                for i, row in enumerate(wave.rows_of(q)):
                    moving[wave.start + offsets[q] + i, q] = pack(wave.a[row, wave.k_of(q)])
            for i in range(side):
                stationary[wave.load + offsets[q] + i, q] = pack(wave.b[wave.k_of(q), wave.n_of(q)][i])

    dut, seen = ComputeUnit(config), np.zeros((end, config.cores, side), int)

    async def bench(ctx):
        for t in range(end):
            for q in range(config.cores):
                ctx.set(dut.moving[q], int(moving[t, q]))
                ctx.set(dut.stationary[q], int(stationary[t, q]))
            for port, values in ((dut.swap, swap), (dut.capture, capture), (dut.tall, tall), (dut.wide, wide)):
                ctx.set(port, int(values[t]))
            for q in range(config.cores):
                for c in range(side):
                    seen[t, q, c] = ctx.get(dut.sums[q][c])
            await ctx.tick()

    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(bench)
    sim.run()
    return seen


@pytest.mark.parametrize(("side", "unit", "row_latency", "multiplier_latency", "seed", "dtype"), [
    (1, "flex", 2, 3, 15, "bf16"), (2, "flex", 1, 1, 16, "bf16"), (2, "flex", 2, 4, 17, "bf16"), (2, "flex", 4, 6, 18, "bf16"),
    (2, "quad", 1, 3, 19, "bf16"), (2, "single", 3, 2, 20, "bf16"), (4, "flex", 2, 3, 21, "bf16"), *((*case, "int8") for case in [
    (1, "flex", 1, 1, 0), (1, "flex", 2, 3, 1), (1, "quad", 1, 3, 2), (1, "single", 1, 1, 3),
    (2, "flex", 1, 1, 4), (2, "flex", 2, 1, 5), (2, "flex", 1, 3, 6), (2, "quad", 2, 3, 7), (2, "single", 1, 3, 8),
    (4, "flex", 1, 3, 9), (4, "flex", 2, 3, 10), (4, "flex", 1, 1, 11), (4, "quad", 1, 3, 12), (4, "single", 2, 1, 13),
    (2, "flex", 3, 2, 14)]),
])
def test_products_of_mixed_modes_are_exact(side, unit, row_latency, multiplier_latency, seed, dtype):
    print(f"seed {seed}")
    config, rng = machine(side, unit, row_latency, multiplier_latency, dtype), np.random.default_rng(seed)
    waves = random_waves(rng, config, 12 if side < 4 else 8)
    seen = simulate(config, waves)
    for number, wave in enumerate(waves):
        for q in range(config.cores):
            low = q // 2
            k = slice(None) if wave.tall and low else wave.k_of(q)
            expected = bits_of(times(wave.a[:, k], wave.b[k, wave.n_of(q)]), config.sum_width)
            for i, row in enumerate(wave.rows_of(q)):
                for c in range(side):
                    when = wave.start + config.core_offset(q) + i + 1 + row_latency * side + c + multiplier_latency
                    found = seen[when, q, c] & (1 << config.sum_width) - 1
                    assert found == expected[row, c], (seed, number, wave.tall, wave.wide, q, row, c)


def test_full_rate_programs_have_no_bubble():
    """The schedule above is the tightest the contract allows: long waves follow each other without a gap."""
    config, rng = machine(2, "flex", 1, 1), np.random.default_rng(0)
    waves = [wave for wave in random_waves(rng, config, 60) if wave.length() >= 2][:8]
    simulate(config, waves)
    assert all(after.start == before.start + before.length() for before, after in pairwise(waves))
    assert {(wave.tall, wave.wide) for wave in waves} == {(False, False), (False, True), (True, False), (True, True)}

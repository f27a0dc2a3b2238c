"""The compute unit: random programs of waves of all modes, back to back, against numpy."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
from amaranth.sim import Simulator

from gen.config import Array, Buffers, Config, Memory, Unit
from rtl.array.unit import ComputeUnit


def machine(side: int, unit: str, row_latency: int, multiplier_latency: int) -> Config:
    return Config(
        array=Array(side=side, unit=Unit(unit), row_latency=row_latency, multiplier_latency=multiplier_latency),
        buffers=Buffers(moving_words=64, accumulator_words=16, slice_words=256, store_lanes=1),
        memory=Memory(bytes_per_cycle=max(4, side)),
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
        a, b = rng.integers(-255, 256, (m, k)), rng.integers(-255, 256, (k, n))
        if rng.random() < 0.1:
            a[:], b[:] = -255, rng.choice([-255, 255])
        waves.append(Wave(side, tall, wide, a, b))
    return waves


def pack(values) -> int:
    return sum((int(value) & 511) << 9 * i for i, value in enumerate(values))


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
    moving, stationary = rng.integers(0, 1 << 9 * min(side, 6), (2, end, config.cores)).astype(object)
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


@pytest.mark.parametrize(("side", "unit", "row_latency", "multiplier_latency", "seed"), [
    (1, "flex", 1, 1, 0), (1, "flex", 2, 3, 1), (1, "quad", 1, 3, 2), (1, "single", 1, 1, 3),
    (2, "flex", 1, 1, 4), (2, "flex", 2, 1, 5), (2, "flex", 1, 3, 6), (2, "quad", 2, 3, 7), (2, "single", 1, 3, 8),
    (4, "flex", 1, 3, 9), (4, "flex", 2, 3, 10), (4, "flex", 1, 1, 11), (4, "quad", 1, 3, 12), (4, "single", 2, 1, 13),
    (2, "flex", 3, 2, 14),
])
def test_products_of_mixed_modes_are_exact(side, unit, row_latency, multiplier_latency, seed):
    config, rng = machine(side, unit, row_latency, multiplier_latency), np.random.default_rng(seed)
    waves = random_waves(rng, config, 12 if side < 4 else 8)
    seen = simulate(config, waves)
    for number, wave in enumerate(waves):
        for q in range(config.cores):
            low = q // 2
            k = slice(None) if wave.tall and low else wave.k_of(q)
            expected = wave.a[:, k] @ wave.b[k, wave.n_of(q)]
            for i, row in enumerate(wave.rows_of(q)):
                for c in range(side):
                    when = wave.start + config.core_offset(q) + i + 1 + row_latency * side + c + multiplier_latency
                    assert seen[when, q, c] == expected[row, c], (seed, number, wave.tall, wave.wide, q, row, c)


def test_full_rate_programs_have_no_bubble():
    """The schedule above is the tightest the contract allows: long waves follow each other without a gap."""
    config, rng = machine(2, "flex", 1, 1), np.random.default_rng(0)
    waves = [wave for wave in random_waves(rng, config, 60) if wave.length() >= 2][:8]
    simulate(config, waves)
    assert all(after.start == before.start + before.length() for before, after in pairwise(waves))
    assert {(wave.tall, wave.wide) for wave in waves} == {(False, False), (False, True), (True, False), (True, True)}

"""The output buffer: skewed results of both cores of a pair added in place, at the shortest distances, and read meanwhile."""

import numpy as np
import pytest
from amaranth.sim import Simulator

from gen.timing import ACCUMULATOR_LATENCY, FETCH_LATENCY
from rtl.buffer.output_buffer import STEP_AHEAD, OutputBuffer
from tb.unit.test_array import machine

LOWER, UPPER = 0, 1


class Bench:
    """Results planned by cycle; each also goes into the expected accumulators."""

    def __init__(self, config, seed: int):
        self.config, self.rng, self.seed = config, np.random.default_rng(seed), seed
        self.side, self.words = config.array.side, config.buffers.accumulator_words
        self.expected = np.zeros((2, 2, self.words, self.side), np.int64)
        self.steps, self.sums, self.end = {}, {}, 0

    def wave(self, when: int, *, tall: bool, half: int, overwrite: bool, count: int, missing: tuple[int, int] = (0, 0)):
        """`count` results of both cores, the first in lane 0 in cycle `when`; the last `missing` rows of each do not exist."""
        limit, cores = 1 << (self.config.sum_width - 1), range(self.config.core_rows)
        for i in range(count):
            keep = [i < count - missing[core] for core in cores]
            self.steps[when + i - STEP_AHEAD] = {
                "enable": 1, "first": i == 0, "tall": tall, "half": half, "overwrite": overwrite,
                "keep": sum(keep[core] << core for core in cores)}
            for core in cores:
                bank, word = (i & 1, i >> 1) if tall else (int(core == LOWER), i)
                for lane in range(self.side):
                    value = int(self.rng.choice([-limit, limit - 1, *self.rng.integers(-limit, limit, 6)]))
                    self.sums[when + i + lane, core, lane] = value
                    if keep[core] and not (tall and core == UPPER):
                        place = self.expected[half, bank, word]
                        place[lane] = value + (0 if overwrite else place[lane])
        self.end = max(self.end, when + count + self.side + ACCUMULATOR_LATENCY)

    def run(self, reads: dict[int, tuple[int, int, int]]) -> dict:
        """Words of the reads (half, bank, word) by the cycle of the read."""
        dut, seen, cores = OutputBuffer(self.config), {}, self.config.core_rows

        async def bench(ctx):
            for t in range(max([self.end, *reads]) + FETCH_LATENCY + 1):
                ctx.set(dut.step, self.steps.get(t, {"enable": 0}))
                for core in range(cores):
                    for lane in range(self.side):
                        ctx.set(dut.sums[core][lane], self.sums.get((t, core, lane), int(self.rng.integers(0, 99))))
                ctx.set(dut.enable, t in reads)
                for port, value in zip((dut.half, dut.bank, dut.word), reads.get(t, ())):
                    ctx.set(port, value)
                if t - FETCH_LATENCY in reads:
                    seen[t - FETCH_LATENCY] = [ctx.get(dut.data[lane]) for lane in range(self.side)]
                await ctx.tick()

        sim = Simulator(dut)
        sim.add_clock(1e-6)
        sim.add_testbench(bench)
        sim.run()
        return seen

    def check(self, reads: dict[int, tuple[int, int, int]]):
        for t, values in self.run(reads).items():
            assert values == [int(value) & 0xFFFFFFFF for value in self.expected[reads[t]]], (self.seed, t, reads[t])

    def everything(self, start: int) -> dict:
        return dict(enumerate(np.ndindex(2, 2, self.words), start=start))


@pytest.mark.parametrize(("side", "seed"), [(1, 0), (2, 1), (4, 2)])
def test_same_words_at_the_shortest_interval(side, seed):
    bench, t = Bench(machine(side, "flex", 1, 1), seed), 5
    for i in range(12):         # four results, again and again, in both modes of one half
        t += 2 * (i % 4 == 2)                                       # the least penalty of a short wave behind a tall one
        bench.wave(t, tall=i % 4 < 2, half=1, overwrite=i == 6, count=ACCUMULATOR_LATENCY)
        t += ACCUMULATOR_LATENCY
    bench.check(bench.everything(bench.end))


def test_one_word_every_four_cycles():
    bench = Bench(machine(2, "flex", 1, 1), 3)
    for i in range(10):
        bench.wave(5 + 4 * i, tall=i % 3 > 0, half=0, overwrite=i == 0, count=1)
    bench.check(bench.everything(bench.end))


def test_tall_and_short_in_different_halves():
    bench = Bench(machine(2, "flex", 1, 1), 4)
    bench.wave(5, tall=True, half=0, overwrite=True, count=9)
    bench.wave(14, tall=False, half=1, overwrite=True, count=8, missing=(0, 1))
    bench.wave(22, tall=False, half=0, overwrite=False, count=4, missing=(1, 0))
    bench.wave(26, tall=True, half=1, overwrite=False, count=7)
    bench.check(bench.everything(bench.end))


@pytest.mark.parametrize("half", [0, 1])
def test_a_half_is_read_while_the_other_accumulates(half):
    bench = Bench(machine(2, "flex", 1, 1), 5 + half)
    bench.wave(5, tall=True, half=half, overwrite=True, count=8)
    bench.wave(13, tall=True, half=1 - half, overwrite=True, count=30)
    last = 5 + 7 + bench.side - 1                                   # result 7 in the last lane
    reads = {last + ACCUMULATOR_LATENCY + i: (half, (7 - i) & 1, (7 - i) >> 1) for i in range(8)}
    bench.check(reads | bench.everything(bench.end))


@pytest.mark.parametrize(("unit", "tall"), [("quad", False), ("single", True)])
def test_plain_units(unit, tall):
    bench = Bench(machine(2, unit, 1, 1), 7)
    for i in range(4):
        bench.wave(5 + 6 * i, tall=tall, half=i & 1, overwrite=i < 2, count=6, missing=(i & 1, i >> 1))
    bench.check(bench.everything(bench.end))

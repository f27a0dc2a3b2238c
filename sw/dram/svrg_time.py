"""Cycles of SVRG's parts on the cycle model: full gradients and inner loops, each alone and both at once.

An epoch is put together from runs of the model, each from reset and each as long as its part: nothing is extrapolated. Both at once are
two runs with the residuals between them, which the host computes from the margins and for which the DOTs wait: GEMV beside the inner loop
until the GEMV is done, then DOTs beside the inner steps that are left. What is assumed of the host:

- its time is that of its memory traffic: one core, up to 32 reads in flight, a request a cycle at most, no arithmetic;
- it reads samples from a copy by rows of its own; an inner step reads a sample, the weights, the snapshot and the full gradient, and writes
  the weights; its full gradient reads every sample once, and the weights and the gradient (read and write) once for `BATCH` samples;
- with `cached` all but the samples stays in a cache: a step and a full gradient read samples only;
- for a full gradient on the units it reads the margins and the DOTs' sums, and writes the residuals.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from gen.dram import DramConfig
from gen.nda import LANES
from gen.traffic import Core, Launch, Recording, Workload
from sw.dram.allocate import NdaError
from sw.dram.blas import Nda
from sw.dram.engines import model
from sw.dram.svrg import Mode, Problem, Summary

WINDOW, BATCH = 32, 16


@dataclass(frozen=True)
class Epoch:
    """Cycles of an epoch by what is at work."""

    host_gradient: int = 0     # the host alone: its full gradient
    inner: int = 0             # the host alone: inner steps
    both: int = 0              # inner steps and the units
    units: int = 0             # the units alone: GEMV and DOTs
    residuals: int = 0         # the host alone, for the units: residuals and sums

    @property
    def cycles(self) -> int:
        """All of it."""
        return sum(getattr(self, item.name) for item in fields(self))


@dataclass(frozen=True)
class Times:
    """An epoch of `steps` inner steps in each way."""

    steps: int
    host: Epoch
    alternating: Epoch
    delayed: Epoch

    def epoch(self, mode: Mode) -> Epoch:
        """Of a way."""
        return getattr(self, mode)

    def axis(self, mode: Mode, points: int) -> np.ndarray:
        """Cycles at the start (0) and at each epoch's end. The delayed way begins with a full gradient on the units alone."""
        begin = self.alternating.units + self.alternating.residuals if mode == "delayed" else 0
        cycles = begin + np.arange(points) * self.epoch(mode).cycles
        cycles[0] = 0
        return cycles


class Clock:
    """Measures the epochs of a problem in a memory. What does not depend on the number of steps is measured once."""

    def __init__(self, config: DramConfig, problem: Problem, policy: str = "next-rank", *, cached: bool = True, seed: int = 0):
        self.config, self.cached, self.seed = config, cached, seed
        self.samples, self.features = problem.samples.shape
        self.gemv, self.dots = launches(config, problem, policy, seed)
        self.gemv_alone, self.dots_alone = (units_done(model(config, Workload(launches=item))) for item in (self.gemv, self.dots))
        self.host_gradient = host_done(model(config, Workload(cores=(gradient_core(self.samples, self.features, cached),))))
        self.residuals = host_done(model(config, Workload(cores=(residuals_core(config, self.samples, self.features),))))

    def measure(self, steps: int) -> Times:
        """Epochs of `steps` inner steps."""
        if steps < 1:
            raise NdaError(f"steps = {steps} is outside 1..")
        inner = inner_core(self.samples, self.features, steps, self.seed, self.cached)
        alone = host_done(model(self.config, Workload(cores=(inner,))))
        return Times(steps, Epoch(host_gradient=self.host_gradient, inner=alone),
                     Epoch(units=self.gemv_alone + self.dots_alone, residuals=self.residuals, inner=alone), self._delayed(inner, steps))

    def _delayed(self, inner: Core, steps: int) -> Epoch:
        first = model(self.config, Workload(cores=(inner,), launches=self.gemv))
        host, gemv = host_done(first), units_done(first)
        if host <= gemv:
            return Epoch(both=host, units=gemv - host + self.dots_alone, residuals=self.residuals)
        reads = int((~inner.writes).sum()) // steps
        done = min(int((first.reads["answered"] < gemv).sum()) // reads, steps - 1)      # a step under way begins again
        rest = slice(len(inner.blocks) // steps * done, None)
        second = model(self.config, Workload(cores=(_core(inner.blocks[rest], inner.writes[rest]),), launches=self.dots))
        host, dots = host_done(second), units_done(second)
        return Epoch(both=gemv + min(host, dots), units=max(dots - host, 0), inner=max(host - dots, 0), residuals=self.residuals)


def launches(config: DramConfig, problem: Problem, policy: str, seed: int = 0) -> tuple[tuple[Launch, ...], tuple[Launch, ...]]:
    """Those of a full gradient: its GEMV's and all its DOTs'."""
    nda = Nda(config, "untimed", policy, seed=seed)
    summary = Summary(nda, problem)
    features = problem.samples.shape[1]

    def record(call: Callable[[], Any]) -> tuple[Launch, ...]:
        call()
        assert nda.last is not None
        return nda.last.launches

    gemv = record(lambda: nda.gemv(summary.matrix, np.ones(features, np.float32), summary.zero, out=summary.margins))
    dots = [record(lambda j=j: nda.dot(summary.matrix.column(j), summary.margins)) for j in range(features)]
    return gemv, tuple(launch for call in dots for launch in call)


def inner_core(samples: int, features: int, steps: int, seed: int, cached: bool) -> Core:
    """Inner steps: samples by rows from block 0 on, then weights, snapshot, full gradient."""
    row = -(-features // LANES)
    sample = np.random.default_rng(seed).integers(0, samples, (steps, 1)) * row + np.arange(row)
    others = samples * row + np.concatenate([np.arange(3 * row), np.arange(row)])
    blocks = sample if cached else np.concatenate([sample, np.tile(others, (steps, 1))], axis=1)
    writes = np.arange(blocks.shape[1]) >= 4 * row
    return _core(blocks.reshape(-1), np.tile(writes, steps))


def gradient_core(samples: int, features: int, cached: bool) -> Core:
    """The host's full gradient: samples in order; for each batch the weights, and the gradient read and written."""
    row = -(-features // LANES)
    weights, blocks, writes = samples * row, [], []
    for first in range(0, samples, BATCH):
        size = min(BATCH, samples - first) * row
        others = [] if cached else [np.arange(2 * row) + weights, np.arange(row) + weights + row]
        blocks += [np.arange(size) + first * row, *others]
        writes.append(np.arange(size + len(others[:1]) * 3 * row) >= size + 2 * row)
    return _core(np.concatenate(blocks), np.concatenate(writes))


def residuals_core(config: DramConfig, samples: int, features: int) -> Core:
    """Margins read, residuals written, and the sums of each DOT read from every unit."""
    count, sums = -(-samples // LANES), features * config.channels * config.ranks
    base = config.frame_blocks
    return _core(np.concatenate([np.arange(count) + base, np.arange(count) + base, np.arange(sums) + 2 * base]),
                 np.concatenate([np.zeros(count, bool), np.ones(count, bool), np.zeros(sums, bool)]))


def host_done(recording: Recording) -> int:
    """Cycles until the host's last answer or write."""
    return recording.host_done + 1


def units_done(recording: Recording) -> int:
    """Cycles until the last near-data command."""
    return int(recording.commands["cycle"][recording.commands["source"] == 1].max()) + 1


def _core(blocks: np.ndarray, writes: np.ndarray) -> Core:
    return Core(gaps=np.ones(len(blocks), np.uint32), blocks=blocks.astype(np.uint64), writes=writes, window=WINDOW)

"""SVRG (nda.md, section 8): logistic regression whose full gradients the near-data units compute, as loss over memory cycles.

Problem: scikit-learn's digits, one class against the rest, 64 pixels in 0..1 and a constant, penalty/2 |w|^2. Three ways:

- host: the host computes the full gradient at a snapshot, then its inner loop of `steps` steps
  w -= rate (grad_i(w) - grad_i(snapshot) + full gradient).
- alternating: the units compute the full gradient while the host waits, then the inner loop.
- delayed: both at once. The inner loop uses the full gradient of the snapshot before, so its correction is one epoch old.

Full gradient on the units: a GEMV (columns: features) gives the margins, the host turns them into residuals, a DOT for each feature gives
the sum over the samples. Numbers are the golden model's float32, the host's part and the loss are float64.

Time is cycles of the cycle model. Each part is measured once, alone and with the other side at work (`measure`), and the parts are then
put together (`epoch_cycles`); a run is not simulated end to end. What the measurement assumes of the host:

- its time is that of its memory traffic: one core, up to 32 reads in flight, a request a cycle at most, no arithmetic;
- it reads samples from a copy by rows of its own; an inner step reads a sample, the weights, the snapshot and the full gradient, and writes
  the weights; its full gradient reads every sample once, and the weights and the gradient (read and write) once for `BATCH` samples;
- with `cached` all but the samples stays in a cache: a step and a full gradient read samples only;
- beside the units it reads the margins and the DOTs' sums, and writes the residuals.
"""

import math
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from gen.dram import DramConfig, part, replace
from gen.nda import LANES
from gen.traffic import Core, Launch, Workload
from sw.dram.allocate import Matrix, NdaError, Vector
from sw.dram.blas import Nda
from sw.dram.engines import Engine, model

Mode = Literal["host", "alternating", "delayed"]
MODES: tuple[Mode, ...] = ("host", "alternating", "delayed")
WINDOW, BATCH = 32, 16
MEASURED_STEPS = 2000


@dataclass(frozen=True)
class Problem:
    """samples (n, features) float32, targets 0 or 1, penalty."""

    samples: np.ndarray = field(repr=False)
    targets: np.ndarray = field(repr=False)
    penalty: float = 1e-3

    def margins(self, weights: np.ndarray) -> np.ndarray:
        """In float64."""
        return self.samples.astype(np.float64) @ weights

    def residuals(self, margins: np.ndarray) -> np.ndarray:
        """Derivative of each sample's loss by its margin, float64."""
        return 1 / (1 + np.exp(-np.asarray(margins, np.float64))) - self.targets

    def loss(self, weights: np.ndarray) -> float:
        """Mean log loss and penalty."""
        margins = self.margins(weights)
        return float(np.mean(np.logaddexp(0, margins) - self.targets * margins) + self.penalty / 2 * weights @ weights)

    def optimum(self) -> np.ndarray:
        """The best weights, by Newton's method."""
        x, weights = self.samples.astype(np.float64), np.zeros(self.samples.shape[1])
        for _ in range(30):
            residuals = self.residuals(x @ weights)
            gradient = x.T @ residuals / len(x) + self.penalty * weights
            chances = residuals + self.targets
            curvature = (x * (chances * (1 - chances))[:, None]).T @ x / len(x) + self.penalty * np.eye(len(weights))
            weights = weights - np.linalg.solve(curvature, gradient)
        return weights


def digits(digit: int = 8, samples: int | None = None, *, shifted: bool = False, penalty: float = 1e-3) -> Problem:
    """One digit against the rest; the first `samples` images or all 1,797; `shifted` adds each moved by a pixel up, down, left, right."""
    from sklearn.datasets import load_digits

    if not 0 <= digit <= 9:
        raise NdaError(f"digit = {digit} is outside 0..9")
    images, labels = map(np.asarray, load_digits(return_X_y=True))
    if samples is not None and not 1 <= samples <= len(images):
        raise NdaError(f"samples = {samples} is outside 1..{len(images)}")
    images, labels = images[:samples], labels[:samples]
    if shifted:
        framed = np.pad(images.reshape(-1, 8, 8), ((0, 0), (1, 1), (1, 1)))
        images = np.concatenate([framed[:, 1 + y:9 + y, 1 + x:9 + x].reshape(-1, 64)
                                 for y, x in ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1))])
        labels = np.tile(labels, 5)
    ones = np.ones((len(images), 1))
    return Problem(np.concatenate([images / 16, ones], axis=1).astype(np.float32), (labels == digit).astype(np.float64), penalty)


def system(channels: int = 2, ranks: int = 4) -> DramConfig:
    """DDR4 whose rank changes every 4 columns, so that vectors of some hundred elements lie in all units.

    Eight units and more are not hashed: a colour would have too few frames for a column of each feature.
    """
    config = DramConfig(part=part("ddr4-2400r"), channels=channels, ranks=ranks, hashed=channels * ranks < 8)
    bits, low = config.field_bits, config.reserved_bits
    return replace(config, layout=(
        ("bank", low), ("channel", bits["channel"]), ("column", 2), ("rank", bits["rank"]), ("column", bits["column"] - 2),
        ("bank", bits["bank"] - low), ("row", bits["row"])))


class Summary:
    """The full gradient on the units: operands in place, one call a snapshot."""

    def __init__(self, nda: Nda, problem: Problem):
        self.nda, self.problem = nda, problem
        self.matrix: Matrix = nda.matrix(problem.samples)
        self.margins: Vector = nda.array(np.zeros(len(problem.samples), np.float32))
        self.zero: Vector = nda.array(np.zeros(len(problem.samples), np.float32))

    def gradient(self, weights: np.ndarray) -> np.ndarray:
        """Full gradient at the weights (rounded to float32), float64."""
        weights = weights.astype(np.float32)
        self.nda.gemv(self.matrix, weights, self.zero, out=self.margins)
        residuals = self.problem.residuals(self.nda.numpy(self.margins))
        self.nda.store(self.margins, residuals.astype(np.float32))
        handles = [self.nda.dot(self.matrix.column(j), self.margins, wait=False) for j in range(self.matrix.columns)]
        sums = np.array([handle.wait() for handle in handles], np.float64)
        return sums / len(residuals) + self.problem.penalty * weights


@dataclass(frozen=True)
class Costs:
    """Cycles of each part; that of the units is the GEMV and all DOTs. `gemv`, `dot`, `units`: with no traffic of the host."""

    samples: int
    features: int
    host_gradient: float         # the host's full gradient
    step: float                  # an inner step
    step_beside: float           # the same while the units work
    gemv: float
    dot: float
    units: float                 # the units' part of a full gradient
    units_beside: float          # the same beside the inner loop
    residuals: float             # the host's part beside the units'


def measure(config: DramConfig, problem: Problem, policy: str = "next-rank", *, cached: bool = True, seed: int = 0) -> Costs:
    """Measure every part on the cycle model (some seconds)."""
    samples, features = problem.samples.shape
    inner = _inner(samples, features, MEASURED_STEPS, seed, cached)
    alone = model(config, Workload(cores=(inner,))).host_done
    summary = Summary(Nda(config, "untimed", policy, seed=seed), problem)
    nda, launches = summary.nda, []

    def record(call) -> tuple[Launch, ...]:
        call()
        assert nda.last is not None
        launches.extend(nda.last.launches)
        return nda.last.launches

    gemv = _units(config, record(lambda: nda.gemv(summary.matrix, np.ones(features), summary.zero, out=summary.margins)))
    some = [record(lambda j=j: nda.dot(summary.matrix.column(j), summary.margins)) for j in range(features)]
    whole = _units(config, tuple(launch for call in some for launch in call))
    beside = model(config, Workload(cores=(inner,), launches=tuple(launches), repeat=0))
    commands = beside.commands[beside.commands["cycle"] <= beside.host_done]
    done = _columns(commands) / _columns(model(config, Workload(launches=tuple(launches))).commands)
    return Costs(
        samples=samples, features=features, step=alone / MEASURED_STEPS, step_beside=beside.host_done / MEASURED_STEPS,
        gemv=gemv, dot=whole / features,
        units=gemv + whole, units_beside=beside.host_done / done if done else math.inf,
        host_gradient=model(config, Workload(cores=(_gradient(samples, features, cached),))).host_done,
        residuals=model(config, Workload(cores=(_residuals(config, samples, features),))).host_done)


def epoch_cycles(costs: Costs, mode: Mode, steps: int) -> float:
    """Cycles of an epoch: a full gradient and `steps` inner steps."""
    inner = steps * costs.step
    if mode == "host":
        return costs.host_gradient + inner
    if mode == "alternating":
        return costs.units + costs.residuals + inner
    # Both at once until one is done, the rest alone. The residuals are traffic of the host like the inner loop's.
    host = inner + costs.residuals
    host_beside, units_beside = host * costs.step_beside / costs.step, costs.units_beside
    if host_beside <= units_beside:
        return host_beside + (1 - host_beside / units_beside) * costs.units
    return units_beside + (1 - units_beside / host_beside) * host


@dataclass(frozen=True)
class Curve:
    """Loss less the optimum at the end of each epoch; the first point is the start."""

    mode: Mode
    cycles: np.ndarray
    excess: np.ndarray

    def reaches(self, excess: float) -> float | None:
        """Cycles until the loss is that near to the optimum, None if it never is."""
        below = np.flatnonzero(self.excess <= excess)
        return float(self.cycles[below[0]]) if len(below) else None


def optimise(problem: Problem, costs: Costs, mode: Mode, *, config: DramConfig, epochs: int, steps: int, rate: float, seed: int) -> Curve:
    """One of the three ways. The delayed way begins with an epoch's full gradient alone, as alternating does."""
    rng, best = np.random.default_rng(seed), problem.loss(problem.optimum())
    x = problem.samples.astype(np.float64)
    summary = Summary(Nda(config, "untimed"), problem)
    weights = np.zeros(x.shape[1])

    def full(at: np.ndarray) -> np.ndarray:
        if mode == "host":
            return x.T @ problem.residuals(x @ at) / len(x) + problem.penalty * at
        return summary.gradient(at)

    cycles, excess = [0.0], [problem.loss(weights) - best]
    snapshot = weights.copy()
    gradient = full(snapshot) if mode == "delayed" else np.zeros_like(weights)
    start = costs.units + costs.residuals if mode == "delayed" else 0.0
    for epoch in range(epochs):
        begin = weights.copy()
        if mode != "delayed":
            snapshot, gradient = begin, full(begin)
        old = problem.residuals(x @ snapshot)
        for i in rng.integers(0, len(x), steps):
            residual = 1 / (1 + math.exp(-float(x[i] @ weights))) - problem.targets[i]
            weights = weights - rate * ((residual - old[i]) * x[i] + problem.penalty * (weights - snapshot) + gradient)
        if mode == "delayed":
            snapshot, gradient = begin, full(begin)      # was computed beside the loop
        cycles.append(start + (epoch + 1) * epoch_cycles(costs, mode, steps))
        excess.append(problem.loss(weights) - best)
    return Curve(mode, np.array(cycles), np.array(excess))


@dataclass(frozen=True)
class Study:
    """The three curves, their parts' costs, and what was chosen."""

    config: DramConfig = field(repr=False)
    costs: Costs
    curves: tuple[Curve, ...]
    steps: int
    rate: float
    policy: str

    def table(self, targets: tuple[float, ...] = (1e-2, 1e-3, 1e-4)) -> str:
        """Markdown: cycles of an epoch, and until the loss is within each target of the optimum."""
        head = ["way", "cycles an epoch", *(f"until {target:g}" for target in targets)]
        lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
        for curve in self.curves:
            reached = [curve.reaches(target) for target in targets]
            cells = [f"{epoch_cycles(self.costs, curve.mode, self.steps):,.0f}",
                     *("not reached" if value is None else f"{value:,.0f}" for value in reached)]
            lines.append(f"| {curve.mode} | " + " | ".join(cells) + " |")
        return "\n".join(lines) + "\n"

    def to_csv(self) -> str:
        """mode,epoch,cycles,excess: loss less the optimum, for a plot."""
        rows = [f"{curve.mode},{epoch},{cycles:.0f},{excess:.6e}" for curve in self.curves
                for epoch, (cycles, excess) in enumerate(zip(curve.cycles, curve.excess))]
        return "\n".join(["mode,epoch,cycles,excess", *rows]) + "\n"


def study(*, config: DramConfig | None = None, problem: Problem | None = None, policy: str = "next-rank", cached: bool = True,
          part_of_epoch: float = 0.25, rate: float = 0.05, epochs: int = 20, seed: int = 0) -> Study:
    """Measure and run the three ways, on all digits and their shifted copies if no problem is given (about a minute).

    An epoch has `part_of_epoch` x samples inner steps.
    """
    config, problem = config or system(), problem or digits(shifted=True)
    steps = round(part_of_epoch * len(problem.samples))
    if steps < 1:
        raise NdaError(f"part_of_epoch = {part_of_epoch} is outside {1 / len(problem.samples):g}.. (one step)")
    costs = measure(config, problem, policy, cached=cached, seed=seed)
    curves = tuple(optimise(problem, costs, mode, config=config, epochs=epochs, steps=steps, rate=rate, seed=seed) for mode in MODES)
    return Study(config, costs, curves, steps, rate, policy)


def short_piece(engine: "str | Engine" = "rtl", *, samples: int = 64, seed: int = 0) -> tuple[np.ndarray, Nda]:
    """A full gradient of a few digits at random weights through the units. On "rtl" every block and command is compared on the way."""
    problem = digits(samples=samples)
    nda = Nda(system(1, 1), engine)
    weights = np.random.default_rng(seed).normal(size=problem.samples.shape[1]) / 4
    return Summary(nda, problem).gradient(weights), nda


def _core(blocks: np.ndarray, writes: np.ndarray) -> Core:
    return Core(gaps=np.ones(len(blocks), np.uint32), blocks=blocks.astype(np.uint64), writes=writes, window=WINDOW)


def _inner(samples: int, features: int, steps: int, seed: int, cached: bool) -> Core:
    """Inner steps: samples by rows from block 0 on, then weights, snapshot, full gradient."""
    row = -(-features // LANES)
    sample = np.random.default_rng(seed).integers(0, samples, (steps, 1)) * row + np.arange(row)
    others = samples * row + np.concatenate([np.arange(3 * row), np.arange(row)])
    blocks = sample if cached else np.concatenate([sample, np.tile(others, (steps, 1))], axis=1)
    writes = np.arange(blocks.shape[1]) >= 4 * row
    return _core(blocks.reshape(-1), np.tile(writes, steps))


def _gradient(samples: int, features: int, cached: bool) -> Core:
    """The host's full gradient: samples in order; for each batch the weights, and the gradient read and written."""
    row = -(-features // LANES)
    weights, blocks, writes = samples * row, [], []
    for first in range(0, samples, BATCH):
        size = min(BATCH, samples - first) * row
        others = [] if cached else [np.arange(2 * row) + weights, np.arange(row) + weights + row]
        blocks += [np.arange(size) + first * row, *others]
        writes.append(np.arange(size + len(others[:1]) * 3 * row) >= size + 2 * row)
    return _core(np.concatenate(blocks), np.concatenate(writes))


def _residuals(config: DramConfig, samples: int, features: int) -> Core:
    """Margins read, residuals written, and the sums of each DOT read from every unit."""
    count, sums = -(-samples // LANES), features * config.channels * config.ranks
    base = config.frame_blocks
    return _core(np.concatenate([np.arange(count) + base, np.arange(count) + base, np.arange(sums) + 2 * base]),
                 np.concatenate([np.zeros(count, bool), np.ones(count, bool), np.zeros(sums, bool)]))


def _units(config: DramConfig, launches: tuple[Launch, ...]) -> float:
    """Cycles from the start to the last near-data command."""
    commands = model(config, Workload(launches=launches)).commands
    return float(commands["cycle"][commands["source"] == 1].max() + 1)


def _columns(commands: np.ndarray) -> int:
    """Near-data column commands."""
    return int(((commands["source"] == 1) & np.isin(commands["kind"], (4, 5))).sum())

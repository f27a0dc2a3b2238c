"""SVRG (nda.md, section 8): logistic regression whose full gradients the near-data units compute.

Their times: svrg_time.py; the study: svrg_study.py.

Problem: scikit-learn's digits, one class against the rest, 64 pixels in 0..1 and a constant, penalty/2 |w|^2. Three ways:

- host: the host computes the full gradient at a snapshot, then its inner loop of `steps` steps
  w -= rate (grad_i(w) - grad_i(snapshot) + full gradient).
- alternating: the units compute the full gradient while the host waits, then the inner loop.
- delayed: both at once. The inner loop uses the full gradient of the snapshot before, so its correction is one epoch old.

Full gradient on the units: a GEMV (columns: features) gives the margins, the host turns them into residuals, a DOT for each feature gives
the sum over the samples. Numbers are the golden model's float32, the host's part and the loss are float64.
"""

import math
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from gen.dram import DramConfig, part, replace
from sw.dram.allocate import Matrix, NdaError, Vector
from sw.dram.blas import Nda
from sw.dram.engines import Engine

Mode = Literal["host", "alternating", "delayed"]
MODES: tuple[Mode, ...] = ("host", "alternating", "delayed")
DIVERGED = 100
IMAGES = 1797    # of scikit-learn's digits


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


def optimise(problem: Problem, mode: Mode, *, epochs: int, steps: int, rate: float, seed: int = 0, config: DramConfig | None = None,
             until: float = 0.0) -> np.ndarray:
    """Loss less the optimum at the start and after each epoch of `steps` inner steps.

    Ends early where it is `until` or less, or `DIVERGED` times that of the start.

    With `config` the full gradients are those of the units of such a memory, float32; without, all ways compute them in float64.
    """
    rng, best = np.random.default_rng(seed), problem.loss(problem.optimum())
    x = problem.samples.astype(np.float64)
    summary = Summary(Nda(config, "untimed"), problem) if config and mode != "host" else None
    weights = np.zeros(x.shape[1])

    def full(at: np.ndarray) -> np.ndarray:
        return summary.gradient(at) if summary else x.T @ problem.residuals(x @ at) / len(x) + problem.penalty * at

    excess = [problem.loss(weights) - best]
    snapshot = weights.copy()
    gradient = full(snapshot) if mode == "delayed" else np.zeros_like(weights)
    for _ in range(epochs):
        begin = weights.copy()
        if mode != "delayed":
            snapshot, gradient = begin, full(begin)
        old = problem.residuals(x @ snapshot)
        for i in rng.integers(0, len(x), steps):
            residual = 0.5 + 0.5 * math.tanh(0.5 * float(x[i] @ weights)) - problem.targets[i]     # cannot overflow
            weights = weights - rate * ((residual - old[i]) * x[i] + problem.penalty * (weights - snapshot) + gradient)
        excess.append(problem.loss(weights) - best)
        if not until < excess[-1] < DIVERGED * excess[0]:      # nor a NaN
            break
        if mode == "delayed":
            snapshot, gradient = begin, full(begin)      # was computed beside the loop
    return np.array(excess)


def short_piece(engine: "str | Engine" = "rtl", *, samples: int = 64, seed: int = 0) -> tuple[np.ndarray, Nda]:
    """A full gradient of a few digits at random weights through the units. On "rtl" every block and command is compared on the way."""
    problem = digits(samples=samples)
    nda = Nda(system(1, 1), engine)
    weights = np.random.default_rng(seed).normal(size=problem.samples.shape[1]) / 4
    return Summary(nda, problem).gradient(weights), nda

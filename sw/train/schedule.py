"""The learning rate: proportional to the batch, gradually warmed up, then half a cosine (Goyal et al., arXiv:1706.02677)."""

from dataclasses import dataclass
from math import cos, inf, pi

from sw.runtime.errors import UserError

RATE, RATE_BATCH = 0.05, 32     # the rate that suits a batch of so many
WARM_UP = 1.0                   # epochs


def scaled(rate: float, batch: int, of_batch: int = RATE_BATCH) -> float:
    """The linear rule: a rate that suits `of_batch` images, for `batch`: k times the images, k times the rate."""
    return rate * batch / of_batch


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """The rate of every step of a run of `epochs`. `rate` is what suits a batch of RATE_BATCH.

    For the first `warm_up` epochs it goes in a straight line, step by step, from `rate` to what suits the batch, as Goyal et al. do for
    large batches; then along half a cosine to zero at the end. Where the batch is not above RATE_BATCH there is nothing to warm up to.
    Raises UserError for numbers out of range.

    When the rate changes, a velocity that carries it (v = m v + rate g, w = w - v) must be multiplied by the new rate over the old. Ours
    does not carry it (v = m v + g, w = w - rate v: `sw.golden.training.momentum_step`), which is the same thing without a correction.
    """

    epochs: int
    rate: float = RATE
    warm_up: float = WARM_UP

    def __post_init__(self):
        if self.epochs < 1:
            raise UserError(f"epochs = {self.epochs} is not positive")
        if not 0 < self.rate < inf:
            raise UserError(f"rate = {self.rate} is not a positive number")
        if not 0 <= self.warm_up < inf:
            raise UserError(f"warm_up = {self.warm_up} is not a number of epochs")

    def at(self, done: float, batch: int) -> float:
        """The rate of a step of `batch` images, `done` epochs after the start. Raises UserError for times outside of the run."""
        if not 0 <= done <= self.epochs:
            raise UserError(f"done = {done} is outside 0..{self.epochs} epochs")
        peak = scaled(self.rate, batch)
        if done < self.warm_up:
            return peak if peak <= self.rate else self.rate + (peak - self.rate) * done / self.warm_up
        if self.warm_up >= self.epochs:
            return peak
        return peak * (1 + cos(pi * (done - self.warm_up) / (self.epochs - self.warm_up))) / 2

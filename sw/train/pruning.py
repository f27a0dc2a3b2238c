"""PruneTrain: pruning while training (Lym et al., SC 2019). A hook for `sw.train.trainer`.

In every step the group lasso of `sw.train.lasso` is part of the loss; every `interval` epochs the channels that it has driven to zero are
taken out (`sw.train.channels`), and training goes on in the smaller dense network. Nothing is pruned at the end alone: what is gone costs
no multiply-add from then on. As memory for activations becomes free, the mini-batch may grow; the paper says that it does, not by which
rule: ours is `grown`.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from sw.golden.float32 import add
from sw.runtime.errors import UserError
from sw.train import lasso
from sw.train.channels import THRESHOLD, reconfigure
from sw.train.golden_engine import Parameters
from sw.train.network import Network
from sw.train.shapes import shapes
from sw.train.trainer import Hook

if TYPE_CHECKING:
    from sw.train.trainer import Trainer

ACTIVATION_BYTES = 2


def activation_bytes(network: Network) -> int:
    """Bytes that the results of all layers take for one image: bf16, all kept for the backward pass."""
    return ACTIVATION_BYTES * sum(int(np.prod(shape)) for shape in shapes(network).values())


def grown(origin: Network, network: Network, batch: int, step: int) -> int:
    """The mini-batch whose activations need no more memory in `network` than `batch` images did in `origin`: larger by multiples of `step`
    images. 0 as the step: `batch`."""
    if not step:
        return batch
    return batch + max(0, batch * activation_bytes(origin) // activation_bytes(network) - batch) // step * step


class Pruning(Hook):
    """Prunes a run: `ratio` of the penalty in the whole loss at the first step, `interval` epochs between reconfigurations, `threshold` for
    the largest weight of a dead channel, `grow` images by multiples of which the mini-batch grows (0: it stays). Raises UserError.
    """

    def __init__(self, ratio: float, interval: int = 5, *, threshold: float = THRESHOLD, grow: int = 0):
        if not 0 < ratio < 1:
            raise UserError(f"ratio = {ratio} of the penalty is outside 0..1, both excluded")
        for name, value, least in (("interval", interval, 1), ("grow", grow, 0)):
            if value < least:
                raise UserError(f"{name} = {value} is less than {least}")
        if not threshold > 0:
            raise UserError(f"threshold = {threshold} is not positive")
        self.ratio, self.interval, self.threshold, self.grow = ratio, interval, threshold, grow
        self.coefficient: np.float32 | None = None

    def batch(self, trainer: "Trainer") -> int:
        """Images in a step, at most those there are; larger by whole multiples of `grow`, so that sub-batches which divide it still fit."""
        batch, images = trainer.settings.batch, len(trainer.data.train_images)
        if not self.grow:
            return batch
        return min(grown(trainer.origin, trainer.network, batch, self.grow), batch + (images - batch) // self.grow * self.grow)

    def gradient(self, trainer: "Trainer", by_parameter: Parameters, loss: float):
        """Adds the penalty's gradient; in the first step of all finds its coefficient."""
        if self.coefficient is None:
            self.coefficient = lasso.coefficient(trainer.network, trainer.parameters, loss, self.ratio)
        for name, axes in lasso.sides(trainer.network):
            by_parameter[name] = add(by_parameter[name], lasso.gradient(trainer.parameters[name], axes, self.coefficient))

    def due(self, trainer: "Trainer", epoch: int) -> bool:
        """Behind every `interval`-th epoch (`epoch` counts from 0)."""
        return (epoch + 1) % self.interval == 0

    def after_epoch(self, trainer: "Trainer", epoch: int) -> bool:
        """Reconfigures where it is due; returns whether anything was taken out."""
        if not self.due(trainer, epoch):
            return False
        network, parameters, velocity, _ = reconfigure(trainer.network, trainer.parameters, trainer.velocity, self.threshold)
        if network == trainer.network:
            return False
        trainer.network, trainer.parameters, trainer.velocity = network, parameters, velocity
        return True

    def state(self) -> dict[str, Any]:
        """The coefficient; as a double it is exact."""
        return {"coefficient": None if self.coefficient is None else float(self.coefficient)}

    def restore(self, state: dict[str, Any]):
        """Go on with the coefficient of the run's first step."""
        self.coefficient = None if state["coefficient"] is None else np.float32(state["coefficient"])

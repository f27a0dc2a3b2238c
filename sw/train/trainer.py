"""The loop of a training run: epochs, steps, sub-batches, and the update of the parameters."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, Protocol

import numpy as np

from sw.golden.float32 import add
from sw.golden.training import momentum_step
from sw.runtime.errors import UserError
from sw.train.costs import by_organisation, training_macs
from sw.train.data import Data, batches
from sw.train.golden_engine import Parameters
from sw.train.network import Network
from sw.train.schedule import RATE, Schedule
from sw.train.shapes import channels, shapes

Tell = Callable[[str], None]
Moment = Literal["", "before", "after"]     # of a state that may be saved: beside a reconfiguration that was due, or behind any epoch
Done = Callable[["Trainer", Moment], None]


class Engine(Protocol):
    """What computes logits (batch, classes) and gradients for one network."""

    def logits(self, parameters: Mapping[str, np.ndarray], images: np.ndarray) -> np.ndarray: ...

    def gradients(self, parameters: Mapping[str, np.ndarray], images: np.ndarray, labels: np.ndarray,
                  share: float) -> tuple[np.ndarray, Parameters]:
        """Logits, and of every parameter the gradient of the sum of cross entropies times `share`."""
        ...


class Hook:
    """What may act between the steps of a run: nothing, unless a subclass says so."""

    def batch(self, trainer: "Trainer") -> int:
        """Images in a step of the epoch that begins; the rate follows by the linear rule."""
        return trainer.settings.batch

    def gradient(self, trainer: "Trainer", by_parameter: Parameters, loss: float):
        """Before each update: may change the gradients in `by_parameter`; `loss` is the batch's mean cross entropy."""

    def due(self, trainer: "Trainer", epoch: int) -> bool:
        """Whether the state between epoch `epoch` (from 0) and `after_epoch` is to be saved too: a reconfiguration is about to happen."""
        return False

    def after_epoch(self, trainer: "Trainer", epoch: int) -> bool:
        """Behind epoch `epoch` (from 0): may replace `trainer.network`, `.parameters` and `.velocity`; returns whether it did."""
        return False

    def state(self) -> dict[str, Any]:
        """What a checkpoint must keep of the hook, as JSON has it."""
        return {}

    def restore(self, state: dict[str, Any]):
        """Go on from `state`."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What decides every number of a run, besides model, data and hook. `sub_batch` None: the whole batch at once. Raises UserError."""

    epochs: int = 12
    batch: int = 32
    sub_batch: int | None = None
    seed: int = 0
    rate: float = RATE
    momentum: float = 0.9
    decay: float = 5e-4

    def __post_init__(self):
        for name in ("epochs", "batch"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} = {getattr(self, name)} is not positive")
        if self.sub_batch is not None and (self.sub_batch < 1 or self.batch % self.sub_batch):
            raise UserError(f"sub_batch = {self.sub_batch} does not divide batch = {self.batch}")
        for name in ("momentum", "decay"):
            if not 0 <= getattr(self, name) < 1:
                raise UserError(f"{name} = {getattr(self, name)} is outside 0..1")


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """What is known of an epoch: mean loss of its steps, accuracy on the test images behind it, and what it was trained as: images in a
    step, output channels of the convolutions, multiply-adds of a step for each image; estimates of a step by organisation: cycles,
    utilisation (0..1), energy (pJ)."""

    loss: float
    accuracy: float
    batch: int
    channels: dict[str, int]
    macs: int
    cycles: dict[str, int]
    utilisation: dict[str, float]
    energy: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)


def cross_entropy(logits: np.ndarray, labels: np.ndarray) -> float:
    """The mean cross entropy of logits (batch, classes), in double precision."""
    wide = logits.astype(np.float64)
    wide -= wide.max(axis=1, keepdims=True)
    return float((np.log(np.exp(wide).sum(axis=1)) - wide[np.arange(len(labels)), labels]).mean())


class Trainer:
    """A run: stochastic gradient descent with momentum. The same settings, model and data give the same bits.

    `engine` makes an engine for a network, again whenever the hook has changed it. `parameters` None: fresh ones from the seed. Raises
    UserError where network, data and settings do not fit each other.
    """

    def __init__(self, network: Network, data: Data, *, engine: Callable[[Network], Engine], settings: Settings,
                 parameters: Parameters | None = None, hook: Hook | None = None):
        shapes(network)
        if (network.image, network.classes) != (data.image, data.classes):
            raise UserError(f"{network.name} is for images {network.image} of {network.classes} classes, data = {data.name!r} has "
                            f"{data.image} of {data.classes}")
        if settings.batch > len(data.train_images):
            raise UserError(f"batch = {settings.batch} is outside 1..{len(data.train_images)}, the images to train on")
        self.origin = self.network = network
        self.data, self.settings, self.hook = data, settings, hook or Hook()
        self.parameters = dict(parameters) if parameters is not None else network.parameters(settings.seed)
        self.velocity = {name: np.zeros_like(value) for name, value in self.parameters.items()}
        self.history: list[Epoch] = []
        self.pending = False        # whether a reconfiguration that was due behind the last epoch has still to happen
        self.schedule = Schedule(epochs=settings.epochs, rate=settings.rate)
        self._make, self._engine = engine, engine(network)

    @property
    def epoch(self) -> int:
        """Epochs that are done."""
        return len(self.history)

    def go_on_from(self, network: Network, parameters: Parameters, velocity: Parameters, history: list[Epoch], pending: bool = False):
        """Take the place of a run that has come so far; `pending`: up to a reconfiguration, which `run` then begins with."""
        self.network, self.parameters, self.velocity, self.history = network, dict(parameters), dict(velocity), list(history)
        self.pending = pending
        self._engine = self._make(network)

    def run(self, *, tell: Tell = lambda text: None, done: Done = lambda trainer, moment: None):
        """Train until the last epoch; `tell` hears of every step, `done` is called with every state worth saving: behind each epoch, where
        a reconfiguration is due before it (then `pending`) and after it. Raises UserError if it diverges."""
        if self.pending:
            self._behind_epoch(done)
        while self.epoch < self.settings.epochs:
            self.history.append(self._train_epoch(self.epoch, tell))
            self.pending = self.hook.due(self, self.epoch - 1)
            self._behind_epoch(done)

    def _behind_epoch(self, done: Done):
        due = self.pending
        if due:
            done(self, "before")
        if self.hook.after_epoch(self, self.epoch - 1):
            self._engine = self._make(self.network)
            # What has changed may change the accuracy.
            self.history[-1] = replace(self.history[-1], accuracy=self.accuracy())
        self.pending = False
        done(self, "after" if due else "")

    def _train_epoch(self, epoch: int, tell: Tell) -> Epoch:
        losses, batch = [], self.hook.batch(self)
        steps = len(self.data.train_images) // batch
        done = f", accuracy {self.history[-1].accuracy:.1%}" if self.history else ""
        for number, (images, labels) in enumerate(batches(self.data, batch=batch, seed=self.settings.seed, epoch=epoch)):
            losses.append(self.step(images, labels, self.schedule.at(epoch + number / steps, batch)))
            if not np.isfinite(losses[-1]):
                raise UserError(f"the loss is no number any more in epoch {epoch + 1}, step {number + 1}: a lower rate may help")
            tell(f"epoch {epoch + 1} of {self.settings.epochs}, step {number + 1} of {steps}, loss {losses[-1]:.3f}{done}")
        return Epoch(loss=float(np.mean(losses)), accuracy=self.accuracy(), batch=batch, channels=channels(self.network),
                     macs=training_macs(self.network), **by_organisation(self.network, batch))

    def step(self, images: np.ndarray, labels: np.ndarray, rate: float) -> float:
        """One step over a batch; returns its mean cross entropy before the update."""
        loss, by_parameter = self.gradients(images, labels)
        self.hook.gradient(self, by_parameter, loss)
        for name, gradient in by_parameter.items():
            self.parameters[name], self.velocity[name] = momentum_step(
                self.parameters[name], self.velocity[name], gradient, rate=rate, momentum=self.settings.momentum, decay=self.settings.decay)
        return loss

    def gradients(self, images: np.ndarray, labels: np.ndarray) -> tuple[float, Parameters]:
        """Mean cross entropy of a batch, and the gradients: of its sub-batches (g0 + g1) + ..., each sum rounded to fp32. Each sub-batch's
        are shares of the whole batch, so that no division is left."""
        size = self.settings.sub_batch or len(images)
        if len(images) % size:
            raise UserError(f"sub_batch = {size} does not divide batch = {len(images)}")
        every, total = [], {}
        for start in range(0, len(images), size):
            part = slice(start, start + size)
            logits, found = self._engine.gradients(self.parameters, images[part], labels[part], 1 / len(images))
            every.append(logits)
            total = {name: add(total[name], value) for name, value in found.items()} if total else found
        return cross_entropy(np.concatenate(every), labels), total

    def accuracy(self) -> float:
        """The share of test images that are classified correctly."""
        right = 0
        for start in range(0, len(self.data.test_images), self.settings.batch):
            part = slice(start, start + self.settings.batch)
            found = self._engine.logits(self.parameters, self.data.test_images[part]).argmax(axis=1)
            right += int((found == self.data.test_labels[part]).sum())
        return right / len(self.data.test_images)

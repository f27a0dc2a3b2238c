"""The engines of a training run by name, and what each must be told."""

from collections.abc import Callable, Mapping

import numpy as np

from gen.config import Config
from sw.doctor import INSTALL_TORCH
from sw.runtime.errors import UserError
from sw.train.golden_engine import GoldenEngine, Parameters
from sw.train.network import Network, Norm
from sw.train.trainer import Engine

ENGINES = ("golden", "torch")


class Golden:
    """The golden engine of a machine, as a run wants it. Raises UserError for a network whose groups the machine's lanes do not fit."""

    def __init__(self, network: Network, config: Config):
        lanes = config.array.side
        for layer in network.layers:
            if isinstance(layer, Norm) and layer.group % lanes and lanes % layer.group and layer.group != layer.channels:
                raise UserError(f"{network.name}: {layer.name} has groups of {layer.group}, allowed on {config.name}: what divides {lanes} "
                                f"lanes or is divided by them, or one group of all {layer.channels} channels")
        self.name = network.layers[-1].name
        self.engine = GoldenEngine(network, tile=config.tile, lanes=lanes)

    def logits(self, parameters: Mapping[str, np.ndarray], images: np.ndarray) -> np.ndarray:
        return self.engine.forward(parameters, images).activations[self.name]

    def gradients(self, parameters: Mapping[str, np.ndarray], images: np.ndarray, labels: np.ndarray,
                  share: float) -> tuple[np.ndarray, Parameters]:
        step = self.engine.backward(parameters, self.engine.forward(parameters, images), labels, share)
        return step.activations[self.name], {name: step.by_parameter[name] for name in parameters}


def torch_is_missing(what: str) -> UserError:
    """What to tell where PyTorch, which is an extra, is not installed."""
    return UserError(f"{what} needs PyTorch, which is not installed: {INSTALL_TORCH}")


def engine(name: str, config: Config) -> Callable[[Network], Engine]:
    """What makes engines of that name: the golden one computes as the machine `config`, bit for bit; torch in fp32, its own way.

    Raises UserError for an unknown name, for a machine without bf16 numbers, and where PyTorch is missing.
    """
    if name == "golden":
        if not config.floating:
            raise UserError(f"config = {config.name!r} is a machine for integers: training needs bf16, e.g. small-bf16")
        return lambda network: Golden(network, config)
    if name != "torch":
        raise UserError(f"engine = {name!r} is none of {', '.join(ENGINES)}")
    try:
        from sw.train.torch_engine import TorchEngine
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise torch_is_missing("engine = 'torch'") from None
    return TorchEngine

"""Small training runs for tests: few images, a narrow network, the golden engine of `small-bf16`."""

from dataclasses import replace

import numpy as np

from gen.config import Config
from sw.train import engines
from sw.train.data import Data, digits
from sw.train.network import Network, digits_resnet
from sw.train.trainer import Hook, Settings, Trainer

CONFIG = Config.load("small-bf16")


def few(train: int = 32, test: int = 16) -> Data:
    """The first of the digits."""
    data = digits()
    return replace(data, train_images=data.train_images[:train], train_labels=data.train_labels[:train],
                   test_images=data.test_images[:test], test_labels=data.test_labels[:test])


def narrow_resnet() -> Network:
    """Of four and eight channels, one group each."""
    return digits_resnet(width=4, group=0)


def trainer(network: Network | None = None, data: Data | None = None, *, engine: str = "golden", hook: Hook | None = None,
            **settings) -> Trainer:
    """A run over few images, 16 at a time."""
    return Trainer(network or narrow_resnet(), data or few(), engine=engines.engine(engine, CONFIG), hook=hook,
                   settings=Settings(**{"epochs": 1, "batch": 16, **settings}))


def same(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray]):
    """Bit for bit."""
    assert found.keys() == wanted.keys()
    for name in found:
        np.testing.assert_array_equal(found[name].view(np.uint32), wanted[name].view(np.uint32), name)

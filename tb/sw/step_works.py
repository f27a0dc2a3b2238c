"""Networks, batches and groups of layers for tests of training steps."""

import numpy as np

from sw.train.lower.step import Group
from sw.train.machine_steps import Batch
from sw.train.network import INPUT, Add, Conv, Layer, Linear, Network, Norm, Pool, WindowPool, digits_resnet


def little(width: int = 6, image: int = 4, classes: int = 5) -> Network:
    """A network for images of 4 x 4 pixels with two residual blocks, whose channels fill no whole blocks. One group in each
    normalisation."""
    whole = digits_resnet(width, 0)
    layers: list[Layer] = []
    for layer in whole.layers:
        match layer:
            case Linear():
                layer = Linear(layer.name, layer.inputs, layer.channels, classes)
        layers.append(layer)
    return Network("little", (image, image, 1), tuple(layers), classes)


def plain(width: int = 8, classes: int = 3) -> Network:
    """Without residuals: a convolution with stride 2 and a kernel of 2, groups of 4 channels."""
    return Network("plain", (8, 8, 2), (
        Conv("first", (INPUT,), 2, width, kernel=1, pad=0), Norm("norm", ("first",), width, 4, relu=True),
        Conv("second", ("norm",), width, width, kernel=2, stride=2, pad=0), Norm("norm2", ("second",), width, 4),
        Pool("mean", ("norm2",)), Linear("classes", ("mean",), width, classes)), classes)


def pools(image: int, first: tuple[str, int, int], second: tuple[str, int, int], width: int = 6, classes: int = 5) -> Network:
    """A network with two poolings: the one behind a ReLU, where many pixels are equal, the other behind a convolution; its result is read
    twice."""
    return Network("pools", (image, image, 1), (
        Conv("conv1", (INPUT,), 1, width), Norm("norm1", ("conv1",), width, width, relu=True), WindowPool("pool1", ("norm1",), *first),
        Conv("conv2", ("pool1",), width, width), WindowPool("pool2", ("conv2",), *second), Norm("norm2", ("pool2",), width, width),
        Add("sum", ("norm2", "pool2")), Pool("mean", ("sum",)), Linear("classifier", ("mean",), width, classes)), classes)


def batches(rng: np.random.Generator, network: Network, size: int, count: int) -> list[Batch]:
    """Random images of few bits, labels and learning rates."""
    return [Batch(((rng.integers(0, 17, (size, *network.image)) - 8) / 8).astype(np.float32), rng.integers(0, network.classes, size),
                  float(rng.uniform(0.01, 0.2))) for _ in range(count)]


def trained(rng: np.random.Generator, network: Network) -> dict[str, np.ndarray]:
    """Parameters as training leaves them: no scale is 1, no shift 0."""
    fresh = network.parameters(int(rng.integers(1 << 30)))
    return {name: value if name.endswith("weight") else (value + rng.normal(0, 0.1, value.shape)).astype(np.float32)
            for name, value in fresh.items()}


def in_groups(network: Network, *parts: tuple[str, int]) -> list[Group]:
    """Groups by the name of their first layer and their sub-batch."""
    names = [layer.name for layer in network.layers]
    starts = [names.index(name) for name, _ in parts] + [len(names)]
    return [Group(tuple(names[first:stop]), size) for first, stop, (_, size) in zip(starts, starts[1:], parts)]

"""Networks that can be trained: layers that name their inputs, and their parameters."""

from dataclasses import dataclass, field

import numpy as np

INPUT = "input"


@dataclass(frozen=True)
class Layer:
    """A layer: its name, the names of what it reads (layers before it, or INPUT)."""

    name: str
    inputs: tuple[str, ...]


@dataclass(frozen=True)
class Conv(Layer):
    """A convolution without bias, weights (kernel, kernel, channels, outputs); `pad` on all sides."""

    channels: int
    outputs: int
    kernel: int = 3
    stride: int = 1
    pad: int = 1


@dataclass(frozen=True)
class Norm(Layer):
    """Group normalisation, `group` channels in a group, with a scale (gamma) and a shift (beta) for each channel; with or without ReLU.

    `counted`: channels that the means of a group divide by; 0 stands for `group`. A layer of one group that lost channels of zeros goes on
    dividing by as many as it had, so that what is left keeps its values.
    """

    channels: int
    group: int
    relu: bool = False
    counted: int = 0


@dataclass(frozen=True)
class Add(Layer):
    """The sum of two, with a ReLU behind it."""


@dataclass(frozen=True)
class Pool(Layer):
    """The mean of all pixels."""


@dataclass(frozen=True)
class WindowPool(Layer):
    """The largest pixel or the mean (`kind`: "max", "average") of windows of kernel x kernel pixels, `stride` pixels from one to the next.
    Without padding: what fills no window at the right and below is not looked at."""

    kind: str = "max"
    kernel: int = 2
    stride: int = 2


@dataclass(frozen=True)
class Linear(Layer):
    """A fully connected layer, weights (channels, outputs) and a bias: the logits."""

    channels: int
    outputs: int


@dataclass(frozen=True)
class Network:
    """Layers in the order of their use, and the images they are for (height, width, channels)."""

    name: str
    image: tuple[int, int, int]
    layers: tuple[Layer, ...]
    classes: int = field(default=10)

    def parameters(self, seed: int) -> dict[str, np.ndarray]:
        """Fresh parameters, fp32: normal weights of variance 2 / inputs, scales 1, shifts and biases 0."""
        rng, found = np.random.default_rng(seed), {}
        for layer in self.layers:
            match layer:
                case Conv():
                    inputs = layer.kernel**2 * layer.channels
                    found[f"{layer.name}.weight"] = normal(rng, (layer.kernel, layer.kernel, layer.channels, layer.outputs), inputs)
                case Norm():
                    found[f"{layer.name}.gamma"] = np.ones(layer.channels, np.float32)
                    found[f"{layer.name}.beta"] = np.zeros(layer.channels, np.float32)
                case Linear():
                    found[f"{layer.name}.weight"] = normal(rng, (layer.channels, layer.outputs), layer.channels)
                    found[f"{layer.name}.bias"] = np.zeros(layer.outputs, np.float32)
        return found


def normal(rng: np.random.Generator, shape: tuple[int, ...], inputs: int) -> np.ndarray:
    """Normal numbers of variance 2 / inputs."""
    return (rng.standard_normal(shape) * np.sqrt(2 / inputs)).astype(np.float32)


def digits_resnet(width: int = 16, group: int = 8) -> Network:
    """A residual network for scikit-learn's digits: a convolution, two residual blocks, the second at half the size, and a classifier.

    `group`: channels in a group of the normalisations; 0 makes one group of every layer, as pruning needs it.
    """
    layers: list[Layer] = [
        Conv("conv1", (INPUT,), 1, width), Norm("norm1", ("conv1",), width, group or width, relu=True),
        *_block("block1", "norm1", width, width, group), *_block("block2", "block1", width, 2 * width, group),
        Pool("pool", ("block2",)), Linear("classifier", ("pool",), 2 * width, 10),
    ]
    return Network("digits-resnet", (8, 8, 1), tuple(layers))


def _block(name: str, source: str, channels: int, outputs: int, group: int) -> list[Layer]:
    """Two convolutions beside the input, or beside a projection of it where the size changes."""
    stride = outputs // channels
    layers: list[Layer] = [
        Conv(f"{name}.conv1", (source,), channels, outputs, stride=stride),
        Norm(f"{name}.norm1", (f"{name}.conv1",), outputs, group or outputs, relu=True),
        Conv(f"{name}.conv2", (f"{name}.norm1",), outputs, outputs),
        Norm(f"{name}.norm2", (f"{name}.conv2",), outputs, group or outputs),
    ]
    if stride > 1:
        layers += [Conv(f"{name}.conv3", (source,), channels, outputs, kernel=1, stride=stride, pad=0),
                   Norm(f"{name}.norm3", (f"{name}.conv3",), outputs, group or outputs)]
        source = f"{name}.norm3"
    return [*layers, Add(name, (f"{name}.norm2", source))]

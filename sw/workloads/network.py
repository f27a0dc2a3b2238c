"""A network as a graph of layers with shapes: what front ends make and what lowering, schedules and cost models read.

Shapes are (channels, height, width) of one sample. Layers stand in an order in which each comes after those it reads.
"""

from dataclasses import dataclass
from functools import cached_property
from math import prod

Shape = tuple[int, int, int]


class NetworkError(ValueError):
    """A layer that cannot be; the text is one line that names the layer, the field, its value and what is allowed."""


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A layer: its name, the layers (or the network's input) that it reads, and the shape of what it makes."""

    name: str
    inputs: tuple[str, ...]
    shape: Shape

    @property
    def weights(self) -> int:
        """Weights of a multiplication, without biases."""
        return 0

    @property
    def parameters(self) -> int:
        """Everything that is trained."""
        return self.weights

    @property
    def macs(self) -> int:
        """Multiply-adds of the forward pass for one sample."""
        return 0


@dataclass(frozen=True, kw_only=True)
class Conv(Layer):
    """A convolution of `source` (channels, height, width). It may read fewer channels than its input has (PruneTrain's channel gating)."""

    source: Shape
    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)       # top, left, bottom, right
    groups: int = 1
    bias: bool = False

    def __post_init__(self):
        for name, channels in (("input", self.source[0]), ("output", self.shape[0])):
            if channels % self.groups:
                raise NetworkError(f"{self.name}: {name} channels = {channels} must be a multiple of groups = {self.groups}")

    @property
    def depthwise(self) -> bool:
        """Whether every input channel is a group of its own."""
        return self.groups == self.source[0] > 1

    @property
    def weights(self) -> int:
        """Weights without the bias."""
        return self.source[0] // self.groups * self.shape[0] * prod(self.kernel)

    @property
    def parameters(self) -> int:
        """Weights and bias."""
        return self.weights + self.shape[0] * self.bias

    @property
    def macs(self) -> int:
        """Multiply-adds for one sample."""
        return self.weights * self.shape[1] * self.shape[2]


@dataclass(frozen=True, kw_only=True)
class Linear(Layer):
    """A fully connected layer of `features` inputs, for each row of its result (of the shape (outputs, rows, 1))."""

    features: int
    bias: bool = True

    @property
    def weights(self) -> int:
        """Weights without the bias."""
        return self.features * self.shape[0]

    @property
    def parameters(self) -> int:
        """Weights and bias."""
        return self.weights + self.shape[0] * self.bias

    @property
    def rows(self) -> int:
        """Rows of the product for one sample."""
        return self.shape[1] * self.shape[2]

    @property
    def macs(self) -> int:
        """Multiply-adds for one sample."""
        return self.weights * self.rows


@dataclass(frozen=True, kw_only=True)
class Pool(Layer):
    """Pooling of `source`: "max" or "average"."""

    source: Shape
    kind: str
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)


@dataclass(frozen=True, kw_only=True)
class Norm(Layer):
    """Batch or group normalisation with a scale and a shift for each channel."""

    @property
    def parameters(self) -> int:
        """Scale and shift."""
        return 2 * self.shape[0]


@dataclass(frozen=True, kw_only=True)
class Relu(Layer):
    """An element-wise activation."""


@dataclass(frozen=True, kw_only=True)
class Add(Layer):
    """The sum of its inputs, element by element."""


@dataclass(frozen=True, kw_only=True)
class Concat(Layer):
    """Its inputs one behind the other, along the channels."""


@dataclass(frozen=True)
class Network:
    """Layers in order, the name and the shape of the input."""

    name: str
    input_shape: Shape
    layers: tuple[Layer, ...]
    input_name: str = "input"

    def __post_init__(self):
        seen = {self.input_name}
        for layer in self.layers:
            for name in layer.inputs:
                if name not in seen:
                    raise NetworkError(f"{layer.name}: its input {name!r} is no layer before it")
            if layer.name in seen:
                raise NetworkError(f"{layer.name}: there are two layers of this name")
            if min(layer.shape) < 1:
                raise NetworkError(f"{layer.name}: shape = {layer.shape} must be positive")
            seen.add(layer.name)

    @cached_property
    def by_name(self) -> dict[str, Layer]:
        """Every layer by its name."""
        return {layer.name: layer for layer in self.layers}

    def shape_of(self, name: str) -> Shape:
        """Shape of a layer's result or of the input."""
        return self.input_shape if name == self.input_name else self.by_name[name].shape

    @cached_property
    def products(self) -> tuple[Conv | Linear, ...]:
        """The layers that multiply matrices."""
        return tuple(layer for layer in self.layers if isinstance(layer, Conv | Linear))

    @property
    def macs(self) -> int:
        """Multiply-adds of the forward pass for one sample."""
        return sum(layer.macs for layer in self.layers)

    @property
    def parameters(self) -> int:
        """Everything that is trained."""
        return sum(layer.parameters for layer in self.layers)

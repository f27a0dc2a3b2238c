"""Builds a network layer by layer: shapes follow from what is read, names from the part of the network that is being built."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from fractions import Fraction

from sw.workloads.network import Add, Concat, Conv, Layer, Linear, Network, NetworkError, Norm, Pool, Relu, Shape

Pair = tuple[int, int]


def pair(value: int | Pair) -> Pair:
    """A size in both directions."""
    return (value, value) if isinstance(value, int) else value


class Builder:
    """Collects layers. `factor` scales the channels of every convolution, rounded to the nearest integer, at least 1.

    `pruned` gives the channels (read, made) of every convolution in the order of building, in place of those asked for.
    """

    def __init__(self, name: str, shape: Shape, *, factor: Fraction = Fraction(1), pruned: Iterable[Pair] | None = None):
        self.name, self.input_shape, self.factor = name, shape, factor
        self.pruned: Iterator[Pair] | None = None if pruned is None else iter(pruned)
        self.layers: list[Layer] = []
        self.shapes: dict[str, Shape] = {"input": shape}
        self._scopes: list[str] = []

    @contextmanager
    def scope(self, name: str):
        """Names of the layers built meanwhile begin with `name` and a dot."""
        self._scopes.append(name)
        yield
        self._scopes.pop()

    def scaled(self, channels: int) -> int:
        """Channels times the factor."""
        return max(1, int(self.factor * channels + Fraction(1, 2)))

    def network(self) -> Network:
        """What has been built."""
        if self.pruned is not None and next(self.pruned, None) is not None:
            raise NetworkError(f"{self.name}: more pruned channels than convolutions")
        return Network(self.name, self.input_shape, tuple(self.layers))

    def conv(self, source: str, channels: int, kernel: int | Pair, *, stride: int = 1, padding: int | Pair | None = None, groups: int = 1,
             depthwise: bool = False, norm: bool = True, relu: bool = True, bias: bool | None = None, name: str = "conv") -> str:
        """A convolution, then as asked normalisation and ReLU. `padding` None: as many pixels as keep the size at stride 1.

        `bias` None: only where no normalisation follows.
        """
        made, (read, height, width) = self.scaled(channels), self.shapes[source]
        (rows, columns), (above, beside) = pair(kernel), (0, 0)
        above, beside = (rows // 2, columns // 2) if padding is None else pair(padding)
        if self.pruned is not None:
            try:
                read, made = next(self.pruned)
            except StopIteration:
                raise NetworkError(f"{self.name}: fewer pruned channels than convolutions") from None
        if depthwise:
            made = groups = read
        shape = made, (height + 2 * above - rows) // stride + 1, (width + 2 * beside - columns) // stride + 1
        result = self._add(Conv, name, (source,), shape, source=(read, height, width), kernel=(rows, columns), stride=(stride, stride),
                           padding=(above, beside, above, beside), groups=groups, bias=not norm if bias is None else bias)
        if norm:
            result = self._add(Norm, f"{name}.norm", (result,), shape)
        return self._add(Relu, f"{name}.relu", (result,), shape) if relu else result

    def linear(self, source: str, channels: int, *, relu: bool = False, name: str = "fc", features: int | None = None) -> str:
        """A fully connected layer on all that its source holds (or on `features` of it). Not scaled."""
        depth, height, width = self.shapes[source]
        result = self._add(Linear, name, (source,), (channels, 1, 1), features=features or depth * height * width)
        return self._add(Relu, f"{name}.relu", (result,), (channels, 1, 1)) if relu else result

    def pool(self, source: str, kind: str, kernel: int | None = None, stride: int = 1, padding: int = 0) -> str:
        """Max or average pooling; without a kernel over the whole image."""
        channels, height, width = source_shape = self.shapes[source]
        if kernel is None:
            return self._add(Pool, "pool", (source,), (channels, 1, 1), source=source_shape, kind=kind, kernel=(height, width),
                             stride=(height, width))
        shape = channels, (height + 2 * padding - kernel) // stride + 1, (width + 2 * padding - kernel) // stride + 1
        return self._add(Pool, "pool", (source,), shape, source=source_shape, kind=kind, kernel=(kernel, kernel), stride=(stride, stride),
                         padding=(padding,) * 4)

    def add(self, *sources: str, relu: bool = False) -> str:
        """The sum of several results; with gated channels the sum has those of the widest."""
        shapes = [self.shapes[source] for source in sources]
        result = self._add(Add, "add", sources, (max(shape[0] for shape in shapes), *shapes[0][1:]))
        return self._add(Relu, "add.relu", (result,), self.shapes[result]) if relu else result

    def concat(self, *sources: str) -> str:
        """Several results as one."""
        shapes = [self.shapes[source] for source in sources]
        return self._add(Concat, "concat", sources, (sum(shape[0] for shape in shapes), *shapes[0][1:]))

    def _add(self, layer: type[Layer], name: str, inputs: tuple[str, ...], shape: Shape, **fields) -> str:
        full, number = ".".join([*self._scopes, name]), 1
        while full in self.shapes:
            number += 1
            full = ".".join([*self._scopes, f"{name}{number}"])
        self.layers.append(layer(name=full, inputs=inputs, shape=shape, **fields))
        self.shapes[full] = shape
        return full

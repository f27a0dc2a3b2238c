"""The matrix products of a network: forward, and in training the gradients of data and weights.

With B samples, an input of C x H x W, a kernel of R x S, an output of K x P x Q and g groups (each a product of its own):

| phase | M (moving rows) | N (columns) | K (reduced) |
|---|---|---|---|
| forward | B P Q | K / g | C R S / g |
| data gradient | B H W | C / g | K R S / g |
| weight gradient | C R S / g | K / g | B P Q |

The data gradient of a strided layer is counted on all H x W pixels, with the zeros between those of the output. A layer that reads the
network's input has none. (PruneTrain's authors count so; the assignment to M, N and K is FlexSA's.)
"""

import enum
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

from sw.workloads.network import Conv, Layer, Linear, Network


class Phase(enum.StrEnum):
    """What a product is for."""

    FORWARD = "forward"
    DATA_GRADIENT = "data-gradient"
    WEIGHT_GRADIENT = "weight-gradient"


@dataclass(frozen=True)
class Product:
    """`groups` products of (m x k) with (k x n), of one layer and phase."""

    layer: str
    phase: Phase
    m: int
    n: int
    k: int
    groups: int = 1

    @property
    def macs(self) -> int:
        """Multiply-adds."""
        return self.m * self.n * self.k * self.groups


def products_of(network: Network, batch: int = 1, *, training: bool = False) -> Iterator[Product]:
    """All products of a step: forward in order; in training then backwards, the weight gradient of each layer before its data gradient."""
    for layer in network.products:
        yield product_of(layer, Phase.FORWARD, batch)
    if training:
        for layer in reversed(network.products):
            yield product_of(layer, Phase.WEIGHT_GRADIENT, batch)
            if layer.inputs[0] != network.input_name:
                yield product_of(layer, Phase.DATA_GRADIENT, batch)


def product_of(layer: Layer, phase: Phase, batch: int) -> Product:
    """One layer's product in a phase."""
    if isinstance(layer, Linear):
        source, made, kernel, groups, before, after = layer.features, layer.shape[0], 1, 1, batch * layer.rows, batch * layer.rows
    elif isinstance(layer, Conv):
        source, made, kernel, groups = layer.source[0] // layer.groups, layer.shape[0] // layer.groups, prod(layer.kernel), layer.groups
        before, after = batch * layer.source[1] * layer.source[2], batch * layer.shape[1] * layer.shape[2]
    else:
        raise TypeError(f"{layer.name} multiplies no matrices")
    sizes = {
        Phase.FORWARD: (after, made, source * kernel),
        Phase.DATA_GRADIENT: (before, source, made * kernel),
        Phase.WEIGHT_GRADIENT: (source * kernel, made, after),
    }
    return Product(layer.name, phase, *sizes[phase], groups)

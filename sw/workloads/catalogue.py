"""The networks that have a name, dense, scaled or pruned."""

from collections.abc import Callable
from fractions import Fraction
from functools import partial

from sw.workloads.inception import inception_v3, inception_v4
from sw.workloads.mobilenet import mobilenet_v2
from sw.workloads.network import Network, NetworkError
from sw.workloads.plain import alexnet, vgg16, vgg_cifar
from sw.workloads.prunetrain import pruned_network
from sw.workloads.resnet import BLOCKS, resnet

NETWORKS: dict[str, Callable[[Fraction], Network]] = {
    **{name: partial(resnet, name) for name in BLOCKS},
    "inception_v3": inception_v3,
    "inception_v4": inception_v4,
    "alexnet": alexnet,
    "mobilenet_v2": mobilenet_v2,
    "vgg16": vgg16,
    "vgg11": partial(vgg_cifar, "vgg11"),
    "vgg8": partial(vgg_cifar, "vgg8"),
}
LEAST, MOST = Fraction(1, 16), Fraction(4)      # channel multipliers


def network(text: str) -> Network:
    """`NAME`, `NAME@MULTIPLIER` (of every convolution's channels) or `NAME@prunetrain:RATIO:EPOCH`. Raises NetworkError."""
    name, at, variant = text.partition("@")
    if name not in NETWORKS:
        raise NetworkError(f"network {name!r} is none of {', '.join(NETWORKS)}")
    if not at:
        return NETWORKS[name](Fraction(1))
    kind, *fields = variant.split(":")
    if kind == "prunetrain":
        if len(fields) != 2:
            raise NetworkError(f"{text!r} must be {name}@prunetrain:RATIO:EPOCH")
        return pruned_network(name, *fields)
    try:
        factor = Fraction(variant)
    except (ValueError, ZeroDivisionError):
        raise NetworkError(f"multiplier = {variant!r} is no number") from None
    if not LEAST <= factor <= MOST:
        raise NetworkError(f"multiplier = {variant} is outside {LEAST}..{MOST}")
    scaled = NETWORKS[name](factor)
    return Network(text, scaled.input_shape, scaled.layers)

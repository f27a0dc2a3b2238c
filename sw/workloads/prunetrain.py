"""PruneTrain (SC 2019): its pruned networks as data, and its authors' cost model, which their percentages follow.

`prunetrain.csv` has a line for each network: ratio of the penalty, epoch after whose reconfiguration it stands (or final, with the data
set), classes, the channels that each convolution reads and makes, in the order of the network, and the classifier's inputs; and where it
is from. Shapes of the pruned ResNet-50s are those of channel gating: a layer reads some of the channels of a shared node.
"""

import csv
from functools import cache
from pathlib import Path
from typing import NamedTuple

from sw.workloads.network import Conv, Linear, Network, NetworkError
from sw.workloads.plain import vgg_cifar
from sw.workloads.resnet import resnet

DATA = Path(__file__).with_name("prunetrain.csv")


class Pruned(NamedTuple):
    """A pruned network's channels: (read, made) of each convolution, and the inputs of the classifier."""

    channels: tuple[tuple[int, int], ...]
    features: int
    classes: int
    source: str


@cache
def series() -> dict[tuple[str, str, str], Pruned]:
    """All pruned networks, by (network, ratio, epoch), in the order of the file."""
    found = {}
    with DATA.open(newline="") as file:
        for row in csv.DictReader(file):
            *pairs, features = row["channels"].split()
            channels = tuple((int(read), int(made)) for read, made in (text.split(">") for text in pairs))
            found[row["network"], row["ratio"], row["epoch"]] = Pruned(
                channels, int(features.removeprefix("fc")), int(row["classes"]), row["source"])
    return found


def pruned_network(name: str, ratio: str, epoch: str) -> Network:
    """A network as it was pruned. Raises NetworkError, with what there is, for one that is not in the data."""
    known = series()
    if name not in {network for network, _, _ in known}:
        raise NetworkError(f"{name} has no pruned series; {', '.join(sorted({network for network, _, _ in known}))} have")
    for place, value, choice in ((1, ratio, f"{name}@prunetrain: ratio"), (2, epoch, f"{name}@prunetrain:{ratio}: epoch")):
        fitting = list(dict.fromkeys(key[place] for key in known if key[:place] == (name, ratio)[:place]))
        if value not in fitting:
            raise NetworkError(f"{choice} = {value!r} is none of {', '.join(fitting)}")
    found = known[name, ratio, epoch]
    if name == "resnet50":
        network = resnet(name, pruned=found.channels, features=found.features)
    else:
        network = vgg_cifar(name, classes=found.classes, pruned=found.channels)
    return Network(f"{name}@prunetrain:{ratio}:{epoch}", network.input_shape, network.layers)


def training_macs(network: Network, samples: int = 1) -> int:
    """Multiply-adds of a training step by the authors' count: forward, weight gradient, and a data gradient on the padded input.

    The padding they add to height and width together is 3 for ResNet-50's first convolution (7x7), 2 for other kernels larger than 1 and 0
    for those of 1; the first layer's data gradient is counted.
    """
    return samples * sum(_training(layer) for layer in network.products)


def _training(layer: Conv | Linear) -> int:
    if isinstance(layer, Linear):
        return 3 * layer.macs
    kernel = layer.kernel[0]
    padded = layer.source[1] + (0 if kernel == 1 else 3 if kernel == 7 else 2)
    return 2 * layer.macs + padded**2 * layer.weights


def norm_accesses(network: Network, samples: int = 1) -> int:
    """Elements that batch normalisation moves in a training step by the authors' count: eight for each output element of a convolution."""
    return 8 * samples * sum(layer.shape[0] * layer.shape[1] * layer.shape[2] for layer in network.layers if isinstance(layer, Conv))

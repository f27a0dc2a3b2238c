"""Channels that pruning takes out of a network: which are dead, what goes with them, and the smaller dense network.

Layers whose results are added share their channels: a channel of a residual stage lives as long as any convolution that makes it or reads
it needs it (PruneTrain's channel union; Lym et al., SC 2019). A dead channel has no weight of at least THRESHOLD in any of them. What it
still holds, a constant from its normalisation's beta, nobody reads: weights that are exactly zero can go without a change of the function.
"""

from collections.abc import Container, Iterable, Mapping
from dataclasses import replace

import numpy as np

from sw.train.network import INPUT, Add, Conv, Layer, Linear, Network, Norm, Pool, WindowPool

THRESHOLD = 1e-4
Parameters = dict[str, np.ndarray]
Kept = dict[str, np.ndarray]


def unions(network: Network) -> dict[str, str]:
    """For every result, a name of the union of layers that share its channels (INPUT for what must keep the image's)."""
    found = {INPUT: INPUT}
    for layer in network.layers:
        match layer:
            case Conv() | Linear():
                found[layer.name] = layer.name
            case Add():
                names = [found[name] for name in layer.inputs]
                first = INPUT if INPUT in names else names[0]
                found = {name: first if union in names else union for name, union in found.items()} | {layer.name: first}
            case _:
                found[layer.name] = found[layer.inputs[0]]
    return found


def largest(network: Network, parameters: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """For every union and channel, the largest absolute weight of all that make or read it."""
    of, found = unions(network), {}

    def meet(union: str, values: np.ndarray):
        found[union] = np.maximum(found[union], values) if union in found else values

    for layer in network.layers:
        if isinstance(layer, Conv | Linear):
            size = np.abs(parameters[f"{layer.name}.weight"])
            meet(of[layer.inputs[0]], size.max(axis=tuple(axis for axis in range(size.ndim) if axis != size.ndim - 2)))
            meet(of[layer.name], size.max(axis=tuple(range(size.ndim - 1))))
    return found


def living(network: Network, parameters: Mapping[str, np.ndarray], threshold: float = THRESHOLD) -> Kept:
    """For every result and INPUT, its channels that stay, ascending. The image's and the logits' all stay, of any other union at least the
    strongest one."""
    fixed = {INPUT} | {layer.name for layer in network.layers if isinstance(layer, Linear)}
    kept = {}
    for union, sizes in largest(network, parameters).items():
        alive = np.flatnonzero((sizes >= threshold) | (union in fixed))
        kept[union] = alive if len(alive) else np.array([sizes.argmax()])
    return {name: kept[union] for name, union in unions(network).items()}


def dead_convolutions(network: Network, parameters: Mapping[str, np.ndarray], threshold: float = THRESHOLD) -> set[str]:
    """Names of convolutions without any weight of at least the threshold."""
    return {layer.name for layer in network.layers
            if isinstance(layer, Conv) and np.abs(parameters[f"{layer.name}.weight"]).max() < threshold}


def without_branches(network: Network, dead: Container[str]) -> Network:
    """The network without residual branches in which a convolution is dead, and without their additions. Where both sides of an addition
    are, the second stays.

    What such a branch still adds, constants from its betas, is lost; with betas of zero the function stays.
    """
    while True:
        for layer in network.layers:
            paths = [branch(network, name) for name in layer.inputs] if isinstance(layer, Add) else []
            path = next((path for path in paths if any(part.name in dead for part in path)), None)
            if path:
                network = _without(network, layer, path)
                break
        else:
            return network


def branch(network: Network, name: str) -> list[Layer]:
    """The convolutions, normalisations and poolings over windows that lead to an addition's input and to nothing else; empty for an
    identity."""
    by_name = {layer.name: layer for layer in network.layers}
    path = []
    while name in by_name and isinstance(by_name[name], Conv | Norm | WindowPool) and len(readers(network, name)) == 1:
        path.append(by_name[name])
        name = by_name[name].inputs[0]
    return path


def readers(network: Network, name: str) -> list[Layer]:
    """The layers that read a result."""
    return [layer for layer in network.layers if name in layer.inputs]


def _without(network: Network, addition: Layer, path: list[Layer]) -> Network:
    """Takes out a branch. Its addition becomes what is left: the other input, with the addition's ReLU."""
    rest = next(name for name in addition.inputs if name != path[0].name)
    gone, layers = {addition.name, *(layer.name for layer in path)}, []
    by_name = {layer.name: layer for layer in network.layers}
    add_relu = not _positive(by_name, rest)
    if add_relu and not (isinstance(by_name.get(rest), Norm) and len(readers(network, rest)) == 1):
        raise ValueError(f"{addition.name}: without its branch, its ReLU cannot become part of {rest}")
    for layer in network.layers:
        if layer.name not in gone:
            layer = replace(layer, inputs=tuple(rest if name == addition.name else name for name in layer.inputs))
            layers.append(replace(layer, relu=True) if isinstance(layer, Norm) and layer.name == rest and add_relu else layer)
    return replace(network, layers=tuple(layers))


def _positive(by_name: Mapping[str, Layer], name: str) -> bool:
    """Whether a result has no negative numbers, so that a ReLU behind it does nothing."""
    match by_name.get(name):
        case Norm(relu=relu):
            return relu
        case Add():
            return True
        case Pool() | WindowPool() as layer:
            return _positive(by_name, layer.inputs[0])
    return False


def reconfigure(network: Network, parameters: Parameters, velocity: Parameters,
                threshold: float = THRESHOLD) -> tuple[Network, Parameters, Parameters, Kept]:
    """The dense network without dead branches and channels, what is left of parameters and optimiser state, and the channels kept of every
    result that is still there.

    Normalisations go on dividing by the channels they had (`Norm.counted`). Raises ValueError for one that loses channels of one of several
    groups.
    """
    network = without_branches(network, dead_convolutions(network, parameters, threshold))
    kept = living(network, parameters, threshold)
    smaller = replace(network, layers=tuple(_smaller(layer, kept) for layer in network.layers))
    return smaller, gather(network.layers, parameters, kept), gather(network.layers, velocity, kept), kept


def with_channels(network: Network, outputs: Mapping[str, int]) -> Network:
    """The network as pruning left it, from the output channels of the convolutions that are still there."""
    convolutions = {layer.name for layer in network.layers if isinstance(layer, Conv)}
    network = without_branches(network, convolutions - outputs.keys())
    of = unions(network)
    counts = {of[name]: count for name, count in outputs.items()} | {INPUT: network.image[2]}
    kept = {name: np.arange(counts[union]) for name, union in of.items() if union in counts}
    return replace(network, layers=tuple(_smaller(layer, kept) for layer in network.layers))


def _smaller(layer: Layer, kept: Kept) -> Layer:
    """A layer with the channels that are left."""
    match layer:
        case Conv():
            return replace(layer, channels=len(kept[layer.inputs[0]]), outputs=len(kept[layer.name]))
        case Linear():
            return replace(layer, channels=len(kept[layer.inputs[0]]))
        case Norm():
            channels = len(kept[layer.name])
            if channels == layer.channels:
                return layer
            if layer.group != layer.channels:
                raise ValueError(f"{layer.name}: group = {layer.group} of {layer.channels} channels; pruning needs one group of all")
            return replace(layer, channels=channels, group=channels, counted=layer.counted or layer.group)
    return layer


def gather(layers: Iterable[Layer], values: Parameters, kept: Kept) -> Parameters:
    """Of arrays by parameter, those of these layers, with the channels that are left."""
    found = {}
    for layer in layers:
        match layer:
            case Conv():
                rows, columns = kept[layer.inputs[0]], kept[layer.name]
                found[f"{layer.name}.weight"] = np.ascontiguousarray(values[f"{layer.name}.weight"][:, :, rows[:, None], columns])
            case Linear():
                found[f"{layer.name}.weight"] = values[f"{layer.name}.weight"][kept[layer.inputs[0]]]
                found[f"{layer.name}.bias"] = values[f"{layer.name}.bias"].copy()
            case Norm():
                for part in ("gamma", "beta"):
                    found[f"{layer.name}.{part}"] = values[f"{layer.name}.{part}"][kept[layer.name]]
    return found

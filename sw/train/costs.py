"""What a training step of a network costs on the five organisations, in closed form, as `sw.studies.flexsa` counts."""

from functools import cache
from typing import Any

from gen.config import ORGANISATIONS, Config
from sw.studies import flexsa
from sw.train.network import INPUT, Add, Conv, Linear, Network, Norm, Pool, WindowPool
from sw.train.shapes import channels, shapes
from sw.workloads import network as workloads
from sw.workloads.products import products_of

CONFIG = "base-bf16"        # 256 PEs: networks of 16 and 32 channels leave most of a larger array idle


def _shape(shape: tuple[int, ...]) -> workloads.Shape:
    """Channels first; behind a pool an image of one pixel."""
    height, width = shape[:-1] or (1, 1)
    return shape[-1], height, width


@cache
def workload(network: Network) -> workloads.Network:
    """The network as cost models have it: channels first, every ReLU a layer of its own behind the layer it belongs to."""
    sizes = {name: _shape(shape) for name, shape in shapes(network).items()}
    layers: list[workloads.Layer] = []
    names = {INPUT: INPUT}      # of a layer's result there

    for layer in network.layers:
        name, inputs = layer.name, tuple(names[name] for name in layer.inputs)
        source, shape = sizes[layer.inputs[0]], sizes[name]
        relu = isinstance(layer, Add) or (isinstance(layer, Norm) and layer.relu)
        match layer:
            case Conv():
                layers.append(workloads.Conv(
                    name=name, inputs=inputs, shape=shape, source=source, kernel=(layer.kernel, layer.kernel),
                    stride=(layer.stride, layer.stride), padding=(layer.pad, layer.pad, layer.pad, layer.pad)))
            case Norm():
                layers.append(workloads.Norm(name=name, inputs=inputs, shape=shape))
            case Add():
                layers.append(workloads.Add(name=name, inputs=inputs, shape=shape))
            case Pool():
                layers.append(workloads.Pool(name=name, inputs=inputs, shape=shape, source=source, kind="average", kernel=source[1:],
                                             stride=source[1:]))
            case WindowPool():
                layers.append(workloads.Pool(name=name, inputs=inputs, shape=shape, source=source, kind=layer.kind,
                                             kernel=(layer.kernel, layer.kernel), stride=(layer.stride, layer.stride)))
            case Linear():
                layers.append(workloads.Linear(name=name, inputs=inputs, shape=shape, features=layer.channels))
        names[name] = f"{name}.relu" if relu else name
        if relu:
            layers.append(workloads.Relu(name=names[name], inputs=(name,), shape=shape))
    return workloads.Network(network.name, sizes[INPUT], tuple(layers), input_name=INPUT)


def training_macs(network: Network) -> int:
    """Multiply-adds of a training step of one image: those of all products, zeros between the pixels of strided layers included."""
    return sum(product.macs for product in products_of(workload(network), training=True))


@cache
def step_costs(network: Network, batch: int, config: Config | None = None) -> dict[str, flexsa.Step]:
    """A training step of `batch` images by organisation; `config`, a 1G1F machine, None: CONFIG."""
    base = config or Config.load(CONFIG)
    return {organisation: flexsa.step(base.organise(organisation), workload(network), batch) for organisation in ORGANISATIONS}


def by_organisation(network: Network, batch: int) -> dict[str, Any]:
    """Of a training step of `batch` images on CONFIG: cycles, utilisation (0..1) and energy (pJ), each by organisation."""
    found = step_costs(network, batch)
    return {"cycles": {name: step.cycles for name, step in found.items()},
            "utilisation": {name: step.utilisation for name, step in found.items()},
            "energy": {name: step.energy["total"] for name, step in found.items()}}


def described(network: Network, batch: int) -> dict[str, Any]:
    """A network in numbers, as JSON has them: output channels by convolution, multiply-adds for each image of a training step and of
    inference, and the costs of a step of `batch` images."""
    return {"channels": channels(network), "macs": training_macs(network), "inference_macs": workload(network).macs, "batch": batch,
            **by_organisation(network, batch)}

"""Inference by compiled programs: the cycles and counters of every product are those that the RTL takes, program after program.

Normalisation is folded into the weights, an activation clips what STORE writes. A sum is part of the last convolution that one of its
operands comes from: what that stores takes the other as its residual. On a machine without `vector.window` poolings and sums are
estimates: what the memory port needs for their bytes and nothing else at the same time.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from math import ceil, prod

from gen.config import Config
from sw.compiler import Addition, CompileError, Gemm, Pooling, Window
from sw.compiler.lower import compile_product
from sw.cost.layers import LayerCost, NetworkCost
from sw.model import predict
from sw.model.energy import energy, load_table
from sw.runtime.report import traffic, waves
from sw.workloads.network import Add, Conv, Layer, Linear, Network, Norm, Pool, Relu

PHASE = "inference"


def inference(config: Config, network: Network, batch: int = 1, tell: Callable[[str], None] = lambda text: None,
              pace: Fraction = Fraction(1), *, timeline: bool = False) -> NetworkCost:
    """A network's inference on a machine whose memory port accepts `pace` beats a cycle; with `timeline` every instruction in time. Raises
    CompileError for a layer that it cannot hold."""
    costs = _Costs(config, network, batch, pace, timeline)
    found = []
    for number, layer in enumerate(network.layers, 1):
        tell(f"layer {number} of {len(network.layers)}: {layer.name}")
        if isinstance(layer, Conv | Linear | Pool | Add):
            try:
                found.append(costs.of(layer))
            except CompileError as error:
                raise CompileError(f"{layer.name}: {str(error).removeprefix(f'{layer.name}: ')}") from None
    return NetworkCost(network.name, config, batch, PHASE, found, pace=pace)


def on_port(config: Config, rate: Fraction) -> tuple[Config, Fraction]:
    """A configuration with beats that suffice for `rate` bytes a cycle (a power of two, of at least a word), and the beats that the port
    then accepts a cycle."""
    beat = config.word_bytes
    while beat < rate:
        beat *= 2
    return replace(config, memory=replace(config.memory, bytes_per_cycle=beat)), rate / beat


def carriers(network: Network) -> dict[str, str]:
    """For each sum of two the convolution that carries it out: the last one before it that makes one operand and nothing else's."""
    uses = Counter(name for layer in network.layers for name in layer.inputs)
    place = {layer.name: number for number, layer in enumerate(network.layers)}
    found = {}
    for layer in network.layers:
        if not isinstance(layer, Add) or len(layer.inputs) != 2:
            continue
        makers = []
        for name in layer.inputs:
            while uses[name] == 1 and isinstance(network.by_name.get(name), Norm | Relu):
                name = network.by_name[name].inputs[0]
            if uses[name] == 1 and isinstance(network.by_name.get(name), Conv):
                makers.append(name)
        if makers:
            found[layer.name] = max(makers, key=lambda name: place[name])
    return found


def product_of(config: Config, layer: Conv | Linear, batch: int, adds: bool = False) -> tuple[Gemm, int]:
    """A layer as the product of a program, and how often that runs: groups that fit a wave run as one. Raises CompileError."""
    if isinstance(layer, Linear):
        return Gemm(m=batch * layer.rows, n=layer.shape[0], k=layer.features, output="int8"), 1
    inputs, outputs = layer.source[0] // layer.groups, layer.shape[0] // layer.groups
    together = max(1, min(layer.groups, config.tile // max(inputs, outputs)))
    window = window_of(layer, batch)
    return Gemm(m=window.rows, n=together * outputs, k=together * inputs, output="int8", window=window,
                addition=Addition() if adds else None), -(-layer.groups // together)


def window_of(layer: Conv | Pool, batch: int) -> Window:
    """The window of a layer over a batch. Raises CompileError."""
    if layer.stride[0] != layer.stride[1]:
        raise CompileError(f"{layer.name}: stride = {layer.stride} must be the same in both directions")
    return Window(images=batch, height=layer.source[1], width=layer.source[2], kernel=layer.kernel, stride=layer.stride[0],
                  padding=layer.padding)


class _Costs:
    """The costs of a network's layers; layers of equal shape are worked out once."""

    def __init__(self, config: Config, network: Network, batch: int, pace: Fraction, timeline: bool):
        self.config, self.network, self.batch, self.pace, self.timeline = config, network, batch, pace, timeline
        self.sums = carriers(network) if config.vector.window else {}
        self.known: dict[tuple, LayerCost] = {}

    def of(self, layer: Layer) -> LayerCost:
        """A product, a pooling or a sum."""
        if isinstance(layer, Conv | Linear):
            from_host = layer.inputs[0] == self.network.input_name
            source = (layer.source, layer.kernel, layer.stride, layer.padding, layer.groups) if isinstance(layer, Conv) else layer.features
            adds = layer.name in self.sums.values()
            key = layer.shape, source, from_host, adds
            if key not in self.known:
                self.known[key] = self._product(layer, from_host, adds)
            return replace(self.known[key], name=layer.name)
        if layer.name in self.sums:
            return LayerCost(name=layer.name, phase=PHASE, remark=f"in {self.sums[layer.name]}", proved=True)
        if not self.config.vector.window:
            return self._moved(layer)
        if isinstance(layer, Pool):
            return self._program(layer, Pooling(window=window_of(layer, self.batch), channels=layer.source[0], kind=layer.kind))
        return self._sum(layer)

    def _product(self, layer: Conv | Linear, from_host: bool, adds: bool) -> LayerCost:
        """A convolution or fully connected layer with 8-bit results, and a residual if it `adds`. `from_host`: its input comes from the
        host, which may lay out patches."""
        product, times = product_of(self.config, layer, self.batch, adds)
        walked = self._program(layer, product, times)
        if not from_host or product.window is None or product.k >= self.config.array.side or times > 1 or adds:
            return walked
        patches = self._program(layer, Gemm(m=product.m, n=product.n, k=product.k * product.taps, output="int8"))
        return replace(patches, remark="patches laid out by the host") if patches.cycles < walked.cycles else walked

    def _program(self, layer: Layer, product: Gemm | Pooling, times: int = 1) -> LayerCost:
        """A program that runs `times` times; its multiply-adds are the layer's."""
        config, program = self.config, compile_product(self.config, product, pace=self.pace)
        found = predict(config, program.instructions, program=program.regions["program"].address, pace=self.pace, timeline=self.timeline)
        batch, depth = product.m // prod(layer.shape[1:]), product.k * product.taps if isinstance(product, Gemm) else 0
        return LayerCost(
            name=layer.name, phase=PHASE, m=product.m, n=product.n, k=depth, groups=times, macs=batch * layer.macs,
            cycles=times * found.cycles, waves={name: times * count for name, count in waves(config, found.counters).items()},
            traffic={name: times * count for name, count in traffic(config, found.counters).items()},
            energy_pj=times * energy(config, found.counters)["total"], proved=True,
            timeline=[(event, program.instructions[event.index].name) for event in found.timeline])

    def _sum(self, layer: Layer) -> LayerCost:
        """A sum by itself: a pooling over single pixels with a residual."""
        channels, height, width = layer.shape
        window = Window(images=self.batch, height=height, width=width, kernel=(1, 1))
        return self._program(layer, Pooling(window=window, channels=channels, addition=Addition()))

    def _moved(self, layer: Layer) -> LayerCost:
        """A pooling or a sum: every operand read once, the result written once."""
        read, written = self.batch * sum(prod(self.network.shape_of(name)) for name in layer.inputs), self.batch * prod(layer.shape)
        cycles = ceil((read + written) / (self.config.memory.bytes_per_cycle * self.pace))
        return LayerCost(name=layer.name, phase=PHASE, cycles=cycles, remark="memory port alone",
                         traffic={"dram_read_bytes": read, "dram_write_bytes": written}, energy_pj=(read + written) * load_table().dram)

"""MBS's groups on the machine: the forward pass of a group of units as one program of 8-bit layers, and the DRAM bytes that it takes.

Normalisations are folded into weights and biases, activations clip what STORE writes, a sum is the residual of the last convolution that
makes one of its operands (by itself it is a pooling over single pixels). Results on chip serve every reader in the group: inter-branch
reuse.
"""

from dataclasses import dataclass, replace

from gen.config import Config
from sw.compiler import Addition, CompileError, Gemm, Pooling
from sw.compiler.group_layer import INPUT, GroupLayer
from sw.compiler.layout import PARAMETER_WORDS, blocks_of, ceil_div
from sw.cost.programs import carriers, window_of
from sw.mbs.traffic import Group
from sw.mbs.units import Sequence, Unit
from sw.workloads.network import Add, Conv, Linear, Pool

AVERAGE = Addition(multiplier=1 << 23, residual_multiplier=1 << 23)      # half of the sum of two, so that it fits 8 bits


@dataclass(frozen=True)
class DramBytes:
    """What a group's program reads and writes: its input and result; weights; column parameters (biases, multipliers)."""

    features_read: int
    features_written: int
    weights: int
    parameters: int

    @property
    def read(self) -> int:
        """Everything that is read, but for the program itself."""
        return self.features_read + self.weights + self.parameters


def layers_of(sequence: Sequence, group: Group) -> list[GroupLayer]:
    """The layers of a group of units: int8 throughout, without zero points. Raises CompileError for what has no program, or more than one
    input."""
    sums = carriers(sequence.network)
    members = [sequence.units[number] for number in group.units]
    names = {unit.name for unit in members}
    outside = list(dict.fromkeys(name for unit in members for name in unit.inputs if name not in names))
    if len(outside) != 1:
        raise CompileError(f"the group of {members[0].name} reads {', '.join(outside)}: a program takes one input")
    at = {outside[0]: INPUT}
    found: list[GroupLayer] = []
    for unit in members:
        layer = unit.first
        if isinstance(layer, Add) and sums.get(layer.name) in names:
            at[unit.name] = at[sums[layer.name]]
            continue
        found.append(_layer(unit, at, next((other for other in members if sums.get(other.name) == unit.name), None)))
        at[unit.name] = len(found) - 1
    return found


def _layer(unit: Unit, at: dict[str, int], merge: Unit | None) -> GroupLayer:
    """A unit as a layer; `merge` is the sum that it carries out."""
    layer, source = unit.first, at[unit.inputs[0]]
    if isinstance(layer, Conv) and layer.groups == 1:
        other = [name for name in merge.inputs if name != unit.name] if merge else []
        addition, window = replace(AVERAGE, relu=merge.relu) if merge else None, window_of(layer, 1)
        return GroupLayer(source=source, residual=at[other[0]] if other else None, product=Gemm(
            m=window.rows, n=layer.shape[0], k=layer.source[0], output="int8", window=window, relu=unit.relu, addition=addition))
    if isinstance(layer, Linear):
        return GroupLayer(source=source, product=Gemm(m=layer.rows, n=layer.shape[0], k=layer.features, output="int8", relu=unit.relu))
    if isinstance(layer, Pool):
        return GroupLayer(source=source, product=Pooling(window=window_of(layer, 1), channels=layer.source[0], kind=layer.kind))
    raise CompileError(f"{unit.name}: a {type(layer).__name__} has no program in a group")


def dram_bytes(config: Config, layers: list[GroupLayer], batch: int, sub_batch: int, *, weights_stay: bool = False,
               parameters_stay: bool = False) -> DramBytes:
    """DRAM bytes of a group by the rules of `sw.mbs.traffic`: input and result once, weights in each iteration, unless they stay.

    Channels are padded to the array's side, rows of the whole batch to a beat; an n tile's weights and parameters are read as whole beats.
    """
    word, beat, iterations = config.word_bytes, config.memory.bytes_per_cycle, ceil_div(batch, sub_batch)
    times = min(iterations, config.array.groups)        # what stays, each group of the machine reads

    def features(rows: int, channels: int) -> int:
        return blocks_of(config, channels) * ceil_div(batch * rows * word, beat) * beat

    weights = parameters = 0
    for layer in layers:
        product = layer.product
        if isinstance(product, Pooling):
            parameters += ceil_div(len(product.parameters()) * PARAMETER_WORDS * word, beat) * beat
        else:
            weights += tile_bytes(config, product.n, product.taps * blocks_of(config, product.k) * config.array.side)
            parameters += tile_bytes(config, product.n, PARAMETER_WORDS)
    last = layers[-1].product
    return DramBytes(features(layers[0].rows_in, layers[0].channels_in), features(last.m, last.n),
                     weights * (times if weights_stay else iterations), parameters * (times if parameters_stay else iterations))


def tile_bytes(config: Config, n: int, words: int) -> int:
    """Bytes read for all n tiles of a region that holds so many words for each column block, tile by tile."""
    reach, blocks, beat = config.tile // config.array.side, blocks_of(config, n), config.beat_words
    tiles = ((first, min(first + reach, blocks)) for first in range(0, blocks, reach))
    return sum(ceil_div(stop * words, beat) - first * words // beat for first, stop in tiles) * config.memory.bytes_per_cycle

"""DRAM bytes of a training step (or of inference), unit by unit, for a network cut into groups.

Features, weights and their finished gradients are 16 bits; gradients are summed in 32 from sub-batch to sub-batch. Two ways to run a unit:

*Layer by layer* (no group): every layer reads its inputs from DRAM and writes its result. Batch normalisation goes through its input twice,
forward and backward, since a mini-batch does not fit the buffer; an activation's backward reads its result.

*In a group*: sub-batch after sub-batch, as far as they fit, through all units of the group. Product, normalisation (of groups of channels,
a sample at a time) and activation are one pass; a result stays on chip for the next unit, and with inter-branch reuse for every reader in
the group. What the backward pass needs goes to DRAM all the same: inputs of products and of normalisations, a bit for each activation,
a pooling's choice. Weights are read in every iteration, and their gradients' sums read and written.
"""

from collections.abc import Sequence as List
from dataclasses import dataclass, field, fields
from math import ceil, log2, prod

from sw.mbs.units import FEATURE_BYTES, MASK_BITS, Sequence, Unit

GRADIENT_BYTES, SUM_BYTES = 2, 4
BATCH_NORM_PASSES = 2


@dataclass(frozen=True)
class Group:
    """Units that a sub-batch passes on chip. `sub_batch` 0: layer by layer, nothing stays. `recompute`: normalised results are not kept for
    the backward pass, which has what they were computed from. `defer`: where it moves less, a weight gradient is computed behind the
    group's backward pass for the whole mini-batch, instead of summed up from sub-batch to sub-batch."""

    units: range
    sub_batch: int
    inter_branch: bool = False
    recompute: bool = False
    defer: bool = False

    def iterations(self, batch: int) -> int:
        """How often the group runs for a mini-batch."""
        return ceil(batch / self.sub_batch) if self.sub_batch else 1


@dataclass
class Bytes:
    """DRAM bytes: features between units, what forward keeps for backward, gradients of features; weights, and their gradients' sums."""

    features: int = 0
    saved: int = 0
    gradients: int = 0
    weights: int = 0
    weight_gradients: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return sum(getattr(self, item.name) for item in fields(self))

    def __add__(self, other: "Bytes") -> "Bytes":
        return Bytes(*(getattr(self, item.name) + getattr(other, item.name) for item in fields(self)))


@dataclass
class UnitTraffic:
    """A unit's bytes in the two halves of a step; `deferred`: its weight gradient comes behind its group's backward pass."""

    name: str
    forward: Bytes = field(default_factory=Bytes)
    backward: Bytes = field(default_factory=Bytes)
    deferred: bool = False

    @property
    def total(self) -> int:
        """Both."""
        return self.forward.total + self.backward.total


def step_traffic(sequence: Sequence, batch: int, groups: List[Group], *, training: bool = True) -> list[UnitTraffic]:
    """Bytes of each unit. The groups cover all units, in order."""
    return [found for group in groups for found in group_traffic(sequence, batch, group, training=training)]


def group_traffic(sequence: Sequence, batch: int, group: Group, *, training: bool = True) -> list[UnitTraffic]:
    """Bytes of a group's units. What crosses its border costs the same whatever lies beyond."""
    context, work = _Context(sequence, batch, group, training), _serialised if group.sub_batch else _layer_by_layer
    return [work(context, number, sequence.units[number]) for number in group.units]


@dataclass(frozen=True)
class _Context:
    """What the two ways of running a unit ask about its surroundings."""

    sequence: Sequence
    batch: int
    group: Group
    training: bool

    def on_chip(self, name: str, reader: int) -> bool:
        """Whether a result is still on chip when `reader` wants it. One of the two is of the group."""
        at, group = self.sequence.place[name], self.group
        return at in group.units and reader in group.units and group.sub_batch > 0 and (group.inter_branch or reader == at + 1)

    def bytes_of(self, name: str, reader: int) -> int:
        """Feature bytes of a mini-batch that a unit reads of a result."""
        return FEATURE_BYTES * self.batch * self.sequence.read_elements(self.sequence.units[reader], name)

    def result(self, unit: Unit) -> int:
        """Feature bytes of a unit's result for a mini-batch."""
        return FEATURE_BYTES * self.batch * unit.elements

    def is_input(self, name: str) -> bool:
        """Whether that is the network's input, which has no gradient."""
        return name == self.sequence.network.input_name

    def written(self, unit: Unit) -> bool:
        """Whether a unit's result has to be in DRAM: for a reader that is not there yet, or for a product's weight gradient."""
        readers = self.sequence.readers[unit.name]
        kept = self.training and any(self.sequence.units[reader].product is not None for reader in readers)
        return not readers or (kept and not self.recomputed(unit.name)) or not all(self.on_chip(unit.name, reader) for reader in readers)

    def recomputed(self, name: str) -> bool:
        """Whether the backward pass makes a result anew from what normalisations of the group read; those come back for them anyway."""
        if not self.group.recompute or self.is_input(name) or self.sequence.place[name] not in self.group.units:
            return False
        unit = self.sequence.units[self.sequence.place[name]]
        return unit.norm or (unit.concatenates and all(
            self.recomputed(source) and self.on_chip(source, self.sequence.place[name]) for source in unit.inputs))

    def gradient_in(self, unit: Unit) -> int:
        """Bytes of the gradients that a unit's readers left in DRAM for it (the loss's gradient of the last one is small, and counted)."""
        readers = self.sequence.readers[unit.name]
        if not readers:
            return self.result(unit)
        return sum(self.bytes_of(unit.name, reader) for reader in readers if not self.on_chip(unit.name, reader))


def _serialised(context: _Context, number: int, unit: Unit) -> UnitTraffic:
    iterations, found = context.group.iterations(context.batch), UnitTraffic(unit.name)
    forward, backward = found.forward, found.backward
    if unit.concatenates:       # what has left the chip lies where it belongs
        if context.written(unit):
            forward.features = sum(context.bytes_of(name, number) for name in unit.inputs if context.on_chip(name, number))
    else:
        forward.features = sum(context.bytes_of(name, number) for name in unit.inputs if not context.on_chip(name, number))
        forward.features += context.result(unit) if context.written(unit) else 0
    forward.weights = FEATURE_BYTES * unit.weights * iterations
    if not context.training:
        return found
    kept = 0
    if unit.norm:
        kept += FEATURE_BYTES * context.batch * prod(unit.first.shape)
    if unit.relu and not context.recomputed(unit.name):
        kept += context.batch * unit.elements * MASK_BITS // 8
    if unit.choices:
        kept += context.batch * unit.elements * ceil(log2(unit.choices)) // 8
    forward.saved = backward.saved = kept
    if unit.product:
        there = sum(context.bytes_of(name, number) for name in unit.inputs if context.recomputed(name) and context.on_chip(name, number))
        read = sum(context.bytes_of(name, number) for name in unit.inputs)
        sums = SUM_BYTES * unit.weights * 2 * (iterations - 1)
        again = 2 * FEATURE_BYTES * context.batch * prod(unit.first.shape)      # the gradient of its result, written and read
        found.deferred = context.group.defer and again + there < sums
        backward.saved += read - (0 if found.deferred else there)
        backward.gradients = again if found.deferred else 0
        backward.weight_gradients = GRADIENT_BYTES * unit.weights + (0 if found.deferred else sums)
    outward = [name for name in unit.inputs if not context.is_input(name)]
    if unit.product and outward:
        backward.weights = FEATURE_BYTES * unit.weights * iterations
    backward.gradients += context.gradient_in(unit)
    backward.gradients += sum(context.bytes_of(name, number) for name in outward if not context.on_chip(name, number))
    return found


def _layer_by_layer(context: _Context, number: int, unit: Unit) -> UnitTraffic:
    found = UnitTraffic(unit.name)
    forward, backward = found.forward, found.backward
    read, made = sum(context.bytes_of(name, number) for name in unit.inputs), context.result(unit)
    raw = FEATURE_BYTES * context.batch * prod(unit.first.shape)        # the first layer's result
    if unit.concatenates:       # results lie where they belong; gradients of several readers are added up
        if context.training and len(context.sequence.readers[unit.name]) > 1:
            backward.gradients = context.gradient_in(unit) + made
        return found
    forward.features = read + raw + (BATCH_NORM_PASSES * raw + raw if unit.norm else 0) + (2 * made if unit.relu else 0)
    forward.weights = FEATURE_BYTES * unit.weights
    if not context.training:
        return found
    outward = sum(context.bytes_of(name, number) for name in unit.inputs if not context.is_input(name))
    gradient = context.gradient_in(unit)
    if unit.relu:
        backward.gradients += gradient + made       # reads it, writes its own
        backward.saved += made
        gradient = made
    if unit.norm:
        backward.gradients += BATCH_NORM_PASSES * gradient + raw
        backward.saved += BATCH_NORM_PASSES * raw
        gradient = raw
    if unit.product:
        backward.gradients += gradient + (gradient + outward if outward else 0)
        backward.saved += read
        backward.weights = FEATURE_BYTES * unit.weights if outward else 0
        backward.weight_gradients = GRADIENT_BYTES * unit.weights
    elif unit.pools:
        backward.gradients += gradient + outward
        backward.saved += read + made if unit.choices else 0
    return found

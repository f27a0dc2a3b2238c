"""A network as a sequence of units, and what each needs of the buffer for one sample.

A unit is what works on features in one go: a product with the normalisation and the activation behind it, a pooling, or a merge (sum,
concatenation) with its activation. A tensor is live from the unit that makes it to the last one that reads it. Where only one is live
between two units the network can be cut; what lies between two cuts is a block (a residual block, an inception module).
"""

from dataclasses import dataclass
from functools import cached_property
from math import prod

from sw.workloads.network import Concat, Conv, Layer, Linear, Network, Norm, Pool, Relu

FEATURE_BYTES = 2
MASK_BITS = 1           # of an activation's sign, kept for the backward pass


@dataclass(frozen=True)
class Unit:
    """Layers that work on features in one go. `inputs`: the units (or the network's input) whose results it reads."""

    name: str
    layers: tuple[Layer, ...]
    inputs: tuple[str, ...]

    @property
    def first(self) -> Layer:
        """The layer that names it."""
        return self.layers[0]

    @property
    def product(self) -> Conv | Linear | None:
        """Its convolution or fully connected layer."""
        return self.first if isinstance(self.first, Conv | Linear) else None

    @property
    def norm(self) -> bool:
        """Whether it normalises."""
        return any(isinstance(layer, Norm) for layer in self.layers)

    @property
    def relu(self) -> bool:
        """Whether it ends with an activation."""
        return any(isinstance(layer, Relu) for layer in self.layers)

    @property
    def concatenates(self) -> bool:
        """Whether it puts branches side by side, which moves nothing."""
        return isinstance(self.first, Concat)

    @property
    def pools(self) -> bool:
        """Whether it is a pooling."""
        return isinstance(self.first, Pool)

    @property
    def choices(self) -> int:
        """Elements of which a max pooling takes one; 0 for everything else."""
        return prod(self.first.kernel) if isinstance(self.first, Pool) and self.first.kind == "max" else 0

    @property
    def elements(self) -> int:
        """Of its result, for one sample."""
        return prod(self.layers[-1].shape)

    @property
    def weights(self) -> int:
        """Weights, bias, scale and shift."""
        return sum(layer.parameters for layer in self.layers)


@dataclass(frozen=True)
class Sequence:
    """The units of a network in order."""

    network: Network
    units: tuple[Unit, ...]

    @cached_property
    def place(self) -> dict[str, int]:
        """Where each unit stands; the network's input before all."""
        return {self.network.input_name: -1} | {unit.name: number for number, unit in enumerate(self.units)}

    def elements(self, name: str) -> int:
        """Of a unit's result or of the network's input, for one sample."""
        return prod(self.network.input_shape) if name == self.network.input_name else self.units[self.place[name]].elements

    @cached_property
    def readers(self) -> dict[str, tuple[int, ...]]:
        """The units that read each result, in order."""
        return {name: tuple(number for number, unit in enumerate(self.units) if name in unit.inputs) for name in self.place}

    @cached_property
    def cuts(self) -> tuple[int, ...]:
        """Places behind which the network can be cut: units after which only their own result is live. The last is one."""
        found = []
        for number, unit in enumerate(self.units):
            live = {name for name, at in self.place.items() if at <= number and max(self.readers[name], default=-1) > number}
            if live <= {unit.name}:
                found.append(number)
        return tuple(found)

    @cached_property
    def blocks(self) -> tuple[range, ...]:
        """The units between the cuts."""
        starts = (0, *(cut + 1 for cut in self.cuts))
        return tuple(range(start, cut + 1) for start, cut in zip(starts, self.cuts))

    def plain_bytes(self, number: int) -> int:
        """Features that a unit reads and makes, for one sample."""
        return self._plain_bytes[number]

    def live_bytes(self, number: int) -> int:
        """The same and, besides, all other tensors that are live while it works: a block's input, branches that wait for the merge."""
        return self._live_bytes[number]

    @cached_property
    def _plain_bytes(self) -> tuple[int, ...]:
        return tuple(FEATURE_BYTES * (sum(self.read_elements(unit, name) for name in unit.inputs) + unit.elements) for unit in self.units)

    @cached_property
    def _live_bytes(self) -> tuple[int, ...]:
        return tuple(self._plain_bytes[number] + FEATURE_BYTES * self._waiting(number) for number in range(len(self.units)))

    def _waiting(self, number: int) -> int:
        """Elements that are live while a unit works, besides what it reads and makes."""
        unit = self.units[number]
        others = (name for name, at in self.place.items()
                  if at < number and name not in unit.inputs and max(self.readers[name], default=-1) > number)
        kept = sum(self.elements(name) - self.read_elements(unit, name) for name in unit.inputs if max(self.readers[name]) > number)
        return sum(map(self.elements, others)) + kept

    def read_elements(self, unit: Unit, name: str) -> int:
        """Elements that a unit reads of a tensor: with gated channels not all."""
        if isinstance(unit.first, Linear):
            return unit.first.features * unit.first.rows
        return prod(unit.first.source) if isinstance(unit.first, Conv) else self.elements(name)


def units_of(network: Network) -> Sequence:
    """Put layers together: a normalisation or activation belongs to what it reads, if nothing else reads that."""
    readers: dict[str, int] = {}
    for layer in network.layers:
        for name in layer.inputs:
            readers[name] = readers.get(name, 0) + 1
    members: list[list[Layer]] = []
    owner = {network.input_name: network.input_name}
    last: dict[str, list[Layer]] = {}
    for layer in network.layers:
        source = last.get(layer.inputs[0])
        if isinstance(layer, Norm | Relu) and source is not None and readers[layer.inputs[0]] == 1:
            source.append(layer)
        else:
            source = [layer]
            members.append(source)
        last[layer.name], owner[layer.name] = source, source[0].name
    return Sequence(network, tuple(
        Unit(group[0].name, tuple(group), tuple(owner[name] for name in group[0].inputs)) for group in members))

"""Training steps in closed form, on any organisation and with any of the MBS paper's schedules.

A product's counters are those of `sw.model.closed_form`. A unit's DRAM bytes are those of its group (`sw.mbs.traffic`, features of 16
bits); it takes as long as the slower of its products and its bytes at the memory port, forward and backward each, and what the bytes take
longer is charged to its first layer. Stationary tiles are loaded behind the one before, but for the schedule "baseline", whose waves wait
for them. The vector unit's work, depth-wise convolutions among it, hides behind both and counts no multiply-adds. No RTL proves these
cycles yet: they are estimates.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from math import ceil

from gen.config import Config
from gen.isa import Mode
from sw.cost.layers import LayerCost, NetworkCost
from sw.mbs.schedule import Variant, groups_of
from sw.mbs.traffic import Bytes, step_traffic
from sw.mbs.units import Unit, units_of
from sw.model.closed_form import counters, on_groups
from sw.model.energy import energy, load_table
from sw.runtime.report import traffic, waves
from sw.workloads.network import Conv, Network
from sw.workloads.products import Phase, Product, product_of

SUM_BYTES = 4


def buffer_bytes(config: Config) -> int:
    """The global buffers of all groups."""
    return config.array.groups * config.buffers.slices * config.buffers.slice_words * config.word_bytes


def training(config: Config, network: Network, batch: int, variant: Variant,
             tell: Callable[[str], None] = lambda text: None, pace: Fraction = Fraction(1)) -> NetworkCost:
    """A training step of `batch` samples on a machine whose memory port accepts `pace` beats a cycle."""
    tell("choosing the groups")
    sequence = units_of(network)
    groups = groups_of(sequence, variant, batch, buffer_bytes(config))
    moved = {found.name: found for found in step_traffic(sequence, batch, groups)}
    forward, backward, named = [], [], []
    for group in groups:
        sizes = [batch]
        if group.sub_batch:
            sizes = [group.sub_batch] * (batch // group.sub_batch) + [batch % group.sub_batch] * (batch % group.sub_batch > 0)
            named.append(([sequence.units[number].name for number in group.units], group.sub_batch))
        for number in group.units:
            unit = sequence.units[number]
            tell(unit.name)
            forward += unit_costs(config, network, unit, {Phase.FORWARD: sizes}, variant, moved[unit.name].forward, pace)
            phases = {Phase.WEIGHT_GRADIENT: [batch] if moved[unit.name].deferred else sizes, Phase.DATA_GRADIENT: sizes}
            backward = [*unit_costs(config, network, unit, phases, variant, moved[unit.name].backward, pace), *backward]
    return NetworkCost(network.name, config, batch, "training", [*forward, *backward], named, pace)


def unit_costs(config: Config, network: Network, unit: Unit, phases: dict[Phase, list[int]], variant: Variant,
               bytes_: Bytes, pace: Fraction) -> Iterator[LayerCost]:
    """A unit's products in these phases, each with its sub-batches, or its bytes alone."""
    found = []
    layer = unit.first
    on_vector_unit = isinstance(layer, Conv) and layer.depthwise
    for phase, sizes in phases.items() if unit.product and not on_vector_unit else ():
        if phase is not Phase.DATA_GRADIENT or unit.inputs[0] != network.input_name:
            found.append(product_cost(config, [product_of(layer, phase, size) for size in sizes], variant))
    if not found:
        phase = Phase.FORWARD if Phase.FORWARD in phases else "backward"
        found = [LayerCost(name=unit.name, phase=phase, remark="vector unit, not counted" if on_vector_unit else "bytes alone")]
    port = ceil(bytes_.total / (config.memory.bytes_per_cycle * pace))
    late = max(0, port - sum(cost.cycles for cost in found))
    first = replace(found[0], cycles=found[0].cycles + late, energy_pj=found[0].energy_pj + bytes_.total * load_table().dram,
                    traffic=found[0].traffic | {"dram_bytes": bytes_.total},
                    remark=", ".join(filter(None, (found[0].remark, "memory port" if late and found[0].macs else ""))))
    return iter([first, *found[1:]])


def product_cost(config: Config, items: list[Product], variant: Variant) -> LayerCost:
    """A product, sub-batch after sub-batch."""
    totals: dict[str, int] = {}
    cycles = macs = 0
    spent = 0.0
    for item in items:
        found = on_groups(config, item.m, item.n, item.k, split_k=item.phase is Phase.WEIGHT_GRADIENT,
                          output_bytes=SUM_BYTES if item.phase is Phase.WEIGHT_GRADIENT else 1)
        counted = counters(config, found, 0, 0)
        exposed = 0 if variant.double_buffered else config.array.side * sum(found.waves.values()) // config.array.groups
        cycles += item.groups * (found.cycles + exposed)
        macs += item.macs
        spent += item.groups * energy(config, counted)["total"]
        onchip = {name: count for name, count in traffic(config, counted).items() if not name.startswith("dram")}
        for name, count in (waves(config, counted) | onchip).items():
            totals[name] = totals.get(name, 0) + item.groups * count
    first = items[0]
    return LayerCost(name=first.layer, phase=first.phase, m=first.m, n=first.n, k=first.k, groups=first.groups * len(items), macs=macs,
                     cycles=cycles, waves={mode.name: totals.pop(mode.name) for mode in Mode}, traffic=totals, energy_pj=spent)

"""MBS on WaveCore: DRAM bytes, time and energy of training steps, six networks, six variants, sizes of the buffer, kinds of memory.

Bytes follow from the schedule (`sw.mbs.traffic`) and are exact for it; time and energy are estimates (`sw.mbs.time`): until the vector unit
exists no RTL proves them. 32 samples a core (AlexNet 64), features of 16 bits, 10 MiB of buffer a core, two cores on one HBM2 stack.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from sw.mbs.schedule import Variant, groups_of
from sw.mbs.time import MEMORIES, Step, step
from sw.mbs.traffic import Group
from sw.mbs.units import Sequence, units_of
from sw.plots import save
from sw.studies.table import Claim, claims_table, markdown
from sw.workloads.catalogue import network

NETWORKS = {"resnet50": 32, "resnet101": 32, "resnet152": 32, "inception_v3": 32, "inception_v4": 32, "alexnet": 64}
MIB = 1 << 20
BUFFER, BUFFERS = 10, (5, 10, 20, 30, 40)
SWEPT = ("resnet50", "inception_v4", "alexnet")                     # over sizes of the buffer
COMPARED = (Variant.BASELINE, Variant.ARCHOPT, Variant.MBS2)        # over kinds of memory
MEMORY = "hbm2"
WIDTH = 0.8 / len(Variant)          # of a bar


@dataclass(frozen=True)
class Point:
    """A training step: network, variant (greedy or optimal groups), buffer in MiB, memory; the step; the groups' sub-batches and units."""

    network: str
    variant: Variant
    optimal: bool
    buffer: int
    memory: str
    step: Step
    groups: tuple[tuple[int, int], ...]


@cache
def sequence_of(name: str) -> Sequence:
    """The units of a network."""
    return units_of(network(name))


@cache
def chosen(name: str, variant: Variant, optimal: bool, buffer: int) -> list[Group]:
    """The groups of a variant."""
    return groups_of(sequence_of(name), variant, NETWORKS[name], buffer * MIB, optimal=optimal)


@cache
def point(name: str, variant: Variant, *, optimal: bool = True, buffer: int = BUFFER, memory: str = MEMORY) -> Point:
    """One step."""
    groups = chosen(name, variant, optimal, buffer)
    return Point(name, variant, optimal, buffer, memory, step(sequence_of(name), variant, groups, NETWORKS[name], MEMORIES[memory]),
                 tuple((len(group.units), group.sub_batch) for group in groups))


def run(tell: Callable[[str], None] = lambda text: None) -> list[Point]:
    """Variants of all networks, the greedy groups, kinds of memory, and sizes of the buffer for some."""
    found = []
    for name in NETWORKS:
        tell(f"reproduce mbs: {name}")
        found += [point(name, variant) for variant in Variant]
        found += [point(name, variant, optimal=False) for variant in (Variant.MBS1, Variant.MBS2)]
        found += [point(name, variant, memory=memory) for memory in MEMORIES for variant in COMPARED]
    found += [point(name, Variant.MBS2, buffer=buffer) for name in SWEPT for buffer in BUFFERS]
    return list({id(one): one for one in found}.values())       # `point` gives the same one for the same question


def mean(value: Callable[[str], float]) -> float:
    """Over the networks."""
    return sum(map(value, NETWORKS)) / len(NETWORKS)


def claims() -> list[Claim]:
    """The abstracts' numbers and ours: MBS2 with ArchOpt against Baseline, means of six networks."""
    def ratio(value: Callable[[Step], float], variant: Variant = Variant.MBS2) -> float:
        return mean(lambda name: value(point(name, variant).step) / value(point(name, Variant.BASELINE).step))

    def together(variant: Variant) -> float:
        return sum(point(name, variant).step.dram_bytes for name in NETWORKS)

    traffic, energy = ratio(lambda one: one.dram_bytes), ratio(lambda one: one.energy["total"])
    speed = mean(lambda name: point(name, Variant.BASELINE).step.seconds / point(name, Variant.MBS2).step.seconds)
    found = []
    for version, (bytes_, faster, joules) in (("first", (0.27, 1.45, 0.76)), ("final", (0.25, 1.53, 0.74))):
        found += [Claim(f"DRAM bytes, MBS2 / Baseline ({version} version)", bytes_, traffic, "paper", "{:.3f}"),
                  Claim(f"speed, MBS2 / Baseline ({version} version)", faster, speed, "paper", "{:.3f}", "vector unit's work hidden"),
                  Claim(f"energy, MBS2 / Baseline ({version} version)", joules, energy, "paper", "{:.3f}", "no leakage, no clock")]
    for variant, paper in ((Variant.BASELINE, 0.538), (Variant.ARCHOPT, 0.815), (Variant.MBS_FS, 0.667), (Variant.MBS2, 0.786)):
        found.append(Claim(f"utilisation of the array, {variant}", paper, mean(lambda name, v=variant: point(name, v).step.utilisation),
                           "recalled", "{:.3f}"))
    for variant in (Variant.MBS2, Variant.MBS3):
        found.append(Claim(f"DRAM bytes of all six together, {variant} / Baseline", 0.27, together(variant) / together(Variant.BASELINE),
                           "paper", "{:.3f}", "the paper's mean"))
    found.append(Claim("DRAM bytes, mbs3 / Baseline", 0.27, ratio(lambda one: one.dram_bytes, Variant.MBS3), "paper", "{:.3f}",
                       "our schedule, the paper's mean"))
    greedy = mean(lambda name: point(name, Variant.MBS2, optimal=False).step.dram_bytes / point(name, Variant.MBS2).step.dram_bytes)
    found.append(Claim("DRAM bytes, greedy groups / optimal ones", 1.01, greedy, "recalled", "{:.3f}"))
    return found


def text(_points: list[Point]) -> str:
    """All tables: `point` knows every step that has been made."""
    def step_of(name: str, variant: Variant, **options) -> Step:
        return point(name, variant, **options).step

    def joules(one: Step) -> str:
        return f"{one.energy['total']:.2f} ({one.energy['dram']:.2f})"

    lines = ["# MBS: training steps serialised over groups of layers\n", claims_table(claims()),
             "## DRAM bytes of a step, GB\n",
             markdown(("network", *Variant, "mbs2, greedy", "mbs2 / baseline", "mbs3 / baseline"), [
                 (name, *(f"{step_of(name, variant).dram_bytes / 1e9:.2f}" for variant in Variant),
                  f"{step_of(name, Variant.MBS2, optimal=False).dram_bytes / 1e9:.2f}",
                  *(f"{step_of(name, variant).dram_bytes / step_of(name, Variant.BASELINE).dram_bytes - 1:+.1%}"
                    for variant in (Variant.MBS2, Variant.MBS3))) for name in NETWORKS]),
             "AlexNet's bytes are its fully connected weights and their gradients, which no serialisation spares.\n"
             "mbs3 is ours: normalised results are computed again instead of kept, weight gradients behind a group where their sums cost "
             "more.\n",
             "## Time of a step on HBM2, ms, and utilisation of the array while it multiplies\n",
             markdown(("network", *Variant, "speed, mbs2 / baseline"), [
                 (name, *(f"{1e3 * step_of(name, variant).seconds:.1f} ({step_of(name, variant).utilisation:.0%})" for variant in Variant),
                  f"{step_of(name, Variant.BASELINE).seconds / step_of(name, Variant.MBS2).seconds:.2f}") for name in NETWORKS]),
             "## Energy of a step on HBM2, J (of it DRAM)\n",
             markdown(("network", *Variant), [
                 (name, *(joules(step_of(name, variant)) for variant in Variant)) for name in NETWORKS]),
             "## Sizes of the buffer: DRAM bytes of mbs2 over those of baseline\n",
             markdown(("network", *(f"{buffer} MiB" for buffer in BUFFERS)), [
                 (name, *(f"{step_of(name, Variant.MBS2, buffer=buffer).dram_bytes / step_of(name, Variant.BASELINE).dram_bytes:.3f}"
                          for buffer in BUFFERS)) for name in SWEPT]),
             "## Kinds of memory: time of a step, ms, baseline / archopt / mbs2\n",
             markdown(("network", *MEMORIES), [
                 (name, *(" / ".join(f"{1e3 * step_of(name, variant, memory=memory).seconds:,.0f}"
                                     for variant in COMPARED) for memory in MEMORIES)) for name in NETWORKS]),
             "Rates and energies: " + "; ".join(f"{memory.name}: {memory.source}" for memory in MEMORIES.values()) + ".\n",
             "## Groups of mbs2: units x sub-batch\n",
             markdown(("network", "groups"), [(name, ", ".join(f"{units} x {sub_batch}" for units, sub_batch in
                                                               point(name, Variant.MBS2).groups)) for name in NETWORKS])]
    return "\n".join(lines)


def to_points(points: list[Point]) -> list[dict]:
    """For the JSON file."""
    return [{"network": one.network, "variant": one.variant, "optimal": one.optimal, "buffer_mib": one.buffer, "memory": one.memory,
             "seconds": one.step.seconds, "compute_seconds": one.step.compute_seconds, "macs": one.step.macs,
             "dram_bytes": one.step.dram_bytes, "energy_j": one.step.energy, "groups": one.groups} for one in points]


def plot(_points: list[Point], path: Path):
    """Bytes, time and energy of the variants against Baseline; bytes over the buffer's size."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 2, figsize=(13, 8.5), constrained_layout=True)
    panels = (("DRAM bytes / baseline", lambda one: one.dram_bytes), ("time / baseline", lambda one: one.seconds),
              ("energy / baseline", lambda one: one.energy["total"]))
    for axis, (label, value) in zip(axes.flat, panels):
        for number, variant in enumerate(Variant):
            axis.bar([place + WIDTH * (number - (len(Variant) - 1) / 2) for place in range(len(NETWORKS))],
                     [value(point(name, variant).step) / value(point(name, Variant.BASELINE).step) for name in NETWORKS], width=WIDTH,
                     label=str(variant))
        axis.set_xticks(range(len(NETWORKS)), NETWORKS, fontsize=8)
        axis.set_ylabel(label)
    axes[0, 0].legend(ncols=3, fontsize=8, loc="upper left")
    for name in SWEPT:
        axes[1, 1].plot(BUFFERS, [point(name, Variant.MBS2, buffer=buffer).step.dram_bytes / point(name, Variant.BASELINE).step.dram_bytes
                                  for buffer in BUFFERS], marker="o", label=name)
    axes[1, 1].set_xlabel("buffer, MiB")
    axes[1, 1].set_ylabel("DRAM bytes, mbs2 / baseline")
    axes[1, 1].set_ylim(bottom=0)
    axes[1, 1].legend(fontsize=8)
    for axis in axes.flat:
        axis.set_axisbelow(True)
        axis.grid(axis="y", alpha=0.3)
    figure.suptitle("Mini-batch serialisation on WaveCore, training steps", fontsize=12)
    save(figure, path)

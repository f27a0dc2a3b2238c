"""FlexSA's argument: five organisations of 16,384 PEs on training steps of networks that are pruned while they train.

Every product of a step (forward, data and weight gradient) in closed form, stationary tiles loaded behind the one before. Utilisation is
multiply-adds over PEs and cycles. Traffic is what the global buffer sends to the local ones. Each tensor crosses DRAM once a product.
The machine's numbers are those of its int8 configuration `paper`; the vector unit's work is not in it, nor are depth-wise convolutions,
which leave any of these arrays idle and belong to it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from math import sqrt
from pathlib import Path

from gen.config import ORGANISATIONS, Config
from gen.isa import Mode
from sw.model.closed_form import counters, on_groups
from sw.model.energy import energy
from sw.plots import save
from sw.studies.table import Claim, claims_table, markdown
from sw.workloads.catalogue import network
from sw.workloads.network import Conv, Network
from sw.workloads.products import Phase, Product, products_of
from sw.workloads.prunetrain import series

BATCH = {"resnet50": 32, "inception_v4": 32, "mobilenet_v2": 128, "vgg11": 128}
EPOCHS = {"resnet50": 90, "vgg11": 182}
GRADIENT_SUM_BYTES = 4


@dataclass(frozen=True)
class State:
    """A network at one time of its training: how many epochs it stays so."""

    workload: str
    label: str
    network: str
    epochs: int


@dataclass(frozen=True, kw_only=True)
class Step:
    """A training step on a machine."""

    macs: int
    cycles: int
    utilisation: float
    local_bytes: int                # from the global to the local buffers
    dram_bytes: int
    energy: dict[str, float]        # pJ
    modes: dict[str, float]         # share of the waves


@dataclass(frozen=True, kw_only=True)
class Point(Step):
    """A step of a state on an organisation."""

    state: State
    organisation: str


def states() -> Iterator[State]:
    """The networks of the study. A state lasts until the next one that is known, the last one to the end of the training."""
    dense = network("resnet50").macs
    for name, ratio in (("resnet50", "0.2"), ("resnet50", "0.3"), ("vgg11", "0.2")):
        yield from pruned(f"{name}, ratio {ratio}", name, ratio)
    for ratio in ("0.2", "0.3"):        # every channel of Inception v4 as much thinner as makes ResNet-50's multiply-adds fewer
        for state in pruned(f"inception_v4, as {ratio}", "resnet50", ratio):
            factor = round(sqrt(network(state.network).macs / dense), 3)
            yield replace(state, network="inception_v4" if factor == 1 else f"inception_v4@{factor}")
    yield State("mobilenet_v2", "dense", "mobilenet_v2", 1)
    yield State("mobilenet_v2", "x 0.75", "mobilenet_v2@0.75", 1)


def pruned(workload: str, name: str, ratio: str) -> Iterator[State]:
    """A network's states at one strength of pruning."""
    epochs = [int(epoch) for network_, of, epoch in series() if (network_, of) == (name, ratio) and epoch.isdigit() and int(epoch)]
    yield State(workload, "dense", name, epochs[0])
    for epoch, following in zip(epochs, [*epochs[1:], EPOCHS[name]]):
        yield State(workload, f"epoch {epoch}", f"{name}@prunetrain:{ratio}:{epoch}", following - epoch)


def dram_bytes(net: Network, product: Product, batch: int, operand_bytes: int) -> tuple[int, int]:
    """Read and written when each of a layer's three tensors crosses once: two are read, one is written."""
    layer = net.by_name[product.layer]
    source = layer.source if isinstance(layer, Conv) else (layer.features, 1, 1)        # type: ignore[attr-defined]
    x, y = (operand_bytes * batch * shape[0] * shape[1] * shape[2] for shape in (source, layer.shape))
    if product.phase is Phase.FORWARD:
        return x + operand_bytes * layer.weights, y
    if product.phase is Phase.DATA_GRADIENT:
        return y + operand_bytes * layer.weights, x
    return x + y, GRADIENT_SUM_BYTES * layer.weights


def step(config: Config, net: Network, batch: int) -> Step:
    """A training step of `batch` images on a machine: operands of its type, gradients of weights as sums of 32 bits."""
    macs = cycles = local = dram = 0
    spent: dict[str, float] = {}
    waves = dict.fromkeys(Mode, 0)
    for product in products_of(net, batch, training=True):
        layer = net.by_name[product.layer]
        if isinstance(layer, Conv) and layer.depthwise:
            continue
        by_weight = product.phase is Phase.WEIGHT_GRADIENT
        found = on_groups(config, product.m, product.n, product.k, split_k=by_weight,
                          output_bytes=config.planes if by_weight else 1)
        read, written = dram_bytes(net, product, batch, config.operand_bytes)
        macs += product.macs
        cycles += found.cycles
        local += (found.moving_words + found.stationary_words) * config.word_bytes
        dram += read + written
        assert product.groups == 1      # DRAM bytes are the whole layer's
        for part, value in energy(config, counters(config, found, read, written)).items():
            spent[part] = spent.get(part, 0.0) + value
        for mode, count in found.waves.items():
            waves[mode] += count
    return Step(macs=macs, cycles=cycles, utilisation=macs / (config.pes * cycles), local_bytes=local, dram_bytes=dram, energy=spent,
                modes={mode.name: count / sum(waves.values()) for mode, count in waves.items()})


def point(state: State, base: Config, organisation: str) -> Point:
    """A training step of a state on an organisation of `base`."""
    found = step(base.organise(organisation), network(state.network), BATCH[state.network.split("@")[0]])
    return Point(state=state, organisation=organisation, **vars(found))


def run(tell: Callable[[str], None] = lambda text: None) -> list[Point]:
    """All states on all organisations."""
    base, found = Config.load("paper"), []
    for state in states():
        tell(f"reproduce flexsa: {state.workload}, {state.label}")
        found += [point(state, base, organisation) for organisation in ORGANISATIONS]
    return found


def average(points: list[Point], workload: str, organisation: str, value: Callable[[Point], float]) -> float:
    """Over the epochs of a workload's training."""
    here = [one for one in points if one.state.workload == workload and one.organisation == organisation]
    return sum(one.state.epochs * value(one) for one in here) / sum(one.state.epochs for one in here)


def utilisation(points: list[Point], workload: str, organisation: str) -> float:
    """All multiply-adds of a workload's training over all its cycles."""
    return (average(points, workload, organisation, lambda one: one.macs)
            / average(points, workload, organisation, lambda one: one.macs / one.utilisation))


def claims(points: list[Point]) -> list[Claim]:
    """The abstract's numbers and ours: means over the workloads, one large array or a naive split as the other side."""
    names = list(dict.fromkeys(one.state.workload for one in points))

    def mean(value: Callable[[str], float]) -> float:
        return sum(map(value, names)) / len(names)

    def saved(flexible: str, other: str, value: Callable[[Point], float]) -> float:
        return mean(lambda name: average(points, name, flexible, value) / average(points, name, other, value))

    found = []
    for flexible, split in (("1G1F", "1G4C"), ("4G1F", "4G4C")):
        busier = mean(lambda name, flexible=flexible: utilisation(points, name, flexible) / utilisation(points, name, "1G1C"))
        found += [
            Claim(f"utilisation, {flexible} over 1G1C", 1.37, busier, "paper", "{:.3f}"),
            Claim(f"on-chip reuse, {flexible} over {split}", 1.7, saved(split, flexible, lambda one: one.local_bytes), "paper", "{:.2f}",
                  "bytes from the global buffer"),
            Claim(f"energy, {flexible} over {split}", 0.72, saved(flexible, split, lambda one: one.energy["total"]), "paper", "{:.3f}",
                  "with DRAM"),
            Claim(f"energy, {flexible} over {split}", 0.72, saved(flexible, split, lambda one: one.energy["total"] - one.energy["dram"]),
                  "paper", "{:.3f}", "without DRAM"),
        ]
    return found


def text(points: list[Point]) -> str:
    """All tables."""
    names = list(dict.fromkeys(one.state.workload for one in points))
    lines = ["# FlexSA: five organisations of 16,384 PEs, training steps while networks are pruned\n", claims_table(claims(points)),
             "Means over the workloads below. The paper's are those of its abstract; its pruned shapes, buffer sizes and energy table\n"
             "are not known, so a ratio of 1 is not to be expected. Shapes that no series holds (Inception v4, MobileNet v2) are scaled\n"
             "ones, and thin layers gain most.\n", "## Utilisation, over all epochs\n"]
    lines.append(markdown(("workload", *ORGANISATIONS, "1G1F / 1G1C"), [
        (name, *(f"{utilisation(points, name, organisation):.1%}" for organisation in ORGANISATIONS),
         f"{utilisation(points, name, '1G1F') / utilisation(points, name, '1G1C'):.3f}") for name in names]))
    lines.append("## Bytes from the global to the local buffers, and energy, relative to 1G1C\n")
    lines.append(markdown(("workload", *(f"{organisation} {what}" for what in ("bytes", "energy") for organisation in ORGANISATIONS[1:])), [
        (name, *(f"{average(points, name, organisation, value) / average(points, name, '1G1C', value):.2f}"
                 for value in (lambda one: one.local_bytes, lambda one: one.energy["total"]) for organisation in ORGANISATIONS[1:]))
        for name in names]))
    lines.append("## Every state: utilisation, and the modes of the waves on 1G1F\n")
    by = {(one.state, one.organisation): one for one in points}
    lines.append(markdown(("workload", "state", "epochs", "GMAC", *ORGANISATIONS, *(mode.name for mode in Mode)), [
        (state.workload, state.label, state.epochs, f"{by[state, '1G1F'].macs / 1e9:,.1f}",
         *(f"{by[state, organisation].utilisation:.1%}" for organisation in ORGANISATIONS),
         *(f"{share:.1%}" for share in by[state, "1G1F"].modes.values()))
        for state in dict.fromkeys(one.state for one in points)]))
    return "\n".join(lines)


def to_points(points: list[Point]) -> list[dict]:
    """For the JSON file."""
    return [{"workload": one.state.workload, "state": one.state.label, "network": one.state.network, "epochs": one.state.epochs,
             "organisation": one.organisation, "macs": one.macs, "cycles": one.cycles, "utilization": one.utilisation,
             "local_bytes": one.local_bytes, "dram_bytes": one.dram_bytes, "energy_pj": one.energy, "modes": one.modes} for one in points]


def plot(points: list[Point], path: Path):
    """Utilisation of every state; below, bytes and energy against the large array."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    names = list(dict.fromkeys(one.state.workload for one in points))
    figure, (above, middle, below) = plt.subplots(3, 1, figsize=(13, 12), constrained_layout=True)
    all_states = list(dict.fromkeys(one.state for one in points))
    for number, organisation in enumerate(ORGANISATIONS):
        here = [one for one in points if one.organisation == organisation]
        places = [place + 0.16 * (number - 2) for place in range(len(all_states))]
        above.bar(places, [one.utilisation for one in here], width=0.16, label=organisation)
        for axis, value in ((middle, lambda one: one.local_bytes), (below, lambda one: one.energy["total"])):
            axis.bar([place + 0.16 * (number - 2) for place in range(len(names))],
                     [average(points, name, organisation, value) / average(points, name, "1G1C", value) for name in names], width=0.16)
    above.set_xticks(range(len(all_states)), [f"{state.workload}: {state.label}" for state in all_states], rotation=75, fontsize=6)
    above.set_ylabel("utilisation of a training step")
    for axis, what in ((middle, "global to local bytes / 1G1C"), (below, "energy / 1G1C")):
        axis.set_xticks(range(len(names)), names, fontsize=9)
        axis.set_ylabel(what)
    for axis in (above, middle, below):
        axis.set_axisbelow(True)
        axis.grid(axis="y", alpha=0.3)
    above.set_ylim(0, 1.15)
    above.legend(ncols=5, loc="upper left", fontsize=8)
    figure.suptitle("FlexSA and the plain organisations, 16,384 PEs", fontsize=12)
    save(figure, path)

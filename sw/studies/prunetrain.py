"""PruneTrain's costs: what pruning while training saves, by its authors' cost model, beside their logs.

Multiply-adds of training steps and of inference after each reconfiguration that is known, the whole run of ResNet-50 on ImageNet, and the
elements that batch normalisation moves. The percentages of the logs are recomputed with a first convolution of 7 x 7 on both sides.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sw.plots import save
from sw.studies.table import Claim, claims_table, markdown
from sw.workloads.catalogue import network
from sw.workloads.prunetrain import norm_accesses, series, training_macs

IMAGES, EPOCHS = 1_281_167, 90
CIFAR_IMAGES = 50_000
# Percent of the dense network, from the authors' log: training step and inference.
RESNET50_LOG = {
    ("0.1", "90"): (85.2, 84.5), ("0.2", "10"): (83.8, 83.0), ("0.2", "30"): (64.9, 63.0), ("0.2", "50"): (61.0, 58.6),
    ("0.2", "90"): (60.3, 57.8), ("0.3", "10"): (50.0, 47.2), ("0.3", "20"): (40.8, 37.4), ("0.3", "30"): (37.9, 34.2),
    ("0.3", "50"): (35.3, 31.3), ("0.3", "90"): (34.7, 30.7),
}
# Training multiply-adds of an epoch, from a log of VGG-11 on CIFAR-100.
VGG11_LOG = {
    "0": 31147046400000, "10": 31074966600000, "20": 28595925600000, "30": 24629867400000, "40": 22041823200000, "50": 20644053000000,
    "60": 19393964400000, "70": 18764299200000, "80": 18060780000000, "90": 17639734800000, "100": 17601133800000, "110": 17580608400000,
    "120": 17548266000000, "130": 17548266000000, "140": 17502558600000, "150": 17500005600000, "160": 17485656000000,
    "170": 17485656000000, "180": 17485656000000,
}


@dataclass(frozen=True)
class Point:
    """A pruned network: percent of the dense one's multiply-adds."""

    network: str
    ratio: str
    epoch: str
    training: float
    inference: float
    training_macs: int
    inference_macs: int


def run(tell: Callable[[str], None] = lambda text: None) -> list[Point]:
    """Every network of the series that stands at a known epoch."""
    found = []
    for name, ratio, epoch in series():
        if not epoch.isdigit():
            continue
        tell(f"reproduce prunetrain: {name}, ratio {ratio}, epoch {epoch}")
        dense, pruned = network(name), network(f"{name}@prunetrain:{ratio}:{epoch}")
        found.append(Point(name, ratio, epoch, 100 * training_macs(pruned) / training_macs(dense), 100 * pruned.macs / dense.macs,
                           training_macs(pruned), pruned.macs))
    return found


def claims(points: list[Point]) -> list[Claim]:
    """The logs' numbers and ours."""
    dense = network("resnet50")
    found = [
        Claim("ResNet-50, multiply-adds of an image", 4_089_184_256, dense.macs, "derived", "{:,}"),
        Claim("ResNet-50, 90 epochs, PFLOP", 3516.26986, 2 * training_macs(dense, IMAGES * EPOCHS) / 1e15, "log", "{:,.5f}"),
        Claim("ResNet-50, batch normalisation, PB (2^50, 16 bits)", 18.21, 2 * norm_accesses(dense, IMAGES * EPOCHS) / 2**50, "log",
              "{:.2f}"),
    ]
    for one in points:
        if one.network == "resnet50":
            training, inference = RESNET50_LOG[one.ratio, one.epoch]
            found += [Claim(f"ResNet-50, ratio {one.ratio}, epoch {one.epoch}: training step, %", training, one.training, "log", "{:.1f}"),
                      Claim(f"ResNet-50, ratio {one.ratio}, epoch {one.epoch}: inference, %", inference, one.inference, "log", "{:.1f}")]
        else:
            found.append(Claim(f"VGG-11, ratio {one.ratio}, epoch {one.epoch}: multiply-adds of an epoch", VGG11_LOG[one.epoch],
                               CIFAR_IMAGES * one.training_macs, "log", "{:,}"))
    return found


def text(points: list[Point]) -> str:
    """All tables."""
    lines = ["# PruneTrain: costs of training while pruning, by its authors' model\n", claims_table(claims(points)),
             "The percentages of the ResNet-50 log have one decimal. Accuracies are not reproduced here: nothing is trained.\n",
             "## Percent of the dense network\n",
             markdown(("network", "ratio", "epoch", "training step", "inference"),
                      [(one.network, one.ratio, one.epoch, f"{one.training:.1f}", f"{one.inference:.1f}") for one in points])]
    return "\n".join(lines)


def to_points(points: list[Point]) -> list[dict]:
    """For the JSON file."""
    return [vars(one) for one in points]


def plot(points: list[Point], path: Path):
    """Cost of a training step over the epochs."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(8, 5), constrained_layout=True)
    for name, ratio in dict.fromkeys((one.network, one.ratio) for one in points):
        here = [one for one in points if (one.network, one.ratio) == (name, ratio)]
        epochs, values = [int(one.epoch) for one in here], [one.training for one in here]
        line, = axis.step([0, *epochs], [100.0, *values], where="post", label=f"{name}, ratio {ratio}")
        axis.plot(epochs, values, "o", color=line.get_color(), markersize=4)
    axis.set_ylim(0, 105)
    axis.set_xlabel("epoch (a dot: a reconfiguration that is known)")
    axis.set_ylabel("multiply-adds of a training step, % of dense")
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    save(figure, path)

"""A pruned run in tables and a figure: what was removed, what accuracy is left, and what a step costs on the five organisations."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from gen.config import ORGANISATIONS, Config
from sw.plots import save
from sw.studies.flexsa import Step
from sw.studies.table import markdown
from sw.train.channels import with_channels
from sw.train.costs import CONFIG, step_costs, training_macs, workload
from sw.train.network import Conv, Network
from sw.train.trainer import Epoch


@dataclass(frozen=True)
class Point:
    """An epoch of a run: the network it was trained as, accuracy behind it, and what a step cost."""

    epoch: int                  # from 1
    accuracy: float
    batch: int
    network: Network
    costs: dict[str, Step]      # by organisation


@dataclass(frozen=True)
class Run:
    """A run: its name, the network it began with and the one that is left, its epochs, and the machine that costs are for."""

    label: str
    origin: Network
    final: Network
    points: tuple[Point, ...]
    config: Config

    @classmethod
    def of(cls, label: str, origin: Network, final: Network, history: Sequence[Epoch], config: Config | None = None) -> "Run":
        """From a trainer's history (`Trainer.origin`, `.network`, `.history`). `config`: a 1G1F machine, None: that of `sw.train.costs`."""
        config, points = config or Config.load(CONFIG), []
        for number, epoch in enumerate(history, 1):
            network = with_channels(origin, epoch.channels)
            points.append(Point(number, epoch.accuracy, epoch.batch, network, step_costs(network, epoch.batch, config)))
        return cls(label, origin, final, tuple(points), config)

    @property
    def removed_from_step(self) -> float:
        """Share of the multiply-adds of a training step that the last network does without."""
        return 1 - training_macs(self.final) / training_macs(self.origin)

    @property
    def removed_from_inference(self) -> float:
        """The same of a forward pass."""
        return 1 - workload(self.final).macs / workload(self.origin).macs

    @property
    def removed_from_run(self) -> float:
        """The same of the whole run, over all of its epochs."""
        return 1 - sum(training_macs(point.network) for point in self.points) / (len(self.points) * training_macs(self.origin))

    def total(self, organisation: str, dense: bool = False) -> tuple[float, float]:
        """Cycles and pJ for every image of an epoch, added up over the epochs; `dense`: as if nothing had been pruned, batches alike."""
        found = [(step_costs(self.origin, point.batch, self.config) if dense else point.costs)[organisation] for point in self.points]
        cycles = sum(step.cycles / point.batch for step, point in zip(found, self.points))
        return cycles, sum(step.energy["total"] / point.batch for step, point in zip(found, self.points))


def channels(network: Network) -> str:
    """What each convolution reads and makes."""
    return " ".join(f"{layer.channels}>{layer.outputs}" for layer in network.layers if isinstance(layer, Conv))


def text(runs: Sequence[Run]) -> str:
    """All tables."""
    lines = ["# Pruning while training\n",
             "Multiply-adds of a training step are those of all its products. Costs are estimates in closed form.\n",
             markdown(("run", "epochs", "accuracy", "channels at the end", "removed: inference", "training step", "whole run"), [
                 (run.label, len(run.points), f"{run.points[-1].accuracy:.2%}", channels(run.final),
                  *(f"{share:.1%}" for share in (run.removed_from_inference, run.removed_from_step, run.removed_from_run)))
                 for run in runs])]
    for run in runs:
        totals = {(name, dense): run.total(name, dense) for name in ORGANISATIONS for dense in (False, True)}
        lines.append(f"## {run.label}, on {run.config.name} of {run.config.pes} PEs\n")
        lines.append(markdown(("whole run, of dense", *ORGANISATIONS), [
            (what, *(f"{totals[name, False][place] / totals[name, True][place]:.1%}" for name in ORGANISATIONS))
            for place, what in enumerate(("cycles", "energy"))]))
        lines.append("A line from each epoch on that began with another network: utilisation, then uJ an image.\n")
        lines.append(markdown(("epoch", "channels", "batch", "MAC", *ORGANISATIONS, *(f"uJ {name}" for name in ORGANISATIONS)), [
            (point.epoch, channels(point.network), point.batch, f"{training_macs(point.network) / training_macs(run.origin):.1%}",
             *(f"{point.costs[name].utilisation:.1%}" for name in ORGANISATIONS),
             *(f"{point.costs[name].energy['total'] / point.batch / 1e6:.2f}" for name in ORGANISATIONS))
            for before, point in zip((None, *run.points), run.points) if before is None or point.network != before.network]))
    return "\n".join(lines)


def to_points(runs: Sequence[Run]) -> list[dict]:
    """For a JSON file."""
    return [{"run": run.label, "epoch": point.epoch, "accuracy": point.accuracy, "batch": point.batch, "channels": channels(point.network),
             "organisation": organisation, **asdict(step)}
            for run in runs for point in run.points for organisation, step in point.costs.items()]


def plot(runs: Sequence[Run], path: Path):
    """Above: multiply-adds and accuracy over the epochs, and one against the other at the end. Below, a column for each run: utilisation,
    cycles and energy of an image."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure = plt.figure(figsize=(max(12, 4.2 * len(runs)), 12), constrained_layout=True)
    above, below = figure.subfigures(2, 1, height_ratios=(1, 2.4), squeeze=False)[:, 0]
    left, middle, right = above.subplots(1, 3)
    for run in runs:
        epochs = [point.epoch for point in run.points]
        macs = [100 * training_macs(point.network) / training_macs(run.origin) for point in run.points]
        line, = left.step([*epochs, epochs[-1] + 1], [*macs, 100 * (1 - run.removed_from_step)], where="post", label=run.label)
        accuracy = [100 * point.accuracy for point in run.points]
        middle.plot(epochs, accuracy, color=line.get_color())
        right.plot(100 * run.removed_from_step, accuracy[-1], "o", color=line.get_color(), label=run.label)
    left.set(ylim=(0, 105), xlabel="epoch", ylabel="multiply-adds of a step, % of dense")
    middle.set(ylim=(80, 100.5), xlabel="epoch", ylabel="test accuracy, % (above 80)")
    right.set(xlim=(-5, 105), xlabel="multiply-adds removed from a step, %", ylabel="accuracy at the end, %")
    axes = below.subplots(3, len(runs), squeeze=False, sharey="row")
    for column, run in enumerate(runs):
        epochs = [point.epoch for point in run.points]
        for organisation in ORGANISATIONS:
            steps = [(point.costs[organisation], point.batch) for point in run.points]
            axes[0, column].step(epochs, [100 * step.utilisation for step, _ in steps], where="mid", label=organisation)
            axes[1, column].step(epochs, [step.cycles / batch for step, batch in steps], where="mid")
            axes[2, column].step(epochs, [step.energy["total"] / batch / 1e6 for step, batch in steps], where="mid")
        axes[0, column].set_title(run.label, fontsize=10)
        axes[2, column].set_xlabel("epoch")
    for axis, what in zip(axes[:, 0], ("utilisation, % (from above zero)", "cycles of an image", "uJ of an image")):
        axis.set_ylabel(what)
    for row in axes[1:]:
        row[0].set_ylim(0, None)
    for axis in (left, middle, right, *axes.flat):
        axis.grid(alpha=0.3)
    left.legend(fontsize=8, loc="lower left")
    right.legend(fontsize=8)
    axes[0, 0].legend(fontsize=8, ncols=2, loc="lower left")
    below.suptitle(f"Training steps on five organisations of {runs[0].config.pes} PEs, estimates", fontsize=11)
    save(figure, path)

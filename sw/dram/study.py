"""The policy study of Chopim on the cycle-exact model: host slowdown and near-data bandwidth over mixes, operations, policies and seeds."""

import concurrent.futures
import json
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from gen import dram
from sw.dram import scenario
from sw.plots import save

MIXES = tuple(f"mix{number}" for number in range(9))
PUBLISHED_SLOWDOWN = 0.024    # "up to 2.4 %", abstract of Cho's dissertation (nda.md, section 9)


@dataclass(frozen=True)
class Point:
    """One run beside the run of its host traffic alone."""

    mix: str
    operation: str
    policy: str
    seed: int
    slowdown: float          # completion time / completion time alone, less 1
    host: float              # part of the channels' peak
    near_data: float         # part of the ranks' peak
    idle: float              # part of the rank bandwidth that host and refresh leave
    latency: float           # mean read latency / that alone, less 1
    violations: int


@dataclass(frozen=True, kw_only=True)
class Study:
    """What is swept. `requests` of each run; two ranks on one channel as in the paper's baseline per channel."""

    mixes: tuple[str, ...] = MIXES
    operations: tuple[str, ...] = scenario.OPERATIONS
    policies: tuple[str, ...] = scenario.POLICIES
    seeds: tuple[int, ...] = (0,)
    requests: int = 50_000
    channels: int = 1
    ranks: int = 2
    blocks: int = 0

    @property
    def config(self) -> dram.DramConfig:
        """The memory system."""
        return dram.DramConfig(part=dram.part("ddr4-2400r"), channels=self.channels, ranks=self.ranks)

    def cases(self) -> Iterator[tuple[str, int]]:
        """The runs of one host traffic share the run alone, so they stay together."""
        return ((mix, seed) for mix in self.mixes for seed in self.seeds)


def _case(study: Study, mix: str, seed: int) -> list[Point]:
    """All points of one host traffic."""
    config, points = study.config, []
    alone = scenario.run([scenario.Scenario(config=config, host=mix, requests=study.requests, seed=seed)], engine="model", check=False)[0]
    for operation in study.operations:
        for policy in study.policies:
            case = scenario.Scenario(config=config, host=mix, requests=study.requests, operation=operation, policy=policy, seed=seed,
                                     blocks=study.blocks)
            result = scenario.beside(case, alone.recording)
            points.append(Point(mix, operation, policy, seed, (result.host_slowdown or 1) - 1, result.figures.host_bandwidth_fraction,
                                result.figures.nda_bandwidth_fraction, result.figures.nda_idle_fraction,
                                result.figures.host_latency_mean / alone.figures.host_latency_mean - 1,
                                len(result.violations)))
    return points


def run(study: Study, progress: Callable[[str], None] | None = None) -> list[Point]:
    """All points, on every processor."""
    cases, points = list(study.cases()), []
    context = multiprocessing.get_context("spawn")
    # Ctrl-C reaches the workers too: this process alone answers it.
    with concurrent.futures.ProcessPoolExecutor(os.cpu_count(), mp_context=context, initializer=signal.signal,
                                                initargs=(signal.SIGINT, signal.SIG_IGN)) as pool:
        waiting = [pool.submit(_case, study, *case) for case in cases]
        try:
            for done, future in enumerate(concurrent.futures.as_completed(waiting), 1):
                points += future.result()
                if progress:
                    progress(f"reproduce nda: {done} of {len(cases)} host traffics")
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for worker in multiprocessing.active_children():
                worker.terminate()
            raise
    order = {name: number for number, name in enumerate((*study.mixes, *study.operations, *study.policies))}
    return sorted(points, key=lambda point: (order[point.mix], order[point.operation], order[point.policy], point.seed))


def _mean(values) -> float:
    values = list(values)
    return sum(values) / len(values)


def table(study: Study, points: list[Point]) -> str:
    """Mean and largest slowdown and near-data share, by policy and by mix."""
    lines = ["| policy | host slowdown, mean | largest (mix, operation) | read latency | near-data bandwidth | of what was idle |",
             "|---|---|---|---|---|---|"]
    for policy in study.policies:
        here = [point for point in points if point.policy == policy]
        worst = max(here, key=lambda point: point.slowdown)
        lines.append(f"| {policy} | {_mean(p.slowdown for p in here):+.2%} | {worst.slowdown:+.2%} ({worst.mix}, {worst.operation}) | "
                     f"{_mean(p.latency for p in here):+.1%} | "
                     f"{_mean(p.near_data for p in here):.1%} | {_mean(p.idle for p in here):.1%} |")
    lines += ["", "Largest slowdown of a mix over operations and seeds, and near-data share of what was idle (mean):", "",
              "| mix | host bandwidth | " + " | ".join(study.policies) + " |", "|---|---|" + "---|" * len(study.policies)]
    for mix in study.mixes:
        cells = []
        for policy in study.policies:
            here = [point for point in points if point.mix == mix and point.policy == policy]
            cells.append(f"{max(p.slowdown for p in here):+.2%}, {_mean(p.idle for p in here):.0%}")
        host = _mean(p.host for p in points if p.mix == mix)
        lines.append(f"| {mix} | {host:.1%} | " + " | ".join(cells) + " |")
    lines += ["", "By operation (mean over mixes and seeds): host slowdown, read latency, near-data share of what was idle:", "",
              "| operation | " + " | ".join(study.policies) + " |", "|---|" + "---|" * len(study.policies)]
    for operation in study.operations:
        cells = []
        for policy in study.policies:
            here = [point for point in points if point.operation == operation and point.policy == policy]
            cells.append(f"{_mean(p.slowdown for p in here):+.2%}, {_mean(p.latency for p in here):+.1%}, "
                         f"{_mean(p.idle for p in here):.0%}")
        lines.append(f"| {operation} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def plot(study: Study, points: list[Point], path: Path):
    """Slowdown and near-data bandwidth over the mixes, a line a policy, the range over operations shaded."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (above, below) = plt.subplots(2, 1, figsize=(8, 7), sharex=True, constrained_layout=True)
    for policy in study.policies:
        series = [[point for point in points if point.policy == policy and point.mix == mix] for mix in study.mixes]
        for axis, name, scale in ((above, "slowdown", 100), (below, "near_data", 100)):
            values = [[getattr(point, name) * scale for point in here] for here in series]
            line, = axis.plot(study.mixes, [_mean(v) for v in values], marker="o", label=policy)
            axis.fill_between(study.mixes, [min(v) for v in values], [max(v) for v in values], alpha=0.12, color=line.get_color())
    above.axhline(100 * PUBLISHED_SLOWDOWN, color="black", linestyle=":", linewidth=1)
    above.annotate("2.4 %: best published", (len(study.mixes) - 1, 100 * PUBLISHED_SLOWDOWN), ha="right", va="bottom", fontsize=8)
    above.set_ylabel("host slowdown, %")
    above.set_ylim(bottom=min(0, above.get_ylim()[0]))
    below.set_ylabel("near-data bandwidth, % of the ranks' peak")
    below.set_ylim(0, 100)
    below.set_xlabel("host traffic, from high to low intensity")
    above.legend(title="policy (line: mean, band: over operations)", fontsize=8, title_fontsize=8)
    for axis in (above, below):
        axis.grid(alpha=0.3)
    figure.suptitle(f"Near-data work beside the host: DDR4-2400R, {study.channels} channel, {study.ranks} ranks, "
                    f"{study.requests:,} requests", fontsize=11)
    save(figure, path)


def to_json(study: Study, points: list[Point]) -> str:
    """Everything, to draw it again."""
    return json.dumps({"study": vars(study), "points": [vars(point) for point in points]}, indent=1) + "\n"

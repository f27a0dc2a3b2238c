"""The plot of the SVRG study: loss over memory cycles, and what an epoch's time is made of."""

from pathlib import Path

from sw.dram.svrg_study import TARGETS, Case, parts
from sw.plots import save

COLOURS = {"host": "tab:blue", "alternating": "tab:orange", "delayed": "tab:green"}
PARTS = (("host: full gradient", "#1f4e79"), ("host: inner steps", "#8fb8de"), ("both at once", "#59a14f"), ("units alone", "#f28e2b"),
         ("host: residuals", "#b07aa1"))


def plot(cases: list[Case], path: Path):
    """A column of two panels for each setting; solid: weights in the host's cache, dashed: from memory."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    settings = list(dict.fromkeys(case.setting for case in cases))
    figure, axes = plt.subplots(2, len(settings), figsize=(6.5 * len(settings), 8.5), squeeze=False, constrained_layout=True)
    for (above, below), setting in zip(axes.T, settings):
        here = [case for case in cases if case.setting == setting]
        _loss(above, here)
        _time(below, here)
        above.set_title(f"{setting.name}: {setting.channels} channels x {setting.ranks} ranks, {here[0].images:,} images", fontsize=10)
    handles, labels = axes[1, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(PARTS), fontsize=8)
    figure.suptitle("SVRG, logistic regression on digits: DDR4-2400R, cycle model", fontsize=12)
    save(figure, path)


def _loss(axis, cases: list[Case]):
    for case in cases:
        for curve in case.curves:
            axis.plot(curve.cycles / 1e6, curve.excess, color=COLOURS[curve.mode], linestyle="-" if case.cached else "--", marker=".",
                      linewidth=1.3, label=f"{curve.mode}, {'cached' if case.cached else 'not cached'}")
    for target in TARGETS:
        axis.axhline(target, color="black", linestyle=":", linewidth=0.8)
    axis.set_yscale("log")
    axis.set_xlim(left=0)
    axis.set_xlabel("million memory cycles")
    axis.set_ylabel("loss - optimum, at each epoch's end")
    axis.legend(fontsize=8, title="way, weights", title_fontsize=8, ncols=len(cases))
    axis.grid(alpha=0.3)


def _time(axis, cases: list[Case]):
    rows = [(case, curve) for case in cases for curve in case.curves]
    left = [0.0] * len(rows)
    for number, (label, colour) in enumerate(PARTS):
        widths = [parts(curve.epoch)[number] / 1e3 for _, curve in rows]
        axis.barh(range(len(rows)), widths, left=left, color=colour, label=label)
        left = [a + b for a, b in zip(left, widths)]
    axis.set_yticks(range(len(rows)), [f"{curve.mode}\n{'cached' if case.cached else 'not cached'}, {curve.length} pass"
                                       for case, curve in rows], fontsize=8)
    axis.invert_yaxis()
    axis.set_xlim(0, 1.04 * max(left))
    axis.set_axisbelow(True)
    axis.set_xlabel("thousand memory cycles of an epoch")
    axis.grid(axis="x", alpha=0.3)

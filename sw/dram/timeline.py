"""A picture of a stretch of a run: who commands each rank, and whose data is on the buses."""

from pathlib import Path

from gen.dram import DramConfig
from gen.traffic import Recording
from sw.dram.metrics import ACT, HOST, NEAR, PRE, PREA, RD, REF, WR
from sw.plots import save

COLOURS = {(HOST, RD): "#2b6cb0", (HOST, WR): "#c05621", (NEAR, RD): "#68b37a", (NEAR, WR): "#b7a02c"}
LABELS = {(HOST, RD): "host read", (HOST, WR): "host write", (NEAR, RD): "near-data read", (NEAR, WR): "near-data write"}
SHORT = {ACT: "A", PRE: "P", PREA: "PA", REF: "REF"}
LENGTH = 320     # cycles drawn


def busiest(recording: Recording, length: int) -> int:
    """The first cycle of a lively stretch: all kinds of column commands, and many changes between host and near-data unit."""
    moves = recording.commands[(recording.commands["kind"] == RD) | (recording.commands["kind"] == WR)]
    best, first = -1, 0
    for start in range(0, int(recording.cycles) - length, length):
        here = moves[(moves["cycle"] >= start) & (moves["cycle"] < start + length)]
        rarest = min(int(((here["source"] == source) & (here["kind"] == kind)).sum()) for source, kind in COLOURS)
        changes = int((here["source"][1:] != here["source"][:-1]).sum()) + 10 * rarest
        if changes > best:
            best, first = changes, start
    return first


def draw(config: DramConfig, recording: Recording, path: Path, *, first: int | None = None, length: int = LENGTH):
    """Draw `length` cycles from `first` on (None: the liveliest stretch) as SVG, PNG or PDF, by the name of the file.

    For each channel a row for its data pins, for each rank one for the data inside it. Letters are ACT (A), PRE (P), PREA and REF, host
    above the line, near-data unit below.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.patches import Patch

    first = busiest(recording, length) if first is None else first
    t, burst = config.timing, config.part.burst_cycles
    rows: list[tuple[int, int | None]] = [(channel, rank) for channel in range(config.channels) for rank in (None, *range(config.ranks))]
    figure, axis = plt.subplots(figsize=(11, 1.1 + 0.55 * len(rows)), constrained_layout=True)
    used = set()
    for command in recording.commands:
        cycle, kind, source = int(command["cycle"]), int(command["kind"]), int(command["source"])
        if not first - 40 <= cycle < first + length:
            continue
        inside = rows.index((int(command["channel"]), int(command["rank"])))
        if kind in (RD, WR):
            used.add((source, kind))
            start = cycle + (t["tCL"] if kind == RD else t["tCWL"])
            for row in (inside, rows.index((int(command["channel"]), None))) if source == HOST else (inside,):
                axis.broken_barh([(start, burst)], (row - 0.3, 0.6), facecolors=COLOURS[source, kind], edgecolors="white", linewidth=0.5)
        elif cycle >= first:
            axis.text(cycle, inside + (-0.36 if source == HOST else 0.36), SHORT[kind], ha="center", va="center", fontsize=6,
                      color="#2b6cb0" if source == HOST else "#3d7a4c")
    axis.set_xlim(first, first + length)
    axis.set_ylim(len(rows) - 0.45, -0.55)
    names = [f"channel {channel} pins" if rank is None else f"rank {rank}" for channel, rank in rows]
    axis.set_yticks(range(len(rows)), names)
    axis.set_xlabel(f"cycle ({1e6 / config.clock_khz:.2f} ns)")
    axis.grid(axis="x", alpha=0.25)
    axis.set_axisbelow(True)
    axis.legend(handles=[Patch(color=COLOURS[key], label=LABELS[key]) for key in COLOURS if key in used], ncols=4, fontsize=8,
                loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False)
    save(figure, path)

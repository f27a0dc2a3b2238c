"""DeLTA's traffic model: distinct input elements of a CTA tile against a brute-force table, and layers of ResNet-50 on a Titan V.

The table was counted from the definition, tile by tile. The paper's own measurements are not known, so times stand alone.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sw.delta.footprint import distinct_elements
from sw.delta.time import TITAN_V, time
from sw.delta.traffic import TILES, filter_inefficiency, input_inefficiency, tile_for, traffic
from sw.plots import save
from sw.studies.table import Claim, claims_table, markdown
from sw.workloads.catalogue import network
from sw.workloads.network import Conv

BATCH, ROWS = 128, 128
# Layer: channels, kernel, size, stride, padding; distinct elements of a tile of 128 rows at depth 8 and 4, mean over all tiles.
FOOTPRINTS = {
    "3x3, map 56": ((64, 3, 56, 1, 1), 311.76, 205.34), "3x3, map 28": ((128, 3, 28, 1, 1), 266.30, 184.71),
    "3x3, map 14": ((256, 3, 14, 1, 1), 240.54, 171.36), "1x1, map 56": ((64, 1, 56, 1, 0), 1024, 512),
    "1x1 stride 2, 56 to 28": ((256, 1, 56, 2, 0), 1024, 512), "ResNet-50's first": ((3, 7, 224, 2, 3), 463.19, 322.04),
    "AlexNet's first": ((3, 11, 224, 4, 2), 687.23, 505.54),
}
INEFFICIENCIES = {"3x3, map 56": 1.0357, "3x3, map 28": 1.0714, "3x3, map 14": 1.1429}


@dataclass(frozen=True)
class Point:
    """A layer of ResNet-50 at batch 128: bytes by level, seconds, what bounds it, and multiply-adds over the GPU's peak."""

    layer: str
    l1: float
    l2: float
    dram: float
    seconds: float
    bound: str
    share_of_peak: float


def layer_of(channels: int, kernel: int, size: int, stride: int, padding: int) -> Conv:
    """A square convolution with 64 outputs."""
    out = (size + 2 * padding - kernel) // stride + 1
    return Conv(name="layer", inputs=("input",), source=(channels, size, size), shape=(64, out, out), kernel=(kernel, kernel),
                stride=(stride, stride), padding=(padding, padding, padding, padding))


def run(tell: Callable[[str], None] = lambda text: None) -> list[Point]:
    """The layers of ResNet-50."""
    found = []
    for layer in network("resnet50").products:
        if isinstance(layer, Conv):
            tell(f"reproduce delta: {layer.name}")
            moved = traffic(layer, BATCH)
            took = time(TITAN_V, moved)
            found.append(Point(layer.name, moved.l1, moved.l2, moved.dram, took.seconds, took.bound,
                               BATCH * layer.macs / TITAN_V.macs / took.seconds))
    return found


def claims(_points: list[Point]) -> list[Claim]:
    """The table's numbers and ours."""
    found = []
    for name, (shape, *wanted) in FOOTPRINTS.items():
        layer = layer_of(*shape)
        tiles = BATCH * layer.shape[1] * layer.shape[2] // ROWS
        depth = layer.source[0] * layer.kernel[0] ** 2
        for k, value in zip((8, 4), wanted):
            ours = distinct_elements(layer, BATCH, rows=ROWS, depth=k) / (tiles * -(-depth // k))
            found.append(Claim(f"distinct elements, {name}, 128 x {k}", value, ours, "derived", "{:.2f}"))
    found += [Claim(f"MLI of the input, {name}", value, input_inefficiency(layer_of(*FOOTPRINTS[name][0])), "derived", "{:.4f}")
              for name, value in INEFFICIENCIES.items()]
    found += [Claim(f"MLI of the filter, run of {tile.k}", value, filter_inefficiency(tile), "derived", "{:.3f}")
              for tile, value in ((TILES[-1], 1.875), (TILES[0], 2.75))]
    return found


def text(points: list[Point]) -> str:
    """All tables."""
    rows = [(one.layer, f"{one.l1 / 1e6:,.0f}", f"{one.l2 / 1e6:,.0f}", f"{one.dram / 1e6:,.0f}", f"{one.seconds * 1e3:.2f}", one.bound,
             f"{one.share_of_peak:.1%}") for one in points]
    total = sum(one.seconds for one in points)
    return "\n".join(["# DeLTA: traffic of convolutions between a GPU's memories\n", claims_table(claims(points)),
                      f"## ResNet-50, forward, batch {BATCH}, fp32, on a Titan V: MB at each level\n",
                      markdown(("layer", "L1", "L2", "DRAM", "ms", "bound by", "of the peak"), rows),
                      f"All convolutions: {total * 1e3:.1f} ms. Rates of the GPU: {TITAN_V.source}.\n"])


def to_points(points: list[Point]) -> list[dict]:
    """For the JSON file."""
    return [vars(one) | {"tile_n": tile_for(next(layer for layer in network("resnet50").products if layer.name == one.layer).shape[0]).n}
            for one in points]


def plot(points: list[Point], path: Path):
    """Bytes by level and time of every layer."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (above, below) = plt.subplots(2, 1, figsize=(12, 8), sharex=True, constrained_layout=True)
    places = range(len(points))
    for number, (level, label) in enumerate((("l1", "L1"), ("l2", "L2"), ("dram", "DRAM"))):
        above.bar([place + 0.27 * (number - 1) for place in places], [getattr(one, level) / 1e6 for one in points], width=0.27, label=label)
    above.set_yscale("log")
    above.set_ylabel("MB")
    above.legend(ncols=3)
    colours = {"compute": "tab:blue", "shared": "tab:cyan", "l1": "tab:orange", "l2": "tab:red", "dram": "tab:purple"}
    for bound in dict.fromkeys(one.bound for one in points):
        here = [place for place in places if points[place].bound == bound]
        below.bar(here, [1e3 * points[place].seconds for place in here], color=colours[bound], label=f"bound by {bound}")
    below.set_ylabel("ms")
    below.legend(ncols=3)
    below.set_xticks(places, [one.layer for one in points], rotation=90, fontsize=6)
    for axis in (above, below):
        axis.set_axisbelow(True)
        axis.grid(axis="y", alpha=0.3)
    figure.suptitle(f"DeLTA: ResNet-50, forward, batch {BATCH}, Titan V", fontsize=12)
    save(figure, path)

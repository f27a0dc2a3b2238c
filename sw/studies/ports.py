"""Whole inference of ResNet-50 on `base`: utilisation over the bytes of the memory port and the batch, all cycles those of programs."""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from gen.config import Config
from sw.cost.programs import inference, on_port
from sw.plots import save
from sw.studies.table import markdown
from sw.workloads.catalogue import network

NETWORK, PRESET = "resnet50", "base"
PORTS = ("2.5", "4", "5", "8", "16")        # bytes a cycle
BATCHES = (1, 4, 16)


@dataclass(frozen=True)
class Point:
    """A batch through the network: bytes a cycle of the port, cycles, utilisation of the PEs, bytes of DRAM traffic."""

    port: str
    batch: int
    cycles: int
    utilization: float
    dram_bytes: int


def run(tell: Callable[[str], None] = lambda text: None) -> list[Point]:
    """All ports and batches."""
    return [point(port, batch, tell) for batch in BATCHES for port in PORTS]


def point(port: str, batch: int, tell: Callable[[str], None] = lambda text: None) -> Point:
    """One port and batch."""
    config, pace = on_port(Config.load(PRESET), Fraction(port))
    where = f"reproduce ports: batch {batch}, {port} bytes a cycle"
    cost = inference(config, network(NETWORK), batch, lambda text: tell(f"{where}, {text}"), pace)
    assert all(layer.proved for layer in cost.layers)
    return Point(port, batch, cost.cycles, cost.utilization, cost.dram_bytes)


def table(points: list[Point]) -> str:
    """Utilisation, a line for each port."""
    found = {(one.port, one.batch): one for one in points}
    rows = [(port, *(f"{found[port, batch].utilization:.1%}" for batch in BATCHES)) for port in PORTS]
    return markdown(("bytes a cycle", *(f"batch {batch}" for batch in BATCHES)), rows)


def text(points: list[Point]) -> str:
    """Utilisation, cycles and traffic."""
    rows = [(one.port, one.batch, f"{one.cycles:,}", f"{one.utilization:.1%}", f"{one.dram_bytes / one.batch / 1e6:.1f}") for one in points]
    return "\n".join([f"# {NETWORK} on `{PRESET}`: utilisation of 256 PEs, all layers\n", table(points),
                      markdown(("bytes a cycle", "batch", "cycles", "utilisation", "MB of DRAM an image"), rows)])


def to_points(points: list[Point]) -> list[dict]:
    """For the JSON file."""
    return [vars(one) for one in points]


def plot(points: list[Point], path: Path):
    """Utilisation over the port's bytes, a line for each batch."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(7, 4.5), constrained_layout=True)
    for batch in BATCHES:
        chosen = [one for one in points if one.batch == batch]
        axis.plot([float(one.port) for one in chosen], [100 * one.utilization for one in chosen], marker="o", label=f"batch {batch}")
    axis.set_xscale("log", base=2)
    axis.set_xticks([float(port) for port in PORTS], PORTS)
    axis.set_ylim(0, 100)
    axis.set_xlabel("bytes a cycle of the memory port")
    axis.set_ylabel("utilisation of 256 PEs, %")
    axis.grid(alpha=0.3)
    axis.legend()
    axis.set_title("ResNet-50, whole inference")
    save(figure, path)

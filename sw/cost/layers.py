"""A layer's cost, and those of a network together: the fields of `flexwave run NETWORK --json`."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from fractions import Fraction

from gen.config import Config
from gen.isa import Mode
from sw.model.cycles import Event


@dataclass(frozen=True, kw_only=True)
class LayerCost:
    """A layer in a phase. m, n, k: of its product (0 for layers without), of which there are `groups`.

    `proved`: the cycles are those of programs, which the RTL takes to the cycle; else they are an estimate, and `remark` says of what.
    `timeline`: if asked for, the instructions of one of the `groups` programs in time, with their names.
    """

    name: str
    phase: str
    m: int = 0
    n: int = 0
    k: int = 0
    groups: int = 1
    macs: int = 0
    cycles: int = 0
    waves: dict[str, int] = field(default_factory=lambda: {mode.name: 0 for mode in Mode})
    traffic: dict[str, int] = field(default_factory=dict)
    energy_pj: float = 0.0
    proved: bool = False
    remark: str = ""
    timeline: Sequence[tuple[Event, str]] = field(default=(), repr=False, compare=False)


@dataclass(frozen=True)
class NetworkCost:
    """All layers of a network on a machine; with a schedule the groups of units: (layers, sub-batch)."""

    network: str
    config: Config
    batch: int
    phase: str
    layers: Sequence[LayerCost]
    groups: Sequence[tuple[list[str], int]] = ()
    pace: Fraction = Fraction(1)    # beats that the memory port accepts a cycle

    @property
    def port(self) -> float:
        """Bytes a cycle of the memory port."""
        return float(self.config.memory.bytes_per_cycle * self.pace)

    @property
    def macs(self) -> int:
        """Multiply-adds."""
        return sum(layer.macs for layer in self.layers)

    @property
    def cycles(self) -> int:
        """Cycles, one layer after the other."""
        return sum(layer.cycles for layer in self.layers)

    @property
    def utilization(self) -> float:
        """Multiply-adds over PEs and cycles."""
        return self.macs / (self.config.pes * self.cycles)

    @property
    def dram_bytes(self) -> int:
        """Read and written."""
        return sum(layer.traffic.get(name, 0) for layer in self.layers for name in ("dram_bytes", "dram_read_bytes", "dram_write_bytes"))

    @property
    def energy_pj(self) -> float:
        """Of all layers."""
        return sum(layer.energy_pj for layer in self.layers)

    def to_dict(self) -> dict:
        """The JSON contract."""
        layers = [{item.name: getattr(layer, item.name) for item in fields(layer) if item.name != "timeline"}
                  | {"utilization": layer.macs / (self.config.pes * layer.cycles) if layer.cycles else 0.0} for layer in self.layers]
        return {
            "network": self.network, "config": self.config.name, "organisation": self.config.organisation, "batch": self.batch,
            "phase": self.phase, "macs": self.macs, "cycles": self.cycles, "utilization": self.utilization, "energy_pj": self.energy_pj,
            "dram_bytes": self.dram_bytes, "proved": all(layer.proved for layer in self.layers), "layers": layers,
            "mbs_groups": [{"layers": names, "sub_batch": sub_batch} for names, sub_batch in self.groups],
        }

    def to_text(self) -> str:
        """A line a layer, and the totals."""
        rows = [(layer.name + ("" if layer.phase in ("inference", "forward") else f" {layer.phase}"),
                 f"{layer.m} x {layer.n} x {layer.k}" + (f" ({layer.groups})" if layer.groups > 1 else "") if layer.macs else "-",
                 f"{layer.macs:,}", f"{layer.cycles:,}", f"{layer.macs / (self.config.pes * layer.cycles):.1%}" if layer.macs else "-",
                 " ".join(f"{name} {count:,}" for name, count in layer.waves.items() if count),
                 ("" if layer.proved else "estimate" + ": " * bool(layer.remark)) + layer.remark) for layer in self.layers]
        heads = ("layer", "M x N x K", "multiply-adds", "cycles", "utilization", "waves", "")
        widths = [max(len(row[column]) for row in (heads, *rows)) for column in range(len(heads))]
        right = {2, 3, 4}
        lines = ["  ".join(cell.rjust(width) if column in right else cell.ljust(width)
                           for column, (cell, width) in enumerate(zip(row, widths))).rstrip() for row in (heads, *rows)]
        estimated = sum(layer.cycles for layer in self.layers if not layer.proved)
        lines.append(f"\n{self.network}, batch {self.batch}, {self.phase}, on {self.config.name} ({self.config.organisation}, "
                     f"{self.config.pes} PEs, {self.port:g} bytes of memory a cycle)")
        lines.append(f"{self.macs:,} multiply-adds in {self.cycles:,} cycles, utilization {self.utilization:.1%}; "
                     f"{self.dram_bytes:,} bytes of DRAM traffic, {self.energy_pj / 1e6:,.1f} uJ")
        lines.append(f"{estimated / self.cycles:.1%} of the cycles are estimates; the others are of programs, exact to the cycle")
        return "\n".join(lines)

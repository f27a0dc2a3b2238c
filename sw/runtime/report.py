"""The report of a GEMM: the same fields whatever engine ran it."""

import dataclasses
import json
from dataclasses import dataclass

import numpy as np

from gen.config import Config
from gen.isa import Mode, Stall
from gen.link import Identity


@dataclass(frozen=True)
class Report:
    """What a GEMM gave and cost. Counts of several groups are added up; `stalls` therefore add up to groups x cycles.

    `exact`: the result equals the golden model's. `cycles` is None for the golden engine, which has none; `utilization` is
    macs / (PEs x cycles), with the predicted cycles where there are no others. With a DRAM part as `memory`, or on a `board` without
    `exact_cycles` (a DRAM chip), `cycles` are those with it and `model_cycles` those predicted for the memory port of fixed latency.
    """

    m: int
    n: int
    k: int
    config: str
    organisation: str
    dtype: str
    engine: str
    exact: bool
    cycles: int | None
    model_cycles: int
    array_cycles: int
    macs: int
    utilization: float
    waves: dict[str, int]
    traffic: dict[str, int]
    energy_pj: float
    stalls: dict[str, int]
    result: np.ndarray = dataclasses.field(repr=False, compare=False)
    mismatches: tuple[str, ...] = ()   # what differs from the golden model and from the prediction, a line each
    memory: str | None = None
    board: Identity | None = None
    exact_cycles: bool = True           # cycles must equal the prediction (the board's memory answers as the default port does)

    def to_dict(self) -> dict:
        """The fields of the JSON contract; with a DRAM part also `memory` and `memory_ratio`, cycles with it over `model_cycles`.

        On a board also its name as `board`, `clock_mhz` and `exact_cycles`; where these are not exact, `memory_ratio` as well.
        """
        hidden = ("result", "mismatches", "memory", "board", "exact_cycles")
        fields = {item.name: getattr(self, item.name) for item in dataclasses.fields(self) if item.name not in hidden}
        if self.board is not None:
            fields |= {"board": self.board.board, "clock_mhz": self.board.clock_khz / 1000}
            if self.cycles is None:     # a unit without a machine
                return fields | {"exact_cycles": False}
            fields["exact_cycles"] = self.exact_cycles
            return fields if self.exact_cycles else fields | {"memory_ratio": self.memory_ratio}
        return fields if self.memory is None else fields | {"memory": self.memory, "memory_ratio": self.memory_ratio}

    @property
    def memory_ratio(self) -> float:
        """Cycles with the DRAM over those with the memory port of fixed latency."""
        return (self.cycles or self.model_cycles) / self.model_cycles

    def to_json(self) -> str:
        """The JSON contract as text."""
        return json.dumps(self.to_dict(), indent=2) + "\n"

    def _compared(self) -> str:
        """What is said behind the cycles."""
        if self.memory is not None or not self.exact_cycles:
            with_ = self.memory or "the board's DRAM"
            return f" with {with_}, {self.model_cycles:,} predicted for a fixed latency: ratio {self.memory_ratio:.3f}"
        return " (predicted)" if self.cycles is None else f", predicted {self.model_cycles:,}"

    def to_text(self) -> str:
        """A page for people."""
        cycles = self.model_cycles if self.cycles is None else self.cycles
        total = sum(self.stalls.values()) or 1
        used = {name: count for name, count in self.waves.items() if count}
        stalls = sorted(((count, name) for name, count in self.stalls.items() if count), reverse=True)
        board = f" ({self.board.board}, {self.board.clock_khz / 1000:g} MHz)" if self.board else ""
        lines = [
            ("GEMM", f"{self.m} x {self.k} by {self.k} x {self.n}, {self.dtype}, {self.macs:,} MACs"),
            ("machine", f"{self.config}, {self.organisation}, engine {self.engine}{board}"),
            ("result", "equal to the golden model" if self.exact else "DIFFERS from the golden model"),
            ("cycles", f"{cycles:,}" + self._compared() + f", array {self.array_cycles:,}"),
            ("utilization", f"{self.utilization:.1%}"),
            ("waves", ", ".join(f"{name} {count:,}" for name, count in used.items()) or "none"),
            ("array time", ", ".join(f"{name} {count / total:.1%}" for count, name in stalls)),
            *((name.replace("_", " "), f"{count:,}") for name, count in self.traffic.items()),
            ("energy", f"{self.energy_pj / 1e6:,.3f} uJ"),
        ]
        return "\n".join(f"{name:<32}{value}" for name, value in lines) + "\n"


def waves(config: Config, counters: dict[str, int]) -> dict[str, int]:
    """Waves of each mode, all groups together."""
    return {mode.name: _sum(config, counters, f"waves_{mode.name.lower()}") for mode in Mode}


def stalls(config: Config, counters: dict[str, int]) -> dict[str, int]:
    """Cycles of each cause, all groups together."""
    return {cause.name.lower(): _sum(config, counters, f"stall_{cause.name.lower()}") for cause in Stall}


def traffic(config: Config, counters: dict[str, int]) -> dict[str, int]:
    """Bytes moved; reads from main memory include the instructions."""
    beat, word = config.memory.bytes_per_cycle, config.word_bytes
    return {
        "dram_read_bytes": (counters["dram_read_beats"] + counters["fetch_beats"]) * beat,
        "dram_write_bytes": counters["dram_write_beats"] * beat,
        "gbuf_to_lbuf_moving_bytes": _sum(config, counters, "moving_words") * word,
        "gbuf_to_lbuf_stationary_bytes": _sum(config, counters, "stationary_words") * word,
        "gbuf_store_bytes": _sum(config, counters, "stored_words") * word,
    }


def _sum(config: Config, counters: dict[str, int], name: str) -> int:
    return sum(counters[f"g{group}_{name}"] for group in range(config.array.groups))

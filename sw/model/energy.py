"""Energy of a program from its counters and one table of one technology node. An estimate to compare machines with, not a measurement."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import exp, log
from pathlib import Path

from gen.config import Config, Unit
from gen.isa import Mode

TABLE = Path(__file__).with_name("energy_45nm.csv")
SUM_BYTES = 4


@dataclass(frozen=True)
class Table:
    """Energies of one node in pJ; `sources` names where each row comes from."""

    node: str
    mac: float                              # one int8 multiplication added to an int32 sum
    float_mac: float                        # one bf16 multiplication added to an fp32 sum
    dram: float                             # per byte
    sram: tuple[tuple[float, float], ...]   # capacity in bytes, per byte, ascending
    sources: tuple[str, ...]

    def sram_byte(self, capacity: float) -> float:
        """A byte read from or written to a memory of this size: a power law between the table's points, constant beyond them."""
        (low, energy), *_ = self.sram
        if capacity <= low:
            return energy
        for high, high_energy in self.sram[1:]:
            if capacity <= high:
                return energy * exp(log(high_energy / energy) * log(capacity / low) / log(high / low))
            low, energy = high, high_energy
        return energy


@lru_cache
def load_table(path: Path = TABLE) -> Table:
    """Read a table. Raises ValueError when it mixes nodes, lacks a quantity or has a row without a source."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    nodes = sorted({row["node"] for row in rows})
    if len(nodes) != 1:
        raise ValueError(f"{path.name} mixes the nodes {', '.join(nodes)}")
    if unsourced := [row["quantity"] for row in rows if not row["source"]]:
        raise ValueError(f"{path.name}: {unsourced[0]} has no source")
    values = {row["quantity"]: row for row in rows}
    if missing := {"mac8", "mac16f", "dram", "sram"} - values.keys():
        raise ValueError(f"{path.name} lacks {', '.join(sorted(missing))}")

    def per_byte(row: dict[str, str]) -> float:
        return float(row["picojoule"]) * 8 / int(row["bits"])

    sram = sorted((float(row["capacity_bytes"]), per_byte(row)) for row in rows if row["quantity"] == "sram")
    sizes = (f" of {row['capacity_bytes']} bytes" if row["capacity_bytes"] else "" for row in rows)
    sources = tuple(f"{row['quantity']}{size}: {row['source']}" for row, size in zip(rows, sizes))
    mac, float_mac = (float(values[name]["picojoule"]) for name in ("mac8", "mac16f"))
    return Table(nodes[0], mac, float_mac, per_byte(values["dram"]), tuple(sram), sources)


def energy(config: Config, counters: Mapping[str, int], table: Table | None = None) -> dict[str, float]:
    """Energy in pJ: `macs`, `lbuf`, `gbuf`, `obuf`, `dram` and their `total`. `counters` are those of `Prediction` or of the machine.

    Every PE multiplies in every streamed step, padding included. A word is written into and read from a local buffer once. The counters do
    not tell the rows of each mode apart, so `obuf` takes all waves of a group to have the same rows. Memories are charged by the bytes
    moved and the size of one memory (a core's buffer, a slice, a parity bank). Registers, wires, control, clock and leakage are not in it.
    """
    table = table or load_table()
    side, buffers, flex = config.array.side, config.buffers, config.array.unit is Unit.FLEX
    beat, groups, mac = config.memory.bytes_per_cycle, range(config.array.groups), table.float_mac if config.floating else table.mac
    operand, word = config.operand_bits / 8, config.word_bytes      # bytes of an operand in a local buffer, of a GBUF word
    moving_byte = table.sram_byte(buffers.moving_words * side * operand)
    stationary_byte = table.sram_byte(buffers.stationary_tiles * side * side * operand)
    slice_byte = table.sram_byte(buffers.slice_words * word)
    sum_byte = table.sram_byte(buffers.accumulator_words * side * SUM_BYTES)

    def count(group: int, name: str) -> int:
        return counters[f"g{group}_{name}"]

    data_beats = counters["dram_read_beats"] + counters["dram_write_beats"]
    parts = dict.fromkeys(("macs", "lbuf", "gbuf", "obuf", "dram"), 0.0)
    parts["dram"] = (data_beats + counters["fetch_beats"]) * beat * table.dram
    parts["gbuf"] = data_beats * beat * slice_byte
    for group in groups:
        waves = {mode: count(group, f"waves_{mode.name.lower()}") for mode in Mode}
        steps = count(group, "busy_execute")
        parts["macs"] += steps * config.cores * side**2 * mac
        parts["lbuf"] += 2 * count(group, "moving_words") * side * operand * moving_byte
        parts["lbuf"] += 2 * sum(waves.values()) * config.cores * side**2 * operand * stationary_byte
        words = count(group, "moving_words") + count(group, "stationary_words") + count(group, "stored_words")
        parts["gbuf"] += words * word * slice_byte
        # A result is read, added and written back; the store unit reads a word of sums a cycle.
        share = sum(number / mode.parts for mode, number in waves.items())
        rows = steps / share if share else 0
        results = sum(number * rows * (2 if flex and mode.wide else 1) for mode, number in waves.items())
        parts["obuf"] += (2 * results + count(group, "busy_store")) * side * SUM_BYTES * sum_byte
    return parts | {"total": sum(parts.values())}

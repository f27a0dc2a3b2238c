"""Decisions of an ECP5 netlist that drive wide registers, beside other logic: a copy of the last LUT for the registers of each module.

A LUT with a hundred sinks is placed among them. What else looks at it, such as the state machine that it came from, then waits for its wire
to go there and come back, over half of the chip. Synthesis makes one cell of equal ones, so copies are made behind it.
"""

import json
import re
from collections import Counter, defaultdict
from pathlib import Path

MOST_SINKS = 16     # of a LUT that is left alone
WORD = 8            # pins of one register or memory, from which it is a wide one
OF_A_WORD = re.compile(r"(?:_(?:TRELLIS_FF|LUT4|PFUMX|L6MUX21|CCU2C)_.*)?(?:[.$_]\d+)*$")      # behind the name of a word, in a cell's name

Pin = tuple[str, str, int]      # cell, port, bit


def replicate(netlist: Path):
    """Copy, in a netlist (JSON), LUTs of up to five inputs whose sinks are wide registers of one module and anything else."""
    design = json.loads(netlist.read_text())
    for module in design["modules"].values():
        _replicate(module)
    netlist.write_text(json.dumps(design))


def word_of(cell: str) -> str:
    """The register or memory that a cell is of, or whose bit it works out, by its name."""
    return OF_A_WORD.sub("", cell)


def _replicate(module: dict):
    cells = module.get("cells", {})
    sinks: dict[int, list[Pin]] = defaultdict(list)
    driver: dict[int, str] = {}
    for name, cell in cells.items():
        for port, bits in cell["connections"].items():
            for number, bit in enumerate(bits):
                if cell["port_directions"][port] == "output":
                    driver[bit] = name
                else:
                    sinks[bit].append((name, port, number))
    new = max((bit for bit in (*driver, *sinks) if isinstance(bit, int)), default=0) + 1
    for bit, name in driver.items():
        if cells[name]["type"] not in ("LUT4", "PFUMX") or len(sinks[bit]) <= MOST_SINKS:
            continue
        for place, pins in _wide(sinks[bit]).items():
            new = _copy(module, name, driver, new, f"$for.{place}")
            for cell, port, number in pins:
                cells[cell]["connections"][port][number] = new - 1


def _wide(pins: list[Pin]) -> dict[str, list[Pin]]:
    """Pins of wide registers by their module, without the largest such group if there is nothing else."""
    sizes = Counter(word_of(cell) for cell, _, _ in pins)
    found: dict[str, list[Pin]] = defaultdict(list)
    for pin in pins:
        if sizes[word := word_of(pin[0])] >= WORD:
            found[word.rpartition(".")[0]].append(pin)
    if sum(map(len, found.values())) == len(pins):
        del found[max(found, key=lambda place: len(found[place]))]
    return found


def _copy(module: dict, name: str, driver: dict[int, str], new: int, suffix: str) -> int:
    """Copy a LUT, or two with the multiplexer behind them, to nets from number `new` on, the result's last; returns the number after it."""
    cells, original = module["cells"], module["cells"][name]
    cell = original | {"connections": {port: list(bits) for port, bits in original["connections"].items()}}
    if original["type"] == "PFUMX":
        for port in ("ALUT", "BLUT"):
            new = _copy(module, driver[cell["connections"][port][0]], driver, new, suffix)
            cell["connections"][port] = [new - 1]
    cell["connections"]["Z"] = [new]
    cells[name + suffix] = cell
    module["netnames"][f"{name}{suffix}.Z"] = {"hide_name": 1, "bits": [new], "attributes": {}}
    return new + 1

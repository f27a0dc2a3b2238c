"""Carry chains of an ECP5 netlist without the cells and wires that nextpnr would spend on their ends and on constants."""

import json
from pathlib import Path

HALVES = (0, 1)     # positions of a CCU2C
INPUTS = "ABCD"     # of a position: bits 0 to 3 of the number of its table's entry


def open_carry_ends(netlist: Path):
    """Leave the ends of carry chains open in a netlist (JSON) where nothing depends on them, and route no constant 0 to a chain.

    Yosys ties an open carry input to 0 and connects every carry output; nextpnr then spends a cell of two LUTs on each such end.
    An output without a reader is opened, and so is an input that the chain's first position does not pass on (`rtl.arith.carry`).
    nextpnr brings a constant 0 over the fabric, while an input of 1 is free: the tables are changed to want a 1 there.
    """
    design = json.loads(netlist.read_text())
    for module in design["modules"].values():
        cells = list(module.get("cells", {}).values())
        read = {bit for port in module["ports"].values() for bit in port["bits"]}
        read |= {bit for cell in cells for name, bits in cell["connections"].items() if cell["port_directions"][name] != "output"
                 for bit in bits}
        for cell in cells:
            if cell["type"] == "CCU2C":
                wires = cell["connections"]
                starts = wires["C0"] == wires["D0"] == ["1"] and not int(cell["parameters"]["INIT0"], 2) >> 12
                if starts and wires["CIN"] == ["0"] and wires["S0"][0] not in read:
                    wires["CIN"] = ["x"]
                if wires["COUT"][0] not in read:
                    wires["COUT"] = ["x"]
                for half in HALVES:
                    _ones_for_zeros(cell, half)
    netlist.write_text(json.dumps(design))


def _ones_for_zeros(cell: dict, half: int):
    """Constant inputs of one position: 1 instead of 0, and the table to match."""
    table = int(cell["parameters"][f"INIT{half}"], 2)
    for number, letter in enumerate(INPUTS):
        if cell["connections"][f"{letter}{half}"] == ["0"]:
            table = sum((table >> (entry & ~(1 << number)) & 1) << entry for entry in range(16))
            cell["connections"][f"{letter}{half}"] = ["1"]
    cell["parameters"][f"INIT{half}"] = f"{table:016b}"

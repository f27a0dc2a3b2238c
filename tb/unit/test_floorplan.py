"""The floorplan of the ECP5-85F: every block on a place of its own that exists, in the shape of the machine."""

import json
import re

import pytest

from boards.floorplan import MEMORY_ROWS, MULTIPLIER_ROWS, TILES, place_blocks

CORE = "system.machine.core.group_0"


def names(side: int, slices: int) -> dict[str, str]:
    """Cells of a machine, as synthesis names them, and their types."""
    found = {f"{CORE}.compute.unit.core_{core}.row_{row}.pe_{column}.multiplier.block": "MULT18X18D"
             for core in range(4) for row in range(side) for column in range(side) if (row + column) % 2}
    found |= {f"{CORE}.compute.{operand}_buffer_{core}.words.block_{36 * part}": "DP16KD"
              for operand in ("moving", "stationary") for core in range(4) for part in range(2)}
    found |= {f"{CORE}.compute.output_buffer_{pair}.bank_{bank}.lane_{lane}.{part}.block_0": "DP16KD"
              for pair in range(2) for bank in range(2) for lane in range(side) for part in ("copy", "words")}
    found |= {f"{CORE}.global_buffer.slice{part}.bank{bank}.words.0.{bits}": "DP16KD"
              for part in range(slices) for bank in range(4) for bits in range(side // 2)}
    return found | {"system.machine.core.group_0.store.lane_0.product": "MULT18X18D", "system.link.words": "DP16KD", "lut": "LUT4"}


@pytest.mark.parametrize("side, slices", [(2, 2), (4, 4), (8, 4)])
def test_places(tmp_path, side, slices):
    cells = {name: {"type": kind} for name, kind in names(side, slices).items()}
    netlist = tmp_path / "top.json"
    netlist.write_text(json.dumps({"modules": {"top": {"cells": cells}, "blackbox": {}}}))
    place_blocks(netlist)
    placed = {name: cell["attributes"]["BEL"] for name, cell in json.loads(netlist.read_text())["modules"]["top"]["cells"].items()
              if "attributes" in cell}
    assert set(names(side, slices)) - set(placed) == {"system.machine.core.group_0.store.lane_0.product", "system.link.words", "lut"}
    assert len(set(placed.values())) == len(placed)
    for name, place in placed.items():
        match = re.fullmatch(r"X(\d+)/Y(\d+)/(EBR|MULT18_)(\d)", place)
        assert match
        x, y, kind, number = int(match[1]), int(match[2]), match[3], int(match[4])
        if kind == "EBR":
            assert x - 2 * number in TILES and y in MEMORY_ROWS.values() and number < 4
        else:
            assert x - number in TILES and y in MULTIPLIER_ROWS.values() and number in (0, 1, 4, 5)
        if core := re.search(r"(?:core_|ing_buffer_|ary_buffer_)(\d)", name):
            assert (x >= TILES[7]) == (int(core[1]) % 2)         # right cores in the right half
        if core and kind == "EBR":
            assert y == MEMORY_ROWS["lower" if int(core[1]) >= 2 else "upper"]
        if pair := re.search(r"output_buffer_(\d)", name):
            assert (x >= TILES[7]) == int(pair[1]) and y >= MEMORY_ROWS["below"]


def test_columns_of_the_array_go_from_left_to_right(tmp_path):
    cells = {name: {"type": kind} for name, kind in names(4, 2).items()}
    netlist = tmp_path / "top.json"
    netlist.write_text(json.dumps({"modules": {"top": {"cells": cells}}}))
    place_blocks(netlist)
    by_column: dict[int, list[int]] = {}
    for name, cell in json.loads(netlist.read_text())["modules"]["top"]["cells"].items():
        if match := re.search(r"core_0\.row_\d\.pe_(\d)\.multiplier", name):
            by_column.setdefault(int(match[1]), []).append(int(cell["attributes"]["BEL"].split("/")[0][1:]))
    for column in range(3):
        assert max(by_column[column]) < min(by_column[column + 1])


def test_what_does_not_fit_is_left_alone(tmp_path):
    cells = {f"x.output_buffer_0.bank_0.lane_{lane}.words.block_0": {"type": "DP16KD"} for lane in range(80)}
    netlist = tmp_path / "top.json"
    netlist.write_text(json.dumps({"modules": {"top": {"cells": cells}}}))
    place_blocks(netlist)
    found = json.loads(netlist.read_text())["modules"]["top"]["cells"].values()
    placed = [cell["attributes"]["BEL"] for cell in found if "attributes" in cell]
    assert len(set(placed)) == len(placed) == 56       # two rows of half the chip

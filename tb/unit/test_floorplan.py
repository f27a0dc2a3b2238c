"""The floorplan of the ECP5-85F: every block on a place of its own that exists, in the shape of the machine."""

import json
import re

import pytest

from boards.floorplan import place_blocks

CORE = "system.machine.core.group_0"
# Where nextpnr puts blocks of an ECP5-85F that nobody has fixed
TILES = (4, 13, 22, 31, 40, 49, 58, 69, 78, 87, 96, 105, 114)
MEMORIES = {f"X{x + 2 * number}/Y{y}/EBR{number}" for x in TILES for y in (22, 46, 70, 82) for number in range(4)}
MULTIPLIERS = {f"X{x + number}/Y{y}/MULT18_{number}" for x in TILES for y in (10, 34, 58) for number in (0, 1, 4, 5)}
RIGHT_HALF = 65


def names(side: int, slices: int) -> dict[str, str]:
    """Cells of a machine, as synthesis names them, and their types."""
    found = {f"{CORE}.compute.unit.core_{core}.row_{row}.pe_{column}.multiplier.block": "MULT18X18D"
             for core in range(4) for row in range(side) for column in range(side) if (row + column) % 2}
    found |= {f"{CORE}.compute.{operand}_buffer_{core}.words.block_{36 * part}": "DP16KD"
              for operand in ("moving", "stationary") for core in range(4) for part in range(2)}
    found |= {f"{CORE}.compute.output_buffer_{pair}.bank_{bank}.lane_{lane}.{part}.block_0": "DP16KD"
              for pair in range(2) for bank in range(2) for lane in range(side) for part in ("copy", "words")}
    # Up to 2048 words deep, or deeper
    found |= {f"{CORE}.global_buffer.slice{part}.bank{bank}.{'words.0.' if part else 'block_'}{18 * bits}": "DP16KD"
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
        assert place in (MEMORIES if cells[name]["type"] == "DP16KD" else MULTIPLIERS)
        x, y = (int(text[1:]) for text in place.split("/")[:2])
        if core := re.search(r"(?:core_|ing_buffer_|ary_buffer_)(\d)", name):
            assert (x > RIGHT_HALF) == (int(core[1]) % 2)         # right cores in the right half
        if core and place in MEMORIES:
            assert y == (46 if int(core[1]) >= 2 else 22)
        if pair := re.search(r"output_buffer_(\d)", name):
            assert (x > RIGHT_HALF) == int(pair[1]) and y >= 70


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


def test_an_unknown_memory_is_refused(tmp_path):
    """Names come from synthesis: when they change, the floorplan has to."""
    netlist = tmp_path / "top.json"
    name = f"{CORE}.global_buffer.slice0.bank0.memory.block_0"
    netlist.write_text(json.dumps({"modules": {"top": {"cells": {name: {"type": "DP16KD"}}}}}))
    with pytest.raises(ValueError, match=r"^system\.machine\.core\.group_0\.global_buffer\.slice0\.bank0\.memory\.block_0: no such memory"):
        place_blocks(netlist)

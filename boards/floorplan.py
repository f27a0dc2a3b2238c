"""Where the multiplier blocks of the array go on an ECP5-85F, so that placement starts from the shape of the array.

The chip has three rows of 52 blocks. Left and right cores take the left and the right half of them, upper cores the top row, lower
cores the bottom row, and what does not fit there the row in the middle. Along a row blocks follow the columns of the array. Left to
itself nextpnr scatters the blocks, and a PE may be a chip's width away from its multiplier.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path

TOP, MIDDLE, BOTTOM = 10, 34, 58                            # rows of blocks, in nextpnr's coordinates
TILES = (4, 13, 22, 31, 40, 49, 58, 69, 78, 87, 96, 105, 114)
PLACES = ((0, 0), (1, 1), (4, 4), (5, 5))                   # of the four blocks of a tile: column and number
HALF = 7                                                    # tiles of the left half
BLOCK = re.compile(r".*\.unit\.core_([0-3])\.row_(\d+)\.pe_(\d+)\.multiplier\..*")


@dataclass(frozen=True)
class Block:
    """A multiplier block and the place of its PE in the array."""

    cell: dict
    core: int
    row: int
    column: int


def sites(left: bool, y: int) -> list[str]:
    """The blocks of half a row, from left to right."""
    tiles = TILES[:HALF] if left else TILES[HALF:]
    return [f"X{x + column}/Y{y}/MULT18_{number}" for x in tiles for column, number in PLACES]


def place_multipliers(netlist: Path):
    """Fix the blocks of an array of four cores in a netlist (JSON). Blocks that do not fit and all others are left to nextpnr."""
    design = json.loads(netlist.read_text())
    blocks = []
    for module in design["modules"].values():
        for name, cell in module.get("cells", {}).items():
            if cell["type"] == "MULT18X18D" and (match := BLOCK.match(name)):
                blocks.append(Block(cell, *(int(number) for number in match.groups())))
    for left in (True, False):
        middle = []
        for upper in (True, False):
            core = (0 if upper else 2) + (0 if left else 1)
            # Those nearest to the other core go to the middle row.
            mine = sorted((block for block in blocks if block.core == core), key=lambda block: block.row, reverse=not upper)
            room = len(sites(left, TOP))
            _fix(mine[:room], sites(left, TOP if upper else BOTTOM))
            middle += mine[room:]
        _fix(middle, sites(left, MIDDLE))
    netlist.write_text(json.dumps(design))


def _fix(blocks: list[Block], free: list[str]):
    """Put blocks on sites in the order of their columns, spread over all of them."""
    count = min(len(blocks), len(free))
    for number, block in enumerate(sorted(blocks[:count], key=lambda block: (block.column, block.row))):
        block.cell.setdefault("attributes", {})["BEL"] = free[number * len(free) // count]

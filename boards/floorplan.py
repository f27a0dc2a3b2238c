"""Where the multiplier blocks of the array and the block RAMs go on an ECP5-85F, so that placement starts from the shape of the machine.

Multipliers lie in three rows of the chip, block RAMs in four others. Left and right cores take the left and the right half, upper cores the
top, lower cores the bottom, and along a row blocks follow the columns of the array. The local buffers lie at the outer ends of the cores,
the output buffers below the lower ones, the global buffer in the middle, the bits of a word from left to right. Left to itself nextpnr
scatters the blocks: a PE may be a chip's width away from its multiplier, a bank from its neighbour.
"""

import json
import re
from collections import defaultdict
from pathlib import Path

TILES = (4, 13, 22, 31, 40, 49, 58, 69, 78, 87, 96, 105, 114)   # of either kind, four blocks each; in nextpnr's coordinates, as all here
LEFT, RIGHT = TILES[:7], TILES[7:]
OUTER = {"left": TILES[0], "right": TILES[11]}                  # where the local buffers are
MIDDLE = TILES[3:11]                                            # and the global buffer
MULTIPLIER_ROWS = {"top": 10, "middle": 34, "bottom": 58}
MEMORY_ROWS = {"upper": 22, "lower": 46, "below": 70, "last": 82}

MULTIPLIER = re.compile(r"\.unit\.core_(?P<core>[0-3])\.row_(?P<row>\d+)\.pe_(?P<column>\d+)\.multiplier\.")
LOCAL = re.compile(r"\.(?P<operand>moving|stationary)_buffer_(?P<core>[0-3])\.words\.(?P<part>\w+)$")
OUTPUT = re.compile(r"\.output_buffer_(?P<pair>[01])\.bank_(?P<bank>\d)\.lane_(?P<lane>\d+)\.(?P<part>[\w.]+)$")
GLOBAL = re.compile(r"\.global_buffer\.slice(?P<slice>\d+)\.bank(?P<bank>\d+)\.(?P<depth>block_|words\.\d+\.)(?P<bits>\d+)$")
BUFFER = re.compile(r"\.(?:\w+_buffer_\d|global_buffer)\.")

Found = list[tuple[dict[str, str], dict]]       # blocks: what their name says, cell


def place_blocks(netlist: Path):
    """Fix the blocks of a machine with four cores in a netlist (JSON). Blocks that do not fit and all others are left to nextpnr.

    Raises ValueError for a memory of a buffer whose name is none of those known here: it would silently lie anywhere.
    """
    design = json.loads(netlist.read_text())
    cells = [(name, cell) for module in design["modules"].values() for name, cell in module.get("cells", {}).items()]

    def find(kind: str, pattern: re.Pattern) -> Found:
        return [(match.groupdict(), cell) for name, cell in cells if cell["type"] == kind and (match := pattern.search(name))]

    for name, cell in cells:
        if cell["type"] == "DP16KD" and BUFFER.search(name) and not any(kind.search(name) for kind in (LOCAL, OUTPUT, GLOBAL)):
            raise ValueError(f"{name}: no such memory is known to the floorplan")
    _place_multipliers(find("MULT18X18D", MULTIPLIER))
    for core in range(4):
        left, upper = core % 2 == 0, core < 2
        local = _sorted([block for block in find("DP16KD", LOCAL) if int(block[0]["core"]) == core], "operand", "part")
        _deal(local, [OUTER["left" if left else "right"]], [MEMORY_ROWS["upper" if upper else "lower"]])
    for pair, tiles in enumerate((LEFT, RIGHT)):
        output = _sorted([block for block in find("DP16KD", OUTPUT) if int(block[0]["pair"]) == pair], "lane", "bank", "part")
        _deal(output, tiles, [MEMORY_ROWS["below"], MEMORY_ROWS["last"]])
    _deal(_sorted(find("DP16KD", GLOBAL), "bits", "slice", "bank", "depth"), MIDDLE, [MEMORY_ROWS["upper"], MEMORY_ROWS["lower"]])
    netlist.write_text(json.dumps(design))


def _sorted(blocks: Found, *fields: str) -> list[dict]:
    """The cells in the order of some fields of their names, numbers as numbers."""
    def key(block):
        return [(int(value), "") if value.isdigit() else (0, value) for value in (block[0][field] for field in fields)]
    return [cell for _, cell in sorted(blocks, key=key)]


def _deal(blocks: list[dict], tiles, rows: list[int]):
    """Block RAMs over tiles of the chip from left to right, as evenly as can be; within a tile row after row, as far as there is room."""
    dealt = defaultdict(list)
    for number, cell in enumerate(blocks):
        dealt[tiles[number * len(tiles) // len(blocks)]].append(cell)
    for tile, cells in dealt.items():
        for cell, (row, place) in zip(cells, ((row, place) for row in rows for place in range(4))):
            _fix(cell, f"X{tile + 2 * place}/Y{row}/EBR{place}")


def _place_multipliers(blocks: Found):
    """Upper cores on top, lower cores at the bottom, and in the middle what does not fit there: the rows nearest to the other core."""
    places = {side: [(tile + column, number) for tile in tiles for column, number in ((0, 0), (1, 1), (4, 4), (5, 5))]
              for side, tiles in (("left", LEFT), ("right", RIGHT))}
    for right, side in enumerate(("left", "right")):
        rest: Found = []
        for core, row, downwards in ((right, "top", True), (2 + right, "bottom", False)):
            mine = sorted((block for block in blocks if int(block[0]["core"]) == core), key=lambda block: int(block[0]["row"]),
                          reverse=not downwards)
            room = len(places[side])
            _spread(mine[:room], places[side], MULTIPLIER_ROWS[row])
            rest += mine[room:]
        _spread(rest, places[side], MULTIPLIER_ROWS["middle"])


def _spread(blocks: Found, places: list[tuple[int, int]], row: int):
    """Multipliers in the order of the array's columns, spread over a row of the chip, as far as there is room."""
    ordered = _sorted(blocks[:len(places)], "column", "row")
    for number, cell in enumerate(ordered):
        x, index = places[number * len(places) // len(ordered)]
        _fix(cell, f"X{x}/Y{row}/MULT18_{index}")


def _fix(cell: dict, place: str):
    cell.setdefault("attributes", {})["BEL"] = place

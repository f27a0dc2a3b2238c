"""Cycles of a product when waves follow each other without a gap: no fill, no drain, and all data at hand.

What the array's organisation alone allows. A wave streams m rows, divided among the parts of its mode; groups share the rows, or the
reduced dimension for a weight gradient, each share rounded up. (FlexSA's tall/wide rule; see rtl/README.md for the modes.)
"""

from collections import Counter
from dataclasses import dataclass

from gen.config import Config, Unit
from gen.isa import Mode


@dataclass(frozen=True)
class Ideal:
    """Cycles of a product, those of each mode (of one group), and the words that go to the local buffers (of all groups)."""

    cycles: int
    modes: dict[Mode, int]
    moving_words: int


def ceil_div(value: int, by: int) -> int:
    """Quotient, rounded up."""
    return -(-value // by)


def mode_of(config: Config, k_blocks: int, n_blocks: int) -> Mode:
    """Mode of a wave whose stationary tile covers one or two blocks of a core's side in each direction."""
    if config.array.unit is Unit.FLEX:
        return Mode((n_blocks < 2) | (k_blocks < 2) << 1)
    return Mode.ISW if config.array.unit is Unit.QUAD else Mode.FW


def ideal(config: Config, m: int, n: int, k: int, *, split_k: bool = False) -> Ideal:
    """A product on all groups of a machine. `split_k`: the groups share k, not m."""
    groups, side = config.array.groups, config.array.side
    if split_k:
        k = ceil_div(k, groups)
    else:
        m = ceil_div(m, groups)
    if config.array.unit is Unit.SINGLE:
        tiles = ceil_div(n, config.tile)
        cycles = ceil_div(k, config.tile) * tiles * m
        return Ideal(cycles, {Mode.FW: cycles}, groups * m * k * tiles)
    if config.array.unit is Unit.QUAD:
        tiles = ceil_div(n, side)
        cycles = ceil_div(k, side) * tiles * ceil_div(m, 4)
        return Ideal(cycles, {Mode.ISW: cycles}, groups * m * k * tiles)
    modes: Counter[Mode] = Counter()
    for wide, columns in pieces(n, config.tile, side):
        for tall, rows in pieces(k, config.tile, side):
            mode = Mode((not wide) | (not tall) << 1)
            modes[mode] += columns * rows * ceil_div(m, mode.parts)
    return Ideal(modes.total(), dict(modes), groups * m * k * ceil_div(n, config.tile))


def pieces(size: int, tile: int, side: int) -> list[tuple[bool, int]]:
    """Tiles that a dimension is cut into: (larger than a core's side?, how many)."""
    whole, rest = divmod(size, tile)
    return [(large, count) for large, count in ((True, whole + (rest > side)), (False, int(0 < rest <= side))) if count]

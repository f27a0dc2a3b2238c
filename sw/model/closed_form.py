"""A product's counters in closed form: waves, words and busy cycles as the machine counts them, without a program and without time.

For sizes and networks for which compiling every product takes too long. What a wave, a load and a store count is fixed by the contract
(rtl/README.md); the counters below follow for any program that cuts the product into tiles of `rows` rows, as the compiler does. Cycles are
those of the array from its first to its last active one when no wave waits: what remains when memory and tokens hide behind them.
"""

from collections import Counter
from dataclasses import dataclass

from gen.config import Config, Unit
from gen.isa import Mode
from gen.timing import drain, interval
from sw.model.ideal import ceil_div, mode_of, pieces


@dataclass(frozen=True)
class Work:
    """Counters of one group, by the names of its registers without the group; `cycles` as in the module's first lines."""

    cycles: int
    waves: dict[Mode, int]
    busy_execute: int
    moving_words: int
    stationary_words: int
    stored_words: int
    busy_store: int


def row_limit(config: Config, modes: set[Mode]) -> int:
    """Rows that the output buffers and half of a moving buffer hold in all these modes, so that loads run ahead of the array."""
    wide = config.array.unit is Unit.SINGLE or any(mode.wide for mode in modes)
    streamed = max(config.moving_capacity // 2, min(config.array.side, config.moving_capacity))
    return min(config.wide_rows if wide else config.narrow_rows, streamed * min(mode.parts for mode in modes))


def tile_rows(config: Config, modes: set[Mode], rows: int) -> int:
    """Rows of an output tile of a product of `rows`: as many as fit, evenly divided."""
    limit = row_limit(config, modes)
    return min(limit, 4 * ceil_div(ceil_div(rows, ceil_div(rows, limit)), 4))


def cut(config: Config, n: int, k: int) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Stationary tiles along n and along k: (blocks of a core's side in a tile, how many tiles)."""
    side, unit = config.array.side, config.array.unit
    if unit is not Unit.FLEX:
        return [(1, ceil_div(n, side))], [(1, ceil_div(k, side))]
    along_n, along_k = ([(2 if large else 1, count) for large, count in pieces(size, config.tile, side)] for size in (n, k))
    return along_n, along_k


def work(config: Config, m: int, n: int, k: int, *, output_bytes: int = 4, rows: int | None = None) -> Work:
    """An m x k by k x n product on one group. `rows`: of an output tile; None takes the most that fit."""
    side, unit = config.array.side, config.array.unit
    n_tiles, k_tiles = cut(config, n, k)
    modes = {mode_of(config, k_blocks, n_blocks) for n_blocks, _ in n_tiles for k_blocks, _ in k_tiles}
    rows = min(rows or tile_rows(config, modes, m), m)
    heights = Counter({rows: m // rows})
    heights[m % rows] += m % rows > 0
    waves: Counter[Mode] = Counter()
    cycles = busy = moving = stationary = stored = store = 0
    for height, tiles in heights.items():
        for n_blocks, columns in n_tiles:
            for k_blocks, depth in k_tiles:
                mode, count = mode_of(config, k_blocks, n_blocks), tiles * columns * depth
                streamed = ceil_div(height, mode.parts)
                waves[mode] += count
                busy += count * streamed
                cycles += count * interval(config, streamed)
                moving += count * height * (2 if unit is Unit.FLEX and mode.tall else 1)
                stationary += count * side * {Unit.FLEX: mode.stationary_words, Unit.QUAD: 4, Unit.SINGLE: 1}[unit]
            blocks = n_blocks if unit is Unit.FLEX else 1
            stored += tiles * columns * height * blocks * output_bytes
            store += tiles * columns * height * blocks * (side // config.buffers.store_lanes)
    # The last wave ends with its last row; it is a full one along k, since remainders come first.
    last = ceil_div((m - 1) % rows + 1, mode_of(config, k_tiles[0][0], n_tiles[-1][0]).parts)
    return Work(cycles - interval(config, last) + last + drain(config), dict(+waves), busy, moving, stationary, stored, store)


def on_groups(config: Config, m: int, n: int, k: int, *, split_k: bool = False, output_bytes: int = 4) -> Work:
    """The product on all groups, which share the rows, or k (`split_k`): counters of all, cycles of the largest share."""
    groups = config.array.groups
    whole = k if split_k else m
    share = ceil_div(whole, groups)
    sizes = [min(share, whole - first) for first in range(0, whole, share)]
    found = [work(config, m, n, size, output_bytes=output_bytes) if split_k else work(config, size, n, k, output_bytes=output_bytes)
             for size in sizes]
    total: Counter[Mode] = Counter()
    for one in found:
        total.update(one.waves)
    return Work(max(one.cycles for one in found), dict(total),
                *(sum(getattr(one, name) for one in found) for name in
                  ("busy_execute", "moving_words", "stationary_words", "stored_words", "busy_store")))


def counters(config: Config, found: Work, dram_read_bytes: int, dram_write_bytes: int) -> dict[str, int]:
    """The machine's counters by register name, all of group 0, for `sw.model.energy` and reports."""
    beat = config.memory.bytes_per_cycle
    values = {"dram_read_beats": ceil_div(dram_read_bytes, beat), "dram_write_beats": ceil_div(dram_write_bytes, beat), "fetch_beats": 0}
    for group in range(config.array.groups):
        one = found if group == 0 else Work(0, {}, 0, 0, 0, 0, 0)
        values |= {f"g{group}_waves_{mode.name.lower()}": one.waves.get(mode, 0) for mode in Mode}
        for name in ("busy_execute", "moving_words", "stationary_words", "stored_words", "busy_store"):
            values[f"g{group}_{name}"] = getattr(one, name)
    return values

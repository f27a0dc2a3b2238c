"""The steps of a plan, and the places that their data takes in turns."""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from sw.compiler.layout import ceil_div
from sw.compiler.plan import Plan, tile_order
from sw.compiler.tiling import Share, Tile
from sw.compiler.tokens import Token

FIRST_PIECE_CYCLES = 64     # the first tile is loaded in pieces of at least this much array time, so that the array starts early


@dataclass(frozen=True)
class Step:
    """Waves first..stop-1 of an output tile, all of one mode. `chunk` is the first wave of their chunk.

    Keys name the data that the step uses: what is loaded anew has a new key.
    """

    tile: Tile
    first: int
    stop: int
    chunk: int
    chunk_stop: int
    a_key: tuple
    b_key: tuple
    p_key: tuple | None     # column parameters to bring before the tile is stored
    r_key: tuple | None     # the tile's residual
    last: bool              # of its tile


def steps_of(share: Share, plan: Plan) -> Iterator[Step]:
    """All steps in the plan's order. Only the first tile's chunks are cut into pieces."""
    depth, scaled = share.depth, None
    for number, (block, tile) in enumerate(tile_order(share, plan)):
        piece = depth.waves
        if number == 0:
            piece = ceil_div(FIRST_PIECE_CYCLES, share.wave_cycles(depth.waves - 1, tile.rows, tile.width))
        p_key = None
        if share.gemm.parameters and tile.n_index != scaled:
            scaled, p_key = tile.n_index, (tile.n_index if plan.keep_p else number,)
        for chunk in range(0, depth.waves, plan.chunk):
            a_key = (block, tile.m_index, chunk) if plan.keep_a else (number, chunk)
            b_key = (block, tile.n_index, chunk) if plan.keep_b else (number, chunk)
            chunk_stop = min(depth.waves, chunk + plan.chunk)
            for start in range(chunk, chunk_stop, piece):
                for first, stop in depth.runs(start, min(chunk_stop, start + piece)):
                    last = stop == depth.waves
                    r_key = (tile,) if last and share.gemm.addition else None
                    yield Step(tile, first, stop, chunk, chunk_stop, a_key, b_key, p_key if last else None, r_key, last)


class Slots:
    """Places that data of one kind takes in turns. Loads take them in the order in which uses free them, so one token counts them."""

    def __init__(self, places: Iterable[Any], uses: Iterable[tuple | None], free: Token):
        """`uses`: the key that each step uses, in order; None for none."""
        self.final = {key: index for index, key in enumerate(uses) if key is not None}
        self.fresh = deque(place for _, place in zip(self.final, places))
        self.signals, self.free = len(self.final) - len(self.fresh), free
        self.freed: deque = deque()
        self.at: dict[tuple, Any] = {}

    def ready(self, key: tuple | None) -> bool:
        """Whether the key has a place or can get one."""
        return key is None or key in self.at or bool(self.fresh or self.freed)

    def take(self, key: tuple) -> Token | None:
        """Give the key a place; returns the token that its first writer has to wait for."""
        if self.fresh:
            self.at[key] = self.fresh.popleft()
            return None
        self.at[key] = self.freed.popleft()
        return self.free

    def leave(self, key: tuple, index: int) -> Token | None:
        """Step `index` has used the key. Frees the place after the last use; returns the token to signal if a load will wait for it."""
        if self.final[key] != index:
            return None
        self.freed.append(self.at.pop(key))
        self.signals -= 1
        return self.free if self.signals >= 0 else None

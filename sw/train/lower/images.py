"""Phases that walk the images of channel blocks, some at a time: where the part of each tensor lies, its load and its store."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from sw.train.lower.memory import Tensor
from sw.train.lower.phase import Code, Place

ImageTile = tuple[int, int, int]    # block, first image, image behind the last


@dataclass(frozen=True)
class Part:
    """A tensor, its rows of an image, and which of a tile's slices they go to: parts of one slice lie one behind the other. By default a
    slice of their own."""

    tensor: Tensor
    rows: int
    slice: int | None = None


class ImagePhase:
    """A phase, begun here, of tiles: some images of a channel block in three slices, but for tensors that stay on the chip.

    Without slices of their choice, the first result takes the place of the first operand if both are as large and neither stays on the
    chip. `words`: what an image needs of a slice, if more than the largest part. Raises CompileError if that is too much.
    """

    def __init__(self, code: Code, images: int, operands: Sequence[Part], results: Sequence[Part], words: int = 0):
        self.code, self.operands, self.results = code, operands, results
        most = max(words, *(part.rows * part.tensor.planes for part in (*operands, *results)))
        self.pieces = code.pieces(images, code.config.beat_words, most)
        source, target = operands[0], results[0]
        self.in_place = (source.rows, source.tensor.planes, source.slice) == (target.rows, target.tensor.planes, target.slice) and not (
            {source.tensor, target.tensor} & code.residents.keys())
        code.phase()

    @property
    def most(self) -> int:
        """Images of a tile."""
        return self.pieces[0][1]

    def places(self, tile: ImageTile, slices: list[int]) -> list[Place]:
        """Of the parts of operands and results."""
        block, first, stop = tile
        free, used, found = iter(slices), Counter[int](), list[Place]()
        for part in (*self.operands, *self.results):
            if self.in_place and part is self.results[0]:
                found.append(found[0])
                continue
            candidates = free if part.slice is None else iter(slices[part.slice:])
            place = self.code.place(part.tensor, candidates, blocks=(block, block + 1), rows=(first * part.rows, stop * part.rows))
            if part.slice is not None and part.tensor not in self.code.residents:
                place = replace(place, address=used[part.slice])
                used[part.slice] += (stop - first) * part.rows * part.tensor.planes
            found.append(place)
        return found

    def run(self, compute: Callable[..., None]):
        """Tile by tile: `compute(images, slices, *streams of operands and results)`."""
        count = len(self.operands)

        def load(tile: ImageTile, slices: list[int]):
            self._move(self.code.load, self.operands, self.places(tile, slices)[:count], tile)

        def step(tile: ImageTile, slices: list[int]):
            compute(tile[2] - tile[1], slices, *(place.at(0) for place in self.places(tile, slices)))

        def store(tile: ImageTile, slices: list[int]):
            self._move(self.code.store, self.results, self.places(tile, slices)[count:], tile)

        blocks = self.results[0].tensor.blocks
        self.code.tiles([(block, *piece) for block in range(blocks) for piece in self.pieces], load, step, store)

    def _move(self, transfer: Callable[..., None], parts: Sequence[Part], places: Sequence[Place], tile: ImageTile):
        block, first, stop = tile
        for part, place in zip(parts, places):
            transfer(part.tensor, place, blocks=(block, block + 1), rows=(first * part.rows, stop * part.rows))

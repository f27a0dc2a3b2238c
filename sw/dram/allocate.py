"""Near-data operands: frames of the shared region, one colour for all operands of an operation, and which blocks lie in which unit.

A frame is one row index in every bank, rank and channel (`DramConfig.frame_blocks`). Frames of one colour place the same block offset in
the same channel, rank and bank, so operands that begin at a frame of one colour are aligned element by element in every unit. An operand of
several frames takes frames `colours` apart, as the sequencer walks them. The last frame holds the launch registers and is never given out.
"""

from dataclasses import dataclass, field

import numpy as np

from gen.dram import DramConfig
from gen.nda import CHUNK_BLOCKS, LANES
from sw.dram.mapping import locate, parity
from sw.runtime.errors import UserError

DTYPES = (np.dtype(np.float32), np.dtype(np.int32))


class NdaError(UserError):
    """An operand or operation that cannot work; the text is one line naming field, value and allowed range."""


def frame_base(config: DramConfig, frame: int) -> int:
    """First block of a frame of the shared region."""
    return (config.part.rows - config.frames + frame) * config.frame_blocks


@dataclass(eq=False, kw_only=True)
class Region:
    """Consecutive frames of one colour and what the host has put there.

    `content`: (..., 16) words in the order of `numbers`, zero at first. A part of another region names it as `owner`.
    """

    allocator: "Allocator" = field(repr=False)
    frame: int                     # the first
    frames: int
    content: np.ndarray = field(repr=False)
    owner: "Region | None" = field(default=None, repr=False)
    freed: bool = field(default=False, init=False)

    @property
    def config(self) -> DramConfig:
        """The memory system."""
        return self.allocator.config

    @property
    def colour(self) -> int:
        """Colour of the frames."""
        return self.frame % self.config.colours

    @property
    def flip(self) -> int:
        """What the hash adds to the bank id in these frames."""
        config = self.config
        row = np.array(config.part.rows - config.frames + self.frame)
        return sum(int(parity(row & mask)) << bit for bit, mask in enumerate(config.hash_masks["bank"]))

    @property
    def is_freed(self) -> bool:
        """Whether the frames have been given back."""
        return self.freed or (self.owner is not None and self.owner.is_freed)

    @property
    def numbers(self) -> np.ndarray:
        """Block numbers of the content, the shape of `content` without the words."""
        raise NotImplementedError

    def address(self, offsets: np.ndarray) -> np.ndarray:
        """Block numbers of offsets in the region's address order."""
        config, size = self.config, self.config.frame_blocks
        return frame_base(config, self.frame) + offsets // size * (config.colours * size) + offsets % size

    def local(self, unit, positions: np.ndarray) -> np.ndarray:
        """Block numbers of a unit's blocks at local positions behind the region's first frame; units and positions broadcast."""
        order = self.allocator.local_order(self.colour)
        size = order.shape[1]
        return self.address(np.asarray(positions) // size * self.config.frame_blocks + order[unit, np.asarray(positions) % size])


@dataclass(eq=False, kw_only=True)
class Vector(Region):
    """A vector of float32 or int32, padded with zeros to whole blocks. Lies from the start of its first frame in address order."""

    elements: int
    dtype: np.dtype

    @property
    def blocks(self) -> int:
        """Blocks of 16 elements."""
        return -(-self.elements // LANES)

    @property
    def numbers(self) -> np.ndarray:
        return self.address(np.arange(self.blocks))

    @property
    def lengths(self) -> np.ndarray:
        """Blocks in each unit; they are the first ones of the unit's local order."""
        config = self.config
        whole, rest = divmod(self.blocks, config.frame_blocks)
        order = self.allocator.local_order(self.colour)
        return whole * order.shape[1] + (order < rest).sum(axis=1)

    @property
    def values(self) -> np.ndarray:
        """The elements, a view of the content."""
        return self.content.reshape(-1).view(self.dtype)[:self.elements]


@dataclass(eq=False, kw_only=True)
class Matrix(Region):
    """Columns of float32, each a vector from the start of a frame, `step` frames apart."""

    rows: int
    columns: int

    @property
    def step(self) -> int:
        """Frames from one column's first to the next one's."""
        return self.frames // self.columns * self.config.colours

    @property
    def numbers(self) -> np.ndarray:
        return np.stack([self.column(j).numbers for j in range(self.columns)])

    def column(self, j: int) -> Vector:
        """Column j as a vector that shares the matrix' memory."""
        if not 0 <= j < self.columns:
            raise NdaError(f"column = {j} is outside 0..{self.columns - 1}")
        return Vector(allocator=self.allocator, frame=self.frame + j * self.step, frames=self.frames // self.columns,
                      content=self.content[j], owner=self, elements=self.rows, dtype=DTYPES[0])

    @property
    def values(self) -> np.ndarray:
        """(rows, columns), a view of the content."""
        return self.content.reshape(self.columns, -1).view(np.float32)[:, :self.rows].T


@dataclass(eq=False, kw_only=True)
class Table(Region):
    """Rows of float32, each whole in one unit: row i in unit i mod units, at local position (i // units) * `row_blocks`."""

    rows: int
    width: int

    @property
    def row_blocks(self) -> int:
        """Blocks of a row, padded with zeros."""
        return -(-self.width // LANES)

    @property
    def numbers(self) -> np.ndarray:
        units = self.config.channels * self.config.ranks
        rows = np.arange(self.rows)[:, None]
        return self.local(rows % units, rows // units * self.row_blocks + np.arange(self.row_blocks))

    @property
    def values(self) -> np.ndarray:
        """(rows, width), a view of the content."""
        return self.content.reshape(self.rows, -1).view(np.float32)[:, :self.width]


@dataclass(eq=False, kw_only=True)
class Scratch(Region):
    """The same number of local blocks in every unit: results that the host adds up, operands that every unit needs."""

    length: int

    @property
    def numbers(self) -> np.ndarray:
        units = np.arange(self.config.channels * self.config.ranks)[:, None]
        return self.local(units, np.arange(self.length))


class Allocator:
    """Gives out the frames of a memory system's shared region, lowest first. Raises NdaError where there is none."""

    def __init__(self, config: DramConfig):
        if not config.reserved:
            raise NdaError("reserved = 0: there is no near-data unit and no shared region, allowed are 1 or more banks")
        if config.part.block_bytes != 4 * LANES:
            raise NdaError(f"part {config.part.name}: block_bytes = {config.part.block_bytes}, near-data units need {4 * LANES}")
        self.config = config
        usable = np.arange(config.frames - 1)
        self._orders: dict[int, np.ndarray] = {}
        self._free = [np.ones(int((usable % config.colours == colour).sum()), bool) for colour in range(min(config.colours, config.frames))]

    @property
    def units(self) -> int:
        """Near-data units of the system."""
        return self.config.channels * self.config.ranks

    def local_order(self, colour: int) -> np.ndarray:
        """Offsets inside a frame of each unit's blocks in local order: (units, blocks of a unit), unit = channel * ranks + rank."""
        if colour not in self._orders:
            config = self.config
            place = locate(config, frame_base(config, colour) + np.arange(config.frame_blocks))
            unit = place.channel * config.ranks + place.rank
            self._orders[colour] = np.argsort(unit, kind="stable").reshape(self.units, -1)     # ascending address in each unit
        return self._orders[colour]

    def free_frames(self, colour: int) -> int:
        """Frames of a colour that are not in use."""
        return int(self._free[self._colour(colour)].sum())

    def allocate(self, elements: int, dtype: np.typing.DTypeLike = np.float32, colour: int | None = None) -> Vector:
        """A vector of zeros. Without a colour: the lowest that has room."""
        dtype = np.dtype(dtype)
        if dtype not in DTYPES:
            raise NdaError(f"dtype = {dtype} is none of float32, int32")
        blocks = -(-self._count("elements", elements) // LANES)
        first, frames = self._take(-(-blocks // self.config.frame_blocks), colour)
        return Vector(allocator=self, frame=first, frames=frames, content=_zeros(blocks), elements=elements, dtype=dtype)

    def matrix(self, rows: int, columns: int, colour: int | None = None) -> Matrix:
        """A matrix of zeros by columns."""
        blocks = -(-self._count("rows", rows) // LANES)
        frames = self._count("columns", columns) * -(-blocks // self.config.frame_blocks)
        first, frames = self._take(frames, colour)
        return Matrix(allocator=self, frame=first, frames=frames, content=_zeros(columns, blocks), rows=rows, columns=columns)

    def table(self, rows: int, width: int, colour: int | None = None) -> Table:
        """A table of zeros by rows."""
        row_blocks = -(-self._count("width", width) // LANES)
        if row_blocks > CHUNK_BLOCKS:
            raise NdaError(f"width = {width} is outside 1..{CHUNK_BLOCKS * LANES} (a row is at most the operand buffer)")
        first, frames = self._take(self._local_frames(-(-self._count("rows", rows) // self.units) * row_blocks), colour)
        return Table(allocator=self, frame=first, frames=frames, content=_zeros(rows, row_blocks), rows=rows, width=width)

    def scratch(self, length: int, colour: int | None = None) -> Scratch:
        """`length` local blocks in each unit."""
        first, frames = self._take(self._local_frames(self._count("length", length)), colour)
        return Scratch(allocator=self, frame=first, frames=frames, content=_zeros(self.units, length), length=length)

    def free(self, region: Region) -> None:
        """Give a region's frames back; it cannot be used any more."""
        if region.allocator is not self:
            raise NdaError("operand belongs to another memory system")
        if region.owner is not None:
            raise NdaError("operand is a part of a matrix: free the matrix")
        if region.freed:
            raise NdaError("operand has been freed before")
        region.freed = True
        start = region.frame // self.config.colours
        self._free[region.colour][start:start + region.frames] = True

    def _local_frames(self, length: int) -> int:
        return -(-length // (self.config.frame_blocks // self.units))

    def _colour(self, colour: int) -> int:
        if not 0 <= colour < len(self._free):
            raise NdaError(f"colour = {colour} is outside 0..{len(self._free) - 1}")
        return colour

    def _take(self, frames: int, colour: int | None) -> tuple[int, int]:
        """First fit: first frame and number of consecutive frames of a colour."""
        colours = range(len(self._free)) if colour is None else [self._colour(colour)]
        for candidate in colours:
            free = self._free[candidate]
            filled = np.cumsum(np.concatenate(([0], free)))
            starts = np.flatnonzero(filled[frames:] - filled[:-frames] == frames) if frames < len(filled) else np.zeros(0, int)
            if starts.size:
                free[starts[0]:starts[0] + frames] = False
                return candidate + int(starts[0]) * self.config.colours, frames
        room = max(self.free_frames(candidate) for candidate in colours)
        where = "every colour" if colour is None else f"colour {colour}"
        raise NdaError(f"the operand needs {frames} consecutive frames, {where} has at most {room} free of {len(self._free[0])}")

    @staticmethod
    def _count(name: str, value: int) -> int:
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
            raise NdaError(f"{name} = {value!r} is outside 1..")
        return int(value)


def _zeros(*shape: int) -> np.ndarray:
    return np.zeros((*shape, LANES), np.uint32)


def check(operation: str, allocator: Allocator, *operands: Region) -> None:
    """Operands of one operation: alive, of this memory system and of one colour; vectors of one length and type. Raises NdaError."""
    for region in operands:
        if region.allocator is not allocator:
            raise NdaError(f"{operation}: an operand belongs to another memory system")
        if region.is_freed:
            raise NdaError(f"{operation}: an operand has been freed")
    for name, found in (
        ("colours", [region.colour for region in operands]),
        ("lengths", [region.elements if isinstance(region, Vector) else region.rows for region in operands
                     if isinstance(region, Vector | Matrix)]),
        ("types", [str(region.dtype) if isinstance(region, Vector) else "float32" for region in operands]),
    ):
        if len(set(found)) > 1:
            raise NdaError(f"{operation}: {name} of the operands are {', '.join(map(str, found))}, allowed is one for all")

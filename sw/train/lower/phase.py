"""What all phases of a training step are made of: transfers, tensors that stay on the chip, tiles in turns, constants."""

import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from gen.config import Config
from sw.compiler.errors import CompileError
from sw.compiler.layout import ceil_div, pitch_of, round_up
from sw.compiler.sequencer import Sequencer
from sw.train.lower.memory import Memory, Tensor
from sw.train.lower.vectors import Register, Stream, Vectors

LEAST_SLICES = 8
SET_SLICES = 3          # of the global buffer, that a tile takes at most
MOST_CONSTANTS = 256
Tile = TypeVar("Tile")
Range = tuple[int, int]


@dataclass(frozen=True)
class Place:
    """Where rows of some blocks lie in a slice: `pitch` elements from block to block."""

    slice: int
    address: int
    pitch: int
    wide: bool = False

    def at(self, block: int, row: int = 0) -> Stream:
        """The elements of a block from a row on."""
        return Stream(self.slice, self.address + (block * self.pitch + row) * (1 + self.wide), self.wide)


class Code(Vectors):
    """Writes a program phase by phase. The last slice holds constants and what stays in a phase; the others serve tiles in turns, but for
    those in which tensors stay from phase to phase."""

    def __init__(self, config: Config, memory: Memory):
        if config.buffers.slices < LEAST_SLICES:
            raise CompileError(f"buffers.slices = {config.buffers.slices} is outside {LEAST_SLICES}..16 slices for training")
        if config.array.side < config.beat_words:
            raise CompileError(f"array.side = {config.array.side} is outside {config.beat_words}.. (the words of a beat) for training")
        super().__init__(Sequencer())
        self.config, self.memory = config, memory
        self.staying = config.buffers.slices - 1
        self.residents: dict[Tensor, Place] = {}
        self.without_memory: set[Tensor] = set()        # residents that nobody reads from memory
        self.values: dict[str, np.float32] = {}         # constants in their order
        self.constants = memory.tensor("constants", 1, MOST_CONSTANTS * self._constant_rows(), 2)
        self._free = 0
        self._at_hand: dict[str, Stream] = {}

    # Phases, registers, constants

    def phase(self):
        """Begin a phase: all before it is done, registers and the last slice are free."""
        self.sequencer.barrier()
        self.free_registers()
        self._free, self._at_hand = 0, {}

    def stay(self, elements: int) -> Place:
        """Room for fp32 elements in the last slice, until the phase ends."""
        place = Place(self.staying, self._free, elements, True)
        self._free += round_up(2 * elements, self.config.beat_words)
        if self._free > self.config.buffers.slice_words:
            raise CompileError(f"buffers.slice_words = {self.config.buffers.slice_words} is outside {self._free}..65536 words")
        return place

    def _constant_rows(self) -> int:
        """Elements that a constant takes up: whole beats."""
        return ceil_div(self.config.beat_words, 2)

    def constant(self, value: float | np.floating, name: str | None = None) -> Stream:
        """A constant as a stream of any length. One with a name may be given another value later."""
        number = np.float32(value)
        key = name or struct.pack("<f", number).hex()
        self.values.setdefault(key, number)
        if len(self.values) > MOST_CONSTANTS:
            raise CompileError(f"more than {MOST_CONSTANTS} constants")
        if key not in self._at_hand:
            rows, place = self._constant_rows(), self.stay(self._constant_rows())
            number = list(self.values).index(key) * rows
            self.load(self.constants.part(number, number + rows), place)
            self._at_hand[key] = place.at(0).every(0)
        return self._at_hand[key]

    def in_register(self, value: float | np.floating, name: str | None = None) -> Register:
        """A constant in a register."""
        register = self.register()
        self.vector(1, self.constant(value, name), into=register)
        return register

    # Transfers

    def place(self, tensor: Tensor, free: Iterator[int] | None = None, *, blocks: Range | None = None, rows: Range | None = None,
              apart: bool = False) -> Place:
        """Where rows of some blocks of a tensor are, or will be: a tensor that stays on the chip in its own slice, others in the next free
        one. `apart`: blocks are read together, from different banks."""
        first, stop = rows or (0, tensor.rows)
        if tensor in self.residents:
            home = self.residents[tensor]
            return Place(home.slice, home.address + (home.pitch * (blocks or (0, 0))[0] + first) * (1 + home.wide), home.pitch, home.wide)
        index = next(free, None) if free else None
        if index is None:
            raise CompileError("a phase finds too few free slices of the global buffer")
        return Place(index, 0, pitch_of(self.config, stop - first) if apart else stop - first, tensor.planes == 2)

    def load(self, tensor: Tensor, place: Place, *, blocks: Range | None = None, rows: Range | None = None, block_step: int = 1):
        """Rows first..stop-1 of blocks first, first + block_step, ... below stop to their place, unless they are there."""
        if tensor not in self.residents:
            self._transfer("DmaIn", tensor, place, blocks, rows, block_step)

    def store(self, tensor: Tensor, place: Place, *, blocks: Range | None = None, rows: Range | None = None):
        """The reverse, unless nobody reads them from memory."""
        if tensor not in self.without_memory:
            self._transfer("DmaOut", tensor, place, blocks, rows, 1)

    def _transfer(self, name: str, tensor: Tensor, place: Place, blocks: Range | None, rows: Range | None, block_step: int):
        first, stop = blocks or (0, tensor.blocks)
        row, row_stop = rows or (0, tensor.rows)
        words, beat = (row_stop - row) * tensor.planes, self.config.beat_words
        if words % beat or row * tensor.planes % beat:
            raise CompileError(f"rows {row}..{row_stop - 1} of a tensor are not whole beats of {beat} words")
        self.transfer(name, place.slice, place.address, tensor.at(first, row), words, chunks=ceil_div(stop - first, block_step),
                      memory_stride=block_step * tensor.stride, buffer_stride=place.pitch * tensor.planes)

    def transfer(self, name: str, index: int, address: int, memory: int, words: int, chunks: int = 1, memory_stride: int = 0,
                 buffer_stride: int = 0):
        """DmaIn or DmaOut of pieces of `words` words."""
        reads, writes = ((), (index,)) if name == "DmaIn" else ((index,), ())
        self.sequencer.add(name, reads, writes, slice=index, address=address, memory=memory, chunks=chunks,
                           beats=ceil_div(words, self.config.beat_words), memory_stride=memory_stride, buffer_stride=buffer_stride)

    # Tiles and slices

    @property
    def free_slices(self) -> list[int]:
        """Slices in which nothing stays."""
        taken = {place.slice for place in self.residents.values()}
        return [index for index in range(self.staying) if index not in taken]

    def tiles(self, tiles: Iterable[Tile], load: Callable[[Tile, list[int]], None], compute: Callable[[Tile, list[int]], None],
              store: Callable[[Tile, list[int]], None]):
        """Tile after tile, each in three slices (or all that are left); the next one is loaded while one is computed, if there is room."""
        free = self.free_slices
        sets = [free[:SET_SLICES], free[SET_SLICES:2 * SET_SLICES]]
        if len(sets[1]) < SET_SLICES:
            for tile in tiles:
                for step in (load, compute, store):
                    step(tile, free)
            return
        pending: list[tuple[Tile, list[int]]] = []
        for number, tile in enumerate(tiles):
            load(tile, sets[number % 2])
            for before in pending:
                compute(*before)
                store(*before)
            pending = [(tile, sets[number % 2])]
        for before in pending:
            compute(*before)
            store(*before)

    def pieces(self, total: int, step: int, words: int) -> list[Range]:
        """0..total-1 in pieces whose `words` an item fit a slice, multiples of `step` items but for the last one."""
        most = self.config.buffers.slice_words // words // step * step
        if not most:
            raise CompileError(f"buffers.slice_words = {self.config.buffers.slice_words} is outside {words * step}..65536 words for "
                               f"{step} x {words} words of a tensor")
        even = ceil_div(ceil_div(total, ceil_div(total, most)), step) * step
        return [(start, min(total, start + even)) for start in range(0, total, even)]

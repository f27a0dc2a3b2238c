"""What the instructions do in a group whose array multiplies bf16 numbers and adds fp32 ones, each sum rounded, in the array's order."""

from collections.abc import Iterator
from itertools import islice

import numpy as np

from gen.config import Config
from gen.isa import OPCODES, Instruction, Mode, Output
from sw.model.check import pixels_a_wave
from sw.model.datapath import Datapath
from sw.model.fp32 import added, bits_of, flushed, multiplied, relu, rounded
from sw.model.vector_path import VectorPath

PLACES = 1 << next(item.width for item in OPCODES["LdPixels"].fields if item.name == "column")      # input columns and rows


class FloatDatapath(Datapath):
    """Buffers of one group, with numbers in floating point."""

    OPERAND = np.float32

    def __init__(self, config: Config):
        super().__init__(config)
        self.vectors = VectorPath(self)
        self.pixels: Iterator[tuple[int, bool]] = iter(())      # of the present LdPixels, those not loaded yet

    def vector(self, instruction: Instruction):
        """Vector, VectorLanes or Transpose."""
        steps = {"Vector": self.vectors.vector, "VectorLanes": self.vectors.lanes, "Transpose": self.vectors.transpose}
        steps[instruction.name](instruction)

    def operands(self, instruction: Instruction, words: np.ndarray) -> np.ndarray:
        """Bytes as numbers."""
        halves = np.ascontiguousarray(words).view("<u2").astype(np.uint32)
        return flushed((halves << 16).view(np.float32))

    def load_stationary(self, instruction: Instruction, wave: int):
        """Wave `wave` of an LdLBUF_V or LdPixels into the rings of all cores."""
        if instruction.name != "LdPixels":
            super().load_stationary(instruction, wave)
            return
        values, mode = instruction.values, Mode(instruction.values["mode"])
        if wave == 0:
            self.pixels = pixels(values)
        count = pixels_a_wave(self.config, mode)
        address, inside = (np.array(column) for column in zip(*islice(self.pixels, count)))
        for core in range(self.cores):
            block = core & 1 if self.cores > 1 and mode.wide else 0
            rows = slice(self.side, None) if core > 1 and count > self.side else slice(self.side)
            words = self.operands(instruction, self.words(values["slice"], address[rows] + block * values["pitch"]))
            self.stationary[core, self.write_v % self.config.buffers.stationary_tiles] = np.where(inside[rows, None], words, 0)
        self.write_v += 1

    def through(self, moving: np.ndarray, tile: np.ndarray, above: np.ndarray | None) -> np.ndarray:
        """Row after row of the tile, from the top."""
        for operand, row in zip(moving.T, tile):
            product = multiplied(operand[:, None], row)
            above = product if above is None else added(above, product)
        assert above is not None
        return above

    def accumulate(self, sums: np.ndarray | None, result: np.ndarray) -> np.ndarray:
        """What is overwritten counts as zero."""
        return added(np.zeros_like(result) if sums is None else sums, result)

    def write_tile(self, values: dict[str, int], block: int, address: np.ndarray, total: np.ndarray):
        if values["relu"]:
            total = relu(total)
        if values["output"] == Output.FP32:
            halves = bits_of(total)
            for plane in range(self.config.planes):
                self.put(values["slice"], address + plane, (halves >> 16 * plane).astype("<u2").view(np.uint8))
        else:
            self.put(values["slice"], address, rounded(total).view(np.uint8))


def pixels(values: dict[str, int]) -> Iterator[tuple[int, bool]]:
    """The walk of a LdPixels: of each output pixel the word that holds its input pixel, and whether that lies inside the image."""
    address, column, line = values["address"], values["column"], values["line"]
    while True:
        yield address, 0 <= column < values["in_width"] and 0 <= line < values["in_height"]
        if column != values["last_column"]:
            address, column = address + values["x_step"], _wrapped(column + values["stride"])
        elif line != values["last_line"]:
            address, column, line = address + values["row_step"], values["first_column"], _wrapped(line + values["stride"])
        else:
            address, column, line = address + values["image_step"], values["first_column"], values["first_line"]


def _wrapped(place: int) -> int:
    """An input column or row, modulo its field."""
    return (place + PLACES // 2) % PLACES - PLACES // 2

"""Where the tensors of a training step lie in main memory, and how numpy arrays become their bytes."""

from dataclasses import dataclass, field

import numpy as np

from gen.config import Config
from sw.compiler.errors import CompileError
from sw.compiler.layout import round_up

ALIGNMENT = 64
SPACE = 1 << 32


@dataclass(frozen=True)
class Tensor:
    """Words [blocks][rows][planes] from byte `address` on; a word holds `side` columns of 16 bits. One plane: bf16; two: fp32, lower halves
    first. `block_rows`: rows from block to block, more than `rows` where it is a part of another."""

    address: int
    blocks: int
    rows: int
    planes: int
    word_bytes: int
    block_rows: int

    @property
    def words(self) -> int:
        """Its size."""
        return self.blocks * self.rows * self.planes

    @property
    def elements(self) -> int:
        """Elements of `side` columns."""
        return self.blocks * self.rows

    def at(self, block: int, row: int) -> int:
        """Byte address of a row of a block."""
        return self.address + (block * self.block_rows + row) * self.planes * self.word_bytes

    @property
    def stride(self) -> int:
        """Bytes from block to block."""
        return self.block_rows * self.planes * self.word_bytes

    def part(self, first: int, stop: int) -> "Tensor":
        """Rows first..stop-1 of all blocks."""
        return Tensor(self.at(0, first), self.blocks, stop - first, self.planes, self.word_bytes, self.block_rows)

    def pack(self, values: np.ndarray) -> np.ndarray:
        """Bytes of an array (rows, columns) of float32; what it does not fill is zero."""
        side = self.word_bytes // 2
        whole = np.zeros((self.rows, self.blocks * side), "<f4")
        whole[:values.shape[0], :values.shape[1]] = values
        halves = np.ascontiguousarray(whole.reshape(self.rows, self.blocks, side).transpose(1, 0, 2)).view("<u2")
        planes = halves.reshape(self.blocks, self.rows, side, 2)[..., 2 - self.planes:].transpose(0, 1, 3, 2)
        return np.ascontiguousarray(planes).reshape(-1).view(np.uint8)

    def unpack(self, image: np.ndarray, rows: int, columns: int) -> np.ndarray:
        """The array (rows, columns), float32, out of a memory image."""
        side = self.word_bytes // 2
        data = np.ascontiguousarray(image[self.address:self.address + self.words * self.word_bytes]).view("<u2")
        planes = data.reshape(self.blocks, self.rows, self.planes, side).astype(np.uint32)
        bits = planes[:, :, -1] << np.uint32(16)
        if self.planes == 2:
            bits |= planes[:, :, 0]
        return bits.view(np.float32).transpose(1, 0, 2).reshape(self.rows, -1)[:rows, :columns].copy()


@dataclass
class Memory:
    """Hands out main memory from byte 0 on."""

    config: Config
    end: int = 0
    regions: dict[str, Tensor] = field(default_factory=dict)

    def tensor(self, name: str, blocks: int, rows: int, planes: int = 1) -> Tensor:
        """A new tensor, each block of it at a whole beat."""
        config = self.config
        address = round_up(self.end, max(ALIGNMENT, config.memory.bytes_per_cycle))
        rows = round_up(rows, config.beat_words)
        tensor = Tensor(address, blocks, rows, planes, config.word_bytes, rows)
        self.end = address + tensor.words * config.word_bytes
        if self.end > SPACE:
            raise CompileError(f"the training step needs {self.end} bytes of memory, outside 0..{SPACE} bytes")
        assert name not in self.regions, name
        self.regions[name] = tensor
        return tensor

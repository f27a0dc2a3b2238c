"""What the instructions do in a group whose array multiplies bf16 numbers and adds fp32 ones, each sum rounded, in the array's order."""

import numpy as np

from gen.config import Config
from gen.isa import Instruction, Output
from sw.model.datapath import Datapath
from sw.model.fp32 import added, bits_of, flushed, multiplied, relu, rounded
from sw.model.vector_path import VectorPath


class FloatDatapath(Datapath):
    """Buffers of one group, with numbers in floating point."""

    OPERAND = np.float32

    def __init__(self, config: Config):
        super().__init__(config)
        self.vectors = VectorPath(self)

    def vector(self, instruction: Instruction):
        """Vector, VectorLanes or Transpose."""
        steps = {"Vector": self.vectors.vector, "VectorLanes": self.vectors.lanes, "Transpose": self.vectors.transpose}
        steps[instruction.name](instruction)

    def operands(self, instruction: Instruction, words: np.ndarray) -> np.ndarray:
        """Bytes as numbers."""
        halves = np.ascontiguousarray(words).view("<u2").astype(np.uint32)
        return flushed((halves << 16).view(np.float32))

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

"""Packing between numpy matrices and bytes in main memory (`rtl/README.md`, "Data in memory"). All byte arrays are flat and uint8."""

import numpy as np

from gen.config import Config
from sw.model.ideal import ceil_div

WIDE = {"int32": "<i4", "fp32": "<f4"}      # results as wide as sums
PARAMETER_WORDS = 8     # a column block's int32 biases and fp32 multipliers, byte plane by byte plane


def round_up(value: int, step: int) -> int:
    """Next multiple of `step`."""
    return -(-value // step) * step


def blocks_of(config: Config, count: int) -> int:
    """Blocks of `side` that cover `count` rows or columns."""
    return ceil_div(count, config.array.side)


def padded_rows(config: Config, rows: int) -> int:
    """Rows of a block in memory: padded so that every block starts at a beat."""
    return round_up(rows, config.beat_words)


def pitch_of(config: Config, rows: int) -> int:
    """Words from one channel block of a moving operand to the next in a slice: blocks that are read together lie in different banks."""
    span = padded_rows(config, rows)
    return span + (2 - span) % 4


def padded_bytes(config: Config, size: int) -> int:
    """A size in bytes, padded to whole beats."""
    return round_up(size, config.memory.bytes_per_cycle)


def encoded(config: Config, values: np.ndarray) -> np.ndarray:
    """Operands as they lie in memory, an unsigned number each: int8 and uint8 as bytes, bf16 numbers (float32) as the upper halves."""
    if config.floating:
        return (np.ascontiguousarray(values, "<f4").view("<u4") >> 16).astype("<u2")
    return values.astype(np.uint8)


def decoded(config: Config, data: np.ndarray) -> np.ndarray:
    """Bytes of memory as one unsigned number an operand."""
    return np.ascontiguousarray(data, np.uint8).view("<u2") if config.floating else np.asarray(data, np.uint8)


def pack_moving(config: Config, a: np.ndarray) -> np.ndarray:
    """An M x K matrix of int8, uint8 or (float32) bf16, channel-blocked: [ceil(K/S)][padded rows][S]."""
    side, (m, k), values = config.array.side, a.shape, encoded(config, a)
    blocks = blocks_of(config, k)
    image = np.zeros((padded_rows(config, m), blocks * side), values.dtype)
    image[:m, :k] = values
    return image.reshape(-1, blocks, side).transpose(1, 0, 2).reshape(-1).view(np.uint8)


def unpack_moving(config: Config, data: np.ndarray, m: int, n: int, dtype: str = "uint8") -> np.ndarray:
    """The reverse of `pack_moving`; also reads results of operands' width, which have the same layout."""
    side, blocks = config.array.side, blocks_of(config, n)
    image = decoded(config, data[:blocks * padded_rows(config, m) * config.word_bytes]).reshape(blocks, -1, side)
    values = np.ascontiguousarray(image.transpose(1, 0, 2).reshape(-1, blocks * side)[:m, :n])
    return (values.astype("<u4") << 16).view("<f4") if config.floating else values.view(dtype)


def pack_stationary(config: Config, b: np.ndarray, zero_point: int = 0) -> np.ndarray:
    """A K x N matrix as its tiles in the order of use: n tile by n tile, the remainder of k (its tail) first, then k ascending.

    A tile's row i holds one word for each distinct core tile. Rows and columns beyond the matrix hold the zero point. Ends at a whole beat.
    A convolution's kernel, taps x K x N, has its tiles of one and the same k behind each other, position after position.
    """
    b = b if b.ndim == 3 else b[None]
    side, (taps, k, n), reach = config.array.side, b.shape, config.tile // config.array.side
    k_blocks, n_blocks = blocks_of(config, k), blocks_of(config, n)
    values = encoded(config, b)
    grid = np.full((taps, k_blocks * side, n_blocks * side), zero_point, np.int16).astype(values.dtype)
    grid[:, :k, :n] = values
    grid = grid.reshape(taps, k_blocks, side, n_blocks, side)
    full = k // config.tile * reach

    def tiles(columns: np.ndarray, width: int) -> np.ndarray:
        """All n tiles of `width` blocks: [n tile][bytes]."""
        parts, count = [], columns.shape[3] // width
        for part, depth in ((columns[:, full:], k_blocks - full), (columns[:, :full], reach)):
            if part.size:
                waves = part.reshape(taps, -1, depth, side, count, width, side)     # tap, wave, k block, i, n tile, n block, column
                parts.append(waves.transpose(4, 1, 0, 3, 2, 5, 6).reshape(count, -1))
        return np.concatenate(parts, axis=1).reshape(-1)

    whole = n_blocks // reach * reach
    pieces = [tiles(columns, width) for columns, width in ((grid[..., :whole, :], reach), (grid[..., whole:, :], 1)) if columns.size]
    image = np.concatenate(pieces).view(np.uint8)
    return np.pad(image, (0, padded_bytes(config, image.size) - image.size))


def stationary_bytes(config: Config, k: int, n: int, taps: int = 1) -> int:
    """Bytes that `pack_stationary` returns."""
    return padded_bytes(config, taps * blocks_of(config, k) * blocks_of(config, n) * config.array.side * config.word_bytes)


def pack_parameters(config: Config, bias: np.ndarray, multiplier: np.ndarray) -> np.ndarray:
    """Column parameters of LdScale: for each column block, word j holds byte j of every column's (int32 bias, fp32 multiplier)."""
    side, n = config.array.side, len(bias)
    records = np.zeros((blocks_of(config, n) * side, PARAMETER_WORDS), np.uint8)
    records[:n, :4] = np.ascontiguousarray(bias, "<i4").view(np.uint8).reshape(n, 4)
    records[:n, 4:] = np.ascontiguousarray(multiplier, "<f4").view(np.uint8).reshape(n, 4)
    image = records.reshape(-1, side, PARAMETER_WORDS).transpose(0, 2, 1).reshape(-1)
    return np.pad(image, (0, padded_bytes(config, image.size) - image.size))


def unpack_result(config: Config, data: np.ndarray, m: int, n: int, output: str) -> np.ndarray:
    """The M x N result: int32 or fp32 from planes [ceil(N/S)][padded rows][planes][S], others in the layout of a moving operand."""
    if output not in WIDE:
        return unpack_moving(config, data, m, n, output)
    side, blocks, rows, count = config.array.side, blocks_of(config, n), padded_rows(config, m), config.planes
    planes = decoded(config, data[:blocks * rows * count * config.word_bytes]).reshape(blocks, rows, count, side)
    values = np.ascontiguousarray(planes.transpose(1, 0, 3, 2)).view(WIDE[output]).reshape(rows, blocks * side)
    return values[:m, :n].astype(output.replace("fp", "float"))

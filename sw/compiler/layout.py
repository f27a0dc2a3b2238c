"""Packing between numpy matrices and bytes in main memory (`rtl/README.md`, "Data in memory"). All byte arrays are flat and uint8."""

import numpy as np

from gen.config import Config
from sw.model.ideal import ceil_div

INT32_BYTES = 4
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


def pack_moving(config: Config, a: np.ndarray) -> np.ndarray:
    """An M x K matrix of int8 or uint8, channel-blocked: [ceil(K/S)][padded rows][S]."""
    side, (m, k) = config.array.side, a.shape
    blocks = blocks_of(config, k)
    image = np.zeros((padded_rows(config, m), blocks * side), np.uint8)
    image[:m, :k] = a.astype(np.uint8)
    return image.reshape(-1, blocks, side).transpose(1, 0, 2).reshape(-1)


def unpack_moving(config: Config, data: np.ndarray, m: int, n: int, dtype: str = "uint8") -> np.ndarray:
    """The reverse of `pack_moving`; also reads 8-bit results, which have the same layout."""
    side, blocks = config.array.side, blocks_of(config, n)
    image = np.asarray(data, np.uint8)[:blocks * padded_rows(config, m) * side].reshape(blocks, -1, side)
    return np.ascontiguousarray(image.transpose(1, 0, 2).reshape(-1, blocks * side)[:m, :n]).view(dtype)


def pack_stationary(config: Config, b: np.ndarray, zero_point: int = 0) -> np.ndarray:
    """A K x N matrix as its tiles in the order of use: n tile by n tile, the remainder of k (its tail) first, then k ascending.

    A tile's row i holds one word for each distinct core tile. Rows and columns beyond the matrix hold the zero point. Ends at a whole beat.
    A convolution's kernel, taps x K x N, has its tiles of one and the same k behind each other, position after position.
    """
    b = b if b.ndim == 3 else b[None]
    side, (taps, k, n), reach = config.array.side, b.shape, config.tile // config.array.side
    k_blocks, n_blocks = blocks_of(config, k), blocks_of(config, n)
    grid = np.full((taps, k_blocks * side, n_blocks * side), zero_point, np.int16).astype(np.uint8)
    grid[:, :k, :n] = b.astype(np.uint8)
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
    image = np.concatenate(pieces)
    return np.pad(image, (0, padded_bytes(config, image.size) - image.size))


def stationary_bytes(config: Config, k: int, n: int, taps: int = 1) -> int:
    """Bytes that `pack_stationary` returns."""
    return padded_bytes(config, taps * blocks_of(config, k) * blocks_of(config, n) * config.array.side**2)


def pack_parameters(config: Config, bias: np.ndarray, multiplier: np.ndarray) -> np.ndarray:
    """Column parameters of LdScale: for each column block, word j holds byte j of every column's (int32 bias, fp32 multiplier)."""
    side, n = config.array.side, len(bias)
    records = np.zeros((blocks_of(config, n) * side, PARAMETER_WORDS), np.uint8)
    records[:n, :4] = np.ascontiguousarray(bias, "<i4").view(np.uint8).reshape(n, 4)
    records[:n, 4:] = np.ascontiguousarray(multiplier, "<f4").view(np.uint8).reshape(n, 4)
    image = records.reshape(-1, side, PARAMETER_WORDS).transpose(0, 2, 1).reshape(-1)
    return np.pad(image, (0, padded_bytes(config, image.size) - image.size))


def unpack_result(config: Config, data: np.ndarray, m: int, n: int, output: str) -> np.ndarray:
    """The M x N result: int32 from byte planes [ceil(N/S)][padded rows][4][S], or int8/uint8 in the layout of a moving operand."""
    if output != "int32":
        return unpack_moving(config, data, m, n, output)
    side, blocks, rows = config.array.side, blocks_of(config, n), padded_rows(config, m)
    planes = np.asarray(data, np.uint8)[:blocks * rows * INT32_BYTES * side].reshape(blocks, rows, INT32_BYTES, side)
    values = np.ascontiguousarray(planes.transpose(1, 0, 3, 2)).view("<i4").reshape(rows, blocks * side)
    return values[:m, :n].astype(np.int32)

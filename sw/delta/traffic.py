"""DeLTA's traffic: bytes of a forward convolution between registers and L1, L1 and L2, L2 and DRAM of a GPU.

The convolution runs as an implicit GEMM with M = B * out_height * out_width, N = out channels, K = channels * R * S, in CTA tiles. Elements
are fp32. L1's formulas are the paper's as far as they are known (`MLI`: memory load inefficiency, bytes moved per byte used); L2's counts
the different elements of each tile exactly (`sw.delta.footprint`), where the paper has a closed form that falls short of them.
"""

from dataclasses import dataclass
from math import ceil, prod

from sw.delta.footprint import distinct_elements
from sw.workloads.network import Conv

ELEMENT_BYTES = 4
SECTOR_ELEMENTS = 8     # of the unit that a cache moves


@dataclass(frozen=True)
class CtaTile:
    """Rows, columns and depth that a cooperative thread array computes in a step of its main loop."""

    m: int
    n: int
    k: int


TILES = (CtaTile(128, 32, 4), CtaTile(128, 64, 4), CtaTile(128, 128, 8))


def tile_for(out_channels: int) -> CtaTile:
    """The narrowest tile that covers the output channels, or the widest."""
    return next((tile for tile in TILES if tile.n >= out_channels), TILES[-1])


def input_inefficiency(layer: Conv) -> float:
    """MLI of the input: columns of the im2col matrix are contiguous but for the ends of image rows and for the stride."""
    padded = layer.source[2] + layer.padding[1] + layer.padding[3]
    return padded * layer.stride[1] / (padded - layer.kernel[1] + 1)


def filter_inefficiency(tile: CtaTile) -> float:
    """MLI of the filter: a run of `tile.k` elements at any alignment touches one sector more than it fills, but for one element."""
    return (SECTOR_ELEMENTS - 1 + tile.k) / tile.k


@dataclass(frozen=True)
class Traffic:
    """Bytes that a layer moves, by level, and how it is cut up."""

    l1: float
    l2: float
    dram: float
    tile: CtaTile
    ctas: int
    steps: int      # of the main loop


def traffic(layer: Conv, batch: int, tile: CtaTile | None = None) -> Traffic:
    """A layer's forward pass for `batch` samples. Grouped convolutions are as many small ones, side by side along N."""
    tile = tile or tile_for(layer.shape[0] // layer.groups)
    part = layer if layer.groups == 1 else Conv(
        name=layer.name, inputs=layer.inputs, source=(layer.source[0] // layer.groups, *layer.source[1:]),
        shape=(layer.shape[0] // layer.groups, *layer.shape[1:]), kernel=layer.kernel, stride=layer.stride, padding=layer.padding)
    m, n, k = batch * prod(part.shape[1:]), part.shape[0], part.source[0] * prod(part.kernel)
    m_tiles, n_tiles = ceil(m / tile.m), ceil(n / tile.n)
    l1 = m * k * input_inefficiency(part) * n_tiles + n * k * filter_inefficiency(tile) * m_tiles
    l2 = distinct_elements(part, batch, rows=tile.m, depth=tile.k) * n_tiles + n * k * m_tiles
    # The filter's column stays in L2 while all rows pass; the input comes again for each column of tiles.
    dram = batch * touched(part) * n_tiles + n * k
    scale = ELEMENT_BYTES * layer.groups
    return Traffic(scale * l1, scale * l2, scale * dram, tile, layer.groups * m_tiles * n_tiles, ceil(k / tile.k))


def touched(layer: Conv) -> int:
    """Input elements of a sample that the kernel reaches at all: with a stride beyond the kernel not every row and column."""
    def reached(size: int, made: int, kernel: int, stride: int, before: int) -> int:
        return len({at for out in range(made) for at in range(out * stride - before, out * stride - before + kernel) if 0 <= at < size})

    return layer.source[0] * prod(
        reached(size, made, kernel, stride, before) for size, made, kernel, stride, before in
        zip(layer.source[1:], layer.shape[1:], layer.kernel, layer.stride, layer.padding))

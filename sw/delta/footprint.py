"""How many different input elements the tiles of an implicit GEMM touch, counted exactly.

Row m = (b * out_height + y) * out_width + x of the im2col matrix, column k = (c * R + fy) * S + fx; a tile is `rows` consecutive m times
`depth` consecutive k. It touches the elements (b, c, y * stride + fy - top, x * stride + fx - left). An element counts where the first row
of the tile touches it: where no earlier row does so with another tap of the kernel, or that row lies `gap` rows before, in another tile.
"""

from collections import Counter
from math import gcd, prod

import numpy as np

from sw.workloads.network import Conv


def distinct_elements(layer: Conv, batch: int, *, rows: int, depth: int, padding: bool = False) -> int:
    """Different elements of each tile, summed over all tiles of the layer. `padding`: count the zeros around the image, too.

    `layer` without groups.
    """
    pixels = prod(layer.shape[1:])
    period = rows // gcd(rows, pixels)      # images after which the tiles lie at the same pixels again
    images = np.arange(min(period, batch))
    often = (batch - images + period - 1) // period
    place = (images[:, None] * pixels + np.arange(pixels)) % rows       # of each row in its tile
    return sum(times * sum(int(often @ (place < _gap(layer, tap, span, padding)).sum(axis=1)) for tap in span)
               for span, times in _spans(layer, depth).items())


def _spans(layer: Conv, depth: int) -> Counter[range]:
    """The taps of one channel's kernel that a tile has, and how many tiles have them."""
    spans, size, end = Counter(), prod(layer.kernel), layer.source[0] * prod(layer.kernel)
    for first in range(0, end, depth):
        last = min(first + depth, end)
        while first < last:
            stop = min(last, (first // size + 1) * size)
            spans[range(first % size, first % size + stop - first)] += 1
            first = stop
    return spans


def _gap(layer: Conv, tap: int, span: range, padding: bool) -> np.ndarray:
    """For each output pixel: how many rows before it the last one is that touches the same element with another tap of the span.

    More than there are where none does; 0 where the element is padding that is not to count.
    """
    (_, height, width), (_, out_height, out_width), (top, left, *_) = layer.source, layer.shape, layer.padding
    y, x = (pixel.reshape(-1) for pixel in np.mgrid[:out_height, :out_width])
    row, column = divmod(tap, layer.kernel[1])
    gap = np.full(out_height * out_width, np.iinfo(np.int64).max)
    for other in span:
        other_row, other_column = divmod(other, layer.kernel[1])
        down, skewed_y = divmod(row - other_row, layer.stride[0])
        right, skewed_x = divmod(column - other_column, layer.stride[1])
        before = -(down * out_width + right)
        if before > 0 and not skewed_y and not skewed_x:
            there = (y + down >= 0) & (y + down < out_height) & (x + right >= 0) & (x + right < out_width)
            gap = np.where(there, np.minimum(gap, before), gap)
    in_y, in_x = y * layer.stride[0] + row - top, x * layer.stride[1] + column - left
    inside = (in_y >= 0) & (in_y < height) & (in_x >= 0) & (in_x < width)
    return gap if padding else np.where(inside, gap, 0)


def raw_elements(layer: Conv, batch: int) -> int:
    """Elements of the im2col matrix, padding included."""
    return batch * prod(layer.shape[1:]) * layer.source[0] * prod(layer.kernel)

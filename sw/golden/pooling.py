"""Golden pooling: NHWC images, int8 or uint8, and the addition of a residual to 8-bit results."""

import numpy as np

from sw.golden.requantise import requantise

FRACTION_BITS = 24      # of the multipliers of an addition


def _windows(x: np.ndarray, kernel: tuple[int, int], stride: int, pad: tuple[int, int, int, int]):
    """Output positions with the part of the image under each window."""
    (height, width), (top, left, bottom, right) = x.shape[1:3], pad
    for y in range((height + top + bottom - kernel[0]) // stride + 1):
        for column in range((width + left + right - kernel[1]) // stride + 1):
            first, start = y * stride - top, column * stride - left
            yield y, column, x[:, max(first, 0):first + kernel[0], max(start, 0):start + kernel[1]]


def _empty(x: np.ndarray, kernel: tuple[int, int], stride: int, pad: tuple[int, int, int, int], dtype) -> np.ndarray:
    batch, height, width, channels = x.shape
    shape = ((height + pad[0] + pad[2] - kernel[0]) // stride + 1, (width + pad[1] + pad[3] - kernel[1]) // stride + 1)
    return np.zeros((batch, *shape, channels), dtype)


def max_pool(x: np.ndarray, *, kernel: tuple[int, int], stride: int = 1, pad: tuple[int, int, int, int] = (0, 0, 0, 0)) -> np.ndarray:
    """The largest operand of each window, padding left out."""
    result = _empty(x, kernel, stride, pad, x.dtype)
    for y, column, part in _windows(x, kernel, stride, pad):
        result[:, y, column] = part.max(axis=(1, 2))
    return result


def average_pool(x: np.ndarray, *, kernel: tuple[int, int], stride: int = 1, pad: tuple[int, int, int, int] = (0, 0, 0, 0),
                 zero_point: int = 0, multiplier: float = 1.0, output_zero_point: int = 0, dtype: str = "int8",
                 count_padding: bool = False) -> np.ndarray:
    """round_half_even((sum of (x - zero_point)) * m) + output_zero_point, saturated, where m is float32(multiplier / pixels): those of the
    window in the image, or with `count_padding` all of them."""
    result = _empty(x, kernel, stride, pad, dtype)
    for y, column, part in _windows(x, kernel, stride, pad):
        pixels = part.shape[1] * part.shape[2]
        scale = float(np.float32(multiplier / (kernel[0] * kernel[1] if count_padding else pixels)))
        sums = part.astype(np.int64).sum(axis=(1, 2)) - zero_point * pixels
        result[:, y, column] = requantise(sums, 0, scale, output_zero_point, dtype)
    return result


def add_residual(own: np.ndarray, residual: np.ndarray, *, multiplier: int, residual_multiplier: int, own_zero_point: int = 0,
                 residual_zero_point: int = 0, zero_point: int = 0, relu: bool = False) -> np.ndarray:
    """((own - own_zero_point) * multiplier + (residual - residual_zero_point) * residual_multiplier) / 2^24, rounded once (half to even),
    clipped at zero with `relu`, plus zero_point, saturated to the type of `own`."""
    total = (own.astype(np.int64) - own_zero_point) * multiplier + (residual.astype(np.int64) - residual_zero_point) * residual_multiplier
    # Halves are exact in float64, whose rint rounds them to even; the rest is below 2^36 and so exact too.
    rounded = np.rint(total / float(1 << FRACTION_BITS)).astype(np.int64)
    limits = np.iinfo(own.dtype)
    return np.clip((np.maximum(rounded, 0) if relu else rounded) + zero_point, limits.min, limits.max).astype(own.dtype)

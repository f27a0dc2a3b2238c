"""Golden matrix products of bf16 numbers with fp32 sums, added in the order of the array."""

from collections.abc import Callable, Iterable

import numpy as np

from sw.golden.float32 import add, multiply


def wave(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a (m x k) x b (k x n) as a wave computes it: ((p0 + p1) + p2) + ..., from the first row of b to the last, each sum rounded to fp32.

    Operands are float32 with the values of bf16 numbers; subnormal numbers and NaNs as in `sw.golden.float32`.
    """
    total = multiply(a[:, :1], b[:1])
    for k in range(1, a.shape[1]):
        total = add(total, multiply(a[:, k:k + 1], b[k:k + 1]))
    return total


def matmul(a: np.ndarray, b: np.ndarray, waves: Iterable[slice]) -> np.ndarray:
    """a x b, cut along k into waves in the order of their use: (0 + w0) + w1 + ..., each sum rounded to fp32."""
    total = np.zeros((a.shape[0], b.shape[1]), np.float32)
    for part in waves:
        total = accumulate(total, a[:, part], b[part])
    return total


def waves_of(k: int, tile: int) -> list[slice]:
    """k in waves of `tile` rows (both sides of a FlexSA unit, one side of a single core), in the order of their use: what `tile` does not
    divide, the end of k, first; then ascending."""
    whole = k // tile * tile
    return [slice(whole, k)] * (whole < k) + [slice(first, first + tile) for first in range(0, whole, tile)]


def accumulate(total: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The sums `total` with one more wave."""
    return add(total, wave(a, b))


def conv2d(x: np.ndarray, w: np.ndarray, tile: int, *, stride: int = 1, pad: tuple[int, int, int, int] = (0, 0, 0, 0),
           accumulate: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray] = accumulate) -> np.ndarray:
    """Convolution of images (batch, height, width, channels) with a kernel (height, width, channels, outputs); `pad` is (top, left,
    bottom, right). Each wave along the channels runs at every position of the kernel, line by line, before the next one does."""
    top, left, bottom, right = pad
    image = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)))
    batch, height, width, channels = image.shape
    kernel_height, kernel_width, _, outputs = w.shape
    size = (height - kernel_height) // stride + 1, (width - kernel_width) // stride + 1
    total = np.zeros((batch * size[0] * size[1], outputs), np.float32)
    for part in waves_of(channels, tile):
        for ky in range(kernel_height):
            for kx in range(kernel_width):
                pixels = image[:, ky:ky + stride * size[0]:stride, kx:kx + stride * size[1]:stride, part][:, :size[0], :size[1]]
                total = accumulate(total, pixels.reshape(len(total), -1), w[ky, kx, part])
    return total.reshape(batch, *size, outputs)

"""Golden bf16 products, compiled: what `sw.golden.bfloat16` computes, in its order, for whole training runs."""

from collections.abc import Sequence
from functools import partial

import numpy as np
from numba import njit

from sw.golden import bfloat16
from sw.golden.float32 import CANONICAL_NAN

TINY = np.float32(np.finfo(np.float32).tiny)


@njit(cache=True)
def _sums(a, b, starts, stops, total):
    """Adds a x b to `total`, wave after wave; no subnormal number in, between or out."""
    zero = np.float32(0)
    wave = np.empty(b.shape[1], np.float32)
    for row in range(a.shape[0]):
        for start, stop in zip(starts, stops):
            for k in range(start, stop):
                factor = a[row, k]
                if abs(factor) < TINY:
                    factor = np.copysign(zero, factor)
                for column in range(b.shape[1]):
                    other = b[k, column]
                    if abs(other) < TINY:
                        other = np.copysign(zero, other)
                    product = factor * other
                    if abs(product) < TINY:
                        product = np.copysign(zero, product)
                    if k > start:
                        product = wave[column] + product
                        if abs(product) < TINY:
                            product = np.copysign(zero, product)
                    wave[column] = product
            for column in range(b.shape[1]):
                value = total[row, column] + wave[column]
                if abs(value) < TINY:
                    value = np.copysign(zero, value)
                total[row, column] = value


def accumulate(total: np.ndarray, a: np.ndarray, b: np.ndarray, waves: Sequence[slice] | None = None) -> np.ndarray:
    """`total` (fp32, m x n, changed in place) plus a x b: bf16 numbers as float32, k in waves, or all of it in one."""
    waves = waves or [slice(0, len(b))]
    starts, stops = (np.array([getattr(part, name) for part in waves], np.int64) for name in ("start", "stop"))
    _sums(np.ascontiguousarray(a), np.ascontiguousarray(b), starts, stops, total)
    total[np.isnan(total)] = np.uint32(CANONICAL_NAN).view(np.float32)
    return total


def matmul(a: np.ndarray, b: np.ndarray, tile: int) -> np.ndarray:
    """a x b on an array whose waves have at most `tile` rows."""
    return accumulate(np.zeros((a.shape[0], b.shape[1]), np.float32), a, b, bfloat16.waves_of(a.shape[1], tile))


conv2d = partial(bfloat16.conv2d, accumulate=accumulate)

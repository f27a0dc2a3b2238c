"""Golden matrix products of bf16 numbers with fp32 sums, added in the order of the array."""

from collections.abc import Iterable

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
        total = add(total, wave(a[:, part], b[part]))
    return total

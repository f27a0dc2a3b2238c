"""Random bf16 products and convolutions, with their operands: ordinary numbers, and now and then the special ones."""

import numpy as np

from gen.config import Config
from sw.compiler.tiling import FLOAT, Gemm
from sw.compiler.window import Window
from sw.golden.float32 import narrow
from sw.runtime.product import Work

SPECIAL = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e-39, -1e-39, 3e38, -3e38, 1.2e-38], np.float32)


def numbers(rng: np.random.Generator, shape: tuple[int, ...], special: float) -> np.ndarray:
    """bf16 numbers of many sizes as float32; of them the fraction `special` is special."""
    values = rng.standard_normal(shape, np.float32) * np.float32(2) ** rng.integers(-8, 9, shape).astype(np.float32)
    return narrow(np.where(rng.random(shape) < special, rng.choice(SPECIAL, shape), values))


def random_float_product(rng: np.random.Generator, config: Config) -> Work:
    """A matrix product; one in three with special numbers."""
    side = config.array.side
    m, n, k = (int(size) for size in rng.integers(1, (8 * side + 8, 4 * side + 4, 6 * side + 4)))
    special = float(rng.choice([0, 0, 0.02]))
    return Work(Gemm(m=m, n=n, k=k, **_kinds(rng)), {"a": numbers(rng, (m, k), special), "b": numbers(rng, (k, n), special)})


def random_float_convolution(rng: np.random.Generator, config: Config) -> Work:
    """A convolution with padding and stride, of ordinary numbers."""
    kernel, stride = int(rng.choice([1, 2, 3])), int(rng.integers(1, 3))
    top, left, bottom, right = (int(pad) for pad in rng.integers(0, kernel, 4))
    window = Window(images=int(rng.integers(1, 3)), height=int(rng.integers(3, 7)), width=int(rng.integers(4, 8)), kernel=(kernel, kernel),
                    stride=stride, padding=(top, left, bottom, right))
    k, n = (int(size) for size in rng.integers(1, 3 * config.array.side + 2, 2))
    return Work(Gemm(m=window.rows, n=n, k=k, window=window, **_kinds(rng)),
                {"a": numbers(rng, (window.images, window.height, window.width, k), 0), "b": numbers(rng, (kernel, kernel, k, n), 0)})


def _kinds(rng: np.random.Generator) -> dict:
    return {"a_dtype": FLOAT, "b_dtype": FLOAT, "output": str(rng.choice(["fp32", "bf16"])), "relu": bool(rng.integers(2))}

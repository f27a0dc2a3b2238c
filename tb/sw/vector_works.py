"""Random poolings, products and convolutions with residuals, and their operands."""

import numpy as np

from gen.config import Config
from sw.compiler import Addition, Gemm, Pooling, Window
from sw.runtime.product import Work

TYPES = ("int8", "uint8")


def numbers(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """Any 8-bit numbers."""
    limits = np.iinfo(dtype)
    return rng.integers(limits.min, limits.max + 1, shape).astype(dtype)


def random_zero_point(rng: np.random.Generator, dtype: str) -> int:
    limits = np.iinfo(dtype)
    return int(rng.integers(limits.min, limits.max + 1))


def random_addition(rng: np.random.Generator, output: str, zero_point: int) -> Addition:
    """Scales about 1, halves (so that there are ties) and extremes."""
    def multiplier() -> int:
        special = {0: 1 << 23, 1: 1 << 24, 2: 1 << 23, 3: 1 << 24, 4: 0, 5: (1 << 26) - 1}
        return special.get(int(rng.integers(12)), int(rng.integers(1 << 22, 1 << 25)))

    dtype = str(rng.choice(TYPES))
    return Addition(multiplier=multiplier(), residual_multiplier=multiplier(), own_zero_point=zero_point,
                    residual_zero_point=random_zero_point(rng, dtype), zero_point=random_zero_point(rng, output), dtype=dtype,
                    relu=bool(rng.integers(2)))


def random_pooling(rng: np.random.Generator, config: Config) -> Work:
    """Windows up to 4 x 4 with any padding and stride, or over the whole image; one or two images."""
    height, width = (int(size) for size in rng.integers(1, 14, 2))
    kernel = int(rng.integers(1, min(4, height) + 1)), int(rng.integers(1, min(4, width) + 1))
    if height * width <= config.vector.window and rng.random() < 0.2:
        kernel = height, width
    window = Window(images=int(rng.integers(1, 3)), height=height, width=width, kernel=kernel, stride=int(rng.integers(1, 4)),
                    padding=tuple(int(rng.integers(0, min(size, 4))) for size in (*kernel, *kernel)))  # type: ignore[arg-type]
    kind, dtype = str(rng.choice(["max", "average"])), str(rng.choice(TYPES))
    zero_point = random_zero_point(rng, dtype)
    output, output_zero_point = dtype, zero_point
    if kind == "average":
        output = str(rng.choice(TYPES))
        output_zero_point = random_zero_point(rng, output)
    addition = random_addition(rng, output, output_zero_point) if rng.random() < 0.4 else None
    pooling = Pooling(
        window=window, channels=int(rng.integers(1, 3 * config.array.side + 2)), kind=kind, dtype=dtype, zero_point=zero_point,
        output=output, output_zero_point=output_zero_point, multiplier=float(rng.uniform(0.3, 2)), count_padding=bool(rng.integers(2)),
        addition=addition)
    operands = {"a": numbers(rng, (window.images, height, width, pooling.channels), dtype)}
    if addition:
        operands["residual"] = numbers(rng, (window.images, window.out_height, window.out_width, pooling.channels), addition.dtype)
    return Work(pooling, operands)


def random_sum(rng: np.random.Generator, config: Config) -> Work:
    """A product, or a convolution of 3 x 3, whose 8-bit results take a residual."""
    side, output = config.array.side, str(rng.choice(TYPES))
    k, n = (int(size) for size in rng.integers(1, 5 * side + 1, 2))
    window, m = None, int(rng.integers(1, 12 * side))
    if rng.random() < 0.4:
        window = Window(height=int(rng.integers(2, 9)), width=int(rng.integers(2, 9)), kernel=(3, 3), padding=(1, 1, 1, 1))
        m = window.rows
    zero_point = random_zero_point(rng, output)
    addition = random_addition(rng, output, zero_point)
    product = Gemm(m=m, n=n, k=k, output=output, output_zero_point=zero_point, relu=bool(rng.integers(2)), window=window, addition=addition)
    a = (m, k) if window is None else (1, window.height, window.width, k)
    b, rows = ((k, n), (m,)) if window is None else ((3, 3, k, n), (1, window.out_height, window.out_width))
    spread = 1 / (70 * np.sqrt(k * product.taps))
    return Work(product, {
        "a": numbers(rng, a, "int8"), "b": numbers(rng, b, "int8"), "bias": rng.integers(-500, 500, n).astype(np.int32),
        "multiplier": rng.uniform(spread / 4, spread, n).astype(np.float32), "residual": numbers(rng, (*rows, n), addition.dtype)})

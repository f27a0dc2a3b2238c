"""Golden models against slow references: loops of Python integers and rational arithmetic."""

from fractions import Fraction

import numpy as np
import pytest

from sw.golden.conv import conv2d
from sw.golden.gemm import gemm, wrap
from sw.golden.requantise import add_bias, requantise


def wrapped(value: int) -> int:
    return (value + 2**31) % 2**32 - 2**31


def slow_requantise(total: int, bias: int, multiplier: float, zero_point: int, dtype, relu: bool) -> int:
    result = round(Fraction(wrapped(total + bias)) * Fraction(multiplier)) + zero_point   # Python rounds halves to even
    result = max(result, zero_point) if relu else result
    return min(max(result, np.iinfo(dtype).min), np.iinfo(dtype).max)


def operands(rng: np.random.Generator, dtype, shape) -> np.ndarray:
    limits = np.iinfo(dtype)
    return rng.integers(limits.min, limits.max + 1, shape).astype(dtype)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("dtypes", [(np.int8, np.int8), (np.uint8, np.int8), (np.uint8, np.uint8)])
def test_gemm(seed, dtypes):
    print(f"seed {seed}")
    rng = np.random.default_rng(seed)
    rows, depth, columns = (int(size) for size in rng.integers(1, 9, 3))
    a, b = operands(rng, dtypes[0], (rows, depth)), operands(rng, dtypes[1], (depth, columns))
    zero_a, zero_b = (int(operands(rng, dtype, ())) for dtype in dtypes)
    expected = [[wrapped(sum((x - zero_a) * (y - zero_b) for x, y in zip(row, column, strict=True)))
                 for column in b.T.tolist()] for row in a.tolist()]
    result = gemm(a, b, a_zero_point=zero_a, b_zero_point=zero_b)
    assert result.dtype == np.int32
    assert result.tolist() == expected


def test_gemm_sizes_and_wrapping():
    assert gemm(np.zeros((3, 0), np.int8), np.zeros((0, 2), np.uint8)).tolist() == [[0, 0]] * 3
    assert gemm(np.zeros((0, 3), np.int8), np.zeros((3, 2), np.int8)).shape == (0, 2)
    depth = 40_000      # 40,000 * 255 * 255 passes 2^31
    assert gemm(np.full((1, depth), 255, np.uint8), np.full((depth, 1), 255, np.uint8)).item() == wrapped(depth * 255 * 255) < 0
    assert wrap(np.array([2**31, -2**31 - 1, 2**32 + 5, -1.0])).tolist() == [-2**31, 2**31 - 1, 5, -1]


@pytest.mark.parametrize("arguments,text", [
    ((np.zeros((2, 2)), np.zeros((2, 2), np.int8), 0, 0), "a has type float64"),
    ((np.zeros((2, 2), np.int8), np.zeros((3, 2), np.int8), 0, 0), "not (M, K) and (K, N)"),
    ((np.zeros((2, 2), np.int8), np.zeros((2, 2), np.uint8), 128, 0), "a_zero_point = 128 is outside -128..127"),
    ((np.zeros((2, 2), np.int8), np.zeros((2, 2), np.uint8), 0, -1), "b_zero_point = -1 is outside 0..255"),
])
def test_gemm_refuses(arguments, text):
    a, b, zero_a, zero_b = arguments
    with pytest.raises(ValueError) as error:
        gemm(a, b, a_zero_point=zero_a, b_zero_point=zero_b)
    assert text in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("seed", range(6))
def test_requantise_random(seed):
    print(f"seed {seed}")
    rng = np.random.default_rng(seed)
    dtype, relu = (np.int8, np.uint8)[seed & 1], bool(seed & 2)
    rows, channels = 200, 10
    widths = rng.integers(1, 32, channels)
    sums = np.array([[rng.integers(-2**width, 2**width) for width in widths] for _ in range(rows)]).astype(np.int32)
    bias = rng.integers(-2**31, 2**31, channels).astype(np.int32) if seed >= 4 else np.zeros(channels, np.int32)
    exponents = 127 + 7 - widths + rng.integers(-3, 4, channels)
    exponents[0], exponents[-1] = rng.integers(1, 255, 2)
    fractions = rng.integers(0, 2**23, channels) & rng.choice([0x7F_FFFF, 0x60_0000, 0], channels)
    multiplier = (exponents << 23 | fractions).astype(np.uint32).view(np.float32)
    zero_point = int(operands(rng, dtype, ()))
    result = requantise(sums, bias, multiplier, zero_point, dtype, relu)
    assert result.dtype == dtype and result.shape == sums.shape
    expected = [[slow_requantise(int(sums[i, j]), int(bias[j]), float(multiplier[j]), zero_point, dtype, relu) for j in range(channels)]
                for i in range(rows)]
    assert result.tolist() == expected


def test_requantise_special():
    """Exact halves with every shift, and every exponent with extreme sums."""
    sums = [0, 1, -1, 3, -3, 127, 128, -128, 2**31 - 1, -2**31, -2**31 + 1]
    for exponent in range(1, 255):
        for fraction in (0, 1, 0x40_0000, 0x7F_FFFF):
            multiplier = np.array(exponent << 23 | fraction, np.uint32).view(np.float32)
            expected = [slow_requantise(value, 0, float(multiplier), 0, np.int8, False) for value in sums]
            assert requantise(np.array(sums, np.int32), 0, multiplier, 0, np.int8).tolist() == expected, (exponent, fraction)
    halves = np.array([1, 3, 5, -1, -3, -5, 7])
    for shift in range(1, 28):
        assert requantise(halves << (shift - 1), 0, 2.0**-shift, 0, np.int8).tolist() == [0, 2, 2, 0, -2, -2, 4]


def test_one_rounding_only():
    """2^24 + 1 has no float32: a multiplication in float32 would round twice."""
    assert requantise(np.array([2**24 + 1]), 0, 2.0**-25, 0, np.int8).tolist() == [1]
    assert requantise(np.array([2**24]), 0, 2.0**-25, 0, np.int8).tolist() == [0]


def test_add_bias():
    sums = np.array([[2**31 - 1, -5], [4, 7]], np.int32)
    assert add_bias(sums, np.array([1, 2], np.int32)).tolist() == [[-2**31, -3], [5, 9]]
    assert add_bias(sums, np.array([1, 2], np.int32), relu=True).tolist() == [[0, 0], [5, 9]]


@pytest.mark.parametrize("multiplier", [0.0, -1.0, float("inf"), float("nan"), 1e-39, 2.0**-127, 1e39, 0.1, [1.0, -0.5]])
def test_requantise_refuses_multipliers(multiplier):
    with pytest.raises(ValueError, match="is not a positive normal finite float32") as error:
        requantise(np.zeros((1, 2), np.int32), 0, multiplier, 0, np.int8)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("changes,text", [
    ({"dtype": np.int32}, "dtype = int32"),
    ({"zero_point": 200}, "zero_point = 200 is outside -128..127"),
    ({"bias": 2**31}, "bias = "),
    ({"sums": np.zeros(2)}, "sums has type"),
])
def test_requantise_refuses(changes, text):
    arguments = {"sums": np.zeros(2, np.int32), "bias": 0, "multiplier": 1.0, "zero_point": 0, "dtype": np.int8} | changes
    with pytest.raises(ValueError) as error:
        requantise(**arguments)
    assert text in str(error.value)


@pytest.mark.parametrize("stride,pad", [(1, 0), (1, 1), (2, (1, 0, 2, 1)), (3, 2)])
def test_conv2d(stride, pad):
    rng = np.random.default_rng(stride)
    x, w = operands(rng, np.uint8, (2, 5, 6, 3)), operands(rng, np.int8, (3, 2, 3, 4))
    result = conv2d(x, w, stride=stride, pad=pad, x_zero_point=100, w_zero_point=-3)
    top, left, bottom, right = (pad,) * 4 if isinstance(pad, int) else pad
    height, width = (5 + top + bottom - 3) // stride + 1, (6 + left + right - 2) // stride + 1
    assert result.shape == (2, height, width, 4) and result.dtype == np.int32
    for index in np.ndindex(result.shape):
        image, oy, ox, output = index
        total = 0
        for ky, kx, channel in np.ndindex(3, 2, 3):
            y, column = oy * stride + ky - top, ox * stride + kx - left
            if 0 <= y < 5 and 0 <= column < 6:
                total += (int(x[image, y, column, channel]) - 100) * (int(w[ky, kx, channel, output]) + 3)
        assert result[index] == total


def test_conv2d_of_one_pixel_is_gemm():
    rng = np.random.default_rng(9)
    x, w = operands(rng, np.int8, (2, 3, 4, 5)), operands(rng, np.int8, (1, 1, 5, 6))
    assert np.array_equal(conv2d(x, w).reshape(-1, 6), gemm(x.reshape(-1, 5), w[0, 0]))


@pytest.mark.parametrize("shape,options,text", [
    ((1, 2, 2, 3), {}, "does not fit"),
    ((1, 4, 4, 2), {}, "shapes"),
    ((1, 4, 4, 3), {"stride": 0}, "stride = 0"), ((1, 4, 4, 3), {"pad": -1}, "pad = -1"),
])
def test_conv2d_refuses(shape, options, text):
    with pytest.raises(ValueError, match=text):
        conv2d(np.zeros(shape, np.int8), np.zeros((3, 3, 3, 1), np.int8), **options)

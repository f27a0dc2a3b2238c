"""Golden requantisation: int32 sums to int8 or uint8 as ONNX QLinear operators define it, with one rounding."""

import numpy as np
import numpy.typing as npt


def add_bias(sums: np.ndarray, bias: np.ndarray | int = 0, relu: bool = False) -> np.ndarray:
    """sums + bias modulo 2^32 as int32, clipped below at zero with `relu`: what an int32 output holds. Channels are the last axis."""
    total = _int32("sums", sums) + _int32("bias", bias)
    total = (total & 0xFFFF_FFFF).astype(np.uint32).view(np.int32)
    return np.maximum(total, np.int32(0)) if relu else total


def requantise(sums: np.ndarray, bias: np.ndarray | int, multiplier: np.ndarray | float, zero_point: int, dtype: npt.DTypeLike,
               relu: bool = False) -> np.ndarray:
    """round_half_even((sums + bias) * multiplier) + zero_point, saturated to `dtype` (int8 or uint8); same shape as `sums`.

    The sum is modulo 2^32, the product exact, and there is one rounding. With `relu` the result is at least the zero point. `bias` (int32)
    and `multiplier` (float32 values) are one number or one for each channel (last axis). Raises ValueError for another type, a zero
    point outside it, or a multiplier that is not a positive normal finite float32.
    """
    dtype = np.dtype(dtype)
    if dtype not in (np.dtype(np.int8), np.dtype(np.uint8)):
        raise ValueError(f"dtype = {dtype} is none of int8, uint8")
    limits = np.iinfo(dtype)
    if not limits.min <= zero_point <= limits.max:
        raise ValueError(f"zero_point = {zero_point} is outside {limits.min}..{limits.max} ({dtype})")
    mantissa, exponent = _split(multiplier)
    product = add_bias(sums, bias).astype(np.int64) * mantissa       # 32 x 24 bits: exact
    shift = np.broadcast_to(150 - exponent, product.shape)           # the multiplier is mantissa * 2^(exponent - 150)
    right = np.clip(shift, 1, 58)      # |product| < 2^55: shifts of 56 and more leave less than one half, 0
    floor = product >> right
    rest, half = product - (floor << right), np.int64(1) << (right - 1)
    rounded = floor + ((rest > half) | ((rest == half) & (floor & 1 == 1)))
    # No shift, or to the left: a mantissa has 24 bits, so all but zero is far outside eight bits.
    rounded = np.where(shift <= 0, np.sign(product) << 24, rounded)
    if relu:
        rounded = np.maximum(rounded, 0)
    return np.clip(rounded + int(zero_point), limits.min, limits.max).astype(dtype)


def _int32(name: str, values) -> np.ndarray:
    values = np.asarray(values)
    if values.dtype.kind not in "iu":
        raise ValueError(f"{name} has type {values.dtype}, allowed: int32")
    if values.size and not -2**31 <= int(values.min()) <= int(values.max()) < 2**31:
        raise ValueError(f"{name} = {int(values.min())}..{int(values.max())} is outside {-2**31}..{2**31 - 1}")
    return values.astype(np.int64)


def _split(multiplier) -> tuple[np.ndarray, np.ndarray]:
    """Mantissa of 24 bits with its leading one, and biased exponent, of float32 values."""
    exact = np.asarray(multiplier, dtype=np.float64)
    with np.errstate(over="ignore", under="ignore"):
        single = exact.astype(np.float32)
    tiny = np.finfo(np.float32).tiny
    wrong = ~((single.astype(np.float64) == exact) & (single >= tiny) & np.isfinite(single))
    if wrong.any():
        raise ValueError(f"multiplier = {exact[wrong].flat[0]} is not a positive normal finite float32")
    bits = single.view(np.uint32).astype(np.int64)
    return bits & 0x7F_FFFF | 0x80_0000, bits >> 23

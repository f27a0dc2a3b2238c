"""Golden fp32 and bf16 arithmetic as the hardware does it: without subnormal numbers and with one NaN.

Every operation is IEEE binary32, rounded once to nearest, ties to even. Subnormal operands are taken as zero of their sign. A result that
IEEE has as subnormal (after rounding) becomes zero of its sign. Every NaN is 0x7fc00000. Operands are broadcast as numpy does.
A bf16 number is the fp32 number of the same value: its lower 16 bits are zero.
"""

import numpy as np

Numbers = np.ndarray | np.float32
CANONICAL_NAN = np.uint32(0x7FC0_0000)
_SIGN = np.uint32(0x8000_0000)
_EXPONENT = np.uint32(0x7F80_0000)


def flush(x: Numbers) -> np.ndarray:
    """`x` with subnormal numbers replaced by zero of their sign; all else, NaNs too, bit by bit as it is.

    Raises ValueError for another type than float32.
    """
    x = np.asarray(x)
    if x.dtype != np.float32:
        raise ValueError(f"values have type {x.dtype}, allowed: float32")
    bits = x.view(np.uint32)
    return np.where(bits & _EXPONENT, bits, bits & _SIGN).view(np.float32)


def add(a: Numbers, b: Numbers) -> np.ndarray:
    """a + b, float32. Raises ValueError for another type."""
    with np.errstate(all="ignore"):
        return _result(flush(a) + flush(b))


def multiply(a: Numbers, b: Numbers) -> np.ndarray:
    """a * b, float32. Raises ValueError for another type."""
    with np.errstate(all="ignore"):
        return _result(flush(a) * flush(b))


def divide(a: Numbers, b: Numbers) -> np.ndarray:
    """a / b, float32. Raises ValueError for another type."""
    with np.errstate(all="ignore"):
        return _result(flush(a) / flush(b))


def square_root(x: np.ndarray) -> np.ndarray:
    """The square root of `x`, float32; of negative numbers the NaN. Raises ValueError for another type."""
    with np.errstate(all="ignore"):
        return _result(np.sqrt(flush(x)))


def maximum(a: Numbers, b: Numbers) -> np.ndarray:
    """The larger of both, `a` where they are equal (as zeros of both signs are), the NaN if one of them is. Raises ValueError for another
    type."""
    a, b = np.broadcast_arrays(flush(a), flush(b))
    return _result(np.where(np.isnan(a) | np.isnan(b), np.float32(np.nan), np.where(a < b, b, a)))


def narrow(x: np.ndarray) -> np.ndarray:
    """`x`, float32, rounded to bf16: to nearest, ties to even. Raises ValueError for another type."""
    bits = flush(x).view(np.uint32).astype(np.uint64)
    bits = (bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF_0000
    return _result(np.where(np.isnan(x), CANONICAL_NAN, bits.astype(np.uint32)).view(np.float32))


def _result(x: np.ndarray) -> np.ndarray:
    return np.where(np.isnan(x), CANONICAL_NAN, flush(x).view(np.uint32)).view(np.float32)

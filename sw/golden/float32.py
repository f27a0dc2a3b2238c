"""Golden fp32 arithmetic: addition and multiplication as the hardware does them, without subnormal numbers and with one NaN.

Every operation is IEEE binary32, rounded once to nearest, ties to even. Subnormal operands are taken as zero of their sign. A result that
IEEE has as subnormal (after rounding) becomes zero of its sign. Every NaN is 0x7fc00000. Operands are broadcast as numpy does.
"""

import numpy as np

CANONICAL_NAN = np.uint32(0x7FC0_0000)
_SIGN = np.uint32(0x8000_0000)
_EXPONENT = np.uint32(0x7F80_0000)


def flush(x: np.ndarray) -> np.ndarray:
    """`x` with subnormal numbers replaced by zero of their sign; all else, NaNs too, bit by bit as it is.

    Raises ValueError for another type than float32.
    """
    x = np.asarray(x)
    if x.dtype != np.float32:
        raise ValueError(f"values have type {x.dtype}, allowed: float32")
    bits = x.view(np.uint32)
    return np.where(bits & _EXPONENT, bits, bits & _SIGN).view(np.float32)


def add(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a + b, float32. Raises ValueError for another type."""
    with np.errstate(all="ignore"):
        return _result(flush(a) + flush(b))


def multiply(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a * b, float32. Raises ValueError for another type."""
    with np.errstate(all="ignore"):
        return _result(flush(a) * flush(b))


def _result(x: np.ndarray) -> np.ndarray:
    return np.where(np.isnan(x), CANONICAL_NAN, flush(x).view(np.uint32)).view(np.float32)

"""Golden GEMM: int8 or uint8 operands, zero points subtracted, sums modulo 2^32."""

import numpy as np

OPERANDS = (np.dtype(np.int8), np.dtype(np.uint8))


def operand(name: str, values: np.ndarray, zero_point: int) -> np.ndarray:
    """`values` minus their zero point, exactly, as float64. Raises ValueError for another type or a zero point outside it."""
    values = np.asarray(values)
    if values.dtype not in OPERANDS:
        raise ValueError(f"{name} has type {values.dtype}, allowed: int8, uint8")
    limits = np.iinfo(values.dtype)
    if not limits.min <= zero_point <= limits.max:
        raise ValueError(f"{name}_zero_point = {zero_point} is outside {limits.min}..{limits.max} ({values.dtype})")
    return values.astype(np.float64) - int(zero_point)


def wrap(sums: np.ndarray) -> np.ndarray:
    """Whole numbers (float64 or int64) modulo 2^32, as int32."""
    return np.asarray(sums).astype(np.int64).astype(np.uint64).astype(np.uint32).view(np.int32)


def gemm(a: np.ndarray, b: np.ndarray, *, a_zero_point: int = 0, b_zero_point: int = 0) -> np.ndarray:
    """(a - a_zero_point) @ (b - b_zero_point): (M, K) and (K, N) of int8 or uint8 to (M, N) of int32, modulo 2^32; any size may be 0.

    Raises ValueError for other types, shapes that do not fit, or a zero point outside its operand's type.
    """
    left, right = operand("a", a, a_zero_point), operand("b", b, b_zero_point)
    if left.ndim != 2 or right.ndim != 2 or left.shape[1] != right.shape[0]:
        raise ValueError(f"shapes {left.shape} and {right.shape} are not (M, K) and (K, N)")
    # Every partial sum is a whole number below K * 2^16; float64 is exact to 2^53, in any order of addition.
    return wrap(left @ right)

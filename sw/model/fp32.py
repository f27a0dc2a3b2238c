"""fp32 as the machine computes: no subnormal numbers, one NaN, every operation rounded to nearest even."""

import numpy as np

NAN = 0x7FC0_0000       # the one NaN


def flushed(x: np.ndarray) -> np.ndarray:
    """Numbers without subnormal ones."""
    return np.where(np.abs(x) < np.finfo(np.float32).tiny, np.copysign(np.float32(0), x), x)


def bits_of(x: np.ndarray) -> np.ndarray:
    """Numbers as uint32, every NaN the one."""
    return np.where(np.isnan(x), np.uint32(NAN), x.view(np.uint32))


def canonical(x: np.ndarray) -> np.ndarray:
    """Numbers without subnormal ones, every NaN the one."""
    return bits_of(flushed(x)).view(np.float32)


def rounded(x: np.ndarray) -> np.ndarray:
    """Numbers as the bits of bf16 ones, ties to even. Carries lead from the largest numbers to infinity; the NaN has no low bits."""
    bits = bits_of(x).astype(np.uint64)
    return (bits + 0x7FFF + (bits >> 16 & 1) >> 16).astype("<u2")


def added(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a + b."""
    with np.errstate(all="ignore"):
        return canonical(a + b)


def multiplied(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a * b."""
    with np.errstate(all="ignore"):
        return canonical(a * b)


def divided(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a / b."""
    with np.errstate(all="ignore"):
        return canonical(a / b)


def root(a: np.ndarray) -> np.ndarray:
    """The square root of a."""
    with np.errstate(all="ignore"):
        return canonical(np.sqrt(a))


def larger(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The larger of both, `a` where they are equal, the NaN if one of them is."""
    with np.errstate(all="ignore"):
        return canonical(np.where(np.isnan(a) | np.isnan(b), np.float32(np.nan), np.where(a < b, b, a)))


def relu(a: np.ndarray) -> np.ndarray:
    """What has a negative sign becomes +0; a NaN stays."""
    return np.where(np.signbit(a) & ~np.isnan(a), np.float32(0), a)

"""bf16, which is the upper half of fp32: rounding to it, and comparisons of both."""

from amaranth.hdl import C, Cat, Mux, Value

from rtl.arith.float32 import SPECIAL

BITS = 16
NAN = 0x7FC0            # the only NaN that is ever a result


def widened(bits: Value) -> Value:
    """A bf16 number as fp32. Products of two such are exact in fp32, but for their exponent's range."""
    return Cat(C(0, BITS), bits)


def narrowed(bits: Value) -> Value:
    """An fp32 number as bf16: rounded to nearest, ties to even; subnormal numbers are zeros of their sign, a NaN is 0x7fc0."""
    low, high, exponent = bits[:BITS], bits[BITS:31], bits[23:31]
    up = low[-1] & (low[:-1].any() | high[0])           # the largest numbers carry into infinity
    is_nan = (exponent == SPECIAL) & bits[:23].any()
    number = Mux(exponent == 0, 0, high + up)[:BITS - 1]
    return Mux(is_nan, C(NAN, BITS), Cat(number, bits[31]))


def less(a: Value, b: Value) -> Value:
    """a < b, both fp32 or both bf16; false with a NaN. Zeros of both signs are equal, and so are subnormal numbers, which count as zero."""
    fraction = len(a) - 9
    (a_size, a_nan), (b_size, b_nan) = (_size(x, fraction) for x in (a, b))
    a_sign, b_sign = a[-1], b[-1]
    smaller = Mux(a_sign, Mux(b_sign, b_size < a_size, (a_size | b_size).any()), ~b_sign & (a_size < b_size))
    return smaller & ~a_nan & ~b_nan


def maximum(a: Value, b: Value) -> Value:
    """The larger of two, both fp32 or both bf16: `a` where they are equal; with a NaN the one NaN. Subnormal numbers come out as zero."""
    fraction = len(a) - 9
    (a_size, a_nan), (b_size, b_nan) = (_size(x, fraction) for x in (a, b))
    nan = Cat(C(0, fraction - 1), C(0x1FF, 9), C(0, 1))
    return Mux(a_nan | b_nan, nan, Mux(less(a, b), Cat(b_size, b[-1]), Cat(a_size, a[-1])))


def _size(bits: Value, fraction: int) -> tuple[Value, Value]:
    """A number without its sign, subnormal ones as zero; and whether it is a NaN."""
    exponent = bits[fraction:-1]
    return Mux(exponent == 0, 0, bits[:-1]), (exponent == SPECIAL) & bits[:fraction].any()

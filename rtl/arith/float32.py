"""fp32 addition and multiplication (IEEE binary32), pipelined, a new operation every cycle."""

from types import SimpleNamespace

from amaranth.hdl import C, Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

FRACTION_BITS = 23
BIAS = 127
SPECIAL = 255           # exponent of infinities and NaNs
NAN = 0x7FC0_0000       # the only NaN that is ever a result
EXTRA_BITS = 3          # below the significand of a sum: guard, round and sticky bit; enough for one exact rounding
HALF_BITS = 12          # of a significand: a partial product fits one 18 x 18 multiplier, and those of low halves vanish for bf16

# Latency: the steps that end in a register.
ADD_REGISTERS = {
    1: ("round",),
    2: ("add", "round"),
    3: ("align", "count", "round"),
    4: ("compare", "add", "normalise", "round"),
}
MULTIPLY_REGISTERS = {
    1: ("round",),
    2: ("product", "round"),
    3: ("partial", "product", "round"),
    4: ("partial", "product", "normalise", "round"),
}


class Float32:
    """A number of 32 bits taken apart, lowest bits first: `fraction`, `exponent`, `sign`. A subnormal counts as zero of its sign.

    `significand` is the fraction below its leading one: 24 bits, not valid for zero.
    """

    def __init__(self, bits: Value):
        self.fraction, self.exponent, self.sign = bits[:FRACTION_BITS], bits[FRACTION_BITS:31], bits[31]
        self.is_zero = self.exponent == 0
        self.is_infinite = (self.exponent == SPECIAL) & ~self.fraction.any()
        self.is_nan = (self.exponent == SPECIAL) & self.fraction.any()
        self.significand = Cat(self.fraction, C(1, 1))


def rounded(*, fraction: Value, exponent: Value, up: Value, sign: Value, nan: Value, infinite: Value, zero: Value) -> Value:
    """A number's 32 bits: `fraction`, cut off, is rounded `up` or not; the exponent (10 bits, signed) may leave its range."""
    number = (Cat(fraction, exponent) + up)[:31]        # a carry of the fraction ends in the exponent
    # Where the exponent ends is found without waiting for the sum. A carry from the largest one gives infinity by itself.
    carry = fraction.all() & up
    above = exponent >= SPECIAL
    below = (exponent < 0) | ((exponent == 0) & ~carry)
    special = nan | infinite | (above & ~zero)
    finite = ~(special | zero | below)
    return Cat(
        number[:22] & finite.replicate(22),
        (number[22] & finite) | nan,
        (number[23:] & finite.replicate(8)) | special.replicate(8),
        sign & ~nan)


class _Operation(wiring.Component):
    """What both operations share: ports, latency, and the rounding of the result.

    `registers` names, for each latency, the steps that end in a register; the last one, "round", always does.
    """

    def __init__(self, latency: int, registers: dict[int, tuple[str, ...]]):
        if latency not in registers:
            raise ValueError(f"latency = {latency} is outside {min(registers)}..{max(registers)}")
        self.latency = latency
        self.registered = registers[latency]
        super().__init__({"a": In(32), "b": In(32), "result": Out(32)})

    def _step(self, m: Module, step: str, **values) -> SimpleNamespace:
        """All that is alive behind a step: through registers, if this latency has them here, else as it is."""
        domain = m.d.sync if step in self.registered else m.d.comb
        passed = SimpleNamespace()
        for name, value in values.items():
            signal = Signal.like(value, name=f"{step}_{name}", reset_less=True)
            domain += signal.eq(value)
            setattr(passed, name, signal)
        return passed

    def _round(self, m: Module, before, up: Value):
        """Wire `result`, which is `rounded` from `before`."""
        bits = self._step(m, "round", result=rounded(up=up, **{
            name: getattr(before, name) for name in ("fraction", "exponent", "sign", "nan", "infinite", "zero")}))
        m.d.comb += self.result.eq(bits.result)


class Add(_Operation):
    """``result`` = ``a`` + ``b`` as fp32 bits, `latency` (1 to 4) cycles later; a new pair every cycle, no back-pressure.

    Rounds to nearest, ties to even. Subnormal operands and results are zeros of the same sign; a NaN is always 0x7fc00000; infinities
    and zeros are those of IEEE 754. The bits do not depend on `latency`. Raises ValueError for another latency.
    """

    def __init__(self, *, latency: int):
        super().__init__(latency, ADD_REGISTERS)

    def elaborate(self, platform):
        m = Module()

        # The operand of larger magnitude comes first. Both differences are at hand before the comparison ends.
        a, b = Float32(self.a), Float32(self.b)
        swap, subtract = self.a[:31] < self.b[:31], a.sign ^ b.sign
        a_value, b_value = (Mux(x.is_zero, 0, x.significand) for x in (a, b))
        now = self._step(
            m, "compare", sign=Mux(swap, b.sign, a.sign), exponent=Mux(swap, b.exponent, a.exponent), subtract=subtract,
            first=Mux(swap, b_value, a_value), second=Mux(swap, a_value, b_value),
            distance=Mux(swap, (b.exponent - a.exponent)[:8], (a.exponent - b.exponent)[:8]),
            infinite=a.is_infinite | b.is_infinite, nan=a.is_nan | b.is_nan | (a.is_infinite & b.is_infinite & subtract))

        # The smaller one moves to the right; what leaves at the end is collected in the sticky bit. From 26 places on the sum rounds to
        # the larger one, whatever the sticky bit.
        unmoved, near = Cat(C(0, EXTRA_BITS), now.second), now.distance[:5]
        moved = Mux(now.distance[5:].any(), 0, unmoved >> near)
        sticky = Cat((near > place) & unmoved[place] for place in range(EXTRA_BITS, len(unmoved))).any()
        now = self._step(
            m, "align", sign=now.sign, exponent=now.exponent, subtract=now.subtract, first=now.first,
            second=Cat(moved[0] | sticky, moved[1:]), nan=now.nan, infinite=now.infinite)

        # One adder for both operations: the carry that completes a negative number comes from a place of its own below the others.
        first = Cat(C(1, 1), C(0, EXTRA_BITS), now.first)
        second = Cat(now.second, C(0, 1)) ^ now.subtract.replicate(len(now.second) + 1)
        total = (first + Cat(now.subtract, second))[1:len(second) + 1]
        now = self._step(
            m, "add", sign=now.sign, exponent=now.exponent, subtract=now.subtract, total=total, nan=now.nan, infinite=now.infinite)

        zeros, none = leading_zeros(Cat(C(0, 32 - len(now.total)), now.total))
        now = self._step(
            m, "count", sign=Mux(none & now.subtract, 0, now.sign), exponent=now.exponent, total=now.total, zeros=zeros, zero=none,
            nan=now.nan, infinite=now.infinite)

        # The leading one goes to the highest bit, in two moves. A sum below the smallest normal number is exact: rounding never brings
        # it back.
        coarse = (now.total << Cat(C(0, 2), now.zeros[2:]))[:len(now.total)]
        now = self._step(
            m, "normalise", sign=now.sign, exponent=(now.exponent + 1 - now.zeros)[:10].as_signed(), total=coarse, zeros=now.zeros[:2],
            zero=now.zero, nan=now.nan, infinite=now.infinite)
        shifted = (now.total << now.zeros)[:len(now.total)]
        now.fraction = shifted[EXTRA_BITS + 1:-1]
        self._round(m, now, shifted[EXTRA_BITS] & (shifted[:EXTRA_BITS].any() | now.fraction[0]))
        return m


class Multiply(_Operation):
    """``result`` = ``a`` * ``b`` as fp32 bits, `latency` (1 to 4) cycles later; a new pair every cycle, no back-pressure.

    Rounds to nearest, ties to even. Subnormal operands are zeros of the same sign, and so are results that IEEE 754 has as subnormal: a
    product that rounds up to the smallest normal number in steps of 2^-149 is that number. A NaN is always 0x7fc00000; infinities and
    zeros are those of IEEE 754. The bits do not depend on `latency`. Raises ValueError for another latency.
    """

    def __init__(self, *, latency: int):
        super().__init__(latency, MULTIPLY_REGISTERS)

    def elaborate(self, platform):
        m = Module()
        # The significands are straight from the ports, so that constant bits of an operand leave out what they do not need. Those of
        # zeros are wrong, but a zero decides the result.
        a, b = Float32(self.a), Float32(self.b)
        (a_low, a_high), (b_low, b_high) = ((x.significand[:HALF_BITS], x.significand[HALF_BITS:]) for x in (a, b))
        now = self._step(
            m, "partial", sign=a.sign ^ b.sign, exponent=(a.exponent + b.exponent - BIAS)[:10].as_signed(),
            low=a_low * b_low, left=a_high * b_low, right=a_low * b_high, high=a_high * b_high,
            zero=a.is_zero | b.is_zero, infinite=a.is_infinite | b.is_infinite,
            nan=a.is_nan | b.is_nan | (a.is_infinite & b.is_zero) | (a.is_zero & b.is_infinite))

        product = (Cat(now.low, now.high) + ((now.left + now.right) << HALF_BITS))[:4 * HALF_BITS]
        now = self._step(
            m, "product", sign=now.sign, exponent=now.exponent, product=product, zero=now.zero, infinite=now.infinite, nan=now.nan)

        # The product of two significands is in [1, 4). With an exponent of 0 it is in [2^-127, 2^-126), where numbers are 2^-149 apart
        # and the fraction has one bit more than they have: all ones is at least half way to 2^-126. One is then added in any case:
        # it carries into the exponent with all ones, and else the result is zero.
        wide = now.product[-1]
        fraction = Mux(wide, now.product[-24:-1], now.product[-25:-2])
        guard = Mux(wide, now.product[-25], now.product[-26])
        sticky = now.product[:-26].any() | (wide & now.product[-26])
        exponent = Signal(signed(10))
        m.d.comb += exponent.eq(now.exponent + wide)
        now = self._step(
            m, "normalise", sign=now.sign, exponent=exponent, fraction=fraction, up=(guard & (sticky | fraction[0])) | (exponent == 0),
            zero=now.zero, infinite=now.infinite, nan=now.nan)

        self._round(m, now, now.up)
        return m


def leading_zeros(value: Value) -> tuple[Value, Value]:
    """The zeros above the highest one of a value of 2^n bits (n bits; meaningless for zero), and whether it is zero."""
    if len(value) == 1:
        return C(0, 0), ~value
    half = len(value) // 2
    (high, none_high), (low, none_low) = leading_zeros(value[half:]), leading_zeros(value[:half])
    return Cat(Mux(none_high, low, high), none_high), none_high & none_low

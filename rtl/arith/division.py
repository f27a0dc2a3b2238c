"""fp32 division and square root (IEEE binary32), a bit of the result in a cycle."""

from amaranth.hdl import C, Cat, Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rtl.arith.float32 import BIAS, FRACTION_BITS, Float32, rounded

PAIR = data.StructLayout({"a": 32, "b": 32})
SIGNIFICAND_BITS = FRACTION_BITS + 1


class _Recurrence(wiring.Component):
    """What both have in common: operands are taken in cycle t, `steps` bits found in t+1 .. t+steps, the result is there in t+steps+2.

    The next operands may be taken in t+steps+1. `result` cannot be held up.
    """

    def __init__(self, *, operands, steps: int):
        self.steps, self.latency, self.interval = steps, steps + 2, steps + 1
        super().__init__({"operands": In(stream.Signature(operands)), "result": Out(stream.Signature(unsigned(32), always_ready=True))})

    def _sequence(self, m: Module):
        """Wire the control; returns whether operands are taken in this cycle, and whether it is one of the steps."""
        left, finishing = Signal(range(self.steps + 1)), Signal()
        take, step = Signal(), Signal()
        m.d.comb += [step.eq(left != 0), self.operands.ready.eq(~step), take.eq(self.operands.valid & ~step)]
        m.d.sync += [finishing.eq(left == 1), self.result.valid.eq(finishing)]
        with m.If(take):
            m.d.sync += left.eq(self.steps)
        with m.Elif(step):
            m.d.sync += left.eq(left - 1)
        return take, step


class Divide(_Recurrence):
    """``a`` / ``b`` as fp32 bits, 28 cycles after the operands are taken; a pair in 27 cycles.

    Rounds to nearest, ties to even. Subnormal operands are zeros of the same sign, and so are results that IEEE 754 has as subnormal. A
    NaN is always 0x7fc00000; infinities and zeros are those of IEEE 754: x / 0 is infinite, 0 / 0 no number.
    """

    STEPS = SIGNIFICAND_BITS + 2        # of the quotient: one bit in front of the significand may be zero, one behind it rounds

    def __init__(self):
        super().__init__(operands=PAIR, steps=self.STEPS)

    def elaborate(self, platform):
        m = Module()
        take, step = self._sequence(m)
        a, b = Float32(self.operands.p.a), Float32(self.operands.p.b)
        before = Signal(data.StructLayout({"sign": 1, "nan": 1, "infinite": 1, "zero": 1, "exponent": signed(10)}), reset_less=True)
        rest, divisor = Signal(SIGNIFICAND_BITS + 1, reset_less=True), Signal(SIGNIFICAND_BITS, reset_less=True)
        quotient = Signal(self.STEPS, reset_less=True)
        with m.If(take):
            m.d.sync += [
                before.sign.eq(a.sign ^ b.sign),
                before.nan.eq(a.is_nan | b.is_nan | (a.is_zero & b.is_zero) | (a.is_infinite & b.is_infinite)),
                before.infinite.eq(a.is_infinite | b.is_zero),
                before.zero.eq(a.is_zero | b.is_infinite),
                before.exponent.eq(a.exponent - b.exponent + BIAS),
                rest.eq(a.significand),
                divisor.eq(b.significand),
            ]
        less = Signal(SIGNIFICAND_BITS + 2)         # what is left, less the divisor
        m.d.comb += less.eq(rest - divisor)
        with m.If(step):
            m.d.sync += [rest.eq(Mux(less[-1], rest, less) << 1), quotient.eq(Cat(~less[-1], quotient))]

        # The quotient of two significands is in (1/2, 2). It is never half way between two numbers: the bit behind them decides.
        at_least_one = quotient[-1]
        fraction = Mux(at_least_one, quotient[2:-1], quotient[1:-2])
        guard = Mux(at_least_one, quotient[1], quotient[0])
        exponent = Signal(signed(10))
        m.d.comb += exponent.eq(before.exponent - ~at_least_one)
        # Below the normal numbers as in a product: what rounds up to the smallest of them is that number.
        m.d.sync += self.result.payload.eq(rounded(
            fraction=fraction, exponent=exponent, up=guard | (exponent == 0), sign=before.sign, nan=before.nan, infinite=before.infinite,
            zero=before.zero))
        return m


class SquareRoot(_Recurrence):
    """The square root of a number as fp32 bits, 27 cycles after it is taken; a number in 26 cycles.

    Rounds to nearest. Subnormal operands are zeros of the same sign, the root of a zero is itself. The root of a negative number is the NaN
    0x7fc00000, as is that of a NaN.
    """

    STEPS = SIGNIFICAND_BITS + 1        # of the root: one bit behind its significand rounds

    def __init__(self):
        super().__init__(operands=unsigned(32), steps=self.STEPS)

    def elaborate(self, platform):
        m = Module()
        take, step = self._sequence(m)
        x = Float32(self.operands.p)
        before = Signal(data.StructLayout({"sign": 1, "nan": 1, "infinite": 1, "zero": 1, "exponent": 8}), reset_less=True)
        digits = Signal(2 * SIGNIFICAND_BITS, reset_less=True)      # of the radicand, two a step, the highest first
        rest, root = Signal(self.STEPS + 1, reset_less=True), Signal(self.STEPS, reset_less=True)
        with m.If(take):
            m.d.sync += [
                before.sign.eq(x.sign),
                before.nan.eq(x.is_nan | (x.sign & ~x.is_zero)),
                before.infinite.eq(x.is_infinite),
                before.zero.eq(x.is_zero),
                before.exponent.eq((x.exponent >> 1) + BIAS // 2 + x.exponent[0]),
                # In [1, 4): with an even exponent, which means an odd power of two, the significand counts twice.
                digits.eq(Mux(x.exponent[0], x.significand, x.significand << 1) << SIGNIFICAND_BITS - 1),
                rest.eq(0),
                root.eq(0),
            ]
        now, less = Signal(self.STEPS + 3), Signal(self.STEPS + 4)
        m.d.comb += [now.eq(Cat(digits[-2:], rest)), less.eq(now - Cat(C(1, 2), root))]
        with m.If(step):
            m.d.sync += [digits.eq(digits << 2), rest.eq(Mux(less[-1], now, less)), root.eq(Cat(~less[-1], root))]
        # Nor is a root half way between two numbers.
        m.d.sync += self.result.payload.eq(rounded(
            fraction=root[1:-1], exponent=before.exponent, up=root[0], sign=before.sign, nan=before.nan, infinite=before.infinite,
            zero=before.zero))
        return m

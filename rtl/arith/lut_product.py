"""A pipelined multiplication without a DSP block: gated partial products in ECP5 carry cells."""

from amaranth.hdl import Cat, Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from rtl.arith.carry import add, chain, extend

BITS = 9


class LutProduct(wiring.Component):
    """``product`` = ``a`` * ``b`` of `latency` cycles before, all signed, 9 x 9 to 18 bits; one a cycle. ECP5 only: 100 LUTs.

    Four carry chains add two partial products each, the bits of ``b`` taken in pairs; a fifth subtracts that of the sign bit. Two
    levels of adders follow. Registers lie behind each of the three levels at a `latency` of 3, from the last one backwards below,
    with further ones behind the product above. None has a reset.
    """

    def __init__(self, *, latency: int):
        if latency < 1:
            raise ValueError(f"latency = {latency} must be at least 1")
        self.latency = latency
        super().__init__({"a": In(signed(BITS)), "b": In(signed(BITS)), "product": Out(signed(2 * BITS))})

    def elaborate(self, platform):
        m = Module()
        rows = [self._pair(m, i) for i in range(4)]
        rows[3] = self._sign(m, rows[3])
        rows = [self._register(m, row, level=3, name=f"row_{i}") for i, row in enumerate(rows)]
        halves = [self._shifted(m, platform, rows[i], rows[i + 1], shift=2, width=13 + i // 2, name=f"half_{i // 2}") for i in (0, 2)]
        halves = [self._register(m, half, level=2, name=f"half_{i}") for i, half in enumerate(halves)]
        value = self._register(m, self._shifted(m, platform, *halves, shift=4, width=2 * BITS, name="whole"), level=1, name="product_1")
        for stage in range(3, self.latency):
            value = self._register(m, value, level=1, name=f"delayed_{stage}")
        m.d.comb += self.product.eq(value)
        return m

    def _pair(self, m: Module, i: int):
        """a * (b[2i] + 2 * b[2i+1]), 11 bits."""
        a = extend(self.a, BITS + 2)
        return chain(m, name=f"pair_{i}", table=lambda a, b, c, d: (a & b) ^ (c & d), width=len(a),
                     operands=(a, self.b[2 * i], Cat(0, a)[:len(a)], self.b[2 * i + 1])).as_signed()

    def _sign(self, m: Module, row):
        """`row` - 4 * a * b[8], 12 bits: adds ~a and 1 where b is negative."""
        x = extend(row, 12)
        return Cat(x[:2], chain(m, name="sign", table=lambda a, b, c, d: a ^ (~c & d), width=10, carry=(self.b[-1], 1),
                                operands=(x[2:], 1, extend(self.a, 10), self.b[-1]))).as_signed()

    def _shifted(self, m: Module, platform, low, high, *, shift: int, width: int, name: str):
        """low + high * 2^shift."""
        x = extend(low, width)
        return Cat(x[:shift], add(m, platform, x[shift:], high, name=name)).as_signed()

    def _register(self, m: Module, value, *, level: int, name: str):
        if self.latency < level:
            return value
        register = Signal(signed(len(value)), name=name, reset_less=True)
        m.d.sync += register.eq(value)
        return register

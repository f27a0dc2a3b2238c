"""The multiplier of a bf16 processing element: a product that fp32 holds exactly, pipelined."""

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from rtl.arith.bfloat16 import BITS, widened
from rtl.arith.float32 import MULTIPLY_REGISTERS, Multiply
from rtl.array.skew import delayed


class FloatMultiplier(wiring.Component):
    """``product`` (fp32 bits) is ``a * b`` (bf16 bits) of `latency` cycles before; one product a cycle.

    Exact, but where a product is below the normal numbers (zero) or above them (infinity).
    """

    def __init__(self, *, latency: int):
        self.latency = latency
        super().__init__({"a": In(BITS), "b": In(BITS), "product": Out(32)})

    def elaborate(self, platform):
        m = Module()
        inner = min(self.latency, max(MULTIPLY_REGISTERS))
        m.submodules.multiply = multiply = Multiply(latency=inner)
        m.d.comb += [
            multiply.a.eq(widened(self.a)),
            multiply.b.eq(widened(self.b)),
            self.product.eq(delayed(m, multiply.result, self.latency - inner, name="product")),
        ]
        return m

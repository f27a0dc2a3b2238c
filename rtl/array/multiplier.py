"""The multiplier of a processing element: two operands of 9 bits, a product of 18, pipelined."""

from amaranth.hdl import Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from gen.config import Config
from rtl.arith.product import Product
from rtl.interfaces import OPERAND_BITS

PRODUCT_BITS = 2 * OPERAND_BITS


class Multiplier(wiring.Component):
    """``product`` is ``a * b`` of `multiplier_latency` cycles before; one product a cycle.

    From two stages on it is a `Product`; a third one is a register that covers the long way from a DSP block to the adder.
    """

    def __init__(self, config: Config):
        self.latency = config.array.multiplier_latency
        super().__init__({
            "a": In(signed(OPERAND_BITS)),
            "b": In(signed(OPERAND_BITS)),
            "product": Out(signed(PRODUCT_BITS)),
        })

    def elaborate(self, platform):
        m = Module()
        value, stages = self.a * self.b, self.latency
        if stages >= Product.LATENCY:
            m.submodules.registered = registered = Product(width=OPERAND_BITS)
            m.d.comb += [registered.a.eq(self.a), registered.b.eq(self.b)]
            value, stages = registered.product, stages - Product.LATENCY
        for stage in range(stages):
            register = Signal(signed(PRODUCT_BITS), name=f"product_{stage}", reset_less=True)
            m.d.sync += register.eq(value)
            value = register
        m.d.comb += self.product.eq(value)
        return m

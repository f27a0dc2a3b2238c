"""The multiplier of a processing element: two operands of 9 bits, a product of 18, pipelined."""

from amaranth.hdl import Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from gen.config import Config
from rtl.arith.ice40_product import MacProduct, RowProduct
from rtl.arith.lut_product import LutProduct
from rtl.arith.product import Product
from rtl.interfaces import OPERAND_BITS
from rtl.sharing import family

PRODUCT_BITS = 2 * OPERAND_BITS


class Multiplier(wiring.Component):
    """``product`` is ``a * b`` of `multiplier_latency` cycles before; one product a cycle.

    From two stages on it is a `Product`; a third one is a register that covers the long way from a DSP block to the adder.
    Without a `block` it is made of an FPGA's LUTs, where there is a design for them (ECP5, iCE40); elsewhere there is no difference.
    """

    def __init__(self, config: Config, *, block: bool = True):
        self.latency, self.block = config.array.multiplier_latency, block
        super().__init__({
            "a": In(signed(OPERAND_BITS)),
            "b": In(signed(OPERAND_BITS)),
            "product": Out(signed(PRODUCT_BITS)),
        })

    def elaborate(self, platform):
        m = Module()
        if not self.block and family(platform) == "ecp5":
            m.submodules.in_luts = in_luts = LutProduct(latency=self.latency)
            m.d.comb += [in_luts.a.eq(self.a), in_luts.b.eq(self.b), self.product.eq(in_luts.product)]
            return m
        value, stages = self.a * self.b, self.latency
        if family(platform) == "ice40":
            inner = min(stages, MacProduct.LATENCY) if self.block else 0
            part = MacProduct(width=OPERAND_BITS, latency=inner) if self.block else RowProduct(width=OPERAND_BITS)
            m.submodules.part = part
            m.d.comb += [part.a.eq(self.a), part.b.eq(self.b)]
            value, stages = part.product, stages - inner
        elif stages >= Product.LATENCY:
            m.submodules.registered = registered = Product(width=OPERAND_BITS)
            m.d.comb += [registered.a.eq(self.a), registered.b.eq(self.b)]
            value, stages = registered.product, stages - Product.LATENCY
        for stage in range(stages):
            register = Signal(signed(PRODUCT_BITS), name=f"product_{stage}", reset_less=True)
            m.d.sync += register.eq(value)
            value = register
        m.d.comb += self.product.eq(value)
        return m

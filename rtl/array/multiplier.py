"""The multiplier of a processing element: two operands of 9 bits, a product of 18, pipelined."""

from amaranth.hdl import Cat, ClockSignal, Instance, Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from gen.config import Config
from rtl.interfaces import OPERAND_BITS
from rtl.sharing import family

PRODUCT_BITS = 2 * OPERAND_BITS


class Multiplier(wiring.Component):
    """``product`` is ``a * b`` of `multiplier_latency` cycles before; one product a cycle.

    From two stages on, the first is a register at the operands; the others follow the product. On ECP5 with three stages it is a
    MULT18X18D with its own input and output registers, and a register in the fabric that covers the long way from the block to the adder.
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
        product, stages = Signal(signed(PRODUCT_BITS)), self.latency
        if family(platform) == "ecp5" and self.latency == 3:
            m.submodules.block, product = self._block()
            stages = 1
        elif self.latency == 1:
            m.d.comb += product.eq(self.a * self.b)
        else:
            a, b = Signal.like(self.a, reset_less=True), Signal.like(self.b, reset_less=True)
            m.d.sync += [a.eq(self.a), b.eq(self.b)]
            m.d.comb += product.eq(a * b)
            stages -= 1
        for stage in range(stages):
            register = Signal(signed(PRODUCT_BITS), name=f"product_{stage}", reset_less=True)
            m.d.sync += register.eq(product)
            product = register
        m.d.comb += self.product.eq(product)
        return m

    def _block(self):
        """MULT18X18D with registered inputs (both: nextpnr falls back to none with only one) and output."""
        outputs = [Signal(name=f"p{i}") for i in range(36)]
        ports = {f"o_P{i}": bit for i, bit in enumerate(outputs)}
        ports |= {f"i_A{i}": self.a[min(i, OPERAND_BITS - 1)] for i in range(18)}
        ports |= {f"i_B{i}": self.b[min(i, OPERAND_BITS - 1)] for i in range(18)}
        ports |= {f"i_C{i}": 0 for i in range(18)}
        ports |= {f"i_{name}": 1 for name in ("SIGNEDA", "SIGNEDB", "CE0")}
        ports |= {f"i_{name}": 0 for name in ("SOURCEA", "SOURCEB", "RST0")}
        ports |= {f"i_{name}{i}": 0 for name in ("CE", "RST", "CLK") for i in (1, 2, 3)}
        registers = {f"p_REG_{name}_CLK": "CLK0" for name in ("INPUTA", "INPUTB", "OUTPUT")}
        return Instance("MULT18X18D", i_CLK0=ClockSignal(), **ports, **registers), Cat(outputs[:PRODUCT_BITS]).as_signed()

"""A registered signed multiplication: the DSP block of an FPGA, or plain RTL."""

from amaranth.hdl import ClockSignal, Instance, Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from rtl.sharing import family

BLOCK_BITS = 18     # operands of an ECP5 MULT18X18D


class Product(wiring.Component):
    """``product`` = ``a`` * ``b`` of LATENCY (2) cycles before; one a cycle. Operands of `width` bits, signed, at most 18.

    On ECP5 both registers are those of a MULT18X18D. Both operands must be registered there: with only one, nextpnr takes neither.
    """

    LATENCY = 2

    def __init__(self, *, width: int):
        if not 1 <= width <= BLOCK_BITS:
            raise ValueError(f"width = {width} is outside 1..{BLOCK_BITS}")
        self.width = width
        super().__init__({"a": In(signed(width)), "b": In(signed(width)), "product": Out(signed(2 * width))})

    def elaborate(self, platform):
        m = Module()
        if family(platform) == "ecp5":
            m.d.comb += self.product.eq(self._block(m))
            return m
        a, b = Signal.like(self.a, reset_less=True), Signal.like(self.b, reset_less=True)
        product = Signal.like(self.product, reset_less=True)
        m.d.sync += [a.eq(self.a), b.eq(self.b), product.eq(a * b)]
        m.d.comb += self.product.eq(product)
        return m

    def _block(self, m: Module):
        """The product of a MULT18X18D with input and output registers, clock enables tied high.

        The operands are in its upper bits: the lower ones need no wires, where copies of the sign would.
        """
        product, low = Signal(2 * BLOCK_BITS, name="block_product"), BLOCK_BITS - self.width
        ports = {f"o_P{i}": product[i] for i in range(2 * BLOCK_BITS)}
        for name, operand in (("A", self.a), ("B", self.b)):
            ports |= {f"i_{name}{i}": operand[i - low] if i >= low else 0 for i in range(BLOCK_BITS)}
        ports |= {f"i_C{i}": 0 for i in range(BLOCK_BITS)}
        ports |= {f"i_{name}": 1 for name in ("SIGNEDA", "SIGNEDB", "CE0")}
        ports |= {f"i_{name}": 0 for name in ("SOURCEA", "SOURCEB", "RST0")}
        ports |= {f"i_{name}{i}": 0 for name in ("CLK", "CE", "RST") for i in (1, 2, 3)}
        registers = {f"p_REG_{name}_CLK": "CLK0" for name in ("INPUTA", "INPUTB", "OUTPUT")}
        m.submodules.block = Instance("MULT18X18D", i_CLK0=ClockSignal(), **ports, **registers)
        return product[2 * low:].as_signed()

"""Multiplication on iCE40: in the DSP block, and in LUTs. Yosys infers neither well (what it packs into a block may be wrong)."""

from amaranth.hdl import C, Cat, ClockSignal, Instance, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

BLOCK_BITS = 16     # operands of an SB_MAC16


class MacProduct(wiring.Component):
    """``product`` = ``a`` * ``b`` of `latency` (0 to 2) cycles before, signed, `width` (at most 16) bits each: an SB_MAC16 alone.

    The first register lies between the block's four small multipliers and their sum, the second in front of them.
    """

    LATENCY = 2

    def __init__(self, *, width: int, latency: int):
        if not 1 <= width <= BLOCK_BITS:
            raise ValueError(f"width = {width} is outside 1..{BLOCK_BITS}")
        if not 0 <= latency <= self.LATENCY:
            raise ValueError(f"latency = {latency} is outside 0..{self.LATENCY}")
        self.width, self.latency = width, latency
        super().__init__({"a": In(signed(width)), "b": In(signed(width)), "product": Out(signed(2 * width))})

    def elaborate(self, platform):
        m = Module()
        product = Signal(2 * BLOCK_BITS, name="block_product")
        wide = {f"i_{name}": C(0, BLOCK_BITS) for name in "CD"}
        wide |= {f"i_{name}": Cat(operand, operand[-1].replicate(BLOCK_BITS - self.width))
                 for name, operand in (("A", self.a), ("B", self.b))}
        low = ("AHOLD", "BHOLD", "CHOLD", "DHOLD", "IRSTTOP", "IRSTBOT", "ORSTTOP", "ORSTBOT", "OLOADTOP", "OLOADBOT", "ADDSUBTOP",
               "ADDSUBBOT", "OHOLDTOP", "OHOLDBOT", "CI", "ACCUMCI", "SIGNEXTIN")
        middle = ("TOP_8x8_MULT_REG", "BOT_8x8_MULT_REG", "PIPELINE_16x16_MULT_REG1")
        parameters = {"TOPOUTPUT_SELECT": C(3, 2), "BOTOUTPUT_SELECT": C(3, 2), "A_SIGNED": C(1, 1), "B_SIGNED": C(1, 1)}
        parameters |= {name: C(self.latency >= 1, 1) for name in middle} | {name: C(self.latency == 2, 1) for name in ("A_REG", "B_REG")}
        m.submodules.block = Instance(
            "SB_MAC16", i_CLK=ClockSignal(), i_CE=C(1, 1), **wide, o_O=product, **{f"i_{name}": C(0, 1) for name in low},
            **{f"p_{name}": value for name, value in parameters.items()})
        m.d.comb += self.product.eq(product)
        return m


class RowProduct(wiring.Component):
    """``product`` = ``a`` * ``b`` in the same cycle, signed, `width` bits each: a row of adders for each bit of ``b``, below each other.

    A bit of ``b`` chooses between a row's sum and what came from above; on iCE40 the LUT behind the carry does that as well. 98 LUTs for
    9 bits; Yosys makes 235 of ``a * b``.
    """

    def __init__(self, *, width: int):
        if width < 2:
            raise ValueError(f"width = {width} must be at least 2")
        self.width = width
        super().__init__({"a": In(signed(width)), "b": In(signed(width)), "product": Out(signed(2 * width))})

    def elaborate(self, platform):
        m = Module()
        above, low = Signal(signed(self.width + 1), name="row_0"), []
        m.d.comb += above.eq(Mux(self.b[0], self.a, 0))
        for i in range(1, self.width):
            low.append(above[0])
            rest, row = (above >> 1).as_signed(), Signal(signed(self.width + 1), name=f"row_{i}")
            m.d.comb += row.eq(Mux(self.b[i], rest - self.a if i == self.width - 1 else rest + self.a, rest))
            above = row
        m.d.comb += self.product.eq(Cat(*low, above))
        return m

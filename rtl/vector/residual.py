"""Residuals: 8-bit numbers in the global buffer, each kind with a scale and a zero point, added to 8-bit results on their way there."""

from amaranth.hdl import C, Cat, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from gen.config import Config
from gen.isa import FRACTION_BITS, layout
from gen.timing import ADD_LATENCY
from rtl.arith.product import BLOCK_BITS, Product
from rtl.instruction import instruction_layout
from rtl.interfaces import BufferRead
from rtl.sharing import place

MULTIPLIER_BITS = next(item.width for item, _ in layout("SetAdd") if item.name == "multiplier")
HALF = MULTIPLIER_BITS // 2
OPERAND_BITS = 10       # of an operand without its zero point
READ_AHEAD = 4          # cycles from a word's read to its being registered: the read is that much earlier than the word's first results

# What the columns of a result share; fields as in SetAdd. `is_signed`: of the result and its own operands.
ADDITION = data.StructLayout({
    "multiplier": MULTIPLIER_BITS, "residual_multiplier": MULTIPLIER_BITS, "own_zero_point": signed(9), "residual_zero_point": signed(9),
    "zero_point": signed(9), "residual_signed": 1, "is_signed": 1, "relu": 1,
})


class ResidualAdder(wiring.Component):
    """result = saturate(round_half_even(((own - own zero point) * multiplier + (residual - its zero point) * its multiplier) / 2^24)
    + zero point); with `relu` at least the zero point before saturation.

    Exact, rounded once. Latency 7 cycles (`LATENCY`); one pair of operands a cycle, no back-pressure. `addition` must stay constant while
    operands are under way; that is not enforced. Four multiplier blocks a column: each multiplier is split into halves of 13 bits.
    """

    LATENCY = 7

    def __init__(self):
        super().__init__({"own": In(8), "residual": In(8), "addition": In(ADDITION), "result": Out(8)})

    def elaborate(self, platform):
        m = Module()
        addition = self.addition

        # 1: operands without their zero points
        operands = [Signal(signed(OPERAND_BITS), name=f"{name}_operand", reset_less=True) for name in ("own", "residual")]
        for operand, bits, is_signed, zero_point in (
                (operands[0], self.own, addition.is_signed, addition.own_zero_point),
                (operands[1], self.residual, addition.residual_signed, addition.residual_zero_point)):
            m.d.sync += operand.eq(Cat(bits, is_signed & bits[-1]).as_signed() - zero_point)

        # 2, 3: products with the halves of the multipliers; 4: their sums
        sums = []
        for half in range(2):
            products = []
            for operand, multiplier, name in zip(operands, (addition.multiplier, addition.residual_multiplier), ("own", "residual")):
                m.submodules[f"{name}_product_{half}"] = product = Product(width=BLOCK_BITS)
                m.d.comb += [product.a.eq(operand), product.b.eq(multiplier.word_select(half, HALF))]
                products.append(product.product[:OPERAND_BITS + HALF + 1].as_signed())
            sums.append(Signal(signed(OPERAND_BITS + HALF + 2), name=f"sum_{half}", reset_less=True))
            m.d.sync += sums[-1].eq(products[0] + products[1])

        # 5: the exact sum
        total = Signal(signed(OPERAND_BITS + MULTIPLIER_BITS + 2), reset_less=True)
        m.d.sync += total.eq(sums[0] + (sums[1] << HALF))

        # 6: rounding
        integer, fraction = total[FRACTION_BITS:].as_signed(), total[:FRACTION_BITS]
        rounded = Signal(signed(len(integer) + 1), reset_less=True)
        m.d.sync += rounded.eq(integer + (fraction[-1] & (fraction[:-1].any() | integer[0])))
        with m.If(addition.relu & (total < 0)):
            m.d.sync += rounded.eq(0)

        # 7: zero point and saturation
        shifted = rounded + addition.zero_point
        over = (shifted >= 0) & (shifted[8:].any() | (addition.is_signed & shifted[7]))
        under = (shifted < 0) & ~(addition.is_signed & shifted[7:].all())
        least, most = Cat(C(0, 7), addition.is_signed), Cat(C(0x7F, 7), ~addition.is_signed)
        m.d.sync += self.result.eq(Mux(over, most, Mux(under, least, shifted[:8])))
        return m


class Residuals(wiring.Component):
    """Adds the residual that a SetAdd described to the results of the instruction behind it, lane group by lane group.

    `set` takes the fields of a SetAdd and makes it `active` from the next cycle on; `clear` ends that. `expect`: results of the next lane
    group come READ_AHEAD cycles later on `own`; the residual of their word (in the order of rows and, if `wide`, blocks) is read by then.
    `sums` come ADD_LATENCY cycles behind the results.
    """

    def __init__(self, config: Config):
        assert ResidualAdder.LATENCY == ADD_LATENCY
        self._lanes, self._groups = config.buffers.store_lanes, config.array.side // config.buffers.store_lanes
        super().__init__({
            "set": In(1), "clear": In(1), "fields": In(instruction_layout("SetAdd")), "active": Out(1),
            "expect": In(1), "wide": In(1), "is_signed": In(1),
            "own": In(8).array(self._lanes), "sums": Out(8).array(self._lanes),
            "read": Out(BufferRead(config, words=1)),
        })

    def elaborate(self, platform):
        m = Module()
        fields = Signal.like(self.fields)
        with m.If(self.set):
            m.d.sync += [self.active.eq(1), fields.eq(self.fields)]
        with m.Elif(self.clear):
            m.d.sync += self.active.eq(0)

        # A read with the first lane group of every word
        group, block, addresses = Signal(range(max(2, self._groups))), Signal(), [Signal(16, name=f"address_{i}") for i in range(2)]
        last = group == self._groups - 1
        m.d.comb += [
            self.read.enable.eq(self.active & self.expect & (group == 0)),
            self.read.slice.eq(fields.slice),
            self.read.addresses[0].eq(Mux(block, addresses[1], addresses[0])),
        ]
        with m.If(self.active & self.expect):
            m.d.sync += group.eq(Mux(last, 0, group + 1))
            with m.If(last):
                m.d.sync += block.eq(self.wide & ~block)
        with m.If(self.read.enable):
            for i, address in enumerate(addresses):
                with m.If(block == i):
                    m.d.sync += address.eq(address + 1)
        with m.If(self.set):
            m.d.sync += [group.eq(0), block.eq(0), addresses[0].eq(self.fields.address),
                         addresses[1].eq(self.fields.address + self.fields.pitch)]

        # The word, and which of its columns are due
        read, due, word = self.read.enable, group, Signal.like(self.read.data[0])
        for cycle in range(READ_AHEAD):
            later = [Signal.like(value, name=f"{name}_{cycle + 1}") for value, name in ((read, "read"), (due, "due"))]
            m.d.sync += [later[0].eq(read), later[1].eq(due)]
            if cycle == READ_AHEAD - 1:
                with m.If(read):
                    m.d.sync += word.eq(self.read.data[0])
            read, due = later
        columns = word.word_select(due, 8 * self._lanes)
        for lane in range(self._lanes):
            adder = place(m, platform, instance=f"lane_{lane}", module="residual_adder", factory=ResidualAdder)
            m.d.comb += [
                adder.own.eq(self.own[lane]), adder.residual.eq(columns.word_select(lane, 8)), self.sums[lane].eq(adder.result),
                adder.addition.residual_signed.eq(fields.signed), adder.addition.is_signed.eq(self.is_signed),
                *(getattr(adder.addition, name).eq(getattr(fields, name)) for name in
                  ("multiplier", "residual_multiplier", "own_zero_point", "residual_zero_point", "zero_point", "relu")),
            ]
        return m

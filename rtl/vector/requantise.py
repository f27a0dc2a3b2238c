"""Requantisation of one column: an int32 sum to int8 or uint8, as ONNX QLinear operators define it."""

from amaranth import C, Cat, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from rtl.arith.product import BLOCK_BITS, Product

LOW_BITS = 17       # operands of 17 bits unsigned or 18 signed fit one DSP multiplier (18 x 18, signed)
KEPT_BITS = 19      # after the coarse shift: guard, up to 7 bits of fine shift, 11 bits of integer


class Requantiser(wiring.Component):
    """result = saturate(round_half_even((sum + bias) * multiplier) + zero_point); with `relu` at least the zero point before saturation.

    sum + bias is modulo 2^32. The product with the multiplier (fp32 bits) is exact and rounded once. Latency: `total` (sum + bias as an
    int32 output holds it, clipped at zero with `relu`) 1 cycle, `result` 10 cycles (`LATENCY`); one operand a cycle, no back-pressure.
    `zero_point`, `is_signed` and `relu` must stay constant while operands are under way; that is not enforced. A multiplier must be
    positive, normal and finite; that is not enforced either: its sign is ignored, exponent 0 gives 0 and exponent 255 saturates.

    Two 18 x 18 multipliers take the low 17 bits of the mantissa, adders the seven high ones, so that a lane needs two DSP blocks, not four.
    """

    LATENCY = 10

    def __init__(self):
        super().__init__({
            "sum": In(signed(32)),
            "bias": In(signed(32)),
            "multiplier": In(32),
            "zero_point": In(signed(9)),
            "is_signed": In(1),
            "relu": In(1),
            "total": Out(signed(32)),
            "result": Out(8),
        })

    def elaborate(self, platform):
        m = Module()

        def register(value, name: str, cycles: int = 1):
            """`value`, `cycles` later."""
            for cycle in range(cycles):
                stage = Signal.like(value, name=f"{name}_{cycle + 1}" if cycles > 1 else name, reset_less=True)
                m.d.sync += stage.eq(value)
                value = stage
            return value

        # 1: the biased sum. The multiplier is mantissa * 2^-shift with 24 bits of mantissa.
        total = register((self.sum + self.bias)[:32].as_signed(), "biased")
        low = register(self.multiplier[:LOW_BITS], "mantissa_low")
        high = register(self.multiplier[LOW_BITS:23], "mantissa_high")
        distance = register(150 - self.multiplier[23:31], "distance")
        m.d.comb += self.total.eq(Mux(self.relu & (total < 0), 0, total))

        # 2, 3: the low part of the mantissa in multipliers
        m.submodules.product_low = product_low = Product(width=BLOCK_BITS)
        m.submodules.product_high = product_high = Product(width=BLOCK_BITS)
        m.d.comb += [
            product_low.a.eq(total[:LOW_BITS]),
            product_high.a.eq(total[LOW_BITS:].as_signed()),
            product_low.b.eq(low),
            product_high.b.eq(low),
        ]

        # 2: the high part, rows in pairs. Shifts of 56 and more all give 0 (|product| < 2^55); without a shift, or with one to the left,
        # everything but zero saturates, for the mantissa's leading one alone is 2^23.
        far = register(distance[6:8].any() | distance[3:6].all(), "far")
        left, near = register(distance < 0, "left"), register(distance[:6], "near")

        def row(bit: int):
            return Mux(high[bit], total, C(0, signed(32)))

        pairs = [register(row(bit) + (row(bit + 1) << 1), f"pair_{bit}") for bit in (0, 2, 4)]
        leading = register(total, "leading")

        # 3, 4, 5: the exact product
        rows_low, rows_high = register(pairs[0] + (pairs[1] << 2), "rows_low"), register(pairs[2] + (leading << 2), "rows_high")
        part = register(product_low.product + (product_high.product << LOW_BITS), "part")
        rows = register(rows_low + (rows_high << 4), "rows")
        product = register((part + (rows << LOW_BITS))[:56].as_signed(), "product")
        shift = register(Mux(left, 0, Mux(far, 56, near)), "shift", 3)

        # 6: coarse shift, by bytes; one more bit below the product is the guard bit
        guarded = Cat(C(0, 1), product).as_signed()
        coarse = register((guarded >> Cat(C(0, 3), shift[3:])).as_signed(), "coarse")
        lost = register(Cat((shift[3:] > i) & guarded[8 * i:8 * i + 8].any() for i in range(7)), "lost")
        fine = register(shift[:3], "fine")

        # 7: fine shift
        kept = register((coarse[:KEPT_BITS].as_signed() >> fine).as_signed(), "kept")
        sticky = register(lost.any() | Cat((fine > i) & coarse[i] for i in range(7)).any(), "sticky")
        beyond = coarse[KEPT_BITS - 1:]
        outside, negative = register(beyond.any() & ~beyond.all(), "outside"), register(coarse[-1], "negative")

        # 8: rounding. What is outside saturates whatever the zero point.
        integer = kept[1:].as_signed()
        limit = 1 << (len(integer) - 1)
        up = kept[0] & (sticky | integer[0])
        rounded = register(Mux(outside, Mux(negative, -limit, limit - 1), integer + up).as_signed(), "rounded")

        # 9: zero point, 10: saturation
        shifted = register(Mux(self.relu & (rounded < 0), 0, rounded) + self.zero_point, "shifted")
        above = (shifted >= 0) & (shifted[8:].any() | (self.is_signed & shifted[7]))
        below = (shifted < 0) & ~(self.is_signed & shifted[7:].all())
        m.d.sync += self.result.eq(Mux(above, Cat(C(0x7F, 7), ~self.is_signed), Mux(below, Cat(C(0, 7), self.is_signed), shifted[:8])))
        return m

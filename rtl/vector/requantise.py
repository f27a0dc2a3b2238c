"""Requantisation of one column: an int32 sum to int8 or uint8, as ONNX QLinear operators define it."""

from amaranth import C, Cat, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from rtl.arith.multiplexer import select
from rtl.arith.product import BLOCK_BITS, Product

HALF = 16           # operands are split in halves: products of 18 bits at most, signed
MIDDLE_BITS = 33    # of the two products across the halves, together
FINE_BITS = 3       # of a shift, behind the shift by bytes
INTEGER_BITS = 10   # with any zero point (9 bits, signed), 511 and more saturates, -512 and less too


class Requantiser(wiring.Component):
    """result = saturate(round_half_even((sum + bias) * multiplier) + zero_point); with `relu` at least the zero point before saturation.

    sum + bias is modulo 2^32. The product with the multiplier (fp32 bits) is exact and rounded once. Latency: `total` (sum + bias as an
    int32 output holds it, clipped at zero with `relu`) 2 cycles, `result` 10 cycles (`LATENCY`); one operand a cycle, no back-pressure.
    `zero_point`, `is_signed` and `relu` must stay constant while operands are under way; that is not enforced. A multiplier must be
    positive, normal and finite; that is not enforced either: its sign is ignored, exponent 0 gives 0 and exponent 255 saturates.

    Three multipliers a lane: with operands a 2^16 + b and c 2^16 + d, ad + bc is (a + b)(c + d) - ac - bd (Karatsuba).
    """

    LATENCY = 10
    TOTAL_LATENCY = 2

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

        # 1: the biased sum. The multiplier is mantissa * 2^-distance with 24 bits of mantissa.
        total = register((self.sum + self.bias)[:32].as_signed(), "biased")
        mantissa = Cat(register(self.multiplier[:23], "mantissa"), C(1, 1))
        distance = register(150 - self.multiplier[23:31], "distance")
        with m.If(self.relu & (total < 0)):
            m.d.sync += self.total.eq(0)
        with m.Else():
            m.d.sync += self.total.eq(total)

        # 2, 3: products of halves
        halves = (total[HALF:].as_signed(), total[:HALF]), (mantissa[HALF:], mantissa[:HALF])
        high = self._product(m, "high_product", *(upper for upper, _ in halves))
        low = self._product(m, "low_product", *(lower for _, lower in halves))
        both = self._product(m, "both_product", *(upper + lower for upper, lower in halves))

        # 2: shifts of 56 and more all give 0 (|product| < 2^55); without a shift, or with one to the left, everything but zero saturates,
        # for the mantissa's leading one alone is 2^23.
        far = distance[6:8].any() | distance[3:6].all()
        shift = register(Mux(distance < 0, 0, Mux(far, 56, distance[:6])), "shift", 5)

        # 4, 5, 6: the exact product
        without_low = register((both - low)[:MIDDLE_BITS], "without_low")
        middle = register((without_low - register(high, "high"))[:MIDDLE_BITS].as_signed(), "middle")
        bottom, top = register(low[:2 * HALF], "bottom", 2), register(high, "top", 2)
        upper = Cat(bottom[HALF:], top).as_signed() + middle
        product = register(Cat(bottom[:HALF], upper)[:56].as_signed(), "product")

        # 7: coarse shift, by bytes; one more bit below the product is the guard bit. What is cut off is zero, and all sign, or it counts.
        guarded, negative = Cat(C(0, 1), product), product[-1]
        kept_bits = 1 + INTEGER_BITS + 7
        choices = [guarded[8 * i:8 * i + kept_bits] for i in range(8)]
        choices = [Cat(bits, negative.replicate(kept_bits - len(bits))) for bits in choices]
        coarse = register(select(m, platform, "bytes", choices, shift[FINE_BITS:]), "coarse")
        lost = register(Cat((shift[FINE_BITS:] > i) & guarded[8 * i:8 * i + 8].any() for i in range(7)).any(), "lost")
        above = [guarded[start:start + 8] for start in range(kept_bits, len(guarded), 8)]
        counts = Cat(Mux(negative, ~bits.all(), bits.any()) & (shift[FINE_BITS:] <= i) for i, bits in enumerate(above))
        outside = register(counts.any(), "outside")
        fine, sign = register(shift[:FINE_BITS], "fine"), register(negative, "sign")

        # 8: fine shift
        kept = register(select(m, platform, "bits", [coarse[i:i + 1 + INTEGER_BITS] for i in range(8)], fine), "kept")
        sticky = register(lost | Cat((fine > i) & coarse[i] for i in range(7)).any(), "sticky")
        far_out = register(outside | Cat((fine <= i) & (bit ^ sign) for i, bit in enumerate(coarse[INTEGER_BITS:])).any(), "far_out")
        below_zero = register(sign, "below_zero")

        # 9: rounding. What is outside saturates whatever the zero point.
        integer = kept[1:].as_signed()
        limit = 1 << (INTEGER_BITS - 1)
        up = kept[0] & (sticky | integer[0])
        rounded = Signal(signed(INTEGER_BITS + 1), reset_less=True)
        m.d.sync += rounded.eq(Mux(far_out, Mux(below_zero, -limit, limit - 1), integer + up))
        with m.If(self.relu & below_zero):
            m.d.sync += rounded.eq(0)

        # 10: zero point and saturation
        shifted = rounded + self.zero_point
        over = (shifted >= 0) & (shifted[8:].any() | (self.is_signed & shifted[7]))
        under = (shifted < 0) & ~(self.is_signed & shifted[7:].all())
        m.d.sync += self.result.eq(Mux(over, Cat(C(0x7F, 7), ~self.is_signed), Mux(under, Cat(C(0, 7), self.is_signed), shifted[:8])))
        return m

    def _product(self, m: Module, name: str, a, b):
        """a * b, two cycles later."""
        m.submodules[name] = block = Product(width=BLOCK_BITS)
        m.d.comb += [block.a.eq(a), block.b.eq(b)]
        return block.product

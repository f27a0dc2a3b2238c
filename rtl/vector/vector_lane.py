"""One column of the vector unit: an fp32 multiplication, an addition and a last step, an element a cycle; sums and largest elements."""

from amaranth.hdl import C, Cat, Module, Mux
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from gen.isa import PARTIAL_SUMS, Addend, Factor, Post
from rtl.arith.bfloat16 import less, maximum
from rtl.arith.float32 import Add, Multiply
from rtl.array.skew import delayed

ONE, MINUS_ZERO = 0x3F80_0000, 0x8000_0000
BIAS = 127
MULTIPLY_CYCLES, ADD_CYCLES = 3, 4


class VectorLane(wiring.Component):
    """post(a * factor + addend), each operation rounded to fp32: VALUE_CYCLES behind the element's operands.

    `a`, `b` and `bit` are an element's, all else of the instruction is constant while its elements are under way. `b` may be the factor,
    the addend or what `post` compares with; `bit` is for Post.MASKED: 0 makes the element +0.

    Sums: `slot` is the partial sum to which the product of MULTIPLY_CYCLES before is added, if `adding`, from +0 unless `begun`; it is
    there again six cycles later. With `folding` partial sum `slot` gets its sum with `other` instead, +0 for one that has not `begun`
    (`other_begun`); `sum` is what has just been added.
    `largest` follows `value` in the cycles with `comparing`, from the first, with `first`, on.
    """

    VALUE_CYCLES = MULTIPLY_CYCLES + ADD_CYCLES + 1

    def __init__(self):
        slots = range(PARTIAL_SUMS)
        super().__init__({
            "a": In(32), "b": In(32), "bit": In(1),
            "factor": In(Factor), "addend": In(Addend), "post": In(Post), "factor_register": In(32), "addend_register": In(32),
            "adding": In(1), "folding": In(1), "slot": In(slots), "begun": In(1), "other": In(slots), "other_begun": In(1),
            "first": In(1), "comparing": In(1),
            "sum": Out(32), "value": Out(32), "largest": Out(32),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.multiplier = multiplier = Multiply(latency=MULTIPLY_CYCLES)
        m.submodules.adder = adder = Add(latency=ADD_CYCLES)
        m.submodules.partial_sums = memory = Memory(shape=32, depth=PARTIAL_SUMS, init=[])
        write, read, read_other = memory.write_port(), memory.read_port(domain="comb"), memory.read_port(domain="comb")

        m.d.comb += multiplier.a.eq(self.a)
        with m.Switch(self.factor):
            for choice, value in ((Factor.ONE, C(ONE, 32)), (Factor.A, self.a), (Factor.B, self.b),
                                  (Factor.REGISTER, self.factor_register)):
                with m.Case(choice):
                    m.d.comb += multiplier.b.eq(value)
        b_to_add = delayed(m, self.b, MULTIPLY_CYCLES, name="b_to_add")
        m.d.comb += [adder.a.eq(multiplier.result), read.addr.eq(self.slot), read_other.addr.eq(self.other)]
        with m.Switch(self.addend):
            for choice, value in ((Addend.NONE, C(MINUS_ZERO, 32)), (Addend.B, b_to_add), (Addend.REGISTER, self.addend_register)):
                with m.Case(choice):
                    m.d.comb += adder.b.eq(value)
        so_far = Mux(self.begun, read.data, 0)
        with m.If(self.adding):
            m.d.comb += adder.b.eq(so_far)
        with m.If(self.folding):
            m.d.comb += [adder.a.eq(so_far), adder.b.eq(Mux(self.other_begun, read_other.data, 0))]
        m.d.comb += [
            self.sum.eq(adder.result),
            write.en.eq(delayed(m, self.adding | self.folding, ADD_CYCLES, name="kept", reset_less=False)),
            write.addr.eq(delayed(m, self.slot, ADD_CYCLES, name="slot")),
            write.data.eq(adder.result),
        ]

        # The last step
        v, b = adder.result, delayed(m, b_to_add, ADD_CYCLES, name="b_to_compare")
        bit = delayed(m, self.bit, MULTIPLY_CYCLES + ADD_CYCLES, name="bit")
        is_nan = v[23:31].all() & v[:23].any()
        equal = ~less(v, b) & ~less(b, v) & ~is_nan & ~(b[23:31].all() & b[:23].any())
        with m.Switch(self.post):
            for choice, value in (
                (Post.NONE, v), (Post.RELU, Mux(v[31], 0, v)), (Post.MASKED, Mux(bit, v, 0)), (Post.LARGER, maximum(v, b)),
                (Post.EQUAL, Mux(equal, ONE, 0)), (Post.POWER, Cat(C(0, 23), (v[:8] + BIAS)[:8], C(0, 1))),
            ):
                with m.Case(choice):
                    m.d.sync += self.value.eq(value)
        with m.If(self.comparing):
            m.d.sync += self.largest.eq(Mux(self.first, self.value, maximum(self.largest, self.value)))
        return m

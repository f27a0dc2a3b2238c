"""The faults of the mutation check in VECTOR, the vector unit."""

from tb.mutant import Mutant, unit

TESTS = unit("vector_unit")

VECTOR_UNIT = [
    Mutant("lane-addend", "rtl/vector/vector_lane.py", "B is added to the product of the element before",
           "delayed(m, self.b, MULTIPLY_CYCLES, name", "delayed(m, self.b, MULTIPLY_CYCLES - 1, name", TESTS),
    Mutant("lane-mask", "rtl/vector/vector_lane.py", "a mask bit takes away what it should keep",
           "Mux(bit, v, 0)", "Mux(bit, 0, v)", TESTS),
    Mutant("lane-begun", "rtl/vector/vector_lane.py", "a sum begins with what the one before has left",
           "Mux(self.begun, read.data, 0)", "read.data", TESTS),
    Mutant("lane-other-begun", "rtl/vector/vector_lane.py", "partial sums that no element has reached count",
           "Mux(self.other_begun, read_other.data, 0)", "read_other.data", TESTS),
    Mutant("lane-first", "rtl/vector/vector_lane.py", "the largest element may be one of the stream before",
           "Mux(self.first, self.value, maximum(self.largest, self.value))", "maximum(self.largest, self.value)", TESTS),
    Mutant("lane-power", "rtl/vector/vector_lane.py", "a power of two is twice as large",
           "(v[:8] + BIAS)", "(v[:8] + BIAS + 1)", TESTS),
    Mutant("lane-relu", "rtl/vector/vector_lane.py", "the ReLU keeps -0",
           "(Post.RELU, Mux(v[31], 0, v))", "(Post.RELU, Mux(v[31] & v[:31].any(), 0, v))", TESTS),
    Mutant("lanes-neighbour", "rtl/vector/lane_operations.py", "the neighbour is always the one to the right",
           "(lane ^ distance)", "(lane + distance)", TESTS),
    Mutant("lanes-step", "rtl/vector/lane_operations.py", "every step adds the nearest neighbours",
           "distance.eq(distance << 1)", "distance.eq(distance)", TESTS),
    Mutant("vector-fold", "rtl/vector/vector_unit.py", "the last two partial sums are added a cycle before they are there",
           "(13, 0, 1))", "(12, 0, 1))", TESTS),
    Mutant("vector-mask-bit", "rtl/vector/vector_unit.py", "an element is masked by its neighbour's bit",
           "bit_select(stages[OPERANDS].number, 1)", "bit_select(stages[OPERANDS - 1].number, 1)", TESTS),
    Mutant("vector-mask-word", "rtl/vector/vector_unit.py", "words of mask bits are as far apart as sixteen of them",
           "m.If(~masked | (number == MASK_ELEMENTS - 1))", "m.If(1)", TESTS),
    Mutant("vector-halves", "rtl/vector/vector_unit.py", "the halves of an fp32 number change places at odd addresses",
           "Mux(odd, low, high)", "Mux(odd, high, low)", TESTS),
    Mutant("vector-registers", "rtl/vector/vector_unit.py", "factor and addend are read from each other's register",
           "fields.factor_register),", "fields.addend_register),", TESTS),
    Mutant("vector-latency", "rtl/vector/vector_unit.py", "a sum is said to be there while it is being added up",
           "Mux(sums, VECTOR_LATENCY + FOLD_LATENCY, VECTOR_LATENCY)", "VECTOR_LATENCY", TESTS),
    Mutant("transposer-direction", "rtl/vector/transposer.py", "what should move down moves to the right",
           "Mux(sideways, before, above)", "Mux(sideways, above, before)", TESTS),
    Mutant("transposer-turn", "rtl/vector/transposer.py", "every block enters from above",
           "sideways.eq(~sideways)", "sideways.eq(sideways)", TESTS),
    Mutant("transposer-block", "rtl/vector/transposer.py", "results lie as far apart as operands",
           "base.eq(base + fields.d_block)", "base.eq(base + fields.a_block)", TESTS),
]

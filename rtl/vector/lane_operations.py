"""What the vector unit does to whole registers, column after column: divisions, square roots, sums and largest elements of columns."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from gen.isa import LaneOperation
from rtl.arith.bfloat16 import maximum
from rtl.arith.division import Divide, SquareRoot
from rtl.arith.float32 import Add
from rtl.array.skew import delayed

ADD_CYCLES = 4


class LaneOperations(wiring.Component):
    """`result` of `a` (and `b`), `lanes` fp32 elements each; `done` is high in the cycle in which it is there.

    `start` in cycle s, everything else constant from then on. DIVIDE, a / b: done in s + 27 lanes + 3. ROOT of a: s + 26 lanes + 3. SUM
    and LARGEST: of each 2**span neighbours in `a`, which all get the result; done in s + span (lanes + 5). A sum is a tree: neighbours
    first, then sums of two, of four, ...
    """

    def __init__(self, *, lanes: int):
        self.lanes_ = lanes
        super().__init__({
            "start": In(1), "operation": In(LaneOperation), "span": In(3), "a": In(32 * lanes), "b": In(32 * lanes),
            "result": Out(32 * lanes), "done": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        lanes, bits = self.lanes_, ceil_log2(self.lanes_)
        m.submodules.divide = divide = Divide()
        m.submodules.root = root = SquareRoot()
        m.submodules.adder = adder = Add(latency=ADD_CYCLES)

        elements, running, lane, step = Signal(32 * lanes), Signal(), Signal(range(max(2, lanes))), Signal(3)
        distance = Signal(max(1, bits))         # to the neighbour: 1, 2, 4, ...
        own = elements.word_select(lane, 32)
        neighbour = elements.word_select((lane ^ distance)[:max(1, bits)], 32)
        across = (self.operation == LaneOperation.SUM) | (self.operation == LaneOperation.LARGEST)
        divides = self.operation == LaneOperation.DIVIDE
        larger = delayed(m, maximum(own, neighbour), ADD_CYCLES, name="larger")
        m.d.comb += [
            divide.operands.p.a.eq(own), divide.operands.p.b.eq(self.b.word_select(lane, 32)), divide.operands.valid.eq(running & divides),
            root.operands.payload.eq(own), root.operands.valid.eq(running & ~across & ~divides),
            adder.a.eq(own), adder.b.eq(neighbour),
        ]

        # The next column, when this one has been taken
        taken = Signal()
        m.d.comb += taken.eq(running & (across | Mux(divides, divide.operands.ready, root.operands.ready)))
        with m.If(taken):
            m.d.sync += [lane.eq(lane + 1), running.eq(lane != lanes - 1)]

        # Results come in order. The last one completes a step: of sums and largest elements there are more.
        arrived, value, count, complete = Signal(), Signal(32), Signal(range(max(2, lanes))), Signal()
        added = delayed(m, taken & across, ADD_CYCLES, name="added", reset_less=False)
        m.d.comb += [
            arrived.eq(added | divide.result.valid | root.result.valid),
            value.eq(Mux(added, Mux(self.operation == LaneOperation.SUM, adder.result, larger),
                         Mux(divides, divide.result.payload, root.result.payload))),
            self.done.eq(complete & (~across | (step == self.span))),
        ]
        m.d.sync += complete.eq(arrived & (count == lanes - 1))
        with m.If(arrived):
            m.d.sync += [self.result.eq(Cat(self.result[32:], value)), count.eq(Mux(count == lanes - 1, 0, count + 1))]
        with m.If(self.start):
            m.d.sync += [elements.eq(self.a), running.eq(1), lane.eq(0), step.eq(1), distance.eq(1)]
        with m.Elif(complete & ~self.done):
            m.d.sync += [elements.eq(self.result), running.eq(1), lane.eq(0), step.eq(step + 1), distance.eq(distance << 1)]
        return m

"""A small queue: what a unit has been given to do, in order."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out


class Queue(wiring.Component):
    """First in, first out; `depth` entries of any shape.

    An entry pushed in cycle t is at `head` in t+1 when the queue was empty. All outputs are registers: decisions start early in the
    cycle, and a full queue takes no entry even when one leaves. One entry a cycle in and out. A push when `full` is ignored.
    """

    def __init__(self, *, shape, depth: int):
        if depth < 2:
            raise ValueError(f"depth = {depth} must be at least 2")
        self.shape, self.depth = shape, depth
        super().__init__({
            "push": In(1),
            "entry": In(shape),
            "full": Out(1),
            "count": Out(range(depth + 1)),
            "head": Out(stream.Signature(shape)),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.memory = memory = Memory(shape=self.shape, depth=self.depth, init=[])   # the entries behind the head
        write, read = memory.write_port(), memory.read_port(domain="comb")
        pushed, popped, free, behind = Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            pushed.eq(self.push & ~self.full),
            popped.eq(self.head.valid & self.head.ready),
            free.eq(~self.head.valid | self.head.ready),
            behind.eq(self.count > 1),
            write.en.eq(pushed & ~(free & ~behind)),
            write.data.eq(self.entry),
        ]
        with m.If(free):
            m.d.sync += [self.head.valid.eq(behind | pushed), self.head.payload.eq(Mux(behind, read.data, self.entry))]
        for moves, port, name in ((write.en, write, "write_position"), (free & behind, read, "read_position")):
            position = Signal(range(self.depth), name=name)
            m.d.comb += port.addr.eq(position)
            with m.If(moves):
                m.d.sync += position.eq(Mux(position == self.depth - 1, 0, position + 1))
        with m.If(pushed & ~popped):
            m.d.sync += [self.count.eq(self.count + 1), self.full.eq(self.count == self.depth - 1)]
        with m.Elif(popped & ~pushed):
            m.d.sync += [self.count.eq(self.count - 1), self.full.eq(0)]
        return m

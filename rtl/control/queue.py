"""A small queue: what a unit has been given to do, in order."""

from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out


class Queue(wiring.Component):
    """First in, first out; `depth` entries of any shape.

    An entry pushed in cycle t is at `head` in t+1 when the queue was empty. `full` and `count` are registers: a full queue takes no entry
    even in a cycle in which one leaves. One entry a cycle in and out. A push when `full` is ignored.
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
        m.submodules.memory = memory = Memory(shape=self.shape, depth=self.depth, init=[])
        write, read = memory.write_port(), memory.read_port(domain="comb")
        pushed, popped = Signal(), Signal()
        m.d.comb += [
            pushed.eq(self.push & ~self.full),
            popped.eq(self.head.valid & self.head.ready),
            write.en.eq(pushed),
            write.data.eq(self.entry),
            self.head.payload.eq(read.data),
        ]
        for moves, pointer in ((pushed, write.addr), (popped, read.addr)):
            position = Signal(range(self.depth), name="write_position" if pointer is write.addr else "read_position")
            m.d.comb += pointer.eq(position)
            with m.If(moves):
                m.d.sync += position.eq(position + 1)
                with m.If(position == self.depth - 1):
                    m.d.sync += position.eq(0)
        with m.If(pushed & ~popped):
            m.d.sync += [self.count.eq(self.count + 1), self.full.eq(self.count == self.depth - 1), self.head.valid.eq(1)]
        with m.Elif(popped & ~pushed):
            m.d.sync += [self.count.eq(self.count - 1), self.full.eq(0), self.head.valid.eq(self.count != 1)]
        return m

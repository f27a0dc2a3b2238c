"""The beats of a DMA instruction on their way to the memory port."""

from amaranth.hdl import Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import Out

from rtl.control.queue import Queue
from rtl.control.walk import Walk, extent_ports


def beat_layout(width: int, burst: int) -> data.StructLayout:
    """What a beat brings along: its address, the beats `left` of its burst with this one, whether it ends that and the instruction."""
    return data.StructLayout({"address": width, "left": range(burst + 1), "last": 1, "final": 1})


class Beats(wiring.Component):
    """A `Walk` and a queue of two: the port's `ready`, which comes from an arbiter late in the cycle, would not reach the walk in time.

    `load` in cycle t offers the first beat in t+2, one a cycle from then on; the next `load` may come when the final one has been taken.
    """

    def __init__(self, *, width: int, burst: int):
        self.width, self.burst = width, burst
        super().__init__({
            **extent_ports(width),
            "offer": Out(stream.Signature(beat_layout(width, burst))),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.walk = walk = Walk(width=self.width, step=1, burst=self.burst)
        m.submodules.queue = queue = Queue(shape=beat_layout(self.width, self.burst), depth=2)
        wiring.connect(m, queue.head, wiring.flipped(self.offer))
        more = Signal()
        m.d.comb += [
            *(getattr(walk, name).eq(getattr(self, name)) for name in extent_ports(self.width)),
            *(queue.entry[name].eq(getattr(walk, name)) for name in ("address", "left", "last", "final")),
            queue.push.eq(more),
            walk.advance.eq(more & ~queue.full),
        ]
        with m.If(self.load):
            m.d.sync += more.eq(1)
        with m.Elif(walk.advance & walk.final):
            m.d.sync += more.eq(0)
        return m

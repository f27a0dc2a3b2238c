"""The bytes that a host has under way: a first-in, first-out buffer in block memory."""

from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from rtl.buffer.block_memory import BlockMemory
from rtl.link.frame import RECEIVED
from rtl.sharing import family


class ReceiveBuffer(wiring.Component):
    """`depth` received bytes (a power of two). A byte that comes while all are in use is lost.

    A byte of cycle t is on `received`, which is a register, in t+4 at the earliest, and one every other cycle. The memory may be far away
    from those who read: it sees nothing of them but that register.
    """

    def __init__(self, *, depth: int):
        if depth < 2 or depth & (depth - 1):
            raise ValueError(f"depth = {depth} must be a power of two, at least 2")
        self.depth = depth
        super().__init__({
            "bytes": In(stream.Signature(RECEIVED, always_ready=True)),
            "received": Out(stream.Signature(RECEIVED)),
        })

    def elaborate(self, platform):
        m = Module()
        single = family(platform) == "ice40"    # single-port RAM, of which that family has much: a byte that comes goes first
        m.submodules.words = words = BlockMemory(width=len(self.bytes.payload.as_value()), depth=self.depth, alternating=single)
        head, tail = Signal(range(2 * self.depth)), Signal(range(2 * self.depth))     # one bit more than an address: full is not empty
        coming, held, received = Signal(), Signal(), self.received      # held: the word at the memory's output is one to pass on
        m.d.comb += [
            words.write.eq(self.bytes.valid & (tail ^ head != self.depth)),
            words.write_address.eq(tail),
            words.write_data.eq(self.bytes.payload),
            words.read.eq((head != tail) & ~coming & ~(single & words.write) & ~(held & received.valid)),
            words.read_address.eq(head),
        ]
        m.d.sync += [
            tail.eq(tail + words.write),
            head.eq(head + words.read),
            coming.eq(words.read),
            held.eq(coming | (held & received.valid)),      # the memory's output stands until the next read
        ]
        with m.If(~received.valid):
            m.d.sync += [received.valid.eq(held), received.payload.eq(words.read_data)]
        with m.Elif(received.ready):
            m.d.sync += received.valid.eq(0)
        return m

"""A queue: what a unit has been given to do, in order."""

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2


class Queue(wiring.Component):
    """First in, first out; `depth` entries of any shape.

    An entry pushed in cycle t is at `head` in t+1 when the queue was empty. A full queue takes no entry even when one leaves. One entry a
    cycle in and out. A push when `full` is ignored. `next_valid` is `head.valid` of the next cycle, `count` counts the entries. All other
    outputs are registers, but of the head's payload only the lowest `registered` bits (all by default) are there at the start of a cycle,
    the others a memory read later, which takes half the logic.
    An entry keeps its `slot`, which counts the entries modulo a power of two; no other one has it as long as this one is in the queue or
    the last that has left. `push_slot` is that of the entry pushed now.
    """

    def __init__(self, *, shape, depth: int, registered: int | None = None):
        if depth < 2:
            raise ValueError(f"depth = {depth} must be at least 2")
        self.shape, self.depth, self.registered = shape, depth, registered
        super().__init__({
            "push": In(1),
            "entry": In(shape),
            "full": Out(1),
            "count": Out(range(depth + 1)),
            "head": Out(stream.Signature(shape)),
            "next_valid": Out(1),
            "push_slot": Out(ceil_log2(depth) + 1),
            "slot": Out(ceil_log2(depth) + 1),
        })

    def elaborate(self, platform):
        m = Module()
        ring = 1 << ceil_log2(self.depth)
        entry, payload = Value.cast(self.entry), Value.cast(self.head.payload)
        split = len(entry) if self.registered is None else min(self.registered, len(entry))
        next_slot = Signal.like(self.slot, init=1)
        pushed, popped, behind = Signal(), Signal(), Signal()
        m.d.comb += [
            pushed.eq(self.push & ~self.full),
            popped.eq(self.head.valid & self.head.ready),
            behind.eq(self.head.valid & (self.push_slot != next_slot)),
            self.count.eq(self.push_slot - self.slot),
            self.next_valid.eq(pushed | Mux(popped, behind, self.head.valid)),
        ]
        with m.If(pushed):
            m.d.sync += self.push_slot.eq(self.push_slot + 1)
        with m.If(popped):
            m.d.sync += [self.slot.eq(next_slot), next_slot.eq(next_slot + 1)]
        m.d.sync += [
            self.head.valid.eq(self.next_valid),
            self.full.eq(~popped & (self.full | (pushed & (self.count == self.depth - 1)))),
        ]

        # The registers take the entry behind the head, or the new one; the other bits stay where they have been written. The word of the
        # next entry is written all the time that it is free: so `push`, which comes late, need not reach every memory.
        for bits, name, address in ((slice(0, split), "registers", next_slot), (slice(split, None), "bits", self.slot)):
            if not len(entry[bits]):
                continue
            memory = Memory(shape=len(entry[bits]), depth=ring, init=[])
            m.submodules[f"{name}_memory"] = memory
            write, read = memory.write_port(), memory.read_port(domain="comb")
            m.d.comb += [
                write.en.eq(~self.full),
                write.addr.eq(self.push_slot[:len(write.addr)]),
                write.data.eq(entry[bits]),
                read.addr.eq(address[:len(read.addr)]),
            ]
            if name == "bits":
                m.d.comb += payload[bits].eq(read.data)
            else:
                with m.If(~self.head.valid | self.head.ready):
                    m.d.sync += payload[bits].eq(Mux(behind, read.data, entry[bits]))
        return m

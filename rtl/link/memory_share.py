"""Main memory for two: the machine while it runs, else the link."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from gen.config import Config
from rtl.interfaces import MemoryPort

READS_BITS = 16     # counts the reads under way; a memory has fewer


class MemoryShare(wiring.Component):
    """One port of main memory for the machine and the link; requests and data pass within the cycle.

    From the cycle after that in which `running` changes no further request passes until the one that stands on the port is taken and all
    reads are answered; then the port changes hands. With nothing under way and `running` risen in cycle t, the machine has it from t+1 on,
    before its first request. Answers go to whom the port belongs.
    """

    def __init__(self, config: Config):
        super().__init__({
            "machine": In(MemoryPort(config)),
            "link": In(MemoryPort(config)),
            "running": In(1),
            "memory": Out(MemoryPort(config)),
        })

    def elaborate(self, platform):
        m = Module()
        machines, reads = Signal(), Signal(READS_BITS)      # whose port it is; reads under way
        asked = Signal()                                    # a read was taken in the cycle before; `reads` does not count it yet
        stands, passes = Signal(), Signal()                 # a request was there in the cycle before, and not taken
        request, response = self.memory.request, self.memory.response
        wanted = Signal()                                   # `running`, from afar
        m.d.comb += passes.eq(stands | (machines == wanted))
        m.d.sync += [
            wanted.eq(self.running),
            stands.eq(request.valid & ~request.ready),
            asked.eq(request.valid & request.ready & ~request.p.write),
            reads.eq(reads + asked - response.valid),
        ]
        with m.If(~request.valid & ~asked & (reads == 0)):
            m.d.sync += machines.eq(self.running)
        m.d.comb += request.payload.eq(Mux(machines, self.machine.request.payload, self.link.request.payload))
        for client, owns in ((self.machine, machines), (self.link, ~machines)):
            with m.If(owns & passes):
                m.d.comb += [request.valid.eq(client.request.valid), client.request.ready.eq(request.ready)]
            m.d.comb += [client.response.valid.eq(response.valid & owns), client.response.payload.eq(response.payload)]
        return m

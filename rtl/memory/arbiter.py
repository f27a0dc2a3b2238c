"""The burst arbiter: which client's beats go to main memory."""

from functools import reduce
from operator import or_

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from gen.config import Config
from rtl.interfaces import Tag, request_layout

CLIENTS = 3     # in the order of `rtl.interfaces.Tag`


class Arbiter(wiring.Component):
    """Round robin between bursts of three clients.

    With no burst under way the first client with a valid beat, in the order behind the last one served, is granted combinationally; its
    beats pass in the same cycle. It keeps the port until its `last` beat is accepted. `enable` low holds back new bursts, not the
    one under way (`locked`). A waiting client is passed over by at most one burst of each other client. Bursts must end.
    `grant`: one bit at most, of the client that has the port; `served`: one bit, of the last one that had it. A beat's tag is its
    client's number, whatever the client says. Only DMA_OUT writes, and the data are always its.
    """

    def __init__(self, config: Config):
        self.config = config
        layout = request_layout(config)
        super().__init__({
            "enable": In(1),
            "clients": In(stream.Signature(layout)).array(CLIENTS),
            "port": Out(stream.Signature(layout)),
            "locked": Out(1),
            "grant": Out(CLIENTS),
            "served": Out(CLIENTS),
        })

    def elaborate(self, platform):
        m = Module()
        served = Signal(CLIENTS, init=1 << CLIENTS - 1)
        m.d.comb += self.served.eq(served)
        for number, client in enumerate(self.clients):
            # The next one goes first if this one was served last; the one after that goes first unless it was itself served last.
            one, two = ((number + step) % CLIENTS for step in (1, 2))
            ahead = (self.clients[one].valid & served[number]) | (self.clients[two].valid & ~served[two])
            m.d.comb += [
                self.grant[number].eq(Mux(self.locked, served[number], client.valid & ~ahead & self.enable)),
                client.ready.eq(self.port.ready & self.grant[number]),
            ]
        m.d.comb += [
            self.port.valid.eq(Cat(client.valid & granted for client, granted in zip(self.clients, self.grant)).any()),
            *(self.port.p[name].eq(self._granted(name)) for name in ("last", "beats", "address")),
            self.port.p.tag.eq(self.grant[1:]),
            self.port.p.write.eq(self.grant[Tag.DMA_OUT]),
            self.port.p.data.eq(self.clients[Tag.DMA_OUT].p.data),
        ]
        with m.If(self.port.valid):
            m.d.sync += [served.eq(self.grant), self.locked.eq(~(self.port.ready & self.port.p.last))]
        return m

    def _granted(self, name: str) -> Value:
        """A field of the granted client's beat."""
        return reduce(or_, (Mux(granted, client.p[name], 0) for client, granted in zip(self.clients, self.grant)))

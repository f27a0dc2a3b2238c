"""The burst arbiter: which client's beats go to main memory."""

from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from gen.config import Config
from rtl.interfaces import request_layout

CLIENTS = 3     # in the order of `rtl.interfaces.Tag`


class Arbiter(wiring.Component):
    """Round robin between bursts of three clients.

    With no burst under way the first client with a valid beat, in the order behind the last one served, is granted combinationally; its
    beats pass in the same cycle. It keeps the port (`owner`) until its `last` beat is accepted. `enable` low holds back new bursts, not the
    one under way (`locked`). A waiting client is passed over by at most one burst of each other client. Bursts must end.
    """

    def __init__(self, config: Config):
        self.config = config
        layout = request_layout(config)
        super().__init__({
            "enable": In(1),
            "clients": In(stream.Signature(layout)).array(CLIENTS),
            "port": Out(stream.Signature(layout)),
            "locked": Out(1),
            "owner": Out(range(CLIENTS)),
        })

    def elaborate(self, platform):
        m = Module()
        last = Signal(range(CLIENTS), init=CLIENTS - 1)     # the client served last, or being served
        m.d.comb += self.owner.eq(last)
        with m.If(~self.locked & self.enable), m.Switch(last):
            for served in range(CLIENTS):
                with m.Case(served):
                    for client in reversed([(served + step) % CLIENTS for step in range(1, CLIENTS + 1)]):
                        with m.If(self.clients[client].valid):     # the later assignment wins
                            m.d.comb += self.owner.eq(client)
        with m.If(self.locked | self.enable), m.Switch(self.owner):
            for number, client in enumerate(self.clients):
                with m.Case(number):
                    m.d.comb += [self.port.valid.eq(client.valid), self.port.payload.eq(client.payload), client.ready.eq(self.port.ready)]
        with m.If(self.port.valid):
            m.d.sync += [last.eq(self.owner), self.locked.eq(~(self.port.ready & self.port.p.last))]
        return m

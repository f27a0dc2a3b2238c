"""The packet interface's link: a host port and a channel's controller, a fixed number of cycles apart each way."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from gen.dram import LINK_LATENCY, DramConfig
from rtl.memory.channel import launches
from rtl.memory.interfaces import channel_request_layout, response_layout

DEPTH = 2 * LINK_LATENCY    # of the buffer on the memory side: a credit is back when it is needed again, so nothing is ever held up


class Link(wiring.Component):
    """Carries requests to the memory side, responses and `active` back.

    A request accepted in cycle t is offered to the channel from t+LINK_LATENCY on, in order; a response in t leaves in t+LINK_LATENCY. One
    of each a cycle. `request.ready` follows from a register: a credit is left. A credit stands for a place in the memory side's buffer
    and comes back LINK_LATENCY cycles behind the request's leaving it. `active` rises as soon as a launch is accepted (t+1) and falls
    LINK_LATENCY cycles behind `channel_active`. `empty`: no request and no response is on the way, a response up to the cycle in which it
    leaves.
    """

    def __init__(self, config: DramConfig):
        self.config = config
        requests = stream.Signature(channel_request_layout(config))
        responses = stream.Signature(response_layout(config), always_ready=True)
        super().__init__({
            "request": In(requests),
            "response": Out(responses),
            "channel_request": Out(requests),
            "channel_response": In(responses),
            "channel_active": In(config.ranks),
            "active": Out(config.ranks),
            "empty": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        layout = channel_request_layout(self.config)
        m.submodules.memory = memory = Memory(shape=layout, depth=DEPTH, init=[])    # requests that have arrived
        write, read = memory.write_port(), memory.read_port(domain="comb")
        accepted, leaves, held = Signal(), Signal(), Signal(range(DEPTH + 1))
        m.d.comb += [
            accepted.eq(self.request.valid & self.request.ready),
            leaves.eq(self.channel_request.valid & self.channel_request.ready),
            self.channel_request.valid.eq(held != 0),
            self.channel_request.payload.eq(read.data),
        ]
        # The buffer and the count of credits are the last of the LINK_LATENCY registers.
        sent, payload = accepted, self.request.payload
        returned = leaves
        requests = []
        for stage in range(1, LINK_LATENCY):
            next_sent, next_payload = Signal(name=f"sent_{stage}"), Signal(layout, name=f"request_{stage}", reset_less=True)
            next_returned = Signal(name=f"returned_{stage}")
            m.d.sync += [next_sent.eq(sent), next_payload.eq(payload), next_returned.eq(returned)]
            sent, payload, returned = next_sent, next_payload, next_returned
            requests.append(sent)
        m.d.comb += [write.en.eq(sent), write.data.eq(payload)]
        for port, moves in ((write, sent), (read, leaves)):
            with m.If(moves):
                m.d.sync += port.addr.eq(Mux(port.addr == DEPTH - 1, 0, port.addr + 1))
        credits = Signal(range(DEPTH + 1), init=DEPTH)
        m.d.sync += [held.eq(held + sent - leaves), credits.eq(credits + returned - accepted)]
        m.d.comb += self.request.ready.eq(credits != 0)

        valid, response, active = self.channel_response.valid, self.channel_response.payload, self.channel_active
        responses, before = [], active
        for stage in range(1, LINK_LATENCY + 1):
            next_valid, next_active = Signal(name=f"responds_{stage}"), Signal(len(active), name=f"active_{stage}")
            next_response = Signal(response_layout(self.config), name=f"response_{stage}", reset_less=True)
            m.d.sync += [next_valid.eq(valid), next_response.eq(response), next_active.eq(active)]
            valid, response, active, before = next_valid, next_response, next_active, active
            responses.append(valid)
        fallen = active & ~before
        for rank in range(self.config.ranks):
            with m.If(launches(self.config, self.request, rank)):
                m.d.sync += self.active[rank].eq(1)
            with m.Elif(fallen[rank]):
                m.d.sync += self.active[rank].eq(0)
        m.d.comb += [
            self.response.valid.eq(valid), self.response.payload.eq(response),
            self.empty.eq(~Cat(requests, held != 0, responses).any()),
        ]
        return m

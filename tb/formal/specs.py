"""What must hold of queues, tokens and the arbiter, as observers beside the real thing."""

from amaranth.hdl import Assert, Assume, Cat, Module, Mux, ResetSignal, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from gen.config import Config
from rtl.control.queue import Queue
from rtl.control.tokens import LIMIT, Tokens
from rtl.interfaces import TOKEN_BITS
from rtl.memory.arbiter import CLIENTS, Arbiter


def must(condition):
    """What is to be proved."""
    return Assert(condition, "")


def given(condition):
    """What may be taken for granted."""
    return Assume(condition, "")


def observer() -> Module:
    """A module for assertions: registers have their initial values at the start, and the solver may not reset them later."""
    m = Module()
    m.d.comb += given(~ResetSignal())
    return m


class QueueSpec(wiring.Component):
    """In order, nothing lost, nothing twice: one entry, marked whenever the solver likes, comes out when all before it have, unchanged."""

    def __init__(self, *, depth: int, make=Queue):
        self.depth, self.make = depth, make
        super().__init__({"push": In(1), "entry": In(1), "ready": In(1), "mark": In(1)})

    def elaborate(self, platform):
        m = observer()
        m.submodules.queue = queue = self.make(shape=1, depth=self.depth)
        pushed, popped = Signal(), Signal()
        m.d.comb += [
            queue.push.eq(self.push),
            queue.entry.eq(self.entry),
            queue.head.ready.eq(self.ready),
            pushed.eq(self.push & ~queue.full),
            popped.eq(queue.head.valid & self.ready),
        ]
        inside = Signal(range(self.depth + 2))
        m.d.sync += inside.eq(inside + pushed - popped)
        m.d.comb += [
            must(queue.count == inside),
            must(inside <= self.depth),
            must(queue.full == (inside == self.depth)),
            must(queue.head.valid == (inside != 0)),
        ]
        marked, entry, ahead = Signal(), Signal(), Signal(range(self.depth + 1))
        with m.If(~marked & self.mark & pushed):
            m.d.sync += [marked.eq(1), entry.eq(self.entry), ahead.eq(inside - popped)]
        with m.Elif(marked & popped):
            m.d.sync += [ahead.eq(ahead - 1), marked.eq(ahead != 0)]
        with m.If(marked & (ahead == 0)):
            m.d.comb += [must(queue.head.valid), must(queue.head.payload == entry)]
        return m


class TokensSpec(wiring.Component):
    """Conservation: a counter is what was signalled less what was taken, until an error says that it passed its limits.

    A signal is seen two cycles later, a token that was taken not two cycles later.
    """

    def __init__(self, *, ports: int, make=Tokens):
        self.ports, self.make = ports, make
        super().__init__({"wait": In(TOKEN_BITS).array(ports), "take": In(ports), "signal": In(TOKEN_BITS).array(ports)})

    def elaborate(self, platform):
        m = observer()
        m.submodules.tokens = tokens = self.make(ports=self.ports)
        failed = Signal()
        for number, unit in enumerate(tokens.units):
            m.d.comb += [unit.wait.eq(self.wait[number]), unit.signal.eq(self.signal[number]), unit.take.eq(self.take[number])]
            m.d.comb += given(~unit.take | unit.ready)
        there, outside = Signal(TOKEN_BITS), Signal(TOKEN_BITS)
        for token in range(TOKEN_BITS):
            # What is left in this cycle, one cycle ago, which counts in decisions, and two, which is what `counts` shows.
            number, before, settled = (Signal(signed(12), name=f"{name}_{token}") for name in ("number", "before", "settled"))
            signals, taken = Signal(range(self.ports + 1), name=f"signals_{token}"), Signal(range(self.ports + 1), name=f"taken_{token}")
            rests = Signal(name=f"rests_{token}")
            m.d.sync += [
                signals.eq(sum((signal[token] for signal in self.signal), start=0)),
                taken.eq(sum((take & wait[token] for take, wait in zip(self.take, self.wait)), start=0)),
                rests.eq(taken != 0),
                before.eq(number),
                settled.eq(before),
            ]
            m.d.comb += [
                number.eq(before + signals - taken),
                there[token].eq((before > 0) & ~rests),
                outside[token].eq((settled < 0) | (settled > LIMIT)),
            ]
            with m.If(~failed):
                m.d.comb += must(tokens.counts[token] == settled)
        with m.If(~failed):
            m.d.comb += must(tokens.error == outside.any())
            with m.If(~tokens.error):
                m.d.comb += [must(unit.ready == (unit.wait & ~there == 0)) for unit in tokens.units]
        m.d.sync += failed.eq(failed | tokens.error)
        return m


class ArbiterSpec(wiring.Component):
    """One client at a time, a burst at a time, and everybody in turn."""

    def __init__(self, config: Config, *, make=Arbiter):
        self.config, self.make = config, make
        super().__init__({"enable": In(1), "valid": In(CLIENTS), "last": In(CLIENTS), "ready": In(1)})

    def elaborate(self, platform):
        m = observer()
        m.submodules.arbiter = arbiter = self.make(self.config)
        granted, accepted = Signal(CLIENTS), Signal(CLIENTS)
        m.d.comb += [arbiter.enable.eq(self.enable), arbiter.port.ready.eq(self.ready)]
        for number, client in enumerate(arbiter.clients):
            # The tag tells whose beat comes out.
            m.d.comb += [client.valid.eq(self.valid[number]), client.p.last.eq(self.last[number]), client.p.tag.eq(number)]
            m.d.comb += [
                granted[number].eq(arbiter.port.valid & (arbiter.port.p.tag == number)),
                accepted[number].eq(client.valid & client.ready),
                must(~granted[number] | client.valid),
                must(accepted[number] == (granted[number] & self.ready)),
            ]
        ended = Signal()
        m.d.comb += [
            ended.eq(arbiter.port.valid & self.ready & arbiter.port.p.last),
            # Work-conserving: with nothing under way, some valid beat is granted.
            must(arbiter.locked | ~self.enable | (granted.any() == self.valid.any())),
            must(arbiter.locked | self.enable | ~arbiter.port.valid),
        ]
        # A grant stays from a burst's first beat on offer to its last one accepted.
        under_way, holder = Signal(), Signal(range(CLIENTS), init=CLIENTS - 1)
        with m.If(arbiter.port.valid):
            m.d.sync += [under_way.eq(~ended), holder.eq(arbiter.port.p.tag)]
        m.d.comb += [must(arbiter.locked == under_way), must(holder < CLIENTS), must(arbiter.served == 1 << holder)]
        with m.If(under_way):
            m.d.comb += [must(granted == Mux(self.valid.bit_select(holder, 1), 1 << holder, 0)), must(arbiter.grant == 1 << holder)]
        with m.Elif(~self.valid.any() | ~self.enable):
            m.d.comb += must(arbiter.grant == 0)
        # While a client waits without a break, at most two bursts of others end. `turns`: how many may still go first.
        for number in range(CLIENTS):
            passed, turns = Signal(range(4), name=f"passed_{number}"), Signal(range(4), name=f"turns_{number}")
            behind = Cat((holder + 1 + step) % CLIENTS == number for step in range(CLIENTS))    # one bit: steps behind the next in turn
            m.d.comb += turns.eq(Mux(under_way, Mux(holder == number, 0, 1 + behind[1]), behind[1] + 2 * behind[2]))
            with m.If(~self.valid[number] | granted[number]):
                m.d.sync += passed.eq(0)
            with m.Elif(ended):
                m.d.sync += passed.eq(passed + 1)
            with m.If(passed != 0):
                m.d.comb += must(passed + turns <= CLIENTS - 1)
            m.d.comb += must(passed <= CLIENTS - 1)
        return m

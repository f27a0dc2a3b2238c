"""The tokens of a group: sixteen counting semaphores that order the units."""

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from gen.isa import Unit
from rtl.interfaces import TOKEN_BITS, TokenPort

LIMIT = 255     # largest value of a counter


class Tokens(wiring.Component):
    """Sixteen counters, zero at the start, and a port for each unit in the order of `gen.isa.Unit` (the last one where `ports` says so).

    `ready` of a port is combinational in its `wait`. A signal in cycle t is seen from t+2 on. A token that is taken in t is still seen in
    t+1, rests in t+2, where nobody sees it, and is seen from t+3 on as far as something is left of it. Any number of takes and signals may
    meet. `error` is high in t+3 when a counter passes its limits by what is taken and signalled in t: below 0, as the last token was taken
    twice (in one cycle, or in two that follow each other), or above 255. The counters mean nothing from then on. `group` and `signal_group`
    are ignored: the caller masks. `counts`, for looking on, are three cycles behind.
    """

    def __init__(self, *, ports: int = len(Unit) - 1):
        self.ports = ports
        # A counter has room for the one step beyond the limits that stops the machine.
        self.shape = signed((LIMIT + ports).bit_length() + 1)
        super().__init__({"units": In(TokenPort()).array(ports), "error": Out(1), "counts": Out(self.shape).array(TOKEN_BITS)})

    def elaborate(self, platform):
        m = Module()
        # Decisions end late in a cycle and signals come from far away, and counting takes its time: what is taken and signalled goes
        # through two registers before it reaches the counter. Behind the first a signal is seen by itself, and a token that is taken rests.
        there, wrong = Signal(TOKEN_BITS), Signal(TOKEN_BITS)
        takes, signals = [], []
        for port, unit in enumerate(self.units):
            take, wait = Signal(name=f"take_{port}"), Signal(TOKEN_BITS, name=f"wait_{port}", reset_less=True)
            signalled = Signal(TOKEN_BITS, name=f"signalled_{port}", reset_less=True)
            m.d.sync += [take.eq(unit.take), wait.eq(unit.wait), signalled.eq(unit.signal)]
            takes.append(Mux(take, wait, 0))
            signals.append(signalled)
        for token, count in enumerate(self.counts):
            total = Signal(self.shape, name=f"total_{token}")
            change = Signal(signed(self.ports.bit_length() + 1), name=f"change_{token}")
            taken, signalled = [take[token] for take in takes], [signal[token] for signal in signals]
            m.d.comb += total.eq(count + change)
            m.d.sync += [
                change.eq(ones(signalled) - ones(taken)),
                count.eq(total),
                wrong[token].eq(total[LIMIT.bit_length():].any()),
                there[token].eq(((total != 0) | Cat(signalled).any()) & ~Cat(taken).any()),
            ]
        for unit in self.units:
            m.d.comb += unit.ready.eq((there | ~unit.wait).all())
        m.d.comb += self.error.eq(wrong.any())
        return m


def ones(bits: list):
    """How many bits are set, as a tree of adders."""
    return bits[0] if len(bits) == 1 else ones(bits[:len(bits) // 2]) + ones(bits[len(bits) // 2:])


def route(m: Module, *, unit, groups: list) -> None:
    """Link one unit that serves every group to its port of each group's tokens, by `group` and `signal_group`."""
    m.d.comb += unit.ready.eq(Cat(port.ready for port in groups).bit_select(unit.group, 1))
    for number, port in enumerate(groups):
        m.d.comb += [
            port.wait.eq(unit.wait),
            port.group.eq(unit.group),
            port.signal_group.eq(unit.signal_group),
            port.take.eq(unit.take & (unit.group == number)),
        ]
        with m.If(unit.signal_group == number):
            m.d.comb += port.signal.eq(unit.signal)

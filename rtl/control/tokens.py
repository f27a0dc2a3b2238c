"""The tokens of a group: sixteen counting semaphores that order the units."""

from amaranth.hdl import Cat, Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from gen.isa import Unit
from rtl.interfaces import TOKEN_BITS, TokenPort

LIMIT = 255     # largest value of a counter


class Tokens(wiring.Component):
    """Sixteen counters, zero at the start, and a port for each unit in the order of `gen.isa.Unit`.

    `ready` of a port is combinational in its `wait`. A take or signal in cycle t is seen from t+1 on; only the signals of the ports in
    `early`, whose units know of their end a cycle late, are seen in t already. Any number of takes and signals may meet. `error` is high
    when a counter is below 0 (in the cycle after two units took the last token at once) or above 255 (at most two cycles after one signal
    too many); the counters mean nothing from then on. `group` and `signal_group` are ignored: the caller masks. `counts`, for looking on,
    take a cycle longer to include a signal.
    """

    def __init__(self, *, ports: int = len(Unit), early: tuple[int, ...] = (Unit.DMA_OUT,)):
        self.ports, self.early = ports, early
        # A counter has room for the one step beyond the limits that stops the machine.
        self.shape = signed((LIMIT + ports).bit_length() + 1)
        super().__init__({"units": In(TokenPort()).array(ports), "error": Out(1), "counts": Out(self.shape).array(TOKEN_BITS)})

    def elaborate(self, platform):
        m = Module()
        # Signals wait in a register for a cycle, in which they are seen already: units assert them late in a cycle, and then they need not
        # get through an adder as well. For the same reason what `positive` will be is worked out for every number of takes.
        positive, recent, wrong = Signal(TOKEN_BITS), Signal(TOKEN_BITS), Signal(TOKEN_BITS)
        late = [unit for port, unit in enumerate(self.units) if port not in self.early]
        early = [unit for port, unit in enumerate(self.units) if port in self.early]
        for token, count in enumerate(self.counts):
            raised = Signal(self.shape, name=f"raised_{token}")
            arriving, arrived, taken = (Signal(range(self.ports + 1), name=f"{name}_{token}") for name in ("arriving", "arrived", "taken"))
            m.d.comb += [
                arriving.eq(sum((unit.signal[token] for unit in late), start=0)),
                raised.eq(count + arrived + sum((unit.signal[token] for unit in early), start=0)),
                taken.eq(sum((unit.take & unit.wait[token] for unit in self.units), start=0)),
                wrong[token].eq(count[LIMIT.bit_length():].any()),
            ]
            m.d.sync += [
                arrived.eq(arriving),
                recent[token].eq(arriving != 0),
                count.eq(raised - taken),
                positive[token].eq(Cat(raised != takes for takes in range(self.ports + 1)).bit_select(taken, 1)),
            ]
        seen = positive | recent
        for unit in early:
            seen = seen | unit.signal
        for unit in self.units:
            m.d.comb += unit.ready.eq((seen | ~unit.wait).all())
        m.d.comb += self.error.eq(wrong.any())
        return m


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

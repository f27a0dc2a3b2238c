"""The watchdog: tells a deadlock, which is instructions waiting for tokens or credits that no unit will give."""

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

PATIENCE = 64       # cycles without activity


class Watchdog(wiring.Component):
    """Raises `expired` in the 64th cycle in a row in which nothing was `active` while some unit was `waiting`.

    Both are registered first. `index` is that of the first waiting unit, in the order of the ports; nothing changes while all stand still.
    """

    def __init__(self, *, units: int):
        self.units = units
        super().__init__({
            "active": In(1),
            "waiting": In(units),
            "indices": In(32).array(units),
            "expired": Out(1),
            "index": Out(32),
        })

    def elaborate(self, platform):
        m = Module()
        still, cycles = Signal(), Signal(range(PATIENCE))
        m.d.sync += [still.eq(~self.active & self.waiting.any()), cycles.eq(0)]
        with m.If(still):
            m.d.sync += cycles.eq(cycles + ~self.expired)
        m.d.comb += self.expired.eq(still & (cycles == PATIENCE - 2))   # one cycle is in `still`, and this one is like those before
        for unit in reversed(range(self.units)):
            with m.If(self.waiting[unit]):
                m.d.sync += self.index.eq(self.indices[unit])
        return m

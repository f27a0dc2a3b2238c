"""Refresh of a channel's ranks: what each owes, and when it stops taking requests to pay."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from gen.dram import DramConfig
from rtl.memory.interfaces import Refresh as State

OWED_BITS = 4    # a rank that refreshes at `refresh_forced` never owes as much as 16


class Refresh(wiring.Component):
    """Each rank owes a refresh every tREFI cycles; the ranks' dates are spread evenly over the interval.

    One bit a rank: `wanted` (an entry of a queue is for it), `free`, `prea_ok`, `ref_ok` (as RankControl says). A rank that owes one goes
    from NORMAL to CLOSE when nothing wants it, or when it owes `config.refresh_forced`. `precharge` and `refresh`, one-hot together,
    say which command is to be on the pins in the next cycle: the lowest rank's that waits and may; its state changes at the edge.
    `normal`: ranks that take requests. `idle`: nothing owed, nothing under way.
    """

    def __init__(self, config: DramConfig):
        self.config = config
        ranks = config.ranks
        super().__init__({
            "wanted": In(ranks),
            "free": In(ranks),
            "prea_ok": In(ranks),
            "ref_ok": In(ranks),
            "precharge": Out(ranks),
            "refresh": Out(ranks),
            "normal": Out(ranks),
            "idle": Out(1),
            "state": Out(State).array(ranks),
            "owed": Out(OWED_BITS).array(ranks),
        })

    def elaborate(self, platform):
        m = Module()
        ranks, interval = self.config.ranks, self.config.gaps.refi
        time = Signal(range(interval))
        m.d.sync += time.eq(time + 1)
        with m.If(time == interval - 1):
            m.d.sync += time.eq(0)

        closing, closed = (Cat(state == wanted for state in self.state) for wanted in (State.CLOSE, State.REFRESH))
        may, first = Signal(ranks), Signal(ranks)
        m.d.comb += [
            may.eq(self.free & (closing & self.prea_ok | closed & self.ref_ok)),
            first.eq(may & -may),
            self.precharge.eq(first & closing),
            self.refresh.eq(first & closed),
            self.normal.eq(Cat(state == State.NORMAL for state in self.state)),
            self.idle.eq(self.normal.all() & ~Cat(self.owed).any()),
        ]
        for rank, (state, owed) in enumerate(zip(self.state, self.owed)):
            due, paid = Signal(name=f"due_{rank}"), self.refresh[rank]
            m.d.comb += due.eq(time == (rank + 1) * interval // ranks - 1)
            with m.If(due & ~paid):
                m.d.sync += owed.eq(owed + 1)
            with m.Elif(paid & ~due):
                m.d.sync += owed.eq(owed - 1)
            with m.Switch(state):
                with m.Case(State.NORMAL):
                    with m.If((owed != 0) & (~self.wanted[rank] | (owed >= self.config.refresh_forced))):
                        m.d.sync += state.eq(State.CLOSE)
                with m.Case(State.CLOSE):
                    with m.If(self.precharge[rank]):
                        m.d.sync += state.eq(State.REFRESH)
                with m.Case(State.REFRESH):
                    with m.If(paid):
                        m.d.sync += state.eq(State.NORMAL)
        return m

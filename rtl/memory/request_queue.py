"""The queue of a channel's reads or writes: kept in arrival order, open to view, entries leave from anywhere."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from gen.dram import DramConfig
from rtl.memory.interfaces import location_layout


def entry_layout(config: DramConfig, *, note_bits: int) -> data.StructLayout:
    """What a queue holds of a request: where it goes, and a note to find the rest again (a read's tag, the slot of a write's data)."""
    return data.StructLayout({"location": location_layout(config), "note": note_bits})


class RequestQueue(wiring.Component):
    """Entry 0 is the oldest; `valid` has a one for each entry held, so it is always 2**count - 1.

    An entry pushed in cycle t is the youngest from t+1 on. `remove`, one-hot or 0, takes an entry away at the edge; the younger ones move
    up. Both may happen in one cycle. A push needs count < entries, `remove` an entry that is there: both are taken for granted.
    `waited` counts the cycles since entry 0 became entry 0: 0 in its first cycle, up to `config.patience`, 0 when empty; `urgent` when it
    is there.
    """

    def __init__(self, config: DramConfig, *, entries: int, note_bits: int):
        if entries < 2:
            raise ValueError(f"entries = {entries} must be at least 2")
        if note_bits < 1:
            raise ValueError(f"note_bits = {note_bits} must be at least 1")
        self.config, self.size = config, entries
        layout = entry_layout(config, note_bits=note_bits)
        super().__init__({
            "push": In(1),
            "entry": In(layout),
            "remove": In(entries),
            "entries": Out(layout).array(entries),
            "valid": Out(entries),
            "count": Out(range(entries + 1)),
            "full": Out(1),
            "waited": Out(range(config.patience + 1)),
            "urgent": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        size = self.size
        removed, moves, kept, place = Signal(), Signal(size), Signal(size), Signal(size)
        m.d.comb += [
            removed.eq(self.remove != 0),
            moves.eq(-self.remove),                               # ones from the removed entry on
            kept.eq(Mux(removed, self.valid >> 1, self.valid)),
            place.eq((kept + 1) & ~kept),                         # behind the youngest that stays
            self.full.eq(self.valid[-1]),
            self.urgent.eq(self.waited == self.config.patience),
        ]
        with m.If(self.push | removed):
            m.d.sync += [self.valid.eq(Mux(self.push, Cat(1, kept), kept)), self.count.eq(self.count + self.push - removed)]
            for i, entry in enumerate(self.entries):
                with m.If(self.push & place[i]):
                    m.d.sync += entry.eq(self.entry)
                if i + 1 < size:
                    with m.Elif(moves[i]):
                        m.d.sync += entry.eq(self.entries[i + 1])
        with m.If(self.remove[0] | ~self.valid[0]):
            m.d.sync += self.waited.eq(0)
        with m.Elif(~self.urgent):
            m.d.sync += self.waited.eq(self.waited + 1)
        return m

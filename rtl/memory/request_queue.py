"""The queue of a channel's reads or writes: kept in arrival order, open to view, entries leave from anywhere."""

from functools import reduce
from operator import or_

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from gen.dram import DramConfig
from rtl.memory.interfaces import in_launch_row, location_layout, rows_change_layout


def entry_layout(config: DramConfig, *, note_bits: int) -> data.StructLayout:
    """What a queue holds of a request: where it goes, and a note to find the rest again (a read's tag, the slot of a write's data).

    The bits of `status` are kept up to date, so that a decision starts from them and not from addresses. `open`: a row of the request's
    bank is open; `hit`: it is the request's row. `moves`, `opens`, `closes`: the command that the request needs next (the column command,
    ACT, PRE) is allowed by the rank's minima. `clash`: it names the same block as the request in front of the queues.
    """
    status = data.StructLayout(dict.fromkeys(("open", "hit", "moves", "opens", "closes", "clash"), 1))
    return data.StructLayout({"location": location_layout(config), "note": note_bits, "status": status})


def change_of(config: DramConfig, changes, location):
    """The change of a location's rank."""
    if config.ranks == 1:
        return changes[0]
    layout = rows_change_layout(config)
    return data.View(layout, Cat(*(Value.cast(change) for change in changes)).word_select(location.rank, layout.size))


def after_change(config: DramConfig, changes, location, is_open: Value, hit: Value) -> tuple[Value, Value, Value]:
    """`open` and `hit` of a request in the next cycle, from those of this one and what the ranks' rows go through in it; then whether its
    bank is not closed in it."""
    change = change_of(config, changes, location)
    here = change.bank == location.bank
    opens, stays = change.opens & here, ~(change.closes_all | (change.closes & here))
    return (is_open | opens) & stays, (hit | (opens & (change.row == location.row))) & stays, stays


class RequestQueue(wiring.Component):
    """Entry 0 is the oldest; `valid` has a one for each entry held, so it is always 2**count - 1.

    An entry pushed in cycle t is the youngest from t+1 on. `leaves` has ones from an entry on that goes at the edge (0: none); the
    younger ones move up. Both may happen in one cycle. A push needs a place (not `full`), what leaves has to be there: both are taken for
    granted. Vectors over banks have bank b of rank r at r * banks + b. `changes` are those of the ranks' rows in this cycle; what is
    pushed comes with the `open` and `hit` of this cycle. `act_ok`, `pre_ok`, `column_ok`: what the minima of the banks allow in the next
    cycle, with the column command that this queue is for; `act_free`, `column_free`: what those of the ranks allow; `act_held` and so
    on: not in the bank of the rank's change. With `compare`, `clash` says from the next cycle on whether an entry names the block
    `compared`. An entry that is not there neither needs a command nor clashes.
    `wanted_rows` (a register): banks whose open row an entry waits for; not one for a launch row behind entry 0, which may not go yet. As
    it serves to keep rows from being closed, it need not follow at once an entry that left (its rank takes no command in the next cycle)
    and a row that was opened (it may not be closed yet, as ras is 3 or more) or closed.
    `waited` counts the cycles since entry 0 became entry 0: 0 in its first cycle, up to `config.patience`, 0 when empty; `urgent` when it
    is there, `next_urgent` if it will be in the next cycle.
    """

    def __init__(self, config: DramConfig, *, entries: int, note_bits: int):
        if entries < 2:
            raise ValueError(f"entries = {entries} must be at least 2")
        if note_bits < 1:
            raise ValueError(f"note_bits = {note_bits} must be at least 1")
        self.config, self.size = config, entries
        layout, banks = entry_layout(config, note_bits=note_bits), config.ranks * config.part.all_banks
        super().__init__({
            "push": In(1),
            "entry": In(layout),
            "leaves": In(entries),
            "act_ok": In(banks),
            "pre_ok": In(banks),
            "column_ok": In(banks),
            "act_free": In(config.ranks),
            "column_free": In(config.ranks),
            "act_held": In(config.ranks),
            "pre_held": In(config.ranks),
            "column_held": In(config.ranks),
            "changes": In(rows_change_layout(config)).array(config.ranks),
            "compare": In(1),
            "compared": In(location_layout(config)),
            "entries": Out(layout).array(entries),
            "valid": Out(entries),
            "full": Out(1),
            "wanted_rows": Out(banks),
            "waited": Out(range(config.patience + 1)),
            "urgent": Out(1),
            "next_urgent": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        size, valid, leaves = self.size, self.valid, self.leaves
        m.d.comb += self.full.eq(valid[-1])
        m.d.sync += valid.eq(Mux(leaves[-1], Mux(self.push, valid, valid >> 1), Mux(self.push, Cat(1, valid), valid)))

        # An entry moves up when one leaves at its place or before it. Empty places take what is in front of the queue in every cycle; but
        # for the first of them, and there until it is pushed, that means nothing, and the status says so.
        front = [*self.entries, self.entry]
        later = [self._status(m, i, entry, there) for i, (entry, there) in enumerate(zip(front, [*valid, self.push]))]
        pushed = [Mux(valid[i - 1] if i else 1, later[-1], 0) for i in range(size + 1)]
        later = [Mux(valid[i], later[i], pushed[i]) for i in range(size)] + pushed[-1:]
        for i, entry in enumerate(self.entries):
            m.d.sync += entry.status.eq(Mux(leaves[i], later[i + 1], later[i]))
            with m.If(leaves[i] | ~valid[i]):
                behind = Mux(valid[i + 1], Value.cast(front[i + 1]), self.entry.as_value()) if i + 1 < size else self.entry.as_value()
                m.d.sync += Cat(entry.location, entry.note).eq(behind)
        self._wanted_rows(m)

        m.d.sync += self.urgent.eq(self.next_urgent)
        with m.If(leaves[0] | ~valid[0]):
            m.d.sync += self.waited.eq(0)
        with m.Else():
            m.d.comb += self.next_urgent.eq(self.urgent | (self.waited == self.config.patience - 1))
            with m.If(~self.urgent):
                m.d.sync += self.waited.eq(self.waited + 1)
        return m

    def _status(self, m: Module, number: int, entry, there: Value) -> Value:
        """An entry's status in the next cycle, if it stays where it is. `there`: it is in the queue then."""
        location, status = entry.location, Signal(entry.status.shape(), name=f"status_{number}")
        bank, rank = Cat(location.bank, location.rank), location.rank if self.config.ranks > 1 else Const(0, 1)
        was_open, had_hit = entry.status.open, entry.status.hit
        is_open, hit, stays = after_change(self.config, self.changes, location, was_open, had_hit)
        here = change_of(self.config, self.changes, location).bank == location.bank

        def allowed(ok, free, held):
            return ok.bit_select(bank, 1) & free.bit_select(rank, 1) & ~(held.bit_select(rank, 1) & here)

        everywhere = ~Const(0, self.config.ranks)
        m.d.comb += [
            status.open.eq(is_open),
            status.hit.eq(hit),
            status.moves.eq(there & hit & allowed(self.column_ok, self.column_free, self.column_held)),
            # A row that is opened in this cycle needs no look: ACT and PRE are held back in its bank, as rc and ras are 3 or more.
            status.opens.eq(there & ~(was_open & stays) & allowed(self.act_ok, self.act_free, self.act_held)),
            status.closes.eq(there & was_open & stays & ~had_hit & allowed(self.pre_ok, everywhere, self.pre_held)),
            status.clash.eq(there & Mux(self.compare, Value.cast(location) == Value.cast(self.compared), entry.status.clash)),
        ]
        return status.as_value()

    def _wanted_rows(self, m: Module):
        """Wire `wanted_rows` from the entries of this cycle and the pushed one."""
        marks = []
        for i, (entry, there) in enumerate(zip([*self.entries, self.entry], [*self.valid, self.push])):
            location = entry.location
            oldest = {0: 1, 1: self.leaves[0]}.get(i, 0) if i < self.size else ~self.valid[0] | (self.leaves[0] & ~self.valid[1])
            waits = there & entry.status.hit & (~in_launch_row(self.config, location) | oldest)
            marks.append(waits << Cat(location.bank, location.rank))
        m.d.sync += self.wanted_rows.eq(reduce(or_, marks))

"""The choice of a channel's next command: refresh first, then the oldest request that can move data, open its row, or close another's."""

from functools import reduce
from operator import or_

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from gen.dram import DramConfig
from rtl.memory.interfaces import TAG_BITS, Command, command_layout, in_launch_row
from rtl.memory.request_queue import entry_layout


def _oldest(entries: Value) -> Value:
    """The lowest one alone."""
    return Cat(entry & ~entries[:i].any() for i, entry in enumerate(entries))


class Scheduler(wiring.Component):
    """Combinational: what it says in cycle t is on the pins in t+1 (rules: "Schedule" in rtl/memory/README.md).

    `entries`, `valid`, `urgent`, `wanted_rows` are the active queue's, `write` says which one that is. Vectors over banks have bank b of
    rank r at r * banks + b. `taking` are the ranks that may be commanded and take requests; `precharge` and `refresh` come from `Refresh`.
    `leaves` has ones from the entry on that leaves the queue (0: none), `note` is its note; `command` is an RD or WR exactly then. Row and
    column mean nothing in other commands than theirs, the bank is 0 for a whole rank. An urgent queue's entry 0 closes a row even if
    others wait for it: they may not take part, and would hold it back for ever. `hit_ranks`: ranks with an open row that an entry waits
    for (not one for a launch row behind entry 0). `next_ranks`: where the next column commands are due, that is the rank of the oldest
    entry whose row is open and, by `soon`, nearly ready, and the last one's if it has such an entry.

    The only registers are the channel's trackers: the last column command's rank, and how long the others leave it the data pins.
    """

    def __init__(self, config: DramConfig):
        self.config = config
        self.size = max(config.read_entries, config.write_entries)
        ranks = config.ranks
        banks = ranks * config.part.all_banks
        super().__init__({
            "entries": In(entry_layout(config, note_bits=TAG_BITS)).array(self.size),
            "valid": In(self.size),
            "write": In(1),
            "urgent": In(1),
            "wanted_rows": In(banks),
            "soon": In(banks),
            "taking": In(ranks),
            "precharge": In(ranks),
            "refresh": In(ranks),
            "rank": Out(config.field_bits["rank"]),
            "command": Out(command_layout(config)),
            "leaves": Out(self.size),
            "note": Out(TAG_BITS),
            "hit_ranks": Out(ranks),
            "next_ranks": Out(ranks),
        })

    def elaborate(self, platform):
        m = Module()
        config, size = self.config, self.size
        bus_rank = Signal(range(config.ranks))
        pins_free = self._trackers(m, bus_rank)

        def of_rank(bits, location):
            """The bit of a location's rank; with one rank a command is held back at the end instead, as that is sooner known."""
            return bits.bit_select(location.rank, 1) if config.ranks > 1 else Const(1, 1)

        moving, opening, closing, chosen = (Signal(size, name=name) for name in ("moving", "opening", "closing", "chosen"))
        part, moves, opens, nearly = Signal(size), Signal(), Signal(), Signal(size)
        marks = []
        for i, entry in enumerate(self.entries):
            location, status = entry.location, entry.status
            bank, may_go = Cat(location.bank, location.rank), ~in_launch_row(config, location) if i else 1
            m.d.comb += [
                part[i].eq((~self.urgent if i else 1) & of_rank(self.taking, location)),
                nearly[i].eq(self.valid[i] & status.hit & self.soon.bit_select(bank, 1)),
                moving[i].eq(part[i] & status.moves & may_go & of_rank(pins_free, location)),
                opening[i].eq(part[i] & status.opens),
                closing[i].eq(part[i] & status.closes & (self.urgent | ~self.wanted_rows.bit_select(bank, 1))),
            ]
            # A younger launch may not move, so it must not announce itself either.
            marks.append((self.valid[i] & status.hit & may_go) << location.rank)
        mover, opener, chosen, maintenance = Signal(size), Signal(size), Signal(size), Signal(config.ranks)
        m.d.comb += [
            self.hit_ranks.eq(reduce(or_, marks)),
            moves.eq(moving.any()),
            opens.eq(opening.any()),
            mover.eq(_oldest(moving)),
            opener.eq(_oldest(opening)),
            chosen.eq(Mux(moves, mover, Mux(opens, opener, _oldest(closing)))),
            self.note.eq(self._of(mover, lambda entry: entry.note)),
            maintenance.eq(self.precharge | self.refresh),
        ]
        self._next(m, nearly, bus_rank)
        command = self.command
        with m.If(maintenance.any()):
            rank = Cat(reduce(or_, (maintenance[r] for r in range(config.ranks) if r >> i & 1)) for i in range(len(self.rank)))
            m.d.comb += [self.rank.eq(rank), command.kind.eq(Mux(self.refresh.any(), Command.REF, Command.PREA))]
        with m.Else():
            m.d.comb += Cat(command.bank, self.rank).eq(self._of(chosen, lambda entry: Cat(entry.location.bank, entry.location.rank)))
            with m.If(self.taking.any()):
                with m.If(moves):
                    m.d.comb += [command.kind.eq(Mux(self.write, Command.WR, Command.RD)),
                                 self.leaves.eq(Cat(moving[:i + 1].any() for i in range(size)))]
                with m.Elif(opens):
                    m.d.comb += command.kind.eq(Command.ACT)
                with m.Elif(closing.any()):
                    m.d.comb += command.kind.eq(Command.PRE)
        m.d.comb += [command.row.eq(self._of(opener, lambda entry: entry.location.row)),
                     command.column.eq(self._of(mover, lambda entry: entry.location.column))]
        return m

    def _of(self, chosen: Value, field) -> Value:
        """A field of the chosen entry (one-hot); 0 when there is none."""
        return reduce(or_, (field(entry) & chosen[i].replicate(len(field(entry))) for i, entry in enumerate(self.entries)))

    def _next(self, m: Module, nearly: Signal, bus_rank: Signal):
        """Which ranks the next column commands are for."""
        ranks, oldest = self.config.ranks, Signal(self.size)
        m.d.comb += oldest.eq(_oldest(nearly))
        for rank in range(ranks):
            here = Signal(self.size, name=f"entries_of_{rank}")
            m.d.comb += here.eq(Cat(entry.location.rank == rank if ranks > 1 else 1 for entry in self.entries))
            m.d.comb += self.next_ranks[rank].eq((oldest & here).any() | ((bus_rank == rank) & (nearly & here).any()))

    def _trackers(self, m: Module, bus_rank: Signal):
        """The ranks whose column command (of the active queue's kind) the data pins allow."""
        ranks, gaps = self.config.ranks, self.config.gaps
        if ranks == 1:
            return Const(1, 1)
        waits = {}
        for name, after_read, after_write in (("read", gaps.rd_rd, gaps.wr_rd), ("write", gaps.rd_wr, gaps.wr_wr)):
            waits[name] = wait = Signal(range(max(after_read, after_write)), name=f"other_rank_{name}")
            with m.If(self.leaves[-1]):
                m.d.sync += wait.eq(Mux(self.write, after_write - 1, after_read - 1))
            with m.Elif(wait != 0):
                m.d.sync += wait.eq(wait - 1)
        with m.If(self.leaves[-1]):
            m.d.sync += bus_rank.eq(self.rank)
        passed = Signal()
        m.d.comb += passed.eq(Mux(self.write, waits["write"], waits["read"]) == 0)
        return Cat(passed | (bus_rank == rank) for rank in range(ranks))

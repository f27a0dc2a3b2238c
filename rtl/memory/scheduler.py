"""The choice of a channel's next command: refresh first, then the oldest request that can move data, open its row, or close another's."""

from functools import reduce
from operator import or_

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from gen.dram import DramConfig
from rtl.memory.interfaces import TAG_BITS, Command, command_layout
from rtl.memory.request_queue import entry_layout


def in_launch_row(config: DramConfig, location):
    """Whether a location lies in the row of the launch registers: the last row of the last bank. Never without near-data units."""
    if not config.reserved:
        return Const(0, 1)
    return location.row.all() & location.bank.all()


class Scheduler(wiring.Component):
    """Combinational: what it says in cycle t is on the pins in t+1 (rules: "Schedule" in rtl/memory/README.md).

    `entries`, `valid`, `urgent` are the active queue's, `write` says which one that is. Vectors over banks have bank b of rank r at
    r * banks + b, `rows` a row for each. `taking` are the ranks that may be commanded and take requests; `precharge` and `refresh` come
    from `Refresh`. `remove` is the entry that leaves the queue, one-hot, with its `note`; `command` is an RD or WR exactly when there is
    one. Fields a command does not need are 0. `hits`: banks whose open row an entry waits for. An urgent queue's entry 0 closes a row
    even if others wait for it: they may not take part, and would hold it back for ever. `next_ranks`: where the next column commands are
    due, that is the rank of the oldest entry whose row is open and, by `soon`, nearly ready, and the last one's if it has such an entry.

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
            "open": In(banks),
            "rows": In(banks * config.field_bits["row"]),
            "act_ok": In(banks),
            "pre_ok": In(banks),
            "read_ok": In(banks),
            "write_ok": In(banks),
            "soon": In(banks),
            "taking": In(ranks),
            "precharge": In(ranks),
            "refresh": In(ranks),
            "rank": Out(config.field_bits["rank"]),
            "command": Out(command_layout(config)),
            "remove": Out(self.size),
            "note": Out(TAG_BITS),
            "hits": Out(banks),
            "next_ranks": Out(ranks),
        })

    def elaborate(self, platform):
        m = Module()
        config, size = self.config, self.size
        banks, row_bits = config.part.all_banks, config.field_bits["row"]
        bus_rank = Signal(range(config.ranks))
        pins_free = self._trackers(m, bus_rank)

        def of_banks(ranks):
            return Cat(bit.replicate(banks) for bit in ranks)

        # What may be done in each bank; one look-up an entry and kind.
        act, pre, column = (Signal(config.ranks * banks, name=name) for name in ("may_act", "may_pre", "may_move"))
        taking = of_banks(self.taking)
        m.d.comb += [
            act.eq(self.act_ok & ~self.open & taking),
            pre.eq(self.pre_ok & self.open & taking & (~self.hits | self.urgent.replicate(len(pre)))),
            column.eq(Mux(self.write, self.write_ok, self.read_ok) & taking & of_banks(pins_free)),
        ]
        moving, opening, closing, chosen = (Signal(size, name=name) for name in ("moving", "opening", "closing", "chosen"))
        part, moves, opens, nearly = Signal(size), Signal(), Signal(), Signal(size)
        marks = []
        for i, entry in enumerate(self.entries):
            location = entry.location
            bank = Signal(range(config.ranks * banks), name=f"bank_{i}")
            hit, miss = Signal(name=f"hit_{i}"), Signal(name=f"miss_{i}")
            is_open, same = self.open.bit_select(bank, 1), self.rows.word_select(bank, row_bits) == location.row
            m.d.comb += [
                bank.eq(Cat(location.bank, location.rank)),
                hit.eq(is_open & same & self.valid[i]),
                miss.eq(~same & part[i]),
                nearly[i].eq(hit & self.soon.bit_select(bank, 1)),
                moving[i].eq(hit & part[i] & column.bit_select(bank, 1) & (~in_launch_row(config, location) if i else 1)),
                opening[i].eq(part[i] & act.bit_select(bank, 1)),
                closing[i].eq(miss & pre.bit_select(bank, 1)),
            ]
            # A younger launch may not move, so it must not keep a row open either.
            marks.append((hit & (~in_launch_row(config, location) if i else 1)) << bank)
        first, wanted, maintenance = Signal(self.entries[0].shape()), Signal(size), Signal(config.ranks)
        m.d.comb += [
            self.hits.eq(reduce(or_, marks)),
            part.eq(self.valid & (~self.urgent.replicate(size) | 1)),
            moves.eq(moving.any()),
            opens.eq(opening.any()),
            wanted.eq(Mux(moves, moving, Mux(opens, opening, closing))),
            chosen.eq(wanted & -wanted),
            first.eq(reduce(or_, (entry.as_value() & chosen[i].replicate(len(first.as_value()))
                                  for i, entry in enumerate(self.entries)))),
            self.note.eq(first.note),
            maintenance.eq(self.precharge | self.refresh),
        ]
        self._next(m, nearly, bus_rank)
        command = self.command
        with m.If(maintenance.any()):
            rank = Cat(reduce(or_, (maintenance[r] for r in range(config.ranks) if r >> i & 1)) for i in range(len(self.rank)))
            m.d.comb += [self.rank.eq(rank), command.kind.eq(Mux(self.refresh.any(), Command.REF, Command.PREA))]
        with m.Elif(wanted.any()):
            m.d.comb += [self.rank.eq(first.location.rank), command.bank.eq(first.location.bank)]
            with m.If(moves):
                m.d.comb += [command.kind.eq(Mux(self.write, Command.WR, Command.RD)), command.column.eq(first.location.column),
                             self.remove.eq(chosen)]
            with m.Elif(opens):
                m.d.comb += [command.kind.eq(Command.ACT), command.row.eq(first.location.row)]
            with m.Else():
                m.d.comb += command.kind.eq(Command.PRE)
        return m

    def _next(self, m: Module, nearly: Signal, bus_rank: Signal):
        """Which ranks the next column commands are for."""
        ranks, oldest = self.config.ranks, Signal(self.size)
        m.d.comb += oldest.eq(nearly & -nearly)
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
            with m.If(self.remove.any()):
                m.d.sync += wait.eq(Mux(self.write, after_write - 1, after_read - 1))
            with m.Elif(wait != 0):
                m.d.sync += wait.eq(wait - 1)
        with m.If(self.remove.any()):
            m.d.sync += bus_rank.eq(self.rank)
        passed = Signal()
        m.d.comb += passed.eq(Mux(self.write, waits["write"], waits["read"]) == 0)
        return Cat(passed | (bus_rank == rank) for rank in range(ranks))

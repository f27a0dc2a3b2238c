"""A channel's controller in Python, cycle by cycle from the text of rtl/memory/README.md: queues, mode, choice, refresh, inhibit pins.

Minima are kept as cycles of past commands. The near-data units are not modelled: with one at work, queues and inhibit pins follow the
commands that are seen, and only they are predicted.
"""

from dataclasses import dataclass
from typing import Any

NONE, ACT, PRE, PREA, RD, WR, REF = range(7)
FORCED = 7


@dataclass(frozen=True)
class Request:
    """A request under way."""

    write: bool
    rank: int
    bank: int
    row: int
    column: int

    @property
    def place(self) -> tuple:
        return self.rank, self.bank, self.row, self.column


class ChannelReference:
    """`step` once a cycle with what is on the pins; afterwards `ready` is the port's in this cycle, the others belong to the next one:
    `command` (rank, kind, bank, row, column), `hold_all` and `hold_writes` by rank."""

    def __init__(self, config):
        self.config, self.g = config, config.gaps
        self.time, self.draining = -1, False
        self.arriving: Any = None                        # a Request or None
        self.incoming: Any = None
        self.queues: dict[bool, list[Request]] = {False: [], True: []}
        self.oldest_since = {False: 0, True: 0}
        self.open: list[dict] = [{} for _ in range(config.ranks)]
        self.last: dict[tuple, int] = {}                 # (rank, kind, bank) -> cycle on the pins
        self.acts = [[] for _ in range(config.ranks)]
        self.column_command: tuple | None = None         # decided in, rank, kind
        self.state, self.owed = ["NORMAL"] * config.ranks, [0] * config.ranks
        self.predicts = [False] * config.ranks           # a unit with policy next-rank is at work (set by the test)
        self.ready, self.command, self.offered = True, (0,) * 5, None
        self.hold_all = self.hold_writes = [False] * config.ranks

    # Minima: `kind` may be on the pins in the next cycle

    def _passed(self, rank: int, kind: int, least: int, *, banks) -> bool:
        return all(self.time + 1 - self.last.get((rank, kind, bank), -10**6) >= least for bank in banks)

    def _legal(self, kind: int, rank: int, bank: int) -> bool:
        g, part = self.g, self.config.part
        every = range(part.all_banks)
        group, one = [b for b in every if b % part.bank_groups == bank % part.bank_groups], [bank]
        rules = {
            ACT: ((PRE, g.rp, one), (ACT, g.rc, one), (ACT, g.rrd_s, every), (ACT, g.rrd_l, group), (REF, g.rfc, [0])),
            PRE: ((ACT, g.ras, one), (RD, g.rtp, one), (WR, g.wr, one)),
            RD: ((ACT, g.rcd, one), (RD, g.ccd_s, every), (RD, g.ccd_l, group), (WR, g.ccd_s, every), (WR, g.ccd_l, group),
                 (WR, g.wtr_s, every), (WR, g.wtr_l, group)),
            WR: ((ACT, g.rcd, one), (RD, g.ccd_s, every), (RD, g.ccd_l, group), (WR, g.ccd_s, every), (WR, g.ccd_l, group),
                 (RD, g.rtw, every)),
            PREA: ((ACT, g.ras, every), (RD, g.rtp, every), (WR, g.wr, every), (REF, g.rfc, [0])),
            REF: ((PRE, g.rp, every), (REF, g.rfc, [0])),
        }
        if kind == ACT and len(self.acts[rank]) >= 4 and self.time + 1 - self.acts[rank][-4] < g.faw:
            return False
        if kind == REF and self.open[rank]:
            return False
        return all(self._passed(rank, before, least, banks=banks) for before, least, banks in rules[kind])

    def _pins_allow(self, kind: int, rank: int) -> bool:
        if self.column_command is None or self.column_command[1] == rank:
            return True
        decided, _, before = self.column_command
        least = {(RD, RD): self.g.rd_rd, (RD, WR): self.g.rd_wr, (WR, RD): self.g.wr_rd, (WR, WR): self.g.wr_wr}[before, kind]
        return self.time - decided >= least

    def _urgent(self, write: bool) -> bool:
        return bool(self.queues[write]) and self.time - self.oldest_since[write] >= self.config.patience

    def _is_open(self, request: Request) -> bool:
        return self.open[request.rank].get(request.bank) == request.row

    def _launch(self, request: Request) -> bool:
        return bool(self.config.reserved) and request.bank == self.config.part.all_banks - 1 and request.row == self.config.part.rows - 1

    # The choice for the next cycle

    def _choose(self, busy_rank) -> tuple:
        active, urgent = self.queues[self.draining], self._urgent(self.draining)
        for rank in range(self.config.ranks):
            kind = {"CLOSE": PREA, "REFRESH": REF}.get(self.state[rank])
            if kind and rank != busy_rank and self._legal(kind, rank, 0):
                return rank, kind, 0, 0, 0
        able = [r for r in (active[:1] if urgent else active) if r.rank != busy_rank and self.state[r.rank] == "NORMAL"]
        kind = WR if self.draining else RD
        for r in able:
            if self._is_open(r) and self._legal(kind, r.rank, r.bank) and self._pins_allow(kind, r.rank) and (
                    r is active[0] or not self._launch(r)):
                return r.rank, kind, r.bank, 0, r.column
        for r in able:
            if r.bank not in self.open[r.rank] and self._legal(ACT, r.rank, r.bank):
                return r.rank, ACT, r.bank, r.row, 0
        for r in able:
            opened = self.open[r.rank].get(r.bank)
            if opened not in (None, r.row) and self._legal(PRE, r.rank, r.bank) and (
                    urgent or not any(o.rank == r.rank and o.bank == r.bank and o.row == opened and (o is active[0] or not self._launch(o))
                                  for o in active)):
                return r.rank, PRE, r.bank, 0, 0
        return (0,) * 5

    def _held(self) -> bool:
        return self.incoming is not None and any(o.place == self.incoming.place for o in self.queues[not self.incoming.write])

    def _size(self, write: bool) -> int:
        return self.config.write_entries if write else self.config.read_entries

    def _edge(self, chosen: tuple):
        """From cycle `time` to the next: `chosen` is what came on the pins."""
        rank, kind, bank, _, column = chosen
        reads, writes = self.queues[False], self.queues[True]
        forced = (self._held() and not self.incoming.write) or any(self._launch(r) for r in writes)
        mark = len(writes) > self.config.drain_low if self.draining else len(writes) >= self.config.drain_high
        want = bool(writes) and (self._urgent(True) or not reads or forced or mark)
        next_draining = want and not self._urgent(False)
        enters = self.incoming is not None and not self._held() and len(self.queues[self.incoming.write]) < self._size(self.incoming.write)
        moves = self.arriving is not None and (self.incoming is None or enters)
        empty = [write for write in (False, True) if not self.queues[write]]
        wanted = {r.rank for r in reads + writes}
        if kind in (RD, WR):
            active = self.queues[kind == WR]
            found = next(r for r in active if (r.rank, r.bank, r.column) == (rank, bank, column) and self._is_open(r))
            if active[0] is found:
                self.oldest_since[kind == WR] = self.time + 1
            active.remove(found)
            self.column_command = self.time, rank, kind
        for write in empty:
            self.oldest_since[write] = self.time + 1
        if enters and self.incoming:
            self.queues[self.incoming.write].append(self.incoming)
        if moves or enters:
            self.incoming = self.arriving if moves else None
        if self.ready:
            self.arriving = self.offered
        interval = self.g.refi
        for r in range(self.config.ranks):
            before = self.owed[r]
            self.owed[r] += self.time % interval == (r + 1) * interval // self.config.ranks - 1
            if self.state[r] == "NORMAL":
                if before and (r not in wanted or before >= FORCED):
                    self.state[r] = "CLOSE"
            elif kind in (PREA, REF) and rank == r:
                self.owed[r] -= kind == REF
                self.state[r] = "REFRESH" if kind == PREA else "NORMAL"
        self.draining = next_draining

    def _apply(self, command: tuple):
        """A command on a rank."""
        rank, kind, bank, row, _ = command
        if kind == ACT:
            self.open[rank][bank] = row
            self.acts[rank].append(self.time)
        elif kind == PRE:
            self.open[rank].pop(bank)
        elif kind == PREA:
            self.open[rank].clear()
        for b in range(self.config.part.all_banks) if kind == PREA else [bank]:
            self.last[rank, PRE if kind == PREA else kind, b] = self.time

    def _inhibit(self):
        config, reads, writes = self.config, self.queues[False], self.queues[True]
        coming = [r for r in (self.arriving, self.incoming) if r is not None and not r.write]
        active = self.queues[self.draining]
        nearly = [r.rank for r in active if self._is_open(r)
                  and self.g.rcd - 1 - (self.time - self.last.get((r.rank, ACT, r.bank), -10**6)) <= 6]
        for rank in range(config.ranks):
            announced = any(r.rank == rank for r in coming)
            hits = [r for r in active if r.rank == rank and self._is_open(r) and (r is active[0] or not self._launch(r))]
            predicts = self.predicts[rank]
            self.hold_all[rank] = (
                self.state[rank] != "NORMAL" or (self._urgent(self.draining) and active[0].rank == rank)
                or any(config.reserved and r.rank == rank and r.bank >= config.part.all_banks - config.reserved for r in reads + writes)
                or (rank in nearly and rank in (nearly[0], self.column_command[1] if self.column_command else 0)))
            self.hold_writes[rank] = predicts and not self.draining and (
                (bool(reads) and reads[0].rank == rank) or announced or bool(hits))

    def step(self, host: tuple, near: list[tuple], offered: Request | None):
        """A cycle: the commands on the pins and on the units' own paths, and what the port is offered."""
        if self.time >= 0:
            self._edge(host)
        self.time += 1
        for command in near:
            if command[1]:
                self._apply(command)
        self.hold_all, self.hold_writes = [False] * self.config.ranks, [False] * self.config.ranks
        self._inhibit()
        enters = self.incoming is not None and not self._held() and len(self.queues[self.incoming.write]) < self._size(self.incoming.write)
        self.ready = self.arriving is None or self.incoming is None or enters
        self.command = self._choose(host[0] if host[1] else None)
        self.offered = offered
        if host[1]:
            self._apply(host)

"""Two slow formulations of the DRAM timing rules, apart from the checker's: a judge of all pairs of commands, and a maker of legal traces.

All cycles are written out: those of table 7.1 of the reference, and those of the SDR part at 7.5 ns a clock, worked out by hand.
"""

import random
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from sw.dram.commands import ACT, HOST, NDA, PRE, PREA, RD, RDA, REF, WR, WRA, Commands

DDR4 = {"part": "ddr4-2400r", "clock": 1200, "groups": 4, "ddr4": True, "RCD": 16, "RP": 16, "RAS": 39, "RC": 55, "RTP": 9, "WR": 34,
        "CCD_S": 4, "CCD_L": 6, "RRD_S": 4, "RRD_L": 6, "FAW": 26, "WTR_S": 19, "WTR_L": 25, "RTW": 10, "RFC": 420, "REFI": 9360,
        "RR": 6, "WW": 6, "RDWR": 10, "WRRD": 2}
# tCK 7.5 ns, CAS latency 3, bursts of 8: tRCD, tRP 15 ns; tRAS 37; tRC, tRFC 60; tRRD, tDPL 14 (after the last word, 7 clocks behind WR).
SDR = {"part": "is42s16160g-7", "clock": Fraction(400, 3), "groups": 1, "ddr4": False, "RCD": 2, "RP": 2, "RAS": 5, "RC": 8, "RTP": 8,
       "WR": 9, "CCD_S": 8, "CCD_L": 8, "RRD_S": 2, "RRD_L": 2, "FAW": 0, "WTR_S": 8, "WTR_L": 8, "RTW": 12, "RFC": 8, "REFI": 1041,
       "RR": 9, "WW": 9, "RDWR": 12, "WRRD": 6}
RESERVED = frozenset({(0, 3), (1, 3)})      # the banks of the NDA


class C(NamedTuple):
    """One command of a trace in a test."""

    cycle: int
    command: int
    group: int = -1
    bank: int = -1
    row: int = -1
    rank: int = 0
    channel: int = 0
    source: int = HOST


def commands(rows: list[C]) -> Commands:
    """The columns of a trace."""
    def column(name: str) -> np.ndarray:
        return np.array([getattr(row, name) for row in rows], dtype=np.int64)

    return Commands(cycle=column("cycle"), channel=column("channel"), rank=column("rank"), bank_group=column("group"), bank=column("bank"),
                    command=column("command"), row=column("row"), source=column("source"),
                    column=np.where(np.isin(column("command"), (RD, RDA, WR, WRA)), 0, -1))


def reference(rows: list[C], n: dict) -> set[tuple]:
    """Every violation but tREFI and tRAS_max of a sorted trace, by looking at all pairs: (parameter, place of the later command)."""
    found: set[tuple] = set()
    opened: dict[tuple, int] = {}
    starts: dict[int, int] = {}         # RDA or WRA -> cycle in which its bank precharges
    name = (lambda text: text) if n["ddr4"] else (lambda text: text.split("_")[0])
    reads, writes, columns, precharges = (RD, RDA), (WR, WRA), (RD, RDA, WR, WRA), (PRE, PREA)

    def touches(a: C, b: C) -> bool:
        return a.command in (PREA, REF) or b.command in (PREA, REF) or (a.group, a.bank) == (b.group, b.bank)

    for j, b in enumerate(rows):
        def bad(parameter: str, j: int = j) -> None:
            found.add((name(parameter), j))

        key = (b.channel, b.rank, b.group, b.bank)
        ours = [bank for bank in opened if bank[:2] == key[:2]]
        if b.source == NDA and (b.command in (PREA, REF) or (b.group, b.bank) not in RESERVED):
            bad("RESERVED")
        if (b.command == ACT and key in opened) or (b.command == REF and ours):
            bad("STATE")
        if b.command in columns and (key not in opened or b.row not in (-1, opened[key])):
            bad("STATE")
        if b.command in (RDA, WRA):
            acts = [a.cycle for a in rows[:j] if a.command == ACT and (a.channel, a.rank, a.group, a.bank) == key]
            starts[j] = max([b.cycle + n["RTP" if b.command == RDA else "WR"], *(cycle + n["RAS"] for cycle in acts)])
        faw = 0
        for i in range(j - 1, -1, -1):
            a, gap = rows[i], b.cycle - rows[i].cycle
            if gap > 700:
                break
            if a.channel != b.channel:
                continue
            both_host = a.source == b.source == HOST
            if gap == 0 and (both_host or a.rank == b.rank):
                bad("BUS")
            kinds = ("R" if a.command in reads else "W" if a.command in writes else "") + ("R" if b.command in reads else
                                                                                           "W" if b.command in writes else "")
            if a.rank != b.rank:
                if both_host and gap < {"RR": n["RR"], "WW": n["WW"], "RW": n["RDWR"], "WR": n["WRRD"]}.get(kinds, 0):
                    bad("tRTRS")
                continue
            suffix = "_L" if a.group == b.group else "_S"
            if a.command == REF and gap < n["RFC"]:
                bad("tRFC")
            if kinds in ("RR", "WW") and gap < n["CCD" + suffix]:
                bad("tCCD" + suffix)
            if kinds == "WR" and gap < n["WTR" + suffix]:
                bad("tWTR" + suffix)
            if kinds == "RW" and gap < n["RTW"]:
                bad("tRTW")
            if a.command == b.command == ACT:
                faw += 1
                if gap < n["RRD" + suffix]:
                    bad("tRRD" + suffix)
                if faw == 4 and gap < n["FAW"]:
                    bad("tFAW")
            if not touches(a, b):
                continue
            if a.command == ACT and b.command in columns and gap < n["RCD"]:
                bad("tRCD")
            if a.command == ACT and b.command in precharges and gap < n["RAS"]:
                bad("tRAS")
            if a.command == ACT and b.command == ACT and gap < n["RC"]:
                bad("tRC")
            if a.command in reads and b.command in precharges and gap < n["RTP"]:
                bad("tRTP")
            if a.command in writes and b.command in precharges and gap < n["WR"]:
                bad("tWR")
            if b.command in (ACT, REF):
                if a.command in precharges and gap < n["RP"] and (n["ddr4"] or precharged(rows, i, b)):
                    bad("tRP")
                if a.command in (RDA, WRA) and b.cycle < starts[i] + n["RP"]:
                    bad("tRP")
        if b.command == ACT:
            opened[key] = b.row
        elif b.command in (PRE, RDA, WRA):
            opened.pop(key, None)
        elif b.command == PREA:
            for bank in ours:
                opened.pop(bank)
    return found


def precharged(rows: list[C], i: int, b: C) -> bool:
    """Whether the PRE or PREA at place i closed an open bank, of those that `b` needs closed."""
    a = rows[i]
    for group, bank in ({(b.group, b.bank)} if b.command == ACT else {(a.group, a.bank)} if a.command == PRE else
                        {(row.group, row.bank) for row in rows[:i] if row.command == ACT}):
        last = None
        for row in rows[:i]:
            if (row.channel, row.rank) == (a.channel, a.rank) and (row.command == PREA or (
                    (row.group, row.bank) == (group, bank) and row.command in (ACT, PRE, RDA, WRA))):
                last = row.command
        if last == ACT:
            return True
    return False


class Stepper:
    """Makes legal traces cycle by cycle: each command issued pushes back the earliest cycle of those it delays."""

    def __init__(self, n: dict, draw: random.Random):
        self.n, self.draw, self.rows = n, draw, []
        self.banks = [(group, bank) for group in range(n["groups"]) for bank in range(4)]
        ranks = [(channel, rank) for channel in range(2) for rank in range(2)]
        self.open: dict[tuple, dict[tuple, int]] = {rank: {} for rank in ranks}
        self.earliest: dict[tuple, int] = {}        # (rank, kind, bank or None[, source]) -> cycle
        self.acts: dict[tuple, list[int]] = {rank: [] for rank in ranks}
        self.draining = dict.fromkeys(ranks, False)

    def get(self, *key) -> int:
        return self.earliest.get(key, 0)

    def push(self, cycle: int, *key) -> None:
        self.earliest[key] = max(self.get(*key), cycle)

    def legal(self, row: C) -> bool:
        rank, bank, cycle = (row.channel, row.rank), (row.group, row.bank), row.cycle
        opened = self.open[rank]
        if row.command in (RD, RDA, WR, WRA):
            kind = "rd" if row.command in (RD, RDA) else "wr"
            bus = self.get(rank, "host " + kind) if row.source == HOST else 0
            return bank in opened and cycle >= max(self.get(rank, "column", bank), self.get(rank, kind, bank), bus)
        if row.command == ACT:
            acts = self.acts[rank]
            window = len(acts) < 4 or cycle >= acts[-4] + self.n["FAW"]
            return bank not in opened and window and not self.draining[rank] and cycle >= self.get(rank, "act", bank)
        banks = [bank] if row.command == PRE else self.banks
        if row.command == REF:
            return not opened and all(cycle >= self.get(rank, "ref", bank) for bank in banks)
        return all(cycle >= self.get(rank, "pre", bank) for bank in banks)

    def issue(self, row: C) -> None:
        n, t, rank, bank = self.n, row.cycle, (row.channel, row.rank), (row.group, row.bank)
        self.rows.append(row)
        if row.command == ACT:
            self.open[rank][bank] = row.row
            self.acts[rank].append(t)
            self.push(t + n["RC"], rank, "act", bank)
            self.push(t + n["RCD"], rank, "column", bank)
            self.push(t + n["RAS"], rank, "pre", bank)
            for other in self.banks:
                self.push(t + n["RRD_L" if other[0] == bank[0] else "RRD_S"], rank, "act", other)
        elif row.command in (RD, RDA, WR, WRA):
            is_read = row.command in (RD, RDA)
            for other in self.banks:
                suffix = "_L" if other[0] == bank[0] else "_S"
                self.push(t + (n["CCD" + suffix] if is_read else n["WTR" + suffix]), rank, "rd", other)
                self.push(t + (n["RTW"] if is_read else n["CCD" + suffix]), rank, "wr", other)
            self.push(t + n["RTP" if is_read else "WR"], rank, "pre", bank)
            if row.source == HOST:
                beside = (row.channel, 1 - row.rank)
                self.push(t + n["RR" if is_read else "WRRD"], beside, "host rd")
                self.push(t + n["RDWR" if is_read else "WW"], beside, "host wr")
            if row.command in (RDA, WRA):
                del self.open[rank][bank]
                self.push(self.get(rank, "pre", bank) + n["RP"], rank, "act", bank)
                self.push(self.get(rank, "pre", bank) + n["RP"], rank, "ref", bank)
        elif row.command == REF:
            self.draining[rank] = False
            for other in self.banks:
                for kind in ("act", "pre", "ref"):
                    self.push(t + n["RFC"], rank, kind, other)
        else:
            for other in [bank] if row.command == PRE else self.banks:
                if self.open[rank].pop(other, None) is not None or n["ddr4"]:
                    self.push(t + n["RP"], rank, "act", other)
                    self.push(t + n["RP"], rank, "ref", other)

    def candidate(self, cycle: int, channel: int, rank: int, source: int) -> C:
        draw, opened = self.draw, self.open[channel, rank]
        mine = [bank for bank in self.banks if (bank in RESERVED) == (source == NDA)]
        group, bank = draw.choice(mine)
        if self.draining[channel, rank] and source == HOST:
            command = draw.choice((PREA, REF)) if not opened or draw.random() < 0.1 else PRE
            group, bank = draw.choice([*opened]) if opened else (group, bank)
        elif (group, bank) in opened:
            command = draw.choices((RD, WR, RDA, WRA, PRE), (8, 8, 1, 1, 1))[0]
        else:
            command = draw.choices((ACT, PRE), (20, 1))[0]
        row = draw.randrange(4) if command == ACT else opened.get((group, bank), -1) if draw.random() < 0.5 else -1
        if command in (PREA, REF):
            group, bank, row = -1, -1, -1
        return C(cycle, command, group, bank, row if command != PRE else -1, rank, channel, source)

    def run(self, cycles: int) -> list[C]:
        for cycle in range(cycles):
            for channel in range(2):
                taken = set()
                order = [(self.draw.randrange(2), HOST), (0, NDA), (1, NDA)]
                for rank, source in order:
                    self.draining[channel, rank] |= self.draw.random() < 0.0015
                    one = self.candidate(cycle, channel, rank, source)
                    if rank not in taken and self.draw.random() < 0.9 and self.legal(one):
                        self.issue(one)
                        taken.add(rank)
        return self.rows

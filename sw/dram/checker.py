"""The timing checker: judges a recorded command trace by the datasheet and names every violated parameter.

It shares no figure and no formula with the generated hardware. Every rule is of one form: between an earlier command of one kind and a
later one of another, in one bank, bank group, rank or channel, lie at least so many cycles. As the distance is fixed, the latest earlier
command decides, and a running maximum over the commands of the rank or bank finds it: passes of numpy, about a second for 10^6 commands.

Parameters: STATE (a command the bank's state forbids), tRCD, tRAS, tRAS_max, tRC, tRP, tRTP, tWR, tCCD_S, tCCD_L, tRRD_S, tRRD_L, tFAW,
tWTR_S, tWTR_L (without _S and _L for parts without bank groups), tRTW (RD to WR in one rank), tRTRS (column commands of the host to two
ranks of a channel), tRFC, tREFI, BUS (two commands at once), RESERVED (an NDA command outside the banks reserved for it).
"""

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from sw.dram.commands import ACT, HOST, NAMES, NDA, PRE, PREA, RD, RDA, REF, WR, WRA, Commands
from sw.dram.datasheet import POSTPONED, Datasheet, Limits
from sw.dram.datasheet import part as _part

NEVER = -(1 << 60)      # the cycle of something that has not happened

Bank = tuple[int, int]  # (bank group, bank in it)


class CommandsError(ValueError):
    """A command that names something the memory does not have. One line: command, field, value, allowed range."""


@dataclass(frozen=True)
class Violation:
    """One violated parameter at one command, or at one cycle (tREFI). bank_group and bank are -1 where a whole rank is meant."""

    parameter: str
    cycle: int
    channel: int
    rank: int
    bank_group: int
    bank: int
    text: str


def check(commands: Commands, *, part: str | Datasheet, channels: int, ranks: int, clock_mhz: float | Fraction | None = None,
          reserved_banks: Collection[Bank] = frozenset(), cas_latency: int | None = None, cycles: int | None = None) -> list[Violation]:
    """All violations of a trace, in order of cycle; each command is named at most once for each parameter.

    The trace starts after initialisation: cycle 0, all banks closed, no refresh owed. `ranks` are those of a channel, and each must be
    refreshed whether the trace names it or not. `clock_mhz` and `cas_latency` default to the part's speed grade, `cycles`, the length of
    the run, to the last command. An NDA may use `reserved_banks` only. Rows need not be ordered: commands of one cycle keep their order.
    Errors: PartError (part, clock, latency), CommandsError (a field outside the memory).
    """
    sheet = _part(part) if isinstance(part, str) else part
    limits = sheet.limits(clock_mhz, cas_latency)
    _validate(commands, limits, channels, ranks)
    last = int(commands.cycle.max(initial=-1))
    if cycles is not None and cycles <= last:
        raise CommandsError(f"cycles {cycles}: the trace reaches cycle {last}, so at least {last + 1}")
    if np.any(np.diff(commands.cycle) < 0):
        commands = commands[np.argsort(commands.cycle, kind="stable")]
    run = _Run(commands, limits)
    end = last if cycles is None else cycles - 1
    for channel in range(channels):
        here = np.flatnonzero(commands.channel == channel)
        run.bus(here[commands.source[here] == HOST], ranks)
        for rank in range(ranks):
            run.rank(here[commands.rank[here] == rank], channel, rank, end)
    run.reserved(reserved_banks)
    return run.violations()


def count(violations: Iterable[Violation]) -> dict[str, int]:
    """How often each parameter is violated."""
    return dict(sorted(Counter(violation.parameter for violation in violations).items()))


def _validate(commands: Commands, limits: Limits, channels: int, ranks: int) -> None:
    every, acts = np.ones(len(commands), dtype=bool), commands.command == ACT
    banked = ~np.isin(commands.command, (PREA, REF))
    group = np.where(limits.groups == 1, np.maximum(commands.bank_group, 0), commands.bank_group)
    for name, values, where, top in (
            ("cycle", commands.cycle, every, 10**17), ("channel", commands.channel, every, channels - 1),
            ("rank", commands.rank, every, ranks - 1), ("command", commands.command, every, len(NAMES) - 1),
            ("source", commands.source, every, NDA), ("bank_group", group, banked, limits.groups - 1),
            ("bank", commands.bank, banked, limits.banks - 1), ("row", commands.row, acts, limits.rows - 1),
            ("row", commands.row, commands.row > -1, limits.rows - 1)):
        bad = where & ((values < 0) | (values > top))
        if bad.any():
            index = int(np.argmax(bad))
            raise CommandsError(f"command {index} of the trace: {name} {int(values[index])}, allowed is 0 to {top}")


def _before(cycles: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """For each row the largest of `cycles` among the earlier rows that `mask` marks, or NEVER."""
    seen = np.full(len(cycles), NEVER, dtype=np.int64)
    if len(cycles):
        np.maximum.accumulate(np.where(mask, cycles, NEVER)[:-1], out=seen[1:])
    return seen


def _row_before(mask: np.ndarray) -> np.ndarray:
    """For each row the position of the latest earlier row that `mask` marks, or -1."""
    return _before(np.arange(len(mask)), mask).clip(min=-1)


class _Run:
    """One check: what is found so far, as (parameter, position in the trace, text)."""

    def __init__(self, commands: Commands, limits: Limits):
        self.commands, self.limits = commands, limits
        self.found: dict[tuple[str, int], str] = {}
        self.refreshes: list[Violation] = []

    def violations(self) -> list[Violation]:
        made = list(self.refreshes)
        for (parameter, at), text in self.found.items():
            one = self.commands[at:at + 1]
            made.append(Violation(parameter, int(one.cycle[0]), int(one.channel[0]), int(one.rank[0]), int(one.bank_group[0]),
                                  int(one.bank[0]), text))
        return sorted(made, key=lambda item: (item.cycle, item.channel, item.rank))

    def note(self, parameter: str, rows: np.ndarray, bad: np.ndarray, text: str) -> None:
        for at in rows[bad]:
            self.found.setdefault((self.limits.name(parameter), int(at)), f"{NAMES[self.commands.command[at]]} {text}")

    def near(self, parameter: str, least: int, rows: np.ndarray, later: np.ndarray, earlier: np.ndarray, what: str) -> None:
        """Notes the rows marked by `later` that come less than `least` cycles after the cycle in `earlier`."""
        cycle = self.commands.cycle[rows]
        name = self.limits.name(parameter)
        for place in np.flatnonzero(later & (cycle - earlier < least)):
            command, gap = NAMES[self.commands.command[rows[place]]], cycle[place] - earlier[place]
            self.found.setdefault((name, int(rows[place])),
                                  f"{command} {gap} cycles after {what} in cycle {earlier[place]}, at least {least} asked for")

    def bus(self, rows: np.ndarray, ranks: int) -> None:
        """Rules between the host's commands of one channel."""
        cycle, command, rank = self.commands.cycle[rows], self.commands.command[rows], self.commands.rank[rows]
        everything = np.ones(len(rows), dtype=bool)
        self.note("BUS", rows, cycle == _before(cycle, everything), "with another host command of the channel in one cycle")
        kinds = {"RD": (command == RD) | (command == RDA), "WR": (command == WR) | (command == WRA)}
        for other in range(ranks if ranks > 1 else 0):
            for first, is_first in kinds.items():
                earlier = _before(cycle, is_first & (rank == other))
                for second, is_second in kinds.items():
                    self.near("tRTRS", self.limits.other_rank[first, second], rows, is_second & (rank != other), earlier,
                              f"{first} to rank {other}")

    def rank(self, rows: np.ndarray, channel: int, rank: int, end: int) -> None:
        """Rules within one rank."""
        limits, near = self.limits, self.near
        cycle, command, group = self.commands.cycle[rows], self.commands.command[rows], np.maximum(self.commands.bank_group[rows], 0)
        act, refresh = command == ACT, command == REF
        read, write = (command == RD) | (command == RDA), (command == WR) | (command == WRA)
        everything = np.ones(len(rows), dtype=bool)
        self.note("BUS", rows, cycle == _before(cycle, everything), "with another command to the rank in one cycle")
        near("tRFC", limits.tRFC, rows, everything, _before(cycle, refresh), "REF")
        near("tRTW", limits.tRTW, rows, write, _before(cycle, read), "RD")
        for other in range(limits.groups):
            there = group == other
            for kind, later, what, short, long in ((act, act, "ACT", "tRRD_S", "tRRD_L"), (read, read, "RD", "tCCD_S", "tCCD_L"),
                                                   (write, write, "WR", "tCCD_S", "tCCD_L"), (write, read, "WR", "tWTR_S", "tWTR_L")):
                earlier = _before(cycle, kind & there)
                near(long, getattr(limits, long), rows, later & there, earlier, f"{what} in the same bank group")
                near(short, getattr(limits, short), rows, later & ~there, earlier, f"{what} in bank group {other}")
        acts = rows[act]
        near("tFAW", limits.tFAW, acts[4:], everything[:len(acts[4:])], self.commands.cycle[acts[:-4]], "the fourth last ACT")
        for bank in range(limits.groups * limits.banks):
            inside = (group * limits.banks + self.commands.bank[rows] == bank) | (command == PREA) | refresh
            if inside.any():
                self.bank(rows[inside], end)
        self.owed(cycle[refresh], channel, rank, end)

    def bank(self, rows: np.ndarray, end: int) -> None:
        """Rules within one bank; `rows` holds its commands and those to all banks of its rank."""
        limits, near = self.limits, self.near
        cycle, command, row = self.commands.cycle[rows], self.commands.command[rows], self.commands.row[rows]
        act, refresh, precharge = command == ACT, command == REF, (command == PRE) | (command == PREA)
        read, write = (command == RD) | (command == RDA), (command == WR) | (command == WRA)
        own = (command == RDA) | (command == WRA)       # these precharge by themselves
        acted = _before(cycle, act)
        changed = _row_before(act | precharge | own)    # what last opened or closed the bank
        opened = (changed >= 0) & (command[changed] == ACT)

        self.note("STATE", rows, act & opened, "to an open bank")
        self.note("STATE", rows, refresh & opened, "with an open bank")
        self.note("STATE", rows, (read | write) & ~opened, "to a closed bank")
        self.note("STATE", rows, (read | write) & opened & (row >= 0) & (row != row[changed]), "of another row than the open one")

        near("tRCD", limits.tRCD, rows, read | write, acted, "ACT")
        near("tRAS", limits.tRAS, rows, precharge, acted, "ACT")
        near("tRC", limits.tRC, rows, act, acted, "ACT")
        near("tRTP", limits.tRTP, rows, precharge, _before(cycle, read), "RD")
        near("tWR", limits.tWR, rows, precharge, _before(cycle, write), "WR")

        given = precharge if limits.restarts else precharge & opened
        near("tRP", limits.tRP, rows, act | refresh, _before(cycle, given), "PRE")
        done = np.maximum(acted + limits.tRAS, cycle + np.where(read, limits.tRTP, limits.tWR))     # where RDA and WRA precharge
        near("tRP", limits.tRP, rows, act | refresh, _before(done, own), "a precharge of RDA or WRA")

        # The longest time a row may stay open; a row still open at the end of the run counts to there.
        closes = precharge & opened & (cycle - acted > limits.tRAS_max)
        self.note("tRAS_max", rows, closes, f"more than tRAS_max = {limits.tRAS_max} cycles after ACT")
        state = np.flatnonzero(act | precharge | own)
        if len(state) and act[state[-1]] and end - cycle[state[-1]] > limits.tRAS_max:
            self.note("tRAS_max", rows[state[-1:]], act[state[-1:]], f"and still open at the end, tRAS_max is {limits.tRAS_max} cycles")

    def owed(self, refreshed: np.ndarray, channel: int, rank: int, end: int) -> None:
        """The refreshes of one rank: one falls due every tREFI, at most 8 may be owed, and no gap is longer than 9 tREFI."""
        interval = self.limits.tREFI
        due = np.arange(1, end // interval + 1, dtype=np.int64) * interval
        when = np.concatenate((refreshed, due))
        falls_due = np.arange(len(when)) >= len(refreshed)
        order = np.argsort(when, kind="stable")         # a refresh in the very cycle counts before the next one falls due
        total = np.cumsum(np.where(falls_due[order], 1, -1))
        # No rank is ahead by more than 8: what lies below is lost.
        balance = total - np.minimum(np.minimum.accumulate(total + POSTPONED), 0) if len(total) else total
        late = falls_due[order] & (balance > POSTPONED)
        texts = {int(cycle): f"{owing} refreshes owed, allowed are {POSTPONED}"
                 for cycle, owing in zip(when[order][late], balance[late], strict=True)}
        edges = np.concatenate(([0], refreshed, [max(end, 0)]))
        longest = (POSTPONED + 1) * interval
        for place in np.flatnonzero(np.diff(edges) > longest):
            texts.setdefault(int(edges[place]) + longest, f"no refresh for {edges[place + 1] - edges[place]} cycles, allowed are {longest}")
        self.refreshes += [Violation("tREFI", cycle, channel, rank, -1, -1, text) for cycle, text in sorted(texts.items())]

    def reserved(self, banks: Collection[Bank]) -> None:
        """An NDA's commands stay in the banks reserved for it, so it never gives PREA or REF."""
        commands = self.commands
        rows = np.flatnonzero(commands.source == NDA)
        allowed = np.zeros(len(rows), dtype=bool)
        for group, bank in banks:
            allowed |= (np.maximum(commands.bank_group[rows], 0) == group) & (commands.bank[rows] == bank)
        self.note("RESERVED", rows, ~allowed | np.isin(commands.command[rows], (PREA, REF)), "of the NDA outside the reserved banks")

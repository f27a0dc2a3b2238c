"""RequestQueue against a list, and the status of its entries against the rows of the ranks."""

import random

import pytest
from amaranth.sim import Simulator

from gen.dram import DramConfig
from rtl.memory.request_queue import RequestQueue
from tb.unit.dram_rank import small_part
from tb.unit.refused import refused

CONFIG = DramConfig(part=small_part(), ranks=2, patience=16)
RANKS, BANKS, ROWS, COLUMNS = 2, 4, 3, 2      # few rows and columns: requests meet


class Rows:
    """The open rows of the ranks: in a cycle each may change at most one of them, or close all."""

    def __init__(self, rng: random.Random):
        self.rng = rng
        self.open: list[dict[int, int]] = [{} for _ in range(RANKS)]     # bank -> row
        self.opened: list[list[int]] = [[] for _ in range(RANKS)]        # banks in this cycle
        self.named = [0] * RANKS                                         # bank of the last change, if there was one or not

    def change(self, rank: int) -> dict:
        """What this cycle does to a rank; from then on `open` is that of the next cycle."""
        rng, rows = self.rng, self.open[rank]
        bank, row, kind = rng.randrange(BANKS), rng.randrange(ROWS), rng.random()
        opens, closes, closes_all = kind < 0.3 and bank not in rows, 0.3 <= kind < 0.45, kind > 0.97
        self.opened[rank] = [bank] * opens
        self.named[rank] = bank
        if opens:
            rows[bank] = row
        if closes:
            rows.pop(bank, None)
        if closes_all:
            rows.clear()
        return {"opens": opens, "closes": closes, "closes_all": closes_all, "bank": bank, "row": row}


def status(entry: tuple, rows: "Rows", allowed: dict[str, int], clash: bool) -> dict:
    """The status an entry must have."""
    rank, bank, row = entry[:3]
    opened = rows.open[rank].get(bank)

    def may(name: str) -> bool:
        held = allowed[f"{name}_held"] >> rank & 1 and rows.named[rank] == bank
        return bool(allowed[f"{name}_ok"] >> rank * BANKS + bank & allowed.get(f"{name}_free", -1) >> rank & 1) and not held

    return {
        "open": opened is not None, "hit": opened == row,
        "moves": opened == row and may("column"), "opens": opened is None and may("act"),
        "closes": opened not in (None, row) and may("pre"), "clash": clash,
    }


@pytest.mark.parametrize("entries", [2, 5, 8])
@pytest.mark.parametrize("seed", [1, 2])
def test_against_a_list(entries, seed):
    print(f"seed {seed}")
    rng = random.Random(seed)
    dut = RequestQueue(CONFIG, entries=entries, note_bits=7)
    held: list[tuple] = []
    clashes: dict[int, bool] = {}      # by note: an entry named the block of the last comparison since it came
    rows = Rows(rng)
    names = ("act_ok", "pre_ok", "column_ok", "act_free", "column_free", "act_held", "pre_held", "column_held")
    allowed: dict[str, int] = dict.fromkeys(names, 0)
    seen, oldest_since = set(), 0

    def place() -> tuple:
        return rng.randrange(RANKS), rng.randrange(BANKS), rng.randrange(ROWS), rng.randrange(COLUMNS)

    def fields(entry: tuple) -> dict:
        return dict(zip(("rank", "bank", "row", "column"), entry))

    async def bench(ctx):
        nonlocal oldest_since, clashes
        for cycle in range(800):
            push_share, remove_share = ((0.8, 0.2), (0.2, 0.7), (0.6, 0.6), (0.3, 0.03))[cycle // 50 % 4]
            count = len(held)
            assert ctx.get(dut.full) == (count == entries)
            assert ctx.get(dut.valid) == (1 << count) - 1
            for i, entry in enumerate(held):
                at = ctx.get(dut.entries[i])
                assert (at.location.rank, at.location.bank, at.location.row, at.location.column, at.note) == entry
                wanted = status(entry, rows, allowed, clashes[entry[4]])
                assert {name: bool(at.status[name]) for name in wanted} == wanted, f"cycle {cycle}"
                seen.update(name for name, value in wanted.items() if value)
            for i in range(count, entries):
                empty = ctx.get(dut.entries[i]).status
                assert not any(empty[name] for name in ("moves", "opens", "closes", "clash"))
            waited = min(cycle - oldest_since, 16) if held else 0
            assert ctx.get(dut.waited) == waited and ctx.get(dut.urgent) == (waited == 16)
            seen.add(waited)
            push, removed = count < entries and rng.random() < push_share, None
            if held and rng.random() < remove_share:
                removed = rng.randrange(count)
            entry = *place(), next(note for note in range(128) if all(other[4] != note for other in held))
            now = status(entry, rows, allowed, False)
            ctx.set(dut.push, push)
            ctx.set(dut.entry.location, fields(entry))
            ctx.set(dut.entry.note, entry[4])
            ctx.set(dut.entry.status.open, now["open"])
            ctx.set(dut.entry.status.hit, now["hit"])
            ctx.set(dut.leaves, 0 if removed is None else (1 << entries) - (1 << removed))
            wants = {rank * BANKS + bank for rank, bank, row, *_ in [*held, *[entry] * push] if rows.open[rank].get(bank) == row}
            for rank in range(RANKS):
                ctx.set(dut.changes[rank], rows.change(rank))
            new = sum(1 << rank * BANKS + bank for rank, opened in enumerate(rows.opened) for bank in opened)
            for name in allowed:
                if not name.endswith("_ok"):
                    allowed[name] = sum((rng.random() < (0.8 if name.endswith("_free") else 0.3)) << rank for rank in range(RANKS))
                else:
                    allowed[name] = rng.getrandbits(RANKS * BANKS) & (~new if name != "column_ok" else -1)      # rc and ras are 3 or more
                ctx.set(getattr(dut, name), allowed[name])
            compare, compared = rng.random() < 0.5, rng.choice([*held, entry])[:4] if rng.random() < 0.5 else place()
            ctx.set(dut.compare, compare)
            ctx.set(dut.compared, fields(compared))
            clashes[entry[4]] = False
            if compare:
                clashes |= {other[4]: other[:4] == compared for other in [*held, entry]}
            if removed is not None:
                held.pop(removed)
            if removed == 0 or not count:
                oldest_since = cycle + 1
            if push:
                held.append(entry)
            await ctx.tick()
            assert ctx.get(dut.wanted_rows) == sum(1 << at for at in wants), f"cycle {cycle}"

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert {0, 1, 15, 16, "hit", "moves", "opens", "closes", "clash"} <= seen


def test_refusals():
    assert refused(lambda: RequestQueue(CONFIG, entries=1, note_bits=4)) == "entries = 1 must be at least 2"
    assert refused(lambda: RequestQueue(CONFIG, entries=4, note_bits=0)) == "note_bits = 0 must be at least 1"

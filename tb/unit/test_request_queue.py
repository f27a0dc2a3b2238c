"""RequestQueue against a list."""

import random

import pytest
from amaranth.sim import Simulator

from gen.dram import DramConfig
from rtl.memory.request_queue import RequestQueue
from tb.unit.dram_rank import small_part
from tb.unit.refused import refused

CONFIG = DramConfig(part=small_part(), ranks=2, patience=16)


@pytest.mark.parametrize("entries", [2, 5, 8])
@pytest.mark.parametrize("seed", [1, 2])
def test_against_a_list(entries, seed):
    print(f"seed {seed}")
    rng = random.Random(seed)
    dut = RequestQueue(CONFIG, entries=entries, note_bits=7)
    held: list[tuple] = []
    seen, oldest_since = set(), 0

    async def bench(ctx):
        nonlocal oldest_since
        for cycle in range(800):
            push_share, remove_share = ((0.8, 0.2), (0.2, 0.7), (0.6, 0.6), (0.3, 0.03))[cycle // 50 % 4]
            count = len(held)
            assert ctx.get(dut.count) == count and ctx.get(dut.full) == (count == entries)
            assert ctx.get(dut.valid) == (1 << count) - 1
            for i, entry in enumerate(held):
                at = ctx.get(dut.entries[i])
                assert (at.location.rank, at.location.bank, at.location.row, at.location.column, at.note) == entry
            waited = min(cycle - oldest_since, 16) if held else 0
            assert ctx.get(dut.waited) == waited and ctx.get(dut.urgent) == (waited == 16)
            seen.add(waited)
            push, removed = count < entries and rng.random() < push_share, None
            if held and rng.random() < remove_share:
                removed = rng.randrange(count)
            entry = rng.randrange(2), rng.randrange(4), rng.randrange(64), rng.randrange(16), rng.randrange(128)
            ctx.set(dut.push, push)
            ctx.set(dut.entry, {"location": dict(zip(("rank", "bank", "row", "column"), entry)), "note": entry[4]})
            ctx.set(dut.remove, 0 if removed is None else 1 << removed)
            if removed is not None:
                held.pop(removed)
            if removed == 0 or not count:
                oldest_since = cycle + 1
            if push:
                held.append(entry)
            await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert {0, 1, 15, 16} <= seen


def test_refusals():
    assert refused(lambda: RequestQueue(CONFIG, entries=1, note_bits=4)) == "entries = 1 must be at least 2"
    assert refused(lambda: RequestQueue(CONFIG, entries=4, note_bits=0)) == "note_bits = 0 must be at least 1"

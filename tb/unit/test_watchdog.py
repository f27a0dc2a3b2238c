"""Watchdog: quiet cycles in a row against an integer, with quiet times around the limit, and which instruction is named."""

import random

import pytest
from amaranth.sim import Simulator

from rtl.control.watchdog import Journal, Watchdog


@pytest.mark.parametrize("seed", [1, 2])
def test_sixty_four_cycles_in_a_row(seed):
    print(f"seed {seed}")
    rng = random.Random(seed)
    watchdog, told = Watchdog(units=3, slot_bits=5), 0

    async def bench(ctx):
        nonlocal told
        quiet, found, before = 0, (0, 0), 0
        for length in [*rng.sample([1, 20, 40, 61, 62, 63, 64, 80], 8)] * 2:
            waiting = [rng.randrange(1, 8) for _ in range(length)]
            interrupted = rng.choice([(0, 0), (1, 0), (1, 5)])      # nothing to do, or something goes on
            for active, mask in [*((0, mask) for mask in waiting), interrupted]:
                slots = [rng.getrandbits(5) for _ in range(3)]
                ctx.set(watchdog.active, active)
                ctx.set(watchdog.waiting, mask)
                for port, value in zip(watchdog.slots, slots):
                    ctx.set(port, value)
                assert ctx.get(watchdog.expired) == (quiet >= 63)       # this cycle is taken for the 64th
                assert (ctx.get(watchdog.unit), ctx.get(watchdog.slot)) == found
                told += quiet >= 63
                quiet = quiet + 1 if mask and not active else 0
                found = next(((i, slots[i]) for i in range(3) if before >> i & 1), found)
                before = mask
                await ctx.tick()

    simulator = Simulator(watchdog)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert told > 20


def test_journal():
    rng = random.Random(5)
    journal = Journal(units=6, slot_bits=3)
    written: dict[tuple[int, int], int] = {}

    async def bench(ctx):
        for cycle in range(300):
            number, slot, index = rng.randrange(6), rng.randrange(8), rng.getrandbits(32)
            note = rng.random() < 0.7
            ctx.set(journal.note, note)
            ctx.set(journal.number, number)
            ctx.set(journal.slot, slot)
            ctx.set(journal.written, index)
            await ctx.tick()
            if note:
                written[number, slot] = index
            if written and cycle % 3 == 0:
                number, slot = rng.choice(list(written))
                ctx.set(journal.note, 0)
                ctx.set(journal.read_number, number)
                ctx.set(journal.read_slot, slot)
                await ctx.tick().repeat(3)
                assert ctx.get(journal.index) == written[number, slot]

    simulator = Simulator(journal)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert len(written) == 48

"""Watchdog: quiet cycles in a row against an integer, with quiet times around the limit, and whose instruction is named."""

import random

import pytest
from amaranth.sim import Simulator

from rtl.control.watchdog import Watchdog


@pytest.mark.parametrize("seed", [1, 2])
def test_sixty_four_cycles_in_a_row(seed):
    print(f"seed {seed}")
    rng = random.Random(seed)
    watchdog, told = Watchdog(units=3), 0

    async def bench(ctx):
        nonlocal told
        quiet, index = 0, 0
        for length in [*rng.sample([1, 20, 40, 61, 62, 63, 64, 80], 8)] * 2:
            waiting = [rng.randrange(1, 8) for _ in range(length)]
            interrupted = rng.choice([(0, 0), (1, 0), (1, 5)])      # nothing to do, or something goes on
            for active, mask in [*((0, mask) for mask in waiting), interrupted]:
                indices = [rng.getrandbits(32) for _ in range(3)]
                ctx.set(watchdog.active, active)
                ctx.set(watchdog.waiting, mask)
                for port, value in zip(watchdog.indices, indices):
                    ctx.set(port, value)
                assert ctx.get(watchdog.expired) == (quiet >= 63)       # this cycle is taken for the 64th
                assert ctx.get(watchdog.index) == index
                told += quiet >= 63
                quiet = quiet + 1 if mask and not active else 0
                index = next((indices[i] for i in range(3) if mask >> i & 1), index)
                await ctx.tick()

    simulator = Simulator(watchdog)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert told > 20

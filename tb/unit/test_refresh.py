"""Refresh: dates, states and the order of ranks, against a few lines of Python."""

import random

import pytest
from amaranth.sim import Simulator

from gen.dram import DramConfig
from rtl.memory.interfaces import Refresh as State
from rtl.memory.refresh import Refresh
from tb.unit.dram_rank import small_part


@pytest.mark.parametrize("ranks", [1, 2, 4])
@pytest.mark.parametrize("seed", [1, 2])
def test_against_python(ranks, seed):
    print(f"seed {seed}")
    rng = random.Random(seed)
    config = DramConfig(part=small_part(), ranks=ranks)
    interval = config.gaps.refi
    dut = Refresh(config)
    owed, state = [0] * ranks, ["NORMAL"] * ranks
    seen, done = set(), [0] * ranks

    async def bench(ctx):
        for cycle in range(30 * interval):
            phase = cycle // (10 * interval)      # idle; always wanted; wanted and rarely free
            bits = lambda share: [rng.random() < share for _ in range(ranks)]    # noqa: E731
            wanted, free = bits((0.02, 1.0, 0.9)[phase]), bits((0.9, 0.5, 0.3)[phase])
            prea, ref = bits(0.5), bits(0.4)
            for signal, values in ((dut.wanted, wanted), (dut.free, free), (dut.prea_ok, prea), (dut.ref_ok, ref)):
                ctx.set(signal, sum(bit << i for i, bit in enumerate(values)))
            may = {"NORMAL": [False] * ranks, "CLOSE": prea, "REFRESH": ref}
            chosen = next((r for r in range(ranks) if free[r] and may[state[r]][r]), None)
            for r in range(ranks):
                assert ctx.get(dut.state[r]) == State[state[r]] and ctx.get(dut.owed[r]) == owed[r]
                assert ctx.get(dut.precharge) >> r & 1 == (chosen == r and state[r] == "CLOSE")
                assert ctx.get(dut.refresh) >> r & 1 == (chosen == r and state[r] == "REFRESH")
                assert ctx.get(dut.normal) >> r & 1 == (state[r] == "NORMAL")
            assert ctx.get(dut.idle) == (not any(owed) and set(state) == {"NORMAL"})
            before = list(owed)
            for r in range(ranks):
                owed[r] += cycle % interval == (r + 1) * interval // ranks - 1
                if state[r] == "NORMAL":
                    if before[r] and (not wanted[r] or before[r] >= 7):
                        state[r] = "CLOSE"
                        seen.add((before[r], wanted[r]))
                elif chosen == r:
                    done[r] += state[r] == "REFRESH"
                    owed[r] -= state[r] == "REFRESH"
                    state[r] = {"CLOSE": "REFRESH", "REFRESH": "NORMAL"}[state[r]]
            assert max(owed) <= 8
            await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert {(1, False), (7, True)} <= seen
    assert [count + left for count, left in zip(done, owed)] == [30] * ranks

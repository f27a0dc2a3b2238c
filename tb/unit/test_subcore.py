"""A sub-core with tiles back to back, each with new stationary operands, against numpy."""

import numpy as np
import pytest
from amaranth.sim import Simulator

from rtl.array.core import SubCore
from tb.unit.test_array import machine


@pytest.mark.parametrize(("side", "row_latency", "multiplier_latency"), [
    (1, 1, 1), (1, 2, 3), (2, 1, 3), (2, 2, 1), (4, 1, 1), (4, 1, 3), (4, 3, 2),
])
def test_tiles_back_to_back(side, row_latency, multiplier_latency):
    seed = 100 * side + 10 * row_latency + multiplier_latency
    rng = np.random.default_rng(seed)
    config = machine(side, "flex", row_latency, multiplier_latency)
    tiles = [(rng.integers(-255, 256, (int(rng.integers(1, 3 * side + 1)), side)), rng.integers(-255, 256, (side, side))) for _ in range(8)]
    above = rng.integers(-5000, 5000, (600, side))
    end = 40 + sum(max(len(a), side, 2) for a, _ in tiles) + (row_latency + 2) * 2 * side
    moving, swap = rng.integers(-256, 256, (end, side)), np.zeros((end, side), int)
    stationary, capture = rng.integers(-256, 256, (end, side)), np.zeros((end, side), int)
    starts, load = [], 0
    for a, b in tiles:
        start = max(load + max(side - 1, 1), starts[-1][0] + starts[-1][1] if starts else 0)     # as soon as it may
        for lane in range(side):
            moving[start + row_latency * lane:start + row_latency * lane + len(a), lane] = a[:, lane]
            swap[start + row_latency * lane, lane] = 1
            stationary[load + lane:load + lane + side, lane] = b[:, lane]
            capture[load + lane, lane] = 1
        starts.append((start, len(a)))
        load = start + 1

    dut, seen = SubCore(config), np.zeros((end, side), int)

    async def bench(ctx):
        for t in range(end):
            for lane in range(side):
                ctx.set(dut.moving_in[lane], int(moving[t, lane]))
                ctx.set(dut.stationary_in[lane], int(stationary[t, lane]))
                ctx.set(dut.sums_in[lane], int(above[t, lane]))
                seen[t, lane] = ctx.get(dut.sums_out[lane])
            ctx.set(dut.swap_in, int(sum(int(bit) << lane for lane, bit in enumerate(swap[t]))))
            ctx.set(dut.capture_in, int(sum(int(bit) << lane for lane, bit in enumerate(capture[t]))))
            if t >= side:
                assert [ctx.get(dut.moving_out[lane]) for lane in range(side)] == list(moving[t - side]), t
            await ctx.tick()

    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(bench)
    sim.run()
    for (a, b), (start, _) in zip(tiles, starts):
        for row, sums in enumerate(a @ b):
            for c in range(side):
                enters = start + row + 1 + c + multiplier_latency
                assert seen[enters + row_latency * side, c] == sums[c] + above[enters, c], (seed, start, row, c)

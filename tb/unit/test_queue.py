"""Queue: order, depth and what is visible when, against a deque."""

import random
from collections import deque

import pytest
from amaranth.sim import Simulator

from rtl.control.queue import Queue
from tb.unit.refused import refused


@pytest.mark.parametrize("depth", [2, 3, 8])
@pytest.mark.parametrize("registered", [None, 0, 5])
@pytest.mark.parametrize("seed", [1, 2])
def test_against_deque(depth, seed, registered):
    print(f"seed {seed}")
    rng = random.Random(seed)
    queue = Queue(shape=16, depth=depth, registered=registered)
    held: deque[tuple[int, int]] = deque()      # entry and slot
    seen, slots = set(), {}                     # slots: that of the last entry that has left

    async def bench(ctx):
        for cycle in range(600):
            busy = cycle // 60 % 3      # phases: filling, draining, both
            push, ready, entry = rng.random() < (0.9, 0.3, 0.7)[busy], rng.random() < (0.2, 0.9, 0.7)[busy], rng.getrandbits(16)
            ctx.set(queue.push, push)
            ctx.set(queue.entry, entry)
            ctx.set(queue.head.ready, ready)
            assert ctx.get(queue.count) == len(held)
            assert ctx.get(queue.full) == (len(held) == depth)
            assert ctx.get(queue.head.valid) == bool(held)
            if held:
                assert (ctx.get(queue.head.payload), ctx.get(queue.slot)) == held[0]
            seen.add((len(held), push, ready))
            room = len(held) < depth
            if held and ready:
                slots["left"] = held.popleft()[1]
            if push and room:
                slot = ctx.get(queue.push_slot)
                assert slot not in (*(other for _, other in held), slots.get("left"))
                held.append((entry, slot))
            await ctx.tick()

    simulator = Simulator(queue)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert {(depth, True, True), (0, True, True), (depth, True, False)} <= seen


def test_depth_of_one_is_refused():
    assert refused(lambda: Queue(shape=8, depth=1)) == "depth = 1 must be at least 2"

"""Tokens: sixteen counters against integers, the errors at both ends, and the link of a unit that serves several groups."""

import random

import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator

from rtl.control.tokens import Tokens, route
from rtl.interfaces import TokenPort


def simulate(component, bench):
    simulator = Simulator(component)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


@pytest.mark.parametrize("seed", [1, 2])
def test_against_integers(seed):
    print(f"seed {seed}")
    rng = random.Random(seed)
    tokens = Tokens()
    # What is left after all cycles but the last one, what the last cycle brought and took; tokens taken two cycles ago.
    counts, change, resting = [0] * 16, [0] * 16, set()
    last_taken: set[int] = set()
    taken_together = rested = late = 0

    async def bench(ctx):
        nonlocal taken_together, rested, late, resting, last_taken
        for _ in range(400):
            signals = [rng.getrandbits(16) & rng.getrandbits(16) & rng.getrandbits(16) for _ in tokens.units]
            for unit, signal in zip(tokens.units, signals):
                ctx.set(unit.signal, signal)
            taken = [0] * 16
            for unit in tokens.units:
                wait = rng.getrandbits(16) & rng.getrandbits(16) if rng.random() < 0.8 else 0
                ctx.set(unit.wait, wait)
                mine = [token for token in range(16) if wait >> token & 1]
                ready = all(counts[token] > 0 and token not in resting for token in mine)
                rested += not ready and all(counts[token] > 0 for token in mine)
                assert ctx.get(unit.ready) == ready
                # Take only what others have left, in this cycle and the one before: no error in this test.
                take = ready and all(counts[token] + min(0, change[token]) > taken[token] for token in mine) and rng.random() < 0.8
                ctx.set(unit.take, take)
                for token in mine if take else ():
                    taken[token] += 1
                    taken_together += taken[token] > 1
                    late += token in last_taken
            assert not ctx.get(tokens.error)
            counts[:] = [here + more for here, more in zip(counts, change)]
            change[:] = [sum(signal >> token & 1 for signal in signals) - taken[token] for token in range(16)]
            resting, last_taken = last_taken, {token for token in range(16) if taken[token]}
            await ctx.tick()

    simulate(tokens, bench)
    assert taken_together > 20 and rested > 20 and late > 20


@pytest.mark.parametrize("apart", [0, 1])
def test_two_takers_of_the_last_token_are_an_error(apart):
    """In one cycle, or the second one while the token is still seen."""
    tokens = Tokens()

    async def bench(ctx):
        first, second = tokens.units[2], tokens.units[5]
        ctx.set(tokens.units[0].signal, 1 << 9)
        await ctx.tick()
        ctx.set(tokens.units[0].signal, 0)
        for unit in (first, second):
            ctx.set(unit.wait, 1 << 9)
            assert not ctx.get(unit.ready)
        await ctx.tick()
        for cycle in range(apart + 1):
            for unit, when in ((first, 0), (second, apart)):
                assert ctx.get(unit.ready)
                ctx.set(unit.take, when == cycle)
            await ctx.tick()
        for unit in (first, second):
            ctx.set(unit.take, 0)
        for since in (1, 2):
            assert not ctx.get(tokens.error)
            assert ctx.get(first.ready) == (since == 1 and not apart)
            await ctx.tick()
        assert ctx.get(tokens.error)

    simulate(tokens, bench)


@pytest.mark.parametrize("signals", [1, 6])
def test_more_than_255_is_an_error(signals):
    tokens = Tokens()

    async def bench(ctx):
        ctx.set(tokens.units[2].signal, 1 << 15)
        await ctx.tick().repeat(255)
        ctx.set(tokens.units[2].signal, 0)
        await ctx.tick().repeat(3)
        assert not ctx.get(tokens.error)
        for unit in list(tokens.units)[:signals]:
            ctx.set(unit.signal, 1 << 15)
        await ctx.tick()
        for unit in tokens.units:
            ctx.set(unit.signal, 0)
        for _ in range(2):
            assert not ctx.get(tokens.error)
            await ctx.tick()
        assert ctx.get(tokens.error)        # three cycles behind them

    simulate(tokens, bench)


class Routed(wiring.Component):
    """One unit and the tokens of two groups."""

    def __init__(self):
        super().__init__({"unit": In(TokenPort()), "counts": Out(4).array(2)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.group_0 = first = Tokens(ports=1)
        m.submodules.group_1 = second = Tokens(ports=1)
        route(m, unit=self.unit, groups=[first.units[0], second.units[0]])
        m.d.comb += [self.counts[0].eq(first.counts[0]), self.counts[1].eq(second.counts[0])]
        return m


def test_a_shared_unit_reaches_each_group():
    routed = Routed()

    async def bench(ctx):
        unit = routed.unit
        ctx.set(unit.signal_group, 1)
        ctx.set(unit.signal, 1)
        await ctx.tick().repeat(2)
        ctx.set(unit.signal, 0)
        await ctx.tick().repeat(2)
        assert [ctx.get(count) for count in routed.counts] == [0, 2]
        ctx.set(unit.wait, 1)
        assert not ctx.get(unit.ready)
        ctx.set(unit.group, 1)
        assert ctx.get(unit.ready)
        ctx.set(unit.take, 1)
        await ctx.tick()
        ctx.set(unit.take, 0)
        await ctx.tick().repeat(2)
        assert [ctx.get(count) for count in routed.counts] == [0, 1]

    simulate(routed, bench)

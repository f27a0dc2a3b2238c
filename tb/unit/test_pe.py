"""The processing element and its multiplier, cycle by cycle against a few lines of Python."""

import random

import pytest
from amaranth.sim import Simulator

from rtl.array.multiplier import Multiplier
from rtl.array.pe import PE
from tb.unit.test_array import machine


def trace(dut, inputs: list[dict], outputs: list[str]) -> list[dict]:
    """Outputs of each cycle for the inputs of each cycle."""
    seen = []

    async def bench(ctx):
        for values in inputs:
            for name, value in values.items():
                ctx.set(getattr(dut, name), value)
            seen.append({name: ctx.get(getattr(dut, name)) for name in outputs})
            await ctx.tick()

    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(bench)
    sim.run()
    return seen


@pytest.mark.parametrize("latency", [1, 2, 3, 6])
def test_multiplier(latency):
    rng = random.Random(latency)
    pairs = [(a, b) for a in (-256, -255, -1, 0, 1, 255) for b in (-256, -255, -1, 0, 1, 255)]
    pairs += [(rng.randint(-256, 255), rng.randint(-256, 255)) for _ in range(200)]
    seen = trace(Multiplier(machine(2, "flex", 1, latency)), [{"a": a, "b": b} for a, b in pairs] + [{}] * latency, ["product"])
    assert [cycle["product"] for cycle in seen[latency:]] == [a * b for a, b in pairs]


@pytest.mark.parametrize(("row_latency", "multiplier_latency", "early"), [
    (1, 1, False), (1, 3, False), (2, 3, False), (1, 3, True), (3, 2, True),
])
def test_pe(row_latency, multiplier_latency, early):
    seed = 10 * row_latency + multiplier_latency
    rng, cycles = random.Random(seed), 200
    inputs = [{"moving_in": rng.randint(-256, 255), "swap_in": rng.random() < 0.2, "sum_in": rng.randint(-60000, 60000),
               "stationary_in": rng.randint(-256, 255), "capture_in": rng.random() < 0.3} for _ in range(cycles)]
    outputs = ["moving_out", "swap_out", "sum_out", "stationary_out", "capture_out"]
    seen = trace(PE(machine(2, "flex", row_latency, multiplier_latency), early=early), inputs, outputs)

    shadow = active = 0
    product = {}
    for t, values in enumerate(inputs):
        if values["swap_in"]:
            active = shadow
        if values["capture_in"]:
            shadow = values["stationary_in"]
        product[t + 1 + multiplier_latency] = values["moving_in"] * active
    for t in range(10, cycles):
        assert seen[t]["moving_out"] == inputs[t - 1]["moving_in"], (seed, t)
        assert seen[t]["swap_out"] == inputs[t - 1]["swap_in"], (seed, t)
        assert seen[t]["stationary_out"] == inputs[t - row_latency + early]["stationary_in"], (seed, t)
        assert seen[t]["capture_out"] == inputs[t - row_latency - 1 + early]["capture_in"], (seed, t)
        assert seen[t]["sum_out"] == inputs[t - row_latency]["sum_in"] + product[t - row_latency], (seed, t)

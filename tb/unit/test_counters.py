"""Counters and registers: what was observed while running, and the bus."""

import random

import pytest
from amaranth.sim import Simulator

from gen.isa import VERSION, Cause, Mode, Stall
from gen.presets import PRESETS
from gen.registers import IDENTITY, registers
from rtl.control.counters import Counters, scan_cycles, sums
from rtl.control.registers import RegisterFile

PLAIN = {"busy_load_h": "loading_moving", "busy_load_v": "loading_stationary", "busy_execute": "streaming", "busy_store": "storing",
         "moving_words": "moving_words", "stationary_words": "stationary_words", "stored_words": "stored_words"}   # counter: observation


def simulate(component, bench):
    simulator = Simulator(component)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


CONTROL = {"identity", "version", "control", "status", "cause", "error_index", "program", "count"}


def counter_names(config) -> list[str]:
    return [item.name for item in registers(config.array.groups) if item.name not in CONTROL]


@pytest.mark.parametrize(("seed", "organisation"), [(1, "4G1F"), (2, "4G1F"), (3, "1G1F")])
def test_counts(seed, organisation):
    print(f"seed {seed}")
    rng = random.Random(seed)
    config = PRESETS["small"].organise(organisation)
    counters = Counters(config)

    async def run(ctx, cycles: int, more: int):
        want = dict.fromkeys(counter_names(config), 0)
        active: list[int] = []
        scanned = cycles + scan_cycles(config) + 2
        for cycle in range(-3, scanned + more):
            running = 0 <= cycle < cycles
            ctx.set(counters.clear, cycle == -1)
            ctx.set(counters.running, running)
            ctx.set(counters.scanning, 0 <= cycle < scanned)
            ctx.set(counters.slot, rng.randrange(scan_cycles(config)))
            for port, name in ((counters.fetch_beat, "fetch_beats"), (counters.read_beat, "dram_read_beats"),
                               (counters.write_beat, "dram_write_beats")):
                bit = rng.getrandbits(1)
                ctx.set(port, bit)
                want[name] += bit and running
            want["cycles"] += running
            for number, group in enumerate(counters.groups):
                found = {"wave": rng.getrandbits(1), "wave_mode": rng.choice(list(Mode)), "stall": rng.choice(list(Stall)),
                         "active": rng.random() < 0.05, "streaming": rng.getrandbits(1)}
                found |= {name: rng.getrandbits(1) for name in ("loading_moving", "loading_stationary", "storing")}
                found |= {name: rng.randrange(5) for name in ("moving_words", "stationary_words", "stored_words")}
                for name, value in found.items():
                    ctx.set(getattr(group, name), value)
                if not running:
                    continue
                if found["active"]:
                    active.append(cycle)
                want[f"g{number}_waves_{found['wave_mode'].name.lower()}"] += found["wave"]
                want[f"g{number}_stall_{found['stall'].name.lower()}"] += 1
                for counter, name in PLAIN.items():
                    want[f"g{number}_{counter}"] += found[name]
            await ctx.tick()
        ctx.set(counters.scanning, 0)
        assert ctx.get(counters.span) == (active[-1] - active[0] + 1 if active else 0)
        del want["array_cycles"]
        assert set(want) == set(counters.slots)
        for name, slot in counters.slots.items():
            ctx.set(counters.slot, slot)
            assert ctx.get(counters.sum) == want[name], name

    async def bench(ctx):
        await run(ctx, 5, 0)
        await run(ctx, 5 * scan_cycles(config) // 2, 0)
        await run(ctx, 40, 7)
        await run(ctx, 1, 0)

    simulate(counters, bench)


def test_bus():
    config = PRESETS["small"].organise("4G1F")
    unit = RegisterFile(config)
    offsets = {item.name: item.offset for item in registers(4)}
    assert len(offsets) == 13 + 4 * 18 and len(counter_names(config)) == 5 + 4 * 18

    async def read(ctx, offset: int) -> int:
        ctx.set(unit.bus.address, offset)
        await ctx.tick()
        return ctx.get(unit.bus.read_data)

    async def write(ctx, offset: int, value: int) -> bool:
        ctx.set(unit.bus.address, offset)
        ctx.set(unit.bus.write_data, value)
        ctx.set(unit.bus.write_enable, 1)
        start = bool(ctx.get(unit.start))
        await ctx.tick()
        ctx.set(unit.bus.write_enable, 0)
        return start

    async def bench(ctx):
        slots: dict[str, int] = {}
        for name in counter_names(config):
            ctx.set(unit.sum, 0x8000_0000 + len(slots))
            ctx.set(unit.span, 0x4000_0000)
            assert await read(ctx, offsets[name]) == (0x4000_0000 if name == "array_cycles" else 0x8000_0000 + len(slots)), name
            if name != "array_cycles":
                slots[name] = ctx.get(unit.slot)
        assert slots == sums(config) and len(set(slots.values())) == len(slots)
        known = set(offsets.values())
        for offset in (*range(0x34, 0x100, 4), *range(0x148, 0x180, 4), *range(0x2C8, 0x300, 4), 0x300, 0x380, 0x900, 0xD00):
            assert offset not in known and await read(ctx, offset) == 0, hex(offset)
        assert await read(ctx, offsets["identity"]) == IDENTITY
        assert await read(ctx, offsets["version"]) == VERSION
        assert await read(ctx, 0xFFC) == 0
        assert not await write(ctx, offsets["program"], 0x1234_5678)
        assert not await write(ctx, offsets["count"], 77)
        assert not await write(ctx, offsets["control"], 2)
        assert not await write(ctx, offsets["cycles"], 1)
        assert await write(ctx, offsets["control"], 1)
        ctx.set(unit.busy, 1)
        assert not await write(ctx, offsets["control"], 1)
        assert not await write(ctx, offsets["program"], 1)
        assert [await read(ctx, offsets[name]) for name in ("program", "count", "status")] == [0x1234_5678, 77, 1]
        ctx.set(unit.busy, 0)
        ctx.set(unit.done, 1)
        assert await read(ctx, offsets["status"]) == 2
        ctx.set(unit.cause, Cause.DEADLOCK)
        ctx.set(unit.error_index, 99)
        assert [await read(ctx, offsets[name]) for name in ("status", "cause", "error_index")] == [6, Cause.DEADLOCK, 99]
        ctx.set(unit.done, 0)
        ctx.set(unit.busy, 1)
        assert await read(ctx, offsets["status"]) == 1      # stopped, but a burst is not finished yet

    simulate(unit, bench)

"""Dispatch: every check against the rules written out in Python, on legal, mutated and random bits; queues, Barrier, End."""

import random

import pytest
from amaranth.sim import Simulator

from gen.config import Config
from gen.config import Unit as Kind
from gen.isa import BY_CODE, OPCODES, Cause, Instruction, Unit, layout
from gen.presets import PRESETS
from rtl.control.decoder import SHARED, Checker, Decoder, own
from rtl.instruction import shown_bits

INTEGER, FLOATING = ("LdScale", "SetAdd", "Pool"), ("LdPixels", "Vector", "VectorLanes", "Transpose")
CONFIGS = [PRESETS["tiny"], PRESETS["orangecrab"], PRESETS["tiny"].organise("1G4C"), PRESETS["small"].organise("4G1F"),
           PRESETS["base"].organise("1G1C"), PRESETS["small"].as_bf16()]


def verdict(config: Config, word: int) -> Cause:
    """Why the machine stops at these 256 bits (rtl/README.md, Fetch and dispatch)."""
    code, version = word & 15, word >> 4 & 15
    floating = config.array.dtype == "bf16"
    if code not in BY_CODE or (BY_CODE[code].name in ("SetAdd", "Pool") and not config.vector.window):
        return Cause.OPCODE
    if BY_CODE[code].name in (INTEGER if floating else FLOATING):
        return Cause.OPCODE
    if version != 1:
        return Cause.VERSION
    name, end, values = BY_CODE[code].name, 0, {}
    for item, offset in layout(name):
        value = word >> offset & (1 << item.width) - 1
        if item.signed and value >> item.width - 1:
            value -= 1 << item.width
        values[item.name], end = value, offset + item.width
        if item.name not in ("opcode", "version") and not item.bottom <= value <= item.top:
            return Cause.FIELD
    wrong = word >> end or values["group"] >= config.array.groups
    wrong = wrong or any(value >= config.buffers.slices for key, value in values.items() if key.endswith("slice"))
    if floating:
        wrong = wrong or any(values.get(key) for key in ("zero_point", "signed", "parameters")) or values.get("output", 0) > 1
    if "mode" in values:
        mode = values["mode"]
        wrong = wrong or mode not in {Kind.FLEX: range(4), Kind.QUAD: [3], Kind.SINGLE: [0]}[config.array.unit]
        parts = [1, 2, 2, 4][mode]
        if name in ("LdLBUF_H", "ExecGEMM"):
            wrong = wrong or (values["rows"] + parts - 1) // parts > config.moving_capacity
        if name == "LdLBUF_H":
            wrong = wrong or 1 << values["rate"] > parts
        if name == "ExecGEMM":
            wrong = wrong or values["rows"] > config.buffers.accumulator_words * (4 if mode & 1 else 2)
    if name == "Vector":        # A * factor + addend, where 2 (B) and 1 (B) are read beside the mask bits of 2
        wrong = wrong or (values["post"] == 2 and (values["factor"] == 2 or values["addend"] == 1))
    if name == "VectorLanes":
        wrong = wrong or (values["operation"] >= 2 and 1 << values["span"] > config.array.side)      # sum, largest
    if name == "StLBUF":
        wrong = wrong or values["rows"] > config.buffers.accumulator_words * (2 if values["wide"] else 4)
    return Cause.FIELD if wrong else Cause.NONE


def words(config: Config, rng: random.Random, count: int) -> list[int]:
    """Bits of instructions: fields at and beyond their limits, single bits flipped, and noise."""
    found = []
    limits = [1, 2, config.moving_capacity, 2 * config.moving_capacity, 4 * config.moving_capacity, config.wide_rows, config.narrow_rows]
    for _ in range(count):
        name = rng.choice(list(OPCODES))
        values = {}
        for item, _ in layout(name)[2:]:
            values[item.name] = rng.choice([item.bottom, item.top, rng.randint(item.bottom, item.top)])
        values["group"] = rng.randrange(config.array.groups)
        for key in [key for key in values if key.endswith("slice")]:
            values[key] = rng.randrange(config.buffers.slices)
        if config.array.dtype == "bf16" and rng.random() < 0.8:
            values |= {key: 0 for key in ("zero_point", "signed", "parameters", "output") if key in values}
        if name == "VectorLanes":
            values["span"] = rng.randint(1, 3)
        if "mode" in values and rng.random() < 0.9:
            values["mode"] = rng.choice({Kind.FLEX: range(4), Kind.QUAD: [3], Kind.SINGLE: [0]}[config.array.unit])
        if "rows" in values:
            values["rows"] = min(max(rng.choice(limits) + rng.choice([-1, 0, 0, 1]), 1), 65535)
        word = int.from_bytes(Instruction(name, **values).encode(), "little")
        change = rng.random()
        if change < 0.2:
            word ^= 1 << rng.randrange(256)
        elif change < 0.3:      # a field at any value
            item, offset = rng.choice(layout(name)[1:])
            mask = (1 << item.width) - 1 << offset
            word = word & ~mask | rng.getrandbits(256) & mask
        elif change < 0.35:
            item, offset = rng.choice(layout(name)[1:])
            word &= ~((1 << item.width) - 1 << offset)
        elif change < 0.37:
            word = rng.getrandbits(256)
        found.append(word)
    return found


def shown(config: Config, word: int) -> int:
    """An instruction as Fetch shows it: of the bits behind the longest one, whether any is set."""
    kept = shown_bits(config) - 1
    unknown = INTEGER if config.array.dtype == "bf16" else FLOATING
    assert kept == max(layout(name)[-1][0].width + layout(name)[-1][1] for name in OPCODES if name not in unknown)
    return word & (1 << kept) - 1 | bool(word >> kept) << kept


def show(ctx, decoder: Decoder, word: int):
    """An instruction's kind, group, and whether it is End."""
    ctx.set(decoder.ends, word & 15 == OPCODES["End"].code)
    ctx.set(decoder.group, word >> 8 & 3)
    op = BY_CODE.get(word & 15)
    ctx.set(decoder.kind, 0 if op is None else 1 << (6 if op.unit is None else op.unit))


def simulate(decoder: Decoder, bench):
    simulator = Simulator(decoder)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: f"{config.name}-{config.organisation}")
def test_checks(config):
    checker = Checker(config)
    cases = [*words(config, random.Random(3), 1500), 0]
    causes = [verdict(config, word) for word in cases]
    assert causes[-1] == (Cause.VERSION if config.array.dtype == "bf16" else Cause.OPCODE)      # opcode 0 is LdPixels, of version 1
    assert all(causes.count(cause) > 8 for cause in (Cause.NONE, Cause.OPCODE, Cause.VERSION)) and causes.count(Cause.FIELD) > 200
    assert causes.count(Cause.NONE) > 300

    async def bench(ctx):
        inputs = [(1, 0, word) for word in cases] + [(0, 0, word) for word in cases[:50]]
        inputs += [(0, 1, 0), (1, 1, cases[causes.index(Cause.NONE)])]
        want = causes + [Cause.NONE] * 50 + [Cause.END, Cause.NONE]
        for number, (valid, exhausted, word) in enumerate([*inputs, (0, 0, 0), (0, 0, 0), (0, 0, 0)]):
            if number >= 3:
                assert (ctx.get(checker.cause) if ctx.get(checker.found) else Cause.NONE) == want[number - 3], hex(inputs[number - 3][2])
            ctx.set(checker.valid, valid)
            ctx.set(checker.exhausted, exhausted)
            ctx.set(checker.bits, shown(config, word))
            await ctx.tick()

    simulator = Simulator(checker)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


def test_each_goes_to_its_queue():
    config = PRESETS["small"].organise("4G1F")
    decoder = Decoder(config)
    rng = random.Random(4)

    async def bench(ctx):
        show(ctx, decoder, int.from_bytes(Instruction("SetConv").encode(), "little"))
        await ctx.tick()
        assert not ctx.get(decoder.push_shared) and not any(ctx.get(push) for push in decoder.push)
        ctx.set(decoder.valid, 1)
        for _ in range(600):
            names = [name for name, op in OPCODES.items() if op.unit is not None and name not in FLOATING]
            name, group = rng.choice(names), rng.randrange(4)
            unit = OPCODES[name].unit
            assert unit is not None
            show(ctx, decoder, int.from_bytes(Instruction(name, group=group).encode(), "little"))
            full_shared, full = rng.getrandbits(2), [rng.getrandbits(4) for _ in range(4)]
            ctx.set(decoder.full_shared, full_shared)
            for there, value in zip(decoder.full, full):
                ctx.set(there, value)
            want_shared, want = 0, [0, 0, 0, 0]
            if unit in (Unit.DMA_IN, Unit.DMA_OUT):
                want_shared = 1 << SHARED.index(unit) & ~full_shared
            else:
                want[group] = 1 << own(config).index(unit) & ~full[group]
            assert ctx.get(decoder.ready) == bool(want_shared or any(want))
            await ctx.tick()
            assert ctx.get(decoder.push_shared) == want_shared
            assert [ctx.get(push) for push in decoder.push] == want

    simulate(decoder, bench)


def test_barrier_and_end_wait_for_quiet():
    decoder = Decoder(PRESETS["tiny"])

    async def bench(ctx):
        ctx.set(decoder.valid, 1)
        for name, ends in (("Barrier", False), ("End", True)):
            show(ctx, decoder, int.from_bytes(Instruction(name).encode(), "little"))
            for quiet in (0, 1):
                ctx.set(decoder.quiet, quiet)
                assert ctx.get(decoder.ready) == quiet
                assert ctx.get(decoder.ended) == (ends and quiet)
        show(ctx, decoder, 0x21)      # an End of another version ends the program as well, but with an error
        assert ctx.get(decoder.ended)

    simulate(decoder, bench)

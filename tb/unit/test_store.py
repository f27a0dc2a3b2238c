"""Store: decision, reads, tokens to the cycle, and every word, against an independent model; tiny machines of every kind."""

import dataclasses
import random

import pytest
from amaranth.sim import Simulator

from gen.config import Array, Buffers, Config, Memory, Unit, Vector
from gen.isa import Instruction, Output
from gen.timing import FETCH_LATENCY, SCALE_LATENCY, STORE_LATENCY
from rtl.vector.store import Store
from tb.unit.store_reference import Trace, expect
from tb.unit.test_requantise import wrapped


def machine(side: int, lanes: int, unit: Unit, window: int = 16) -> Config:
    return Config(
        name="test",
        array=Array(side=side, unit=unit),
        buffers=Buffers(moving_words=64, accumulator_words=4, slice_words=256, store_lanes=lanes),
        memory=Memory(bytes_per_cycle=max(4, side)),
        vector=Vector(window=window),
    )


def simulate(config: Config, program: list[Instruction], accumulators: dict, memory: dict,
             ready_from: list[int], arrive: list[int], cycles: int) -> Trace:
    """Run a program; instruction i is at the head from `arrive[i]`, its tokens are positive from `ready_from[i]`."""
    dut, trace, side = Store(config), Trace(), config.array.side

    async def bench(ctx):
        position = 0
        sums: list[tuple | None] = [None] * FETCH_LATENCY     # reads under way
        words: list[tuple | None] = [None] * 3
        residuals: list[tuple | None] = [None] * 3
        for cycle in range(cycles):
            valid = position < len(program) and cycle >= arrive[position]
            ctx.set(dut.instruction.valid, valid)
            ctx.set(dut.tokens.ready, valid and cycle >= ready_from[position])
            if valid:
                ctx.set(dut.instruction.payload.index, 100 + position)
                bits = int.from_bytes(program[position].encode(), "little")
                ctx.set(dut.instruction.payload.bits, bits & ((1 << len(dut.instruction.payload.bits)) - 1))
            read = sums.pop(0)
            for column in range(side):     # nothing read: rubbish
                ctx.set(dut.accumulators.data[column], accumulators[read][column] & 0xFFFF_FFFF if read else 0xDEAD_BEEF)
            read = words.pop(0)
            ctx.set(dut.read.data[0], memory.get(read, (1 << 8 * side) - 1))

            if ctx.get(dut.tokens.take):
                assert ctx.get(dut.instruction.ready) and valid and cycle >= ready_from[position]
                trace.takes.append((cycle, ctx.get(dut.tokens.wait), ctx.get(dut.tokens.group)))
                trace.decisions.append(cycle)
            else:
                assert not ctx.get(dut.instruction.ready)
            if ctx.get(dut.issuing):
                trace.issues.append(cycle)
            key = None
            if ctx.get(dut.accumulators.enable):
                port = dut.accumulators
                key = tuple(ctx.get(value) for value in (port.half, port.pair, port.bank, port.word))
                trace.reads.append((cycle, *key))
            sums.append(key)
            key = None
            if ctx.get(dut.read.enable):
                key = (ctx.get(dut.read.slice), ctx.get(dut.read.addresses[0]))
                trace.word_reads.append((cycle, *key))
            words.append(key)
            if config.vector.window:
                ctx.set(dut.residual.data[0], memory.get(residuals.pop(0), (1 << 8 * side) - 1))
                key = None
                if ctx.get(dut.residual.enable):
                    key = (ctx.get(dut.residual.slice), ctx.get(dut.residual.addresses[0]))
                    trace.residual_reads.append((cycle, *key))
                residuals.append(key)
            enable = ctx.get(dut.write.enable)
            assert ctx.get(dut.words) == enable.bit_count()
            for i in range(4):
                place = (ctx.get(dut.write.address) + i) % 4
                if enable >> place & 1:
                    word = ctx.get(dut.write.data[place]).to_bytes(side, "little")
                    trace.writes.append((cycle, ctx.get(dut.write.slice), ctx.get(dut.write.address) + i & 0xFFFF, word))
            if ctx.get(dut.tokens.signal):
                trace.signals.append((cycle, ctx.get(dut.tokens.signal), ctx.get(dut.tokens.signal_group)))
            if not ctx.get(dut.idle):
                trace.busy.append(cycle)
            if ctx.get(dut.waiting):
                trace.waiting.append((cycle, ctx.get(dut.index)))
            if ctx.get(dut.instruction.ready):
                position += 1
            await ctx.tick()
        assert position == len(program)

    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(bench)
    sim.run()
    return trace


def random_program(rng: random.Random, config: Config, length: int) -> list[Instruction]:
    program = [Instruction("LdScale", slice=1, address=rng.choice([0, 200]), blocks=2, wait=1, signal=rng.choice([0, 6]), group=2)]
    for _ in range(length):
        if rng.random() < 0.15:
            program.append(Instruction(
                "LdScale", slice=rng.choice([1, 2]), address=rng.randrange(220), blocks=rng.choice([1, 2]), signal=rng.getrandbits(16)))
            continue
        if config.vector.window and rng.random() < 0.4:
            program.append(random_add(rng))
            if rng.random() < 0.2:
                continue
        if config.vector.window and rng.random() < 0.4:
            program.append(random_pool(rng))
            continue
        wide = rng.randrange(2)
        rows = rng.randint(1, config.wide_rows if wide or config.column_pairs == 1 else config.narrow_rows)
        program.append(Instruction(
            "StLBUF", half=rng.randrange(2), wide=wide, rows=rows,
            output=rng.randrange(3), parameters=int(rng.random() < 0.7), relu=rng.randrange(2),
            zero_point=rng.choice([0, 0, 5, -128, 128, -256, 255]),
            slice=rng.randrange(16), address=rng.choice([0, 17, 65530]), pitch=rng.choice([0, 64, 101]),
            wait=rng.getrandbits(16), signal=rng.choice([0, rng.getrandbits(16)]), group=rng.randrange(4)))
    return program


def random_add(rng: random.Random) -> Instruction:
    multipliers = [rng.choice([0, 1 << 23, 1 << 24, (1 << 26) - 1, rng.randrange(1 << 22, 1 << 25)]) for _ in range(2)]
    zero_points = {name: rng.choice([0, 0, 7, -128, 128, -256, 255]) for name in ("own_zero_point", "residual_zero_point", "zero_point")}
    return Instruction("SetAdd", slice=2, address=rng.choice([0, 33, 65533]), pitch=rng.choice([0, 64, 101]), multiplier=multipliers[0],
                       residual_multiplier=multipliers[1], signed=rng.randrange(2), relu=rng.randrange(2), wait=rng.getrandbits(16),
                       signal=rng.choice([0, rng.getrandbits(16)]), group=rng.randrange(4), **zero_points)


def random_pool(rng: random.Random) -> Instruction:
    kernel, steps = (rng.randint(1, 3), rng.randint(1, 3)), [rng.choice([1, 2, 5, 65534]) for _ in range(4)]
    return Instruction(
        "Pool", source_slice=rng.choice([1, 2]), source_address=rng.choice([0, 9, 65530]), signed=rng.randrange(2),
        kernel_width=kernel[0], kernel_height=kernel[1], kernel_y_step=steps[0], columns=rng.randint(1, 4), lines=rng.randint(1, 3),
        x_step=steps[1], y_step=steps[2], average=rng.randrange(2), output=rng.randrange(2), relu=rng.randrange(2),
        zero_point=rng.choice([0, 5, -128, 128, -256, 255]), slice=rng.randrange(16), address=rng.choice([0, 65534]), line_step=steps[3],
        wait=rng.getrandbits(16), signal=rng.choice([0, rng.getrandbits(16)]), group=rng.randrange(4))


def random_contents(rng: random.Random, config: Config) -> tuple[dict, dict]:
    """Accumulators by (half, pair, bank, word), and words of two slices that hold sensible parameters read from any address."""
    side = config.array.side
    accumulators = {
        (half, pair, bank, word): [rng.choice([rng.randint(-300, 300), wrapped(rng.getrandbits(32))]) for _ in range(side)]
        for half in range(2) for pair in range(2) for bank in range(2) for word in range(config.buffers.accumulator_words)
    }
    memory = {}
    for where in (1, 2):
        for address in range(256):
            memory[where, address] = int.from_bytes(bytes(rng.choice([0, 1, 0x3E, 0x3F, 0x80, 0x43, 0x37]) for _ in range(side)), "little")
    for column_block in range(2):       # at addresses 0 and 200 of slice 1: records as a compiler would write them
        for start in (0, 200):
            records = []
            for _ in range(side):
                exponent = rng.choice([96, 97, 98, 118, 120, 126, 127])
                bias = wrapped(rng.getrandbits(32)) if rng.random() < 0.3 else rng.randint(-400, 400)
                records.append((bias, exponent << 23 | rng.getrandbits(23)))
            for j in range(8):
                word = bytes((bias & 0xFFFF_FFFF | bits << 32) >> 8 * j & 0xFF for bias, bits in records)
                memory[1, start + 8 * column_block + j] = int.from_bytes(word, "little")
    return accumulators, memory


def legal(memory: dict, program: list[Instruction], side: int) -> None:
    """Make every multiplier that LdScale reads positive, normal and below 2: its highest byte becomes 2 .. 63."""
    clear, fix = (int.from_bytes(bytes([byte] * side), "little") for byte in (0x3F, 0x02))
    for instruction in program:
        if instruction.name == "LdScale":
            for block in range(instruction.blocks):
                key = (instruction.slice, instruction.address + 8 * block + 7)
                memory[key] = memory[key] & clear | fix


def compare(actual: Trace, expected: Trace) -> None:
    for item in dataclasses.fields(Trace):
        assert getattr(actual, item.name) == getattr(expected, item.name), item.name


@pytest.mark.parametrize("window", [0, 16])
@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("side,lanes,unit", [
    (1, 1, Unit.FLEX), (1, 1, Unit.SINGLE), (2, 1, Unit.FLEX), (2, 2, Unit.QUAD),
    (4, 4, Unit.FLEX), (4, 1, Unit.QUAD), (4, 2, Unit.SINGLE), (4, 2, Unit.FLEX),
])
def test_random_programs(side, lanes, unit, seed, window):
    print(f"seed {seed}")
    rng, config = random.Random(f"{seed} {side} {lanes} {unit}"), machine(side, lanes, unit, window)
    program = random_program(rng, config, 9)
    accumulators, memory = random_contents(rng, config)
    legal(memory, program, side)
    ready = [rng.choice([0, rng.randint(0, 500)]) for _ in program]
    arrive = [rng.choice([0, rng.randint(0, 500)]) for _ in program]
    expected = expect(config, program, accumulators, memory, ready, arrive)
    cycles = expected.busy[-1] + 6
    actual = simulate(config, program, accumulators, memory, ready, arrive, cycles)
    compare(actual, expected)
    assert len(expected.writes) > 20


@pytest.mark.parametrize("unit", list(Unit))
@pytest.mark.parametrize("output", list(Output))
def test_every_output_back_to_back(unit, output):
    """Full tiles of both kinds, twice in a row, with and without parameters and relu; period n + STORE_LATENCY + 1."""
    rng, config = random.Random(f"{unit} {output}"), machine(2, 2, unit)
    rows = {1: config.wide_rows, 0: config.wide_rows if unit is Unit.SINGLE else config.narrow_rows}
    stores = [
        Instruction("StLBUF", half=wide ^ relu, wide=wide, rows=rows[wide], output=output, parameters=parameters, relu=relu,
                    zero_point=3, slice=5, address=8, pitch=66, signal=1)
        for wide in (1, 0) for parameters, relu in ((0, 1), (1, 0))
    ]
    program = [Instruction("LdScale", slice=1, address=0, blocks=2), *stores]
    accumulators, memory = random_contents(rng, config)
    legal(memory, program, 2)
    none = [0] * len(program)
    expected = expect(config, program, accumulators, memory, none, none)
    actual = simulate(config, program, accumulators, memory, none, none, expected.busy[-1] + 4)
    compare(actual, expected)
    blocks = 2 if unit is not Unit.SINGLE else 1
    assert actual.decisions[:3] == [0, 16 + SCALE_LATENCY + 1, 16 + SCALE_LATENCY + 1 + 8 * blocks + STORE_LATENCY + 1]


def test_block_parameters_survive():
    """LdScale of one block leaves the second as it is."""
    rng, config = random.Random(3), machine(2, 1, Unit.FLEX)
    program = [Instruction("LdScale", slice=1, address=0, blocks=2), Instruction("LdScale", slice=1, address=200, blocks=1),
               Instruction("StLBUF", wide=1, rows=3, output=Output.INT32, parameters=1, address=4, pitch=32)]
    accumulators, memory = random_contents(rng, config)
    none = [0] * len(program)
    expected = expect(config, program, accumulators, memory, none, none)
    compare(simulate(config, program, accumulators, memory, none, none, expected.busy[-1] + 4), expected)

"""Store: decision, reads, tokens to the cycle, and every word, against an independent model; tiny machines of every kind."""

import dataclasses
import random
from fractions import Fraction

import pytest
from amaranth.sim import Simulator

from gen.config import Array, Buffers, Config, Memory, Unit, Vector
from gen.isa import Instruction, Output
from gen.timing import ADD_LATENCY, FETCH_LATENCY, POOL_LATENCY, SCALE_LATENCY, SET_ADD_LATENCY, STORE_LATENCY
from rtl.vector.store import Store
from tb.unit.test_requantise import reference, wrapped

ONE = 0x3F80_0000


def machine(side: int, lanes: int, unit: Unit, window: int = 16) -> Config:
    return Config(
        name="test",
        array=Array(side=side, unit=unit),
        buffers=Buffers(moving_words=64, accumulator_words=4, slice_words=256, store_lanes=lanes),
        memory=Memory(bytes_per_cycle=max(4, side)),
        vector=Vector(window=window),
    )


@dataclasses.dataclass
class Trace:
    """What the unit did, by cycle."""

    decisions: list[int] = dataclasses.field(default_factory=list)
    issues: list[int] = dataclasses.field(default_factory=list)
    reads: list[tuple] = dataclasses.field(default_factory=list)         # cycle, half, pair, bank, word
    word_reads: list[tuple] = dataclasses.field(default_factory=list)    # cycle, slice, address: parameters, pixels
    residual_reads: list[tuple] = dataclasses.field(default_factory=list)   # cycle, slice, address
    writes: list[tuple] = dataclasses.field(default_factory=list)        # cycle, slice, address, bytes
    signals: list[tuple] = dataclasses.field(default_factory=list)       # cycle, mask, group
    takes: list[tuple] = dataclasses.field(default_factory=list)         # cycle, mask, group
    busy: list[int] = dataclasses.field(default_factory=list)
    waiting: list[tuple] = dataclasses.field(default_factory=list)       # cycle, index


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


def place(config: Config, wide: int, row: int, block: int) -> tuple[int, int, int]:
    """Pair, bank and word that hold a row (rtl/README.md, Modes and rows)."""
    if config.column_pairs == 1:
        pair, s = 0, row
    elif wide:
        pair, s = block, row
    else:
        pair, s = row & 1, row >> 1
    return pair, s & 1, s >> 1


def eight_bits(value: int, signed: bool) -> int:
    """Saturated, as a byte."""
    low, high = (-128, 127) if signed else (0, 255)
    return min(max(value, low), high) & 0xFF


def number(byte: int, signed: bool) -> int:
    """A byte as a number."""
    return byte - 256 if signed and byte > 127 else byte


class Book:
    """The same run by the book: what each instruction does, and when."""

    def __init__(self, config: Config, accumulators: dict, memory: dict):
        self.config, self.accumulators, self.memory, self.trace = config, accumulators, memory, Trace()
        self.side, self.groups = config.array.side, config.array.side // config.buffers.store_lanes
        self.parameters: dict[tuple, tuple] = {}
        self.residual: Instruction | None = None

    def run(self, program: list[Instruction], ready_from: list[int], arrive: list[int]) -> Trace:
        trace, free = self.trace, 0
        steps = {"LdScale": self.scale, "StLBUF": self.store, "SetAdd": self.set_add, "Pool": self.pool}
        for position, (instruction, ready, here) in enumerate(zip(program, ready_from, arrive, strict=True)):
            visible = max(here, trace.decisions[-1] + 1 if trace.decisions else 0)
            start = max(free, ready, visible)
            trace.waiting += [(cycle, 100 + position) for cycle in range(max(visible, free), start + 1)]
            trace.decisions.append(start)
            trace.takes.append((start, instruction.wait, instruction.group))
            done = steps[instruction.name](instruction, start + 1)
            if instruction.signal:
                trace.signals.append((done, instruction.signal, instruction.group))
            trace.busy += range(start + 1, done + 1)
            free = done + 1
        trace.issues.sort()
        return trace

    def scale(self, instruction: Instruction, cycle: int) -> int:
        count, base = 8 * instruction.blocks * self.groups, instruction.address
        self.trace.issues += range(cycle, cycle + count)
        self.trace.word_reads += [(cycle + i, instruction.slice, (base + i // self.groups) & 0xFFFF) for i in range(count)]
        for block in range(instruction.blocks):
            words = [self.word(instruction.slice, base + 8 * block + j) for j in range(8)]
            for column in range(self.side):
                record = bytes(word[column] for word in words)
                self.parameters[block, column] = int.from_bytes(record[:4], "little", signed=True), int.from_bytes(record[4:], "little")
        return cycle + count - 1 + SCALE_LATENCY

    def set_add(self, instruction: Instruction, cycle: int) -> int:
        self.trace.issues += range(cycle, cycle + self.groups)
        self.residual, self.residual_words = instruction, [0, 0]
        return cycle + self.groups - 1 + SET_ADD_LATENCY

    def store(self, instruction: Instruction, cycle: int) -> int:
        config, trace = self.config, self.trace
        blocks = 2 if instruction.wide and config.column_pairs == 2 else 1
        for row in range(instruction.rows):
            for block in range(blocks):
                key = (instruction.half, *place(config, instruction.wide, row, block))
                trace.issues += range(cycle, cycle + self.groups)
                trace.reads += [(cycle + i, *key) for i in range(self.groups)]
                records = [self.parameters[block, column] if instruction.parameters else (0, ONE) for column in range(self.side)]
                totals = [wrapped(total + bias) for total, (bias, _) in zip(self.accumulators[key], records)]
                base = instruction.address + block * instruction.pitch
                if instruction.output == Output.INT32:
                    if self.residual:
                        self.residual_read(cycle, block)    # and nothing is done with it
                    totals = [(max(total, 0) if instruction.relu else total) & 0xFFFF_FFFF for total in totals]
                    for j in range(4):
                        word = bytes(value >> 8 * j & 0xFF for value in totals)
                        trace.writes.append((cycle + self.groups - 1 + 8, instruction.slice, (base + 4 * row + j) & 0xFFFF, word))
                else:
                    signed = instruction.output == Output.INT8
                    word = [reference(total, bits, instruction.zero_point, signed, bool(instruction.relu)) & 0xFF
                            for total, (_, bits) in zip(totals, records)]
                    self.write(cycle, instruction.slice, base + row, word, signed, block)
                cycle += self.groups
        return self.done(cycle - 1)

    def pool(self, instruction: Instruction, cycle: int) -> int:
        address, target = instruction.source_address, instruction.address
        size = instruction.kernel_width * instruction.kernel_height
        period = max(size, self.groups)
        bias_and_bits = [self.parameters[0, column] if instruction.average else (0, ONE) for column in range(self.side)]
        for _ in range(instruction.lines):
            for column in range(instruction.columns):
                self.trace.issues += range(cycle, cycle + period)
                pixels = []
                for pixel in range(size):
                    pixels.append([number(byte, bool(instruction.signed)) for byte in self.word(instruction.source_slice, address)])
                    self.trace.word_reads.append((cycle + period - size + pixel, instruction.source_slice, address & 0xFFFF))
                    last_column = pixel % instruction.kernel_width == instruction.kernel_width - 1
                    address += instruction.kernel_y_step if last_column and pixel < size - 1 else 1 if pixel < size - 1 else 0
                address += instruction.y_step if column == instruction.columns - 1 else instruction.x_step
                cycle += period
                values = [sum(lane) if instruction.average else max(lane) for lane in zip(*pixels)]
                signed, relu = bool(instruction.output), bool(instruction.relu)
                word = [reference(wrapped(value + bias), bits, instruction.zero_point, signed, relu) & 0xFF
                        for value, (bias, bits) in zip(values, bias_and_bits)]
                self.write(cycle - 1 + POOL_LATENCY, instruction.slice, target, word, bool(instruction.output), 0)
                target += instruction.line_step if column == instruction.columns - 1 else 1
        return self.done(cycle - 1 + POOL_LATENCY + self.groups - 1)

    def word(self, index: int, address: int) -> bytes:
        return self.memory.get((index, address & 0xFFFF), (1 << 8 * self.side) - 1).to_bytes(self.side, "little")

    def residual_read(self, cycle: int, block: int) -> bytes:
        """The word to add to the results whose first lane group is read in this cycle."""
        add = self.residual
        assert add
        address = add.address + block * add.pitch + self.residual_words[block]
        self.residual_words[block] += 1
        self.trace.residual_reads.append((cycle + 11, add.slice, address & 0xFFFF))
        return self.word(add.slice, address)

    def write(self, cycle: int, index: int, address: int, word: list[int], signed: bool, block: int):
        """An 8-bit word, of which the first lane group is read in this cycle."""
        if self.residual:
            add = self.residual
            exact = [Fraction((number(own, signed) - add.own_zero_point) * add.multiplier
                              + (number(other, bool(add.signed)) - add.residual_zero_point) * add.residual_multiplier, 1 << 24)
                     for own, other in zip(word, self.residual_read(cycle, block))]
            word = [eight_bits((max(round(sum), 0) if add.relu else round(sum)) + add.zero_point, signed) for sum in exact]
            cycle += ADD_LATENCY
        self.trace.writes.append((cycle + self.groups - 1 + 16, index, address & 0xFFFF, bytes(word)))

    def done(self, last_read: int) -> int:
        """The cycle of the tokens of a StLBUF or Pool."""
        done, self.residual = last_read + STORE_LATENCY + (ADD_LATENCY if self.residual else 0), None
        assert all(write[0] <= done - 2 for write in self.trace.writes)
        return done


def expect(config: Config, program: list[Instruction], accumulators: dict, memory: dict, ready_from: list[int], arrive: list[int]) -> Trace:
    """What a program must do."""
    return Book(config, accumulators, memory).run(program, ready_from, arrive)


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

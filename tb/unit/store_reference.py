"""STORE by the book: what each instruction reads and writes, and in which cycle."""

import dataclasses

from gen.config import Config
from gen.isa import Instruction, Output
from gen.timing import ADD_LATENCY, POOL_LATENCY, SCALE_LATENCY, SET_ADD_LATENCY, STORE_LATENCY
from tb.unit.test_requantise import reference, wrapped
from tb.unit.test_residual import reference as residual_sum

ONE = 0x3F80_0000
ADDITION = ("multiplier", "residual_multiplier", "own_zero_point", "residual_zero_point", "zero_point", "relu")


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


def place(config: Config, wide: int, row: int, block: int) -> tuple[int, int, int]:
    """Pair, bank and word that hold a row (rtl/README.md, Modes and rows)."""
    if config.column_pairs == 1:
        pair, s = 0, row
    elif wide:
        pair, s = block, row
    else:
        pair, s = row & 1, row >> 1
    return pair, s & 1, s >> 1


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
            add = {name: value for name, value in self.residual.values.items() if name in ADDITION}
            word = [residual_sum(own, other, residual_signed=self.residual.signed, is_signed=signed, **add)
                    for own, other in zip(word, self.residual_read(cycle, block))]
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

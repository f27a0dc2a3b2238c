"""The near-data unit's sequencer: which command it proposes, and what follows a committed one."""

from dataclasses import dataclass

from amaranth.hdl import C, Cat, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from gen.dram import DramConfig
from gen.nda import (
    CHUNK_BLOCKS,
    INDEXED,
    LFSR_BITS,
    PARAMETERS,
    STEPS,
    SUMS,
    Addend,
    Factor,
    Operand,
    Operation,
    Policy,
    Step,
    Target,
    lfsr_step,
    settle,
)
from rtl.memory.interfaces import Command, command_layout
from rtl.memory.launch import check_near_data, descriptor_layout, frame_bits

BLOCK_BITS = (CHUNK_BLOCKS - 1).bit_length()
STREAM_BITS = (PARAMETERS - 1).bit_length()
FACTORS = {Factor.A: "a", Factor.B: "b", Factor.C: "c"}


# What a near-data column command is part of, for the lanes. At most one of `read` and `write` is set, in the command's cycle.
WORK = data.StructLayout({
    "read": 1,
    "write": 1,
    "block": BLOCK_BITS,      # of the operand and write buffer
    "factor": Factor,
    "addend": Addend,
    "target": Target,
    "integer": 1,
    "scalar": 32,             # the factor, if it is A, B, C or STREAM
    "fresh": 1,               # the lanes' sums are +0 before this block
    "sums": 1,                # a write of the lanes' sums
})


@dataclass(frozen=True)
class Place:
    """A step of an operation and what follows it."""

    step: Step
    last: bool               # the next one is the next chunk's first
    back: int | None         # where another repetition starts, after the last repeated step


def places(operation: Operation) -> list[Place]:
    """The steps of an operation in their order."""
    steps = STEPS[operation]
    repeated = [i for i, step in enumerate(steps) if step.repeated]
    return [Place(step, i == len(steps) - 1, repeated[0] if repeated and i == repeated[-1] else None) for i, step in enumerate(steps)]


STEP_BITS = (max(map(len, STEPS.values())) - 1).bit_length()


def lfsr_next(state: Value) -> Value:
    """`gen.nda.lfsr_step` as gates: it is linear, so each bit is the parity of those that reach it."""
    return Cat((state & sum(1 << i for i in range(LFSR_BITS) if lfsr_step(1 << i) >> bit & 1)).xor() for bit in range(LFSR_BITS))


class Sequencer(wiring.Component):
    """One launch at a time, from `start` (with `descriptor`) to `finished`.

    Of the `reserved` banks, lowest bank id first: `open`, their `rows` (flattened), `act_ok`, `pre_ok`, `read_ok`, `write_ok` as in
    `RankControl`. `proposal` in t is D(t) of rtl/memory/README.md, NONE when idle or `frozen`; a function of registers and these inputs.
    `committed` in t: the proposal goes to the rank in t+1. `work` belongs to a proposed column command. `finished`: the last column command
    is committed in this cycle; `busy` falls in the next. `stream` selects the `parameter` word (combinational). No descriptor is
    refused: 0 streams count as 128, and so do 0 blocks. `state`: all registers.
    """

    def __init__(self, config: DramConfig):
        check_near_data(config)
        self.config = config
        reserved = config.reserved
        super().__init__({
            "start": In(1),
            "descriptor": In(descriptor_layout(config)),
            "parameter": In(32),
            "stream": Out(STREAM_BITS),
            "open": In(reserved),
            "rows": In(reserved * config.field_bits["row"]),
            "act_ok": In(reserved),
            "pre_ok": In(reserved),
            "read_ok": In(reserved),
            "write_ok": In(reserved),
            "frozen": In(1),
            "proposal": Out(command_layout(config)),
            "committed": In(1),
            "work": Out(WORK),
            "busy": Out(1),
            "policy": Out(Policy),
            "finished": Out(1),
            "state": Out(self.state_bits(config)),
        })

    @staticmethod
    def _position_bits(config: DramConfig) -> int:
        """Bits of a local position that matter: bank, column and frame."""
        return config.bank_bits + config.field_bits["column"] + frame_bits(config)

    @classmethod
    def state_bits(cls, config: DramConfig) -> int:
        """Bits of `state`."""
        return (descriptor_layout(config).size + 32 + cls._position_bits(config) + frame_bits(config) + STEP_BITS + STREAM_BITS + BLOCK_BITS
                + 3 + (settle(config.timing) - 1).bit_length() + LFSR_BITS)

    def elaborate(self, platform):
        m = Module()
        descriptor = Signal(descriptor_layout(self.config))
        remaining = Signal(32)                                      # blocks of this chunk and those behind it
        base = Signal(self._position_bits(self.config))             # local position of the chunk
        offset = Signal(frame_bits(self.config))                    # stream * step
        step, block = Signal(STEP_BITS), Signal(BLOCK_BITS)
        started, sums = Signal(), Signal()                          # a chunk is complete; writing the lanes' sums
        settling = Signal(range(settle(self.config.timing)))
        lfsr = Signal(LFSR_BITS)
        m.d.comb += self.state.eq(Cat(
            descriptor, remaining, base, offset, step, self.stream, block, started, sums, self.busy, settling, lfsr))

        place = self._place(m, descriptor, step, sums)
        address = self._address(m, descriptor, place, base, offset, block)
        last_block = Signal()
        short = (remaining[:BLOCK_BITS] - 1)[:BLOCK_BITS]
        m.d.comb += last_block.eq(sums | (block == Mux(remaining >= CHUNK_BLOCKS, CHUNK_BLOCKS - 1, short)))
        due, column = self._propose(m, place, address, last_block, settling, descriptor, lfsr)

        m.d.comb += [
            self.work.read.eq(column & ~place.write), self.work.write.eq(column & place.write), self.work.block.eq(block),
            self.work.factor.eq(place.factor), self.work.addend.eq(place.addend), self.work.target.eq(place.target),
            self.work.integer.eq(descriptor.integer), self.work.fresh.eq(~started & (block == 0)), self.work.sums.eq(sums),
            self.policy.eq(Mux(self.busy, descriptor.policy, Policy.NONE)),
        ]
        with m.Switch(place.factor):
            for factor, name in FACTORS.items():
                with m.Case(factor):
                    m.d.comb += self.work.scalar.eq(descriptor[name])
            with m.Case(Factor.STREAM):
                m.d.comb += self.work.scalar.eq(self.parameter)

        with m.If(due & place.write & ((descriptor.policy == Policy.STOCHASTIC_4) | (descriptor.policy == Policy.STOCHASTIC_16))):
            m.d.sync += lfsr.eq(lfsr_next(lfsr))
        with m.If(settling != 0):
            m.d.sync += settling.eq(settling - 1)

        step_done, chunk_done = Signal(), Signal()
        m.d.comb += step_done.eq(self.committed & column & last_block)
        with m.If(self.committed & column):
            m.d.sync += block.eq(Mux(last_block, 0, block + 1))
        with m.If(step_done):
            # A long step needs no pause: a block comes again only after all others, `settle` cycles later or more.
            pause = settle(self.config.timing)
            with m.If(block < (pause - 1) // self.config.part.burst_cycles):
                m.d.sync += settling.eq(pause - 1)
            with m.If(place.repeats):
                m.d.sync += [step.eq(place.back), self.stream.eq(self.stream + 1), offset.eq(offset + descriptor.step)]
            with m.Elif(~place.last):
                m.d.sync += step.eq(step + 1)
            with m.Else():
                m.d.comb += chunk_done.eq(1)
        with m.If(chunk_done):
            m.d.sync += [step.eq(0), self.stream.eq(0), offset.eq(0), started.eq(1), sums.eq(0)]
            with m.If(~sums & (remaining > CHUNK_BLOCKS)):
                m.d.sync += [remaining.eq(remaining - CHUNK_BLOCKS), base.eq(base + CHUNK_BLOCKS)]
            with m.Elif(~sums & place.ends_with_sums):
                m.d.sync += [sums.eq(1), base.eq(descriptor.start), settling.eq(pause - 1)]
            with m.Else():
                m.d.comb += self.finished.eq(1)
                m.d.sync += self.busy.eq(0)

        with m.If(self.start):
            launched = self.descriptor
            m.d.sync += [
                descriptor.eq(launched), remaining.eq(launched.blocks), base.eq(launched.start), offset.eq(0), step.eq(0),
                self.stream.eq(0), block.eq(0), started.eq(0), sums.eq(0), settling.eq(0), self.busy.eq(1),
                lfsr.eq(Mux(launched.seed == 0, 1, launched.seed).replicate(2)),       # gen.nda.lfsr_seed
            ]
        return m

    def _place(self, m: Module, descriptor, step: Signal, sums: Signal):
        """The present step, decoded."""
        layout = data.StructLayout({"operand": Operand, "write": 1, "factor": Factor, "addend": Addend, "target": Target, "last": 1,
                                    "back": STEP_BITS, "repeats": 1, "indexed": 1, "moves": 1, "ends_with_sums": 1})
        place = Signal(layout)
        last_stream = Signal()
        m.d.comb += last_stream.eq(self.stream == (descriptor.streams - 1)[:STREAM_BITS])
        with m.If(sums):
            m.d.comb += [place.operand.eq(Operand.W), place.write.eq(1), place.last.eq(1)]
        with m.Else(), m.Switch(Cat(step, descriptor.operation)):
            for operation in Operation:
                for number, now in enumerate(places(operation)):
                    with m.Case(number | operation << STEP_BITS):
                        becomes_write = now.step.repeated and not now.step.write and now.step.target == Target.OPERAND
                        starts_sum = operation == Operation.GATHER and now.step.addend == Addend.STORED
                        m.d.comb += [
                            place.operand.eq(now.step.operand), place.write.eq(now.step.write), place.factor.eq(now.step.factor),
                            place.addend.eq(Mux(self.stream == 0, Addend.NONE, now.step.addend) if starts_sum else now.step.addend),
                            place.target.eq(Mux(last_stream, Target.WRITE, now.step.target) if becomes_write else now.step.target),
                            place.last.eq(now.last), place.back.eq(now.back or 0), place.repeats.eq(now.back is not None and ~last_stream),
                            place.indexed.eq(operation in INDEXED and now.step.operand == Operand.X),
                            place.moves.eq(operation == Operation.GEMV and now.step.operand == Operand.X),
                            place.ends_with_sums.eq(operation in SUMS),
                        ]
            with m.Default():       # no operation: reads X to its end, to no use
                m.d.comb += place.last.eq(1)
        return place

    def _address(self, m: Module, descriptor, place, base: Signal, offset: Signal, block: Signal):
        """Where the present block lies: `low` bank bits (the high ones are ones), row, column."""
        config = self.config
        low_bits, column_bits, high_bits = config.reserved_bits, config.field_bits["column"], config.swapped_bits
        address = Signal(data.StructLayout({"low": low_bits, "row": config.field_bits["row"], "column": column_bits}))
        position, frame, first = Signal.like(base), Signal.like(offset), Signal.like(offset)
        with m.Switch(place.operand):
            for operand, name in zip(Operand, "xyzw"):
                with m.Case(operand):
                    m.d.comb += first.eq(descriptor[name])
        low, column, high, frames = _cut(position, low_bits, column_bits, high_bits, len(frame))
        flip = Signal(config.bank_bits)
        m.d.comb += [
            flip.eq(descriptor.flip),
            position.eq(Mux(place.indexed, self.parameter, base) + block),
            frame.eq(first + Mux(place.moves, offset, 0) + frames * config.colours),
            address.low.eq(low ^ flip[:low_bits]), address.column.eq(column), address.row.eq(Cat(frame, high ^ flip[low_bits:])),
        ]
        return address

    def _propose(self, m: Module, place, address, last_block: Signal, settling: Signal, descriptor, lfsr: Signal) -> tuple[Signal, Signal]:
        """Wire `proposal`. Returns whether a column command is due and whether one is proposed."""
        config = self.config
        row_bits, low_bits, count = config.field_bits["row"], config.reserved_bits, config.reserved
        active = self.busy & ~self.frozen
        same = Signal(count)
        m.d.comb += same.eq(Cat(self.rows.word_select(bank, row_bits) == address.row for bank in range(count)))

        due, held, column = Signal(), Signal(), Signal()
        allowed = self.open & same & Mux(place.write, self.write_ok, self.read_ok)
        throttled = Mux(descriptor.policy == Policy.STOCHASTIC_4, lfsr[:2].any(),
                        (descriptor.policy == Policy.STOCHASTIC_16) & lfsr[:4].any())
        m.d.comb += [
            due.eq(active & _bit(allowed, address.low, low_bits) & (settling == 0)),
            held.eq(place.write & throttled), column.eq(due & ~held),
        ]

        # Nothing else is decided while a column command is due, even if it is held back. Later assignments win: PRE, then ACT over it,
        # each from the last bank looked at to the first.
        closed, other = Signal(count), Signal(count)
        m.d.comb += [closed.eq(~self.open & self.act_ok), other.eq(self.open & ~same & self.pre_ok)]
        kind, low = Signal(Command), Signal(low_bits)
        for command, ready in ((Command.PRE, other), (Command.ACT, closed)):
            for distance in reversed(range(count)):
                with m.If(_bit(ready, address.low ^ distance, low_bits) & (~last_block if distance else C(1))):
                    m.d.comb += [kind.eq(command), low.eq(address.low ^ distance)]
        with m.If(due):
            m.d.comb += [kind.eq(Mux(held, Command.NONE, Mux(place.write, Command.WR, Command.RD))), low.eq(address.low)]
        ones = (1 << config.swapped_bits) - 1
        with m.If(active & (kind != Command.NONE)):
            m.d.comb += [
                self.proposal.kind.eq(kind), self.proposal.bank.eq(Cat(low, C(ones, config.swapped_bits))),
                self.proposal.row.eq(address.row), self.proposal.column.eq(address.column),
            ]
        return due, column


def _bit(bits: Value, index: Value, index_bits: int) -> Value:
    """`bits[index]`, also for one bit and an index of none."""
    return bits.bit_select(index[:index_bits], 1) if index_bits else bits[0]


def _cut(value: Value, *widths: int) -> list[Value]:
    """Consecutive parts of a value, lowest first."""
    parts, low = [], 0
    for width in widths:
        parts.append(value[low:low + width])
        low += width
    return parts

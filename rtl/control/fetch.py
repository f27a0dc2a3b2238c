"""Instruction fetch: bursts of instructions from memory into a buffer, and the next one to dispatch."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from gen.config import Config
from gen.isa import INSTRUCTION_BITS, INSTRUCTION_BYTES, OPCODES, Unit
from rtl.interfaces import Tag, request_layout, response_layout

KINDS = len(Unit) + 1     # what an instruction needs to be dispatched: room in a unit's queue, or (the last bit) quiet


def kind_of(bits) -> Value:
    """One bit for the unit that executes an instruction, or for Barrier and End; none for an unknown opcode."""
    return Cat(*(Cat(bits[:4] == op.code for op in OPCODES.values() if op.unit is unit).any() for unit in (*Unit, None)))


class Fetch(wiring.Component):
    """Reads a program of `count` instructions from `program` on, from the cycle after reset; both must be there in the cycle before.

    A burst of `config.fetch_instructions` is asked for in the cycle after there is room for it. An instruction whose last byte arrives in
    cycle t is on `instruction` in t+1, one a cycle. `index` is its place in the program, `exhausted` that all `count` have left;
    instructions beyond are never shown. `kind` is its `kind_of`. `busy`: beats are being asked for or on their way.
    """

    def __init__(self, config: Config):
        self.config = config
        super().__init__({
            "program": In(32),
            "count": In(32),
            "request": Out(stream.Signature(request_layout(config))),
            "response": In(stream.Signature(response_layout(config), always_ready=True)),
            "instruction": Out(stream.Signature(INSTRUCTION_BITS)),
            "kind": Out(KINDS),
            "index": Out(32),
            "exhausted": Out(1),
            "busy": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        config = self.config
        burst, depth, beat = config.fetch_instructions, config.control.fetch_depth, config.memory.bytes_per_cycle
        popped = Signal()
        m.d.comb += popped.eq(self.instruction.valid & self.instruction.ready)

        # Requests
        allocated, space = Signal(32), Signal(range(depth + 1), init=depth)
        address, left, decide = Signal(32), Signal(range(config.fetch_beats + 1)), Signal()
        m.d.comb += [
            decide.eq((left == 0) & (allocated < self.count) & (space >= burst)),
            self.request.valid.eq(left != 0),
            self.request.p.tag.eq(Tag.FETCH),
            self.request.p.address.eq(address),
            self.request.p.beats.eq(left),
            self.request.p.last.eq(left == 1),
        ]
        m.d.sync += space.eq(space - Mux(decide, burst, 0) + popped)
        with m.If(decide):
            m.d.sync += [left.eq(config.fetch_beats), allocated.eq(allocated + burst)]
            with m.If(allocated == 0):
                m.d.sync += address.eq(self.program)
        with m.If(self.request.valid & self.request.ready):
            m.d.sync += [left.eq(left - 1), address.eq(address + beat)]
        awaited = Signal(range((depth // burst + 1) * config.fetch_beats + 1))
        arrived = Signal()
        m.d.comb += [
            arrived.eq(self.response.valid & (self.response.p.tag == Tag.FETCH)),
            self.busy.eq(awaited != 0),
        ]
        m.d.sync += awaited.eq(awaited + Mux(decide, config.fetch_beats, 0) - arrived)

        # Rows: one instruction of several beats, or the several instructions of one beat
        beats, wide = max(1, INSTRUCTION_BYTES // beat), max(1, beat // INSTRUCTION_BYTES)
        complete, row = Signal(), Signal(wide * INSTRUCTION_BITS)
        if beats == 1:
            m.d.comb += [complete.eq(arrived), row.eq(self.response.p.data)]
        else:
            number, earlier = Signal(range(beats)), Signal((beats - 1) * 8 * beat)
            m.d.comb += [complete.eq(arrived & (number == beats - 1)), row.eq(Cat(earlier, self.response.p.data))]
            with m.If(arrived):
                m.d.sync += [number.eq(number + 1), earlier.eq(row >> 8 * beat)]    # beats is a power of two: the number wraps

        # The present row, and a memory for those behind it. Its read port shows the next row a cycle after it is written or asked for.
        rows = max(2, depth // wide)
        m.submodules.memory = memory = Memory(shape=wide * INSTRUCTION_BITS, depth=rows, init=[])
        write = memory.write_port()
        read = memory.read_port(transparent_for=(write,))
        head, full, stored = Signal(wide * INSTRUCTION_BITS), Signal(), Signal(range(rows + 1))
        kinds = Signal(wide * KINDS)                                        # known with the row, as every dispatch begins with them
        first, second = Signal(range(rows)), Signal(range(rows), init=1)    # of the rows in memory
        place = Signal(range(max(2, wide)))
        free, unload, keep = Signal(), Signal(), Signal()
        m.d.comb += [
            free.eq(~full | (popped & (place == wide - 1))),
            unload.eq(free & (stored != 0)),
            keep.eq(complete & ~(free & (stored == 0))),
            write.en.eq(complete),      # also when it is not kept: the place is free
            write.data.eq(row),
            read.addr.eq(Mux(unload, second, first)),
        ]
        with m.If(unload):
            m.d.sync += [first.eq(second), second.eq(second + 1)]
        m.d.sync += [write.addr.eq(write.addr + keep), stored.eq(stored + keep - unload)]
        with m.If(free):
            m.d.sync += [full.eq(unload | complete), head.eq(Mux(stored != 0, read.data, row))]
            m.d.sync += kinds.eq(Mux(stored != 0, *(
                Cat(kind_of(bits.word_select(i, INSTRUCTION_BITS)) for i in range(wide)) for bits in (read.data, row))))

        # A register, as every dispatch waits for it; not reset, so that it knows an empty program in the first cycle after reset.
        over = Signal(reset_less=True)
        m.d.sync += over.eq(Mux(popped, self.index + 1 == self.count, self.index == self.count))
        m.d.comb += [
            self.exhausted.eq(over),
            self.instruction.valid.eq(full & ~self.exhausted),
            self.instruction.payload.eq(head.word_select(place, INSTRUCTION_BITS)),
            self.kind.eq(kinds.word_select(place, KINDS)),
        ]
        with m.If(popped):
            m.d.sync += self.index.eq(self.index + 1)
            if wide > 1:
                m.d.sync += place.eq(place + 1)
        return m

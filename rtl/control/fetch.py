"""Instruction fetch: bursts of instructions from memory into a buffer, and the next one to dispatch."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from gen.config import Config
from gen.isa import INSTRUCTION_BITS, INSTRUCTION_BYTES, OPCODES, opcodes, units
from rtl.control.queue import Queue
from rtl.instruction import instruction_layout, shown, shown_bits
from rtl.interfaces import Tag, request_layout, response_layout

GROUP_BITS = 2


def kinds(config: Config) -> int:
    """Of what an instruction needs to be dispatched: room in one of the units' queues, or (the last one) quiet."""
    return len(units(config)) + 1


def route_layout(config: Config) -> data.StructLayout:
    """What `route_of` tells of an instruction."""
    return data.StructLayout({"kind": kinds(config), "group": GROUP_BITS, "ends": 1})


def route_of(config: Config, bits) -> Value:
    """One bit for the unit that executes an instruction, or for Barrier and End; none for an unknown opcode. The group, modulo four. And
    whether it is End."""
    group = instruction_layout("End")(bits[:instruction_layout("End").size]).group
    needs = (Cat(bits[:4] == op.code for op in opcodes(config) if op.unit is unit).any() for unit in (*units(config), None))
    return Cat(*needs, group[:GROUP_BITS], bits[:4] == OPCODES["End"].code)


class Fetch(wiring.Component):
    """Reads a program of `count` instructions from `program` on, from the cycle after reset; both must be there in the cycle before.

    A burst of `config.fetch_instructions` is asked for in the cycle after there is room for it. An instruction whose last byte arrives in
    cycle t is on `instruction` in t+1, as `shown` cuts it. Dispatch is decided late in a cycle: what is taken in d leaves in d+1, till then
    its payload stays; the next one is shown in d+2. `kind`, `group` and `ends` are its `route_of`, there at the start of a cycle. `index`
    is its place in the program, `exhausted` that all `count` have left; instructions beyond are never shown. `busy`: beats are being asked
    for or on their way.
    """

    def __init__(self, config: Config):
        self.config = config
        super().__init__({
            "program": In(32),
            "count": In(32),
            "request": Out(stream.Signature(request_layout(config))),
            "response": In(stream.Signature(response_layout(config), always_ready=True)),
            "instruction": Out(stream.Signature(shown_bits(config))),
            "kind": Out(kinds(config)),
            "group": Out(GROUP_BITS),
            "ends": Out(1),
            "index": Out(32),
            "exhausted": Out(1),
            "busy": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        config = self.config
        burst, depth, beat = config.fetch_instructions, config.control.fetch_depth, config.memory.bytes_per_cycle
        shows, popped = Signal(), Signal()
        m.d.comb += self.instruction.valid.eq(shows & ~popped)
        m.d.sync += popped.eq(self.instruction.valid & self.instruction.ready)

        # Requests
        bursts, space = Signal(32 - exact_log2(burst)), Signal(range(depth + 1), init=depth)
        address, left, decide = Signal(32 - exact_log2(beat)), Signal(range(config.fetch_beats + 1)), Signal()
        last = Signal()
        more = Signal(reset_less=True)      # known in the first cycle after reset
        m.d.sync += more.eq(bursts << exact_log2(burst) < self.count)
        m.d.comb += [
            decide.eq(~self.request.valid & more & (space >= burst)),
            self.request.p.tag.eq(Tag.FETCH),
            self.request.p.address.eq(address << exact_log2(beat)),
            self.request.p.beats.eq(left),
            self.request.p.last.eq(last),
        ]
        # The next decision is two cycles away at least, so that the room may be taken a cycle late.
        decided = Signal()
        m.d.sync += [decided.eq(decide), space.eq(space + popped - Mux(decided, burst, 0))]
        with m.If(decide):
            m.d.sync += [self.request.valid.eq(1), left.eq(config.fetch_beats), last.eq(config.fetch_beats == 1), bursts.eq(bursts + 1)]
            with m.If(bursts == 0):
                m.d.sync += address.eq(self.program >> exact_log2(beat))
        with m.If(self.request.valid & self.request.ready):
            m.d.sync += [self.request.valid.eq(~last), left.eq(left - 1), last.eq(left == 2), address.eq(address + 1)]
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

        # What every dispatch begins with is in registers. There is always room.
        instructions, route = [row.word_select(i, INSTRUCTION_BITS) for i in range(wide)], route_layout(config)
        m.submodules.rows = rows = Queue(
            shape=data.StructLayout({"routes": data.ArrayLayout(route, wide), "bits": wide * shown_bits(config)}),
            depth=max(2, depth // wide), registered=wide * route.size)
        place = Signal(range(max(2, wide)))
        m.d.comb += [
            rows.push.eq(complete),
            rows.entry.routes.eq(Cat(route_of(config, bits) for bits in instructions)),
            rows.entry.bits.eq(Cat(shown(config, bits) for bits in instructions)),
            rows.head.ready.eq(popped & (place == wide - 1)),
        ]

        # Registers, as every dispatch waits for them. One is not reset, so that it knows an empty program in the first cycle after reset.
        over, next_over, following = Signal(reset_less=True), Signal(), Signal(32, init=1)
        m.d.comb += next_over.eq(Mux(popped, following == self.count, self.index == self.count))
        m.d.sync += [over.eq(next_over), shows.eq(rows.next_valid & ~next_over)]
        m.d.comb += [
            self.exhausted.eq(over),
            self.instruction.payload.eq(rows.head.p.bits.word_select(place, shown_bits(config))),
            self.kind.eq(rows.head.p.routes[place].kind),
            self.group.eq(rows.head.p.routes[place].group),
            self.ends.eq(rows.head.p.routes[place].ends),
        ]
        with m.If(popped):
            m.d.sync += [self.index.eq(following), following.eq(following + 1)]
            if wide > 1:
                m.d.sync += place.eq(place + 1)
        return m

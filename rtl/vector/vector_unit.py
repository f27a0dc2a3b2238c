"""VECTOR: fp32 arithmetic on streams of words of the global buffer and on registers of a word's width, for what is no matrix product."""

from itertools import pairwise

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from gen.config import Config
from gen.isa import MASK_ELEMENTS, OPCODES, PARTIAL_SUMS, VECTOR_REGISTERS, Addend, Factor, Post, Result, Unit
from gen.timing import FOLD_LATENCY, VECTOR_LATENCY
from rtl.arith.bfloat16 import BITS, narrowed, widened
from rtl.instruction import entry_layout, instruction_layout
from rtl.interfaces import BufferRead, BufferWrite, TokenPort
from rtl.sharing import place
from rtl.vector.lane_operations import LaneOperations
from rtl.vector.transposer import Transposer
from rtl.vector.vector_lane import VectorLane

READ_LATENCY = 3                # global buffer: addresses to data
OPERANDS = READ_LATENCY + 1     # stages of an element: a register holds its operands, ...
PRODUCT = OPERANDS + 3          # ... its product is there, ...
VALUE = OPERANDS + VectorLane.VALUE_CYCLES
FOLD = ((0, 0, 4), (1, 1, 5), (2, 2, 6), (3, 3, 7), (7, 0, 2), (8, 1, 3), (13, 0, 1))   # cycle, partial sum, and the one added to it
FOLDED = 17                     # cycle in which the last of these sums is there


class VectorUnit(wiring.Component):
    """The VECTOR unit of one group: executes Vector, VectorLanes and Transpose, one at a time (`rtl/README.md`).

    Vector: a decision in d reads in d+1 .. d+n, n = `count`, an element of `side` columns in each; tokens are signalled in d + n +
    VECTOR_LATENCY, for sums FOLD_LATENCY later. An element is on `write` 13 cycles behind its read, 16 mask bits with the last of them.
    VectorLanes: tokens in d + 27 side + 6 (DIVIDE), d + 26 side + 6 (ROOT), d + span (side + 5) + 3. Transpose: reads from d+2 on, tokens
    in d + (count + 1) side + TRANSPOSE_LATENCY. The next decision follows in the cycle after the tokens at the earliest.

    `issuing` marks the reads' cycles; `idle`: holds nothing; `waiting`: idle with an instruction at the head of the queue, `index` is that
    instruction's. Not enforced: addresses in the slice (they wrap at 2^16), owning the slices' ports.
    """

    def __init__(self, config: Config):
        self._config = config
        super().__init__({
            "instruction": In(stream.Signature(entry_layout(config, Unit.VECTOR))),
            "tokens": Out(TokenPort()),
            "read_a": Out(BufferRead(config, words=config.planes)),
            "read_b": Out(BufferRead(config, words=config.planes)),
            "write": Out(BufferWrite(config, words=config.planes)),
            "issuing": Out(1),
            "idle": Out(1),
            "waiting": Out(1),
            "index": Out(32),
        })

    def elaborate(self, platform):
        m = Module()
        side = self._config.array.side
        head_bits = self.instruction.payload.bits
        bits = Signal.like(head_bits)

        def seen_as(name: str, source):
            layout = instruction_layout(name)
            return data.View(layout, source[:layout.size])

        head, fields, lanes_fields = seen_as("Vector", head_bits), seen_as("Vector", bits), seen_as("VectorLanes", bits)

        # Decision. The registers follow the head of the queue until then.
        busy, decide, decided, across, transposing = Signal(), Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            decide.eq(self.instruction.valid & self.tokens.ready & ~busy),
            self.instruction.ready.eq(decide),
            self.tokens.wait.eq(head.wait),
            self.tokens.group.eq(head.group),
            self.tokens.take.eq(decide),
            self.idle.eq(~busy),
            self.waiting.eq(self.instruction.valid & ~busy),
            self.index.eq(self.instruction.payload.index),
        ]
        m.d.sync += decided.eq(decide)

        # Issue: element by element. Of mask bits, a word is read for the first of sixteen.
        left, number, addresses = Signal(16), Signal(range(MASK_ELEMENTS)), {name: Signal(16, name=f"{name}_address") for name in "abd"}
        masked, uses_b = Signal(), Signal()
        last = self.issuing & (left == 1)
        m.d.comb += [
            masked.eq(fields.post == Post.MASKED),
            uses_b.eq((fields.factor == Factor.B) | (fields.addend == Addend.B) | masked | (fields.post == Post.LARGER)
                      | (fields.post == Post.EQUAL)),
            self.read_a.enable.eq(self.issuing & ~fields.a_register),
            self.read_b.enable.eq(self.issuing & uses_b & (~masked | (number == 0))),
        ]
        for name, port in (("a", self.read_a), ("b", self.read_b)):
            m.d.comb += [port.slice.eq(fields[f"{name}_slice"]), *(word.eq(addresses[name] + i) for i, word in enumerate(port.addresses))]
        m.submodules.transposer = transposer = Transposer(self._config)
        moves = seen_as("Transpose", bits)
        m.d.comb += [transposer.start.eq(decided & transposing), transposer.fields.eq(moves), transposer.data.eq(self.read_a.data[0])]
        with m.If(transposing):
            m.d.comb += [self.read_a.enable.eq(transposer.reads), self.read_a.slice.eq(moves.a_slice),
                         self.read_a.addresses[0].eq(transposer.address)]
        begun = Signal(PARTIAL_SUMS)        # partial sums that have an element
        with m.If(~busy):
            to_lanes, to_transpose = (head.opcode == OPCODES[name].code for name in ("VectorLanes", "Transpose"))
            m.d.sync += [
                bits.eq(head_bits), busy.eq(decide), across.eq(to_lanes), transposing.eq(to_transpose),
                self.issuing.eq(decide & ~to_lanes & ~to_transpose), left.eq(head.count), number.eq(0), begun.eq(0),
                *(address.eq(head[f"{name}_address"]) for name, address in addresses.items()),
            ]
        with m.Elif(self.issuing):
            m.d.sync += [self.issuing.eq(~last), left.eq(left - 1), number.eq(number + 1), begun.eq(begun << 1 | 1),
                         addresses["a"].eq(addresses["a"] + fields.a_step)]
            with m.If(~masked | (number == MASK_ELEMENTS - 1)):
                m.d.sync += addresses["b"].eq(addresses["b"] + fields.b_step)

        # What goes along with an element, stage by stage
        stages = [Signal(data.StructLayout({"valid": 1, "last": 1, "first": 1, "again": 1, "b": 1, "number": 4}), name=f"stage_{i}")
                  for i in range(VALUE + 1)]
        m.d.comb += [
            stages[0].valid.eq(self.issuing), stages[0].last.eq(last), stages[0].first.eq(~begun[0]), stages[0].again.eq(begun[-1]),
            stages[0].b.eq(self.read_b.enable), stages[0].number.eq(number),
        ]
        m.d.sync += [later.eq(earlier) for earlier, later in pairwise(stages)]

        # Registers of the program: read one after the other behind the decision, before the first operands come
        m.submodules.registers = registers = Memory(shape=32 * side, depth=VECTOR_REGISTERS, init=[])
        written, read = registers.write_port(), registers.read_port(domain="comb")
        held = [Signal(32 * side, name=f"register_{name}") for name in ("factor", "addend", "a")]
        turn = Signal(3)
        m.d.sync += turn.eq(Cat(decided, turn))
        numbers = (Mux(across, lanes_fields.a_register, fields.factor_register),
                   Mux(across, lanes_fields.b_register, fields.addend_register), fields.a_address[:len(read.addr)])
        for now, chosen, register in zip((decided, turn[0], turn[1]), numbers, held):
            with m.If(now):
                m.d.comb += read.addr.eq(chosen)
                m.d.sync += register.eq(read.data)

        # Operands
        words = {name: [Signal.like(word, name=f"{name}_word_{i}") for i, word in enumerate(port.data)]
                 for name, port in (("a", self.read_a), ("b", self.read_b))}
        for name, port in (("a", self.read_a), ("b", self.read_b)):
            with m.If(stages[READ_LATENCY].b if name == "b" else 1):
                m.d.sync += [word.eq(there) for word, there in zip(words[name], port.data)]

        def operand(name: str, lane: int):
            low, high = (word.word_select(lane, BITS) for word in words[name])
            return Mux(fields[f"{name}_wide"], Cat(low, high), widened(low))

        lanes = []
        folding, fold_slot, fold_other = Signal(), Signal(range(PARTIAL_SUMS)), Signal(range(PARTIAL_SUMS))
        at_product, at_value = stages[PRODUCT], stages[VALUE]
        slot = Mux(folding, fold_slot, at_product.number[:len(fold_slot)])
        sums = fields.result == Result.SUM
        fold_first = Signal()                   # the partial sums that the stream has left behind, not sums of these
        for number_of in range(side):
            lane = place(m, platform, instance=f"lane_{number_of}", module="vector_lane", factory=VectorLane)
            lanes.append(lane)
            m.d.comb += [
                lane.a.eq(Mux(fields.a_register, held[2].word_select(number_of, 32), operand("a", number_of))),
                lane.b.eq(operand("b", number_of)),
                lane.bit.eq(words["b"][0].word_select(number_of, BITS).bit_select(stages[OPERANDS].number, 1)),
                lane.factor.eq(fields.factor), lane.addend.eq(fields.addend), lane.post.eq(fields.post),
                lane.factor_register.eq(held[0].word_select(number_of, 32)), lane.addend_register.eq(held[1].word_select(number_of, 32)),
                lane.adding.eq(at_product.valid & sums & ~across), lane.folding.eq(folding), lane.slot.eq(slot), lane.other.eq(fold_other),
                lane.begun.eq(Mux(folding, ~fold_first | begun.bit_select(fold_slot, 1), at_product.again)),
                lane.other_begun.eq(~fold_first | begun.bit_select(fold_other, 1)),
                lane.first.eq(at_value.first), lane.comparing.eq(at_value.valid),
            ]

        # The partial sums become one
        fold_cycle = Signal(range(FOLDED + 2))
        with m.If(at_value.valid & at_value.last & sums):
            m.d.sync += fold_cycle.eq(1)
        with m.Elif(fold_cycle != 0):
            m.d.sync += fold_cycle.eq(Mux(fold_cycle == FOLDED + 1, 0, fold_cycle + 1))
        with m.Switch(fold_cycle):
            for cycle, first, other in FOLD:
                with m.Case(cycle + 1):
                    m.d.comb += [folding.eq(1), fold_slot.eq(first), fold_other.eq(other), fold_first.eq(other >= PARTIAL_SUMS // 2)]

        # Whole registers
        m.submodules.lane_operations = operations = LaneOperations(lanes=side)
        m.d.comb += [
            operations.start.eq(turn[1] & across), operations.operation.eq(lanes_fields.operation), operations.span.eq(lanes_fields.span),
            operations.a.eq(held[0]), operations.b.eq(held[1]),
        ]

        # Results: into registers ...
        compared = Signal()
        m.d.sync += compared.eq(at_value.valid & at_value.last & (fields.result == Result.LARGEST))
        m.d.comb += [written.addr.eq(fields.result_register), written.data.eq(Cat(lane.value for lane in lanes))]
        with m.If(across):
            m.d.comb += [written.en.eq(operations.done), written.addr.eq(lanes_fields.register), written.data.eq(operations.result)]
        with m.Elif(fold_cycle == FOLDED + 1):
            m.d.comb += [written.en.eq(1), written.data.eq(Cat(lane.sum for lane in lanes))]
        with m.Elif(compared):
            m.d.comb += [written.en.eq(1), written.data.eq(Cat(lane.largest for lane in lanes))]
        with m.Else():
            m.d.comb += written.en.eq(at_value.valid & at_value.last & (fields.result == Result.REGISTER))

        # ... or into the global buffer: the word for address a in place a mod 2
        masks, marks = [Signal(MASK_ELEMENTS, name=f"mask_{i}") for i in range(side)], Signal()
        storing, complete = Signal(), at_value.last | (at_value.number == MASK_ELEMENTS - 1)
        m.d.comb += [
            marks.eq(fields.result == Result.MASK),
            storing.eq(at_value.valid & Mux(marks, complete, fields.result == Result.STREAM)),
        ]
        next_masks = []
        for mask, lane in zip(masks, lanes):
            value = lane.value
            positive = ~value[-1] & value[:-1].any() & ~(value[23:31].all() & value[:23].any())
            next_masks.append(Mux(at_value.number == 0, 0, mask) | (positive << at_value.number)[:MASK_ELEMENTS])
            with m.If(at_value.valid):
                m.d.sync += mask.eq(next_masks[-1])
        low = Cat(Mux(marks, mask, Mux(fields.d_wide, lane.value[:BITS], narrowed(lane.value))) for mask, lane in zip(next_masks, lanes))
        high, odd = Cat(lane.value[BITS:] for lane in lanes), addresses["d"][0]
        m.d.sync += [
            self.write.enable.eq(Mux(storing, Mux(fields.d_wide & ~marks, 0b11, 1 << odd), 0)),
            self.write.slice.eq(fields.d_slice), self.write.address.eq(addresses["d"]),
            self.write.data[0].eq(Mux(odd, high, low)), self.write.data[1].eq(Mux(odd, low, high)),
        ]
        with m.If(transposing):
            m.d.sync += [
                self.write.enable.eq(Mux(transposer.writes, 1 << transposer.target[0], 0)), self.write.slice.eq(moves.d_slice),
                self.write.address.eq(transposer.target), *(word.eq(transposer.word) for word in self.write.data),
            ]
        with m.If(storing):
            m.d.sync += addresses["d"].eq(addresses["d"] + fields.d_step)

        # The end
        remaining = Signal(range(VECTOR_LATENCY + FOLD_LATENCY + 1))       # cycles to the tokens
        ends = Signal()
        with m.If(last):
            m.d.sync += remaining.eq(Mux(sums, VECTOR_LATENCY + FOLD_LATENCY, VECTOR_LATENCY))
        with m.Elif(remaining != 0):
            m.d.sync += remaining.eq(remaining - 1)
        moved = Signal()
        m.d.sync += moved.eq(transposer.ends)
        m.d.comb += ends.eq(Mux(transposing, moved, Mux(across, operations.done, remaining == 1)))
        with m.If(busy & ends):
            m.d.comb += [self.tokens.signal.eq(fields.signal), self.tokens.signal_group.eq(fields.group)]
            m.d.sync += busy.eq(0)
        return m

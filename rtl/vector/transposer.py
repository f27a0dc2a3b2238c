"""Blocks of words with their rows and columns exchanged: what a product needs that sums over the pixels of a stored result."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from gen.config import Config
from rtl.arith.bfloat16 import BITS
from rtl.instruction import instruction_layout

READ_LATENCY = 3        # global buffer: addresses to data


class Transposer(wiring.Component):
    """Executes Transpose: `count` blocks of `side` words, read at a word a cycle, one block behind the other.

    With `start` in cycle s, `fields` constant from then on, words are read (`reads`, `address`; their `data` comes three cycles later) in
    s + 1 .. s + count * side. A block's words are written (`writes`, `target`, `word`, presented in that cycle) in the `side` cycles that
    begin side + 5 behind its first read; `ends` is high with the very last one.

    The words are kept in a square of registers. A block enters from above, moving down, while the block before it, which had entered from
    the left, leaves below; the next one enters from the left while this one leaves on the right. The last column leaves first.
    """

    def __init__(self, config: Config):
        self._side = config.array.side
        super().__init__({
            "start": In(1), "fields": In(instruction_layout("Transpose")),
            "reads": Out(1), "address": Out(16), "data": In(BITS * self._side),
            "writes": Out(1), "target": Out(16), "word": Out(BITS * self._side), "ends": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        side, fields = self._side, self.fields

        # Reads: word after word of a block, block after block; then as many cycles again, in which the last block leaves
        issuing, left, place, block = Signal(), Signal(17), Signal(range(max(2, side))), Signal(16)
        turns = place == side - 1
        m.d.comb += self.reads.eq(issuing & (left != 1))
        with m.If(self.start):
            m.d.sync += [issuing.eq(1), left.eq(fields.count + 1), place.eq(0)]
            m.d.sync += [block.eq(fields.a_address), self.address.eq(fields.a_address)]
        with m.Elif(issuing):
            m.d.sync += [place.eq(Mux(turns, 0, place + 1)), self.address.eq(self.address + fields.a_step)]
            with m.If(turns):
                m.d.sync += [left.eq(left - 1), issuing.eq(left != 1), block.eq(block + fields.a_block),
                             self.address.eq(block + fields.a_block)]

        # What belongs to a word when it is there: whether it enters, whether one of the block before leaves, whether that is the last
        enters, leaves, final = issuing, issuing & (left != fields.count + 1), issuing & turns & (left == 1)
        for stage in range(READ_LATENCY + 1):
            later = [Signal(name=f"{name}_{stage + 1}") for name in ("enters", "leaves", "final")]
            m.d.sync += [after.eq(before) for after, before in zip(later, (enters, leaves, final))]
            enters, leaves, final = later
        entering = Signal.like(self.data)
        m.d.sync += entering.eq(self.data)

        # The square
        square = [[Signal(BITS, name=f"cell_{row}_{column}", reset_less=True) for column in range(side)] for row in range(side)]
        arrived, sideways = Signal.like(place), Signal()
        word = [entering.word_select(column, BITS) for column in range(side)]
        with m.If(enters):
            m.d.sync += arrived.eq(Mux(arrived == side - 1, 0, arrived + 1))
            with m.If(arrived == side - 1):
                m.d.sync += sideways.eq(~sideways)
            for row in range(side):
                for column in range(side):
                    above = square[row - 1][column] if row else word[column]
                    before = square[row][column - 1] if column else word[row]
                    m.d.sync += square[row][column].eq(Mux(sideways, before, above))
        # What leaves, on the right or below: the first word of the block is the lane that has moved farthest.
        out = Cat(Mux(sideways, square[side - 1 - lane][side - 1], square[side - 1][side - 1 - lane]) for lane in range(side))

        # Writes: the last column first
        written, base = Signal.like(place), Signal(16)
        m.d.sync += [self.writes.eq(leaves), self.word.eq(out), self.ends.eq(final)]
        with m.If(leaves):
            m.d.sync += written.eq(Mux(written == side - 1, 0, written + 1))
        with m.If(self.writes):
            m.d.sync += self.target.eq(self.target - fields.d_step)
        last_place = Signal(16)     # of a block's words
        m.d.comb += last_place.eq((fields.d_step << (side - 1).bit_length()) - fields.d_step)
        with m.If(leaves & (written == 0)):
            m.d.sync += [self.target.eq(base + last_place), base.eq(base + fields.d_block)]
        with m.If(self.start):
            m.d.sync += [base.eq(fields.d_address), written.eq(0), arrived.eq(0), sideways.eq(0)]
        return m

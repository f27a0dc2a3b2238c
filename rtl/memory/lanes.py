"""The near-data unit's arithmetic: four lanes, operand buffer, write buffer and the lanes' sums."""

from itertools import pairwise

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from gen.dram import DramConfig
from gen.nda import CHUNK_BLOCKS, STEPS, Addend, Factor, Target, settle
from rtl.arith.float32 import Add, Multiply
from rtl.memory.launch import check_near_data
from rtl.memory.sequencer import BLOCK_BITS, WORK
from rtl.sharing import place

MULTIPLY_LATENCY = 2
ADD_LATENCY = 3
BEATS = 4
LANES = 4             # elements of a beat
BEAT_BITS = 32 * LANES


class Lane(wiring.Component):
    """``result`` = ``factor`` * ``element`` + ``addend``, each rounded once; one a cycle, result after 2 + 3 cycles.

    fp32 as in `rtl.arith.float32`; with `integer` the low 32 bits. `addend` and `add` come 2 cycles after `element`, `factor`, `multiply`
    and `integer`. Without `multiply` (`add`) the bits pass that stage unchanged.
    """

    def __init__(self):
        super().__init__({"element": In(32), "factor": In(32), "addend": In(32), "multiply": In(1), "add": In(1), "integer": In(1),
                          "result": Out(32)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.product = product = Multiply(latency=MULTIPLY_LATENCY)
        m.submodules.sum = total = Add(latency=ADD_LATENCY)
        factor = Mux(self.multiply & self.integer, self.factor, 1)
        first = _delayed(m, "first", (self.element * factor)[:32], MULTIPLY_LATENCY)
        first = Mux(_delayed(m, "multiplied", self.multiply & ~self.integer, MULTIPLY_LATENCY), product.result, first)
        integer = _delayed(m, "integer", self.integer, MULTIPLY_LATENCY)
        addend = Mux(self.add & integer, self.addend, 0)
        second = _delayed(m, "second", (first + addend)[:32], ADD_LATENCY)
        m.d.comb += [
            product.a.eq(self.element), product.b.eq(self.factor), total.a.eq(first), total.b.eq(self.addend),
            self.result.eq(Mux(_delayed(m, "added", self.add & ~integer, ADD_LATENCY), total.result, second)),
        ]
        return m


class Lanes(wiring.Component):
    """Computes what the read beats of near-data RDs are for and drives the write beats of its WRs.

    `work` in t belongs to the column command on the rank in t. RD: `read_data` holds its four beats in t+CL .. t+CL+3; results are in
    the operand buffer, write buffer or the lanes' sums from t+CL+9 on. WR: `write_data` holds beats in t+CWL .. t+CWL+3, zero otherwise.
    Commands are 4 cycles or more apart (tCCD_S), those for one block `gen.nda.settle` cycles. Both buffers hold 128 blocks. Block element
    i is element i % 4 of beat i // 4 and belongs to sum i. Raises DramError for a part a near-data unit does not fit.
    """

    def __init__(self, config: DramConfig):
        check_near_data(config)
        timing = config.timing
        # The sequencer commands the same block again `settle` cycles later or more. A beat's result is written at the edge of this cycle,
        # counted from its command; the buffer is asked for it a cycle before the beat.
        written = timing["tCL"] + MULTIPLY_LATENCY + ADD_LATENCY
        assert written < settle(timing) + min(timing["tCL"], timing["tCWL"]) - 1, "a result must be written before it is wanted"
        for steps in STEPS.values():
            factors, addends = (any(use) for use in zip(*((step.factor == Factor.STORED, step.addend == Addend.STORED) for step in steps)))
            assert not (factors and addends), "an operation uses stored elements as factors or as addends: there is one port"
        assert timing["tCCD_S"] > ADD_LATENCY, "a sum must be complete before the next block adds to it"
        self.config = config
        super().__init__({"work": In(WORK), "read_data": In(BEAT_BITS), "write_data": Out(BEAT_BITS)})

    def elaborate(self, platform):
        m = Module()
        timing = self.config.timing
        # The read beat whose data come in the next cycle; `at[n]` is n cycles later.
        fields = {name: WORK[name].shape for name in ("block", "fresh", "factor", "addend", "target", "integer")}
        beat_layout = data.StructLayout({"valid": 1, "beat": range(BEATS)} | fields)
        at = [Signal(beat_layout, name=f"beat_{n}") for n in range(2 + MULTIPLY_LATENCY + ADD_LATENCY)]
        payload = Cat(*(self.work[name] for name in fields), self.work.scalar)
        coming = Signal(beat_layout.size + 32)
        scalar = Signal(32)          # of the beat that is here
        m.d.comb += [coming.eq(_beats(m, "read", self.work.read, payload, timing["tCL"] - 1)), at[0].eq(coming[:-32])]
        m.d.sync += scalar.eq(coming[-32:])
        for before, after in pairwise(at):
            m.d.sync += after.eq(before)
        arriving, adding, ready = at[1], at[1 + MULTIPLY_LATENCY], at[1 + MULTIPLY_LATENCY + ADD_LATENCY]

        m.submodules.operands = operands = Memory(shape=BEAT_BITS, depth=BEATS * CHUNK_BLOCKS, init=[])
        m.submodules.writes = writes = Memory(shape=BEAT_BITS, depth=BEATS * CHUNK_BLOCKS, init=[])
        result, sums = Signal(BEAT_BITS), Signal(BEAT_BITS * BEATS)

        # An operation uses stored elements as factors or as addends, never as both.
        stored = operands.read_port()
        wanted = Mux(at[0].valid & (at[0].factor == Factor.STORED), at[0], at[MULTIPLY_LATENCY])
        m.d.comb += stored.addr.eq(_address(data.View(beat_layout, wanted)))
        summand = Mux(adding.addend == Addend.LANES, Mux(adding.fresh, 0, sums.word_select(adding.beat, BEAT_BITS)), stored.data)
        for number in range(LANES):
            lane = place(m, platform, instance=f"lane_{number}", module="near_data_lane", factory=Lane)
            element = self.read_data.word_select(number, 32)
            with m.Switch(arriving.factor):
                with m.Case(Factor.STORED):
                    m.d.comb += lane.factor.eq(stored.data.word_select(number, 32))
                with m.Case(Factor.SELF):
                    m.d.comb += lane.factor.eq(element)
                with m.Default():
                    m.d.comb += lane.factor.eq(scalar)
            m.d.comb += [
                lane.element.eq(element), lane.addend.eq(summand.word_select(number, 32)), lane.integer.eq(arriving.integer),
                lane.multiply.eq(arriving.factor != Factor.ONE), lane.add.eq(adding.addend != Addend.NONE),
                result.word_select(number, 32).eq(lane.result),
            ]

        for buffer, target in ((operands, Target.OPERAND), (writes, Target.WRITE)):
            port = buffer.write_port()
            m.d.comb += [port.addr.eq(_address(ready)), port.data.eq(result), port.en.eq(ready.valid & (ready.target == target))]
        for beat in range(BEATS):
            with m.If(ready.valid & (ready.target == Target.LANES) & (ready.beat == beat)):
                m.d.sync += sums.word_select(beat, BEAT_BITS).eq(result)

        # Write beats: the buffer is asked a cycle ahead.
        write_layout = data.StructLayout({"valid": 1, "beat": range(BEATS), "block": BLOCK_BITS, "sums": 1})
        asked, driven = Signal(write_layout), Signal(write_layout)
        m.d.comb += asked.eq(_beats(m, "write", self.work.write, Cat(self.work.block, self.work.sums), timing["tCWL"] - 1))
        m.d.sync += driven.eq(asked)
        drain = writes.read_port()
        m.d.comb += drain.addr.eq(_address(asked))
        with m.If(driven.valid):
            m.d.comb += self.write_data.eq(Mux(driven.sums, sums.word_select(driven.beat, BEAT_BITS), drain.data))
        return m


def _beats(m: Module, name: str, command: Value, payload: Value, delay: int) -> Value:
    """Four beats (valid, beat, payload) in a row, the first one `delay` (1 or more) cycles behind a command."""
    entry_bits = 1 + len(payload)
    line = Signal(delay * entry_bits, name=f"{name}_line")
    m.d.sync += line.eq(Cat(Mux(command, Cat(command, payload), 0), line))
    first = line[-entry_bits:]
    beat, held = Signal(range(BEATS), name=f"{name}_beat"), Signal(len(payload), name=f"{name}_payload")
    valid = first[0] | (beat != 0)
    with m.If(valid):
        m.d.sync += beat.eq(beat + 1)
    with m.If(first[0]):
        m.d.sync += held.eq(first[1:])
    return Cat(valid, beat, Mux(first[0], first[1:], held))


def _address(beat) -> Value:
    """Of a beat in a buffer."""
    return Cat(beat.beat, beat.block)


def _delayed(m: Module, name: str, value: Value, cycles: int) -> Value:
    """`value` so many cycles later."""
    for number in range(cycles):
        register = Signal(len(value), name=f"{name}_{number}", reset_less=True)
        m.d.sync += register.eq(value)
        value = register
    return value

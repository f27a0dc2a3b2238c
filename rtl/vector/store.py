"""STORE: output tiles from the output buffers to the global buffer, as int32 or requantised; and the column parameters for it."""

from amaranth import C, Cat, Module, Mux, Signal, signed
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from gen.config import Config
from gen.isa import OPCODES, Output, Unit
from gen.timing import FETCH_LATENCY, SCALE_LATENCY, STORE_LATENCY
from rtl.arith.multiplexer import select
from rtl.instruction import entry_layout, instruction_layout
from rtl.interfaces import AccumulatorRead, BufferRead, BufferWrite, TokenPort
from rtl.sharing import place
from rtl.vector.requantise import Requantiser

SUM_DELAY = FETCH_LATENCY + 1                         # from an OBUF read to the sums of its lanes, registered
TOTAL_DELAY = SUM_DELAY + Requantiser.TOTAL_LATENCY   # ... to int32 results
RESULT_DELAY = SUM_DELAY + Requantiser.LATENCY        # ... to 8-bit results
SCALE_DELAY = 4                                       # from a global-buffer read to its data, registered
PLANES = 4                                            # words of a row of int32
RECORD_BYTES = 8                                      # of a column: int32 bias, fp32 multiplier
ONE = 0x3F80_0000                                     # fp32 1.0


class ColumnParameters(wiring.Component):
    """Bias and multiplier of every column of every pair, in eight small memories: one for each byte of the records.

    A word with ``load`` is byte ``byte`` of all columns' records (bias, then fp32 multiplier, least significant bytes first), and that of
    the lanes of ``load_group`` in ``load_block`` is kept; blocks that the machine does not have are dropped. ``bias`` and ``multiplier``
    of the lanes of ``group`` in ``block`` follow one cycle after; 0 and 1.0 without ``enable``. Contents outlive a reset.
    """

    def __init__(self, config: Config):
        self._config = config
        lanes = config.buffers.store_lanes
        groups = range(max(2, config.array.side // lanes))
        super().__init__({
            "load": In(1),
            "load_block": In(1),
            "load_group": In(groups),
            "byte": In(range(RECORD_BYTES)),
            "word": In(8 * config.array.side),
            "enable": In(1),
            "block": In(1),
            "group": In(groups),
            "bias": Out(signed(32)).array(lanes),
            "multiplier": Out(32).array(lanes),
        })

    def elaborate(self, platform):
        m = Module()
        lanes, blocks = self._config.buffers.store_lanes, self._config.column_pairs
        groups = self._config.array.side // lanes
        group_bits = ceil_log2(groups)

        def place(block, group):
            return Cat(group[:group_bits], block if blocks == 2 else C(0, 1))

        kept, entry = Signal(8 * lanes), place(self.load_block, self.load_group)
        parts = [self.word.word_select(i, 8 * lanes) for i in range(groups)]
        m.d.comb += kept.eq(select(m, platform, "kept", parts, self.load_group))
        records = [Signal(8 * RECORD_BYTES, name=f"record_{lane}") for lane in range(lanes)]
        for byte in range(RECORD_BYTES):
            m.submodules[f"byte_{byte}"] = cells = memory.Memory(shape=8 * lanes, depth=2 * groups, init=[])
            write, read = cells.write_port(), cells.read_port(domain="comb")
            m.d.comb += [
                write.en.eq(self.load & (self.byte == byte) & ((self.load_block == 0) | (blocks == 2))),
                write.addr.eq(entry),
                write.data.eq(kept),
                read.addr.eq(place(self.block, self.group)),
                *(record.word_select(byte, 8).eq(read.data.word_select(lane, 8)) for lane, record in enumerate(records)),
            ]
        for lane, record in enumerate(records):
            m.d.sync += [self.bias[lane].eq(record[:32]), self.multiplier[lane].eq(record[32:])]
            with m.If(~self.enable):
                m.d.sync += [self.bias[lane].eq(0), self.multiplier[lane].eq(ONE)]
        return m


class Store(wiring.Component):
    """The STORE unit of one group: executes StLBUF and LdScale, one at a time (`rtl/README.md`, STORE).

    A decision in d reads in d+1 .. d+n: for StLBUF lane groups within column blocks within rows, n = rows * blocks * (side / store_lanes);
    for LdScale each of eight words a block, once for every lane group: n = 8 * blocks * (side / store_lanes). Tokens are signalled in
    d + n + STORE_LATENCY (SCALE_LATENCY), the next decision follows in the cycle after at the earliest.
    The word (8-bit outputs) or the four byte planes (int32) of a row and block are on `write` RESULT_DELAY + 1 = 16
    (TOTAL_DELAY + 1 = 8) cycles after the read of its last lane group; the word for address a in place a mod 4 of the port.

    `issuing` marks read cycles of either instruction, `words` counts those written in this cycle; `idle`: holds nothing and the last tokens
    are visible; `waiting`: idle with an instruction at the head of the queue, `index` is that instruction's.

    Not enforced: addresses and rows within their memories (addresses wrap at 2^16), owning the slice's ports.
    """

    def __init__(self, config: Config):
        self._config = config
        super().__init__({
            "instruction": In(stream.Signature(entry_layout(Unit.STORE))),
            "tokens": Out(TokenPort()),
            "accumulators": Out(AccumulatorRead(config)),
            "read": Out(BufferRead(config, words=1)),
            "write": Out(BufferWrite(config, words=PLANES)),
            "issuing": Out(1),
            "words": Out(3),
            "idle": Out(1),
            "waiting": Out(1),
            "index": Out(32),
        })

    def elaborate(self, platform):
        m = Module()
        config = self._config
        side, lanes, pairs = config.array.side, config.buffers.store_lanes, config.column_pairs
        groups = side // lanes

        def views(bits):
            """The same bits as a StLBUF and as a LdScale."""
            return [data.View(layout, bits[:layout.size]) for layout in map(instruction_layout, ("StLBUF", "LdScale"))]

        def delayed(value, cycles: int, name: str):
            for cycle in range(cycles):
                stage = Signal.like(value, name=f"{name}_{cycle + 1}")
                m.d.sync += stage.eq(value)
                value = stage
            return value

        # Decision
        head_bits = self.instruction.payload.bits
        head, _ = views(head_bits)
        bits = Signal.like(head_bits)
        store, scale = views(bits)
        busy, is_scale, planes, is_signed = Signal(), Signal(), Signal(), Signal()
        decide = self.instruction.valid & self.tokens.ready & ~busy
        m.d.comb += [
            self.instruction.ready.eq(decide),
            self.tokens.wait.eq(head.wait),
            self.tokens.group.eq(head.group),
            self.tokens.take.eq(decide),
            self.idle.eq(~busy),
            self.waiting.eq(self.instruction.valid & ~busy),
            self.index.eq(self.instruction.payload.index),
        ]

        # Issue: rows, column blocks, lane groups; for LdScale `row` is the word (of both blocks, one behind the other)
        row, last_row = Signal(16), Signal(16)
        block, last_block = Signal(), Signal()
        group = Signal(range(max(2, groups)))
        group_ends, block_ends = Signal(), Signal()
        remaining = Signal(range(STORE_LATENCY + 1))     # cycles from the last read to the tokens
        last = self.issuing & block_ends & (row == last_row)
        m.d.comb += [
            group_ends.eq(group == groups - 1),
            block_ends.eq(group_ends & (block == last_block)),
        ]
        with m.If(self.issuing):
            m.d.sync += group.eq(Mux(group_ends, 0, group + 1))
            with m.If(group_ends):
                m.d.sync += block.eq(~block_ends)
            with m.If(block_ends):
                m.d.sync += row.eq(row + 1)
        with m.If(last):
            m.d.sync += [self.issuing.eq(0), remaining.eq(Mux(is_scale, SCALE_LATENCY, STORE_LATENCY))]
        with m.If(remaining != 0):
            m.d.sync += remaining.eq(remaining - 1)
        with m.If(remaining == 1):
            m.d.comb += [self.tokens.signal.eq(store.signal), self.tokens.signal_group.eq(store.group)]
            m.d.sync += busy.eq(0)
        with m.If(~busy):      # the registers follow the head of the queue until the decision: a late `ready` reaches two of them only
            to_scale = head.opcode == OPCODES["LdScale"].code
            head_scale = views(head_bits)[1]
            m.d.sync += [
                bits.eq(head_bits),
                busy.eq(decide),
                self.issuing.eq(decide),
                is_scale.eq(to_scale),
                planes.eq(head.output == Output.INT32),
                is_signed.eq(head.output == Output.INT8),
                row.eq(0),
                last_row.eq(Mux(to_scale, (head_scale.blocks << 3) - 1, head.rows - 1)),
                block.eq(0),
                last_block.eq(~to_scale & head.wide if pairs == 2 else 0),
                group.eq(0),
            ]

        # Reads: a wide tile's row lies in every pair, a narrow one's in pair row mod 2
        narrow = ~store.wide if pairs == 2 else C(0)
        position = Mux(narrow, row >> 1, row)
        m.d.comb += [
            self.accumulators.enable.eq(self.issuing & ~is_scale),
            self.accumulators.half.eq(store.half),
            self.accumulators.pair.eq(Mux(narrow, row[0], block)),
            self.accumulators.bank.eq(position[0]),
            self.accumulators.word.eq(position >> 1),
            self.read.enable.eq(self.issuing & is_scale),
            self.read.slice.eq(scale.slice),
            self.read.addresses[0].eq(scale.address + row),
        ]

        # Parameters and sums of a lane group, registered together
        m.submodules.parameters = parameters = ColumnParameters(config)
        loading = delayed(Cat(self.read.enable, row[:4], group), SCALE_DELAY, "loading")
        chosen_block, chosen_group = delayed(block, SUM_DELAY - 1, "block"), delayed(group, SUM_DELAY - 1, "group")
        m.d.comb += [
            parameters.load.eq(loading[0]),
            parameters.byte.eq(loading[1:4]),
            parameters.load_block.eq(loading[4]),
            parameters.load_group.eq(loading[5:]),
            parameters.word.eq(delayed(self.read.data[0], 1, "word")),
            parameters.enable.eq(store.parameters),
            parameters.block.eq(chosen_block),
            parameters.group.eq(chosen_group),
        ]
        totals, results = [], []
        for lane in range(lanes):
            requantiser = place(m, platform, instance=f"lane_{lane}", module="requantiser", factory=Requantiser)
            column = Signal(signed(32), name=f"sum_{lane}")
            m.d.sync += column.eq(select(m, platform, f"column_{lane}", self.accumulators.data[lane::lanes], chosen_group))
            m.d.comb += [
                requantiser.sum.eq(column),
                requantiser.bias.eq(parameters.bias[lane]),
                requantiser.multiplier.eq(parameters.multiplier[lane]),
                requantiser.zero_point.eq(store.zero_point),
                requantiser.is_signed.eq(is_signed),
                requantiser.relu.eq(store.relu),
            ]
            totals.append(requantiser.total)
            results.append(requantiser.result)

        # Words: each lane group is shifted in at the top; after the last one every column is in its place
        flight, arrived = Signal(RESULT_DELAY - 1), Signal()      # bit i: an OBUF read issued i + 1 cycles ago
        m.d.sync += [
            flight.eq(Cat(self.accumulators.enable, flight)),
            arrived.eq(Mux(planes, flight[TOTAL_DELAY - 2], flight[RESULT_DELAY - 2])),
        ]
        gathered = Signal.like(group)
        complete = arrived & (gathered == groups - 1)
        targets = [Signal(16, name=f"target_{i}") for i in range(pairs)]       # one running address a block
        target_block, first = Signal(), Signal(2)                              # place of the first word
        m.d.comb += first.eq(Mux(target_block, targets[-1], targets[0]))
        planes_of = [Cat(total.word_select(plane, 8) for total in totals) for plane in range(PLANES)]
        whole = [Mux(planes, planes_of[0], Cat(results)), *planes_of[1:]]
        for spot in range(PLANES):
            word, parts = self.write.data[spot], select(m, platform, f"place_{spot}", whole, (spot - first)[:2])
            with m.If(arrived):
                m.d.sync += word.eq(Cat(word[8 * lanes:], parts))

        # Addresses
        m.d.sync += self.write.enable.eq(Mux(complete, Mux(planes, 0b1111, 1 << first), 0))
        with m.If(arrived):
            m.d.sync += gathered.eq(Mux(complete, 0, gathered + 1))
        with m.If(complete):
            m.d.sync += [self.write.address.eq(Mux(target_block, targets[-1], targets[0])), target_block.eq(last_block & ~target_block)]
            for i, target in enumerate(targets):
                with m.If(target_block == i):
                    m.d.sync += target.eq(target + Mux(planes, PLANES, 1))
        with m.If(~busy):
            m.d.sync += target_block.eq(0)
            for i, target in enumerate(targets):
                m.d.sync += target.eq(head.address + (head.pitch if i else 0))
        m.d.comb += [
            self.write.slice.eq(store.slice),
            self.words.eq(Mux(self.write.enable.any(), Mux(planes, PLANES, 1), 0)),
        ]
        return m

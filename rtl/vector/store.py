"""STORE: output tiles from the output buffers to the global buffer, as int32 or requantised; and the column parameters for it."""

from amaranth import Array, C, Cat, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from gen.config import Config
from gen.isa import OPCODES, Output, Unit
from gen.timing import SCALE_LATENCY, STORE_LATENCY
from rtl.instruction import entry_layout, instruction_layout
from rtl.interfaces import AccumulatorRead, BufferRead, BufferWrite, TokenPort
from rtl.sharing import place
from rtl.vector.requantise import Requantiser

SUM_DELAY = 3                                    # from an OBUF read to the sums of its lanes, registered
TOTAL_DELAY = SUM_DELAY + 1                      # ... to int32 results
RESULT_DELAY = SUM_DELAY + Requantiser.LATENCY   # ... to 8-bit results
SCALE_DELAY = 3                                  # from a global-buffer read to its data
ONE = 0x3F80_0000                                # fp32 1.0


class ColumnParameters(wiring.Component):
    """Bias and multiplier of every column of every pair, in shift registers of eight bytes a column.

    A word on `word` with `load` shifts byte c into column c of block `load_block`; eight words, least significant bytes first, make a
    record (bias, then fp32 multiplier). Words for a block that the machine does not have are dropped. `bias` and `multiplier` of the lanes
    of `group` in `block` follow one cycle after; 0 and 1.0 without `enable`.
    """

    def __init__(self, config: Config):
        self._config = config
        lanes = config.buffers.store_lanes
        super().__init__({
            "load": In(1),
            "load_block": In(1),
            "word": In(8 * config.array.side),
            "enable": In(1),
            "block": In(1),
            "group": In(range(max(2, config.array.side // lanes))),
            "bias": Out(signed(32)).array(lanes),
            "multiplier": Out(32).array(lanes),
        })

    def elaborate(self, platform):
        m = Module()
        side, lanes, blocks = self._config.array.side, self._config.buffers.store_lanes, self._config.column_pairs
        records = [[Signal(64, name=f"record_{block}_{column}") for column in range(side)] for block in range(blocks)]
        for block in range(blocks):
            with m.If(self.load & (self.load_block == block)):
                for column, record in enumerate(records[block]):
                    m.d.sync += record.eq(Cat(record[8:], self.word.word_select(column, 8)))
        for lane in range(lanes):
            choices = [Array(records[block][lane::lanes])[self.group] for block in range(blocks)]
            record = Mux(self.block, choices[-1], choices[0])
            m.d.sync += [
                self.bias[lane].eq(Mux(self.enable, record[:32], 0)),
                self.multiplier[lane].eq(Mux(self.enable, record[32:], ONE)),
            ]
        return m


class Store(wiring.Component):
    """The STORE unit of one group: executes StLBUF and LdScale, one at a time (`rtl/README.md`, STORE).

    A decision in d reads in d+1 .. d+n: for StLBUF lane groups within column blocks within rows, n = rows * blocks * (side / store_lanes);
    for LdScale eight words a block. Tokens are signalled in d + n + STORE_LATENCY (SCALE_LATENCY), the next decision follows in the cycle
    after at the earliest. The word (8-bit outputs) or the four byte planes (int32) of a row and block are on `write` RESULT_DELAY + 1 = 14
    (TOTAL_DELAY + 1 = 5) cycles after the read of its last lane group.

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
            "write": Out(BufferWrite(config, words=4)),
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

        # Issue: rows, column blocks, lane groups; for LdScale `row` is the word (of both blocks)
        row, last_row = Signal(16), Signal(16)
        block, last_block = Signal(), Signal()
        group = Signal(range(max(2, groups)))
        group_ends, block_ends = Signal(), Signal()
        remaining = Signal(range(STORE_LATENCY + 1))     # cycles from the last read to the tokens
        last = self.issuing & block_ends & (row == last_row)
        m.d.comb += [
            group_ends.eq(is_scale | (group == groups - 1)),
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
        loading = delayed(Cat(self.read.enable, row[3]), SCALE_DELAY, "loading")
        chosen_block, chosen_group = delayed(block, SUM_DELAY - 1, "block"), delayed(group, SUM_DELAY - 1, "group")
        m.d.comb += [
            parameters.load.eq(loading[0]),
            parameters.load_block.eq(loading[1]),
            parameters.word.eq(self.read.data[0]),
            parameters.enable.eq(store.parameters),
            parameters.block.eq(chosen_block),
            parameters.group.eq(chosen_group),
        ]
        totals, results = [], []
        for lane in range(lanes):
            requantiser = place(m, platform, instance=f"lane_{lane}", module="requantiser", factory=Requantiser)
            column = Signal(signed(32), name=f"sum_{lane}")
            m.d.sync += column.eq(Array([self.accumulators.data[i] for i in range(lane, side, lanes)])[chosen_group])
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
        for plane in range(4):
            word = self.write.data[plane]
            parts = [total.word_select(plane, 8) for total in totals]
            if plane == 0:
                parts = [Mux(planes, part, result) for part, result in zip(parts, results, strict=True)]
            with m.If(arrived):
                m.d.sync += word.eq(Cat(word[8 * lanes:], *parts))

        # Addresses: one running address a block
        targets = [Signal(16, name=f"target_{i}") for i in range(pairs)]
        target_block = Signal()
        m.d.sync += self.write.enable.eq(Mux(complete, Mux(planes, 0b1111, 0b0001), 0))
        with m.If(arrived):
            m.d.sync += gathered.eq(Mux(complete, 0, gathered + 1))
        with m.If(complete):
            m.d.sync += [self.write.address.eq(Mux(target_block, targets[-1], targets[0])), target_block.eq(last_block & ~target_block)]
            for i, target in enumerate(targets):
                with m.If(target_block == i):
                    m.d.sync += target.eq(target + Mux(planes, 4, 1))
        with m.If(~busy):
            m.d.sync += target_block.eq(0)
            for i, target in enumerate(targets):
                m.d.sync += target.eq(head.address + (head.pitch if i else 0))
        m.d.comb += [
            self.write.slice.eq(store.slice),
            self.words.eq(Mux(self.write.enable[0], Mux(planes, 4, 1), 0)),
        ]
        return m

"""STORE: output tiles from the output buffers to the global buffer, whole or as operands; column parameters, residuals, pooling."""

from amaranth import C, Cat, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from gen.config import Config
from gen.isa import OPCODES, WINDOWED, Output, Unit
from gen.timing import ADD_LATENCY, FETCH_LATENCY, POOL_LATENCY, SCALE_LATENCY, SET_ADD_LATENCY, STORE_LATENCY
from rtl.arith.multiplexer import select
from rtl.instruction import entry_layout, instruction_layout
from rtl.interfaces import AccumulatorRead, BufferRead, BufferWrite, TokenPort
from rtl.sharing import place
from rtl.vector.float_result import FloatResult
from rtl.vector.parameters import ColumnParameters
from rtl.vector.pool import Pooling
from rtl.vector.requantise import Requantiser
from rtl.vector.residual import READ_AHEAD, Residuals

SUM_DELAY = FETCH_LATENCY + 1                         # from an OBUF read to the sums of its lanes, registered
TOTAL_DELAY = SUM_DELAY + Requantiser.TOTAL_LATENCY   # ... to results as wide as sums
RESULT_DELAY = SUM_DELAY + Requantiser.LATENCY        # ... to results as wide as operands
SCALE_DELAY = 4                                       # from a global-buffer read to its data, registered


class Store(wiring.Component):
    """The STORE unit of one group, one instruction at a time (`rtl/README.md`): StLBUF; of int8 also LdScale and, with `vector.window`,
    SetAdd and Pool.

    A decision in d reads in d+1 .. d+n: for StLBUF lane groups within column blocks within rows, n = rows * blocks * (side / store_lanes);
    for LdScale each of eight words a block, once for every lane group: n = 8 * blocks * (side / store_lanes); for SetAdd n = side /
    store_lanes; for Pool a window takes as many cycles as it has words, at least side / store_lanes. Tokens are signalled in d + n +
    STORE_LATENCY (SCALE_LATENCY, SET_ADD_LATENCY; of a Pool POOL_LATENCY + side / store_lanes - 1 + STORE_LATENCY), with a residual
    ADD_LATENCY later; the next decision follows in the cycle after at the earliest.
    The word (8-bit outputs, bf16) or the `planes` words (int32, fp32) of a row and block are on `write` RESULT_DELAY + 1 = 16
    (TOTAL_DELAY + 1 = 8) cycles after the read of its last lane group, with a residual ADD_LATENCY later; the word for address a in place
    a mod `planes` of the port. Int32 results take no residual.

    `issuing` marks read cycles of either instruction, `words` counts those written in this cycle; `idle`: holds nothing and the last tokens
    are visible; `waiting`: idle with an instruction at the head of the queue, `index` is that instruction's.

    Not enforced: addresses and rows within their memories (addresses wrap at 2^16), owning the slice's ports.
    """

    def __init__(self, config: Config):
        self._config = config
        super().__init__({
            "instruction": In(stream.Signature(entry_layout(config, Unit.STORE))),
            "tokens": Out(TokenPort()),
            "accumulators": Out(AccumulatorRead(config)),
            "read": Out(BufferRead(config, words=1)),
            **({"residual": Out(BufferRead(config, words=1))} if config.vector.window else {}),
            "write": Out(BufferWrite(config, words=config.planes)),
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
        groups, vector, scales = side // lanes, config.vector.window > 0, not config.floating
        size, words = 8 * config.operand_bytes, config.planes      # bits of an operand; words of a row of sums

        def seen_as(name: str, bits):
            """The bits of an instruction as those of another."""
            layout = instruction_layout(name)
            return data.View(layout, bits[:layout.size])

        def delayed(value, cycles: int, name: str):
            for cycle in range(cycles):
                stage = Signal.like(value, name=f"{name}_{cycle + 1}")
                m.d.sync += stage.eq(value)
                value = stage
            return value

        # Decision
        head_bits = self.instruction.payload.bits
        bits = Signal.like(head_bits)
        head, store, scale = seen_as("StLBUF", head_bits), seen_as("StLBUF", bits), seen_as("LdScale", bits)
        busy, is_scale, planes, is_signed = Signal(), Signal(), Signal(), Signal()
        issuing = Signal() if vector else self.issuing      # of all but Pool
        is_add, is_pool, pool = (Signal(), Signal(), seen_as("Pool", bits)) if vector else (C(0), C(0), store)
        if vector:
            m.submodules.residuals = residuals = Residuals(config)
            m.submodules.pooling = pooling = Pooling(config)
            m.d.comb += self.issuing.eq(issuing | pooling.issuing)

        def either(of_pool, of_store):
            """What belongs to the instruction under way: a Pool or another."""
            return Mux(is_pool, of_pool(), of_store) if vector else of_store
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
        longest = STORE_LATENCY + (POOL_LATENCY + groups - 1 + ADD_LATENCY if vector else 0)
        remaining = Signal(range(longest + 1))           # cycles from the last read to the tokens
        last = issuing & block_ends & (row == last_row)
        m.d.comb += [
            group_ends.eq(group == groups - 1),
            block_ends.eq(group_ends & (block == last_block)),
        ]
        with m.If(issuing):
            m.d.sync += group.eq(Mux(group_ends, 0, group + 1))
            with m.If(group_ends):
                m.d.sync += block.eq(~block_ends)
            with m.If(block_ends):
                m.d.sync += row.eq(row + 1)
        with m.If(last):
            m.d.sync += [issuing.eq(0), remaining.eq(Mux(is_scale, SCALE_LATENCY, STORE_LATENCY))]
            if vector:
                m.d.comb += residuals.set.eq(is_add)
                with m.If(is_add):
                    m.d.sync += remaining.eq(SET_ADD_LATENCY)
                with m.Elif(~is_scale & residuals.active):
                    m.d.sync += remaining.eq(STORE_LATENCY + ADD_LATENCY)
        if vector:
            behind = POOL_LATENCY + groups - 1 + STORE_LATENCY
            with m.If(pooling.ends):
                m.d.sync += remaining.eq(Mux(residuals.active, behind + ADD_LATENCY, behind))
        with m.If(remaining != 0):
            m.d.sync += remaining.eq(remaining - 1)
        with m.If(remaining == 1):
            m.d.comb += [self.tokens.signal.eq(store.signal), self.tokens.signal_group.eq(store.group)]
            m.d.sync += busy.eq(0)
            if vector:
                m.d.comb += residuals.clear.eq(~is_scale & ~is_add)
        with m.If(~busy):      # the registers follow the head of the queue until the decision: a late `ready` reaches two of them only
            to_scale = head.opcode == OPCODES["LdScale"].code if scales else C(0)
            head_scale = seen_as("LdScale", head_bits)
            m.d.sync += [
                bits.eq(head_bits),
                busy.eq(decide),
                issuing.eq(decide),
                is_scale.eq(to_scale),
                planes.eq(head.output == Output.INT32),
                is_signed.eq(head.output == Output.INT8),
                row.eq(0),
                last_row.eq(Mux(to_scale, (head_scale.blocks << 3) - 1, head.rows - 1)),
                block.eq(0),
                last_block.eq(~to_scale & head.wide if pairs == 2 else 0),
                group.eq(0),
            ]
            if vector:
                to_add, to_pool = (head.opcode == OPCODES[name].code for name in WINDOWED)
                head_pool = seen_as("Pool", head_bits)
                m.d.sync += [is_add.eq(to_add), is_pool.eq(to_pool)]
                with m.If(to_add):
                    m.d.sync += [last_row.eq(0), last_block.eq(0)]
                with m.If(to_pool):
                    m.d.sync += [issuing.eq(0), planes.eq(0), is_signed.eq(head_pool.output), last_block.eq(0)]
                m.d.comb += [pooling.load.eq(1), pooling.start.eq(decide & to_pool), pooling.pool.eq(head_pool)]

        # Reads: a wide tile's row lies in every pair, a narrow one's in pair row mod 2
        narrow = ~store.wide if pairs == 2 else C(0)
        position = Mux(narrow, row >> 1, row)
        m.d.comb += [
            self.accumulators.enable.eq(issuing & ~is_scale & ~is_add if vector else issuing & ~is_scale),
            self.accumulators.half.eq(store.half),
            self.accumulators.pair.eq(Mux(narrow, row[0], block)),
            self.accumulators.bank.eq(position[0]),
            self.accumulators.word.eq(position >> 1),
            self.read.enable.eq(issuing & is_scale),
            self.read.slice.eq(scale.slice),
            self.read.addresses[0].eq(scale.address + row),
        ]
        if vector:
            m.d.comb += pooling.read.data[0].eq(self.read.data[0])
            with m.If(is_pool):
                m.d.comb += [self.read.enable.eq(pooling.read.enable), self.read.slice.eq(pooling.read.slice),
                             self.read.addresses[0].eq(pooling.read.addresses[0])]

        # Parameters and sums of a lane group, registered together
        if scales:
            m.submodules.parameters = parameters = ColumnParameters(config)
        loading = delayed(Cat(self.read.enable & ~is_pool if vector else self.read.enable, row[:4], group), SCALE_DELAY, "loading")
        fetch, fetch_group = self.accumulators.enable, group
        if vector:
            fetch, fetch_group = fetch | pooling.fetch, either(lambda: pooling.group, group)
        chosen_block, chosen_group = delayed(block, SUM_DELAY - 1, "block"), delayed(fetch_group, SUM_DELAY - 1, "group")
        if scales:
            m.d.comb += [
                parameters.load.eq(loading[0]),
                parameters.byte.eq(loading[1:4]),
                parameters.load_block.eq(loading[4]),
                parameters.load_group.eq(loading[5:]),
                parameters.word.eq(delayed(self.read.data[0], 1, "word")),
                parameters.enable.eq(either(lambda: pool.average, store.parameters)),
                parameters.block.eq(chosen_block),
                parameters.group.eq(chosen_group),
            ]
        totals, results = [], []
        kind, factory = ("requantiser", Requantiser) if scales else ("float_result", FloatResult)
        for lane in range(lanes):
            result = place(m, platform, instance=f"lane_{lane}", module=kind, factory=factory)
            column = Signal(signed(32), name=f"sum_{lane}")
            sums = self.accumulators.data[lane::lanes]
            if vector:
                sums = [Mux(is_pool, reduced, total.as_signed()) for reduced, total in zip(pooling.reduced[lane::lanes], sums)]
            m.d.sync += column.eq(select(m, platform, f"column_{lane}", sums, chosen_group))
            m.d.comb += result.sum.eq(column)
            if scales:
                m.d.comb += [
                    result.bias.eq(parameters.bias[lane]),
                    result.multiplier.eq(parameters.multiplier[lane]),
                    result.zero_point.eq(either(lambda: pool.zero_point, store.zero_point)),
                    result.is_signed.eq(is_signed),
                ]
            m.d.comb += result.relu.eq(either(lambda: pool.relu, store.relu))
            totals.append(result.total)
            results.append(result.result)

        # Words: each lane group is shifted in at the top; after the last one every column is in its place
        flight, arrived = Signal(RESULT_DELAY - 1), Signal()      # bit i: an OBUF read issued i + 1 cycles ago
        m.d.sync += [
            flight.eq(Cat(fetch, flight)),
            arrived.eq(Mux(planes, flight[TOTAL_DELAY - 2], flight[RESULT_DELAY - 2])),
        ]
        if vector:
            adding = Signal(ADD_LATENCY)
            m.d.sync += adding.eq(Cat(flight[-1] & residuals.active, adding))
            with m.If(residuals.active & ~planes):
                m.d.sync += arrived.eq(adding[-1])
            m.d.comb += [
                residuals.fields.eq(seen_as("SetAdd", bits)), residuals.expect.eq(flight[RESULT_DELAY - READ_AHEAD - 1]),
                residuals.wide.eq(last_block), residuals.is_signed.eq(is_signed),
                *(own.eq(result) for own, result in zip(residuals.own, results)),
            ]
            wiring.connect(m, residuals.read, wiring.flipped(self.residual))
            results = [Mux(residuals.active, with_residual, result) for with_residual, result in zip(residuals.sums, results)]
        gathered = Signal.like(group)
        complete = arrived & (gathered == groups - 1)
        targets = [Signal(16, name=f"target_{i}") for i in range(pairs)]       # one running address a block
        target_block, first = Signal(), Signal(ceil_log2(words))               # place of the first word
        m.d.comb += first.eq(Mux(target_block, targets[-1], targets[0]))
        planes_of = [Cat(total.word_select(plane, size) for total in totals) for plane in range(words)]
        whole = [Mux(planes, planes_of[0], Cat(results)), *planes_of[1:]]
        for spot in range(words):
            word, parts = self.write.data[spot], select(m, platform, f"place_{spot}", whole, (spot - first)[:len(first)])
            with m.If(arrived):
                m.d.sync += word.eq(Cat(word[size * lanes:], parts))

        # Addresses
        if vector:
            column_left = Signal.like(pool.columns)
        m.d.sync += self.write.enable.eq(Mux(complete, Mux(planes, (1 << words) - 1, 1 << first), 0))
        with m.If(arrived):
            m.d.sync += gathered.eq(Mux(complete, 0, gathered + 1))
        with m.If(complete):
            m.d.sync += [self.write.address.eq(Mux(target_block, targets[-1], targets[0])), target_block.eq(last_block & ~target_block)]
            for i, target in enumerate(targets):
                with m.If(target_block == i):
                    m.d.sync += target.eq(target + Mux(planes, words, 1))
            if vector:
                m.d.sync += column_left.eq(Mux(column_left == 1, pool.columns, column_left - 1))
                with m.If(is_pool & (column_left == 1)):
                    m.d.sync += targets[0].eq(targets[0] + pool.line_step)
        with m.If(~busy):
            m.d.sync += target_block.eq(0)
            for i, target in enumerate(targets):
                m.d.sync += target.eq(head.address + (head.pitch if i else 0))
            if vector:
                m.d.sync += column_left.eq(head_pool.columns)
                with m.If(to_pool):
                    m.d.sync += targets[0].eq(head_pool.address)
        m.d.comb += [
            self.write.slice.eq(either(lambda: pool.slice, store.slice)),
            self.words.eq(Mux(self.write.enable.any(), Mux(planes, words, 1), 0)),
        ]
        return m

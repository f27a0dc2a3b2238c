"""Column parameters: bias and multiplier of every column, as LdScale brings them."""

from amaranth import C, Cat, Module, Signal, signed
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from gen.config import Config
from rtl.arith.multiplexer import select

RECORD_BYTES = 8        # of a column: int32 bias, fp32 multiplier
ONE = 0x3F80_0000       # fp32 1.0


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

"""The global buffer of a group: slices of banked memory between main memory, the loaders and the store unit."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from gen.config import Config
from rtl.buffer.block_memory import BlockMemory
from rtl.interfaces import ADDRESS_BITS, SLICE_BITS, BufferRead, BufferWrite
from rtl.sharing import place

READERS = ("load_h", "load_v", "dma_out", "store_read")
WRITERS = ("dma_in", "store_write")


def choose(values: list, index):
    """`values[index]` as a tree of two-way multiplexers; an index beyond the end gives any of the values."""
    if len(values) == 1:
        return values[0]
    half = 1 << (ceil_log2(len(values)) - 1)
    return Mux(index[ceil_log2(half)], choose(values[half:], index), choose(values[:half], index))


class Slice(wiring.Component):
    """One slice: `banks` block RAMs with one read and one write port each.

    ``read[r]`` and ``write[w]`` are one-hot: the reader and the writer that use the slice in this cycle; each offers a row for every bank.
    Data appears two cycles after the row. A word written in t is read by a row offered in t + 1; offered in t it reads anything.
    """

    def __init__(self, config: Config):
        self._banks = config.banks
        self._depth = config.buffers.slice_words // config.banks
        self._word = 8 * config.array.side
        row = ceil_log2(self._depth)
        super().__init__({
            "read": In(len(READERS)),
            "read_rows": In(row).array(len(READERS), self._banks),
            "data": Out(self._word).array(self._banks),
            "write": In(len(WRITERS)),
            "write_enables": In(self._banks).array(len(WRITERS)),
            "write_rows": In(row).array(len(WRITERS), self._banks),
            "write_data": In(self._word).array(len(WRITERS), self._banks),
        })

    def elaborate(self, platform):
        m = Module()
        row_bits = ceil_log2(self._depth)
        for bank in range(self._banks):
            storage = place(m, platform, instance=f"bank{bank}", module="global_buffer_bank",
                            factory=lambda: BlockMemory(depth=self._depth, width=self._word))
            row = 0
            for reader in range(len(READERS)):
                row |= self.read_rows[reader][bank] & self.read[reader].replicate(row_bits)
            m.d.comb += [storage.read_address.eq(row), storage.read.eq(self.read.any()), self.data[bank].eq(storage.read_data)]
            pick = self.write[1]  # the two never write one slice together
            m.d.comb += [
                storage.write.eq(choose([self.write_enables[0][bank] & self.write[0], self.write_enables[1][bank]], pick)),
                storage.write_address.eq(choose([self.write_rows[w][bank] for w in range(2)], pick)),
                storage.write_data.eq(choose([self.write_data[w][bank] for w in range(2)], pick)),
            ]
        return m


class GlobalBuffer(wiring.Component):
    """`slices` slices of `slice_words` words of `side` bytes. Addresses count modulo `slice_words`; contents start at zero.

    Read: enable, slice and addresses in t, data in t + 3. A reader's words must lie in different banks or be the same word: of several
    lanes that address one bank the first is served, the others get its word, so that a lane nobody uses cannot spoil a lower one.
    Write: presented in t, read by reads issued from t + 2; the enabled words of ``words`` consecutive ones, at any address.
    Every port accepts a transfer a cycle. ``collision`` pulses in the cycle after two readers, or two writers, used one slice;
    what they got is undefined. Nothing checks conflicts between the lanes of one reader, or slice numbers beyond the last.
    """

    def __init__(self, config: Config):
        self._config = config
        super().__init__({
            "load_h": In(BufferRead(config, words=config.load_words)),
            "load_v": In(BufferRead(config, words=config.load_words)),
            "dma_out": In(BufferRead(config, words=config.beat_words)),
            "store_read": In(BufferRead(config, words=1)),
            "dma_in": In(BufferWrite(config, words=config.beat_words)),
            "store_write": In(BufferWrite(config, words=4)),
            "collision": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        config = self._config
        slices = [place(m, platform, instance=f"slice{i}", module="global_buffer_slice", factory=lambda: Slice(config))
                  for i in range(config.buffers.slices)]
        readers = [getattr(self, name) for name in READERS]
        writers = [getattr(self, name) for name in WRITERS]
        for r, reader in enumerate(readers):
            self._connect_reader(m, slices, r, reader, READERS[r])
        for w, writer in enumerate(writers):
            self._connect_writer(m, slices, w, writer, WRITERS[w])

        uses = [[(port.enable.any(), port.slice) for port in ports] for ports in (readers, writers)]
        m.d.sync += self.collision.eq(Cat(used & other & (where == there) for ports in uses for i, (used, where) in enumerate(ports)
                                          for other, there in ports[:i]).any())
        return m

    def _connect_reader(self, m, slices, r: int, reader, name: str):
        banks = self._config.banks
        bits = ceil_log2(banks)
        for bank in range(banks):
            row = reader.addresses[-1][bits:]
            for address in reversed(list(reader.addresses)[:-1]):
                row = Mux(address[:bits] == bank, address[bits:], row)
            for part in slices:
                m.d.comb += part.read_rows[r][bank].eq(row)
        for i, part in enumerate(slices):
            m.d.comb += part.read[r].eq(reader.enable & (reader.slice == i))

        # The slice and the banks that were asked travel with the data.
        slice_1, slice_2 = (Signal(SLICE_BITS, name=f"{name}_slice_{i}") for i in (1, 2))
        m.d.sync += [slice_1.eq(reader.slice), slice_2.eq(slice_1)]
        by_bank = [choose([part.data[bank] for part in slices], slice_2) for bank in range(banks)]
        words = []
        for bank, word in enumerate(by_bank):
            words.append(Signal(8 * self._config.array.side, name=f"{name}_bank{bank}"))
            m.d.comb += words[-1].eq(word)
        for lane, address in enumerate(reader.addresses):
            bank_1, bank_2 = (Signal(bits, name=f"{name}_lane{lane}_bank_{i}") for i in (1, 2))
            data = Signal(8 * self._config.array.side, name=f"{name}_data{lane}", reset_less=True)
            m.d.sync += [bank_1.eq(address[:bits]), bank_2.eq(bank_1), data.eq(choose(words, bank_2))]
            m.d.comb += reader.data[lane].eq(data)

    def _connect_writer(self, m, slices, w: int, writer, name: str):
        banks = self._config.banks
        bits = ceil_log2(banks)
        lanes = len(writer.data)
        first, row = writer.address[:bits], writer.address[bits:]
        following = Signal(ADDRESS_BITS - bits, name=f"{name}_following")
        m.d.comb += following.eq(row + 1)
        where = Signal(SLICE_BITS, name=f"{name}_slice")
        enables = Signal(banks, name=f"{name}_enables")
        used = Signal(name=f"{name}_used")
        m.d.sync += [where.eq(writer.slice), used.eq(writer.enable.any())]
        for bank in range(banks):
            lane = Signal(bits, name=f"{name}_bank{bank}_lane")
            m.d.comb += lane.eq(bank - first)
            bank_row = Signal(ADDRESS_BITS - bits, name=f"{name}_bank{bank}_row", reset_less=True)
            word = Signal(8 * self._config.array.side, name=f"{name}_bank{bank}_word", reset_less=True)
            m.d.sync += [
                enables[bank].eq(Cat((lane == i) & writer.enable[i] for i in range(lanes)).any()),
                bank_row.eq(Mux(first > bank, following, row)),
                word.eq(choose(list(writer.data), lane)),
            ]
            for part in slices:
                m.d.comb += [part.write_rows[w][bank].eq(bank_row), part.write_data[w][bank].eq(word)]
        for i, part in enumerate(slices):
            m.d.comb += [part.write[w].eq(used & (where == i)), part.write_enables[w].eq(enables)]

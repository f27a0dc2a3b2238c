"""The global buffer of a group: slices of banked memory between main memory, the loaders and the store unit."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from gen.config import Config
from rtl.arith.multiplexer import choose, select
from rtl.buffer.block_memory import BlockMemory
from rtl.interfaces import BufferRead, BufferWrite
from rtl.sharing import place

READ_LATENCY = 3    # addresses to data


def readers(config: Config) -> tuple[str, ...]:
    """The read ports of a global buffer."""
    if config.floating:
        return "load_h", "load_v", "dma_out", "vector_a", "vector_b"
    return ("load_h", "load_v", "dma_out", "store_read", *(("residual",) if config.vector.window else ()))


def writers(config: Config) -> tuple[str, ...]:
    """The write ports of a global buffer."""
    return ("dma_in", "store_write", *(("vector_write",) if config.floating else ()))


class Slice(wiring.Component):
    """One slice: `banks` block RAMs with one read and one write port each.

    ``reader`` and ``writer`` say who uses the slice in this cycle, if ``read`` (``write``) is high; each offers a row for every bank.
    Data appears two cycles after the row. A word written in t is read by a row offered in t + 1; offered in t it reads anything.
    """

    def __init__(self, config: Config):
        self._banks = config.banks
        self._depth = config.buffers.slice_words // config.banks
        self._word = 8 * config.word_bytes
        row, count, sources = ceil_log2(self._depth), len(readers(config)), len(writers(config))
        super().__init__({
            "read": In(1),
            "reader": In(range(count)),
            "read_rows": In(row).array(count, self._banks),
            "data": Out(self._word).array(self._banks),
            "write": In(1),
            "writer": In(range(sources)),
            "write_enables": In(self._banks).array(sources),
            "write_rows": In(row).array(sources, self._banks),
            "write_data": In(self._word).array(sources, self._banks),
        })

    def elaborate(self, platform):
        m = Module()
        for bank in range(self._banks):
            storage = place(m, platform, instance=f"bank{bank}", module="global_buffer_bank",
                            factory=lambda: BlockMemory(depth=self._depth, width=self._word))

            def written(values, bank=bank):
                return choose([of_writer[bank] for of_writer in values], self.writer)

            row = select(m, platform, f"row{bank}", [rows[bank] for rows in self.read_rows], self.reader)
            m.d.comb += [
                storage.read.eq(self.read),
                storage.read_address.eq(row),
                self.data[bank].eq(storage.read_data),
                storage.write.eq(self.write & written(self.write_enables)),
                storage.write_address.eq(written(self.write_rows)),
                storage.write_data.eq(written(self.write_data)),
            ]
        return m


class GlobalBuffer(wiring.Component):
    """`slices` slices of `slice_words` words of `side` operands. Addresses count modulo `slice_words`; contents start at zero.

    Read: enable, slice and addresses in t, data in t + 3 (to be registered: it comes through multiplexers). The words of ``load_h``, of
    bf16 also of ``load_v``, must lie in different banks or be the same word: of several lanes that address one bank the first is served,
    the others get its word, so that a lane nobody uses cannot spoil a lower one. The others (`readers` says which there are) read at most
    `banks` consecutive words from their first address: lane i of ``dma_out`` is word i, a lane of ``load_v`` any of them.
    Write: presented in t, read by reads issued from t + 2; the enabled words of consecutive ones, at any address. All but ``dma_in`` offer
    the word for address a in place a mod `planes`: what they write needs no multiplexers here.
    Every port accepts a transfer a cycle. ``collision`` pulses in the cycle after two readers, or two writers, used one slice;
    what they got is undefined. Nothing checks conflicts between the lanes of one reader, or slice numbers beyond the last.

    Of the three cycles of a read the first ends in registers of rows (from the addresses, which may be sums), the others in the memories.
    """

    def __init__(self, config: Config):
        self._config = config
        self._bank_bits = ceil_log2(config.banks)
        self._row_bits = ceil_log2(config.buffers.slice_words // config.banks)
        super().__init__({
            "load_h": In(BufferRead(config, words=config.load_words)),
            "load_v": In(BufferRead(config, words=config.load_words)),
            "dma_out": In(BufferRead(config, words=config.beat_words)),
            **{name: In(BufferRead(config, words=config.planes if config.floating else 1)) for name in readers(config)[3:]},
            "dma_in": In(BufferWrite(config, words=config.beat_words)),
            **{name: In(BufferWrite(config, words=config.planes)) for name in writers(config)[1:]},
            "collision": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        config = self._config
        slices = [place(m, platform, instance=f"slice{i}", module="global_buffer_slice", factory=lambda: Slice(config))
                  for i in range(config.buffers.slices)]
        reading = [getattr(self, name) for name in readers(config)]
        writing = [getattr(self, name) for name in writers(config)]

        # Who uses which slice: known in t, for the memories in t + 1.
        uses = [[(port.enable.any(), port.slice) for port in ports] for ports in (reading, writing)]
        m.d.sync += self.collision.eq(Cat(used & other & (where == there) for ports in uses for i, (used, where) in enumerate(ports)
                                          for other, there in ports[:i]).any())
        for i, part in enumerate(slices):
            for ports, used, user in ((uses[0], part.read, part.reader), (uses[1], part.write, part.writer)):
                here = [enable & (where == i) for enable, where in ports]
                some, who = Signal.like(used, name=f"{used.name}_slice{i}"), Signal.like(user, name=f"{user.name}_slice{i}")
                m.d.sync += [some.eq(Cat(here).any()), who.eq(number(here))]
                m.d.comb += [used.eq(some), user.eq(who)]

        for r, (reader, name) in enumerate(zip(reading, readers(config))):
            scattered = name == "load_h" or (name == "load_v" and config.floating)
            rows = self._scattered_rows(m, platform, reader, name) if scattered else self._rows(m, reader.addresses[0], name)
            for part in slices:
                m.d.comb += [there.eq(row) for there, row in zip(part.read_rows[r], rows)]
            where = self._delayed(m, reader.slice, f"{name}_slice")
            if name in ("load_h", "load_v"):
                self._cross(m, platform, slices, where, reader, name)
            else:
                self._run(m, platform, slices, where, reader, name)
        for w, (writer, name) in enumerate(zip(writing, writers(config))):
            rows, enables, words = self._rows(m, writer.address, name), *self._written(m, writer, name)
            for part in slices:
                m.d.comb += [there.eq(row) for there, row in zip(part.write_rows[w], rows)]
                m.d.comb += [there.eq(word) for there, word in zip(part.write_data[w], words)]
                m.d.comb += part.write_enables[w].eq(enables)
        return m

    def _split(self, address):
        """Bank and row of an address."""
        return address[:self._bank_bits], address[self._bank_bits:self._bank_bits + self._row_bits]

    def _delayed(self, m, value, name: str, cycles: int = READ_LATENCY):
        """What belongs to a read's address, when its data comes."""
        for cycle in range(1, cycles + 1):
            stage = Signal.like(value, name=f"{name}_{cycle}", reset_less=True)
            m.d.sync += stage.eq(value)
            value = stage
        return value

    def _rows(self, m, address, name: str) -> list:
        """Registered rows of `banks` consecutive words, by bank."""
        first, row = self._split(address)
        following = Signal.like(row, name=f"{name}_following")
        m.d.comb += following.eq(row + 1)
        return [self._delayed(m, Mux(first > bank, following, row), f"{name}_bank{bank}_row", 1) for bank in range(self._config.banks)]

    def _scattered_rows(self, m, platform, reader, name: str) -> list:
        """Rows by bank of words anywhere: the row of the first lane that asks for a bank."""
        asked = [self._split(address) for address in reader.addresses]
        rows = [self._delayed(m, row, f"{name}_lane{lane}_row", 1) for lane, (_, row) in enumerate(asked)]
        by_bank = []
        for bank in range(self._config.banks):
            # In gates: from a choice of constants synthesis would make resets, which come later than data may.
            asks = Cat(lane_bank == bank for lane_bank, _ in asked[:-1])
            lane = number([(asks[i] if i < len(asks) else 1) & ~asks[:i].any() for i in range(len(asked))]) if len(asks) else Const(0, 1)
            by_bank.append(select(m, platform, f"{name}_bank{bank}_row", rows, self._delayed(m, lane, f"{name}_bank{bank}_lane", 1)))
        return by_bank

    def _cross(self, m, platform, slices, where, reader, name: str):
        """Data of a loader: every lane from any bank."""
        words = []
        for bank in range(self._config.banks):
            words.append(select(m, platform, f"{name}_bank{bank}", [part.data[bank] for part in slices], where))
        for lane, (address, data) in enumerate(zip(reader.addresses, reader.data)):
            bank = self._delayed(m, self._split(address)[0], f"{name}_lane{lane}_bank")
            m.d.comb += data.eq(select(m, platform, f"{name}_lane{lane}", words, bank))

    def _run(self, m, platform, slices, where, reader, name: str):
        """Data of consecutive words. With w lanes, banks b, b + w, ... hold the words of one lane only: chosen first, then put in order."""
        banks, lanes = self._config.banks, len(reader.data)
        first, lane_bits = self._split(reader.addresses[0])[0], ceil_log2(lanes)
        words = []
        for column in range(lanes):
            # The column's word lies behind the first one: in the first one's row of columns, or in the next.
            bank = Signal(self._bank_bits, name=f"{name}_column{column}_bank")
            m.d.comb += bank.eq(first + ((column - first)[:lane_bits] if lane_bits else 0))
            chosen = self._delayed(m, bank[lane_bits:], f"{name}_column{column}")
            values = [part.data[b] for part in slices for b in range(column, banks, lanes)]
            words.append(select(m, platform, f"{name}_column{column}", values, Cat(chosen, where)))
        turn = self._delayed(m, first[:lane_bits], f"{name}_turn")
        for lane, data in enumerate(reader.data):
            m.d.comb += data.eq(choose(words, (turn + lane)[:lane_bits]) if lane_bits else words[0])

    def _written(self, m, writer, name: str) -> tuple:
        """Registered enables and words by bank."""
        first, lanes, turned = self._split(writer.address)[0], len(writer.data), name != "dma_in"
        enables, words = Signal(self._config.banks, name=f"{name}_enables"), []
        for bank in range(self._config.banks):
            lane = Signal(self._bank_bits, name=f"{name}_bank{bank}_lane")      # word of the run that belongs there
            m.d.comb += lane.eq(bank - first)
            place = bank % lanes if turned else 0
            m.d.sync += enables[bank].eq((lane < lanes) & writer.enable[place] if turned
                                         else Cat((lane == i) & writer.enable[i] for i in range(lanes)).any())
            words.append(self._delayed(m, writer.data[place] if turned else choose(list(writer.data), lane), f"{name}_bank{bank}_word", 1))
        return enables, words


def number(flags: list):
    """Number of the flag that is set; of several or none, any."""
    bits = range(ceil_log2(len(flags)))
    return Cat(Cat(flag for i, flag in enumerate(flags) if i >> bit & 1).any() for bit in bits)

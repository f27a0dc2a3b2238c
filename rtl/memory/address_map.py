"""From a block number to channel, rank, bank, row and column: layout, XOR hash, and the swap that keeps the reserved banks apart."""

from amaranth.hdl import Cat, Module, Mux
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from gen.dram import DramConfig
from rtl.memory.interfaces import location_layout


class AddressMap(wiring.Component):
    """Combinational; a bijection from block numbers to (channel, location). See "Addresses" in rtl/memory/README.md.

    The hash takes the raw row, before the swap. `location.bank` is the bank id (bank in group * bank groups + bank group).
    `channel` is 0 (not a port without bits) where there is one channel.
    """

    def __init__(self, config: DramConfig):
        self.config = config
        super().__init__({
            "block": In((config.blocks - 1).bit_length()),
            "channel": Out(max(1, config.field_bits["channel"])),
            "location": Out(location_layout(config)),
        })

    def elaborate(self, platform):
        m = Module()
        config = self.config
        bits: dict[str, list] = {name: [] for name in config.field_bits}
        position = 0
        for name, width in config.layout:
            bits[name] += [self.block[position + i] for i in range(width)]
            position += width
        row = Cat(bits["row"])
        hashed = {name: Cat(bit ^ (row & mask).xor() if mask else bit for bit, mask in zip(bits[name], masks))
                  for name, masks in config.hash_masks.items()}
        bank = hashed["bank"]
        if count := config.swapped_bits:
            high, top = bank[-count:], row[-count:]
            swap = high.all() ^ top.all()
            bank, row = Cat(bank[:-count], Mux(swap, top, high)), Cat(row[:-count], Mux(swap, high, top))
        m.d.comb += [
            self.channel.eq(hashed["channel"]), self.location.rank.eq(hashed["rank"]), self.location.bank.eq(bank),
            self.location.row.eq(row), self.location.column.eq(Cat(bits["column"])),
        ]
        return m

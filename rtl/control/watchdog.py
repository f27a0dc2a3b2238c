"""The watchdog: tells a deadlock, which is instructions waiting for tokens or credits that no unit will give."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from rtl.buffer.block_memory import BlockMemory

PATIENCE = 64       # cycles without activity


class Watchdog(wiring.Component):
    """Raises `expired` in the 64th cycle in a row in which nothing was `active` while some unit was `waiting`.

    Both are registered first. `unit` and `slot` are the first waiting unit, in the order of the ports, and the slot it names then, two
    cycles later; nothing changes while all stand still.
    """

    def __init__(self, *, units: int, slot_bits: int):
        self.units = units
        super().__init__({
            "active": In(1),
            "waiting": In(units),
            "slots": In(slot_bits).array(units),
            "expired": Out(1),
            "unit": Out(range(units)),
            "slot": Out(slot_bits),
        })

    def elaborate(self, platform):
        m = Module()
        still, waiting, cycles = Signal(), Signal(self.units), Signal(range(PATIENCE))
        m.d.sync += [still.eq(~self.active & self.waiting.any()), waiting.eq(self.waiting), cycles.eq(0)]
        with m.If(still):
            m.d.sync += cycles.eq(cycles + ~self.expired)
        m.d.comb += self.expired.eq(still & (cycles == PATIENCE - 2))   # one cycle is in `still`, and this one is like those before
        for unit in reversed(range(self.units)):
            with m.If(waiting[unit]):
                m.d.sync += [self.unit.eq(unit), self.slot.eq(self.slots[unit])]
        return m


class Journal(wiring.Component):
    """Where in the program the instructions are that the queues hold.

    `note` writes the index `written` of the instruction that unit `number` gets into its slot `slot`. Two cycles later it can be read:
    `index` is that of the instruction in `read_slot` of unit `read_number`, two cycles after these.
    """

    def __init__(self, *, units: int, slot_bits: int):
        self.units, self.slot_bits = units, slot_bits
        super().__init__({
            "note": In(1),
            "number": In(range(units)),
            "slot": In(slot_bits),
            "written": In(32),
            "read_number": In(range(units)),
            "read_slot": In(slot_bits),
            "index": Out(32),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.memory = memory = BlockMemory(width=32, depth=1 << self.slot_bits + ceil_log2(self.units))
        m.d.sync += [
            memory.write.eq(self.note),
            memory.write_address.eq(Cat(self.slot, self.number)),
            memory.write_data.eq(self.written),
        ]
        m.d.comb += [                                   # read only when all stand still
            memory.read.eq(1),
            memory.read_address.eq(Cat(self.read_slot, self.read_number)),
            self.index.eq(memory.read_data),
        ]
        return m

"""The register file: what a host writes to start a program and reads when it is done."""

from functools import reduce
from operator import or_

from amaranth.hdl import Cat, Module, Mux
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from gen.config import Config
from gen.isa import VERSION, Cause
from gen.registers import GROUP_BASE, IDENTITY, registers
from rtl.control.counters import GROUP_SLOTS, SHARED_FROM, SPAN, scan_cycles, sums

ADDRESS_BITS = 12


class RegisterBus(wiring.Signature):
    """A plain register bus: byte address, write in the same cycle, read data in the next. The lower two address bits are ignored."""

    def __init__(self):
        super().__init__({"address": Out(ADDRESS_BITS), "write_enable": Out(1), "write_data": Out(32), "read_data": In(32)})


class RegisterFile(wiring.Component):
    """The registers of `gen.registers`. Unknown addresses read zero; writes while `busy`, and to registers that are only read, are ignored.

    A one written to bit 0 of `control` raises `start` in the same cycle. `program` and `count` keep their values over starts. `slot` is
    where `Counters` is to look for the counter at the present address, `sum` what it finds there in the same cycle: while `busy`, anything.
    """

    def __init__(self, config: Config):
        self.config = config
        super().__init__({
            "bus": In(RegisterBus()),
            "start": Out(1),
            "program": Out(32),
            "count": Out(32),
            "busy": In(1),
            "done": In(1),
            "cause": In(Cause),
            "error_index": In(32),
            "slot": Out(ceil_log2(scan_cycles(config))),
            "sum": In(32),
            "span": In(32),
        })

    def elaborate(self, platform):
        m = Module()
        offsets = {item.name: item.offset for item in registers(self.config.array.groups)}
        assert max(offsets.values()) < 1 << ADDRESS_BITS
        values = {
            "identity": IDENTITY,
            "version": VERSION,
            "status": Cat(self.busy, self.done, self.done & (self.cause != Cause.NONE)),
            "cause": self.cause,
            "error_index": self.error_index,
            "program": self.program,
            "count": self.count,
            SPAN: self.span,
        }
        word = self.bus.address[2:]
        chosen = [Mux(word == offsets[name] >> 2, value, 0) for name, value in values.items()]
        chosen.append(Mux(Cat(word == offsets[name] >> 2 for name in sums(self.config)).any(), self.sum, 0))
        m.d.sync += self.bus.read_data.eq(reduce(or_, chosen))
        # The groups' registers lie in their own order in the slots, those of the whole machine above them in the first group's.
        of_group = word >= GROUP_BASE >> 2
        within = word[:ceil_log2(GROUP_SLOTS)]
        m.d.comb += self.slot.eq(Mux(of_group, word - (GROUP_BASE >> 2), SHARED_FROM + within))
        with m.If(self.bus.write_enable & ~self.busy), m.Switch(word):
            with m.Case(offsets["control"] >> 2):
                m.d.comb += self.start.eq(self.bus.write_data[0])
            with m.Case(offsets["program"] >> 2):
                m.d.sync += self.program.eq(self.bus.write_data)
            with m.Case(offsets["count"] >> 2):
                m.d.sync += self.count.eq(self.bus.write_data)
        return m

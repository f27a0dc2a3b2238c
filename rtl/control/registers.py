"""The register file: what a host writes to start a program and reads when it is done."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from gen.config import Config
from gen.isa import VERSION, Cause
from gen.registers import GLOBAL, IDENTITY, registers

ADDRESS_BITS = 12
CONTROL = [name for name, _, _ in GLOBAL[:8]]      # the registers before the counters


def counter_names(config: Config) -> list[str]:
    """The counters, in the order of their registers."""
    return [item.name for item in registers(config.array.groups) if item.name not in CONTROL]


class RegisterBus(wiring.Signature):
    """A plain register bus: byte address, write in the same cycle, read data in the next. The lower two address bits are ignored."""

    def __init__(self):
        super().__init__({"address": Out(ADDRESS_BITS), "write_enable": Out(1), "write_data": Out(32), "read_data": In(32)})


class RegisterFile(wiring.Component):
    """The registers of `gen.registers`. Unknown addresses read zero; writes while `busy`, and to registers that are only read, are ignored.

    A one written to bit 0 of `control` raises `start` in the same cycle. `program` and `count` keep their values over starts.
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
            "counters": In(32).array(len(counter_names(config))),
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
        } | dict(zip(counter_names(self.config), self.counters))
        word, read = self.bus.address[2:], Signal(32)
        with m.Switch(word):
            for name, value in values.items():
                with m.Case(offsets[name] >> 2):
                    m.d.comb += read.eq(value)
        m.d.sync += self.bus.read_data.eq(read)
        with m.If(self.bus.write_enable & ~self.busy), m.Switch(word):
            with m.Case(offsets["control"] >> 2):
                m.d.comb += self.start.eq(self.bus.write_data[0])
            with m.Case(offsets["program"] >> 2):
                m.d.sync += self.program.eq(self.bus.write_data)
            with m.Case(offsets["count"] >> 2):
                m.d.sync += self.count.eq(self.bus.write_data)
        return m

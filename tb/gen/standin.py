"""A small machine with the ports of `rtl.top.Machine`: it copies `count` beats from `program` to behind them and adds one to each byte."""

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from gen.config import Config
from gen.registers import registers
from rtl.interfaces import MemoryPort
from rtl.sharing import place


class Lane(wiring.Component):
    """Adds one to a byte, a cycle later: a module that is shared."""

    def __init__(self):
        super().__init__({"i": In(8), "o": Out(8)})

    def elaborate(self, platform):
        m = Module()
        m.d.sync += self.o.eq(self.i + 1)
        return m


class StandIn(wiring.Component):
    """Read a beat, wait for it, write it, one after the other; sets `cause` to 1 and the index to 7 when `count` is 0xBAD."""

    def __init__(self, config: Config):
        self.config = config
        self.offsets = {item.name: item.offset for item in registers(config.array.groups)}
        super().__init__({
            "registers": In(wiring.Signature({"address": Out(12), "write_enable": Out(1), "write_data": Out(32), "read_data": In(32)})),
            "memory": Out(MemoryPort(config)),
            "done": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        beat, bus, memory = self.config.memory.bytes_per_cycle, self.registers, self.memory
        program, count, cycles, left, bad = Signal(32), Signal(32), Signal(32), Signal(32), Signal()
        start = Signal()
        m.d.comb += start.eq(bus.write_enable & (bus.address == self.offsets["control"]) & bus.write_data[0])
        with m.If(bus.write_enable):
            for name, register in (("program", program), ("count", count)):
                with m.If(bus.address == self.offsets[name]):
                    m.d.sync += register.eq(bus.write_data)
        values = {"program": program, "count": count, "cycles": cycles, "cause": bad, "error_index": bad * 7}
        m.d.sync += bus.read_data.eq(0)
        for name, value in values.items():
            with m.If(bus.address == self.offsets[name]):
                m.d.sync += bus.read_data.eq(value)

        request, response = memory.request, memory.response
        lanes = []
        for i in range(beat):
            lane = place(m, platform, instance=f"lane_{i}", module="standin_lane", factory=Lane)
            m.d.comb += lane.i.eq(response.p.data.word_select(i, 8))
            lanes.append(lane.o)
        source, data = Signal(32), Signal(8 * beat)
        with m.FSM(name="state"):
            with m.State("idle"):
                with m.If(start):
                    m.d.sync += [self.done.eq(0), cycles.eq(0), left.eq(count), source.eq(program), bad.eq(count == 0xBAD)]
                    m.next = "read"
            with m.State("read"):
                with m.If(bad | (left == 0)):
                    m.d.sync += self.done.eq(1)
                    m.next = "idle"
                with m.Else():
                    m.d.comb += [request.valid.eq(1), request.p.address.eq(source), request.p.beats.eq(1), request.p.last.eq(1)]
                    with m.If(request.ready):
                        m.next = "wait"
            with m.State("wait"):
                with m.If(response.valid):
                    m.next = "add"
            with m.State("add"):
                for i, lane in enumerate(lanes):
                    m.d.sync += data.word_select(i, 8).eq(lane)
                m.next = "write"
            with m.State("write"):
                m.d.comb += [request.valid.eq(1), request.p.write.eq(1), request.p.beats.eq(1), request.p.last.eq(1)]
                m.d.comb += [request.p.address.eq(source + count * beat), request.p.data.eq(data)]
                with m.If(request.ready):
                    m.d.sync += [source.eq(source + beat), left.eq(left - 1)]
                    m.next = "read"
        with m.If(~start & ~self.done):
            m.d.sync += cycles.eq(cycles + 1)
        return m

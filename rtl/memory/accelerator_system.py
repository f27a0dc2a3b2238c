"""The accelerator on its own DRAM: machine, bridge and memory system, down to the DRAM's pins."""

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from gen.config import Config
from gen.dram import DramConfig, DramError
from rtl.control.registers import RegisterBus
from rtl.memory.bridge import Bridge
from rtl.memory.memory_system import MemorySystem
from rtl.memory.sdr import ChipPins, SdrMemory
from rtl.top import Machine


class DevicePins(wiring.Signature):
    """Command, address and data pins of a channel as ports of a top: `rtl.memory.interfaces.ChannelPins` without fields of no bits."""

    def __init__(self, config: DramConfig):
        bits, beat = config.field_bits, config.part.beat_bytes
        super().__init__({
            "kind": Out(3),
            "rank": Out(max(1, bits["rank"])),
            "bank": Out(bits["bank"]),
            "row": Out(bits["row"]),
            "column": Out(bits["column"]),
            "write_data": Out(8 * beat),
            "write_mask": Out(beat),
            "read_data": In(8 * beat),
        })


class AcceleratorSystem(wiring.Component):
    """`Machine` behind its register bus, with a DRAM system in place of the memory port. One clock for all.

    The machine's addresses are bytes from the DRAM's start. `ready`: the DRAM takes requests (an SDR chip has to be set up first; a
    machine started earlier waits). `done` rises like the machine's, but only when all that was written is in the DRAM, and falls with the
    next start. `chips` are the wires of SDR chips, `channels` the pins of other parts. `init_cycles`: see `SdrPins`.
    Raises DramError where there are near-data units, which the machine does not use.
    """

    def __init__(self, config: Config, dram: DramConfig, *, init_cycles: int | None = None):
        if dram.reserved:
            raise DramError(f"reserved = {dram.reserved} is outside 0 (accelerator on the DRAM)")
        self.config, self.dram, self.init_cycles = config, dram, init_cycles
        self.sdr = dram.part.family == "sdr"
        super().__init__({
            "registers": In(RegisterBus()),
            "done": Out(1),
            "ready": Out(1),
            **({"chips": Out(ChipPins(dram)).array(dram.channels)} if self.sdr else
               {"channels": Out(DevicePins(dram)).array(dram.channels)}),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.machine = machine = Machine(self.config)
        m.submodules.bridge = bridge = Bridge(self.config, self.dram)
        wiring.connect(m, wiring.flipped(self.registers), machine.registers)
        wiring.connect(m, machine.memory, bridge.accelerator)
        if self.sdr:
            m.submodules.memory = memory = SdrMemory(self.dram, init_cycles=self.init_cycles)
            m.d.comb += self.ready.eq(memory.ready)
            for chip, wires in zip(memory.chips, self.chips):
                wiring.connect(m, chip, wiring.flipped(wires))
        else:
            m.submodules.memory = memory = MemorySystem(self.dram)
            m.d.comb += self.ready.eq(1)
            for pins, wires in zip(memory.channels, self.channels):
                m.d.comb += [
                    wires.kind.eq(pins.pins.command.kind),
                    wires.rank.eq(pins.pins.rank),
                    *(getattr(wires, name).eq(pins.pins.command[name]) for name in ("bank", "row", "column")),
                    wires.write_data.eq(pins.write_data),
                    wires.write_mask.eq(pins.write_mask),
                    pins.read_data.eq(wires.read_data),
                ]
        wiring.connect(m, bridge.dram.request, memory.port.request)
        for there, here in zip(bridge.dram.responses, memory.port.responses):
            wiring.connect(m, here, there)
        m.d.comb += [bridge.dram.active.eq(memory.port.active), bridge.dram.quiet.eq(memory.port.quiet)]

        # `quiet` falls again with every refresh, so once behind the machine's end is enough; the last burst may still be on its way then.
        timing, part = self.dram.timing, self.dram.part
        tail = timing["tCWL"] + part.burst_cycles + 4
        drained, left = Signal(), Signal(range(tail + 1), init=tail)
        with m.If(~machine.done):
            m.d.sync += [drained.eq(0), left.eq(tail)]
        with m.Elif(drained | (bridge.idle & memory.port.quiet)):
            m.d.sync += drained.eq(1)
            with m.If(left != 0):
                m.d.sync += left.eq(left - 1)
        m.d.comb += self.done.eq(machine.done & (left == 0))
        return m

"""SDR SDRAM at the pins: power-up, commands and data of a channel on the wires of a chip."""

from amaranth.hdl import Cat, Const, Module, Mux, ResetInserter, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from gen.dram import SDR_STAGES, DramConfig, DramError
from rtl.memory.interfaces import ChannelPins, Command
from rtl.memory.memory_system import MemorySystem

ALL_BANKS = 10           # address pin that turns PRE into PREA; low in RD and WR: no auto precharge
MODE_BURST = 0b011       # mode register: bursts of eight, sequential; written in bursts as well
MODE_LATENCY_AT = 4


class ChipPins(wiring.Signature):
    """The wires of a chip. cs, ras, cas and we are 1 when asserted: the pins themselves are active low and inverted at the pad.

    The chip's clock is the controller's (a board may shift its phase). The data wires are driven by the controller while `dq_oe`.
    """

    def __init__(self, config: DramConfig):
        width = config.part.bus_bytes
        super().__init__({
            "cke": Out(1),
            "cs": Out(1),
            "ras": Out(1),
            "cas": Out(1),
            "we": Out(1),
            "ba": Out(config.bank_bits),
            "a": Out(max(config.field_bits["row"], ALL_BANKS + 1)),
            "dqm": Out(width),
            "dq_o": Out(8 * width),
            "dq_oe": Out(1),
            "dq_i": In(8 * width),
        })


# ras, cas, we of each command
STROBES = {Command.NONE: 0b000, Command.ACT: 0b001, Command.RD: 0b010, Command.WR: 0b110, Command.PRE: 0b101, Command.PREA: 0b101,
           Command.REF: 0b011}
MODE_STROBES = 0b111


class SdrPins(wiring.Component):
    """Between a channel and a chip: two registers on every output and on the data read, the outer ones in the pads.

    A command and write data on the channel's side in cycle t are on the chip's wires in t+2; the chip's data of cycle t is `read_data` in
    t+2. With `pads` False the outer registers are not in here: a board has them in its pads. So with a chip of CAS latency
    tCL - SDR_STAGES the channel sees exactly its tCL.
    From reset on: `init_cycles` cycles without a command (the part's tINIT when None; shorter only in simulation), precharge all, the
    part's auto refreshes, the mode register; then `ready` rises for good, and only then is a command of the channel taken.
    Masks are dqm; it is 0 while reading, as it acts on read data too.

    What a board must do: the chip takes a command anywhere within its cycle, but its data has to be there when a cycle ends. So send the
    clock out through a double data rate output, as late as the commands, and let it rise half a cycle (inverted) to three quarters of one
    (a phase of the PLL) behind this component's clock; the rest is its datasheet's set-up, hold, tAC and tOH.
    Raises DramError for a part that is not SDR or has other bursts.
    """

    def __init__(self, config: DramConfig, *, init_cycles: int | None = None, pads: bool = True):
        part = config.part
        if part.family != "sdr":
            raise DramError(f"part = {part.name!r} is no SDR part")
        if part.burst != 8:
            raise DramError(f"part {part.name}: burst = {part.burst} is outside 8 words (SDR pins)")
        if part.columns > 1 << ALL_BANKS:
            raise DramError(f"part {part.name}: columns = {part.columns} is outside 64..{1 << ALL_BANKS} (SDR pins)")
        self.latency = config.timing["tCL"] - SDR_STAGES
        if self.latency not in (2, 3):
            raise DramError(f"part {part.name}: tCL = {config.timing['tCL']} is outside {2 + SDR_STAGES}..{3 + SDR_STAGES} (SDR pins)")
        self.init_cycles = config.timing["tINIT"] if init_cycles is None else init_cycles
        if self.init_cycles < 1:
            raise DramError(f"init_cycles = {self.init_cycles} is outside 1.. cycles")
        self.config, self.pads = config, pads
        super().__init__({"channel": In(ChannelPins(config)), "chip": Out(ChipPins(config)), "ready": Out(1)})

    def elaborate(self, platform):
        m = Module()
        timing, part, chip = self.config.timing, self.config.part, self.chip
        command = self.channel.pins.command

        # Power-up: each step is a command and the cycles to the next
        mode = self.latency << MODE_LATENCY_AT | MODE_BURST
        steps = [(STROBES[Command.PREA], 1 << ALL_BANKS, timing["tRP"]),
                 *[(STROBES[Command.REF], 0, timing["tRFC"])] * part.refreshes_at_start,
                 (MODE_STROBES, mode, timing["tMRD"])]
        waiting = Signal(range(max(self.init_cycles, *(cycles for _, _, cycles in steps)) + 1), init=self.init_cycles)
        step = Signal(range(len(steps) + 1))
        strobes, address = Signal(3), Signal(len(chip.a))
        with m.If(~self.ready):
            with m.If(waiting != 0):
                m.d.sync += waiting.eq(waiting - 1)
            with m.Else(), m.Switch(step):
                for number, (code, value, cycles) in enumerate(steps):
                    with m.Case(number):
                        m.d.comb += [strobes.eq(code), address.eq(value)]
                        m.d.sync += [waiting.eq(max(cycles - 1, 0)), step.eq(number + 1)]
                with m.Default():
                    m.d.sync += self.ready.eq(1)
        with m.Else():
            with m.Switch(command.kind):
                for kind, code in STROBES.items():
                    with m.Case(kind):
                        m.d.comb += strobes.eq(code)
                        if kind == Command.ACT:
                            m.d.comb += address.eq(command.row)
                        if kind in (Command.RD, Command.WR):
                            m.d.comb += address.eq(Cat(Const(0, part.burst.bit_length() - 1), command.column))
                        if kind == Command.PREA:
                            m.d.comb += address.eq(1 << ALL_BANKS)

        # Data: a written word goes with the command, the others follow
        left, writing = Signal(range(part.burst_cycles)), Signal()
        m.d.comb += writing.eq(self.ready & ((command.kind == Command.WR) | (left != 0)))
        with m.If(writing):
            m.d.sync += left.eq(Mux(left == 0, part.burst_cycles - 1, left - 1))

        inner = ChipPins(self.config).create(path=("inner",))
        m.d.sync += [
            inner.cke.eq(1),
            inner.cs.eq(1),
            Cat(inner.ras, inner.cas, inner.we).eq(strobes),
            inner.ba.eq(command.bank),
            inner.a.eq(address),
            inner.dqm.eq(Mux(writing, ~self.channel.write_mask, (~self.ready).replicate(len(chip.dqm)))),
            inner.dq_o.eq(self.channel.write_data),
            inner.dq_oe.eq(writing),
            self.channel.read_data.eq(inner.dq_i),
        ]
        outer = m.d.sync if self.pads else m.d.comb
        outer += [getattr(chip, name).eq(getattr(inner, name)) for name in ChipPins(self.config).members if name != "dq_i"]
        outer += inner.dq_i.eq(chip.dq_i)
        return m


class SdrMemory(wiring.Component):
    """A memory system with an SDR chip on each channel, with the host's side of `MemorySystem`.

    Until every chip is ready no request is taken, and the memory system, its refresh counters included, is held in reset: its first cycle
    is the first one with `ready`.
    """

    def __init__(self, config: DramConfig, *, init_cycles: int | None = None, pads: bool = True):
        self.config = config
        self.pins = [SdrPins(config, init_cycles=init_cycles, pads=pads) for _ in range(config.channels)]
        self.system = MemorySystem(config)
        super().__init__({
            "port": Out(self.system.port.signature), "chips": Out(ChipPins(config)).array(config.channels), "ready": Out(1)})

    def elaborate(self, platform):
        m = Module()
        system = self.system
        m.submodules.system = ResetInserter(~self.ready)(system)
        for number, pins in enumerate(self.pins):
            m.submodules[f"pins_{number}"] = pins
            outer, inner, wires = system.channels[number], pins.channel, self.chips[number]
            m.d.comb += [
                inner.pins.command.eq(outer.pins.command),
                inner.write_data.eq(outer.write_data),
                inner.write_mask.eq(outer.write_mask),
                outer.read_data.eq(inner.read_data),
                pins.chip.dq_i.eq(wires.dq_i),
                *(getattr(wires, name).eq(getattr(pins.chip, name)) for name in wires.signature.members if name != "dq_i"),
            ]
            wiring.connect(m, system.port.responses[number], wiring.flipped(self.port.responses[number]))
        request = self.port.request
        m.d.comb += [
            self.ready.eq(Cat(pins.ready for pins in self.pins).all()),
            system.port.request.valid.eq(request.valid),      # no notice is taken in reset
            system.port.request.payload.eq(request.payload),
            request.ready.eq(system.port.request.ready & self.ready),
            self.port.active.eq(system.port.active),
            self.port.quiet.eq(system.port.quiet & self.ready),
        ]
        return m

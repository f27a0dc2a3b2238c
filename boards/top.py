"""A board's system at its pins: clock, UART, lamps, SDRAM."""

from amaranth.hdl import ClockDomain, ClockSignal, Elaboratable, Instance, Module, ResetSignal, Signal
from amaranth.lib import io

from boards.board import Board
from gen.verilog import TOP
from rtl.sharing import everywhere

LAMPS = ("ready", "running")


class BoardTop(Elaboratable):
    """The converted `BoardSystem` (a module named `flexwave`) in the pins of an amaranth-boards platform.

    The SDRAM's wires have their registers in the pads. Its clock is the machine's, inverted: it rises in the middle of a cycle, so
    commands and data have half a cycle of set-up and of hold.
    """

    def __init__(self, board: Board):
        self.board = board

    def elaborate(self, platform):
        m = Module()
        m.domains.sync = ClockDomain()
        m.submodules.clock = self.board.clock()     # drives it
        reset = Signal()
        m.d.comb += reset.eq(ResetSignal())
        spread = everywhere(m, self.board.device.family, reset, name="reset_net")
        ports: dict = {"i_clk": ClockSignal(), "i_rst": spread}

        uart = platform.request("uart", 0, dir={wire.name: "-" for wire in platform.lookup("uart", 0).ios})
        m.submodules.rx = rx = io.Buffer(io.Direction.Input, uart.rx)
        m.submodules.tx = tx = io.Buffer(io.Direction.Output, uart.tx)
        ports |= {"i_rx": rx.i, "o_tx": tx.o}
        for number, name in enumerate(LAMPS):
            lamp = Signal(name=name)
            ports[f"o_{name}"] = lamp
            port = self._lamp(platform, number)
            if port is not None:
                m.submodules[f"lamp_{name}"] = buffer = io.Buffer(io.Direction.Output, port)
                m.d.comb += buffer.o.eq(lamp)
        if self.board.dram:
            ports |= self._sdram(m, platform)
        m.submodules.system = Instance(TOP, **ports)
        return m

    @staticmethod
    def _lamp(platform, number: int):
        """The port of an LED, single or one colour of an RGB one."""
        if ("led", number) in platform.resources:
            return platform.request("led", number, dir="-")
        if number == 0 and ("rgb_led", 0) in platform.resources:
            return platform.request("rgb_led", 0, dir={"r": "-", "g": "-", "b": "-"}).g
        return None

    def _sdram(self, m: Module, platform) -> dict:
        pins = platform.request("sdram", 0, dir=dict.fromkeys(
            ("clk", "clk_en", "cs", "we", "ras", "cas", "ba", "a", "dq", "dqm"), "-"))
        m.submodules.sdram_clk = clock = io.DDRBuffer(io.Direction.Output, pins.clk)
        m.d.comb += [clock.o[0].eq(0), clock.o[1].eq(1)]
        ports: dict = {}
        for name, pin in (("cke", "clk_en"), ("cs", "cs"), ("ras", "ras"), ("cas", "cas"), ("we", "we"), ("ba", "ba"), ("a", "a"),
                          ("dqm", "dqm")):
            m.submodules[f"sdram_{name}"] = buffer = io.FFBuffer(io.Direction.Output, getattr(pins, pin))
            ports[f"o_chip__{name}"] = buffer.o
        m.submodules.sdram_dq = data = io.FFBuffer(io.Direction.Bidir, pins.dq)
        enable = Signal()
        m.d.comb += data.oe.eq(enable)
        return ports | {"o_chip__dq_o": data.o, "o_chip__dq_oe": enable, "i_chip__dq_i": data.i}

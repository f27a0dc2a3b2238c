"""ULX3S with an ECP5-85F and 32 MB of SDR SDRAM: the main board."""

from amaranth.hdl import ClockSignal, Elaboratable, Instance, Module, Signal
from amaranth.lib.cdc import ResetSynchronizer

from boards.board import Board, Device, oscillator
from boards.floorplan import place_blocks

OSCILLATOR_KHZ = 25_000
CLOCK_KHZ = 100_000
OSCILLATION_KHZ = 600_000       # of the PLL: 400 to 800 MHz


class Clock(Elaboratable):
    """Drives the domain `sync` from the board's oscillator, through the PLL; reset until it has locked."""

    def elaborate(self, platform):
        m = Module()
        clock, locked, out = Signal(), Signal(), OSCILLATION_KHZ // CLOCK_KHZ
        m.d.comb += ClockSignal().eq(clock)
        m.submodules.pll = Instance(
            "EHXPLLL", a_FREQUENCY_PIN_CLKI=str(OSCILLATOR_KHZ / 1000), a_FREQUENCY_PIN_CLKOP=str(CLOCK_KHZ / 1000),
            p_CLKI_DIV=1, p_CLKFB_DIV=CLOCK_KHZ // OSCILLATOR_KHZ, p_CLKOP_DIV=out, p_CLKOP_CPHASE=out // 2 - 1, p_FEEDBK_PATH="CLKOP",
            p_CLKOP_ENABLE="ENABLED",
            i_CLKI=oscillator(m, platform, "clk25"), i_CLKFB=clock, i_RST=0, i_STDBY=0, i_ENCLKOP=0, o_CLKOP=clock, o_LOCK=locked)
        m.submodules.reset = ResetSynchronizer(~locked)
        return m


def platform():
    """The pins. The SDRAM's own resource has them all."""
    from amaranth_boards.ulx3s import ULX3S_85F_Platform

    return ULX3S_85F_Platform()


BOARD = Board(
    name="ulx3s", doc="ULX3S-85F (Radiona)", config="ulx3s", clock_khz=CLOCK_KHZ, baud=2_000_000, link="USB, FT231X",
    device=Device(name="ECP5-85F", family="ecp5", luts=83_640, multipliers=156, block_rams=208, block_ram_bits=18_432,
                  options={"device": "--85k", "package": "CABGA381", "speed": "6"}),
    dram="sdr-ulx3s", multipliers=144, platform=platform, loader="ulx3s", floorplan=place_blocks, clock=Clock)

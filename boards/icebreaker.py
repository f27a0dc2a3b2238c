"""iCEBreaker with an iCE40 UP5K: room for a unit alone.

Its 1 Mbit of single-port RAM takes the link's receive buffer. Every other memory is read and written in the same cycle.
"""

from amaranth.hdl import ClockDomain, ClockSignal, Elaboratable, Module, ResetSignal, Signal

from boards.board import Board, Device, oscillator

CLOCK_KHZ = 12_000
SETTLING = 15       # cycles after configuration in which block RAM is not to be used


class Clock(Elaboratable):
    """Drives the domain `sync` from the board's oscillator as it is; reset until block RAM can be used."""

    def elaborate(self, platform):
        m = Module()
        m.domains.start = ClockDomain(reset_less=True, local=True)
        wire = oscillator(m, platform, "clk12")
        m.d.comb += [ClockSignal().eq(wire), ClockSignal("start").eq(wire)]
        left, held = Signal(range(SETTLING + 1), init=SETTLING), Signal(init=1)
        m.d.start += held.eq(left != 0)
        with m.If(left != 0):
            m.d.start += left.eq(left - 1)
        m.d.comb += ResetSignal().eq(held)
        return m


def platform():
    """The pins."""
    from amaranth_boards.icebreaker import ICEBreakerPlatform

    return ICEBreakerPlatform()


BOARD = Board(
    name="icebreaker", doc="iCEBreaker 1.0 (1BitSquared)", contents="unit", config="icebreaker", clock_khz=CLOCK_KHZ, baud=2_000_000,
    link="USB, FT2232H",
    device=Device(name="iCE40 UP5K", family="ice40", luts=5_280, multipliers=8, block_rams=30, block_ram_bits=4_096,
                  options={"device": "--up5k", "package": "sg48"}),
    multipliers=8, platform=platform, loader="ice40_generic", clock=Clock)

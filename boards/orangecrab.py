"""OrangeCrab r0.2 with an ECP5-25F. Its DDR3 chip needs a controller that FlexWave does not have: main memory is block RAM."""

from functools import partial

from boards.board import Board, Device, Oscillator

CLOCK_KHZ = 48_000


def platform():
    """The pins, with a UART on the two at the corner that Feather boards use for one (0: receive, 1: transmit; 3.3 V)."""
    from amaranth.build import Attrs
    from amaranth_boards.orangecrab_r0_2 import OrangeCrabR0_2_25FPlatform
    from amaranth_boards.resources import UARTResource

    made = OrangeCrabR0_2_25FPlatform()
    made.add_resources([UARTResource(0, rx="0", tx="1", conn=("io", 0), attrs=Attrs(IO_TYPE="LVCMOS33", PULLMODE="UP"))])
    return made


BOARD = Board(
    name="orangecrab", doc="OrangeCrab 25F r0.2 (Good Stuff Department)", config="orangecrab", clock_khz=CLOCK_KHZ, baud=1_000_000,
    link="pins 0 and 1",
    device=Device(name="ECP5-25F", family="ecp5", luts=24_288, multipliers=28, block_rams=56, block_ram_bits=18_432,
                  options={"device": "--25k", "package": "CSFBGA285", "speed": "8"}),
    memory_bytes=32_768, multipliers=16, platform=platform, loader="orangeCrab", clock=partial(Oscillator, "clk"))

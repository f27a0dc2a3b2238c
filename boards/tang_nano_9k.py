"""Tang Nano 9K with a Gowin GW1NR-9: room for a unit alone."""

from functools import partial

from boards.board import Board, Device, Oscillator

CLOCK_KHZ = 27_000


def platform():
    """The pins."""
    from amaranth_boards.tang_nano_9k import TangNano9kPlatform

    return TangNano9kPlatform()


BOARD = Board(
    name="tang-nano-9k", doc="Tang Nano 9K (Sipeed)", contents="unit", config="tang-nano-9k", clock_khz=CLOCK_KHZ, baud=1_000_000,
    link="USB, BL702",
    # Multipliers of 9 x 9 bits, as a PE has one: two in a block of 18 x 18
    device=Device(name="GW1NR-9C", family="gowin", luts=8_640, multipliers=40, block_rams=26, block_ram_bits=18_432,
                  options={"device": "GW1NR-LV9QN88PC6/I5", "chip": "GW1N-9C"}),
    platform=platform, loader="tangnano9k", clock=partial(Oscillator, "clk27"))

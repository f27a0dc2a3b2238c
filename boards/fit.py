"""Whether a machine fits a device, before anything is synthesised: block RAMs and LUTs estimated as builds came out."""

from dataclasses import dataclass

from boards.board import Board, Device
from gen.config import Config
from gen.link import PAYLOAD_BYTES, RECEIVE_BYTES

# Widths of a block RAM by family, with the words it then has
SHAPES = {
    "ecp5": ((36, 512), (18, 1024), (9, 2048), (4, 4096), (2, 8192), (1, 16384)),
    "ice40": ((16, 256), (8, 512), (4, 1024), (2, 2048)),
    "gowin": ((36, 512), (18, 1024), (9, 2048), (4, 4096), (2, 8192), (1, 16384)),
}
STORE_MULTIPLIERS = 3       # of a store lane: a 32-bit sum times a 24-bit mantissa
OPERAND_BITS = 9
OUTPUT_BANKS = 2            # of a column pair; a machine keeps a copy of each, so that it is read while it accumulates
JOURNALS = 1                # of which instruction is where: for the error report
LOOSE_BITS = 4              # so many beyond a multiple of its width an iCE40 memory takes as flip-flops
LUTS = {"ecp5": 1.0, "ice40": 1.3, "gowin": 0.71}     # of a unit, relative to ECP5, as builds came out
LUT_PRODUCTS = ("ecp5", "ice40")    # families whose PEs can multiply in LUTs (rtl.array.multiplier); elsewhere each takes a block
DOUBT = 1.15                # an estimate may be this far off: only what is beyond is refused


class FitError(ValueError):
    """A machine that cannot fit; one line with the numbers."""


@dataclass(frozen=True)
class Needs:
    """What goes on a board takes: LUTs (estimated), multiplier blocks (without those that LUTs can replace), block RAMs."""

    luts: int
    multipliers: int
    block_rams: int


def block_rams(device: Device, words: int, bits: int) -> int:
    """Block RAMs of a memory with one read and one write port."""
    loose = LOOSE_BITS if device.family == "ice40" else 0
    return min(max(1, -(-(bits - loose) // width)) * -(-words // depth) for width, depth in SHAPES[device.family])


def array_multipliers(board: Board, config: Config) -> int:
    """Multiplier blocks that the array takes; its other PEs are made of LUTs."""
    if board.device.family not in LUT_PRODUCTS:
        return config.pes
    left = board.device.multipliers - (STORE_MULTIPLIERS * config.buffers.store_lanes if board.contents == "machine" else 0)
    return max(0, min(board.multipliers, left, config.pes))


def needs(board: Board, config: Config) -> Needs:
    """What the machine (or the unit) of a configuration takes on a board."""
    array, buffers, device = config.array, config.buffers, board.device
    units, machine = array.groups, board.contents == "machine"

    def memory(words: int, bits: int) -> int:
        return block_rams(device, words, bits)

    rams = units * (config.cores * (memory(buffers.moving_words, OPERAND_BITS * array.side)
                                    + memory(buffers.stationary_tiles * array.side, OPERAND_BITS * array.side))
                    + (2 if machine else 1) * OUTPUT_BANKS * config.column_pairs * array.side * memory(2 * buffers.accumulator_words, 32))
    rams += memory(PAYLOAD_BYTES, 8) + (memory(RECEIVE_BYTES, 9) if device.family != "ice40" else 0)      # iCE40: in its SPRAM
    blocks = array_multipliers(board, config)
    # An adder and the registers' enables of a PE, a product in LUTs, an accumulator lane; then what does not grow with the array
    luts = 22 * config.pes + 100 * (config.pes - blocks) + units * 4 * config.column_pairs * array.side * 30
    luts += units * 1200 + 900
    multipliers = 0 if device.family in LUT_PRODUCTS else blocks
    if not machine:
        return Needs(round(luts * LUTS[device.family]), multipliers, rams)
    rams += JOURNALS
    rams += units * buffers.slices * config.banks * memory(buffers.slice_words // config.banks, 8 * array.side)
    rams += memory(board.memory_bytes // config.memory.bytes_per_cycle, 8 * config.memory.bytes_per_cycle) if not board.dram else 0
    luts += units * (array.side * (200 + 110 * buffers.slices) + 3000 + 700 + 520 * buffers.store_lanes)
    luts += 6000 + 25 * config.memory.bytes_per_cycle + (3500 if board.dram else 0)
    return Needs(luts, multipliers + STORE_MULTIPLIERS * buffers.store_lanes * units, rams)


def check(board: Board, config: Config) -> None:
    """Raises FitError for what cannot fit, and for what nothing is known of."""
    if config.floating:
        raise FitError(f"config = {config.name}: array.dtype = '{config.array.dtype}' is none of int8 (on a board)")
    device, wanted = board.device, needs(board, config)
    if wanted.luts > DOUBT * device.luts or wanted.multipliers > device.multipliers or wanted.block_rams > device.block_rams:
        raise FitError(f"config = {config.name} needs about {wanted.luts:,} LUT, at least {wanted.multipliers} multipliers and "
                       f"{wanted.block_rams:,} block RAMs; the {device.name} of {board.name} has {device.luts:,}, {device.multipliers} and "
                       f"{device.block_rams}")

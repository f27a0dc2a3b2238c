"""A FlexSA unit without the machine around it: what a host finds where. RTL and host software derive from here.

On a small board the host does what DMA, loaders, store unit and global buffer do elsewhere: it writes tiles into the local buffers, starts
waves and reads accumulators, all through windows into a memory of `UnitMap.size_bytes`, in beats of `memory.bytes_per_cycle`:

- A beat written to a tile holds `side` operands of 16 bits, of which the array takes the lower 9. Consecutive beats are a tile in the
  order of its rows, and in a row the words of `cores`; a tile that runs over the end of its ring goes on at the ring's start.
- A beat written to `start` starts a wave with the next tile of either ring; its lower 16 bits are the wave's rows.
- Accumulators are read as int32, in the order half, word, bank, column pair, column. Of a narrow tile that is the order of its rows.
"""

from dataclasses import dataclass

from gen.config import Config, ConfigError, Unit
from gen.isa import Mode
from gen.registers import Access, Register

IDENTITY = 0x46574155   # "FWAU"
OPERAND_BYTES, ROWS_BYTES, SUM_BYTES = 2, 2, 4

REGISTERS = tuple(Register(4 * i, name, access, doc) for i, (name, access, doc) in enumerate((
    ("identity", Access.READ, f"{IDENTITY:#x}"),
    ("version", Access.READ, "version of the instruction set"),
    ("position", Access.READ, "next word of the LBUF-Hs to be streamed (lower half), next tile of the LBUF-Vs (upper half)"),
    ("status", Access.READ, "bit 0: a wave is under way"),
    ("cycles", Access.READ, "cycles in which a wave was under way, modulo 2^32"),
)))
OFFSETS = {item.name: item.offset for item in REGISTERS}

# Windows, by the upper two bits of a beat's number
MOVING_WINDOW, STATIONARY_WINDOW, SUMS_WINDOW, START_WINDOW = range(4)
WINDOW_BITS = MODE_BITS = 2


def cores(config: Config, operand: str, mode: Mode) -> tuple[tuple[int, ...], ...]:
    """For each word of a row of a tile ("moving" or "stationary"), the cores that get it."""
    if config.cores == 1:
        return ((0,),)
    if operand == "moving":
        return ((0,), (2,)) if mode.wide else ((0,), (1,), (2,), (3,))
    return {Mode.FW: ((0,), (1,), (2,), (3,)), Mode.VSW: ((0, 1), (2, 3)), Mode.HSW: ((0, 2), (1, 3)), Mode.ISW: ((0, 1, 2, 3),)}[mode]


@dataclass(frozen=True)
class UnitMap:
    """The windows of one configuration. Raises ConfigError for a beat that cannot hold a word."""

    config: Config

    def __post_init__(self):
        side, beat = self.config.array.side, self.config.memory.bytes_per_cycle
        if self.config.array.groups != 1:
            raise ConfigError(f"array.groups = {self.config.array.groups} must be 1 groups (a unit alone)")
        if beat < OPERAND_BYTES * side:
            raise ConfigError(f"memory.bytes_per_cycle = {beat} is outside {OPERAND_BYTES * side}..{16 * side} bytes (a unit alone)")

    @property
    def beat(self) -> int:
        """Bytes of a beat."""
        return self.config.memory.bytes_per_cycle

    @property
    def parts(self) -> int:
        """Beats of the accumulators of one column pair, bank and word: 1 or 2."""
        return -(-SUM_BYTES * self.config.array.side // self.beat)

    @property
    def place_bits(self) -> int:
        """Bits of a beat's number within a window, mode and half apart: twice a ring with four words a row, or all sums of a half."""
        buffers, pairs = self.config.buffers, self.config.column_pairs
        ring = max(buffers.moving_words, buffers.stationary_tiles * self.config.array.side)
        return max(2 * 4 * ring, 2 * pairs * self.parts * buffers.accumulator_words).bit_length() - 1

    @property
    def index_bits(self) -> int:
        """Bits of a beat's number."""
        return WINDOW_BITS + MODE_BITS + self.place_bits

    @property
    def size_bytes(self) -> int:
        """Bytes of everything."""
        return self.beat << self.index_bits

    def tile(self, operand: str, mode: Mode, word: int) -> int:
        """Byte address of the tile of `mode` that begins at `word` of its ring."""
        window = MOVING_WINDOW if operand == "moving" else STATIONARY_WINDOW
        return ((window << MODE_BITS | mode) << self.place_bits | word * len(cores(self.config, operand, mode))) * self.beat

    def sums(self, half: int) -> int:
        """Byte address of the accumulators of a half."""
        return ((SUMS_WINDOW << MODE_BITS | half) << self.place_bits) * self.beat

    def start(self, mode: Mode, *, half: int, accumulate: bool) -> int:
        """Byte address that starts a wave into a half; it overwrites the accumulators or adds to them."""
        return ((START_WINDOW << MODE_BITS | mode) << self.place_bits | accumulate << 1 | half) * self.beat

    @property
    def modes(self) -> tuple[Mode, ...]:
        """Modes that the unit runs."""
        return {Unit.FLEX: tuple(Mode), Unit.QUAD: (Mode.ISW,), Unit.SINGLE: (Mode.FW,)}[self.config.array.unit]

"""The tiling of a matrix product: waves along k, tiles along n and m, and the share of them that one group computes."""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import cached_property

from gen.config import Config, Unit
from gen.isa import Mode
from gen.timing import interval
from sw.compiler.addition import Addition
from sw.compiler.errors import CompileError, refuse_outside
from sw.compiler.layout import WIDE, blocks_of, ceil_div, padded_rows, round_up
from sw.compiler.window import Walk, Window
from sw.model.closed_form import row_limit
from sw.model.ideal import mode_of

OPERANDS = {"int8": (-128, 127), "uint8": (0, 255)}
FLOAT = "bf16"
OUTPUTS = {False: ("int32", "int8", "uint8"), True: ("fp32", "bf16")}   # of integers, of bf16
LARGEST = (1 << 31) - 1


def check_operand(name: str, dtype: str, zero_point: int):
    """Raise CompileError for a type or a zero point that an operand cannot have."""
    if dtype not in (*OPERANDS, FLOAT):
        raise CompileError(f"{name}_dtype = {dtype!r} is none of {', '.join(OPERANDS)}, {FLOAT}")
    refuse_outside(f"{name}_zero_point", zero_point, *OPERANDS.get(dtype, (0, 0)), f" ({dtype})")


@dataclass(frozen=True, kw_only=True)
class Gemm:
    """What a program computes: (A - a_zero_point) x (B - b_zero_point), plus bias and scaling where asked for.

    A is m x k, B is k x n; both are integers, or both bf16, which know neither zero points nor column parameters. Output int8 or uint8
    always uses column parameters (bias and multiplier); relu clips at zero, or at the output's zero point. With a `window` it is a
    convolution: m output pixels, k channels at each of the kernel's positions, n outputs; A are the input's pixels, pixels x k, and
    padding is zero behind the subtraction. With an `addition` a residual, m x n, is added to the 8-bit results. Raises CompileError for
    a value out of range.
    """

    m: int
    n: int
    k: int
    a_dtype: str = "int8"
    b_dtype: str = "int8"
    a_zero_point: int = 0
    b_zero_point: int = 0
    output: str = "int32"
    parameters: bool = False
    relu: bool = False
    output_zero_point: int = 0
    window: Window | None = None
    addition: Addition | None = None

    def __post_init__(self):
        for name in ("m", "n", "k"):
            refuse_outside(name, getattr(self, name), 1, LARGEST)
        for operand in ("a", "b"):
            check_operand(operand, getattr(self, f"{operand}_dtype"), getattr(self, f"{operand}_zero_point"))
        if (self.a_dtype == FLOAT) != (self.b_dtype == FLOAT):
            raise CompileError(f"b_dtype = {self.b_dtype!r} does not go with a_dtype = {self.a_dtype!r}")
        outputs = OUTPUTS[self.floating]
        if self.output not in outputs:
            raise CompileError(f"output = {self.output!r} is none of {', '.join(outputs)}")
        refuse_outside("output_zero_point", self.output_zero_point, *OPERANDS.get(self.output, (0, 0)), f" ({self.output})")
        if self.floating and (self.parameters or self.addition):
            raise CompileError(f"{'parameters' if self.parameters else 'a residual'}: none with a_dtype = {FLOAT!r}")
        if self.output not in WIDE and not self.floating:
            object.__setattr__(self, "parameters", True)
        if isinstance(self.window, dict):
            object.__setattr__(self, "window", Window(**self.window))
        if isinstance(self.addition, dict):
            object.__setattr__(self, "addition", Addition(**self.addition))
        if self.addition and self.output == "int32":
            raise CompileError("output = 'int32' is none of int8, uint8 (with a residual)")
        if self.window and self.m != self.window.rows:
            raise CompileError(f"m = {self.m} is outside {self.window.rows}..{self.window.rows} (the window's output pixels)")

    @property
    def taps(self) -> int:
        """Positions of the kernel; 1 for a product."""
        return self.window.taps if self.window else 1

    @property
    def pixels(self) -> int:
        """Rows of A."""
        return self.window.pixels if self.window else self.m

    @property
    def macs(self) -> int:
        """Multiply-adds, those with padding included."""
        return self.m * self.n * self.k * self.taps

    @property
    def floating(self) -> bool:
        """Whether its operands are bf16."""
        return self.a_dtype == FLOAT

    @property
    def output_words(self) -> int:
        """Words of a row of one block of results."""
        return {"int32": 4, "fp32": 2}.get(self.output, 1)

    def to_dict(self) -> dict:
        """Plain values by field name."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        return values | {name: getattr(self, name) and getattr(self, name).to_dict() for name in ("window", "addition")}


@dataclass(frozen=True)
class Depth:
    """The waves along k in the order of use: the remainder (the tail of k) first, then ascending. A convolution runs each of them once at
    every position of the kernel, one after the other.
    """

    config: Config
    k: int

    @cached_property
    def reach(self) -> int:
        """Channel blocks of a full wave."""
        return self.config.tile // self.config.array.side

    @cached_property
    def blocks(self) -> int:
        """Channel blocks of all waves."""
        return blocks_of(self.config, self.k)

    @cached_property
    def remainder(self) -> int:
        """Channel blocks of the remainder wave, 0 without one."""
        return self.blocks - self.k // self.config.tile * self.reach

    @cached_property
    def waves(self) -> int:
        """Waves of one output tile."""
        return self.k // self.config.tile + (self.remainder > 0)

    def position(self, wave: int) -> int:
        """Blocks that waves before `wave` take up."""
        return wave * self.reach if not self.remainder or not wave else self.remainder + (wave - 1) * self.reach

    def block(self, wave: int) -> int:
        """First channel block of a wave in memory."""
        if not self.remainder:
            return wave * self.reach
        return (wave - 1) * self.reach if wave else self.blocks - self.remainder

    def depth(self, wave: int) -> int:
        """Channel blocks of a wave."""
        return self.remainder if self.remainder and not wave else self.reach

    def runs(self, first: int, stop: int) -> Iterator[tuple[int, int]]:
        """Split waves first..stop-1 where the mode changes."""
        if first == 0 and stop > 1 and self.depth(0) != self.depth(1):
            yield 0, 1
            first = 1
        yield first, stop


@dataclass(frozen=True)
class Tile:
    """An output tile: its index along m and n, its rows, and its first column block and their number."""

    m_index: int
    n_index: int
    row: int
    rows: int
    column_block: int
    width: int


@dataclass(frozen=True)
class Share:
    """The part of a product that one group computes: rows row..row_stop-1 and n tiles tile..tile_stop-1.

    `resident`: all of A lies in the global buffer as it does in memory; else a walk may leave out lines that are not read.
    """

    config: Config
    gemm: Gemm
    row: int
    row_stop: int
    tile: int
    tile_stop: int
    resident: bool = False

    @cached_property
    def depth(self) -> Depth:
        """Its waves along k."""
        return Depth(self.config, self.gemm.k)

    @property
    def rows(self) -> int:
        """Its rows of A."""
        return self.row_stop - self.row

    @property
    def n_tiles(self) -> int:
        """Its tiles along n."""
        return self.tile_stop - self.tile

    def width(self, n_index: int) -> int:
        """Column blocks of n tile `n_index` (counted over the whole product)."""
        reach = self.depth.reach
        return min(reach, blocks_of(self.config, self.gemm.n) - n_index * reach)

    @property
    def widest(self) -> int:
        """Column blocks of its widest n tile."""
        return self.width(self.tile)

    @property
    def column_blocks(self) -> int:
        """Column blocks of all its n tiles."""
        return (self.n_tiles - 1) * self.depth.reach + self.width(self.tile_stop - 1)

    def mode(self, wave: int, width: int) -> Mode:
        """Mode of a wave on an n tile of `width` blocks."""
        return mode_of(self.config, self.depth.depth(wave), width)

    @cached_property
    def modes(self) -> set[Mode]:
        """All modes in use."""
        return {self.mode(wave, width) for wave in {0, self.depth.waves - 1} for width in {self.widest, self.width(self.tile_stop - 1)}}

    def row_limit(self) -> int:
        """Rows that an output tile may have."""
        return row_limit(self.config, self.modes)

    def stores_wide(self, width: int) -> bool:
        """Whether every column pair holds all rows of a tile of `width` blocks."""
        return self.config.array.unit is Unit.SINGLE or width > 1

    @cached_property
    def walk(self) -> Walk | None:
        """How loads walk over pixels; None where the rows of A are those of the product."""
        window = self.gemm.window
        if window is None or window.plain:
            return None
        return Walk(window, False) if self.resident else Walk.of(window, self.config.beat_words)

    @cached_property
    def _rates(self) -> dict[Mode, int]:
        return {mode: self.rate(mode, self.row, self.rows) for mode in self.modes}

    def rate(self, mode: Mode, row: int, rows: int) -> int:
        """log2 of the rows that LdLBUF_H loads a cycle for a tile."""
        if not self.walk:
            return mode.parts.bit_length() - 1
        return self.walk.rate(row, rows, mode.parts, 2 if mode.tall and self.config.cores > 1 else 1)

    def wave_cycles(self, wave: int, rows: int, width: int) -> int:
        """Cycles in which a wave of `rows` rows occupies the array, at all positions of the kernel; or the loader, if it takes longer."""
        mode = self.mode(wave, width)
        return self.gemm.taps * max(interval(self.config, ceil_div(rows, mode.parts)), ceil_div(rows, 1 << self._rates[mode]))

    def array_cycles(self, rows: int, width: int) -> int:
        """Cycles in which an output tile occupies the array."""
        last = self.depth.waves - 1
        return self.wave_cycles(0, rows, width) + last * self.wave_cycles(last, rows, width)

    def store_cycles(self, rows: int, width: int) -> int:
        """Issue cycles of an output tile's StLBUF."""
        return rows * width * (self.config.array.side // self.config.buffers.store_lanes)

    def work(self, rows: int) -> tuple[int, int]:
        """Cycles of the array and of the store unit for all output tiles, if those have so many rows."""
        if rows not in self._work:
            m_tiles, last_width = ceil_div(self.rows, rows), self.width(self.tile_stop - 1)
            last_rows = self.rows - (m_tiles - 1) * rows

            def total(cost) -> int:
                inner = (m_tiles - 1) * cost(rows, self.widest) + cost(last_rows, self.widest)
                return (self.n_tiles - 1) * inner + (m_tiles - 1) * cost(rows, last_width) + cost(last_rows, last_width)

            self._work[rows] = total(self.array_cycles), total(self.store_cycles)
        return self._work[rows]

    @cached_property
    def _work(self) -> dict[int, tuple[int, int]]:
        return {}

    def stationary_word(self, tile: Tile, wave: int) -> int:
        """First word of a wave's stationary tile in its region."""
        blocks = tile.column_block * self.depth.blocks + tile.width * self.depth.position(wave)
        return blocks * self.gemm.taps * self.config.array.side

    def padded_rows(self) -> int:
        """Rows of one block of the result in memory."""
        return padded_rows(self.config, self.gemm.m)

    def padded_pixels(self) -> int:
        """Rows of one block of A in memory."""
        return padded_rows(self.config, self.gemm.pixels)

    def band(self, row: int, rows: int) -> tuple[int, int]:
        """Rows of A that are loaded for a tile: the first, at a whole beat, and their number."""
        if not self.walk:
            return row, rows
        first, stop = self.walk.band(row, row + rows)
        first -= first % self.config.beat_words
        return first, stop - first

    def bands(self, rows: int) -> tuple[int, int]:
        """Rows of A that are loaded for the largest of all tiles of `rows` rows, and for all tiles together."""
        if not self.walk:
            return min(rows, self.rows), self.rows
        if rows not in self._bands:
            sizes = [self.band(row, min(rows, self.row_stop - row))[1] for row in range(self.row, self.row_stop, rows)]
            self._bands[rows] = max(sizes), sum(sizes)
        return self._bands[rows]

    @cached_property
    def _bands(self) -> dict[int, tuple[int, int]]:
        return {}


def shares(config: Config, gemm: Gemm, by_rows: int) -> list[Share]:
    """Split a product over the groups: `by_rows` parts of the rows times parts of the n tiles. Groups without work are left out."""
    by_tiles = config.array.groups // by_rows
    align = config.beat_words
    rows = round_up(ceil_div(gemm.m, by_rows), align)
    reach = config.tile // config.array.side
    n_tiles = ceil_div(blocks_of(config, gemm.n), reach)
    tiles = ceil_div(n_tiles, by_tiles)
    return [Share(config, gemm, row, min(gemm.m, row + rows), tile, min(n_tiles, tile + tiles))
            for row in range(0, gemm.m, rows) for tile in range(0, n_tiles, tiles)]

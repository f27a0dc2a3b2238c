"""Addresses of the moving operand: which word of the slice each core gets, row by row and wave by wave (strided, or implicit im2col)."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, unsigned
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from gen.config import Config, Unit
from gen.isa import Mode
from rtl.instruction import instruction_layout
from rtl.interfaces import ADDRESS_BITS

PIXEL_BITS = 12    # out_width, start_x, ...


def part_of(mode, core: int):
    """The part (0 .. parts - 1) of a wave's rows that a core takes: FW 0, VSW by column, HSW by row of cores, ISW one for each core."""
    low, right = divmod(core, 2)
    return Cat(Mux(mode == Mode.HSW, low, right) & (mode != Mode.FW), low & (mode == Mode.ISW))


def step_mask(rate):
    """2**rate - 1, two bits: the rows of a step count from 0 to this."""
    return Cat(rate != 0, rate[1])


class RowWalk(wiring.Component):
    """Word addresses and output pixels of the rows of a step. One walker for each core: the words need no multiplexer behind the buffer.

    A step is 2**rate rows; core q takes row `part_of(mode, q) & step_mask(rate)` of it, the lower cores of a tall mode in the second
    channel block (`pitch` words on). ``start`` takes the fields of ``load`` (a LdLBUF_H, sampled) and ``conv`` (its SetConv); ``again``
    returns to the first row; ``step`` goes on by 2**rate rows, of which ``rows`` count. Outputs show it in the next cycle. A walker beyond
    the rows that count repeats the address of core 0, so that it cannot spoil the bank of one that does.
    ``start``, ``again`` and ``step`` may come late in the cycle: they only select.
    Without im2col rows follow each other by one word and ``x``, ``y`` mean nothing. With im2col ``x``, ``y`` are output pixels;
    out_width >= 2**rate is taken for granted: then a step, and the rows of the first step, cross at most one end of an image row,
    so that the first step has a closed form. Addresses are modulo 2**16.
    """

    def __init__(self, config: Config):
        self._config = config
        super().__init__({
            "load": In(instruction_layout("LdLBUF_H")),
            "conv": In(instruction_layout("SetConv")),
            "start": In(1),
            "again": In(1),
            "step": In(1),
            "rows": In(16),
            "addresses": Out(ADDRESS_BITS).array(config.cores),
            "x": Out(PIXEL_BITS).array(config.cores),
            "y": Out(PIXEL_BITS).array(config.cores),
        })

    def elaborate(self, platform):
        m = Module()
        load, conv, unit = self.load, self.conv, self._config.array.unit
        x_step, address = conv.x_step, unsigned(ADDRESS_BITS)

        # Rows 0 .. 3 of the first step: words from the first row, and their pixel.
        bottom = Signal()
        m.d.comb += bottom.eq(load.start_y == conv.out_height - 1)
        below = Signal(PIXEL_BITS)
        m.d.comb += below.eq(Mux(bottom, 0, load.start_y + 1))
        first: list[tuple] = [(Const(0, ADDRESS_BITS), load.start_x, load.start_y)]
        for row in range(1, min(self._config.cores, 4)):
            beyond = Signal(range(-(1 << PIXEL_BITS), (1 << PIXEL_BITS) + 4), name=f"row{row}_beyond")
            m.d.comb += beyond.eq(load.start_x + row - conv.out_width)
            wraps = beyond >= 0
            words = Signal(address, name=f"row{row}_words")
            after_end = Mux(bottom, conv.image_step, conv.row_step) + times(x_step, row - 1)
            m.d.comb += words.eq(Mux(load.im2col, Mux(wraps, after_end, times(x_step, row)), row))
            first.append((words, Mux(wraps, beyond[:PIXEL_BITS], load.start_x + row), Mux(wraps, below, load.start_y)))

        # Steps of the instruction, the same for all walkers.
        im2col = Signal()
        pixels = Signal(3)
        plain, row_end, image_end = (Signal(address, name=f"{name}_step", reset_less=True) for name in ("plain", "row_end", "image_end"))
        limit, last_row = Signal(PIXEL_BITS), Signal(PIXEL_BITS)
        mask = step_mask(load.rate)
        rest = (x_step & mask[0].replicate(16)) + ((x_step << 1) & mask[1].replicate(17))
        with m.If(self.start):
            m.d.sync += [
                im2col.eq(load.im2col),
                pixels.eq(1 << load.rate),
                plain.eq(Mux(load.im2col, x_step, 1) << load.rate),
                row_end.eq(conv.row_step + rest),
                image_end.eq(conv.image_step + rest),
                limit.eq(conv.out_width - mask - 1),
                last_row.eq(conv.out_height - 1),
            ]

        zero = None
        for core in range(self._config.cores):
            name = f"core{core}"
            place = Signal(2, name=f"{name}_place")     # its row within a step
            first_place = Signal(2, name=f"{name}_first_place")
            base, start = Signal(address, name=f"{name}_base"), Signal(address, name=f"{name}_start", reset_less=True)
            start_x, start_y = (Signal(PIXEL_BITS, name=f"{name}_start_{axis}", reset_less=True) for axis in "xy")
            words, x, y = (Signal(bits, name=f"{name}_first_{axis}") for bits, axis in zip((ADDRESS_BITS, PIXEL_BITS, PIXEL_BITS), "axy"))
            if core:
                m.d.comb += first_place.eq(part_of(load.mode, core) & mask)
            pitch = load.pitch & ~load.mode[1].replicate(16) if unit is Unit.FLEX and core >= 2 else 0
            m.d.comb += base.eq(load.address + pitch)
            options = sorted({part & mask for part in {0, core & 1, core >> 1, core} for mask in (0, 1, 3)}, reverse=True) if core else [0]
            with m.Switch(first_place):
                for option in options:
                    with m.Case(option) if option else m.Default():
                        m.d.comb += [value.eq(origin) for value, origin in zip((words, x, y), first[option])]

            at_end, at_bottom = Signal(name=f"{name}_at_end"), Signal(name=f"{name}_at_bottom")
            over = Signal(range(-(1 << PIXEL_BITS), 1 << PIXEL_BITS), name=f"{name}_over")
            m.d.comb += [
                over.eq(self.x[core] - limit),
                at_end.eq((over >= 0) & im2col),
                at_bottom.eq(self.y[core] == last_row),
            ]
            begin, following = Signal(address, name=f"{name}_begin"), Signal(address, name=f"{name}_next")
            m.d.comb += [
                begin.eq(base + words),
                following.eq(self.addresses[core] + Mux(at_end, Mux(at_bottom, image_end, row_end), plain)),
            ]
            zero = (begin, following) if zero is None else zero
            begin = Mux(first_place >= load.rows, zero[0], begin)
            following = Mux(place >= self.rows, zero[1], following)
            with m.If(self.start):
                m.d.sync += [place.eq(first_place), start.eq(begin), start_x.eq(x), start_y.eq(y)]
                m.d.sync += [self.addresses[core].eq(begin), self.x[core].eq(x), self.y[core].eq(y)]
            with m.Elif(self.again):
                m.d.sync += [self.addresses[core].eq(start), self.x[core].eq(start_x), self.y[core].eq(start_y)]
            with m.Elif(self.step):
                m.d.sync += [
                    self.addresses[core].eq(following),
                    self.x[core].eq(Mux(at_end, over[:PIXEL_BITS], self.x[core] + pixels)),
                    self.y[core].eq(Mux(at_end, Mux(at_bottom, 0, self.y[core] + 1), self.y[core])),
                ]
        return m


class WaveWalk(wiring.Component):
    """Words from kernel position (0, 0), channel wave 0 to the current wave: ``kernel`` + ``channel``, and the position.

    Waves walk channel waves first, then kernel columns, then kernel rows; without im2col they are `wave_stride` apart. ``start`` begins
    with the fields of ``load`` (sampled) and its SetConv in ``conv``, which must hold until the walk ends; ``advance`` goes on by a wave.
    Outputs show it in the next cycle. The two sums stay apart because the start takes three products: 8 x 16 bits for ``channel``,
    twice 4 x 16 bits for ``kernel``.
    """

    def __init__(self):
        super().__init__({
            "load": In(instruction_layout("LdLBUF_H")),
            "conv": In(instruction_layout("SetConv")),
            "start": In(1),
            "advance": In(1),
            "kernel": Out(ADDRESS_BITS),
            "channel": Out(ADDRESS_BITS),
            "kernel_x": Out(4),
            "kernel_y": Out(4),
        })

    def elaborate(self, platform):
        m = Module()
        load, conv = self.load, self.conv
        im2col, stride, wave = Signal(), Signal(ADDRESS_BITS, reset_less=True), Signal(8)
        row = Signal(ADDRESS_BITS, reset_less=True)  # of kernel column 0
        first_row, next_row = Signal(ADDRESS_BITS), Signal(ADDRESS_BITS)
        m.d.comb += [first_row.eq(product(conv.kernel_y_step, load.start_kernel_y)), next_row.eq(row + conv.kernel_y_step)]

        last = im2col & (wave == conv.channel_waves - 1)
        with m.If(self.start):
            m.d.sync += [
                im2col.eq(load.im2col),
                stride.eq(load.wave_stride),
                wave.eq(load.start_wave),
                self.channel.eq(Mux(load.im2col, product(load.wave_stride, load.start_wave), 0)),
            ]
        with m.Elif(self.advance):
            m.d.sync += [wave.eq(Mux(last, 0, wave + 1)), self.channel.eq(Mux(last, 0, self.channel + stride))]
        with m.If(self.start):
            m.d.sync += [
                row.eq(first_row),
                self.kernel.eq(Mux(load.im2col, first_row + product(conv.kernel_x_step, load.start_kernel_x), 0)),
                self.kernel_x.eq(load.start_kernel_x),
                self.kernel_y.eq(load.start_kernel_y),
            ]
        with m.Elif(self.advance & last):
            with m.If(self.kernel_x == conv.kernel_width - 1):
                m.d.sync += [row.eq(next_row), self.kernel.eq(next_row), self.kernel_x.eq(0), self.kernel_y.eq(self.kernel_y + 1)]
            with m.Else():
                m.d.sync += [self.kernel.eq(self.kernel + conv.kernel_x_step), self.kernel_x.eq(self.kernel_x + 1)]
        return m


def times(value, factor: int):
    """value * 0, 1, 2 or 3 without a multiplier block."""
    return (Const(0, 1), value, value << 1, (value << 1) + value)[factor]


def product(value, factor):
    """value * factor as a tree of gated additions: no multiplier block, which the processing elements need."""
    rows = [(value << i) & factor[i].replicate(len(value) + i) for i in range(len(factor))]
    while len(rows) > 1:
        rows = [rows[i] + rows[i + 1] if i + 1 < len(rows) else rows[i] for i in range(0, len(rows), 2)]
    return rows[0]

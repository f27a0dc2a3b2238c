"""Addresses of the moving operand: which word of the slice each core gets, row by row and wave by wave (strided, or implicit im2col)."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
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
    channel block (`pitch` words on). ``set`` takes the geometry in ``conv``, ``start`` the fields of ``load`` (a LdLBUF_H), from the
    next cycle on; ``again`` returns to the first row; otherwise ``step`` goes on by 2**rate rows, of which ``rows`` count (4: all).
    Outputs show it in the next cycle. A walker beyond the rows that count repeats the address of one that does: it cannot spoil a bank.
    Without im2col rows follow each other by one word and ``x``, ``y`` mean nothing. With im2col ``x``, ``y`` are output pixels;
    out_width >= 2**rate is taken for granted: then a step, and the rows of the first step, cross at most one end of an image row,
    so that the first step has a closed form. Addresses are modulo 2**16.

    For a short path all sums are ready before it is known which is needed, and the control inputs only select.
    """

    def __init__(self, config: Config):
        self._config = config
        super().__init__({
            "conv": In(instruction_layout("SetConv")),
            "load": In(instruction_layout("LdLBUF_H")),
            "set": In(1),
            "start": In(1),
            "again": In(1),
            "step": In(1),
            "rows": In(3),
            "addresses": Out(ADDRESS_BITS).array(config.cores),
            "x": Out(PIXEL_BITS).array(config.cores),
            "y": Out(PIXEL_BITS).array(config.cores),
        })

    def elaborate(self, platform):
        m = Module()
        load = self.load

        def register(name, bits=ADDRESS_BITS):
            return Signal(bits, name=name, reset_less=True)

        # Of the geometry: words of n pixels, with and without an end of a row or an image in front; columns and rows before the end.
        words = [register(f"pixels_{n}") for n in range(4)]
        row_words = [register(f"row_end_and_{n}") for n in range(4)]
        image_words = [register(f"image_end_and_{n}") for n in range(4)]
        near = [register(f"columns_less_{n}", PIXEL_BITS) for n in range(5)]
        bottom_row = register("bottom_row", PIXEL_BITS)
        with m.If(self.set):
            m.d.sync += bottom_row.eq(self.conv.out_height - 1)
            m.d.sync += [columns.eq(self.conv.out_width - n) for n, columns in enumerate(near)]
            for n in range(4):
                pixels = times(self.conv.x_step, n)
                m.d.sync += [words[n].eq(pixels), row_words[n].eq(self.conv.row_step + pixels)]
                m.d.sync += image_words[n].eq(self.conv.image_step + pixels)

        # Pixels of rows 0 .. 3 of the first step.
        bottom, below = Signal(), Signal(PIXEL_BITS)
        m.d.comb += [bottom.eq(load.start_y == bottom_row), below.eq(Mux(bottom, 0, load.start_y + 1))]
        wraps: list = [Const(0, 1)]
        columns: list = [load.start_x]
        for row in range(1, 4):
            beyond = Signal(signed(PIXEL_BITS + 1), name=f"row{row}_beyond")
            m.d.comb += beyond.eq(load.start_x - near[row])
            wraps.append(beyond >= 0)
            columns.append(Mux(beyond >= 0, beyond[:PIXEL_BITS], load.start_x + row))

        # Steps of the instruction, the same for all walkers.
        im2col, pixels, limit = Signal(), Signal(3), register("limit", PIXEL_BITS)
        plain, row_end, image_end = register("plain"), register("row_end"), register("image_end")
        with m.If(self.start):
            m.d.sync += [im2col.eq(load.im2col), pixels.eq(1 << load.rate), plain.eq(Mux(load.im2col, words[1], 1) << load.rate)]
            with m.Switch(load.rate):
                for rate in range(3):
                    with m.Case(rate):
                        last = (1 << rate) - 1
                        m.d.sync += [row_end.eq(row_words[last]), image_end.eq(image_words[last]), limit.eq(near[last + 1])]

        mask, leader = step_mask(load.rate), None
        for core in range(self._config.cores):
            name = f"core{core}"
            address, x, y = self.addresses[core], self.x[core], self.y[core]
            start = register(f"{name}_start")
            start_x, start_y = register(f"{name}_start_x", PIXEL_BITS), register(f"{name}_start_y", PIXEL_BITS)
            place, first_place = Signal(2, name=f"{name}_place"), Signal(2, name=f"{name}_first_place")    # its row within a step
            if core:
                m.d.comb += first_place.eq(part_of(load.mode, core) & mask)
            places = sorted({part & most for part in (0, core & 1, core >> 1, core) for most in (0, 1, 3)}) if core else [0]

            def by_place(values, places=places, first_place=first_place):
                chosen = values[places[0]]
                for n in places[1:]:
                    chosen = Mux(first_place == n, values[n], chosen)
                return chosen

            # Sums for no end, the end of a row, the end of an image, and the step's first row in front.
            wrapped = load.im2col & by_place(wraps)
            none = Const(0, ADDRESS_BITS)
            amounts = [Mux(load.im2col, by_place(words), first_place) if core else none,
                       by_place([none, *row_words]), by_place([none, *image_words]), none]
            tall = ~load.mode[1]
            if self._config.array.unit is not Unit.FLEX or core < 2:
                starts = [load.address + amount for amount in amounts]
            elif core == 2:     # in a tall mode always in the first row of a step
                starts = [load.address + Mux(tall, load.pitch, amount) for amount in amounts]
            else:
                starts = [add(load.address, load.pitch & tall.replicate(ADDRESS_BITS), amount) for amount in amounts]
            beyond_rows = ~load.rows[2:].any() & (first_place >= load.rows[:2])
            first = Signal(ADDRESS_BITS, name=f"{name}_first")
            first_x, first_y = Signal(PIXEL_BITS, name=f"{name}_first_x"), Signal(PIXEL_BITS, name=f"{name}_first_y")
            m.d.comb += [
                first.eq(Mux(beyond_rows, starts[3], Mux(wrapped, Mux(bottom, starts[2], starts[1]), starts[0]))),
                first_x.eq(by_place(columns)),
                first_y.eq(Mux(by_place(wraps), below, load.start_y)),
            ]

            over = Signal(signed(PIXEL_BITS + 1), name=f"{name}_over")
            at_end, at_bottom = Signal(name=f"{name}_at_end"), Signal(name=f"{name}_at_bottom")
            m.d.comb += [over.eq(x - limit), at_end.eq((over >= 0) & im2col), at_bottom.eq(y == bottom_row)]
            following = Signal(ADDRESS_BITS, name=f"{name}_following")
            m.d.comb += following.eq(Mux(at_end, Mux(at_bottom, address + image_end, address + row_end), address + plain))
            leader = following if leader is None else leader

            with m.If(self.start):
                m.d.sync += [place.eq(first_place), start.eq(first), start_x.eq(first_x), start_y.eq(first_y)]
                m.d.sync += [address.eq(first), x.eq(first_x), y.eq(first_y)]
            with m.Elif(self.again):
                m.d.sync += [address.eq(start), x.eq(start_x), y.eq(start_y)]
            with m.Elif(self.step):
                m.d.sync += [
                    address.eq(Mux(place >= self.rows, leader, following)),
                    x.eq(Mux(at_end, over[:PIXEL_BITS], x + pixels)),
                    y.eq(Mux(at_end, Mux(at_bottom, 0, y + 1), y)),
                ]
        return m


class WaveWalk(wiring.Component):
    """Words from kernel position (0, 0), channel wave 0 to the current wave: ``kernel`` + ``channel``, and the position.

    Waves walk channel waves first, then kernel columns, then kernel rows; without im2col they are `wave_stride` apart. ``set`` takes the
    geometry in ``conv``, ``start`` the fields of ``load``, from the next cycle on; ``advance`` goes on by a wave. Outputs show it in the
    next cycle. The two sums stay apart because the start takes three products. Multiples of the kernel's steps are ready before;
    `start_wave` times `wave_stride` is the one product that needs a multiplier block.
    """

    def __init__(self):
        super().__init__({
            "conv": In(instruction_layout("SetConv")),
            "load": In(instruction_layout("LdLBUF_H")),
            "set": In(1),
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
        # Words of n kernel columns and of n kernel rows.
        columns = [Signal(ADDRESS_BITS, name=f"columns_{n}", reset_less=True) for n in range(4)]
        rows = [Signal(ADDRESS_BITS, name=f"rows_{n}", reset_less=True) for n in range(4)]
        last_channel, last_column = Signal(8), Signal(4)
        with m.If(self.set):
            m.d.sync += [words.eq(times(conv.kernel_x_step, n)) for n, words in enumerate(columns)]
            m.d.sync += [words.eq(times(conv.kernel_y_step, n)) for n, words in enumerate(rows)]
            m.d.sync += [last_channel.eq(conv.channel_waves - 1), last_column.eq(conv.kernel_width - 1)]

        def product(multiples, factor):
            low, high = (Mux(digit[1], Mux(digit[0], multiples[3], multiples[2]), Mux(digit[0], multiples[1], 0))
                         for digit in (factor[:2], factor[2:]))
            return low + (high << 2)

        im2col, stride, wave = Signal(), Signal(ADDRESS_BITS, reset_less=True), Signal(8)
        row = Signal(ADDRESS_BITS, reset_less=True)  # of kernel column 0
        first_row, next_row = Signal(ADDRESS_BITS), Signal(ADDRESS_BITS)
        m.d.comb += [first_row.eq(product(rows, load.start_kernel_y)), next_row.eq(row + rows[1])]

        last = im2col & (wave == last_channel)
        with m.If(self.start):
            m.d.sync += [
                im2col.eq(load.im2col),
                stride.eq(load.wave_stride),
                wave.eq(load.start_wave),
                self.channel.eq(Mux(load.im2col, load.wave_stride * load.start_wave, 0)),
                row.eq(first_row),
                self.kernel.eq(Mux(load.im2col, first_row + product(columns, load.start_kernel_x), 0)),
                self.kernel_x.eq(load.start_kernel_x),
                self.kernel_y.eq(load.start_kernel_y),
            ]
        with m.Elif(self.advance):
            m.d.sync += [wave.eq(Mux(last, 0, wave + 1)), self.channel.eq(Mux(last, 0, self.channel + stride))]
            with m.If(last & (self.kernel_x == last_column)):
                m.d.sync += [row.eq(next_row), self.kernel.eq(next_row), self.kernel_x.eq(0), self.kernel_y.eq(self.kernel_y + 1)]
            with m.Elif(last):
                m.d.sync += [self.kernel.eq(self.kernel + columns[1]), self.kernel_x.eq(self.kernel_x + 1)]
        return m


def add(first, second, third):
    """Sum of three values of one width through one carry chain."""
    return (first ^ second ^ third) + (((first & second) | (first & third) | (second & third)) << 1)


def times(value, factor: int):
    """value * 0, 1, 2 or 3 without a multiplier block."""
    return (Const(0, 1), value, value << 1, (value << 1) + value)[factor]

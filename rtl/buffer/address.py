"""Addresses of the moving operand: which word of the slice each core gets, row by row and wave by wave (strided, or implicit im2col)."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from gen.config import Config, Unit
from gen.isa import Mode
from rtl.instruction import instruction_layout
from rtl.interfaces import ADDRESS_BITS

PIXEL_BITS = 12    # out_width, start_x, ...
NEAR_BITS = 3      # a step reaches at most four pixels on


def part_of(mode, core: int):
    """The part (0 .. parts - 1) of a wave's rows that a core takes: FW 0, VSW by column, HSW by row of cores, ISW one for each core."""
    low, right = divmod(core, 2)
    return Cat(Mux(mode == Mode.HSW, low, right) & (mode != Mode.FW), low & (mode == Mode.ISW))


def step_mask(rate):
    """2**rate - 1, two bits: the rows of a step count from 0 to this."""
    return Cat(rate != 0, rate[1])


def low_sum(a, b) -> Value:
    """a + b modulo their width, of a few bits, in gates: no carry chain, which costs more time than so few bits take."""
    bits, carry = [], Const(0, 1)
    for x, y in zip(a, b):
        bits.append(x ^ y ^ carry)
        carry = (x & y) | (carry & (x | y))
    return Cat(bits)


class RowWalk(wiring.Component):
    """Word addresses of the rows of a step, and where these leave the image row.

    A step is 2**rate rows; core q takes row ``places[q]`` of it, `part_of(mode, q) & step_mask(rate)`, the lower cores of a tall mode in
    the second channel block (`pitch` words on). ``conv`` is the geometry, whose differences ``set`` takes from ``new_conv`` a cycle before
    it is there; ``start`` takes the fields of ``load`` (a LdLBUF_H), from the next cycle on; ``again`` goes to the first row of the wave
    that begins at ``base``; otherwise ``step`` goes on by 2**rate rows. Outputs show it in the next cycle.
    ``rows`` of the present step count (4: all). The others get words of the first lane's bank: they cannot spoil one.
    Without im2col rows follow each other by one word. With im2col ``turned[q]``: the row of core q lies behind the end of the image row in
    which the step began, with ``columns`` pixels left in it at the start of the step (if those are less than eight); ``turns``: so does
    the first row of the next step; ``bottom``: the step began in the last row of an image. out_width >= 2**rate is taken for granted: then
    a step crosses at most one end. Addresses are modulo 2**16.

    One walker leads, the cores add what lies between. Behind an end of a row the words differ by a constant: both sums are kept.
    """

    def __init__(self, config: Config):
        self._config = config
        super().__init__({
            "conv": In(instruction_layout("SetConv")),
            "new_conv": In(instruction_layout("SetConv")),
            "load": In(instruction_layout("LdLBUF_H")),
            "set": In(1),
            "start": In(1),
            "again": In(1),
            "step": In(1),
            "base": In(ADDRESS_BITS),
            "rows": In(3),
            "addresses": Out(ADDRESS_BITS).array(config.cores),
            "places": Out(2).array(config.cores),
            "turned": Out(config.cores),
            "turns": Out(1),
            "bottom": Out(1),
            "columns": Out(NEAR_BITS),
        })

    def elaborate(self, platform):
        m = Module()
        load, conv = self.load, self.conv

        def register(name, bits=ADDRESS_BITS):
            return Signal(bits, name=name, reset_less=True)

        # Of the geometry: what the end of a row and the end of an image add.
        row_end, image_end, thrice = register("row_end"), register("image_end"), register("thrice")
        last_line, single, double = register("last_line", PIXEL_BITS), register("single", 1), register("double", 1)
        # start_x with so many pixels left in the row, start_y with one row left: compared, so that nothing waits for a difference.
        with_left = [conv.out_width, *(register(f"with_{i}_left", PIXEL_BITS) for i in range(1, 5))]
        line_above = register("line_above", PIXEL_BITS)
        with m.If(self.set):
            new = self.new_conv
            m.d.sync += [value.eq(new.out_width - i) for i, value in enumerate(with_left) if i]
            m.d.sync += line_above.eq(new.out_height - 2)
            m.d.sync += [row_end.eq(new.row_step - new.x_step), image_end.eq(new.image_step - new.x_step), thrice.eq(times(new.x_step, 3))]
            m.d.sync += [last_line.eq(new.out_height - 1), single.eq(new.out_height == 1), double.eq(new.out_height == 2)]

        # Of the instruction: words of a step, with no end, a row's and an image's in it; its pixels, and when the next row, too, ends.
        one, step_words, step_pixels = Signal(ADDRESS_BITS, name="one"), Signal(ADDRESS_BITS, name="step_words"), Signal(NEAR_BITS)
        im2col, pixels, wrap = register("im2col", 1), register("pixels", NEAR_BITS), register("wrap", PIXEL_BITS)
        words, row_words, image_words = register("words"), register("row_words"), register("image_words")
        m.d.comb += [one.eq(Mux(load.im2col, conv.x_step, 1)), step_words.eq(one << load.rate), step_pixels.eq(1 << load.rate)]
        with m.If(self.start):
            m.d.sync += [im2col.eq(load.im2col), pixels.eq(step_pixels), wrap.eq(conv.out_width - step_pixels)]
            m.d.sync += [words.eq(step_words), row_words.eq(step_words + row_end), image_words.eq(step_words + image_end)]

        # The leader's place in the image: pixels left in the row, rows left below. The flags tell the present from the next step in time:
        # `near` that the row may end within the step, `turns` that it ends with it at the latest, `bottom` an image's last row.
        # Each is known of a first step, and prepared of a step without and with an end before it.
        state = {"columns": PIXEL_BITS, "lines": PIXEL_BITS, "near": 1, "turns": 1, "bottom": 1, "above": 1}
        now, first, new, next_ = ({name: register(f"{when}_{name}", bits) for name, bits in state.items()}
                                  for when in ("now", "first", "new", "next"))
        left = Cat(load.start_x == value for value in with_left)     # bit i: so many pixels
        m.d.comb += [
            new["columns"].eq(conv.out_width - load.start_x),
            new["lines"].eq(last_line - load.start_y),
            new["near"].eq(load.im2col & left[:4].any()),
            new["turns"].eq(load.im2col & (left & ((2 << step_pixels) - 1)).any()),
            new["bottom"].eq(load.start_y == last_line),
            new["above"].eq(Mux(new["bottom"], single, load.start_y == line_above)),
        ]
        columns, lines, bottom, above = (now[name] for name in ("columns", "lines", "bottom", "above"))
        narrow = {name: register(f"narrow_{name}", NEAR_BITS) for name in ("near", "turns")}    # columns left, for the next row to end soon
        reach = {"near": 3, "turns": step_pixels}
        with m.If(self.start):
            m.d.sync += [first[name].eq(new[name]) for name in state]
            for name, limit in narrow.items():
                enough = step_pixels + reach[name]
                m.d.sync += limit.eq(Mux(conv.out_width >= enough, 0, enough - conv.out_width[:4]))
        with m.If(now["turns"]):
            m.d.comb += [
                next_["columns"].eq(columns + wrap),
                next_["lines"].eq(Mux(bottom, last_line, lines - 1)),
                *(next_[name].eq(columns[:NEAR_BITS] <= limit) for name, limit in narrow.items()),
                next_["bottom"].eq(above),
                next_["above"].eq(Mux(above, single, Mux(bottom, double, lines == 2))),
            ]
        with m.Else():
            m.d.comb += [
                *(next_[name].eq(now[name]) for name in ("lines", "bottom", "above")),
                next_["columns"].eq(columns - pixels),
                next_["near"].eq(im2col & (columns <= pixels + 3)),
                next_["turns"].eq(im2col & (columns <= (pixels << 1))),
            ]
        with m.If(self.start):
            m.d.sync += [now[name].eq(new[name]) for name in state]
        with m.Elif(self.again):
            m.d.sync += [now[name].eq(first[name]) for name in state]
        with m.Elif(self.step):
            m.d.sync += [now[name].eq(next_[name]) for name in state]

        # Its address, and the same behind the end of the row.
        here, behind, begin = register("here"), register("behind"), Signal(ADDRESS_BITS, name="begin")
        m.d.comb += begin.eq(Mux(self.start, load.address, self.base))
        with m.If(self.start | self.again):
            m.d.sync += here.eq(begin)
            m.d.sync += behind.eq(begin + Mux(Mux(self.start, new["bottom"], first["bottom"]), image_end, row_end))
        with m.Elif(self.step):
            m.d.sync += here.eq(Mux(now["turns"], behind, here) + words)
            m.d.sync += behind.eq(behind + Mux(now["turns"], Mux(above, image_words, row_words), words))
        m.d.comb += [self.turns.eq(now["turns"]), self.bottom.eq(bottom), self.columns.eq(columns)]

        # The cores.
        flex, mask = self._config.array.unit is Unit.FLEX, step_mask(load.rate)
        m.d.comb += [self.places[0].eq(0), self.turned[0].eq(0), self.addresses[0].eq(here)]
        for core in range(1, self._config.cores):
            name = f"core{core}"
            place, between = register(f"{name}_place", 2), register(f"{name}_between")
            new_place, rows_between = Signal(2, name=f"{name}_new_place"), Signal(ADDRESS_BITS, name=f"{name}_rows_between")
            m.d.comb += new_place.eq(part_of(load.mode, core) & mask)
            multiples = (0, one, one << 1, Mux(load.im2col, thrice, 3))
            possible = sorted({part & most for part in (0, core & 1, core >> 1, core) for most in (0, 1, 3)})
            m.d.comb += rows_between.eq(multiples[possible[0]])
            for rows in possible[1:]:
                with m.If(new_place == rows):
                    m.d.comb += rows_between.eq(multiples[rows])
            # In a tall mode core 2 always has the first row of a step.
            tall = ~load.mode[1] if flex and core >= 2 else Const(0, 1)
            lower = Mux(tall, load.pitch, rows_between) if core == 2 else rows_between + (load.pitch & tall.replicate(ADDRESS_BITS))
            turned = register(f"{name}_turned", 1)
            with m.If(self.start):
                m.d.sync += [place.eq(new_place), between.eq(lower), turned.eq(new["near"] & (new["columns"][:2] <= new_place))]
            with m.Elif(self.again):
                m.d.sync += turned.eq(first["near"] & (first["columns"][:2] <= place))
            with m.Elif(self.step):
                m.d.sync += turned.eq(next_["near"] & (next_["columns"][:2] <= place))
            address = Signal(ADDRESS_BITS, name=f"{name}_address")
            filler, bank = ~self.rows[2] & (place >= self.rows[:2]), (self._config.banks - 1).bit_length()
            # Of the address the bank is needed first: from both bases, while it is still being found out which of them it is.
            banks = [low_sum(base[:bank], between[:bank]) for base in (here, behind)]
            m.d.comb += [
                self.places[core].eq(place),
                self.turned[core].eq(turned),
                address.eq(Mux(self.turned[core], behind, here) + between),
                self.addresses[core].eq(Cat(Mux(filler, here[:bank], Mux(self.turned[core], banks[1], banks[0])), address[bank:])),
            ]
        return m


class WaveWalk(wiring.Component):
    """First words of the waves, one after the other, and their kernel position.

    Waves walk channel waves first, `wave_stride` apart, then kernel columns, then kernel rows; without im2col all are `wave_stride` apart.
    ``set`` takes counts from ``new_conv``, a cycle before it is ``conv``; ``start`` takes the fields of ``load``, ``advance`` goes on by a
    wave. In the next cycle ``kernel_x`` and ``kernel_y`` are those of this wave, ``following`` is where the wave behind it begins.
    """

    def __init__(self):
        super().__init__({
            "conv": In(instruction_layout("SetConv")),
            "new_conv": In(instruction_layout("SetConv")),
            "load": In(instruction_layout("LdLBUF_H")),
            "set": In(1),
            "start": In(1),
            "advance": In(1),
            "following": Out(ADDRESS_BITS),
            "kernel_x": Out(4),
            "kernel_y": Out(4),
        })

    def elaborate(self, platform):
        m = Module()
        load, conv = self.load, self.conv
        im2col, stride = Signal(), Signal(ADDRESS_BITS, reset_less=True)
        base, step = Signal(ADDRESS_BITS, reset_less=True), Signal(ADDRESS_BITS, reset_less=True)      # to the next wave
        most_waves, most_columns = Signal(8, reset_less=True), Signal(4, reset_less=True)
        single_wave, single_column = Signal(reset_less=True), Signal(reset_less=True)
        with m.If(self.set):
            new = self.new_conv
            m.d.sync += [most_waves.eq(new.channel_waves - 1), most_columns.eq(new.kernel_width - 1)]
            m.d.sync += [single_wave.eq(new.channel_waves == 1), single_column.eq(new.kernel_width == 1)]
        m.d.comb += self.following.eq(base + step)

        # Channel waves and kernel columns behind this one, and whether there are none, of a wave that starts and of one that follows. All
        # is there before it is known which of the two comes.
        state = {"waves": 8, "columns": 4, "last_wave": 1, "last_column": 1, "step": ADDRESS_BITS}
        first, next_ = ({name: Signal(bits, name=f"{when}_{name}") for name, bits in state.items()} for when in ("first", "next"))
        now = {name: Signal(bits, name=name) for name, bits in state.items() if name != "step"} | {"step": step}
        waves, columns, last_wave, last_column = (now[name] for name in ("waves", "columns", "last_wave", "last_column"))
        m.d.comb += [
            first["waves"].eq(most_waves - load.start_wave),
            first["columns"].eq(most_columns - load.start_kernel_x),
            first["last_wave"].eq(load.im2col & (load.start_wave == most_waves)),
            first["last_column"].eq(load.start_kernel_x == most_columns),
            next_["waves"].eq(Mux(last_wave, most_waves, waves - 1)),
            next_["columns"].eq(Mux(last_wave, Mux(last_column, most_columns, columns - 1), columns)),
            next_["last_wave"].eq(im2col & Mux(last_wave, single_wave, waves == 1)),
            next_["last_column"].eq(Mux(last_wave, Mux(last_column, single_column, columns == 1), last_column)),
        ]
        for coming, within in ((first, load.wave_stride), (next_, stride)):
            ends = Mux(coming["last_column"], conv.kernel_y_step, conv.kernel_x_step)
            m.d.comb += coming["step"].eq(Mux(coming["last_wave"], ends, within))
        with m.If(self.start | self.advance):
            m.d.sync += [now[name].eq(Mux(self.start, first[name], next_[name])) for name in state]
        with m.If(self.start):
            m.d.sync += [
                im2col.eq(load.im2col), stride.eq(load.wave_stride), base.eq(load.address),
                self.kernel_x.eq(load.start_kernel_x), self.kernel_y.eq(load.start_kernel_y),
            ]
        with m.Elif(self.advance):
            m.d.sync += base.eq(self.following)
            with m.If(last_wave):
                m.d.sync += [self.kernel_x.eq(Mux(last_column, 0, self.kernel_x + 1)), self.kernel_y.eq(self.kernel_y + last_column)]
        return m


def times(value, factor: int):
    """value * 0, 1, 2 or 3 without a multiplier block."""
    return (Const(0, 1), value, value << 1, (value << 1) + value)[factor]

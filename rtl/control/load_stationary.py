"""LOAD_V: stationary tiles from the global buffer to the LBUF-Vs, broadcast to the cores that share one."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In
from amaranth.utils import ceil_log2

from gen.config import Config
from gen.config import Unit as ArrayUnit
from gen.isa import OPCODES, Mode, Unit
from rtl.buffer.pixel_walk import PixelWalk
from rtl.control.load import Delivery, head, loader_ports
from rtl.instruction import instruction_layout
from rtl.interfaces import ADDRESS_BITS


class LoadStationary(wiring.Component):
    """One tile is `side` rows, one row a cycle, each of `Mode.stationary_words` consecutive words (one on QUAD and SINGLE).

    A tile is decided in d when the unit is free (or in its last issue cycle), a ring slot is free and, for the first tile, head and tokens
    are there; it is read in d + 1 .. d + side and written four cycles later; ``ready`` is asserted in d + LOAD_LATENCY - 1, tokens in the
    last issue cycle of the last tile. Tiles follow without a gap. ``release`` gives a slot back, counted from the next cycle; more releases
    than tiles are not noticed. A row of a LdPixels, which bf16 machines know, is a pixel, of one word or two; a tall tile takes twice the
    cycles, first the upper cores' rows, then the lower ones', and is ``ready`` `side` cycles later.
    ``words``: words sent in this issue cycle; a broadcast between sub-cores of a FlexSA unit counts once.
    ``waiting``: work is there, but nothing is issued or on its way (a decision may be due); ``index`` names its instruction.
    """

    def __init__(self, config: Config):
        self._config = config
        self._depth = config.buffers.stationary_tiles * config.array.side
        super().__init__(loader_ports(config, Unit.LOAD_V, depth=self._depth) | {"release": In(1)})

    def elaborate(self, platform):
        m = Module()
        config, flex = self._config, self._config.array.unit is ArrayUnit.FLEX
        side = config.array.side
        load = head(self.instruction, "LdLBUF_V")       # LdPixels begins with the same fields

        issuing, more, first, last = Signal(), Signal(), Signal(), Signal()
        waves = Signal(16)             # tiles of the instruction not decided yet
        free = Signal(range(config.stationary_capacity + 1), init=config.stationary_capacity)
        returned, some = Signal.like(free), Signal(init=1)      # free, with what is given back; whether any is free
        row = Signal(ceil_log2(2 * side if config.floating else side))
        index = Signal(32)
        current = Signal(instruction_layout("LdLBUF_V"))

        start, follow, decide = Signal(), Signal(), Signal()
        fresh, again = Signal(init=1), Signal() # free for the queue head, for the next tile
        m.d.comb += [
            start.eq(fresh & some & self.instruction.valid & self.tokens.ready),
            follow.eq(again & some),
            decide.eq(start | follow),
            self.instruction.ready.eq(start),
            self.tokens.wait.eq(load.wait),
            self.tokens.group.eq(load.group),
            self.tokens.take.eq(start),
            self.tokens.signal.eq(Mux(issuing & last & ~more, current.signal, 0)),
            self.tokens.signal_group.eq(current.group),
        ]
        # A decision comes late in the cycle: what it brings and only matters in issue cycles is taken over whenever the unit is free for
        # it, decided or not.
        m.d.comb += returned.eq(free + self.release)
        m.d.sync += [free.eq(Mux(decide, returned - 1, returned)), some.eq(Mux(decide, returned[1:].any(), returned.any()))]
        # Issue cycles of a tile; whether the coming one has a single one.
        length, short = side, side == 1
        pixels, double = Signal(), Signal()     # of the present instruction: it is a LdPixels, and one of tall tiles
        if config.floating:
            head_pixels, head_double = Signal(), Signal()
            m.d.comb += [head_pixels.eq(load.opcode == OPCODES["LdPixels"].code), head_double.eq(head_pixels & ~load.mode[1] & flex)]
            with m.If(fresh):
                m.d.sync += [pixels.eq(head_pixels), double.eq(head_double)]
            length, short = Mux(double, 2 * side, side), (side == 1) & ~Mux(fresh, head_double, double)
        with m.If(fresh):
            m.d.sync += [current.eq(load), index.eq(self.instruction.payload.index), waves.eq(load.waves - 1)]
            m.d.sync += more.eq(start & (load.waves != 1))
        with m.Elif(follow):
            m.d.sync += [waves.eq(waves - 1), more.eq(waves != 1)]
        with m.If(fresh | again):
            m.d.sync += [issuing.eq(decide), first.eq(1), row.eq(0), last.eq(short)]
        with m.Else():
            m.d.sync += [first.eq(0), row.eq(row + 1), last.eq(row + 2 == length)]
        # Free again when no issue cycle comes next, or a tile's last one.
        single, final = load.waves == 1, waves == 1
        with m.If(fresh):
            m.d.sync += [fresh.eq(Mux(start, short & single, 1)), again.eq(start & short & ~single)]
        with m.Elif(again):
            m.d.sync += [fresh.eq(follow & short & final), again.eq(Mux(follow, short & ~final, 1))]
        with m.Else():
            m.d.sync += [fresh.eq((row + 2 == length) & ~more), again.eq((row + 2 == length) & more)]

        # Tiles lie one behind the other in the slice and in the ring: both addresses just run on.
        stride, place = Signal(3), Signal(ADDRESS_BITS, reset_less=True)
        m.d.comb += stride.eq(words_a_row(current.mode) if flex else 1)
        with m.If(issuing):
            m.d.sync += place.eq(place + stride)
        with m.If(fresh):
            m.d.sync += place.eq(load.address)
        walk, wide = PixelWalk() if config.floating else None, ~current.mode[0] if flex else Const(0)
        for core, address in enumerate(self.read.addresses):
            packed = place + (word_of(current.mode, core) if flex else 0)
            m.d.comb += address.eq(Mux(pixels, Mux(wide & (core & 1), walk.second, walk.address), packed) if walk else packed)
        target = Signal(range(self._depth))
        with m.If(issuing):
            m.d.sync += target.eq(target + 1)

        m.submodules.delivery = delivery = Delivery(config, depth=self._depth)
        wiring.connect(m, wiring.flipped(self.write), delivery.write)
        words, cores, begins = stride if flex else config.cores, issuing.replicate(config.cores), first
        if walk:
            m.submodules.pixels = walk
            m.d.comb += [walk.load.eq(head(self.instruction, "LdPixels")), walk.start.eq(fresh), walk.step.eq(issuing & pixels)]
            m.d.comb += delivery.outside.eq(walk.outside.replicate(config.cores))
            # Of a tall tile the lower rows come behind the upper ones: back to the slot's first word, and with its second half it is ready.
            with m.If(issuing & double & (row == side - 1)):
                m.d.sync += target.eq(target - (side - 1))
            begins = Mux(double, row == side, first)
            if flex:
                words = Mux(pixels, 1 + wide, stride)
                cores = cores & Mux(double, Mux(row < side, 0b0011, 0b1100), 0b1111)
        m.d.comb += [
            self.read.enable.eq(issuing),
            self.read.slice.eq(current.slice),
            delivery.cores.eq(cores),
            delivery.address.eq(target),
            delivery.zero_point.eq(current.zero_point),
            delivery.is_signed.eq(current.signed),
            delivery.event.eq(issuing & begins),
            self.ready.eq(delivery.ready),
            self.issuing.eq(issuing),
            self.words.eq(Mux(issuing, words, 0)),
            self.idle.eq(~issuing & ~more),
            self.waiting.eq((more | self.instruction.valid) & ~issuing & ~delivery.busy),
            self.index.eq(Mux(more, index, self.instruction.payload.index)),
        ]
        m.d.comb += [delivery.data[core].eq(self.read.data[core]) for core in range(config.cores)]
        return m


def words_a_row(mode):
    """Words of a tile row: FW 4, VSW and HSW 2, ISW 1."""
    return Cat(mode == Mode.ISW, (mode == Mode.VSW) | (mode == Mode.HSW), mode == Mode.FW)


def word_of(mode, core: int):
    """Which word of a tile row a core gets: FW its own, VSW one for each row of cores, HSW one for each column, ISW the same for all."""
    low, right = divmod(core, 2)
    return Cat(Mux(mode == Mode.VSW, low, right) & (mode != Mode.ISW), low & (mode == Mode.FW))

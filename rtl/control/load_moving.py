"""LOAD_H: moving tiles from the global buffer to the LBUF-Hs, plain or as an implicit im2col."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from gen.config import Config
from gen.config import Unit as ArrayUnit
from gen.isa import OPCODES, Unit
from rtl.buffer.address import RowWalk, WaveWalk, part_of, step_mask
from rtl.buffer.pixels import PixelCheck
from rtl.control.load import Delivery, head, loader_ports
from rtl.instruction import instruction_layout


class LoadMoving(wiring.Component):
    """A wave is ceil(rows / parts) words of the ring and takes ceil(rows / 2**rate) issue cycles.

    It is decided in d when the unit is free (or in its last issue cycle), so many words are free and, for the first wave, head and tokens
    are there; it is read in d + 1 .. d + n and written four cycles later. ``ready`` is asserted LOAD_LATENCY - 2 cycles after its first
    issue cycle (2**rate = parts) or its last one (slower), tokens in the last issue cycle of the last wave. SetConv: one empty issue cycle.
    Waves and instructions follow without a gap. ``release`` gives words back, counted from the next cycle; releasing more than were taken
    is not noticed. Row r goes to word r // parts of the ring, in the cores of its part; rows beyond the last that fill up a step hold
    anything. ``words``: words read in this issue cycle for rows that count, padding included.
    ``waiting``: work is there, but nothing is issued or on its way (a decision may be due); ``index`` names its instruction.
    With im2col the program keeps the words of a step's rows in different banks (padding pixels included) and out_width >= 2**rate.
    """

    def __init__(self, config: Config):
        self._config = config
        self._depth = config.buffers.moving_words
        super().__init__(loader_ports(config, Unit.LOAD_H, depth=self._depth) | {"release": In(range(config.moving_capacity + 1))})

    def elaborate(self, platform):
        m = Module()
        config, unit, capacity = self._config, self._config.array.unit, self._config.moving_capacity
        load, conv = head(self.instruction, "LdLBUF_H"), Signal(instruction_layout("SetConv"))
        is_conv = Signal()
        m.d.comb += is_conv.eq(load.opcode == OPCODES["SetConv"].code)

        issuing, reading, more, first, last = Signal(), Signal(), Signal(), Signal(), Signal()
        waves = Signal(16)                          # waves of the instruction not decided yet
        left = Signal(16)                           # rows of the wave from this issue cycle on
        many = Signal()                             # four or more
        free = Signal(range(capacity + 1), init=capacity)
        streamed = Signal.like(free)
        phase = Signal(2)                           # first row of the step, modulo parts
        target, pointer = Signal(range(self._depth)), Signal(range(self._depth))   # ring: this step's word, next wave's first
        index, current = Signal(32), Signal(instruction_layout("LdLBUF_H"))

        # Decisions. The queue knows the words of the head's waves (none of SetConv's); for a next wave, which is as long as the one before,
        # `spare` is what is free beyond it.
        start, follow, begin = Signal(), Signal(), Signal()
        spare = Signal(signed(len(free) + 2))
        fresh, again = Signal(init=1), Signal()     # free for the queue head, for the next wave
        single = Signal()                           # the queue head is a SetConv or has a single wave
        wave_words = self.instruction.p.wave_words
        m.d.comb += [
            single.eq(is_conv | (load.waves == 1)),
            start.eq(fresh & self.instruction.valid & self.tokens.ready & (free >= wave_words)),
            follow.eq(again & (spare >= 0)),
            begin.eq((start & ~is_conv) | follow),
            self.instruction.ready.eq(start),
            self.tokens.wait.eq(load.wait),
            self.tokens.group.eq(load.group),
            self.tokens.take.eq(start),
            self.tokens.signal.eq(Mux(issuing & last & ~more, current.signal, 0)),
            self.tokens.signal_group.eq(current.group),
        ]
        # A decision comes late in the cycle. What it brings is known before: `more` tells whether it is the next wave's or the queue
        # head's, and what only matters in issue cycles is taken over whenever the unit is free for it, decided or not.
        rows, rate = Signal(16), Signal(2)
        m.d.comb += [rows.eq(Mux(more, current.rows, load.rows)), rate.eq(Mux(more, current.rate, load.rate))]
        with m.If(fresh):
            m.d.sync += [current.eq(load), index.eq(self.instruction.payload.index), streamed.eq(wave_words)]
            m.d.sync += [waves.eq(load.waves - 1), more.eq(start & ~single)]
        with m.Elif(follow):
            m.d.sync += [waves.eq(waves - 1), more.eq(waves != 1)]

        new_conv, set_conv = head(self.instruction, "SetConv"), fresh & self.instruction.valid & is_conv
        with m.If(set_conv):
            m.d.sync += conv.eq(new_conv)

        # Issue cycles. The unit is free when none comes next, or the wave's last one. `short`: the wave has one issue cycle.
        short, ending = Signal(), Signal()
        m.d.comb += [short.eq(Mux(more, 0, is_conv) | (rows <= (1 << rate))), ending.eq(left <= (2 << current.rate))]
        with m.If(fresh | again):
            m.d.sync += [issuing.eq(start | follow), reading.eq(begin), first.eq(1), left.eq(rows), many.eq(rows[2:].any()), last.eq(short)]
        with m.Else():
            m.d.sync += [first.eq(0), last.eq(ending), left.eq(left - (1 << current.rate)), many.eq(left >= (1 << current.rate) + 4)]
        # A wave with one issue cycle is one word of the ring. Of a longer one the words are taken in its first issue cycle, in which
        # nothing is decided: only then are they counted.
        taken, long = Signal.like(free), Signal()
        m.d.comb += taken.eq(Mux(long, streamed, 0))
        # Two sums of different shape: of two alike synthesis makes one, with the decision in front of it.
        m.d.sync += [long.eq(begin & ~short), free.eq(Mux(begin & short, free + (self.release - 1), free + self.release - taken))]
        # What is given back comes late in the cycle: it is added to what the rest has come to.
        rest = Signal.like(spare)
        with m.If(fresh):
            m.d.comb += rest.eq(free - 2)               # if it is short: itself and one like it
        with m.Elif(long):
            m.d.comb += rest.eq(free - (streamed << 1))
        with m.Else():
            m.d.comb += rest.eq(spare - follow)
        m.d.sync += spare.eq(rest + self.release)
        with m.If(fresh):
            m.d.sync += [fresh.eq(Mux(start, short & single, 1)), again.eq(start & short & ~single)]
        with m.Elif(again):
            m.d.sync += [fresh.eq(follow & short & (waves == 1)), again.eq(Mux(follow, short & (waves != 1), 1))]
        with m.Else():
            m.d.sync += [fresh.eq(ending & ~more), again.eq(ending & more)]

        # Where the step's rows go.
        mask, parts_mask, row_end = step_mask(current.rate), Signal(2), Signal()
        m.d.comb += [parts_mask.eq((1 << log2_parts(current.mode, unit)) - 1), row_end.eq((phase | mask) == parts_mask)]
        with m.If(long | (begin & short)):      # late as it is, the decision only lets the register take its next value
            m.d.sync += pointer.eq(pointer + Mux(long, streamed, 1))
        with m.If(fresh | again):
            m.d.sync += [phase.eq(0), target.eq(pointer)]
        with m.Else():
            m.d.sync += [phase.eq((phase + mask + 1) & parts_mask), target.eq(target + row_end)]
        cores = [reading & takes_part(current.mode, mask, phase, core, unit) for core in range(config.cores)]

        # Where they come from.
        m.submodules.rows = walk = RowWalk(config)
        m.submodules.waves = wave = WaveWalk()
        m.submodules.pixels = pixels = PixelCheck(config)
        m.submodules.delivery = delivery = Delivery(config, depth=self._depth)
        m.d.comb += [
            walk.conv.eq(conv), walk.load.eq(load), walk.start.eq(fresh), walk.again.eq(again), walk.step.eq(1),
            walk.new_conv.eq(new_conv), walk.set.eq(set_conv), walk.base.eq(wave.following),
            walk.rows.eq(Cat(left[:2], many)),
            wave.conv.eq(conv), wave.new_conv.eq(new_conv), wave.set.eq(set_conv), wave.load.eq(load),
            wave.start.eq(fresh), wave.advance.eq(follow),
            pixels.conv.eq(conv), pixels.load.eq(current), pixels.kernel_x.eq(wave.kernel_x), pixels.kernel_y.eq(wave.kernel_y),
            pixels.first.eq(first), pixels.turned.eq(walk.turned), pixels.turns.eq(walk.turns), pixels.bottom.eq(walk.bottom),
            pixels.columns.eq(walk.columns),
            self.read.enable.eq(reading), self.read.slice.eq(current.slice),
        ]
        for core in range(config.cores):
            m.d.comb += [
                self.read.addresses[core].eq(walk.addresses[core]),
                pixels.places[core].eq(walk.places[core]),
                delivery.data[core].eq(self.read.data[core]),
            ]

        wiring.connect(m, wiring.flipped(self.write), delivery.write)
        counted = Mux(left > mask, mask + 1, left[:2])
        m.d.comb += [
            delivery.cores.eq(Cat(*cores)), delivery.address.eq(target), delivery.outside.eq(pixels.outside),
            delivery.zero_point.eq(current.zero_point), delivery.is_signed.eq(current.signed),
            delivery.event.eq(reading & Mux(mask == parts_mask, first, last)),
            self.ready.eq(delivery.ready),
            self.issuing.eq(issuing),
            self.words.eq(Mux(reading, counted << (~current.mode[1] if unit is ArrayUnit.FLEX else 0), 0)),
            self.idle.eq(~issuing & ~more),
            self.waiting.eq((more | self.instruction.valid) & ~issuing & ~delivery.busy),
            self.index.eq(Mux(more, index, self.instruction.payload.index)),
        ]
        return m


def wave_words(bits, unit: ArrayUnit):
    """`wave_words` of an instruction's `queued_layout`."""
    layout = instruction_layout("LdLBUF_H")
    load = layout(bits[:layout.size])
    shift = log2_parts(load.mode, unit)
    return Mux(load.opcode == OPCODES["SetConv"].code, 0, (load.rows >> shift) + (load.rows & ((1 << shift) - 1)).any())


def log2_parts(mode, unit: ArrayUnit):
    """log2 of the parts among which rows are dealt: FW 0, VSW and HSW 1, ISW 2; a single core knows FW only, four apart ISW only."""
    return {ArrayUnit.FLEX: mode[0] + mode[1], ArrayUnit.QUAD: Const(2), ArrayUnit.SINGLE: Const(0)}[unit]


def takes_part(mode, mask, phase, core: int, unit: ArrayUnit):
    """Whether a core's LBUF-H is written in a step that begins with row `phase` of the parts. In wide modes left cores pass words on."""
    if unit is ArrayUnit.SINGLE:
        return 1
    used = mode[0] if core & 1 else 1
    return used & (((part_of(mode, core) ^ phase) & ~mask) == 0)

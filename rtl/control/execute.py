"""EXECUTE: shifts stationary tiles into the array and streams moving tiles through it, wave after wave."""

from amaranth.hdl import C, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from gen import isa, timing
from gen.config import Config, Unit
from gen.isa import Stall
from rtl.array.skew import Line
from rtl.control.queue import Queue
from rtl.instruction import entry_layout, instruction_layout
from rtl.interfaces import TOKEN_BITS, TokenPort

_SIGNAL = data.StructLayout({"signal": TOKEN_BITS, "group": 2})


class Execute(wiring.Component):
    """The two-stage controller of one group's array; `rtl/README.md`, EXECUTE, defines each cycle.

    ``shift`` is high in the `side` cycles that read the rows of a stationary tile, ``capture`` in the first of them; ``step`` in
    the cycles that read the rows of a moving tile, ``first`` in the first of them. The wave's ``tall``, ``wide``, ``half`` and
    ``overwrite`` hold until the next one; ``keep[q]`` says that the row core q gets in this step exists. All are in core 0's time;
    core q is due `config.core_offset(q)` later.
    ``moving_ready`` and ``stationary_ready`` are pulses, counted in the next cycle; the releases count words and tiles.
    ``wave`` is the stream decision of a wave of mode ``wave_mode``, ``stall`` says what this cycle is spent on.
    An instruction is taken when its first wave shifts. ``index`` is that of the oldest instruction held or seen, ``waiting`` says
    that it waits and nothing is under way. ``idle``: nothing is held, no token is still to come.
    Field ranges are the dispatcher's to check.
    """

    def __init__(self, config: Config):
        self.config = config
        super().__init__({
            "instruction": In(stream.Signature(entry_layout(config, isa.Unit.EXECUTE))),
            "tokens": Out(TokenPort()),
            "moving_ready": In(1),
            "stationary_ready": In(1),
            "moving_release": Out(range(config.moving_capacity + 1)),
            "stationary_release": Out(1),
            "shift": Out(1),
            "capture": Out(1),
            "step": Out(1),
            "first": Out(1),
            "tall": Out(1),
            "wide": Out(1),
            "half": Out(1),
            "overwrite": Out(1),
            "keep": Out(config.cores),
            "stall": Out(Stall),
            "wave": Out(1),
            "wave_mode": Out(2),
            "active": Out(1),
            "idle": Out(1),
            "waiting": Out(1),
            "index": Out(32),
        })

    def elaborate(self, platform):
        m = Module()
        config, array = self.config, self.config.array
        drain, least = timing.drain(config), timing.interval(config, 1)
        tail = timing.penalty(config) if array.unit is Unit.FLEX else 0     # a short wave behind a tall one in the same half
        words, cycles = range(config.moving_capacity + 1), range(max(config.moving_capacity, least) + tail + 1)

        # Tiles that wait in the local buffers.
        moving_ready, stationary_ready = Signal(words), Signal(range(config.stationary_capacity + 1))
        shifting, streaming = Signal(), Signal()     # the decisions
        for tiles, one_more, decided in (
                (moving_ready, self.moving_ready, streaming), (stationary_ready, self.stationary_ready, shifting)):
            m.d.sync += tiles.eq(Mux(decided, tiles + one_more - 1, tiles + one_more))     # decisions come late

        # Shift stage. `pending`: a tile is in the shadow registers or on its way there; `waves` are still to shift, `more`: at least one.
        layout = instruction_layout("ExecGEMM")
        head = data.View(layout, self.instruction.payload.bits)
        current, index = Signal(layout), Signal(32)
        waves, streamed = Signal(16), Signal(words)
        pending, fresh, more, final = Signal(), Signal(), Signal(), Signal()
        shift_left = Signal(range(array.side + 1))
        rows, taken = Signal(16), Signal()
        m.d.comb += [
            shifting.eq(~pending & (stationary_ready != 0) & (more | self.instruction.valid)),
            taken.eq(shifting & ~more),
            self.instruction.ready.eq(taken),
            rows.eq(self._streamed(head)),
            self.shift.eq(shift_left != 0),
            self.capture.eq(shift_left == array.side),
            self.stationary_release.eq(shift_left == 1),
        ]
        with m.If(shifting):
            m.d.sync += [pending.eq(1), fresh.eq(taken), shift_left.eq(array.side)]
        with m.Elif(self.shift):
            m.d.sync += shift_left.eq(shift_left - 1)
        with m.If(taken):
            m.d.sync += [
                current.eq(head),
                index.eq(self.instruction.payload.index),
                streamed.eq(rows),
                waves.eq(head.waves - 1),
                more.eq(head.waves != 1),
                final.eq(head.waves == 1),
            ]
        with m.Elif(shifting):
            m.d.sync += [waves.eq(waves - 1), more.eq(waves != 1), final.eq(waves == 1)]

        # Stream stage. `occupied` counts a wave's interval and `tail` more cycles, in which only the penalty is still felt.
        occupied, stream_left, total = Signal(cycles), Signal(words), Signal(words)
        last, fill = Signal(), Signal(2)
        tall, wide = self._tall(current), self._wide(current)
        conflict = self.tall & ~tall & (self.half == current.half)
        ready, tokens_ready, clear = Signal(), Signal(), Signal()
        over, passed = Signal(init=1), Signal(init=1)      # the interval ends now or has ended; so has the penalty
        m.d.comb += [
            ready.eq(pending & (shift_left <= 2) & (moving_ready != 0)),
            tokens_ready.eq(~fresh | self.tokens.ready),
            clear.eq(Mux(conflict, passed, over)),
            streaming.eq(ready & tokens_ready & clear),
            self.tokens.wait.eq(current.wait),
            self.tokens.group.eq(current.group),
            self.tokens.take.eq(streaming & fresh),
            self.moving_release.eq(Mux(stream_left == 1, total, 0)),
            self.wave.eq(streaming),
            self.wave_mode.eq(current.mode),
        ]
        m.d.sync += self.first.eq(streaming)
        with m.If(streaming):
            m.d.sync += [
                pending.eq(0),
                total.eq(streamed),
                self.step.eq(1),
                stream_left.eq(streamed),
                occupied.eq(Mux(streamed > least, streamed + tail, least + tail)),
                over.eq(0),
                passed.eq(0),
                self.tall.eq(tall),
                self.wide.eq(wide),
                self.half.eq(current.half),
                self.overwrite.eq(fresh & ~current.accumulate),
                fill.eq(current.rows - 1),
                last.eq(final),
            ]
        with m.Else():
            m.d.sync += [self.step.eq(self.step & (stream_left != 1)), stream_left.eq(stream_left - self.step)]
            m.d.sync += [occupied.eq(occupied - (occupied != 0)), passed.eq(passed | (occupied == 2))]
            m.d.sync += over.eq(over | (occupied == 2 + tail))
        for core in range(config.cores):
            m.d.comb += self.keep[core].eq((stream_left != 1) | self._exists(core, fill))

        # Tokens: a bit that takes as long as the array needs to drain says when, a queue says which.
        ending = Line(m, last & (stream_left == 1), longest=drain, name="ending").tap(drain)
        m.submodules.signals = signals = Queue(shape=_SIGNAL, depth=drain // least + 2)
        m.d.sync += [
            signals.push.eq(streaming & final),
            signals.entry.signal.eq(current.signal),
            signals.entry.group.eq(current.group),
        ]
        m.d.comb += [
            signals.head.ready.eq(ending),
            self.tokens.signal.eq(Mux(ending, signals.head.payload.signal, 0)),
            self.tokens.signal_group.eq(signals.head.payload.group),
        ]

        # What can be seen from outside.
        draining, drains, held = Signal(range(drain + 1)), Signal(), Signal()
        m.d.sync += [draining.eq(Mux(self.step, drain, draining - (draining != 0))), drains.eq(self.step | (draining > 1))]
        m.d.comb += [
            held.eq(pending | more),
            self.active.eq(self.step | drains),
            self.idle.eq(~held & ~self.active),
            self.waiting.eq((held | self.instruction.valid) & ~self.shift & ~self.active),
            self.index.eq(Mux(held, index, self.instruction.payload.index)),
        ]
        with m.If(occupied > tail):
            m.d.comb += self.stall.eq(Stall.ARRAY)
        with m.Elif(~pending & ~more & ~self.instruction.valid):
            m.d.comb += self.stall.eq(Stall.INSTRUCTION)
        with m.Elif(~pending & (stationary_ready == 0)):
            m.d.comb += self.stall.eq(Stall.STATIONARY)
        with m.Elif(~pending | (shift_left > 2)):
            m.d.comb += self.stall.eq(Stall.SHIFT)
        with m.Elif(moving_ready == 0):
            m.d.comb += self.stall.eq(Stall.MOVING)
        with m.Elif(~tokens_ready):
            m.d.comb += self.stall.eq(Stall.TOKEN)
        with m.Elif(~clear):
            m.d.comb += self.stall.eq(Stall.ACCUMULATOR)
        with m.Else():
            m.d.comb += self.stall.eq(Stall.SHIFT)
        return m

    # A plain unit has one mode, which the dispatcher has checked.

    def _tall(self, wave):
        return ~wave.mode[1] if self.config.array.unit is Unit.FLEX else C(self.config.array.unit is Unit.SINGLE, 1)

    def _wide(self, wave):
        return ~wave.mode[0] if self.config.array.unit is Unit.FLEX else C(self.config.array.unit is Unit.SINGLE, 1)

    def _streamed(self, wave):
        """Steps of a wave: its rows dealt to one, two or four sub-waves."""
        tall, wide = self._tall(wave), self._wide(wave)
        return Mux(tall & wide, wave.rows, Mux(tall | wide, (wave.rows + 1) >> 1, (wave.rows + 3) >> 2))

    def _exists(self, core: int, fill):
        """Whether core `core` still has a row in the last step, when the last row is number `fill` (mod 4)."""
        low, right = divmod(core, 2)
        two = (C(1, 1), fill[0])                                  # at least this many halves are filled
        four = (C(1, 1), fill.any(), fill[1], fill.all())
        return Mux(self.tall & self.wide, 1, Mux(self.tall, two[right], Mux(self.wide, two[low], four[2 * low + right])))

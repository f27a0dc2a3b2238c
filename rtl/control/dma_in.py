"""DMA_IN: from main memory into a slice of the global buffer."""

from amaranth.hdl import Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from gen.config import Config
from gen.isa import Unit
from rtl.control.beats import Beats
from rtl.control.queue import Queue
from rtl.control.walk import COUNT_BITS, Walk
from rtl.instruction import entry_layout, instruction_layout
from rtl.interfaces import ADDRESS_BITS, SLICE_BITS, TOKEN_BITS, BufferWrite, Tag, TokenPort, request_layout, response_layout

# What remains to be known about an instruction once its requests are out. First the counts, from which the flags of the walk come.
LANDING = data.StructLayout({
    "chunks": COUNT_BITS, "beats": COUNT_BITS, "group": 2, "slice": SLICE_BITS, "address": ADDRESS_BITS, "stride": ADDRESS_BITS,
    "signal": TOKEN_BITS,
})


class DmaIn(wiring.Component):
    """Executes DmaIn: one beat asked for a cycle, one beat landed a cycle; data of `landing_depth` instructions may be on its way.

    A decision in d offers the first beat in d + ASK_LATENCY; with the last one accepted in e the next decision may fall in e+1. A beat
    that arrives in a is written to `write_group` in a+1; the tokens of an instruction whose last beat that is are signalled in a+1.
    """

    def __init__(self, config: Config):
        self.config = config
        super().__init__({
            "instruction": In(stream.Signature(entry_layout(config, Unit.DMA_IN))),
            "tokens": Out(TokenPort()),
            "request": Out(stream.Signature(request_layout(config))),
            "response": In(stream.Signature(response_layout(config), always_ready=True)),
            "write": Out(BufferWrite(config, words=config.beat_words)),
            "write_group": Out(2),
            "idle": Out(1),
            "waiting": Out(1),
            "index": Out(32),
        })

    def elaborate(self, platform):
        m = Module()
        config = self.config
        # Decisions come late in their cycle, and so do fields, from a memory: what is decided in d is done in d+1, with
        # the instruction that was there in d.
        layout = instruction_layout("DmaIn")
        head, fields = data.View(layout, self.instruction.p.bits), Signal(layout, reset_less=True)
        m.d.sync += fields.eq(head)
        offset_bits = config.memory.bytes_per_cycle.bit_length() - 1      # memory addresses are multiples of a beat
        m.submodules.asking = asking = Beats(width=32 - offset_bits, burst=config.memory.burst_beats)
        m.submodules.expected = expected = Queue(shape=LANDING, depth=config.control.landing_depth, registered=2 * COUNT_BITS)
        m.submodules.landing = landing = Walk(width=ADDRESS_BITS, step=config.beat_words)

        # Requests
        decide, decided, busy, sent = Signal(), Signal(), Signal(), Signal()
        count, open_ = Signal(range(config.control.landing_depth + 1)), Signal(init=1)
        m.d.comb += [
            self.tokens.wait.eq(head.wait),
            self.tokens.group.eq(head.group),
            decide.eq(self.instruction.valid & ~busy & open_ & self.tokens.ready),
            self.tokens.take.eq(decide),
            self.instruction.ready.eq(decide),
            asking.load.eq(decided),
            asking.base.eq(fields.memory >> offset_bits),
            asking.stride.eq(fields.memory_stride >> offset_bits),
            asking.chunks.eq(fields.chunks),
            asking.beats.eq(fields.beats),
            self.request.valid.eq(asking.offer.valid),
            asking.offer.ready.eq(self.request.ready),
            self.request.p.tag.eq(Tag.DMA_IN),
            self.request.p.address.eq(asking.offer.p.address << offset_bits),
            self.request.p.beats.eq(asking.offer.p.left),
            self.request.p.last.eq(asking.offer.p.last),
            sent.eq(asking.offer.valid & self.request.ready),
            expected.push.eq(decided),
            *(expected.entry[name].eq(fields[name]) for name in ("slice", "address", "chunks", "beats", "signal")),
            expected.entry.group.eq(fields.group),
            expected.entry.stride.eq(fields.buffer_stride),
        ]
        m.d.sync += decided.eq(decide)
        with m.If(decide):
            m.d.sync += busy.eq(1)
        with m.Elif(sent & asking.offer.p.final):
            m.d.sync += busy.eq(0)

        # Landing: the instruction whose data comes next, then a register in front of the global buffer
        known, arrived, landed = Signal(), Signal(), Signal()
        group, place, signal = Signal(2), Signal(SLICE_BITS), Signal(TOKEN_BITS)
        m.d.comb += [
            arrived.eq(self.response.valid & (self.response.p.tag == Tag.DMA_IN)),
            landed.eq(arrived & landing.final),
            expected.head.ready.eq(~known | landed),
            landing.load.eq(expected.head.valid & expected.head.ready),
            landing.base.eq(expected.head.p.address),
            landing.stride.eq(expected.head.p.stride),
            landing.chunks.eq(expected.head.p.chunks),
            landing.beats.eq(expected.head.p.beats),
            landing.advance.eq(arrived),
        ]
        with m.If(expected.head.ready):
            m.d.sync += [
                known.eq(expected.head.valid),
                group.eq(expected.head.p.group),
                place.eq(expected.head.p.slice),
                signal.eq(expected.head.p.signal),
            ]
        with m.If(decided & ~landed):
            m.d.sync += [count.eq(count + 1), open_.eq(count != config.control.landing_depth - 1)]
        with m.If(landed & ~decided):
            m.d.sync += [count.eq(count - 1), open_.eq(1)]

        done = Signal(TOKEN_BITS)
        m.d.sync += [
            self.write.enable.eq(arrived.replicate(config.beat_words)),
            self.write.slice.eq(place),
            self.write.address.eq(landing.address),
            self.write_group.eq(group),
            done.eq(0),
        ]
        for i, word in enumerate(self.write.data):
            m.d.sync += word.eq(self.response.p.data.word_select(i, 8 * config.word_bytes))
        with m.If(landed):
            m.d.sync += done.eq(signal)
        m.d.comb += [
            self.tokens.signal.eq(done),
            self.tokens.signal_group.eq(self.write_group),
            self.idle.eq(~busy & (count == 0) & ~self.write.enable[0]),
            self.waiting.eq(self.instruction.valid & self.idle),
            self.index.eq(self.instruction.p.index),
        ]
        return m

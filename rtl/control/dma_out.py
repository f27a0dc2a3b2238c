"""DMA_OUT: from a slice of the global buffer to main memory."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from gen.config import Config
from gen.isa import Unit
from gen.timing import DMA_OUT_LATENCY
from rtl.control.beats import Beats
from rtl.control.queue import Queue
from rtl.control.walk import Walk
from rtl.instruction import entry_layout, instruction_layout
from rtl.interfaces import ADDRESS_BITS, SLICE_BITS, TOKEN_BITS, BufferRead, Tag, TokenPort, request_layout

AHEAD = 8       # beats read ahead: at least the DMA_OUT_LATENCY + 1 cycles from an accepted beat to the one read in its place


class DmaOut(wiring.Component):
    """Executes DmaOut, one instruction at a time, a beat a cycle.

    A decision in d reads from `read_group` from d+2 on and offers the first beat in d + DMA_OUT_LATENCY; from then on a beat is on offer in
    every cycle. With the last beat accepted in e the tokens are signalled in e+1, and the next decision may fall in e+2.
    """

    def __init__(self, config: Config):
        assert AHEAD >= DMA_OUT_LATENCY + 1
        self.config = config
        super().__init__({
            "instruction": In(stream.Signature(entry_layout(config, Unit.DMA_OUT))),
            "tokens": Out(TokenPort()),
            "read": Out(BufferRead(config, words=config.beat_words)),
            "read_group": Out(2),
            "request": Out(stream.Signature(request_layout(config))),
            "idle": Out(1),
            "waiting": Out(1),
            "index": Out(32),
        })

    def elaborate(self, platform):
        m = Module()
        config = self.config
        # Decisions come late in their cycle, and so do fields, from a memory: what is decided in d is done in d+1, with
        # the instruction that was there in d.
        layout = instruction_layout("DmaOut")
        head, fields = data.View(layout, self.instruction.p.bits), Signal(layout, reset_less=True)
        m.d.sync += fields.eq(head)
        offset_bits = config.memory.bytes_per_cycle.bit_length() - 1      # memory addresses are multiples of a beat
        m.submodules.reading = reading = Walk(width=ADDRESS_BITS, step=config.beat_words)
        m.submodules.sending = sending = Beats(width=32 - offset_bits, burst=config.memory.burst_beats)
        m.submodules.ahead = ahead = Queue(shape=8 * config.memory.bytes_per_cycle, depth=AHEAD, registered=0)

        decide, decided, busy, sent, done, signal = Signal(), Signal(), Signal(), Signal(), Signal(), Signal(TOKEN_BITS)
        m.d.comb += [
            self.tokens.wait.eq(head.wait),
            self.tokens.group.eq(head.group),
            decide.eq(self.instruction.valid & ~busy & self.tokens.ready),
            self.tokens.take.eq(decide),
            self.instruction.ready.eq(decide),
            reading.base.eq(fields.address),
            reading.stride.eq(fields.buffer_stride),
            sending.base.eq(fields.memory >> offset_bits),
            sending.stride.eq(fields.memory_stride >> offset_bits),
        ]
        for walk in (reading, sending):
            m.d.comb += [walk.load.eq(decided), walk.chunks.eq(fields.chunks), walk.beats.eq(fields.beats)]
        place = Signal(SLICE_BITS)
        m.d.sync += [decided.eq(decide), done.eq(sent & sending.offer.p.final)]
        with m.If(decide):
            m.d.sync += busy.eq(1)
        with m.Elif(done):
            m.d.sync += busy.eq(0)
        with m.If(decided):
            m.d.sync += [place.eq(fields.slice), self.read_group.eq(fields.group), signal.eq(fields.signal)]
        m.d.comb += [self.tokens.signal.eq(Mux(done, signal, 0)), self.tokens.signal_group.eq(self.read_group)]

        # Reads: as long as the beats on their way and in the queue leave room for one more
        to_read, room, some = Signal(), Signal(range(AHEAD + 1), init=AHEAD), Signal(init=1)    # some: surely room in this cycle
        m.d.comb += [
            self.read.enable.eq(to_read & some),
            self.read.slice.eq(place),
            reading.advance.eq(self.read.enable),
            *(address.eq(reading.address + i) for i, address in enumerate(self.read.addresses)),
        ]
        m.d.sync += [room.eq(room + sent - self.read.enable), some.eq(room[1:].any() | (some & ~to_read))]
        with m.If(decided):
            m.d.sync += to_read.eq(1)
        with m.Elif(self.read.enable & reading.final):
            m.d.sync += to_read.eq(0)
        arriving = Signal(3)
        m.d.sync += arriving.eq(Cat(self.read.enable, arriving))
        m.d.comb += [ahead.push.eq(arriving[-1]), ahead.entry.eq(Cat(self.read.data))]

        # Requests
        m.d.comb += [
            self.request.valid.eq(ahead.head.valid),       # its address was there before
            self.request.p.write.eq(1),
            self.request.p.tag.eq(Tag.DMA_OUT),
            self.request.p.address.eq(sending.offer.p.address << offset_bits),
            self.request.p.beats.eq(sending.offer.p.left),
            self.request.p.last.eq(sending.offer.p.last),
            self.request.p.data.eq(ahead.head.payload),
            sent.eq(ahead.head.valid & self.request.ready),
            ahead.head.ready.eq(self.request.ready),
            sending.offer.ready.eq(sent),
            self.idle.eq(~busy),
            self.waiting.eq(self.instruction.valid & ~busy),
            self.index.eq(self.instruction.p.index),
        ]
        return m

"""Addresses of a DMA instruction: beats of a chunk, chunk by chunk, and the bursts they are cut into."""

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

COUNT_BITS = 16     # of `chunks` and `beats` in the instruction


class Walk(wiring.Component):
    """Steps through `chunks` pieces of `beats` addresses each, `step` apart; pieces are `stride` apart.

    `load` in cycle t shows the first address in t+1; `advance` shows the next one a cycle later. Outputs are registers or a gate behind
    them. `burst` beats at most form a burst, and a chunk's end ends it: `left` counts its beats including the present one, `last` marks its
    end, `final` the last beat of all. Chunks and beats must not be zero, nor may `advance` follow the final beat: neither is checked.
    """

    def __init__(self, *, width: int, step: int, burst: int = 1):
        if burst < 1 or burst & (burst - 1):
            raise ValueError(f"burst = {burst} must be a power of two")
        self.width, self.step, self.burst = width, step, burst
        super().__init__({
            "load": In(1),
            "base": In(width),
            "stride": In(width),
            "chunks": In(COUNT_BITS),
            "beats": In(COUNT_BITS),
            "advance": In(1),
            "address": Out(width),
            "left": Out(range(burst + 1)),
            "last": Out(1),
            "final": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        next_base, stride, beats = Signal(self.width), Signal(self.width), Signal(COUNT_BITS)
        # Counted down to -1, so that one sign bit tells the last beat of a chunk and the last chunk.
        beats_ahead, chunks_ahead = Signal(signed(COUNT_BITS + 1)), Signal(signed(COUNT_BITS + 1))
        chunk_end, all_end = beats_ahead[-1], chunks_ahead[-1]
        m.d.comb += self.final.eq(chunk_end & all_end)

        uncut, left = Signal(COUNT_BITS), Signal(range(self.burst + 1))
        m.d.comb += [
            uncut.eq(Mux(self.load, self.beats, Mux(chunk_end, beats, beats_ahead + 1))),
            left.eq(Mux(uncut[self.burst.bit_length() - 1:].any(), self.burst, uncut)),
        ]
        with m.If(~self.load & ~self.last):
            m.d.comb += left.eq(self.left - 1)
        with m.If(self.load | self.advance):
            m.d.sync += [self.left.eq(left), self.last.eq(left == 1)]

        with m.If(self.load):
            m.d.sync += [
                self.address.eq(self.base), next_base.eq(self.base + self.stride), stride.eq(self.stride), beats.eq(self.beats),
                beats_ahead.eq(self.beats - 2), chunks_ahead.eq(self.chunks - 2),
            ]
        with m.Elif(self.advance & chunk_end):
            m.d.sync += [
                self.address.eq(next_base), next_base.eq(next_base + stride),
                beats_ahead.eq(beats - 2), chunks_ahead.eq(chunks_ahead - 1),
            ]
        with m.Elif(self.advance):
            m.d.sync += [self.address.eq(self.address + self.step), beats_ahead.eq(beats_ahead - 1)]
        return m

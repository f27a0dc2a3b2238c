"""Addresses of a DMA instruction: beats of a chunk, chunk by chunk, and the bursts they are cut into."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

COUNT_BITS = 16     # of `chunks` and `beats` in the instruction


def extent_ports(width: int) -> dict:
    """Where a walk goes, taken over with `load`."""
    return {"load": In(1), "base": In(width), "stride": In(width), "chunks": In(COUNT_BITS), "beats": In(COUNT_BITS)}


class Walk(wiring.Component):
    """Steps through `chunks` pieces of `beats` addresses each, `step` apart; pieces are `stride` apart.

    `load` in cycle t shows the first address in t+1; `advance` shows the next one a cycle later. Outputs are registers, `address` with a
    gate behind them. `burst` beats at most form a burst, and a chunk's end ends it: `left` counts its beats including the present one,
    `last` marks its end, `final` the last beat of all. Chunks and beats must not be zero, nor may `advance` follow the final beat: neither
    is checked.
    """

    def __init__(self, *, width: int, step: int, burst: int = 1):
        if burst < 1 or burst & (burst - 1):
            raise ValueError(f"burst = {burst} must be a power of two")
        self.width, self.step, self.burst = width, step, burst
        super().__init__({
            **extent_ports(width),
            "advance": In(1),
            "address": Out(width),
            "left": Out(range(burst + 1)),
            "last": Out(1),
            "final": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        def register(shape, name: str) -> Signal:
            return Signal(shape, name=name, reset_less=True)        # loaded before it counts

        # `first`: this is a chunk's first beat. Its address is the chunk's own; those of the others are counted on from it.
        first, chunk_end = register(1, "first"), register(1, "chunk_end")
        base, stride, following = (register(self.width, name) for name in ("chunk_base", "chunk_stride", "following"))
        m.d.comb += self.address.eq(Mux(first, base, following))
        with m.If(self.load):
            m.d.sync += [base.eq(self.base), stride.eq(self.stride)]
        with m.Elif(self.advance & chunk_end):
            m.d.sync += base.eq(base + stride)
        with m.If(self.advance):
            m.d.sync += following.eq(self.address + self.step)

        # `chunk` is the number of the next chunk but one, counted from 1; `nearly`: the next chunk is the last one.
        # A chunk is `whole` bursts and a last one of `rest` beats, or, if it is `exact`, the last one is one of the whole ones; `number` is
        # that of the next burst but one, counted so that it meets `whole`.
        size = self.burst.bit_length() - 1
        low, exact, one, two = self.beats[:size], ~self.beats[:size].any(), self._at_most(1), self._at_most(2)
        chunk, chunks, nearly = register(COUNT_BITS, "chunk"), register(COUNT_BITS, "chunk_count"), register(1, "nearly")
        whole, rest, number = register(COUNT_BITS - size, "whole"), register(size + 1, "rest"), register(COUNT_BITS - size, "number")
        one_burst, two_bursts, one_rest, is_exact = (register(1, name) for name in ("one_burst", "two_bursts", "one_rest", "is_exact"))
        with m.If(self.load):
            m.d.sync += [
                chunks.eq(self.chunks),
                chunk.eq(3),
                nearly.eq(self.chunks == 2),
                whole.eq(self.beats >> size),
                rest.eq(Cat(low, exact)),
                one_burst.eq(one),
                two_bursts.eq(two),
                one_rest.eq(low == 1 if size else 1),
                is_exact.eq(exact),
                number.eq(2 | exact),
            ]
        with m.Elif(self.advance & chunk_end):
            m.d.sync += [chunk.eq(chunk + 1), nearly.eq(chunk == chunks), number.eq(2 | is_exact)]
        with m.Elif(self.advance & self.last):
            m.d.sync += number.eq(number + 1)

        # What the next beat is, worked out a beat ahead: `tail`, its burst is the chunk's last; `soon`, the burst that follows is.
        tail, soon, last_chunk = register(1, "tail"), register(1, "soon"), register(1, "last_chunk")
        next_tail, next_last, next_chunk_last = Signal(), Signal(), Signal()
        with m.If(self.load):
            m.d.comb += [next_tail.eq(one), next_last.eq(self.beats == 1 if size else 1), next_chunk_last.eq(self.chunks == 1)]
        with m.Elif(self.last):
            m.d.comb += [
                next_tail.eq(Mux(tail, one_burst, soon)),
                next_last.eq(next_tail & one_rest if size else 1),
                next_chunk_last.eq(Mux(chunk_end, nearly, last_chunk)),
            ]
        with m.Else():
            m.d.comb += [next_tail.eq(tail), next_last.eq(self.left == 2), next_chunk_last.eq(last_chunk)]
        with m.If(self.load | self.advance):
            m.d.sync += [
                first.eq(self.load | chunk_end),
                tail.eq(next_tail),
                self.last.eq(next_last),
                chunk_end.eq(next_tail & next_last),
                last_chunk.eq(next_chunk_last),
                self.final.eq(next_tail & next_last & next_chunk_last),
            ]
        with m.If(self.load):
            m.d.sync += [soon.eq(two), self.left.eq(Mux(one, Cat(low, exact), self.burst))]
        with m.Elif(self.advance & self.last):
            m.d.sync += [soon.eq(Mux(tail, two_bursts, number == whole)), self.left.eq(Mux(next_tail, rest, self.burst))]
        with m.Elif(self.advance):
            m.d.sync += self.left.eq(self.left - 1)
        return m

    def _at_most(self, bursts: int) -> Value:
        """Whether a chunk is no longer than one or two whole bursts."""
        bits = (bursts * self.burst).bit_length()
        return ~self.beats[bits:].any() & ~(self.beats[bits - 1] & self.beats[:bits - 1].any())

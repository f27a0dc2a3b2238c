"""Between bytes and frames: flags, escapes and the CRC."""

from functools import reduce
from operator import xor

from amaranth.hdl import Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from gen.link import CRC_BYTES, CRC_POLYNOMIAL, ESCAPE, ESCAPE_FLIP, FLAG

RECEIVED = data.StructLayout({"data": 8, "error": 1})               # a byte as it comes from the wire; error: it is damaged
UNESCAPED = data.StructLayout({"data": 8, "end": 1, "damaged": 1})  # end: a flag, `data` does not count; damaged: so is the frame
ESCAPED = data.StructLayout({"data": 8, "check": 1, "end": 1})      # a byte of a frame, check: of its CRC; or its end


def advance(crc: int, byte: int) -> int:
    """The CRC register one byte later."""
    crc ^= byte
    for _ in range(8):
        crc = (crc >> 1) ^ (CRC_POLYNOMIAL if crc & 1 else 0)
    return crc


# What the register holds behind a frame with its CRC: the CRC is the register inverted, so each of its bytes meets its complement.
RESIDUE = reduce(advance, b"\xff" * CRC_BYTES, 0)


class Crc32(wiring.Component):
    """The CRC register: `step` takes a byte, `restart` sets it to all ones and comes first. Taken in cycle t, counted in `value` in t+1.

    A byte equal to the low byte of `value` moves the register down by eight bits, which is how a CRC is sent.
    """

    def __init__(self):
        super().__init__({"restart": In(1), "step": In(1), "byte": In(8), "value": Out(32, init=(1 << 32) - 1)})  # type: ignore

    def elaborate(self, platform):
        m = Module()
        # The register is linear: the next value is the sum of what each bit of the low byte contributes.
        low = Signal(8)
        m.d.comb += low.eq(self.value ^ self.byte)
        shares = [Mux(low[i], Const(advance(0, 1 << i), 32), 0) for i in range(8)]
        with m.If(self.restart):
            m.d.sync += self.value.eq(self.value.init)
        with m.Elif(self.step):
            m.d.sync += self.value.eq(reduce(xor, shares, self.value >> 8))
        return m


class Unescape(wiring.Component):
    """Takes escapes away, within the cycle. A damaged byte never ends a frame; an ESCAPE right before a FLAG damages the frame."""

    def __init__(self):
        super().__init__({"received": In(stream.Signature(RECEIVED)), "unescaped": Out(stream.Signature(UNESCAPED))})

    def elaborate(self, platform):
        m = Module()
        received, out = self.received, self.unescaped
        escaped, escape = Signal(), Signal()
        m.d.comb += [
            out.p.end.eq((received.p.data == FLAG) & ~received.p.error),
            escape.eq((received.p.data == ESCAPE) & ~received.p.error & ~escaped),
            out.p.data.eq(received.p.data ^ Mux(escaped, ESCAPE_FLIP, 0)),
            out.p.damaged.eq(received.p.error | (out.p.end & escaped)),
            out.valid.eq(received.valid & ~escape),
            received.ready.eq(out.ready | escape),
        ]
        with m.If(received.valid & received.ready):
            m.d.sync += escaped.eq(escape)
        return m


class Escape(wiring.Component):
    """Puts escapes into a frame and a flag behind it. A byte taken in cycle t is on `sent` from t+1 on; none is taken while it is.

    `leaving`: this is the last cycle of byte `held` of the frame; `held.check` as it came.
    """

    def __init__(self):
        super().__init__({
            "frame": In(stream.Signature(ESCAPED)), "sent": Out(stream.Signature(8)), "held": Out(ESCAPED), "leaving": Out(1)})

    def elaborate(self, platform):
        m = Module()
        frame, held, sent = self.frame, self.held, self.sent
        special, escaped = Signal(), Signal()
        m.d.comb += [
            frame.ready.eq(~sent.valid),
            special.eq(~escaped & ~held.end & ((held.data == FLAG) | (held.data == ESCAPE))),
            sent.payload.eq(Mux(held.end, FLAG, Mux(special, ESCAPE, held.data ^ Mux(escaped, ESCAPE_FLIP, 0)))),
            self.leaving.eq(sent.valid & sent.ready & ~special & ~held.end),
        ]
        with m.If(sent.valid & sent.ready):
            m.d.sync += [escaped.eq(special), sent.valid.eq(special)]
        with m.If(frame.valid & frame.ready):
            m.d.sync += [held.eq(frame.payload), sent.valid.eq(1)]
        return m

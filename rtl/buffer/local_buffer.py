"""Local buffer (LBUF): the words of one operand for one core, read as a ring."""

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from gen.config import Config
from rtl.buffer.block_memory import BlockMemory


class LocalBuffer(wiring.Component):
    """`depth` words (a power of two) of `side` operands; one write and one read a cycle.

    ``advance`` reads the next word of the ring, from word 0 on after reset: ``word`` holds it LBUF_LATENCY (2) cycles later, for one cycle.
    A word may be read from the cycle after its write. That it has been written, and is not overwritten before, is not enforced.
    """

    def __init__(self, config: Config, *, depth: int):
        if depth < 2 or depth & (depth - 1):
            raise ValueError(f"depth = {depth} must be a power of two, at least 2")
        self.width, self.depth = config.operand_bits * config.array.side, depth
        super().__init__({
            "write_enable": In(1),
            "write_address": In(range(depth)),
            "write_data": In(self.width),
            "advance": In(1),
            "word": Out(self.width),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.words = words = BlockMemory(width=self.width, depth=self.depth)
        address = Signal(range(self.depth))
        with m.If(self.advance):
            m.d.sync += address.eq(address + 1)
        m.d.comb += [
            words.write.eq(self.write_enable),
            words.write_address.eq(self.write_address),
            words.write_data.eq(self.write_data),
            words.read.eq(self.advance),
            words.read_address.eq(address),
            self.word.eq(words.read_data),
        ]
        return m

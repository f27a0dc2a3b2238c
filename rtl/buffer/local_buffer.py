"""Local buffer (LBUF): the words of one operand for one core, read as a ring."""

from amaranth.hdl import Module, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from gen.config import Config
from rtl.interfaces import OPERAND_BITS

BLOCK_MEMORY = {"ram_style": "block", "no_rw_check": 1}   # no word is ever read in the cycle in which it is written


class LocalBuffer(wiring.Component):
    """`depth` words (a power of two) of `side` operands; one write and one read a cycle.

    ``advance`` reads the next word of the ring, beginning with word 0: ``word`` holds it LBUF_LATENCY (2) cycles later, for one cycle.
    A word may be read from the cycle after its write. That it has been written, and is not overwritten before, is not enforced.
    """

    def __init__(self, config: Config, *, depth: int):
        if depth < 2 or depth & (depth - 1):
            raise ValueError(f"depth = {depth} must be a power of two, at least 2")
        self.width, self.depth = OPERAND_BITS * config.array.side, depth
        super().__init__({
            "write_enable": In(1),
            "write_address": In(range(depth)),
            "write_data": In(self.width),
            "advance": In(1),
            "word": Out(self.width),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.words = words = memory.Memory(shape=self.width, depth=self.depth, init=[], attrs=BLOCK_MEMORY)
        write, read = words.write_port(), words.read_port()
        address, word = Signal(range(self.depth)), Signal(self.width, reset_less=True)
        with m.If(self.advance):
            m.d.sync += address.eq(address + 1)
        m.d.sync += word.eq(read.data)
        m.d.comb += [
            write.en.eq(self.write_enable),
            write.addr.eq(self.write_address),
            write.data.eq(self.write_data),
            read.en.eq(self.advance),
            read.addr.eq(address),
            self.word.eq(word),
        ]
        return m

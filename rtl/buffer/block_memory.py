"""A block memory with a register at its output: what every buffer is made of."""

from amaranth.hdl import Cat, ClockSignal, Const, Instance, Module, Mux, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from rtl.sharing import family

ATTRIBUTES = {"ram_style": "block", "no_rw_check": 1}   # no word is ever read in the cycle in which it is written
BLOCK_SHAPES = {512: 36, 1024: 18, 2048: 9}             # words of an ECP5 DP16KD, and their bits
ICE40_BITS = 16                                         # of iCE40's block RAM at its widest, and of its single-port RAM
ICE40_REST = 16                                         # bits beyond whole blocks that are better kept in flip-flops


class BlockMemory(wiring.Component):
    """`depth` words of `width` bits, zero at power-up; one write and one read a cycle.

    ``read_data`` holds the word two cycles after ``read`` (memory, output register). A word may be read from the cycle after its write;
    read in the same cycle it is anything. On ECP5, up to 2048 words deep, the register is the block's own: its clock-to-output is a
    fraction of the bare memory's. On iCE40 a few bits beyond a multiple of a block's width are flip-flops, and what is never read and
    written in the same cycle (`alternating`) is single-port RAM, which holds anything at power-up.
    """

    def __init__(self, *, width: int, depth: int, alternating: bool = False):
        self.width, self.depth, self.alternating = width, depth, alternating
        super().__init__({
            "write": In(1),
            "write_address": In(range(depth)),
            "write_data": In(width),
            "read": In(1),
            "read_address": In(range(depth)),
            "read_data": Out(width),
        })

    def elaborate(self, platform):
        m = Module()
        if family(platform) == "ecp5" and self.depth <= max(BLOCK_SHAPES):
            width = next(bits for words, bits in BLOCK_SHAPES.items() if self.depth <= words)
            for first in range(0, self.width, width):
                m.submodules[f"block_{first}"] = self._block(slice(first, min(first + width, self.width)), width)
            return m
        if family(platform) == "ice40" and self.alternating:
            self._single_port(m)
            return m
        rest = self.width % ICE40_BITS
        if family(platform) == "ice40" and rest * self.depth <= ICE40_REST:
            self._memory(m, "words", slice(0, self.width - rest), ATTRIBUTES)
            self._memory(m, "rest", slice(self.width - rest, self.width), {"ram_style": "logic"})
            return m
        self._memory(m, "words", slice(0, self.width), ATTRIBUTES)
        return m

    def _memory(self, m: Module, name: str, bits: slice, attributes: dict):
        """Some bits of each word as a memory for Yosys to map, with the register behind it."""
        if bits.start == bits.stop:
            return
        m.submodules[name] = words = memory.Memory(shape=bits.stop - bits.start, depth=self.depth, init=[], attrs=attributes)
        read, write = words.read_port(), words.write_port()
        word = Signal(bits.stop - bits.start, name=f"{name}_read", reset_less=True)
        m.d.sync += word.eq(read.data)
        m.d.comb += [
            write.en.eq(self.write),
            write.addr.eq(self.write_address),
            write.data.eq(self.write_data[bits]),
            read.en.eq(self.read),
            read.addr.eq(self.read_address),
            self.read_data[bits].eq(word),
        ]

    def _single_port(self, m: Module):
        """SB_SPRAM256KAs of 16384 words. Their output is anything behind a write, so the register takes it behind a read only."""
        came, words = Signal(name="came"), 1 << 14
        if self.depth > words:
            raise ValueError(f"depth = {self.depth} is outside 1..{words} words (single-port RAM)")
        m.d.sync += came.eq(self.read)
        address = Signal(range(words), name="address")
        m.d.comb += address.eq(Mux(self.write, self.write_address, self.read_address))
        for first in range(0, self.width, ICE40_BITS):
            bits = slice(first, min(first + ICE40_BITS, self.width))
            output, word = Signal(ICE40_BITS, name=f"output_{first}"), Signal(bits.stop - first, name=f"word_{first}", reset_less=True)
            data = Cat(self.write_data[bits], Const(0, ICE40_BITS))[:ICE40_BITS]
            m.submodules[f"block_{first}"] = Instance(
                "SB_SPRAM256KA", i_CLOCK=ClockSignal(), i_ADDRESS=address, i_DATAIN=data, i_MASKWREN=Const(15, 4), i_WREN=self.write,
                i_CHIPSELECT=self.write | self.read, i_STANDBY=Const(0, 1), i_SLEEP=Const(0, 1), i_POWEROFF=Const(1, 1),
                o_DATAOUT=output)
            with m.If(came):
                m.d.sync += word.eq(output)
            m.d.comb += self.read_data[bits].eq(word)

    def _block(self, bits: slice, width: int) -> Instance:
        """A DP16KD with words of `width` bits, port A writing (all bytes), port B reading.

        An address begins above those of a word's single bits. Of words with several bytes of nine bits the lowest pins of a writing address
        enable these; words of 36 bits use both ports' data pins, 0..17 of A and then of B, narrower ones those of their own port.
        """
        data, word = Cat(self.write_data[bits], Const(0, width))[:width], self.read_data[bits]
        spare, half = Signal(width, name="spare"), 18
        low, enables = width.bit_length() - 1, width // 9 if width > 9 else 0
        ports = {"i_CLKA": ClockSignal(), "i_CLKB": ClockSignal(), "i_CEA": self.write, "i_CEB": self.read, "i_WEA": 1, "i_WEB": 0}
        ports |= {f"i_{name}{port}": value for name, value in (("OCE", 1), ("RST", 0)) for port in "AB"}
        ports |= {f"i_CS{port}{i}": 0 for port in "AB" for i in range(3)}
        for port, address, enabled in (("A", self.write_address, enables), ("B", self.read_address, 0)):
            ports |= {f"i_AD{port}{i}": int(i < enabled) for i in range(14)}
            ports |= {f"i_AD{port}{low + i}": bit for i, bit in enumerate(address)}
        for i in range(width):
            ports[f"i_DI{'AB'[i // half]}{i % half}"] = data[i]
            ports[f"o_DO{'AB'[i // half] if width > half else 'B'}{i % half}"] = word[i] if i < len(word) else spare[i]
        shape = {f"p_DATA_WIDTH_{port}": width for port in "AB"} | {f"p_REGMODE_{port}": "OUTREG" for port in "AB"}
        return Instance("DP16KD", **ports, **shape, p_RESETMODE="SYNC", p_ASYNC_RESET_RELEASE="SYNC", p_GSR="AUTO")

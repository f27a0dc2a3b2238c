"""A block memory with a register at its output: what every buffer is made of."""

from amaranth.hdl import Cat, ClockSignal, Const, Instance, Module, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from rtl.sharing import family

ATTRIBUTES = {"ram_style": "block", "no_rw_check": 1}   # no word is ever read in the cycle in which it is written
BLOCK_BITS, BLOCK_WORDS = 36, 512                       # the widest shape of an ECP5 DP16KD


class BlockMemory(wiring.Component):
    """`depth` words of `width` bits, zero at power-up; one write and one read a cycle.

    ``read_data`` holds the word two cycles after ``read`` (memory, output register). A word may be read from the cycle after its write;
    read in the same cycle it is anything. On ECP5, up to 512 words deep, the register is the block's own: its clock-to-output is a
    fraction of the bare memory's.
    """

    def __init__(self, *, width: int, depth: int):
        self.width, self.depth = width, depth
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
        if family(platform) == "ecp5" and self.depth <= BLOCK_WORDS:
            for first in range(0, self.width, BLOCK_BITS):
                m.submodules[f"block_{first}"] = self._block(slice(first, min(first + BLOCK_BITS, self.width)))
            return m
        m.submodules.words = words = memory.Memory(shape=self.width, depth=self.depth, init=[], attrs=ATTRIBUTES)
        read, write = words.read_port(), words.write_port()
        word = Signal(self.width, reset_less=True)
        m.d.sync += word.eq(read.data)
        m.d.comb += [
            write.en.eq(self.write),
            write.addr.eq(self.write_address),
            write.data.eq(self.write_data),
            read.en.eq(self.read),
            read.addr.eq(self.read_address),
            self.read_data.eq(word),
        ]
        return m

    def _block(self, bits: slice) -> Instance:
        """A DP16KD as 512 words of 36 bits, port A writing (all bytes), port B reading; bits 0..17 on the pins of A, the others of B."""
        data, word = Cat(self.write_data[bits], Const(0, BLOCK_BITS))[:BLOCK_BITS], self.read_data[bits]
        spare = Signal(BLOCK_BITS, name="spare")
        ports = {"i_CLKA": ClockSignal(), "i_CLKB": ClockSignal(), "i_CEA": self.write, "i_CEB": self.read, "i_WEA": 1, "i_WEB": 0}
        ports |= {f"i_{name}{port}": value for name, value in (("OCE", 1), ("RST", 0)) for port in "AB"}
        ports |= {f"i_CS{port}{i}": 0 for port in "AB" for i in range(3)}
        for port, address, low in (("A", self.write_address, 1), ("B", self.read_address, 0)):
            ports |= {f"i_AD{port}{i}": low if i < 4 else 0 for i in range(14)}
            ports |= {f"i_AD{port}{i + 5}": bit for i, bit in enumerate(address)}
        half = BLOCK_BITS // 2
        for i in range(BLOCK_BITS):
            pin = f"{'AB'[i // half]}{i % half}"
            ports[f"i_DI{pin}"] = data[i]
            ports[f"o_DO{pin}"] = word[i] if i < len(word) else spare[i]
        shape = {f"p_DATA_WIDTH_{port}": BLOCK_BITS for port in "AB"} | {f"p_REGMODE_{port}": "OUTREG" for port in "AB"}
        return Instance("DP16KD", **ports, **shape, p_RESETMODE="SYNC", p_ASYNC_RESET_RELEASE="SYNC", p_GSR="AUTO")

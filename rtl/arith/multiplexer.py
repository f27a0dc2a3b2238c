"""A wide multiplexer: the lookup tables and their combining multiplexers of an ECP5, or plain RTL."""

from amaranth.hdl import Const, Instance, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from rtl.sharing import family, place

PAIR = 0xCACA           # LUT4: C ? B : A
LARGEST = 16            # inputs of one tree of ECP5 multiplexers


def choose(values: list, index):
    """`values[index]` as a tree of two-way multiplexers; an index beyond the end gives any of the values."""
    if len(values) == 1:
        return values[0]
    half = 1 << (ceil_log2(len(values)) - 1)
    return Mux(Value.cast(index)[ceil_log2(half)], choose(values[half:], index), choose(values[:half], index))


class Multiplexer(wiring.Component):
    """``word`` is ``words[index]``, in the same cycle; an index beyond the end gives any of them. `count` words of `width` bits.

    On ECP5 a four-way multiplexer takes two LUT4 a bit and an eight-way one four, for the multiplexers that join lookup tables are free;
    synthesis knows those as lookup tables of five and six inputs only and takes three and seven.
    """

    def __init__(self, *, count: int, width: int):
        self.count, self.width = count, width
        super().__init__({"words": In(width).array(count), "index": In(max(1, ceil_log2(count))), "word": Out(width)})

    def elaborate(self, platform):
        m = Module()
        words = list(self.words)
        if family(platform) == "ecp5" and self.count > 2:
            words += words[-1:] * ((1 << ceil_log2(self.count)) - self.count)
            m.d.comb += [self.word[bit].eq(self._tree(m, [word[bit] for word in words], f"bit{bit}")) for bit in range(self.width)]
        else:
            m.d.comb += self.word.eq(choose(words, self.index))
        return m

    def _tree(self, m: Module, values: list, name: str):
        """One bit of the word: lookup tables choose between two, PFUMX and L6MUX21 between those."""
        result, select = Signal(name=name), self.index[ceil_log2(len(values)) - 1]
        if len(values) == 2:
            m.submodules[name] = Instance("LUT4", p_INIT=Const(PAIR, 16), i_A=values[0], i_B=values[1], i_C=select, i_D=0, o_Z=result)
            return result
        half = len(values) // 2
        low, high = self._tree(m, values[:half], f"{name}_0"), self._tree(m, values[half:], f"{name}_1")
        if len(values) > LARGEST:
            return Mux(select, high, low)
        m.submodules[name] = (Instance("PFUMX", i_ALUT=high, i_BLUT=low, i_C0=select, o_Z=result) if half == 2
                              else Instance("L6MUX21", i_D0=low, i_D1=high, i_SD=select, o_Z=result))
        return result


def select(m: Module, platform, name: str, values: list, index):
    """`values[index]`, values of one width, through a `Multiplexer` called `name`."""
    if len(values) <= 2 or family(platform) != "ecp5":
        return choose(values, index)
    width = len(Value.cast(values[0]))
    chosen = place(m, platform, instance=name, module=f"multiplexer_{len(values)}_{width}", clocked=False,
                   factory=lambda: Multiplexer(count=len(values), width=width))
    m.d.comb += [chosen.index.eq(index), *(there.eq(value) for there, value in zip(chosen.words, values))]
    return chosen.word

"""Delays that make control and data systolic: taps along one shift register, and the triangle in front of an array's edge."""

from amaranth.hdl import Cat, Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from rtl.array.pe import delayed


class Line:
    """A control bit on its way: ``line.tap(n)`` is the bit of n cycles ago, n at most `longest`. Cleared by reset."""

    def __init__(self, m: Module, bit, *, longest: int, name: str):
        self.bit = bit
        if longest:
            self.stages = Signal(longest, name=f"{name}_line")
            m.d.sync += self.stages.eq(Cat(bit, self.stages))

    def tap(self, cycles: int):
        return self.stages[cycles - 1] if cycles else self.bit


class Skew(wiring.Component):
    """Splits a word into lanes; lane i leaves i * step cycles later. Needs two lanes or more to contain a register."""

    def __init__(self, *, width: int, lanes: int, step: int):
        self.width, self.lanes_, self.step = width, lanes, step
        super().__init__({"word": In(width * lanes), "lanes": Out(signed(width)).array(lanes)})

    def elaborate(self, platform):
        m = Module()
        for i in range(self.lanes_):
            lane = self.word.word_select(i, self.width)
            m.d.comb += self.lanes[i].eq(delayed(m, lane, i * self.step, name=f"lane_{i}"))
        return m

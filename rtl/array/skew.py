"""Delays that make control and data systolic: taps along a shift register, the triangle at an array's edge, whole rows of lanes."""

from amaranth.hdl import Cat, Module, Shape, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out


def delayed(m: Module, value, cycles: int, *, name: str, reset_less: bool = True):
    """`value` of `cycles` cycles ago."""
    for stage in range(cycles):
        register = Signal(value.shape(), name=f"{name}_{stage}", reset_less=reset_less)
        m.d.sync += register.eq(value)
        value = register
    return value


class Line:
    """A control bit on its way: ``line.tap(n)`` is the bit of n cycles ago, n at most `longest`. Cleared by reset, or `reset_less`."""

    def __init__(self, m: Module, bit, *, longest: int, name: str, reset_less: bool = False):
        self.bit = bit
        if longest:
            self.stages = Signal(longest, name=f"{name}_line", reset_less=reset_less)
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


class Delay(wiring.Component):
    """Lanes of `shape` that leave as they entered, `cycles` (at least 1) later."""

    def __init__(self, *, shape: Shape, lanes: int, cycles: int):
        self.lanes_, self.cycles = lanes, cycles
        super().__init__({"entered": In(shape).array(lanes), "left": Out(shape).array(lanes)})

    def elaborate(self, platform):
        m = Module()
        for i in range(self.lanes_):
            m.d.comb += self.left[i].eq(delayed(m, self.entered[i], self.cycles, name=f"lane_{i}"))
        return m

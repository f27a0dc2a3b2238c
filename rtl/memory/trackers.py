"""Trackers: the counters behind the datasheet's least distances between DRAM commands."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out


def load_values(cycles: int) -> tuple[int, int]:
    """What a command loads for a minimum of `cycles`: a host command (on the pins now), a near-data command (on the rank next cycle)."""
    return max(cycles - 2, 0), max(cycles - 1, 0)


def counter_bits(cycles: int) -> int:
    """Bits of a tracker's counter; never 0."""
    return max(load_values(cycles)[1].bit_length(), 1)


class Tracker(wiring.Component):
    """One minimum of `cycles` (1 or more) between two commands, named by its instance (``bank_3_ras``: tRAS of bank 3).

    `host` in t: the first command is on the pins in t. `near` in t: it is on the rank in t+1. `left` counts down from the next cycle on;
    `clear` (`left` is 0) in t: this minimum allows the second command in t+1; `clears`: it will be clear in the next cycle. Enforces this
    one minimum and nothing else: neither the state of a bank nor other parameters. Loading again while it counts is right, as the minimum
    holds from the last command.
    Raises ValueError for fewer cycles.
    """

    def __init__(self, *, cycles: int):
        if cycles < 1:
            raise ValueError(f"cycles = {cycles} is outside 1 or more")
        self.cycles = cycles
        super().__init__({"host": In(1), "near": In(1), "left": Out(counter_bits(cycles)), "clear": Out(1), "clears": Out(1)})

    def elaborate(self, platform):
        m = Module()
        host, near = load_values(self.cycles)
        m.d.comb += [
            self.clear.eq(self.left == 0),
            self.clears.eq(Mux(self.host, host == 0, Mux(self.near, near == 0, self.left <= 1))),
        ]
        with m.If(self.host):
            m.d.sync += self.left.eq(host)
        with m.Elif(self.near):
            m.d.sync += self.left.eq(near)
        with m.Elif(~self.clear):
            m.d.sync += self.left.eq(self.left - 1)
        return m


class FourActivates(wiring.Component):
    """tFAW: at most four ACTs of a rank in any window of `cycles` (1 or more).

    Four counters are loaded in turn; `clear` looks at the one whose turn it is, which holds the fourth ACT back. Inputs and timing as for
    `Tracker`; `left` is all counters and the turn. Does not enforce tRRD. Raises ValueError for fewer cycles.
    """

    def __init__(self, *, cycles: int):
        if cycles < 1:
            raise ValueError(f"cycles = {cycles} is outside 1 or more")
        self.cycles = cycles
        super().__init__({"host": In(1), "near": In(1), "left": Out(self.state_bits(cycles)), "clear": Out(1),
                          "clears": Out(1)})

    @staticmethod
    def state_bits(cycles: int) -> int:
        """Bits of `left`."""
        return 4 * counter_bits(cycles) + 2

    def elaborate(self, platform):
        m = Module()
        host, near = load_values(self.cycles)
        turn = Signal(2)
        counters = [Signal(counter_bits(self.cycles), name=f"counter_{i}") for i in range(4)]
        for number, counter in enumerate(counters):
            with m.If(self.host & (turn == number)):
                m.d.sync += counter.eq(host)
            with m.Elif(self.near & (turn == number)):
                m.d.sync += counter.eq(near)
            with m.Elif(counter != 0):
                m.d.sync += counter.eq(counter - 1)
        with m.If(self.host | self.near):
            m.d.sync += turn.eq(turn + 1)
        zero, nearly = Signal(4), Signal(4)
        m.d.comb += [
            zero.eq(Cat(counter == 0 for counter in counters)),
            nearly.eq(Cat(counter <= 1 for counter in counters)),
            self.clear.eq(zero.bit_select(turn, 1)),
            # A load passes the turn on to another counter, which only counts.
            self.clears.eq(nearly.bit_select((turn + (self.host | self.near))[:2], 1)),
            self.left.eq(Cat(*counters, turn)),
        ]
        return m

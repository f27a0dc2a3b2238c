"""Finished fp32 sums of one column to results: fp32, or rounded to bf16; with or without a ReLU."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from rtl.arith.bfloat16 import BITS, narrowed
from rtl.vector.requantise import Requantiser


class FloatResult(wiring.Component):
    """`total`: the sum; `result`: the sum as bf16. With `relu` what has a negative sign is +0 in both.

    Latency: those of a `Requantiser`, so that a store takes as long whatever its numbers are: `total` 2 cycles, `result` 10; one sum a
    cycle, no back-pressure. A NaN among the sums is positive, as `rtl.arith` makes it; that is not enforced.
    """

    def __init__(self):
        super().__init__({"sum": In(32), "relu": In(1), "total": Out(32), "result": Out(BITS)})

    def elaborate(self, platform):
        m = Module()
        total = Signal(32, reset_less=True)
        m.d.sync += [total.eq(Mux(self.relu & self.sum[-1], 0, self.sum)), self.total.eq(total)]
        result = narrowed(self.total)
        for cycle in range(Requantiser.LATENCY - Requantiser.TOTAL_LATENCY):
            stage = Signal(BITS, name=f"result_{cycle + 1}", reset_less=True)
            m.d.sync += stage.eq(result)
            result = stage
        m.d.comb += self.result.eq(result)
        return m

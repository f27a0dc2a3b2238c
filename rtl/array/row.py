"""A row of processing elements: the module that repeats."""

from amaranth.hdl import Module, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from gen.config import Config
from rtl.array.pe import PE
from rtl.interfaces import OPERAND_BITS
from rtl.sharing import place


class Row(wiring.Component):
    """`side` PEs: the moving operand and its swap token pass through from left to right, all else from top to bottom by column.

    Latencies are those of `PE`; the moving operand leaves on the right `side` cycles after it entered.
    """

    def __init__(self, config: Config, *, early: bool = False):
        self.config, self.early = config, early
        side, operand, total = config.array.side, signed(OPERAND_BITS), signed(config.sum_width)
        super().__init__({
            "moving_in": In(operand),
            "moving_out": Out(operand),
            "swap_in": In(1),
            "sums_in": In(total).array(side),
            "sums_out": Out(total).array(side),
            "stationary_in": In(operand).array(side),
            "stationary_out": Out(operand).array(side),
            "capture_in": In(side),
            "capture_out": Out(side),
        })

    def elaborate(self, platform):
        m = Module()
        moving, swap = self.moving_in, self.swap_in
        module = "pe_early" if self.early else "pe"
        for column in range(self.config.array.side):
            pe = place(m, platform, instance=f"pe_{column}", module=module, factory=lambda: PE(self.config, early=self.early))
            m.d.comb += [
                pe.moving_in.eq(moving),
                pe.swap_in.eq(swap),
                pe.sum_in.eq(self.sums_in[column]),
                pe.stationary_in.eq(self.stationary_in[column]),
                pe.capture_in.eq(self.capture_in[column]),
                self.sums_out[column].eq(pe.sum_out),
                self.stationary_out[column].eq(pe.stationary_out),
                self.capture_out[column].eq(pe.capture_out),
            ]
            moving, swap = pe.moving_out, pe.swap_out
        m.d.comb += self.moving_out.eq(moving)
        return m

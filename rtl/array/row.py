"""A row of processing elements: the module that repeats."""

from amaranth.hdl import Module, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from gen.config import Config
from rtl.array.pe import PE, Above
from rtl.sharing import place


def spread(count: int, places: int) -> list[int]:
    """`count` things dealt to `places` as evenly as can be: how many each gets."""
    return [(i + 1) * count // places - i * count // places for i in range(places)]


def kind(early: bool, above: Above) -> str:
    """What distinguishes rows and PEs, for the names of their modules."""
    return f"{above}_early" if early else str(above)


class Row(wiring.Component):
    """`side` PEs: the moving operand and its swap token pass through from left to right, all else from top to bottom by column.

    Latencies and `above` are those of `PE`; the moving operand leaves on the right `side` cycles after it entered.
    `blocks` PEs, evenly spread, have multiplier blocks (None: all).
    """

    def __init__(self, config: Config, *, early: bool = False, above: Above = Above.SUMS, blocks: int | None = None):
        self.config, self.early, self.above = config, early, above
        self.blocks = config.array.side if blocks is None else blocks
        side, operand, total = config.array.side, signed(config.operand_bits), signed(config.sum_width)
        super().__init__({
            "moving_in": In(operand),
            "moving_out": Out(operand),
            "swap_in": In(1),
            "sums_out": Out(total).array(side),
            "stationary_in": In(operand).array(side),
            "stationary_out": Out(operand).array(side),
            "capture_in": In(side),
            "capture_out": Out(side),
            **({} if above is Above.NOTHING else {"sums_in": In(total).array(side)}),
            **({"sums_enable": In(side)} if above is Above.GATED else {}),
        })

    def elaborate(self, platform):
        m = Module()
        moving, swap = self.moving_in, self.swap_in
        for column, block in enumerate(spread(self.blocks, self.config.array.side)):
            pe = place(m, platform, instance=f"pe_{column}", module=f"pe_{kind(self.early, self.above)}_{'block' if block else 'luts'}",
                       factory=lambda block=block: PE(self.config, early=self.early, above=self.above, block=bool(block)))
            m.d.comb += [
                pe.moving_in.eq(moving),
                pe.swap_in.eq(swap),
                pe.stationary_in.eq(self.stationary_in[column]),
                pe.capture_in.eq(self.capture_in[column]),
                self.sums_out[column].eq(pe.sum_out),
                self.stationary_out[column].eq(pe.stationary_out),
                self.capture_out[column].eq(pe.capture_out),
            ]
            if self.above is not Above.NOTHING:
                m.d.comb += pe.sum_in.eq(self.sums_in[column])
            if self.above is Above.GATED:
                m.d.comb += pe.sum_enable.eq(self.sums_enable[column])
            moving, swap = pe.moving_out, pe.swap_out
        m.d.comb += self.moving_out.eq(moving)
        return m

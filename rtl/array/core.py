"""A sub-core: side x side weight-stationary PEs."""

from amaranth.hdl import Module, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from gen.config import Config
from rtl.array.row import Row
from rtl.interfaces import OPERAND_BITS
from rtl.sharing import place


class SubCore(wiring.Component):
    """Multiplies a moving tile (rows x side) with a stationary one (side x side), a row a cycle, edges skewed.

    With S = side, R = row_latency: element r of a moving row whose first element is at ``moving_in[0]`` in cycle u is due at
    ``moving_in[r]`` in u + R*r, as is its swap token, and leaves at ``moving_out[r]`` in u + R*r + S. The sum of column c is at
    ``sums_out[c]`` in u + 1 + R*S + c + multiplier_latency; what comes from above is due at ``sums_in[c]`` R*S cycles before.
    Stationary row i is due at ``stationary_in[c]`` in v + i + c, a capture token in v + c. The wave that uses it starts at
    u >= v + max(S - 1, 1), the wave before has started by v - 1. Nothing is enforced.
    """

    def __init__(self, config: Config):
        self.config = config
        side, operand, total = config.array.side, signed(OPERAND_BITS), signed(config.sum_width)
        super().__init__({
            "moving_in": In(operand).array(side),
            "moving_out": Out(operand).array(side),
            "swap_in": In(side),
            "sums_in": In(total).array(side),
            "sums_out": Out(total).array(side),
            "stationary_in": In(operand).array(side),
            "capture_in": In(side),
        })

    def elaborate(self, platform):
        m = Module()
        side = self.config.array.side
        sums, stationary, capture = self.sums_in, self.stationary_in, self.capture_in
        for r in range(side):
            early = r == side - 2
            row = place(m, platform, instance=f"row_{r}", module="pe_row_early" if early else "pe_row",
                        factory=lambda early=early: Row(self.config, early=early))
            m.d.comb += [
                row.moving_in.eq(self.moving_in[r]),
                row.swap_in.eq(self.swap_in[r]),
                row.capture_in.eq(capture),
                self.moving_out[r].eq(row.moving_out),
            ]
            for c in range(side):
                m.d.comb += [row.sums_in[c].eq(sums[c]), row.stationary_in[c].eq(stationary[c])]
            sums, stationary, capture = row.sums_out, row.stationary_out, row.capture_out
        for c in range(side):
            m.d.comb += self.sums_out[c].eq(sums[c])
        return m

"""A sub-core: side x side weight-stationary PEs."""

from amaranth.hdl import Module, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from gen.config import Config
from rtl.array.pe import Above
from rtl.array.row import Row, kind, spread
from rtl.sharing import multipliers, place


class SubCore(wiring.Component):
    """Multiplies a moving tile (rows x side) with a stationary one (side x side), a row a cycle, edges skewed.

    With S = side, R = row_latency: element r of a moving row whose first element is at ``moving_in[0]`` in cycle u is due at
    ``moving_in[r]`` in u + R*r, as is its swap token, and leaves at ``moving_out[r]`` in u + R*r + S. The sum of column c is at
    ``sums_out[c]`` in u + 1 + R*S + c + multiplier_latency; what comes from above is due at ``sums_in[c]`` R*S cycles before.
    Stationary row i is due at ``stationary_in[c]`` in v + i + c, a capture token in v + c. The wave that uses it starts at
    u >= v + max(S - 1, 1), the wave before has started by v - 1. Nothing is enforced.
    `above` leaves ``sums_in`` out or adds ``sums_enable``, bit c due with ``sums_in[c]``.
    Where multiplier blocks are few, each core has as many, evenly spread over its rows and columns.
    """

    def __init__(self, config: Config, *, above: Above = Above.SUMS):
        self.config, self.above = config, above
        side, operand, total = config.array.side, signed(config.operand_bits), signed(config.sum_width)
        super().__init__({
            "moving_in": In(operand).array(side),
            "moving_out": Out(operand).array(side),
            "swap_in": In(side),
            "sums_out": Out(total).array(side),
            "stationary_in": In(operand).array(side),
            "capture_in": In(side),
            **({} if above is Above.NOTHING else {"sums_in": In(total).array(side)}),
            **({"sums_enable": In(side)} if above is Above.GATED else {}),
        })

    def elaborate(self, platform):
        m = Module()
        side = self.config.array.side
        sums, stationary, capture = [] if self.above is Above.NOTHING else self.sums_in, self.stationary_in, self.capture_in
        available = multipliers(platform)
        blocks = side * side if available is None else min(side * side, available // (self.config.array.groups * self.config.cores))
        for r, count in enumerate(spread(blocks, side)):
            early, above = r == side - 2, Above.SUMS if r else self.above
            row = place(m, platform, instance=f"row_{r}", module=f"row_{kind(early, above)}_{count}",
                        factory=lambda early=early, above=above, count=count: Row(self.config, early=early, above=above, blocks=count))
            m.d.comb += [row.sums_in[c].eq(value) for c, value in enumerate(sums)]
            if above is Above.GATED:
                m.d.comb += row.sums_enable.eq(self.sums_enable)
            m.d.comb += [
                row.moving_in.eq(self.moving_in[r]),
                row.swap_in.eq(self.swap_in[r]),
                row.capture_in.eq(capture),
                self.moving_out[r].eq(row.moving_out),
            ]
            for c in range(side):
                m.d.comb += row.stationary_in[c].eq(stationary[c])
            sums, stationary, capture = row.sums_out, row.stationary_out, row.capture_out
        for c in range(side):
            m.d.comb += self.sums_out[c].eq(sums[c])
        return m

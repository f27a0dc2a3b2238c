"""The processing element: one multiply-accumulate with a stationary operand that is replaced while it computes."""

import enum

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from gen.config import Config
from rtl.arith.carry import add, add_gated, extend
from rtl.arith.float32 import Add
from rtl.array.float_multiplier import FloatMultiplier
from rtl.array.multiplier import Multiplier
from rtl.array.skew import delayed


class Above(enum.StrEnum):
    """What comes to a row from above."""

    NOTHING = "nothing"     # the topmost row: products are the sums
    SUMS = "sums"
    GATED = "gated"         # sums that count in the cycles in which they are enabled


class PE(wiring.Component):
    """Moving operand to the right, partial sum and stationary operand down, a product every cycle.

    A moving operand at ``moving_in`` in cycle t is at ``moving_out`` in t+1, in which its product with the active stationary
    operand starts; ``sum_in`` is added `multiplier_latency` cycles later and leaves at ``sum_out`` after `row_latency` more.
    ``swap_in`` with the first operand of a wave makes the shadow operand the active one, ``capture_in`` puts ``stationary_in``
    into the shadow. Stationary operands go down `row_latency` cycles a row and the capture token one cycle slower: with tile
    row i in the pipe i cycles behind the token, each row captures exactly its own. `early` shortens both ways by a cycle: the
    row above the last is early, since the last would otherwise capture one cycle too late for a wave that starts as soon as it may.
    `above` leaves ``sum_in`` out or adds ``sum_enable``, which goes with it; `block` is the multiplier's.
    """

    def __init__(self, config: Config, *, early: bool = False, above: Above = Above.SUMS, block: bool = True):
        self.config, self.early, self.above, self.block = config, early, above, block
        operand, total = signed(config.operand_bits), signed(config.sum_width)
        super().__init__({
            "moving_in": In(operand),
            "moving_out": Out(operand),
            "swap_in": In(1),
            "swap_out": Out(1),
            "sum_out": Out(total),
            "stationary_in": In(operand),
            "stationary_out": Out(operand),
            "capture_in": In(1),
            "capture_out": Out(1),
            **({} if above is Above.NOTHING else {"sum_in": In(total)}),
            **({"sum_enable": In(1)} if above is Above.GATED else {}),
        })

    def elaborate(self, platform):
        m = Module()
        rows = self.config.array.row_latency
        shape = signed(self.config.operand_bits)
        moving, shadow, active = (Signal(shape, name=name, reset_less=True) for name in ("moving", "shadow", "active"))
        m.d.sync += moving.eq(self.moving_in)
        # Registers without a reset, unlike those of a `Line`: synthesis would take the tokens of a diagonal for one, and share a register
        # among PEs that are far apart.
        m.d.comb += [
            self.moving_out.eq(moving),
            self.swap_out.eq(delayed(m, self.swap_in, 1, name="swap")),
            self.capture_out.eq(delayed(m, self.capture_in, rows + 1 - self.early, name="capture")),
        ]
        with m.If(self.swap_in):
            m.d.sync += active.eq(shadow)
        with m.If(self.capture_in):
            m.d.sync += shadow.eq(self.stationary_in)
        m.d.comb += self.stationary_out.eq(delayed(m, self.stationary_in, rows - self.early, name="stationary"))

        if self.config.floating:
            self._add_floating(m, moving, active)
            return m
        m.submodules.multiplier = multiplier = Multiplier(self.config, block=self.block)
        total = Signal(signed(self.config.sum_width))
        m.d.comb += [multiplier.a.eq(moving), multiplier.b.eq(active), self.sum_out.eq(delayed(m, total, rows, name="sum"))]
        product = extend(multiplier.product, len(total))
        match self.above:
            case Above.NOTHING:
                m.d.comb += total.eq(product)
            case Above.SUMS:
                m.d.comb += total.eq(add(m, platform, self.sum_in, product, name="add"))
            case Above.GATED:
                m.d.comb += total.eq(add_gated(m, platform, product, self.sum_in, self.sum_enable, name="add"))
        return m

    def _add_floating(self, m: Module, moving: Signal, active: Signal):
        """The product of two bf16 numbers, exact, and the sum: what comes from above plus the product, rounded."""
        rows = self.config.array.row_latency
        m.submodules.multiplier = multiplier = FloatMultiplier(latency=self.config.array.multiplier_latency)
        m.d.comb += [multiplier.a.eq(moving), multiplier.b.eq(active)]
        if self.above is Above.NOTHING:
            m.d.comb += self.sum_out.eq(delayed(m, multiplier.product, rows, name="sum"))
            return
        m.submodules.adder = adder = Add(latency=rows)
        above = self.sum_in
        if self.above is Above.GATED:       # -0 leaves every number as it is
            above = Mux(self.sum_enable, self.sum_in, 1 << len(self.sum_in) - 1)
        m.d.comb += [adder.a.eq(above), adder.b.eq(multiplier.product), self.sum_out.eq(adder.result)]

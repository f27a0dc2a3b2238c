"""The compute unit: four sub-cores with FlexSA's wires between them, four without, or a single core."""

from amaranth.hdl import Module, Mux, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from gen.config import Config, Unit
from rtl.array.core import SubCore
from rtl.array.pe import Above
from rtl.array.skew import Line, Skew
from rtl.sharing import place


class ComputeUnit(wiring.Component):
    """The sub-cores of one group, their skew, and the muxes between them.

    Core q's words arrive `config.core_offset(q)` cycles behind core 0's. The control ports go with core 0's words and are delayed here:
    ``swap`` with the first moving word of a wave, ``tall`` and ``wide`` with all of them, ``capture`` with the first stationary word.
    Lane r of ``moving`` and ``stationary`` is element k = r, or column c = r, in bits 9r .. 9r+8 (of bf16 16r .. 16r+15).
    A moving word at the port in cycle u gives ``sums[q][c]`` in u + 1 + R*S + c + multiplier_latency (S = side, R = row_latency);
    in tall modes the lower cores' sums include the upper cores'. One word a core and cycle; waves of different modes may follow
    each other without a gap. Cross wires exist only in a FlexSA unit; the other kinds ignore the modes.
    """

    def __init__(self, config: Config):
        self.config = config
        side, cores = config.array.side, config.cores
        super().__init__({
            "moving": In(config.operand_bits * side).array(cores),
            "stationary": In(config.operand_bits * side).array(cores),
            "swap": In(1),
            "capture": In(1),
            "tall": In(1),
            "wide": In(1),
            "sums": Out(signed(config.sum_width)).array(cores, side),
        })

    def elaborate(self, platform):
        m = Module()
        config = self.config
        array, side, flex = config.array, config.array.side, config.array.unit is Unit.FLEX
        rows, far = array.row_latency, config.core_offset(config.cores - 1)
        meeting = 1 + array.multiplier_latency     # from a moving operand at a core's edge to its product meeting the sum from above
        swap = Line(m, self.swap, longest=far + rows * (side - 1), name="swap")
        capture = Line(m, self.capture, longest=far + side - 1, name="capture")
        wide = Line(m, self.wide, longest=far + rows * (side - 1), name="wide") if flex else None
        tall = Line(m, self.tall, longest=far + meeting + side - 1, name="tall") if flex else None

        kinds = [Above.GATED if flex and q >= 2 else Above.NOTHING for q in range(config.cores)]
        cores = [place(m, platform, instance=f"core_{q}", module=f"sub_core_{above}",
                       factory=lambda above=above: SubCore(config, above=above)) for q, above in enumerate(kinds)]
        for q, core in enumerate(cores):
            low, right = divmod(q, 2)
            offset = config.core_offset(q)
            moving = self._skew(m, platform, "moving", q, rows)
            stationary = self._skew(m, platform, "stationary", q, 1)
            for lane in range(side):
                own = moving[lane]
                if wide is not None and right:
                    own = Mux(wide.tap(offset + rows * lane), cores[q - 1].moving_out[lane], own)
                if tall is not None and low:
                    m.d.comb += [core.sums_in[lane].eq(cores[q - 2].sums_out[lane]),
                                 core.sums_enable[lane].eq(tall.tap(offset + meeting + lane))]
                m.d.comb += [
                    core.moving_in[lane].eq(own),
                    core.swap_in[lane].eq(swap.tap(offset + rows * lane)),
                    core.stationary_in[lane].eq(stationary[lane]),
                    core.capture_in[lane].eq(capture.tap(offset + lane)),
                    self.sums[q][lane].eq(core.sums_out[lane]),
                ]
        return m

    def _skew(self, m, platform, operand: str, q: int, step: int):
        """Lanes of one operand of core q, lane i delayed by i * step."""
        side, word = self.config.array.side, getattr(self, operand)[q]
        if side == 1:
            return [word.as_signed()]
        skew = place(m, platform, instance=f"skew_{operand}_{q}", module=f"skew_{step}",
                     factory=lambda: Skew(width=self.config.operand_bits, lanes=side, step=step))
        m.d.comb += skew.word.eq(word)
        return skew.lanes

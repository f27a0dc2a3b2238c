"""Padding of the implicit im2col: whether the input pixel of each row lies outside the image."""

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from gen.config import Config
from rtl.buffer.address import NEAR_BITS, PIXEL_BITS, times
from rtl.instruction import instruction_layout


class PixelCheck(wiring.Component):
    """Input pixel x * stride - pad_x + kernel_x (y likewise) against 0 .. in_width - 1 (in_height - 1), for each core.

    Follows a `RowWalk` step by step: all inputs belong to one cycle, and ``outside`` to those of three cycles before. ``load`` and ``conv``
    are the instructions under way; they may change with the next step. ``first``: the step is the first of a wave. `im2col` low: never
    outside.

    x and y themselves are nowhere: the leader's input pixel goes on by multiples of the stride and begins anew with an image row.
    """

    LATENCY = 3

    def __init__(self, config: Config):
        self._cores = config.cores
        super().__init__({
            "conv": In(instruction_layout("SetConv")),
            "load": In(instruction_layout("LdLBUF_H")),
            "kernel_x": In(4),
            "kernel_y": In(4),
            "first": In(1),
            "places": In(2).array(config.cores),
            "turned": In(config.cores),
            "turns": In(1),
            "bottom": In(1),
            "columns": In(NEAR_BITS),
            "outside": Out(config.cores),
        })

    def elaborate(self, platform):
        m = Module()

        def delayed(value, name: str, cycles: int = 1):
            """The value of so many cycles before; `_1` is what belongs to the step of the cycle before, `_2` to the one before that."""
            for cycle in range(1, cycles + 1):
                stage = Signal.like(value, name=f"{name}_{cycle}", reset_less=True)
                m.d.sync += stage.eq(value)
                value = stage
            return value

        def pixels(count, stride):
            """count * stride for counts up to 7."""
            return Mux(count[2], stride << 2, 0) | Array([times(stride, n) for n in range(4)])[count[:2]]

        conv, load = self.conv, self.load
        stride_1 = delayed(conv.stride, "stride")
        shift_x_1, shift_y_1 = delayed(self.kernel_x - conv.pad_x, "shift_x"), delayed(self.kernel_y - conv.pad_y, "shift_y")
        shift_x_2, shift_y_2 = delayed(shift_x_1, "shift_x_again"), delayed(shift_y_1, "shift_y_again")
        start_x_1 = delayed(product(load.start_x, conv.stride), "start_x")
        start_y_1 = delayed(product(load.start_y, conv.stride), "start_y")
        first_1, turns_2, bottom_2 = delayed(self.first, "first"), delayed(self.turns, "turns", 2), delayed(self.bottom, "bottom", 2)
        width_1, height_1 = delayed(conv.in_width, "width"), delayed(conv.in_height, "height")

        # The leader's input pixel, and the row of the one behind the end of the image row.
        x, y = (Signal(signed(PIXEL_BITS + 5), name=name, reset_less=True) for name in "xy")
        reach = 1 << load.rate                        # of a step
        onward = delayed(Mux(self.turns, reach - self.columns, reach)[:NEAR_BITS], "onward")
        onward_2 = delayed(pixels(onward, stride_1), "onward_pixels")
        stride_2 = delayed(stride_1, "stride_again")
        with m.If(first_1):
            m.d.sync += [x.eq(start_x_1 + shift_x_1), y.eq(start_y_1 + shift_y_1)]
        with m.Else():
            m.d.sync += [x.eq(Mux(turns_2, shift_x_1, x) + onward_2)]
            with m.If(turns_2):
                m.d.sync += y.eq(Mux(bottom_2, shift_y_2, y + stride_2))

        def beyond(position, offset, limit):
            """Whether position + offset lies below 0, or not below a size that is `limit` + offset. A position is more than -16."""
            raised = position[:len(offset)] + offset
            return (position[-1] & ~raised[-1]) | (position >= limit)

        active_3, none = delayed(load.im2col, "active", 3), Const(0, 6)
        in_row = delayed(beyond(y, none, delayed(height_1, "height_again")), "in_row")
        over = Mux(bottom_2, delayed(height_1, "height_below"), delayed(height_1 - stride_1, "height_less"))
        in_row_below = delayed(beyond(Mux(bottom_2, shift_y_2, y), Mux(bottom_2, 0, stride_2), over.as_signed()), "in_row_below")
        for core in range(self._cores):
            turned_2 = delayed(self.turned[core], f"core{core}_turned", 2)
            turned_3 = delayed(turned_2, f"core{core}_turned_last")
            position, right_1 = x, none
            if core:
                place = delayed(Mux(self.turned[core], self.places[core] - self.columns, self.places[core])[:2], f"core{core}_place")
                right_1 = Cat(Array([times(stride_1, n) for n in range(4)])[place])[:6]
                position = Mux(turned_2, shift_x_2, x).as_signed()
            right_2, limit_2 = delayed(right_1, f"core{core}_right"), delayed((width_1 - right_1).as_signed(), f"core{core}_limit")
            in_column = delayed(beyond(position, right_2, limit_2), f"core{core}_column")
            m.d.comb += self.outside[core].eq(active_3 & (in_column | Mux(turned_3, in_row_below, in_row)))
        return m


def product(value, factor):
    """value * factor as a tree of gated additions: no multiplier block, which the processing elements need."""
    rows = [(value << i) & factor[i].replicate(len(value) + i) for i in range(len(factor))]
    while len(rows) > 1:
        rows = [rows[i] + rows[i + 1] if i + 1 < len(rows) else rows[i] for i in range(0, len(rows), 2)]
    return rows[0]

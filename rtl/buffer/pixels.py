"""Padding of the implicit im2col: whether the input pixel of each row lies outside the image."""

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from gen.config import Config
from rtl.buffer.address import PIXEL_BITS
from rtl.instruction import instruction_layout


class PixelCheck(wiring.Component):
    """Input pixel x * stride - pad_x + kernel_x (y likewise) against 0 .. in_width - 1 (in_height - 1), for each core.

    ``outside`` belongs to the inputs of three cycles before; one check a cycle. ``active`` low: never outside.
    ``conv`` belongs to the cycle of the other inputs and may change with the next.
    """

    LATENCY = 3

    def __init__(self, config: Config):
        self._cores = config.cores
        super().__init__({
            "conv": In(instruction_layout("SetConv")),
            "active": In(1),
            "kernel_x": In(4),
            "kernel_y": In(4),
            "x": In(PIXEL_BITS).array(config.cores),
            "y": In(PIXEL_BITS).array(config.cores),
            "outside": Out(config.cores),
        })

    def elaborate(self, platform):
        m = Module()
        bits = PIXEL_BITS + 6           # stride and kernel are 4 bits each
        active = [self.active, Signal(name="active_1"), Signal(name="active_2")]
        m.d.sync += [active[i + 1].eq(active[i]) for i in range(2)]
        axes = []
        for axis, size, pad, kernel in (("x", self.conv.in_width, self.conv.pad_x, self.kernel_x),
                                        ("y", self.conv.in_height, self.conv.pad_y, self.kernel_y)):
            shift = Signal(signed(6), name=f"{axis}_shift", reset_less=True)
            size_1, size_2 = (Signal(PIXEL_BITS, name=f"{axis}_size_{i}", reset_less=True) for i in (1, 2))
            m.d.sync += [shift.eq(kernel - pad), size_1.eq(size), size_2.eq(size_1)]
            axes.append((axis, getattr(self, axis), shift, size_2))
        for core in range(self._cores):
            outside = 0
            for axis, outputs, shift, size in axes:
                scaled = Signal(PIXEL_BITS + 4, name=f"core{core}_{axis}_scaled", reset_less=True)
                position = Signal(signed(bits), name=f"core{core}_{axis}_position", reset_less=True)
                m.d.sync += [scaled.eq(product(outputs[core], self.conv.stride)), position.eq(scaled + shift)]
                outside |= (position < 0) | (position >= size)
            m.d.sync += self.outside[core].eq(Mux(active[2], outside, 0))
        return m


def product(value, factor):
    """value * factor as a tree of gated additions: no multiplier block, which the processing elements need."""
    rows = [(value << i) & factor[i].replicate(len(value) + i) for i in range(len(factor))]
    while len(rows) > 1:
        rows = [rows[i] + rows[i + 1] if i + 1 < len(rows) else rows[i] for i in range(0, len(rows), 2)]
    return rows[0]

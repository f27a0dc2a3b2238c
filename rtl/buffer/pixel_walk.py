"""The walk of a LdPixels over output pixels: where the input pixel of each lies, and whether that is outside the image."""

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from gen.isa import OPCODES
from rtl.instruction import instruction_layout
from rtl.interfaces import ADDRESS_BITS

PLACE_BITS = next(item.width for item in OPCODES["LdPixels"].fields if item.name == "column")      # input columns and rows, signed


class PixelWalk(wiring.Component):
    """One output pixel a step, continuous over rows and images.

    ``start`` takes the fields of ``load``: in the next cycle the first pixel is there. ``step``: the present pixel is read; the one behind
    it is there in the next cycle. ``address`` is the present pixel's word, ``second`` the one of the second channel block (modulo 2**16).
    ``outside`` belongs to the cycle three before (`LATENCY`): a pixel was read, and it lies outside the image. Columns and rows are
    modulo 2**13. ``start`` wins over ``step``.

    Nothing waits for a sum that is compared: that the next pixel is the last of its row (the row the last of its image) is known from
    the present one and the place before the last.
    """

    LATENCY = 3

    def __init__(self):
        super().__init__({
            "load": In(instruction_layout("LdPixels")),
            "start": In(1),
            "step": In(1),
            "address": Out(ADDRESS_BITS),
            "second": Out(ADDRESS_BITS),
            "outside": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        load = self.load
        kept = {"x_step": ADDRESS_BITS, "row_step": ADDRESS_BITS, "image_step": ADDRESS_BITS, "stride": 4, "in_width": 12, "in_height": 12}
        fields = {name: Signal(bits, name=name, reset_less=True) for name, bits in kept.items()}

        # In each direction the input column (row), and whether it is the last one.
        column, line = Signal(signed(PLACE_BITS), reset_less=True), Signal(signed(PLACE_BITS), reset_less=True)
        row_end, image_end, forward = Signal(reset_less=True), Signal(reset_less=True), Signal(ADDRESS_BITS)
        m.d.comb += forward.eq(Mux(row_end, Mux(image_end, fields["image_step"], fields["row_step"]), fields["x_step"]))
        for name, place, last, moves in (("column", column, row_end, self.step), ("line", line, image_end, self.step & row_end)):
            first, final = getattr(load, f"first_{name}"), getattr(load, f"last_{name}")
            begin = Signal(signed(len(first)), name=f"begin_{name}", reset_less=True)
            before, single = Signal.like(place, name=f"before_{name}"), Signal(name=f"single_{name}", reset_less=True)
            with m.If(self.start):
                m.d.sync += [begin.eq(first), before.eq(final - load.stride), single.eq(first == final)]
                m.d.sync += [place.eq(getattr(load, name)), last.eq(getattr(load, name) == final)]
            with m.Elif(moves):
                m.d.sync += [place.eq(Mux(last, begin, place + fields["stride"])), last.eq(Mux(last, single, place == before))]
        with m.If(self.start):
            m.d.sync += [value.eq(getattr(load, name)) for name, value in fields.items()]
            m.d.sync += [self.address.eq(load.address), self.second.eq(load.address + load.pitch)]
        with m.Elif(self.step):
            m.d.sync += [self.address.eq(self.address + forward), self.second.eq(self.second + forward)]

        beyond, outside = Signal(5), Signal()
        m.d.sync += [
            beyond[0].eq(self.step),
            beyond[1].eq(column < 0), beyond[2].eq(column >= fields["in_width"]),
            beyond[3].eq(line < 0), beyond[4].eq(line >= fields["in_height"]),
            outside.eq(beyond[0] & beyond[1:].any()),
            self.outside.eq(outside),
        ]
        return m

"""The faults of the mutation check in LdPixels: LOAD_V of bf16 machines and its walk over pixels."""

from tb.mutant import Mutant, unit

TESTS = unit("load_pixels")
LOAD_V, WALK = "rtl/control/load_stationary.py", "rtl/buffer/pixel_walk.py"

PIXELS = [
    Mutant("walk-ready", LOAD_V, "a tall tile is said to be ready before its lower rows are there",
           "begins = Mux(double, row == side, first)", "begins = first", TESTS),
    Mutant("walk-cores", LOAD_V, "the lower rows of a tall tile go to the upper cores as well",
           "Mux(row < side, 0b0011, 0b1100)", "Mux(row < side, 0b0011, 0b1111)", TESTS),
    Mutant("walk-slot", LOAD_V, "the lower rows of a tall tile go to the slot behind that of the upper ones",
           "target.eq(target - (side - 1))", "target.eq(target + 1)", TESTS),
    Mutant("walk-second", LOAD_V, "the right cores get the lower cores' channel block",
           "Mux(wide & (core & 1), walk.second", "Mux(wide & (core >> 1), walk.second", TESTS),
    Mutant("walk-words", LOAD_V, "of a wide tile one word a pixel is counted", "words = Mux(pixels, 1 + wide, stride)",
           "words = Mux(pixels, 1, stride)", TESTS),
    Mutant("walk-image", WALK, "rows and images go on for a step behind their last one",
           "last.eq(Mux(last, single, place == before))", "last.eq(Mux(last, single, place == before + fields[\"stride\"]))", TESTS),
    Mutant("walk-image-step", WALK, "from image to image it is as far as from row to row",
           'Mux(image_end, fields["image_step"], fields["row_step"])', 'fields["row_step"]', TESTS),
    Mutant("walk-single", WALK, "an image of one column has two", "single.eq(first == final)", "single.eq(0)", TESTS),
    Mutant("walk-line", WALK, "the row goes on with every pixel", "self.step & row_end)", "self.step)", TESTS),
    Mutant("walk-edge", WALK, "the column behind the last one counts as inside",
           'column >= fields["in_width"]', 'column > fields["in_width"]', TESTS),
    Mutant("walk-packed", WALK, "packed tiles have padding, too", "beyond[0] & beyond[1:].any()", "beyond[1:].any()", TESTS),
    Mutant("walk-banks", "rtl/buffer/global_buffer.py", "the second word of LOAD_V is taken for a neighbour of the first",
           'scattered = name == "load_h" or (name == "load_v" and config.floating)', 'scattered = name == "load_h"',
           unit("global_buffer::test_random_traffic")),
]

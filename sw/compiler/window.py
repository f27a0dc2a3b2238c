"""The window of a convolution: which input pixels an output tile reads, and the geometry that SetConv and LdLBUF_H walk.

Rows of the product are output pixels, image after image and line after line; the input's pixels lie in the same order.
"""

from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np

from gen.isa import layout
from sw.compiler.errors import CompileError, refuse_outside

MOST_CHANNEL_WAVES = 255    # of SetConv, where a kernel has one position
_LARGEST = {item.name: item.top for item, _ in layout("SetConv")}
BANKS = 4               # of a slice, at least
_SPACE = 1 << 16        # addresses in a slice, and their differences, are modulo this


@dataclass(frozen=True, kw_only=True)
class Window:
    """A kernel (height, width) that slides over images of height x width pixels. `padding`: top, left, bottom, right.

    Raises CompileError for what SetConv cannot hold, and where no output pixel is left.
    """

    images: int = 1
    height: int
    width: int
    kernel: tuple[int, int]
    stride: int = 1
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)

    def __post_init__(self):
        for name, count in (("kernel", 2), ("padding", 4)):
            value = getattr(self, name)
            if not isinstance(value, tuple | list) or len(value) != count:
                raise CompileError(f"{name} = {value!r} must be {count} integers")
            object.__setattr__(self, name, tuple(value))
        refuse_outside("images", self.images, 1, (1 << 31) - 1)
        refuse_outside("height", self.height, 1, _LARGEST["in_height"])
        refuse_outside("width", self.width, 1, _LARGEST["in_width"])
        refuse_outside("stride", self.stride, 1, _LARGEST["stride"])
        for side, value in zip(("top", "left", "bottom", "right"), self.padding):
            refuse_outside(f"padding {side}", value, 0, _LARGEST["pad_x"])
        for axis, name in enumerate(("height", "width")):
            room = getattr(self, name) + self.padding[axis] + self.padding[axis + 2]
            refuse_outside(f"kernel {name}", self.kernel[axis], 1, min(room, _LARGEST[f"kernel_{name}"]))
            if (room - self.kernel[axis]) // self.stride >= _LARGEST[f"out_{name}"]:
                raise CompileError(f"{name} = {getattr(self, name)} gives more than {_LARGEST[f'out_{name}']} output pixels")

    @cached_property
    def out_height(self) -> int:
        """Output lines of an image."""
        return (self.height + self.padding[0] + self.padding[2] - self.kernel[0]) // self.stride + 1

    @cached_property
    def out_width(self) -> int:
        """Output pixels of a line."""
        return (self.width + self.padding[1] + self.padding[3] - self.kernel[1]) // self.stride + 1

    @property
    def rows(self) -> int:
        """Output pixels of all images: the rows of the product."""
        return self.images * self.out_height * self.out_width

    @property
    def pixels(self) -> int:
        """Input pixels of all images."""
        return self.images * self.height * self.width

    @property
    def taps(self) -> int:
        """Positions of the kernel."""
        return self.kernel[0] * self.kernel[1]

    @property
    def plain(self) -> bool:
        """Whether each output pixel reads just the input pixel of its own number, so that nothing has to walk."""
        return self.taps == self.stride == 1 and not any(self.padding)

    def to_dict(self) -> dict:
        """Plain values by field name."""
        return {item.name: getattr(self, item.name) for item in fields(self)}


@dataclass(frozen=True)
class Walk:
    """How a window's pixels lie in a slice of the global buffer, and the way of LOAD_H over them.

    Whole input lines are loaded. Pixels count over all lines; with `skips` over those alone that are read at all, every stride-th one.
    """

    window: Window
    skips: bool

    @classmethod
    def of(cls, window: Window, beat_words: int) -> "Walk":
        """The walk of a window on a machine whose beats have so many words (pixels of a block): a line that is skipped ends with a beat."""
        images_alike = window.images == 1 or window.height == window.out_height * window.stride
        skips = window.taps == 1 < window.stride and not any(window.padding[:2]) and images_alike and window.width % beat_words == 0
        return cls(window, skips)

    def place(self, row: int) -> tuple[int, int, int]:
        """Of an output pixel: column, line, and the pixel under the kernel's first position (with padding, where it would be)."""
        window = self.window
        line, x = divmod(row, window.out_width)
        image, y = divmod(line, window.out_height)
        top, left = window.padding[:2]
        first = line if self.skips else image * window.height + y * window.stride - top
        return x, y, first * window.width + x * window.stride - left

    def band(self, row: int, stop: int) -> tuple[int, int]:
        """The lines that output pixels row..stop-1 read: their first pixel, and the one behind the last."""
        window = self.window
        first, last = row // window.out_width, (stop - 1) // window.out_width
        if self.skips:      # lines in the padding below are not there; at least one is loaded
            there = window.images * -(-window.height // window.stride)
            return min(first, there - 1) * window.width, min(last + 1, there) * window.width
        lines = []
        for output, below in ((first, 0), (last, window.kernel[0])):
            image, y = divmod(output, window.out_height)
            line = y * window.stride - window.padding[0] + below
            lines.append(image * window.height + min(max(line, 1 if below else 0), window.height - (not below)))
        return lines[0] * window.width, lines[1] * window.width

    def rate(self, row: int, rows: int, most: int, blocks: int) -> int:
        """log2 of the rows that LdLBUF_H loads a cycle for a tile of `rows` rows from `row` on: as many as can be, at most `most`.

        In a cycle no bank may be asked twice (there are four or more; a second block lies 2 mod 4 words on), and at most one end of a
        line may be passed.
        """
        window = self.window
        line, x = np.divmod(np.arange(row, row + rows), window.out_width)
        image, y = np.divmod(line, window.out_height)
        pixels = (line if self.skips else image * window.height + y * window.stride) * window.width + x * window.stride
        for rate in (2, 1):
            step = 1 << rate
            whole = rows // step * step         # the rows of the last step need not be all there
            if step <= min(most, window.out_width) and all(
                    _apart(part, blocks) for part in (pixels[:whole].reshape(-1, step), pixels[None, whole:])):
                return rate
        return 0

    def geometry(self, channel_waves: int) -> dict[str, int]:
        """The fields of SetConv for pixels one word apart and `channel_waves` to a kernel position (1 where there are several)."""
        window, step = self.window, self.window.stride
        lines, all_lines = (1, window.out_height) if self.skips else (step, window.height)     # to the next output line, to the next image
        across = step * (window.out_width - 1)
        return {
            "out_width": window.out_width, "out_height": window.out_height, "in_width": window.width, "in_height": window.height,
            "stride": step, "pad_y": window.padding[0], "pad_x": window.padding[1],
            "x_step": step, "row_step": (lines * window.width - across) % _SPACE,
            "image_step": (window.width * (all_lines - lines * (window.out_height - 1)) - across) % _SPACE,
            "kernel_x_step": 1, "kernel_y_step": (window.width - window.kernel[1] + 1) % _SPACE, "channel_waves": channel_waves,
            "kernel_width": window.kernel[1], "kernel_height": window.kernel[0],
        }


def _apart(pixels: np.ndarray, blocks: int) -> bool:
    """Whether the words of each step (a line of `pixels`) lie in different banks."""
    words = np.sort(np.concatenate([(pixels + 2 * block) % BANKS for block in range(blocks)], axis=1), axis=1)
    return bool((np.diff(words, axis=1) > 0).all())

"""Strips of a pooling's output lines, and their Pool instructions: windows that the edge cuts off are instructions of their own."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from sw.compiler.emission import ADDRESSES
from sw.compiler.layout import ceil_div
from sw.compiler.window import Window

if TYPE_CHECKING:
    from sw.compiler.pooling import Pooling


class Run(NamedTuple):
    """Output lines (or columns) first..first+count-1: windows of `size` lines in the image, from `start` on and one stride apart."""

    first: int
    count: int
    start: int
    size: int


def runs(window: Window, axis: int) -> Iterator[Run]:
    """All output lines (axis 0) or columns (1) of an image: those that the edge cuts off each by itself, the others together."""
    extent, out = ((window.height, window.out_height), (window.width, window.out_width))[axis]
    kernel, before, step = window.kernel[axis], window.padding[axis], window.stride
    whole = [index for index in range(out) if index * step - before >= 0 and index * step - before + kernel <= extent]
    for index in range(out):
        start = index * step - before
        if whole and index == whole[0]:
            yield Run(index, len(whole), start, kernel)
        elif index not in whole:
            yield Run(index, 1, max(start, 0), min(start + kernel, extent) - max(start, 0))


class Strip(NamedTuple):
    """Output lines line..stop-1 (counted over all images) of a channel block."""

    block: int
    line: int
    stop: int


def pixels(window: Window, strip: Strip, beat_words: int) -> tuple[int, int]:
    """The first pixel that is loaded for a strip, at a whole beat, and the one behind the last."""
    (image, line), (last_image, last_line) = divmod(strip.line, window.out_height), divmod(strip.stop - 1, window.out_height)
    first = image * window.height + max(0, line * window.stride - window.padding[0])
    last = last_image * window.height + min(window.height, last_line * window.stride - window.padding[0] + window.kernel[0])
    return first * window.width // beat_words * beat_words, last * window.width


def strip_parts(pooling: "Pooling", strip: Strip, origin: int) -> Iterator[dict[str, int]]:
    """The fields of a strip's Pool instructions, but for the slices: image by image, run of lines by run of columns. Addresses count from
    the source's pixel `origin` and from the strip's first result. A residual's words lie one behind the other, so with one each instruction
    has a single line where it has not all columns."""
    window, out = pooling.window, pooling.window.out_height
    lines, columns = list(runs(window, 0)), list(runs(window, 1))
    for image in range(strip.line // out, ceil_div(strip.stop, out)):
        for run in lines:
            first = max(run.first, strip.line - image * out)
            stop = min(run.first + run.count, strip.stop - image * out)
            apart = pooling.addition and len(columns) > 1
            pieces = [(line, line + 1) for line in range(first, stop)] if apart else [(first, stop)]
            for begin, end in pieces:
                for column in columns if end > begin else ():
                    start = run.start + (begin - run.first) * window.stride
                    across = (column.count - 1) * window.stride + column.size
                    back = (run.size - 1) * window.width
                    yield {
                        "source_address": (image * window.height + start) * window.width + column.start - origin,
                        "signed": int(pooling.dtype == "int8"), "kernel_width": column.size, "kernel_height": run.size,
                        "kernel_y_step": (window.width - column.size + 1) % ADDRESSES, "columns": column.count, "lines": end - begin,
                        "x_step": (window.stride - column.size + 1 - back) % ADDRESSES,
                        "y_step": (window.stride * window.width - across + 1 - back) % ADDRESSES,
                        "average": int(pooling.kind == "average"), "output": int(pooling.output == "int8"),
                        "zero_point": pooling.output_zero_point if pooling.kind == "average" else 0,
                        "address": (image * out + begin - strip.line) * window.out_width + column.first,
                        "line_step": (window.out_width - column.count + 1) % ADDRESSES,
                    }

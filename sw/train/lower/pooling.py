"""Poolings over windows on the vector unit, forward and backward, as `sw.golden.training` states them."""

from dataclasses import dataclass
from itertools import product

from gen.isa import OPCODES, Post, Result
from sw.compiler.errors import CompileError
from sw.compiler.layout import ceil_div
from sw.train.lower.elementwise import mask_words
from sw.train.lower.images import ImagePhase, Part
from sw.train.lower.memory import Tensor
from sw.train.lower.phase import Code
from sw.train.lower.vectors import Stream

MOST_STEP = next(field.top for field in OPCODES["Vector"].fields if field.name == "a_step")     # words from an element to the next
PLANES = 2      # words of an fp32 element


@dataclass(frozen=True)
class Run:
    """Windows whose pixels at one position are a constant step apart: the first one's place and the step, in pixels of x and of the
    result."""

    count: int
    x: int
    x_step: int
    y: int
    y_step: int

    def of_x(self, stream: Stream, position: int) -> Stream:
        """Their pixels at a position (`Windows.positions`) of images that begin where `stream` does."""
        return stream.at(position + self.x).every(self.x_step * stream.stride)

    def of_y(self, stream: Stream) -> Stream:
        """Their results."""
        return stream.at(self.y).every(self.y_step * stream.stride)


@dataclass(frozen=True)
class Windows:
    """Windows of kernel x kernel pixels, `stride` pixels from one to the next, of images of height x width pixels, without padding."""

    images: int
    height: int
    width: int
    kernel: int
    stride: int

    @property
    def lines(self) -> int:
        """Rows of windows."""
        return (self.height - self.kernel) // self.stride + 1

    @property
    def columns(self) -> int:
        """Windows in a row."""
        return (self.width - self.kernel) // self.stride + 1

    @property
    def pixels(self) -> int:
        """Of an image."""
        return self.height * self.width

    @property
    def results(self) -> int:
        """Windows of an image."""
        return self.lines * self.columns

    @property
    def overlap(self) -> bool:
        """Whether a pixel may be in several windows."""
        return self.stride < self.kernel

    @property
    def positions(self) -> list[int]:
        """Where a window's pixels are, counted from its first one, in the order of the golden model: row-major."""
        return [y * self.width + x for y in range(self.kernel) for x in range(self.kernel)]

    def runs(self, images: int) -> list[Run]:
        """All windows of some images, few runs of many. Raises CompileError where no step is one that an instruction holds."""
        axes = [(images, self.pixels, self.results), (self.lines, self.stride * self.width, self.columns), (self.columns, self.stride, 1)]
        axes = [axis for axis in axes if axis[0] > 1] or [(1, 0, 0)]
        for outer in reversed(range(len(axes) - 1)):
            # Axes that one step covers are one: rows of windows go on from image to image if no rows of pixels are left over.
            (count, x, y), (inner, x_step, y_step) = axes[outer:outer + 2]
            if (x, y) == (inner * x_step, inner * y_step):
                axes[outer:outer + 2] = [(count * inner, x_step, y_step)]
        fitting = [axis for axis in axes if PLANES * max(axis[1:]) <= MOST_STEP]
        if not fitting:
            raise CompileError(f"stride = {self.stride} of a pooling is outside 1..{MOST_STEP // PLANES} pixels")
        count, x_step, y_step = longest = max(fitting)
        axes.remove(longest)
        firsts = [[sum(steps) for steps in zip((0, 0), *((number * axis[1], number * axis[2]) for number, axis in zip(place, axes)))]
                  for place in product(*(range(axis[0]) for axis in axes))]
        return [Run(count, x, x_step, y, y_step) for x, y in firsts]


def maximum(code: Code, windows: Windows, x: Tensor, result: Tensor):
    """The largest pixel of every window."""

    def compute(images: int, slices: list[int], x: Stream, y: Stream):
        runs = windows.runs(images)
        for number, position in enumerate(windows.positions):
            for run in runs:
                pixels, largest = run.of_x(x, position), run.of_y(y)
                if number:
                    code.vector(run.count, largest, beside=pixels, post=Post.LARGER, into=largest)
                else:
                    code.vector(run.count, pixels, into=largest)

    ImagePhase(code, windows.images, [Part(x, windows.pixels, 0)], [Part(result, windows.results, 1)]).run(compute)


def average(code: Code, windows: Windows, x: Tensor, result: Tensor):
    """The mean of every window; sums in the third slice."""

    def compute(images: int, slices: list[int], x: Stream, y: Stream):
        sums, runs = Stream(slices[2], 0, True), windows.runs(images)
        for number, position in enumerate(windows.positions):
            for run in runs:
                pixels, total = run.of_x(x, position), run.of_y(sums)
                if number:
                    code.vector(run.count, total, addend=pixels, into=total)
                else:
                    code.vector(run.count, pixels, into=total)
        code.vector(images * windows.results, sums, factor=share, into=y)

    phase = ImagePhase(code, windows.images, [Part(x, windows.pixels, 0)], [Part(result, windows.results, 1)], PLANES * windows.results)
    share = code.in_register(1 / windows.kernel**2)
    phase.run(compute)


def average_backward(code: Code, windows: Windows, gradient: Tensor, back: Tensor):
    """Every pixel gets a share of the gradients of its windows."""

    def compute(images: int, slices: list[int], gradient: Stream, back: Stream):
        total, runs = _sums(windows, slices, back), windows.runs(images)
        code.vector(images * windows.pixels, zero, into=total)
        for position in windows.positions:
            for run in runs:
                pixels = run.of_x(total, position)
                code.vector(run.count, run.of_y(gradient), factor=share, addend=pixels if windows.overlap else zero, into=pixels)
        if windows.overlap:
            code.vector(images * windows.pixels, total, into=back)

    phase = ImagePhase(code, windows.images, [Part(gradient, windows.results, 0)], [Part(back, windows.pixels, 2)], _words(windows))
    share, zero = code.in_register(1 / windows.kernel**2), code.in_register(0.0)
    phase.run(compute)


def maximum_backward(code: Code, windows: Windows, gradient: Tensor, x: Tensor, result: Tensor, back: Tensor):
    """The first pixel of every window that equals its maximum gets its gradient.

    A gradient that has found its pixel is taken away, so that no later one gets it too. What equals and the masks lie in the last slice: B
    of an instruction must be in another slice than A, and the three others hold what these meet.
    """

    def compute(images: int, slices: list[int], x: Stream, y: Stream, gradient: Stream, back: Stream):
        count, total, runs = images * windows.results, _sums(windows, slices, back), windows.runs(images)
        left, rest = gradient, Stream(slices[1], images * windows.results)      # the gradient's own place if that does not stay
        code.vector(images * windows.pixels, zero, into=total)
        for position in windows.positions:
            for run in runs:
                code.vector(run.count, run.of_y(y), beside=run.of_x(x, position), post=Post.EQUAL, into=run.of_y(found))
            code.vector(count, found, into=mask, result=Result.MASK)
            code.vector(count, found, factor=minus_one, addend=one, into=others, result=Result.MASK)
            code.vector(count, left, addend=zero, beside=mask, post=Post.MASKED, into=found)
            for run in runs:
                pixels = run.of_x(total, position)
                code.vector(run.count, run.of_y(found), addend=pixels if windows.overlap else None, into=pixels)
            code.vector(count, left, beside=others, post=Post.MASKED, into=rest)
            left = rest
        if windows.overlap:
            code.vector(images * windows.pixels, total, into=back)

    reads = [Part(x, windows.pixels, 0), Part(result, windows.results, 1), Part(gradient, windows.results, 1)]
    phase = ImagePhase(code, windows.images, reads, [Part(back, windows.pixels, 2)], max(_words(windows), 2 * windows.results))
    zero, one, minus_one = code.in_register(0.0), code.in_register(1), code.in_register(-1)
    most = phase.most * windows.results
    marks = mask_words(most)
    places = [code.stay(ceil_div(words, PLANES)) for words in (most, marks, marks)]
    found, mask, others = (Stream(place.slice, place.address) for place in places)
    phase.run(compute)


def _words(windows: Windows) -> int:
    """Words of the gradients of an image's pixels: fp32 sums if one may get several."""
    return windows.pixels * (PLANES if windows.overlap else 1)


def _sums(windows: Windows, slices: list[int], back: Stream) -> Stream:
    """Where gradients are added up: in the third slice, where the result may lie too (an element is written where all has been read), or in
    the result itself."""
    return Stream(slices[2], 0, True) if windows.overlap else back

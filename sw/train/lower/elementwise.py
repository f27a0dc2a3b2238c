"""Phases that treat every element alike: sums, masks, means over pixels, zeros between pixels, exchanged rows and columns."""

from gen.isa import MASK_ELEMENTS, Post, Result
from sw.compiler.layout import ceil_div
from sw.train.lower.images import ImagePhase, ImageTile, Part
from sw.train.lower.memory import Tensor
from sw.train.lower.phase import Code, Place, Range
from sw.train.lower.vectors import Stream


def mask_words(pixels: int) -> int:
    """Words of mask bits of an image."""
    return ceil_div(pixels, MASK_ELEMENTS)


def make_mask(code: Code, images: int, pixels: int, values: Stream, mask: Stream):
    """A mask bit for each element of some images of a block: whether it is positive. Each image begins a word."""
    if pixels % MASK_ELEMENTS == 0:
        code.vector(images * pixels, values, into=mask, result=Result.MASK)
        return
    for image in range(images):
        code.vector(pixels, values.at(image * pixels), into=mask.at(image * mask_words(pixels)), result=Result.MASK)


def apply_mask(code: Code, images: int, pixels: int, values: Stream, mask: Stream, into: Stream):
    """Zero where the mask bit is 0."""
    if pixels % MASK_ELEMENTS == 0:
        code.vector(images * pixels, values, beside=mask, post=Post.MASKED, into=into)
        return
    for image in range(images):
        code.vector(pixels, values.at(image * pixels), beside=mask.at(image * mask_words(pixels)), post=Post.MASKED,
                    into=into.at(image * pixels))


def add_relu(code: Code, a: Tensor, b: Tensor, result: Tensor, mask: Tensor, images: int, pixels: int):
    """result = ReLU(a + b), and its mask."""

    def compute(count: int, _: list[int], a: Stream, b: Stream, result: Stream, mask: Stream):
        code.vector(count * pixels, a, addend=b, post=Post.RELU, into=result)
        make_mask(code, count, pixels, result, mask)

    ImagePhase(code, images, [Part(a, pixels), Part(b, pixels)], [Part(result, pixels), Part(mask, mask_words(pixels))]).run(compute)


def masked(code: Code, gradient: Tensor, mask: Tensor, result: Tensor, images: int, pixels: int):
    """The gradient in front of a ReLU."""

    def compute(count: int, _: list[int], gradient: Stream, mask: Stream, result: Stream):
        apply_mask(code, count, pixels, gradient, mask, result)

    ImagePhase(code, images, [Part(gradient, pixels), Part(mask, mask_words(pixels))], [Part(result, pixels)]).run(compute)


def add(code: Code, a: Tensor, b: Tensor, result: Tensor):
    """result = a + b, element by element, all bf16 or all fp32; the result may be one of them."""

    def compute(count: int, _: list[int], a: Stream, b: Stream, result: Stream):
        code.vector(count, a, addend=b, into=result)

    ImagePhase(code, a.rows, [Part(a, 1), Part(b, 1)], [Part(result, 1)]).run(compute)


def pool(code: Code, x: Tensor, result: Tensor, images: int, pixels: int):
    """The mean of all pixels."""

    def compute(count: int, _: list[int], x: Stream, result: Stream):
        for image in range(count):
            code.vector(pixels, x.at(image * pixels), into=total, result=Result.SUM)
            code.vector(1, total, factor=share, into=result.at(image))

    phase = ImagePhase(code, images, [Part(x, pixels)], [Part(result, 1)])
    total, share = code.register(), code.in_register(1 / pixels)
    phase.run(compute)


def pool_backward(code: Code, gradient: Tensor, result: Tensor, images: int, pixels: int):
    """Every pixel gets its share of the gradient of the mean."""

    def compute(count: int, _: list[int], gradient: Stream, result: Stream):
        for image in range(count):
            code.vector(pixels, gradient.at(image).every(0), factor=share, into=result.at(image * pixels))

    phase = ImagePhase(code, images, [Part(gradient, 1)], [Part(result, pixels)])
    share = code.in_register(1 / pixels)
    phase.run(compute)


def spread(code: Code, gradient: Tensor, result: Tensor, images: int, height: int, width: int, stride: int):
    """Zeros inserted: pixel (y, x) of an image of height x width goes to (y * stride, x * stride). What lies between the lines is never
    written to memory: it is zero there. A result that stays on the chip is made whole."""
    code.phase()
    zero = code.in_register(0.0)
    pixels, line, stays = height * width, width * stride, result in code.residents
    lines = stride if stays else 1      # of the result for each line of the gradient

    def places(tile: ImageTile, slices: list[int]) -> tuple[Place, Place]:
        block, first, stop = tile
        free, rows = iter(slices), (first * pixels, stop * pixels)
        source = code.place(gradient, free, blocks=(block, block + 1), rows=rows)
        if stays:
            return source, code.place(result, blocks=(block, block + 1), rows=(rows[0] * stride**2, rows[1] * stride**2))
        return source, Place(next(free), 0, 0)

    def load(tile: ImageTile, slices: list[int]):
        block, first, stop = tile
        code.load(gradient, places(tile, slices)[0], blocks=(block, block + 1), rows=(first * pixels, stop * pixels))

    def compute(tile: ImageTile, slices: list[int]):
        _, first, stop = tile
        source, target = (place.at(0) for place in places(tile, slices))
        count = (stop - first) * pixels
        code.vector(count * stride * lines, zero, into=target)
        if not stays:
            code.vector(count, source, into=target.every(stride))
            return
        for number in range((stop - first) * height):
            code.vector(width, source.at(number * width), into=target.at(number * line * stride).every(stride))

    def store(tile: ImageTile, slices: list[int]):
        block, first, stop = tile
        if not stays:
            code.transfer("DmaOut", places(tile, slices)[1].slice, 0, result.at(block, first * pixels * stride**2), line,
                          chunks=(stop - first) * height, memory_stride=line * stride * code.config.word_bytes, buffer_stride=line)

    code.tiles([(block, *piece) for block in range(gradient.blocks)
                for piece in code.pieces(images, code.config.beat_words, pixels * stride)], load, compute, store)


def transposed(code: Code, x: Tensor, result: Tensor, rows: int):
    """Blocks of `side` rows with rows and columns exchanged: result[row block][column] holds `side` rows of a column. `rows` is a multiple
    of the side."""
    code.phase()
    side, columns = code.config.array.side, result.rows

    def places(tile: Range, slices: list[int]) -> tuple[Place, Place]:
        free = iter(slices)
        return (code.place(x, free, rows=(tile[0] * side, tile[1] * side)), code.place(result, free, blocks=tile))

    def load(tile: Range, slices: list[int]):
        code.load(x, places(tile, slices)[0], rows=(tile[0] * side, tile[1] * side))

    def compute(tile: Range, slices: list[int]):
        source, target = places(tile, slices)
        for block in range(x.blocks):
            code.transpose(tile[1] - tile[0], source.at(block), side, target.at(0, block * side), target.pitch)

    def store(tile: Range, slices: list[int]):
        code.store(result, places(tile, slices)[1], blocks=tile)

    code.tiles(code.pieces(rows // side, 1, max(columns, x.blocks * side)), load, compute, store)

"""Group normalisation on the vector unit, forward and backward, as `sw.golden.training` states it."""

from dataclasses import dataclass

from gen.config import Config
from gen.isa import LaneOperation, Post, Result
from sw.compiler.errors import CompileError
from sw.compiler.layout import ceil_div
from sw.golden.training import EPSILON
from sw.train.lower.elementwise import apply_mask, make_mask, mask_words
from sw.train.lower.memory import Tensor
from sw.train.lower.phase import Code, Place, Range
from sw.train.lower.vectors import Stream


@dataclass(frozen=True)
class NormShape:
    """Images of `pixels` pixels; groups of `group` channels; `counted` channels count in a group's mean."""

    images: int
    pixels: int
    group: int
    counted: int
    relu: bool


@dataclass(frozen=True)
class NormTensors:
    """`minus_mean` and `inverse`: [group of blocks][image], a number in each column. gamma, beta and what belongs to them: [1][block]."""

    y: Tensor
    result: Tensor
    minus_mean: Tensor
    inverse: Tensor
    gamma: Tensor
    beta: Tensor
    mask: Tensor | None


def groups(config: Config, channels: int, group: int) -> int:
    """How many tiles the channel blocks make: a group each, or the groups in one block. Raises CompileError for groups that blocks do not
    fit."""
    side = config.array.side
    if group % side and side % group and group != channels:
        raise CompileError(f"group = {group} of {channels} channels is no multiple and no divisor of array.side = {side}")
    return ceil_div(channels, max(group, side))


@dataclass(frozen=True)
class Tile:
    """Some images of the blocks of a group (or of a block with several): ranges of blocks, images, pixels, words of masks."""

    group: int
    blocks: Range
    images: Range
    pixels: Range
    marks: Range


class NormPhase:
    """What both directions share: tiles, registers that hold constants, and places."""

    def __init__(self, code: Code, shape: NormShape, tensors: NormTensors, spare: int):
        """`spare`: fp32 elements that a tile needs besides."""
        self.code, self.shape, self.tensors, self.spare = code, shape, tensors, spare
        side, pixels = code.config.array.side, shape.pixels
        self.blocks, self.span = ceil_div(shape.group, side), (min(shape.group, side) - 1).bit_length()
        marks = mask_words(pixels)
        pieces = code.pieces(shape.images, code.config.beat_words, max(self.blocks * pixels, self.blocks * marks + 4 + 2 * spare))
        self.tiles = [
            Tile(group, (group * self.blocks, (group + 1) * self.blocks), (first, stop), (first * pixels, stop * pixels),
                 (first * marks, stop * marks))
            for group in range(tensors.y.blocks // self.blocks) for first, stop in pieces]
        code.phase()

    def vectors(self, *tensors: Tensor) -> list[Place]:
        """Tensors with a number for each channel, in the slice that stays."""
        places = [self.code.stay(tensor.rows) for tensor in tensors]
        for tensor, place in zip(tensors, places):
            self.code.load(tensor, place)
        return places

    def small(self, tile: Tile, index: int) -> tuple[Place, Place, Place, Stream]:
        """In one slice: minus the means, the inverse deviations, mask words, and room besides."""
        count, marks = tile.images[1] - tile.images[0], tile.marks[1] - tile.marks[0]
        behind = 4 * count + self.blocks * marks
        behind += behind % 2
        means, inverses = Place(index, 0, count, True), Place(index, 2 * count, count, True)
        return means, inverses, Place(index, 4 * count, marks), Stream(index, behind, True)

    def statistics(self, tile: Tile, index: int) -> list[tuple[Tensor, Place]]:
        """The tensors of the statistics, and their places."""
        minus_mean, inverse, _, _ = self.small(tile, index)
        return [(self.tensors.minus_mean, minus_mean), (self.tensors.inverse, inverse)]


def forward(code: Code, shape: NormShape, tensors: NormTensors):
    """result = (y - mean) / deviation * gamma + beta, with ReLU and mask where asked for; keeps the statistics."""
    phase = NormPhase(code, shape, tensors, 0)
    pixels = shape.pixels
    gamma, beta = phase.vectors(tensors.gamma, tensors.beta)
    one, minus_one, epsilon = code.in_register(1), code.in_register(-1), code.in_register(EPSILON)
    share = code.in_register(1 / (pixels * shape.counted))
    total, squares, part, minus_mean, inverse, scale, shift = (code.register() for _ in range(7))

    def places(tile: Tile, slices: list[int]) -> tuple[Place, Place, int]:
        free = iter(slices)
        y, out = (code.place(tensor, free, blocks=tile.blocks, rows=tile.pixels) for tensor in (tensors.y, tensors.result))
        return y, out, next(free)

    def load(tile: Tile, slices: list[int]):
        code.load(tensors.y, places(tile, slices)[0], blocks=tile.blocks, rows=tile.pixels)

    def statistics_of(y: Place, image: int):
        for block in range(phase.blocks):
            here = y.at(block, image * pixels)
            for factor, into in ((None, total), (here, squares)):
                code.vector(pixels, here, factor=factor, into=part if block else into, result=Result.SUM)
                if block:
                    code.vector(1, into, addend=part, into=into)
        for register in (total, squares):
            code.lanes(LaneOperation.SUM, register, register, span=phase.span)
            code.vector(1, register, factor=share, into=register)
        code.vector(1, total, factor=minus_one, into=minus_mean)
        code.vector(1, total, factor=minus_mean, addend=squares, post=Post.RELU, into=total)
        code.vector(1, total, addend=epsilon, into=total)
        code.lanes(LaneOperation.ROOT, total, total)
        code.lanes(LaneOperation.DIVIDE, one, inverse, by=total)

    def compute(tile: Tile, slices: list[int]):
        y, out, index = places(tile, slices)
        means, inverses, mask, _ = phase.small(tile, index)
        count = tile.images[1] - tile.images[0]
        for image in range(count):
            statistics_of(y, image)
            for register, place in ((minus_mean, means), (inverse, inverses)):
                code.vector(1, register, into=place.at(0, image))
            for block in range(phase.blocks):
                channel = tile.blocks[0] + block
                code.vector(1, gamma.at(0, channel), factor=inverse, into=scale)
                code.vector(1, minus_mean, factor=scale, addend=beta.at(0, channel), into=shift)
                code.vector(pixels, y.at(block, image * pixels), factor=scale, addend=shift, post=Post.RELU if shape.relu else Post.NONE,
                            into=out.at(block, image * pixels))
        if tensors.mask is not None:
            for block in range(phase.blocks):
                make_mask(code, count, pixels, out.at(block), mask.at(block))

    def store(tile: Tile, slices: list[int]):
        _, out, index = places(tile, slices)
        code.store(tensors.result, out, blocks=tile.blocks, rows=tile.pixels)
        for tensor, place in phase.statistics(tile, index):
            code.store(tensor, place, blocks=(tile.group, tile.group + 1), rows=tile.images)
        if tensors.mask is not None:
            code.store(tensors.mask, phase.small(tile, index)[2], blocks=tile.blocks, rows=tile.marks)

    code.tiles(phase.tiles, load, compute, store)


def backward(code: Code, shape: NormShape, tensors: NormTensors, gradient: Tensor, back: Tensor, by_gamma: Tensor, by_beta: Tensor):
    """The gradient in front of a normalisation, and those of gamma and beta."""
    phase = NormPhase(code, shape, tensors, shape.pixels)
    pixels = shape.pixels
    gamma, = phase.vectors(tensors.gamma)
    sums = code.stay(tensors.gamma.rows), code.stay(tensors.gamma.rows)       # of gamma, of beta
    zero, share = code.in_register(0.0), code.in_register(-1 / (pixels * shape.counted))
    for place in sums:
        code.vector(tensors.gamma.rows, zero, into=place.at(0))
    minus_mean, inverse, centre, beta_sum, gamma_sum, part, shift, slope, factor = (code.register() for _ in range(9))

    def places(tile: Tile, slices: list[int]) -> tuple[Place, Place, Place, int]:
        """Of the gradient, of y, of the result (the gradient's own, if that does not stay), and the slice for small things."""
        free = iter(slices)
        g, y = (code.place(tensor, free, blocks=tile.blocks, rows=tile.pixels) for tensor in (gradient, tensors.y))
        in_place = gradient not in code.residents and back not in code.residents
        return g, y, g if in_place else code.place(back, free, blocks=tile.blocks, rows=tile.pixels), next(free)

    def load(tile: Tile, slices: list[int]):
        g, y, _, index = places(tile, slices)
        code.load(gradient, g, blocks=tile.blocks, rows=tile.pixels)
        code.load(tensors.y, y, blocks=tile.blocks, rows=tile.pixels)
        for tensor, place in phase.statistics(tile, index):
            code.load(tensor, place, blocks=(tile.group, tile.group + 1), rows=tile.images)
        if tensors.mask is not None:
            code.load(tensors.mask, phase.small(tile, index)[2], blocks=tile.blocks, rows=tile.marks)

    def sums_of(tile: Tile, g: Place, unit: Place, image: int):
        """`unit` becomes the normalised y; sums over its image, and those of the group times gamma."""
        for block in range(phase.blocks):
            here, values, channel = g.at(block, image * pixels), unit.at(block, image * pixels), tile.blocks[0] + block
            code.vector(pixels, values, factor=inverse, addend=centre, into=values)
            for other, into, total in ((None, beta_sum, sums[1]), (values, gamma_sum, sums[0])):
                code.vector(pixels, here, factor=other, into=part, result=Result.SUM)
                code.vector(1, part, addend=total.at(0, channel), into=total.at(0, channel))
                code.vector(1, gamma.at(0, channel), factor=part, into=part if block else into)
                if block:
                    code.vector(1, into, addend=part, into=into)
        code.vector(1, inverse, factor=share, into=factor)
        for total, into in ((beta_sum, shift), (gamma_sum, slope)):
            code.lanes(LaneOperation.SUM, total, total, span=phase.span)
            code.vector(1, total, factor=factor, into=into)

    def compute(tile: Tile, slices: list[int]):
        g, unit, out, index = places(tile, slices)
        means, inverses, mask, rest = phase.small(tile, index)
        count = tile.images[1] - tile.images[0]
        if tensors.mask is not None:
            for block in range(phase.blocks):
                apply_mask(code, count, pixels, g.at(block), mask.at(block), out.at(block))
            g = out
        for image in range(count):
            for register, place in ((minus_mean, means), (inverse, inverses)):
                code.vector(1, place.at(0, image), into=register)
            code.vector(1, minus_mean, factor=inverse, into=centre)
            sums_of(tile, g, unit, image)
            for block in range(phase.blocks):
                code.vector(pixels, unit.at(block, image * pixels), factor=slope, addend=shift, into=rest)
                code.vector(1, gamma.at(0, tile.blocks[0] + block), factor=inverse, into=part)
                code.vector(pixels, g.at(block, image * pixels), factor=part, addend=rest, into=out.at(block, image * pixels))

    def store(tile: Tile, slices: list[int]):
        code.store(back, places(tile, slices)[2], blocks=tile.blocks, rows=tile.pixels)

    code.tiles(phase.tiles, load, compute, store)
    for tensor, place in zip((by_gamma, by_beta), sums):
        code.store(tensor, place)

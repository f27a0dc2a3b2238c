"""The end of the network on the vector unit: the classifier's bias, and the gradient of the cross entropy."""

from gen.isa import LaneOperation, Post, Result
from sw.compiler.errors import CompileError
from sw.golden.training import LEAST_EXPONENT, LOG2_E, MAGIC, NO_CLASS, POWERS
from sw.train.lower.memory import Tensor
from sw.train.lower.phase import Code, Place

NAMES = ("sums", "x", "each", "t", "rounded", "power", "value")     # of what lies in a slice each
MOST_IMAGES = 255       # a step between blocks of fp32 numbers fits the vector unit's instruction


def bias_gradient(code: Code, gradient: Tensor, by_bias: Tensor, images: int):
    """The sum of the logits' gradients over all images."""
    code.phase()
    place, sums = code.place(gradient, iter(code.free_slices)), code.stay(by_bias.rows)
    total, zero = code.register(), code.in_register(0.0)
    code.load(gradient, place)
    code.vector(by_bias.rows, zero, into=sums.at(0))
    for block in range(gradient.blocks):
        code.vector(images, place.at(block), into=total, result=Result.SUM)
        code.vector(1, total, into=sums.at(0, block))
    code.store(by_bias, sums)


def cross_entropy(code: Code, sums: Tensor, bias: Tensor, logits: Tensor, minus_wanted: Tensor, gradient: Tensor, images: int,
                  share: float):
    """logits = sums + bias; gradient = (softmax(logits) - wanted) * share. `minus_wanted`: minus the labels, one-hot, bf16. Columns that
    fill up the last block count as classes without any chance."""
    rows, blocks, side = sums.rows, sums.blocks, code.config.array.side
    if rows > MOST_IMAGES or rows * (blocks + 2 + max(blocks - 2, 0)) > code.config.buffers.slice_words:
        raise CompileError(f"batch = {images} is outside 1..{MOST_IMAGES} samples that the classifier's phase can hold")
    code.phase()
    span = (side - 1).bit_length()
    biases, no_class = code.stay(bias.rows), code.stay(blocks)
    code.load(bias, biases)
    code.load(code.memory.regions["no_class"], no_class)
    one, minus_one, log2_e, magic, minus_magic = (code.in_register(value) for value in (1, -1, LOG2_E, MAGIC, -MAGIC))
    powers = [code.in_register(value) for value in POWERS]
    portion, part = code.in_register(share), code.register()
    free = code.free_slices
    if len(free) < len(NAMES):
        raise CompileError(f"the classifier's phase finds {len(free)} free slices of the global buffer, outside {len(NAMES)}..16")
    sum_, x, each, t, rounded, power, value = (Place(index, 0, rows, True) for index in free[:len(NAMES)])
    wanted, result = Place(t.slice, 2 * rows, rows), Place(power.slice, 2 * rows, rows)

    code.load(sums, sum_)
    code.load(minus_wanted, wanted)
    for block in range(blocks):
        code.vector(1, biases.at(0, block), into=part)
        code.vector(images, sum_.at(block), addend=part, into=sum_.at(block))
    code.store(logits, sum_)
    for block in range(blocks):
        code.vector(1, no_class.at(0, block), into=part)
        code.vector(images, sum_.at(block), addend=part, into=x.at(block))
    for image in range(images):
        code.vector(blocks, x.at(0, image).every(2 * rows), into=part, result=Result.LARGEST)
        code.lanes(LaneOperation.LARGEST, part, part, span=span)
        code.vector(1, part, factor=minus_one, into=each.at(0, image))
    least = code.constant(LEAST_EXPONENT)
    scaled, whole, power_of_two = t.at(0), rounded.at(0), power.at(0)
    for block in range(blocks):
        code.vector(images, x.at(block), addend=each.at(0), into=scaled)
        code.vector(images, scaled, factor=log2_e, post=Post.LARGER, beside=least, into=scaled)
        code.vector(images, scaled, addend=magic, into=whole)
        code.vector(images, scaled, addend=magic, post=Post.POWER, into=power_of_two)
        code.vector(images, whole, addend=minus_magic, into=whole)
        code.vector(images, whole, factor=minus_one, addend=scaled, into=whole)      # what is left
        polynomial = value.at(block)
        code.vector(images, whole, factor=powers[-1], addend=powers[-2], into=polynomial)
        for coefficient in powers[-3::-1]:
            code.vector(images, polynomial, factor=whole, addend=coefficient, into=polynomial)
        code.vector(images, polynomial, factor=power_of_two, into=polynomial)
    for image in range(images):
        code.vector(blocks, value.at(0, image).every(2 * rows), into=part, result=Result.SUM)
        code.lanes(LaneOperation.SUM, part, part, span=span)
        code.lanes(LaneOperation.DIVIDE, one, part, by=part)
        code.vector(1, part, into=each.at(0, image))
    for block in range(blocks):
        code.vector(images, value.at(block), factor=each.at(0), into=x.at(block))
        code.vector(images, x.at(block), addend=wanted.at(block), into=x.at(block))
        code.vector(images, x.at(block), factor=portion, into=result.at(block))
    code.store(gradient, result)


def no_class_values(classes: int, blocks: int, side: int) -> list[list[float]]:
    """What is added to the logits: NO_CLASS in the columns that fill up the last block."""
    return [[0.0 if block * side + column < classes else float(NO_CLASS) for column in range(side)] for block in range(blocks)]

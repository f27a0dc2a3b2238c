"""Golden layers of a training step, forward and backward: bf16 tensors, fp32 arithmetic, every sum in the order of the vector unit.

Tensors are float32 arrays; those called bf16 hold such numbers only. Activations are (batch, pixels, channels). `lanes` are the columns of
the vector unit, `array.side`: channels of one block. Every operation is one of `sw.golden.float32`, rounded by itself.
"""

from dataclasses import dataclass

import numpy as np

from sw.golden.float32 import add, divide, flush, maximum, multiply, narrow, square_root

PARTIAL_SUMS = 8
EPSILON = np.float32(1e-5)
ONE = np.float32(1)
LOG2_E = np.float32(np.log2(np.e))
MAGIC = np.float32(1.5 * 2**23)         # added and taken away again, it rounds to a whole number
LEAST_EXPONENT, NO_CLASS = np.float32(-126), np.float32(-1e4)
POWERS = [np.float32(value) for value in (1, 0.6931472, 0.24022651, 0.05550411, 0.00961813, 0.00133336)]      # of ln 2, over factorials


def stream_sum(values: np.ndarray) -> np.ndarray:
    """The sum over the last axis but one: element i is added to partial sum i mod 8, from +0; these are added in a tree, halves first."""
    *outer, count, channels = values.shape
    sums = np.zeros((*outer, PARTIAL_SUMS, channels), np.float32)
    for start in range(0, count, PARTIAL_SUMS):
        part = values[..., start:start + PARTIAL_SUMS, :]
        reached = sums[..., :part.shape[-2], :]
        reached[...] = add(reached, part)
    while sums.shape[-2] > 1:
        half = sums.shape[-2] // 2
        sums = add(sums[..., :half, :], sums[..., half:, :])
    return sums[..., 0, :]


def group_sum(values: np.ndarray, group: int, lanes: int) -> np.ndarray:
    """The sum of `group` neighbouring channels (last axis), in each of them: block after block, then neighbouring columns in a tree.

    A group is whole blocks of `lanes` channels or a power of two inside one. A group of all channels may have any number of them: it is
    filled up to whole blocks with zeros. Raises ValueError for other groups.
    """
    *outer, channels = values.shape
    width = group if group % lanes == 0 or (group < lanes and lanes % group == 0) else -(-group // lanes) * lanes
    if channels % group or (width != group and group != channels):
        raise ValueError(f"group = {group} of {channels} channels: whole blocks of {lanes}, a power of two below, or all channels")
    blocks = np.zeros((*outer, channels // group, width), np.float32)
    blocks[..., :group] = values.reshape(*outer, channels // group, group)
    blocks = blocks.reshape(*blocks.shape[:-1], max(1, width // lanes), min(width, lanes))
    total = blocks[..., 0, :]
    for block in range(1, blocks.shape[-2]):
        total = add(total, blocks[..., block, :])
    while total.shape[-1] > 1:
        total = add(total[..., ::2], total[..., 1::2])
    return np.repeat(total[..., 0], group, axis=-1)


@dataclass(frozen=True)
class Statistics:
    """Of each sample and channel: minus the group's mean, and one over its standard deviation. (batch, channels).

    Means divide by `counted` channels: more than `group` where channels of zeros were taken out of it, which then changes nothing.
    """

    minus_mean: np.ndarray
    inverse: np.ndarray
    group: int
    lanes: int
    counted: int

    @classmethod
    def of(cls, y: np.ndarray, group: int, lanes: int, counted: int = 0) -> "Statistics":
        """The statistics of bf16 activations: their mean, and the mean of their squares less its square. `counted` 0: `group`."""
        counted = counted or group
        share = np.float32(1 / (y.shape[1] * counted))
        mean = multiply(group_sum(stream_sum(y), group, lanes), share)
        squares = multiply(group_sum(stream_sum(multiply(y, y)), group, lanes), share)
        minus_mean = multiply(mean, -ONE)
        variance = add(multiply(mean, minus_mean), squares)
        variance = np.where(np.signbit(variance), np.float32(0), variance)
        return cls(minus_mean, divide(ONE, square_root(add(variance, EPSILON))), group, lanes, counted)


def normalise(y: np.ndarray, statistics: Statistics, gamma: np.ndarray, beta: np.ndarray) -> np.ndarray:
    """Group normalisation of bf16 activations, not rounded to bf16 yet: y * scale + shift."""
    scale = multiply(gamma, statistics.inverse)
    shift = add(multiply(statistics.minus_mean, scale), beta)
    return add(multiply(y, scale[:, None]), shift[:, None])


def relu(x: np.ndarray) -> np.ndarray:
    """What has a negative sign becomes +0."""
    return np.where(np.signbit(x) & ~np.isnan(x), np.float32(0), x)


def masked(gradient: np.ndarray, activations: np.ndarray) -> np.ndarray:
    """The gradient in front of a ReLU, whose bf16 results were `activations`."""
    with np.errstate(invalid="ignore"):
        return np.where(activations > 0, gradient, np.float32(0))


def _windows(x: np.ndarray, kernel: int, stride: int) -> list[tuple[slice, ...]]:
    """Of each position in a window, row-major, the index of its pixels, (batch, rows of windows, columns, channels), in x."""
    spans = [stride * ((side - kernel) // stride) + 1 for side in x.shape[1:3]]
    return [(slice(None), slice(y, y + spans[0], stride), slice(column, column + spans[1], stride))
            for y in range(kernel) for column in range(kernel)]


def max_pool(x: np.ndarray, kernel: int, stride: int) -> np.ndarray:
    """The largest pixel of every window of bf16 images (batch, height, width, channels), bf16.

    larger(...larger(larger(x0, x1), x2)..., xn), positions row-major: of equal numbers (+0 and -0 are) the first, a NaN where one is in the
    window.
    """
    first, *others = _windows(x, kernel, stride)
    result = narrow(x[first])
    for at in others:
        result = maximum(result, x[at])
    return result


def max_pool_backward(gradient: np.ndarray, x: np.ndarray, result: np.ndarray, kernel: int, stride: int) -> np.ndarray:
    """The bf16 gradient of x from that of `result` (bf16), the maxima of its windows.

    The first position, row-major, that equals the maximum gets the whole gradient; none where that is a NaN. Each pixel is a sum in fp32,
    from +0, over the positions of a window in this order (each is in one window at most that it has this position in), rounded to bf16.
    """
    total, left = np.zeros_like(x), gradient
    for at in _windows(x, kernel, stride):
        found = flush(x[at]) == result
        total[at] = add(total[at], np.where(found, left, np.float32(0)))
        left = np.where(found, np.float32(0), left)
    return narrow(total)


def average_pool(x: np.ndarray, kernel: int, stride: int) -> np.ndarray:
    """The mean of every window of bf16 images (batch, height, width, channels): ((x0 + x1) + x2)..., positions row-major, in fp32, times
    1 / kernel^2, rounded to bf16."""
    first, *others = _windows(x, kernel, stride)
    total = x[first]
    for at in others:
        total = add(total, x[at])
    return narrow(multiply(total, np.float32(1 / kernel**2)))


def average_pool_backward(gradient: np.ndarray, shape: tuple[int, ...], kernel: int, stride: int) -> np.ndarray:
    """The bf16 gradient of images of this shape from that of their means (bf16): gradient / kernel^2 in fp32 for every pixel of a window,
    added as in `max_pool_backward`."""
    total, share = np.zeros(shape, np.float32), multiply(gradient, np.float32(1 / kernel**2))
    for at in _windows(total, kernel, stride):
        total[at] = add(total[at], share)
    return narrow(total)


def normalise_backward(gradient: np.ndarray, y: np.ndarray, statistics: Statistics,
                       gamma: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of the bf16 gradient behind a group normalisation: the bf16 one in front, and those of gamma and beta, sample after sample."""
    group, lanes, inverse = statistics.group, statistics.lanes, statistics.inverse
    centre = multiply(statistics.minus_mean, inverse)
    unit = narrow(add(multiply(y, inverse[:, None]), centre[:, None]))
    by_beta, by_gamma = stream_sum(gradient), stream_sum(multiply(gradient, unit))
    factor = multiply(inverse, np.float32(-1 / (y.shape[1] * statistics.counted)))
    shift = multiply(group_sum(multiply(gamma, by_beta), group, lanes), factor)
    slope = multiply(group_sum(multiply(gamma, by_gamma), group, lanes), factor)
    rest = add(multiply(unit, slope[:, None]), shift[:, None])
    back = narrow(add(multiply(gradient, multiply(gamma, inverse)[:, None]), rest))
    return back, in_order(by_gamma), in_order(by_beta)


def in_order(values: np.ndarray) -> np.ndarray:
    """The sum over the first axis, one after the other, from +0."""
    total = np.zeros_like(values[0])
    for value in values:
        total = add(total, value)
    return total


def exponential(x: np.ndarray) -> np.ndarray:
    """e^x for x <= 0: two to the power of a whole number, times a polynomial of what is left; 2^-126 at least, so that none is zero."""
    t = maximum(multiply(x, LOG2_E), np.full_like(x, LEAST_EXPONENT))
    shifted = add(t, MAGIC)
    left = add(multiply(add(shifted, -MAGIC), -ONE), t)
    power = np.exp2(shifted.astype(np.float64) - float(MAGIC)).astype(np.float32)
    value = np.full_like(x, POWERS[-1])
    for coefficient in POWERS[-2::-1]:
        value = add(multiply(value, left), coefficient)
    return multiply(value, power)


def cross_entropy_gradient(logits: np.ndarray, labels: np.ndarray, share: float, lanes: int) -> np.ndarray:
    """(softmax(logits) - one-hot labels) * share, in bf16. (batch, classes), fp32 logits. Columns that fill up a block have the logit
    NO_CLASS: their powers are too small to change a sum."""
    batch, classes = logits.shape
    padded = np.full((batch, -(-classes // lanes) * lanes), NO_CLASS, np.float32)
    padded[:, :classes] = logits
    powers = exponential(add(padded, -padded.max(axis=1, keepdims=True)))
    blocks = stream_sum(powers.reshape(batch, -1, lanes))
    softmax = multiply(powers, divide(ONE, group_sum(blocks, lanes, lanes)[:, :1]))[:, :classes]
    wanted = (np.arange(classes) == labels[:, None]).astype(np.float32)
    return narrow(multiply(add(softmax, -wanted), np.float32(share)))


def momentum_step(weight: np.ndarray, velocity: np.ndarray, gradient: np.ndarray, *, rate: float, momentum: float,
                  decay: float) -> tuple[np.ndarray, np.ndarray]:
    """Stochastic gradient descent: v = momentum * v + (gradient + decay * w), w = w - rate * v. Weight and velocity, fp32."""
    decayed = add(multiply(weight, np.float32(decay)), gradient)
    velocity = add(multiply(velocity, np.float32(momentum)), decayed)
    return add(multiply(velocity, np.float32(-rate)), weight), velocity

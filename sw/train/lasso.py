"""Group lasso: PruneTrain's penalty, which drives all weights of a channel to zero together.

A group is all weights that make an output channel of a convolution, or all that read an input channel of a convolution or of the
classifier. The image's channels and the classifier's outputs are no groups: they stay. The penalty is `coefficient` times the sum over all
groups of sqrt(sum of squares + 1e-8); it is part of the loss in every step. (Lym et al., SC 2019; groups and the 1e-8 as in the authors'
code.)
"""

from collections.abc import Iterator, Mapping
from math import fsum

import numpy as np

from sw.golden.float32 import add, divide, multiply, square_root
from sw.golden.training import stream_sum
from sw.train.network import INPUT, Conv, Linear, Network

SMALL = np.float32(1e-8)        # keeps the norm's slope finite, and lets weights settle at zero in place of jumping over it
INPUTS, OUTPUTS = -2, -1        # axes of every weight


def sides(network: Network) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Every weight with groups, and the axes along which it has one for each channel."""
    for layer in network.layers:
        match layer:
            case Conv():
                yield f"{layer.name}.weight", (OUTPUTS,) if layer.inputs[0] == INPUT else (INPUTS, OUTPUTS)
            case Linear():
                yield f"{layer.name}.weight", (INPUTS,)


def norms(weight: np.ndarray, axis: int) -> np.ndarray:
    """The norm of each group along an axis, fp32: squares are summed as a stream of rows, the last axis but the group's own fastest."""
    squares = np.moveaxis(multiply(weight, weight), axis, -1)
    return square_root(add(stream_sum(squares.reshape(-1, squares.shape[-1])), SMALL))


def penalty(network: Network, parameters: Mapping[str, np.ndarray]) -> float:
    """The sum of all groups' norms; rounded once, so that no order of sums is part of it."""
    return fsum(float(norm) for name, axes in sides(network) for axis in axes for norm in norms(parameters[name], axis))


def coefficient(network: Network, parameters: Mapping[str, np.ndarray], loss: float, ratio: float) -> np.float32:
    """The factor with which the penalty is `ratio` of loss and penalty together, from parameters and loss of the first step.

    Raises ValueError for a ratio that is not in 0 <= ratio < 1.
    """
    if not 0 <= ratio < 1:
        raise ValueError(f"ratio = {ratio} of the penalty must be at least 0 and below 1")
    return np.float32(ratio * loss / ((1 - ratio) * penalty(network, parameters)))


def gradient(weight: np.ndarray, axes: tuple[int, ...], factor: np.float32) -> np.ndarray:
    """The penalty's gradient of a weight: weight * (factor / norm of its input's group + factor / norm of its output's group), fp32."""
    slopes = []
    for axis in axes:
        shape = [1] * weight.ndim
        shape[axis] = -1
        slopes.append(divide(factor, norms(weight, axis)).reshape(shape))
    return multiply(weight, slopes[0] if len(slopes) == 1 else add(*slopes))

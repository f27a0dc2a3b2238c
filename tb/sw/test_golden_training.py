"""The golden layers of a training step: their order of sums, and their values against double precision."""

import numpy as np
import pytest

from sw.golden import training
from sw.golden.float32 import add, narrow

SEED = 8


def numbers(*shape: int) -> np.ndarray:
    print(f"seed {SEED}")
    return np.random.default_rng(SEED).standard_normal(shape).astype(np.float32)


def same(found: np.ndarray, wanted: np.ndarray):
    np.testing.assert_array_equal(np.ascontiguousarray(found).view(np.uint32), np.ascontiguousarray(wanted).view(np.uint32))


@pytest.mark.parametrize("count", [1, 7, 8, 9, 64, 70])
def test_stream_sum(count):
    values = numbers(3, count, 5)
    for sample in range(3):
        sums = [np.zeros(5, np.float32) for _ in range(8)]
        for number in range(count):
            sums[number % 8] = add(sums[number % 8], values[sample, number])
        sums = [add(sums[number], sums[number + 4]) for number in range(4)]
        same(training.stream_sum(values)[sample], add(add(sums[0], sums[2]), add(sums[1], sums[3])))


@pytest.mark.parametrize(("group", "lanes"), [(2, 4), (4, 4), (8, 4), (16, 4), (16, 8), (8, 16), (1, 4)])
def test_group_sum(group, lanes):
    values = numbers(3, 32)
    found = training.group_sum(values, group, lanes)
    wanted = values.astype(np.float64).reshape(3, -1, group).sum(axis=2)
    np.testing.assert_allclose(found[:, ::group], wanted, rtol=1e-5, atol=1e-5)
    assert all((found[:, ::group] == found[:, column::group]).all() for column in range(group))
    if group == 16 and lanes == 4:      # blocks first, then neighbours
        blocks = values.reshape(3, 2, 4, 4)
        total = add(add(add(blocks[:, :, 0], blocks[:, :, 1]), blocks[:, :, 2]), blocks[:, :, 3])
        same(found[:, ::16], add(add(total[..., 0], total[..., 1]), add(total[..., 2], total[..., 3])))


@pytest.mark.parametrize(("channels", "lanes"), [(13, 4), (3, 4), (24, 16), (5, 1), (6, 8)])
def test_group_sum_of_all_channels(channels, lanes):
    """Any number of them: as if zeros filled the last block."""
    values = numbers(3, channels)
    filled = np.zeros((3, -(-channels // lanes) * lanes), np.float32)
    filled[:, :channels] = values
    total = filled[:, :lanes]
    for start in range(lanes, filled.shape[1], lanes):
        total = add(total, filled[:, start:start + lanes])
    while total.shape[1] > 1:
        total = add(total[:, ::2], total[:, 1::2])
    found = training.group_sum(values, channels, lanes)
    assert found.shape == values.shape
    same(found, np.repeat(total, channels, axis=1))


def test_group_sum_of_no_such_group():
    for group, lanes in ((6, 4), (3, 4), (5, 4)):
        with pytest.raises(ValueError, match=f"group = {group} of 12"):
            training.group_sum(numbers(2, 12), group, lanes)


def test_statistics_of_more_channels():
    """Means over 16 channels of which three, zeros, are not there: values, slopes, and that it is something else without them."""
    y, gradient = narrow(numbers(2, 9, 16) * 3 + 1), narrow(numbers(2, 9, 16)[::-1].copy())
    gamma, gone = numbers(16) + 1, [2, 7, 15]
    left = np.setdiff1d(np.arange(16), gone)
    y[..., gone] = gradient[..., gone] = 0
    whole, part = training.Statistics.of(y, 16, 1), training.Statistics.of(y[..., left], 13, 1, 16)
    for name in ("minus_mean", "inverse"):
        same(getattr(part, name), getattr(whole, name)[:, left])
    np.testing.assert_allclose(part.minus_mean[:, 0], -y.astype(float).mean(axis=(1, 2)), rtol=1e-5)
    for found, wanted in zip(training.normalise_backward(gradient[..., left], y[..., left], part, gamma[left]),
                             training.normalise_backward(gradient, y, whole, gamma)):
        same(found, wanted[..., left])
    assert (training.Statistics.of(y[..., left], 13, 1).inverse != part.inverse).all()


def normalised(y: np.ndarray, gamma: np.ndarray, beta: np.ndarray, group: int) -> np.ndarray:
    """Group normalisation in double precision."""
    batch, pixels, channels = y.shape
    grouped = y.reshape(batch, pixels, channels // group, group)
    mean, variance = (getattr(grouped, name)(axis=(1, 3), keepdims=True) for name in ("mean", "var"))
    return ((grouped - mean) / np.sqrt(variance + 1e-5)).reshape(y.shape) * gamma + beta


@pytest.mark.parametrize("group", [2, 4, 8])
def test_group_normalisation(group):
    """Values, and gradients against differences in double precision."""
    y, gradient = narrow(numbers(2, 9, 8) * 3 + 1), narrow(numbers(2, 9, 8)[::-1].copy())
    gamma, beta = numbers(8) + 1, numbers(8)[::-1].copy()
    statistics = training.Statistics.of(y, group, 4)
    np.testing.assert_allclose(training.normalise(y, statistics, gamma, beta), normalised(y.astype(float), gamma, beta, group), rtol=1e-4,
                               atol=1e-4)

    def slope(values: np.ndarray, at: tuple[int, ...], step: float = 1e-5) -> float:
        """Of the sum of normalised values times the gradient."""
        def total(change: float) -> float:
            inputs = {"y": y.astype(float), "gamma": gamma.astype(float), "beta": beta.astype(float)}
            name = next(name for name, given in (("y", y), ("gamma", gamma), ("beta", beta)) if given is values)
            inputs[name][at] += change
            return float((normalised(inputs["y"], inputs["gamma"], inputs["beta"], group) * gradient).sum())
        return (total(step) - total(-step)) / (2 * step)

    back, by_gamma, by_beta = training.normalise_backward(gradient, y, statistics, gamma)
    np.testing.assert_allclose(by_gamma, [slope(gamma, (channel,)) for channel in range(8)], rtol=2e-2, atol=2e-2)
    np.testing.assert_allclose(by_beta, [slope(beta, (channel,)) for channel in range(8)], rtol=1e-4, atol=1e-4)
    wanted = np.array([slope(y, at) for at in np.ndindex(*y.shape)]).reshape(y.shape)
    np.testing.assert_allclose(back, wanted, rtol=2e-2, atol=1e-2)
    same(back, narrow(back))


def test_relu_and_its_mask():
    x = np.array([1, -1, 0.0, -0.0, np.nan, np.inf, -np.inf], np.float32)
    same(training.relu(x), np.array([1, 0, 0, 0, np.nan, np.inf, 0], np.float32))
    same(training.masked(np.full(7, 5, np.float32), training.relu(x)), np.array([5, 0, 0, 0, 0, 5, 0], np.float32))


def test_exponential():
    x = -np.abs(numbers(4000)) * 20
    np.testing.assert_allclose(training.exponential(x), np.exp(x.astype(float)), rtol=4e-6)
    same(training.exponential(np.zeros(1, np.float32)), np.ones(1, np.float32))
    assert training.exponential(np.full(1, -1e4, np.float32))[0] == np.float32(2) ** -126


@pytest.mark.parametrize(("classes", "lanes"), [(10, 4), (8, 8), (3, 16)])
def test_cross_entropy_gradient(classes, lanes):
    logits, labels = numbers(6, classes) * 4, np.arange(6) % classes
    powers = np.exp(logits.astype(float) - logits.max(axis=1, keepdims=True))
    wanted = (powers / powers.sum(axis=1, keepdims=True) - (np.arange(classes) == labels[:, None])) / 6
    found = training.cross_entropy_gradient(logits, labels, 1 / 6, lanes)
    np.testing.assert_allclose(found, wanted, rtol=5e-3, atol=1e-6)
    same(found, narrow(found))


def test_momentum_step():
    weight, velocity, gradient = numbers(3, 40)
    found, speed = training.momentum_step(weight, velocity, gradient, rate=0.1, momentum=0.9, decay=5e-4)
    wanted = 0.9 * velocity.astype(float) + gradient + 5e-4 * weight.astype(float)
    np.testing.assert_allclose(speed, wanted, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found, weight - 0.1 * wanted, rtol=1e-5, atol=1e-6)

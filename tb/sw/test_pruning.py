"""Pruning while training: the penalty and its slope, dead channels and unions, dense networks that compute the same, and the hook."""

from dataclasses import replace
from math import log, sqrt

import numpy as np
import pytest

from sw.golden.float32 import add, divide, multiply, narrow, square_root
from sw.runtime.errors import UserError
from sw.train import lasso
from sw.train.channels import reconfigure, unions, with_channels
from sw.train.data import Data
from sw.train.golden_engine import GoldenEngine, Parameters
from sw.train.network import INPUT, Add, Conv, Network, Norm, digits_resnet
from sw.train.pruning import Pruning, activation_bytes, grown
from sw.train.trainer import Settings, Trainer

SEED = 5
# What makes and what reads the channels of each union, by hand: (weight, axis).
UNIONS = {
    "stem": [("conv1", 3), ("block1.conv2", 3), ("block1.conv1", 2), ("block2.conv1", 2), ("block2.conv3", 2)],
    "block1": [("block1.conv1", 3), ("block1.conv2", 2)],
    "block2": [("block2.conv1", 3), ("block2.conv2", 2)],
    "end": [("block2.conv2", 3), ("block2.conv3", 3), ("classifier", 0)],
}
NORMS = {"stem": "norm1", "block1": "block1.norm1", "block2": "block2.norm1", "end": "block2.norm2"}


def same(found: np.ndarray, wanted: np.ndarray):
    np.testing.assert_array_equal(np.ascontiguousarray(found).view(np.uint32), np.ascontiguousarray(wanted).view(np.uint32))


def random_parameters(network: Network) -> Parameters:
    """Fresh weights; scales and shifts that are not those of a fresh network."""
    print(f"seed {SEED}")
    rng = np.random.default_rng(SEED)
    return {name: value if name.endswith("weight") else value + rng.standard_normal(value.shape).astype(np.float32) / 4
            for name, value in network.parameters(SEED).items()}


def images(count: int = 3) -> np.ndarray:
    return narrow(np.random.default_rng(SEED).standard_normal((count, 8, 8, 1)).astype(np.float32))


def set_channels(parameters: Parameters, union: str, channels: list[int], value: float):
    """All weights that make or read these channels."""
    for name, axis in UNIONS[union]:
        weight = parameters[f"{name}.weight"]
        np.moveaxis(weight, axis, 0)[channels] = value


def logits(network: Network, parameters: Parameters, tile: int, lanes: int) -> np.ndarray:
    return GoldenEngine(network, tile=tile, lanes=lanes).forward(parameters, images()).activations["classifier"]


# The penalty.

def group_norms(network: Network, parameters: Parameters) -> list[float]:
    """One by one, in double precision."""
    found = []
    for layer in network.layers:
        if isinstance(layer, Conv):
            weight = parameters[f"{layer.name}.weight"].astype(float)
            found += [sqrt((weight[..., channel] ** 2).sum() + 1e-8) for channel in range(layer.outputs)]
            if layer.name != "conv1":
                found += [sqrt((weight[:, :, channel] ** 2).sum() + 1e-8) for channel in range(layer.channels)]
    classifier = parameters["classifier.weight"].astype(float)
    return found + [sqrt((row**2).sum() + 1e-8) for row in classifier]


def test_coefficient():
    """The penalty is the wished part of the whole, by groups that are counted here."""
    network = digits_resnet(8, 0)
    parameters = random_parameters(network)
    norms = group_norms(network, parameters)
    assert len(norms) == 8 + 2 * 16 + (8 + 16) + 32 + (8 + 16) + 16
    found = float(lasso.coefficient(network, parameters, 2.5, 0.2)) * sum(norms)
    assert found / (2.5 + found) == pytest.approx(0.2, rel=1e-6)
    assert lasso.coefficient(network, parameters, 2.5, 0.0) == 0
    with pytest.raises(ValueError, match=r"ratio = 1\.0"):
        lasso.coefficient(network, parameters, 2.5, 1.0)


def test_penalty_slope():
    """Of random weights, against differences in double precision."""
    network = digits_resnet(8, 0)
    parameters, rng = random_parameters(network), np.random.default_rng(SEED)
    for name, axes in lasso.sides(network):
        weight = parameters[name].astype(float)
        at = tuple(rng.integers(size) for size in weight.shape)
        slope = lasso.gradient(parameters[name], axes, np.float32(0.25))[at]
        change = np.zeros_like(weight)
        change[at] = 1e-4
        more, less = (sum(group_norms(network, parameters | {name: weight + sign * change})) for sign in (1, -1))
        assert slope == pytest.approx(0.25 * (more - less) / 2e-4, rel=1e-3, abs=1e-6), name


def test_penalty_order():
    """Squares as a stream of rows on eight partial sums; the input's slope first; every operation rounded to fp32."""
    weight = random_parameters(digits_resnet(8, 0))["block1.conv1.weight"]

    def norm(group: np.ndarray) -> np.ndarray:
        sums = [np.zeros((), np.float32)] * 8
        for number, value in enumerate(group):
            sums[number % 8] = add(sums[number % 8], multiply(value, value))
        sums = [add(sums[number], sums[number + 4]) for number in range(4)]
        return square_root(add(add(add(sums[0], sums[2]), add(sums[1], sums[3])), np.float32(1e-8)))

    factor = np.float32(0.01)
    found = lasso.gradient(weight, (-2, -1), factor)
    for channel, output in ((0, 0), (3, 5), (7, 7)):
        slope = add(divide(factor, norm(weight[:, :, channel].reshape(-1))), divide(factor, norm(weight[..., output].reshape(-1))))
        same(found[:, :, channel, output], multiply(weight[:, :, channel, output], slope))


# What is dead.

def test_unions():
    of = unions(digits_resnet(8, 0))
    together = [{INPUT}, {"conv1", "norm1", "block1.conv2", "block1.norm2", "block1"}, {"block1.conv1", "block1.norm1"},
                {"block2.conv1", "block2.norm1"},
                {"block2.conv2", "block2.norm2", "block2.conv3", "block2.norm3", "block2", "pool"}, {"classifier"}]
    assert sorted(map(sorted, together)) == sorted(sorted(name for name in of if of[name] == union) for union in set(of.values()))


@pytest.mark.parametrize("union", UNIONS)
def test_any_member_keeps_a_channel(union):
    """One weight at the threshold, wherever it is, keeps the channel; one below does not."""
    network = digits_resnet(8, 0)
    for name, axis in UNIONS[union]:
        for value, stays in ((1.01e-4, True), (-1.01e-4, True), (0.99e-4, False)):
            parameters = random_parameters(network)
            set_channels(parameters, union, [2], 0)
            np.moveaxis(parameters[f"{name}.weight"], axis, 0)[2].flat[1] = value
            _, found, _, kept = reconfigure(network, parameters, parameters)
            assert (2 in kept[NORMS[union]]) == stays, (name, value)
            assert (found[f"{name}.weight"].size == parameters[f"{name}.weight"].size) == stays


def test_what_is_kept():
    """Parameters and optimiser state, slice by slice, by hand."""
    network = digits_resnet(8, 0)
    parameters = random_parameters(network)
    velocity = {name: np.arange(value.size, dtype=np.float32).reshape(value.shape) for name, value in parameters.items()}
    set_channels(parameters, "stem", [1, 6], 0)
    set_channels(parameters, "end", [0, 9, 15], 1e-5)
    smaller, found, speed, kept = reconfigure(network, parameters, velocity)
    stem, end = [0, 2, 3, 4, 5, 7], [1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12, 13, 14]
    assert kept["block1"].tolist() == stem and kept["pool"].tolist() == end and kept["block2.norm1"].tolist() == [*range(16)]
    assert found.keys() == speed.keys() == parameters.keys()
    for values, given in ((found, parameters), (speed, velocity)):
        same(values["conv1.weight"], given["conv1.weight"][..., stem])
        same(values["block1.conv1.weight"], given["block1.conv1.weight"][:, :, stem])
        same(values["block2.conv3.weight"], given["block2.conv3.weight"][:, :, stem][..., end])
        same(values["classifier.weight"], given["classifier.weight"][end])
        same(values["classifier.bias"], given["classifier.bias"])
        same(values["block1.norm2.gamma"], given["block1.norm2.gamma"][stem])
        same(values["block2.norm3.beta"], given["block2.norm3.beta"][end])
    norms = {layer.name: layer for layer in smaller.layers if isinstance(layer, Norm)}
    assert (norms["norm1"].channels, norms["norm1"].group, norms["norm1"].counted) == (6, 6, 8)
    assert norms["block2.norm1"] == Norm("block2.norm1", ("block2.conv1",), 16, 16, relu=True)
    again, *_ = reconfigure(smaller, found, speed)
    assert again == smaller
    set_channels(found, "end", [2], 0)
    twice, *_ = reconfigure(smaller, found, speed)
    assert next(layer for layer in twice.layers if layer.name == "block2.norm2") == Norm("block2.norm2", ("block2.conv2",), 12, 12,
                                                                                         counted=16)
    assert with_channels(network, {layer.name: layer.outputs for layer in twice.layers if isinstance(layer, Conv)}) == twice


def test_several_groups_are_refused():
    network = digits_resnet(8, 4)
    parameters = random_parameters(network)
    assert reconfigure(network, parameters, parameters)[0] == network
    set_channels(parameters, "block1", [3], 0)
    with pytest.raises(ValueError, match=r"block1\.norm1: group = 4 of 8"):
        reconfigure(network, parameters, parameters)


# The smaller network computes the same.

# Every wave holds all channels and the vector unit has one lane: zeros drop out of sums whose order stays, wherever the channels stood.
# With waves of 4 and 4 lanes, whole waves and blocks at the end do. Elsewhere the order of sums changes.
CASES = [
    (64, 1, {"stem": [1, 6], "block1": [0, 3, 7], "block2": [2, 15], "end": [0, 1, 9]}, True),
    (4, 4, {"stem": [4, 5, 6, 7], "block1": [4, 5, 6, 7], "block2": [12, 13, 14, 15], "end": [*range(8, 16)]}, True),
    (4, 4, {"stem": [1, 6], "block1": [0, 3, 7], "block2": [2, 15], "end": [0, 1, 9]}, False),
]


@pytest.mark.parametrize(("tile", "lanes", "dead", "exact"), CASES)
def test_function_stays(tile, lanes, dead, exact):
    """Logits and gradients of what is left, whatever gamma and beta dead channels have."""
    network = digits_resnet(8, 0)
    parameters = random_parameters(network)
    for union, channels in dead.items():
        set_channels(parameters, union, channels, 0)
    smaller, found, _, kept = reconfigure(network, parameters, parameters)
    assert sum(value.size for value in found.values()) < 0.8 * sum(value.size for value in parameters.values())
    wanted, rest = logits(network, parameters, tile, lanes), logits(smaller, found, tile, lanes)
    labels = np.array([3, 1, 4])
    gradients, left = (engine.backward(values, engine.forward(values, images()), labels, 1 / 3).by_parameter
                       for engine, values in ((GoldenEngine(network, tile=tile, lanes=lanes), parameters),
                                              (GoldenEngine(smaller, tile=tile, lanes=lanes), found)))
    last = np.ix_(kept["block1.norm1"], kept["block1"])
    if exact:
        same(rest, wanted)
        same(left["block1.conv2.weight"], gradients["block1.conv2.weight"][:, :, *last])
        same(left["norm1.gamma"], gradients["norm1.gamma"][kept["norm1"]])
    else:
        assert (rest != wanted).any()
        np.testing.assert_allclose(rest, wanted, rtol=0.02, atol=0.02 * np.abs(wanted).max())
        slope = gradients["block1.conv2.weight"][:, :, *last]
        np.testing.assert_allclose(left["block1.conv2.weight"], slope, atol=0.05 * np.abs(slope).max())


def test_statistics_count_what_is_gone():
    """Without `counted` the function would not stay."""
    network = digits_resnet(8, 0)
    parameters = random_parameters(network)
    set_channels(parameters, "block1", [0, 3, 7], 0)
    smaller, found, *_ = reconfigure(network, parameters, parameters)
    wrong = replace(smaller, layers=tuple(replace(layer, counted=0) if isinstance(layer, Norm) else layer for layer in smaller.layers))
    wanted = logits(network, parameters, 64, 1)
    assert np.abs(logits(wrong, found, 64, 1) - wanted).max() > 0.05 * np.abs(wanted).max()


@pytest.mark.parametrize(("dead", "gone", "last"), [
    (["block1.conv2"], {"block1.conv1", "block1.norm1", "block1.conv2", "block1.norm2", "block1"}, "norm1"),
    (["block2.conv1"], {"block2.conv1", "block2.norm1", "block2.conv2", "block2.norm2", "block2"}, "block2.norm3"),
    (["block2.conv3"], {"block2.conv3", "block2.norm3", "block2"}, "block2.norm2"),
    (["block2.conv1", "block2.conv3"], {"block2.conv1", "block2.norm1", "block2.conv2", "block2.norm2", "block2"}, "block2.norm3"),
])
def test_dead_branches(dead, gone, last):
    """A convolution without weights takes its branch along; with betas of zero nothing changes. What is left can be trained."""
    network = digits_resnet(8, 0)
    parameters = random_parameters(network)
    for name in dead:
        parameters[f"{name}.weight"][...] = 0
    for name in gone:
        if f"{name}.beta" in parameters:
            parameters[f"{name}.beta"][...] = 0
    smaller, found, speed, _ = reconfigure(network, parameters, parameters)
    assert {layer.name for layer in network.layers} - {layer.name for layer in smaller.layers} == gone
    assert found.keys() == speed.keys() == smaller.parameters(0).keys()
    assert any(last in layer.inputs for layer in smaller.layers)
    if len(dead) == 1:
        same(logits(smaller, found, 64, 1), logits(network, parameters, 64, 1))
    counts = {layer.name: layer.outputs for layer in smaller.layers if isinstance(layer, Conv)}
    assert with_channels(network, counts) == smaller
    engine = GoldenEngine(smaller, tile=8, lanes=4)
    step = engine.backward(found, engine.forward(found, images()), np.array([3, 1, 4]), 1 / 3)
    assert step.by_parameter.keys() == found.keys()


def test_the_strongest_channel_stays():
    """A network without weights, which no rule of the paper covers: one channel of each union that has none left."""
    network = digits_resnet(8, 0)
    parameters = random_parameters(network)
    set_channels(parameters, "stem", [*range(8)], 0)
    parameters["conv1.weight"][1, 1, 0, 5] = 5e-5
    smaller, _, _, kept = reconfigure(network, parameters, parameters)
    assert kept["conv1"].tolist() == [5] and not any(isinstance(layer, Add) for layer in smaller.layers)


# The hook.

class Flat:
    """An engine whose loss is flat: the penalty alone moves the parameters."""

    def __init__(self, network: Network):
        self.classes = network.classes

    def logits(self, parameters, images):
        return np.zeros((len(images), self.classes), np.float32)

    def gradients(self, parameters, images, labels, share):
        return self.logits(parameters, images), {name: np.zeros_like(value) for name, value in parameters.items()}


def trainer_of(hook: Pruning, epochs: int = 4) -> tuple[Trainer, list[Network]]:
    rng, made = np.random.default_rng(SEED), []
    x, labels = narrow(rng.standard_normal((40, 8, 8, 1)).astype(np.float32)), np.arange(40) % 10
    data = Data(name="random", classes=10, train_images=x, train_labels=labels, test_images=x, test_labels=labels)

    def engine(network: Network) -> Flat:
        made.append(network)
        return Flat(network)

    return Trainer(digits_resnet(8, 0), data, engine=engine, settings=Settings(epochs=epochs, batch=8, rate=0.05), hook=hook), made


def test_hook():
    """Channels that begin small die, and go at the first reconfiguration; the others stay, thinner."""
    hook = Pruning(0.3, 6, grow=4)
    trainer, made = trainer_of(hook, epochs=8)
    set_channels(trainer.parameters, "block1", [1, 4], 5e-4)
    set_channels(trainer.parameters, "end", [0], 5e-4)
    fresh = trainer.network
    wanted = 0.3 / 0.7 * log(10) / sum(group_norms(fresh, trainer.parameters))      # a flat loss is that of ten equal classes
    trainer.run()
    assert float(hook.coefficient or 0) == pytest.approx(wanted, rel=1e-6)
    convs = ("conv1", "block1.conv1", "block1.conv2", "block2.conv1", "block2.conv2", "block2.conv3")
    first, after = dict(zip(convs, (8, 8, 8, 16, 16, 16))), dict(zip(convs, (8, 6, 8, 16, 15, 15)))
    assert [epoch.channels for epoch in trainer.history] == [first] * 6 + [after] * 2
    assert made == [fresh, trainer.network] and trainer.parameters["block1.conv1.weight"].shape == (3, 3, 8, 6)
    # 8 images hold 8 * bytes before; no whole step of 4 images is free yet
    assert [epoch.batch for epoch in trainer.history] == [8] * 8
    assert all(trainer.velocity[name].shape == value.shape for name, value in trainer.parameters.items())
    weight, before = (values["block2.conv1.weight"] for values in (trainer.parameters, fresh.parameters(0)))
    assert 0 < np.linalg.norm(weight) < np.linalg.norm(before)


def test_state():
    hook, other = Pruning(0.25, 3), Pruning(0.25, 3)
    assert hook.state() == {"coefficient": None}
    hook.coefficient = np.float32(0.1)
    other.restore(hook.state())
    same(np.asarray(other.coefficient), np.asarray(np.float32(0.1)))
    with pytest.raises(UserError, match=r"ratio = 1\.0"):
        Pruning(1.0)
    with pytest.raises(UserError, match="interval = 0"):
        Pruning(0.2, 0)


def test_batch_growth():
    """Bytes by hand, and whole steps only."""
    network = digits_resnet(8, 0)
    values = 64 + 7 * 64 * 8 + 7 * 16 * 16 + 16 + 10       # image; stem and first block; second block; pool; logits
    assert activation_bytes(network) == 2 * values
    half = with_channels(network, {layer.name: layer.outputs // 2 for layer in network.layers if isinstance(layer, Conv)})
    half_values = 64 + 7 * 64 * 4 + 7 * 16 * 8 + 8 + 10
    assert activation_bytes(half) == 2 * half_values
    assert 32 * values // half_values == 63
    assert [grown(network, half, 32, step) for step in (0, 1, 8, 16, 32)] == [32, 63, 56, 48, 32]
    assert grown(half, network, 32, 8) == 32
    hook = Pruning(0.2, 2, grow=4)
    trainer, _ = trainer_of(hook)
    assert [hook.due(trainer, epoch) for epoch in range(4)] == [False, True, False, True]
    trainer.network, trainer.parameters = half, half.parameters(0)
    trainer.velocity = {name: np.zeros_like(value) for name, value in trainer.parameters.items()}
    assert hook.batch(trainer) == 12       # 8 * values // half_values is 15
    trainer.run()
    assert {epoch.batch for epoch in trainer.history} == {12}


def test_a_batch_of_almost_all_images():
    """Of 40 images: whole steps of 12 beside the first 8 are 32; sub-batches of 4 fit. Without growth, 8."""
    for grow, batch in ((12, 32), (0, 8)):
        hook = Pruning(0.2, 2, grow=grow)
        trainer, _ = trainer_of(hook)
        trainer.network = with_channels(trainer.network, {layer.name: 1 for layer in trainer.network.layers if isinstance(layer, Conv)})
        assert hook.batch(trainer) == batch

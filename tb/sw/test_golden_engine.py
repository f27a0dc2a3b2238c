"""The golden engine: compiled products in the stated order, gradients against double precision, and a network that learns."""

import numpy as np
import pytest

from sw.golden import bfloat16, products, training
from sw.golden.float32 import narrow
from sw.train.golden_engine import GoldenEngine
from sw.train.network import INPUT, Add, Conv, Linear, Norm, Pool, digits_resnet
from tb.sw.float_works import numbers

SEED = 12


def same(found: np.ndarray, wanted: np.ndarray):
    np.testing.assert_array_equal(found.view(np.uint32), wanted.view(np.uint32))


@pytest.mark.parametrize("special", [0, 0.02])
@pytest.mark.parametrize(("m", "n", "k", "tile"), [(5, 7, 19, 4), (1, 1, 1, 8), (9, 3, 16, 8)])
def test_compiled_products(m, n, k, tile, special):
    print(f"seed {SEED}")
    rng = np.random.default_rng(SEED)
    a, b = numbers(rng, (m, k), special), numbers(rng, (k, n), special)
    same(products.matmul(a, b, tile), bfloat16.matmul(a, b, bfloat16.waves_of(k, tile)))


@pytest.mark.parametrize(("stride", "pad"), [(1, (1, 1, 1, 1)), (2, (1, 0, 2, 1)), (3, (0, 0, 0, 0))])
def test_compiled_convolutions(stride, pad):
    print(f"seed {SEED}")
    rng = np.random.default_rng(SEED)
    x, w = numbers(rng, (2, 6, 7, 5), 0), numbers(rng, (3, 3, 5, 3), 0)
    same(products.conv2d(x, w, 4, stride=stride, pad=pad), bfloat16.conv2d(x, w, 4, stride=stride, pad=pad))


def loss_of(network, parameters, images, labels) -> float:
    """Mean cross entropy, all in double precision."""
    values = {INPUT: images.astype(float)}
    for layer in network.layers:
        x = values[layer.inputs[0]]
        match layer:
            case Conv():
                weight = parameters[f"{layer.name}.weight"]
                image = np.pad(x, ((0, 0), (layer.pad,) * 2, (layer.pad,) * 2, (0, 0)))
                size = [(there - layer.kernel) // layer.stride + 1 for there in image.shape[1:3]]
                rows, columns = (slice(0, layer.stride * there, layer.stride) for there in size)
                result = sum(image[:, ky:, kx:][:, rows, columns] @ weight[ky, kx]
                             for ky in range(layer.kernel) for kx in range(layer.kernel))
            case Norm():
                grouped = x.reshape(*x.shape[:3], -1, layer.group)
                mean, variance = (getattr(grouped, name)(axis=(1, 2, 4), keepdims=True) for name in ("mean", "var"))
                result = ((grouped - mean) / np.sqrt(variance + 1e-5)).reshape(x.shape)
                result = result * parameters[f"{layer.name}.gamma"] + parameters[f"{layer.name}.beta"]
                result = np.maximum(result, 0) if layer.relu else result
            case Add():
                result = np.maximum(x + values[layer.inputs[1]], 0)
            case Pool():
                result = x.mean(axis=(1, 2))
            case Linear():
                result = x @ parameters[f"{layer.name}.weight"] + parameters[f"{layer.name}.bias"]
            case _:
                raise TypeError(layer.name)
        values[layer.name] = result
    logits = values[network.layers[-1].name]
    largest = logits.max(axis=1)
    return float((np.log(np.exp(logits - largest[:, None]).sum(axis=1)) + largest - logits[np.arange(len(labels)), labels]).mean())


def test_gradients():
    """Of every parameter, along its own gradient: what a small step changes, in double precision."""
    print(f"seed {SEED}")
    network, rng = digits_resnet(), np.random.default_rng(SEED)
    parameters = {name: narrow(value) for name, value in network.parameters(SEED).items()}
    images, labels = narrow(rng.standard_normal((12, 8, 8, 1)).astype(np.float32)), rng.integers(0, 10, 12)
    engine = GoldenEngine(network, tile=8, lanes=4)
    step = engine.backward(parameters, engine.forward(parameters, images), labels, 1 / 12)
    assert step.by_parameter.keys() == parameters.keys()
    for name, gradient in step.by_parameter.items():
        assert gradient.shape == parameters[name].shape and gradient.dtype == np.float32
        direction = gradient.astype(float) / np.linalg.norm(gradient)

        def loss(change: float, name: str = name, direction: np.ndarray = direction) -> float:
            return loss_of(network, parameters | {name: parameters[name] + change * direction}, images, labels)

        slope = (loss(1e-4) - loss(-1e-4)) / 2e-4
        assert slope == pytest.approx(np.linalg.norm(gradient), rel=0.03), name


def test_it_learns():
    """Sixty steps on sixty-four images."""
    from sklearn.datasets import load_digits

    digits, network = load_digits(), digits_resnet(width=8)
    images, labels = narrow(((digits.images[:64] - 8) / 8).astype(np.float32)[..., None]), digits.target[:64]
    engine, parameters = GoldenEngine(network, tile=8, lanes=4), network.parameters(1)
    velocity = {name: np.zeros_like(value) for name, value in parameters.items()}
    for number in range(60):
        part = slice(32 * (number % 2), 32 * (number % 2) + 32)
        step = engine.backward(parameters, engine.forward(parameters, images[part]), labels[part], 1 / 32)
        for name in parameters:
            parameters[name], velocity[name] = training.momentum_step(
                parameters[name], velocity[name], step.by_parameter[name], rate=0.03, momentum=0.9, decay=5e-4)
    logits = engine.forward(parameters, images).activations["classifier"]
    assert (logits.argmax(axis=1) == labels).mean() > 0.95

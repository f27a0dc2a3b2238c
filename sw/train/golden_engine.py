"""The golden engine: a training step in numpy, every number and every order of sums as the machine has them."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from sw.golden import products, training
from sw.golden.float32 import add, multiply, narrow
from sw.train.network import INPUT, Add, Conv, Linear, Network, Norm, Pool, WindowPool

Parameters = dict[str, np.ndarray]


@dataclass
class Step:
    """What a step over a (sub-)batch leaves behind: activations and gradients by layer, gradients by parameter, and the logits."""

    activations: dict[str, np.ndarray] = field(default_factory=dict)
    statistics: dict[str, training.Statistics] = field(default_factory=dict)
    gradients: dict[str, np.ndarray] = field(default_factory=dict)
    by_parameter: Parameters = field(default_factory=dict)


class GoldenEngine:
    """Computes as a machine with waves of `tile` rows and `lanes` columns in its vector unit."""

    def __init__(self, network: Network, *, tile: int, lanes: int):
        self.network, self.tile, self.lanes = network, tile, lanes

    def forward(self, parameters: Mapping[str, np.ndarray], images: np.ndarray) -> Step:
        """Activations of all layers, bf16 (logits fp32); `images` are bf16 (batch, height, width, channels)."""
        step = Step({INPUT: images})
        for layer in self.network.layers:
            inputs = [step.activations[name] for name in layer.inputs]
            x = inputs[0]
            match layer:
                case Conv():
                    weight = narrow(parameters[f"{layer.name}.weight"])
                    pad = (layer.pad, layer.pad, layer.pad, layer.pad)
                    result = narrow(products.conv2d(x, weight, self.tile, stride=layer.stride, pad=pad))
                case Norm():
                    flat = x.reshape(len(x), -1, layer.channels)
                    step.statistics[layer.name] = statistics = training.Statistics.of(flat, layer.group, self.lanes, layer.counted)
                    result = training.normalise(flat, statistics, parameters[f"{layer.name}.gamma"], parameters[f"{layer.name}.beta"])
                    result = narrow(training.relu(result) if layer.relu else result).reshape(x.shape)
                case Add():
                    result = narrow(training.relu(add(x, inputs[1])))
                case Pool():
                    flat = x.reshape(len(x), -1, x.shape[-1])
                    result = narrow(multiply(training.stream_sum(flat), np.float32(1 / flat.shape[1])))
                case WindowPool():
                    result = (training.max_pool if layer.kind == "max" else training.average_pool)(x, layer.kernel, layer.stride)
                case Linear():
                    sums = products.matmul(x, narrow(parameters[f"{layer.name}.weight"]), self.tile)
                    result = add(sums, np.broadcast_to(parameters[f"{layer.name}.bias"], sums.shape))
                case _:
                    raise TypeError(f"{layer.name}: no such layer is known")
            step.activations[layer.name] = result
        return step

    def backward(self, parameters: Mapping[str, np.ndarray], step: Step, labels: np.ndarray, share: float) -> Step:
        """Gradients of the cross entropy times `share`, of every layer's result (bf16) and every parameter (fp32)."""
        last = self.network.layers[-1].name
        step.gradients[last] = training.cross_entropy_gradient(step.activations[last], labels, share, self.lanes)
        for layer in reversed(self.network.layers):
            gradient, x = step.gradients[layer.name], step.activations[layer.inputs[0]]
            match layer:
                case Linear():
                    weight = narrow(parameters[f"{layer.name}.weight"])
                    step.by_parameter[f"{layer.name}.weight"] = products.matmul(x.T, gradient, self.tile)
                    step.by_parameter[f"{layer.name}.bias"] = training.stream_sum(gradient)
                    self._pass_on(step, layer.inputs[0], narrow(products.matmul(gradient, weight.T, self.tile)))
                case Pool():
                    pixels = x.shape[1] * x.shape[2]
                    back = narrow(multiply(gradient, np.float32(1 / pixels)))
                    self._pass_on(step, layer.inputs[0], np.broadcast_to(back[:, None, None], x.shape))
                case WindowPool(kind="max"):
                    back = training.max_pool_backward(gradient, x, step.activations[layer.name], layer.kernel, layer.stride)
                    self._pass_on(step, layer.inputs[0], back)
                case WindowPool():
                    self._pass_on(step, layer.inputs[0], training.average_pool_backward(gradient, x.shape, layer.kernel, layer.stride))
                case Add():
                    back = training.masked(gradient, step.activations[layer.name])
                    for name in layer.inputs:
                        self._pass_on(step, name, back)
                case Norm():
                    if layer.relu:
                        gradient = training.masked(gradient, step.activations[layer.name])
                    shape = len(x), -1, layer.channels
                    back, by_gamma, by_beta = training.normalise_backward(
                        gradient.reshape(shape), x.reshape(shape), step.statistics[layer.name], parameters[f"{layer.name}.gamma"])
                    step.by_parameter |= {f"{layer.name}.gamma": by_gamma, f"{layer.name}.beta": by_beta}
                    self._pass_on(step, layer.inputs[0], back.reshape(x.shape))
                case Conv():
                    step.by_parameter[f"{layer.name}.weight"] = self._weight_gradient(layer, x, gradient)
                    if layer.inputs[0] != INPUT:
                        self._pass_on(step, layer.inputs[0], self._data_gradient(layer, parameters, x, gradient))
        return step

    def _pass_on(self, step: Step, name: str, gradient: np.ndarray):
        """A gradient of a layer's result; where there are two, their sum."""
        if name in step.gradients:
            gradient = narrow(add(step.gradients[name], gradient))
        step.gradients[name] = gradient

    def _data_gradient(self, layer: Conv, parameters: Mapping[str, np.ndarray], x: np.ndarray, gradient: np.ndarray) -> np.ndarray:
        """A convolution of the gradient, zeros inserted for the stride, with the kernel turned round and its channels exchanged."""
        batch, height, width, outputs = gradient.shape
        spread = np.zeros((batch, (height - 1) * layer.stride + 1, (width - 1) * layer.stride + 1, outputs), np.float32)
        spread[:, ::layer.stride, ::layer.stride] = gradient
        before = layer.kernel - 1 - layer.pad
        after = [size + layer.kernel - 1 - there - before for size, there in zip(x.shape[1:3], spread.shape[1:3])]
        kernel = narrow(parameters[f"{layer.name}.weight"])[::-1, ::-1].transpose(0, 1, 3, 2)
        return narrow(products.conv2d(spread, kernel, self.tile, pad=(before, before, after[0], after[1])))

    def _weight_gradient(self, layer: Conv, x: np.ndarray, gradient: np.ndarray) -> np.ndarray:
        """At each position of the kernel a product over all pixels of the batch."""
        image = np.pad(x, ((0, 0), (layer.pad,) * 2, (layer.pad,) * 2, (0, 0)))
        height, width = gradient.shape[1:3]
        columns = gradient.reshape(-1, layer.outputs)
        found = np.zeros((layer.kernel, layer.kernel, layer.channels, layer.outputs), np.float32)
        for ky in range(layer.kernel):
            for kx in range(layer.kernel):
                pixels = image[:, ky:ky + layer.stride * height:layer.stride, kx:kx + layer.stride * width:layer.stride]
                rows = pixels[:, :height, :width].reshape(-1, layer.channels)
                found[ky, kx] = products.matmul(rows.T, columns, self.tile)
        return found

"""The engine `torch`: the same network and the same order of data in PyTorch's fp32 on the CPU, to compare with. PyTorch is an extra."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
from torch.nn import functional  # pyright: ignore[reportMissingImports]

from sw.train.golden_engine import Parameters
from sw.train.network import INPUT, Add, Conv, Linear, Network, Norm, Pool, WindowPool

EPSILON = 1e-5


def to_torch(value: np.ndarray) -> torch.Tensor:
    """A parameter of ours as PyTorch has it: kernels (outputs, channels, height, width), matrices (outputs, channels). A copy."""
    order = {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}[value.ndim]
    return torch.tensor(np.ascontiguousarray(value.transpose(order)))


def from_torch(value: torch.Tensor) -> np.ndarray:
    """The reverse, fp32. A copy."""
    order = {4: (2, 3, 1, 0), 2: (1, 0), 1: (0,)}[value.ndim]
    return np.array(value.detach().to(torch.float32).cpu().numpy().transpose(order), order="C")


@contextmanager
def plain_kernels() -> Iterator[None]:
    """While it lasts, PyTorch's own kernels instead of oneDNN's, whose backward pass of narrow convolutions writes beyond its memory on one
    thread (PyTorch 2.13.0, CPU, four channels: `corrupted size vs. prev_size`)."""
    before = torch.backends.mkldnn.enabled
    torch.backends.mkldnn.enabled = False
    try:
        yield
    finally:
        torch.backends.mkldnn.enabled = before


class TorchEngine:
    """Logits and gradients of a network by PyTorch; on one thread, so that the same run gives the same bits."""

    def __init__(self, network: Network):
        self.network = network
        torch.set_num_threads(1)

    def logits(self, parameters: Mapping[str, np.ndarray], images: np.ndarray) -> np.ndarray:
        with torch.no_grad(), plain_kernels():
            return self._forward({name: to_torch(value) for name, value in parameters.items()}, images).numpy()

    def gradients(self, parameters: Mapping[str, np.ndarray], images: np.ndarray, labels: np.ndarray,
                  share: float) -> tuple[np.ndarray, Parameters]:
        tensors = {name: to_torch(value).requires_grad_() for name, value in parameters.items()}
        with plain_kernels():
            logits = self._forward(tensors, images)
            loss = functional.cross_entropy(logits, torch.tensor(labels, dtype=torch.int64), reduction="sum") * share
            found = torch.autograd.grad(loss, list(tensors.values()))
        return logits.detach().numpy(), {name: from_torch(value) for name, value in zip(tensors, found)}

    def _forward(self, parameters: Mapping[str, torch.Tensor], images: np.ndarray) -> torch.Tensor:
        """Logits of images (batch, height, width, channels)."""
        values = {INPUT: torch.tensor(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))}
        result = values[INPUT]
        for layer in self.network.layers:
            x = values[layer.inputs[0]]
            match layer:
                case Conv():
                    result = functional.conv2d(x, parameters[f"{layer.name}.weight"], stride=layer.stride, padding=layer.pad)
                case Norm():
                    result = self._norm(layer, x, parameters[f"{layer.name}.gamma"], parameters[f"{layer.name}.beta"])
                case Add():
                    result = functional.relu(x + values[layer.inputs[1]])
                case Pool():
                    result = x.mean(dim=(2, 3))
                case WindowPool():
                    pool = functional.max_pool2d if layer.kind == "max" else functional.avg_pool2d
                    result = pool(x, layer.kernel, layer.stride)
                case Linear():
                    result = functional.linear(x, parameters[f"{layer.name}.weight"], parameters[f"{layer.name}.bias"])
                case _:
                    raise TypeError(f"{layer.name}: no such layer is known")
            values[layer.name] = result
        return result

    def _norm(self, layer: Norm, x: torch.Tensor, gamma: torch.Tensor, beta: torch.Tensor) -> torch.Tensor:
        """Group normalisation. Channels that pruning took out of the only group still count, as zeros."""
        gone = max(0, layer.counted - layer.group)
        whole = functional.pad(x, (0, 0, 0, 0, 0, gone)) if gone else x
        unit = functional.group_norm(whole, layer.channels // layer.group, eps=EPSILON)[:, :layer.channels]
        result = unit * gamma[:, None, None] + beta[:, None, None]
        return functional.relu(result) if layer.relu else result

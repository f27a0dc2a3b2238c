"""From a PyTorch module to a network of ours and back: layers by tracing, parameters by copying. PyTorch is an extra.

Supported: Conv2d without bias, GroupNorm, ReLU behind one of them or behind an addition, additions of two results with a ReLU behind them,
MaxPool2d and AvgPool2d with square windows and no padding, the mean of all pixels (AdaptiveAvgPool2d(1) or mean), Flatten behind it, and
Linear at the end. All else is refused by name.
"""

import operator
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NoReturn

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
from torch import fx, nn  # pyright: ignore[reportMissingImports]
from torch.nn import functional  # pyright: ignore[reportMissingImports]

from sw.runtime.errors import UserError
from sw.train.golden_engine import Parameters
from sw.train.network import INPUT, Add, Conv, Layer, Linear, Network, Norm, Pool, WindowPool
from sw.train.shapes import shapes
from sw.train.torch_engine import EPSILON, from_torch, to_torch

ADDITIONS = (operator.add, operator.iadd, torch.add, "add")
RELUS = (functional.relu, torch.relu, "relu")
FLATTENS = (torch.flatten, "flatten")
MEANS = (torch.mean, "mean")
THEIRS = {"gamma": "weight", "beta": "bias", "weight": "weight", "bias": "bias"}      # PyTorch's names of our parameters


def network_of(module: nn.Module, name: str, image: tuple[int, int, int]) -> Network:
    """The network of a module for images (height, width, channels). Raises UserError, naming the layer by its path in the module."""
    try:
        graph = fx.Tracer().trace(module)
    except Exception as error:      # whatever a module does while it is traced
        raise UserError(f"{name}: it cannot be traced: {type(error).__name__}: {_first_line(error)}") from None
    reader = _Reader(name, dict(module.named_modules()), image)
    for node in graph.nodes:
        reader.read(node)
    network = Network(name, image, tuple(reader.layers.values()), reader.classes)
    shapes(network)
    return network


def parameters_of(module: nn.Module, network: Network) -> Parameters:
    """Copies of a module's parameters, by our names and in our layout, fp32."""
    modules = dict(module.named_modules())
    return {name: from_torch(getattr(modules[path], THEIRS[part])) for name, path, part in _names(network)}


def copy_back(module: nn.Module, network: Network, parameters: Mapping[str, np.ndarray]):
    """Copy parameters of ours into the module that the network was made of. Raises UserError, before anything is changed, where sizes
    differ, as those of a pruned network do."""
    modules = dict(module.named_modules())
    pairs = []
    for name, path, part in _names(network):
        theirs, ours = getattr(modules.get(path), THEIRS[part], None), to_torch(parameters[name])
        if theirs is None or theirs.shape != ours.shape:
            there = "missing" if theirs is None else tuple(theirs.shape)
            raise UserError(f"{network.name}: {name} is {tuple(ours.shape)}, in the module {there}")
        pairs.append((theirs, ours))
    with torch.no_grad():
        for theirs, ours in pairs:
            theirs.copy_(ours)


def _names(network: Network) -> list[tuple[str, str, str]]:
    """Name, path and part of every parameter, in the order of the layers."""
    parts = {Conv: ("weight",), Norm: ("gamma", "beta"), Linear: ("weight", "bias")}
    return [(f"{layer.name}.{part}", layer.name, part) for layer in network.layers for part in parts.get(type(layer), ())]


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0]


class _Reader:
    """Makes layers of the nodes of a graph, one by one."""

    def __init__(self, name: str, modules: dict[str, nn.Module], image: tuple[int, int, int]):
        self.name, self.modules, self.image, self.classes = name, modules, image, 0
        self.layers: dict[str, Layer] = {}
        self.of: dict[fx.Node, str] = {}            # the layer whose result a node is
        self.without_relu: dict[str, fx.Node] = {}  # additions that still lack theirs

    def read(self, node: fx.Node):
        """The next node."""
        match node.op:
            case "placeholder":
                if INPUT in self.of.values():
                    self.refuse(node, "is a second input")
                self.of[node] = INPUT
            case "call_module":
                self._module(node, self.modules[str(node.target)])
            case "call_function" | "call_method":
                self._function(node)
            case "output":
                self._output(node)
            case _:
                self.refuse(node, "is a parameter outside of a layer")

    def refuse(self, node: fx.Node, why: str = "is not supported") -> NoReturn:
        """Say what is wrong with a node."""
        if node.op == "call_module":
            what = f"{node.target} ({type(self.modules[str(node.target)]).__name__})"
        else:
            stack = list(node.meta.get("nn_module_stack") or ())
            what = ".".join(part for part in (stack[-1] if stack else "", node.name) if part)
            if node.op.startswith("call"):
                what += f" ({getattr(node.target, '__name__', node.target)})"
        raise UserError(f"{self.name}: {what} {why}")

    def _source(self, node: fx.Node, number: int = 0) -> str:
        """The layer that a node reads."""
        given = node.args[number] if len(node.args) > number else node.kwargs.get(("input", "other")[number])
        if not isinstance(given, fx.Node) or given not in self.of:
            self.refuse(node, "reads what is no layer's result")
        source = self.of[given]
        if source in self.without_relu and self.without_relu[source] is given:
            self.refuse(self.without_relu[source], "has no ReLU behind it alone, as an addition must")
        return source

    def _add(self, node: fx.Node, layer: Layer):
        if layer.name in self.layers:
            self.refuse(node, "is used twice")
        self.layers[layer.name], self.of[node] = layer, layer.name

    def _module(self, node: fx.Node, module: nn.Module):
        path = str(node.target)
        match module:
            case nn.Conv2d():
                self._add(node, self._conv(node, path, module))
            case nn.GroupNorm():
                if not module.affine or module.eps != EPSILON:
                    self.refuse(node, f"must have weight and bias, and eps = {EPSILON}")
                self._add(node, Norm(path, (self._source(node),), module.num_channels, module.num_channels // module.num_groups))
            case nn.ReLU():
                self._relu(node, path)
            case nn.AdaptiveAvgPool2d():
                if module.output_size not in (1, (1, 1)):
                    self.refuse(node, f"has the output size {module.output_size}, allowed: 1")
                self._add(node, Pool(path, (self._source(node),)))
            case nn.MaxPool2d() | nn.AvgPool2d():
                self._add(node, self._pool(node, path, module))
            case nn.Flatten():
                self._flatten(node, module.start_dim, module.end_dim)
            case nn.Identity():
                self.of[node] = self._source(node)
            case nn.Linear():
                if module.bias is None:
                    self.refuse(node, "must have a bias")
                self.classes = module.out_features
                self._add(node, Linear(path, (self._source(node),), module.in_features, module.out_features))
            case _:
                self.refuse(node)

    def _conv(self, node: fx.Node, path: str, module: nn.Conv2d) -> Conv:
        if module.bias is not None:
            self.refuse(node, "has a bias, allowed: bias=False")
        if module.groups != 1 or module.dilation != (1, 1) or module.padding_mode != "zeros":
            self.refuse(node, "has groups, a dilation or a padding that is not of zeros")
        padding = module.padding
        if isinstance(padding, str):
            self.refuse(node, f"has padding={padding!r}, allowed: a number")
        for what, pair in (("kernel", module.kernel_size), ("stride", module.stride), ("padding", padding)):
            if pair[0] != pair[1]:
                self.refuse(node, f"has the {what} {pair}, allowed: the same in both directions")
        return Conv(path, (self._source(node),), module.in_channels, module.out_channels, kernel=module.kernel_size[0],
                    stride=module.stride[0], pad=int(padding[0]))

    def _pool(self, node: fx.Node, path: str, module: nn.MaxPool2d | nn.AvgPool2d) -> WindowPool:
        (kernel, *kernels), (stride, *strides), paddings = (
            [value] if isinstance(value, int) else list(value) for value in (module.kernel_size, module.stride, module.padding))
        if any(paddings) or module.ceil_mode or getattr(module, "dilation", 1) not in (1, (1, 1)):
            self.refuse(node, "has a padding, a dilation or ceil_mode=True")
        if getattr(module, "return_indices", False) or getattr(module, "divisor_override", None) is not None:
            self.refuse(node, "returns indices or has a divisor of its own")
        for what, first, others in (("kernel", kernel, kernels), ("stride", stride, strides)):
            if any(other != first for other in others):
                self.refuse(node, f"has the {what} {(first, *others)}, allowed: the same in both directions")
        return WindowPool(path, (self._source(node),), "max" if isinstance(module, nn.MaxPool2d) else "average", kernel, stride)

    def _function(self, node: fx.Node):
        target: Any = node.target
        if target in ADDITIONS:
            given = [part for part in node.args if isinstance(part, fx.Node)]
            if node.kwargs.get("alpha", 1) != 1 or len(given) != 2:
                self.refuse(node, "must add two results")
            if target is operator.iadd and len(given[0].users) != 1:
                self.refuse(node, "changes what others read")
            self._add(node, Add(node.name, (self._source(node), self._source(node, 1))))
            self.without_relu[node.name] = node
        elif target in RELUS:
            self._relu(node, node.name)
        elif target in FLATTENS:
            self._flatten(node, *self._given(node, ("start_dim", "end_dim"), (0, -1)))
        elif target in MEANS:
            axes, _ = self._given(node, ("dim", "keepdim"), (None, False))
            if not isinstance(axes, list | tuple) or sorted(axis % 4 for axis in axes if isinstance(axis, int)) != [2, 3]:
                self.refuse(node, f"is over {axes}, allowed: (2, 3), all pixels")
            self._add(node, Pool(node.name, (self._source(node),)))
        elif target is functional.adaptive_avg_pool2d and self._given(node, ("output_size",), (None,))[0] in (1, (1, 1)):
            self._add(node, Pool(node.name, (self._source(node),)))
        else:
            self.refuse(node)

    def _given(self, node: fx.Node, names: tuple[str, ...], default: tuple[Any, ...]) -> list[Any]:
        """Arguments of a call behind its tensor, by place or by name."""
        rest = node.args[1:]
        return [rest[number] if number < len(rest) else node.kwargs.get(name, default[number]) for number, name in enumerate(names)]

    def _relu(self, node: fx.Node, path: str):
        """A ReLU becomes part of what is in front of it, and only of what nobody else reads."""
        given = node.args[0] if node.args else node.kwargs.get("input")
        source = self.of.get(given) if isinstance(given, fx.Node) else None     # not _source: an addition has its ReLU now
        layer = self.layers.get(source or "")
        if not isinstance(layer, Norm | Add) or not isinstance(given, fx.Node):
            self.refuse(node, "must be behind a GroupNorm or an addition")
        if layer.relu if isinstance(layer, Norm) else layer.name not in self.without_relu:
            self.of[node] = layer.name      # a second one changes nothing
            return
        same = [other for other, name in self.of.items() if name == layer.name]
        if {user for other in same for user in other.users} - set(same) != {node}:
            self.refuse(node, f"is not all that reads {layer.name}")
        if isinstance(layer, Norm):
            self.layers[layer.name] = replace(layer, relu=True)
        else:
            del self.without_relu[layer.name]
        self.of[node] = layer.name

    def _flatten(self, node: fx.Node, start: int, end: int):
        source = self._source(node)
        if not isinstance(self.layers.get(source), Pool) or start != 1 or end not in (-1, 3):
            self.refuse(node, "must flatten from dimension 1 on, behind the mean of all pixels")
        self.of[node] = source

    def _output(self, node: fx.Node):
        given = node.args[0]
        last = list(self.layers.values())[-1] if self.layers else None
        if not isinstance(given, fx.Node) or not isinstance(last, Linear) or self.of.get(given) != last.name:
            raise UserError(f"{self.name}: the result must be that of a Linear layer at the end")

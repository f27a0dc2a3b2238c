"""An ONNX model as a network of layers: shapes only, for what it costs. Batch dimensions are taken out, weights need not be there in full.

Products by constants are layers, so are poolings, normalisations, activations, sums and concatenations. What only moves, casts or scales
(reshapes, quantisation, products with a constant) costs nothing here, nor does a softmax at the end, which is the host's.
"""

from collections.abc import Callable, Iterable
from copy import deepcopy
from math import prod

import onnx
from onnx import shape_inference

from sw.frontends.onnx_operators import OnnxError
from sw.workloads.network import Add, Concat, Conv, Layer, Linear, Network, NetworkError, Norm, Pool, Relu, Shape

CONVOLUTIONS = {"Conv": (0, 1), "ConvInteger": (0, 1), "QLinearConv": (0, 3)}           # where data and weights are among the inputs
PRODUCTS = {"Gemm": (0, 1), "MatMul": (0, 1), "MatMulInteger": (0, 1), "QLinearMatMul": (0, 3)}
POOLINGS = {"MaxPool": "max", "AveragePool": "average", "GlobalMaxPool": "max", "GlobalAveragePool": "average"}
NORMALISATIONS = ("BatchNormalization", "InstanceNormalization", "GroupNormalization", "LayerNormalization", "LRN")
ACTIVATIONS = ("Relu", "Clip", "LeakyRelu", "PRelu", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Elu", "Selu", "Gelu", "Softplus",
               "Mish")
NOTHING = ("Identity", "Dropout", "Cast", "Flatten", "Reshape", "Squeeze", "Unsqueeze", "QuantizeLinear", "DequantizeLinear", "Softmax",
           "LogSoftmax", "Transpose", "ArgMax")
SUMS = ("Add", "Sum")
SCALES = ("Mul", "Sub", "Div")          # by constants
NUMBERS = ("Shape", "Size", "Constant", "ConstantOfShape", "Range")     # of shapes: what comes of them alone is no data


def network_of(model: onnx.ModelProto, name: str) -> Network:
    """The network of one sample. Raises OnnxError for an operator without a cost here, several inputs, or sizes that are not known."""
    try:
        onnx.checker.check_model(model)
        inferred = shape_inference.infer_shapes(single(model), strict_mode=False, data_prop=True)
    except (onnx.checker.ValidationError, shape_inference.InferenceError) as error:
        raise OnnxError(f"the model is not valid: {str(error).splitlines()[0]}") from None
    reader = _Reader(inferred.graph)
    for index, node in enumerate(inferred.graph.node):
        reader.read(index, node)
    try:
        return Network(name, reader.input_shape, tuple(reader.layers))
    except NetworkError as error:
        raise OnnxError(str(error)) from None


def single(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of the model for one sample: shapes within it are inferred anew."""
    model = deepcopy(model)
    given = {item.name for item in model.graph.initializer}
    inputs = [item for item in model.graph.input if item.name not in given]
    if len(inputs) != 1:
        raise OnnxError(f"the model has {len(inputs)} inputs, a network has 1")
    shape = inputs[0].type.tensor_type.shape
    if len(shape.dim) not in (2, 4):
        raise OnnxError(f"input {inputs[0].name!r} has {len(shape.dim)} dimensions, not 4 (images) or 2 (vectors)")
    shape.dim[0].dim_value = 1
    for axis, dimension in enumerate(shape.dim):
        if dimension.dim_value < 1:
            raise OnnxError(f"input {inputs[0].name!r}: dimension {axis} is dynamic ({dimension.dim_param or 'unknown'}); give it a size")
    del model.graph.value_info[:]
    for item in model.graph.output:
        item.type.tensor_type.ClearField("shape")
    return model


class _Reader:
    """Makes layers of nodes. `made`: for each tensor with data the name of the layer that makes it, or "input"."""

    def __init__(self, graph: onnx.GraphProto):
        self.constants = {item.name: tuple(item.dims) for item in graph.initializer}
        self.shapes = {item.name: tuple(one.dim_value for one in item.type.tensor_type.shape.dim)
                       for item in (*graph.value_info, *graph.output, *graph.input)}
        source = next(item.name for item in graph.input if item.name not in self.constants)
        self.input_shape = self._sample("the input", source)
        self.made = {source: "input"}
        self.results: dict[str, Shape] = {"input": self.input_shape}
        self.layers: list[Layer] = []

    def read(self, index: int, node: onnx.NodeProto):
        """One node."""
        where = f"node {node.name or index!r} ({node.op_type})"
        data = [name for name in node.input if name in self.made]
        if node.op_type in NUMBERS or not data:
            for name in node.output:
                self.constants.setdefault(name, self.shapes.get(name, ()))
            return
        attributes = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
        makers: tuple[tuple[Iterable[str], Callable], ...] = (
            (CONVOLUTIONS, self._convolution), (PRODUCTS, self._product), (POOLINGS, self._pooling), (SUMS, self._sum),
            (NORMALISATIONS, self._same(Norm)), (ACTIVATIONS, self._same(Relu)), (("Concat",), self._concat), (SCALES, self._scale),
            (NOTHING, self._nothing))
        make = next((make for names, make in makers if node.op_type in names), None)
        if make is None or node.domain not in ("", "ai.onnx"):
            raise OnnxError(f"{where}: the cost of this operator is not known")
        make(where, node, attributes, data)

    def _sample(self, where: str, name: str) -> Shape:
        """Channels, height and width of a tensor, of one sample."""
        match self.shapes.get(name, ())[1:]:
            case (channels, height, width) if min(channels, height, width) > 0:
                return channels, height, width
            case (rows, channels) if min(rows, channels) > 0:
                return channels, rows, 1
            case (channels,) if channels > 0:
                return channels, 1, 1
        raise OnnxError(f"{where}: the shape of {name!r} is {list(self.shapes.get(name, []))}, not that of images or rows")

    def _weights(self, where: str, name: str) -> tuple[int, ...]:
        if name not in self.constants or not self.constants[name]:
            raise OnnxError(f"{where}: {name!r} is no constant")
        return self.constants[name]

    def _add(self, layer: type[Layer], node: onnx.NodeProto, sources: Iterable[str], shape: Shape, **fields):
        name, number, base = node.name or node.output[0], 1, node.name or node.output[0]
        while name in self.results:
            number += 1
            name = f"{base} ({number})"
        self.layers.append(layer(name=name, inputs=tuple(self.made[source] for source in sources), shape=shape, **fields))
        self.results[name], self.made[node.output[0]] = shape, name

    def _convolution(self, where: str, node: onnx.NodeProto, attributes: dict, data: list[str]):
        at, weights_at = CONVOLUTIONS[node.op_type]
        source, shape = self._sample(where, node.input[at]), self._sample(where, node.output[0])
        weights = self._weights(where, node.input[weights_at])
        kernel = weights[2:]
        if len(kernel) != 2 or any(step != 1 for step in attributes.get("dilations", ())):
            raise OnnxError(f"{where}: dilations = {list(attributes.get('dilations', ()))}, kernel = {list(kernel)}; the cost is known of "
                            "two dimensions without dilation")
        self._add(Conv, node, [node.input[at]], shape, source=source, kernel=kernel, groups=attributes.get("group", 1),
                  **_steps(attributes, source, kernel, shape))

    def _product(self, where: str, node: onnx.NodeProto, attributes: dict, data: list[str]):
        at, weights_at = PRODUCTS[node.op_type]
        weights, shape = self._weights(where, node.input[weights_at]), self._sample(where, node.output[0])
        if len(weights) != 2 or attributes.get("transA"):
            raise OnnxError(f"{where}: a product with weights of shape {list(weights)} is not known")
        features, outputs = weights[::-1] if attributes.get("transB") else weights
        rows = prod(self.shapes[node.output[0]][1:]) // outputs
        self._add(Linear, node, [node.input[at]], (outputs, rows, 1) if rows > 1 else (outputs, *shape[1:]), features=features)

    def _pooling(self, where: str, node: onnx.NodeProto, attributes: dict, data: list[str]):
        source, shape = self._sample(where, data[0]), self._sample(where, node.output[0])
        kernel = source[1:] if node.op_type.startswith("Global") else tuple(attributes["kernel_shape"])
        if len(kernel) != 2 or any(step != 1 for step in attributes.get("dilations", ())):
            raise OnnxError(f"{where}: dilations = {list(attributes.get('dilations', ()))}, kernel = {list(kernel)} is not known")
        self._add(Pool, node, data[:1], shape, source=source, kind=POOLINGS[node.op_type], kernel=kernel,
                  **_steps(attributes, source, kernel, shape))

    def _same(self, kind: type[Layer]) -> Callable:
        def make(where: str, node: onnx.NodeProto, attributes: dict, data: list[str]):
            self._add(kind, node, data[:1], self.results[self.made[data[0]]])
        return make

    def _scale(self, where: str, node: onnx.NodeProto, attributes: dict, data: list[str]):
        if len(data) > 1:
            raise OnnxError(f"{where}: the cost of this operator on two tensors is not known")
        self._nothing(where, node, attributes, data)

    def _sum(self, where: str, node: onnx.NodeProto, attributes: dict, data: list[str]):
        if len(data) == 1:
            return self._nothing(where, node, attributes, data)
        self._add(Add, node, data, max((self.results[self.made[name]] for name in data), key=prod))

    def _concat(self, where: str, node: onnx.NodeProto, attributes: dict, data: list[str]):
        if len(data) == 1:
            return self._nothing(where, node, attributes, data)
        if attributes["axis"] not in (1, -3):
            raise OnnxError(f"{where}: axis = {attributes['axis']} is none of 1, -3 (channels)")
        self._add(Concat, node, data, self._sample(where, node.output[0]))

    def _nothing(self, where: str, node: onnx.NodeProto, attributes: dict, data: list[str]):
        self.made[node.output[0]] = self.made[data[0]]


def _steps(attributes: dict, source: Shape, kernel: tuple[int, ...], shape: Shape) -> dict:
    """Stride and padding. The padding behind is what the result's size asks for: it covers `auto_pad` and `ceil_mode`, too."""
    stride = tuple(attributes.get("strides", (1, 1)))
    padding = attributes.get("pads", (0, 0, 0, 0))
    need = [(shape[1 + axis] - 1) * stride[axis] + kernel[axis] - source[1 + axis] for axis in (0, 1)]
    mode = attributes.get("auto_pad", b"NOTSET").decode()
    if mode.startswith("SAME"):
        before = [max(0, (total + (mode == "SAME_LOWER")) // 2) for total in need]
    else:
        before = list(padding[:2])
    after = [max(0, total - first) for total, first in zip(need, before)]
    return {"stride": stride, "padding": (*before, *after)}


def load_network(data: bytes, name: str) -> Network:
    """The network of a file. Raises OnnxError."""
    from sw.frontends.onnx_model import load_model

    return network_of(load_model(data, name), name)

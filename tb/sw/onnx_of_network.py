"""A network of layers written as an ONNX model whose weights are zeros: the reverse of `sw.frontends.onnx_network`."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from sw.workloads.network import Add, Concat, Conv, Layer, Linear, Network, Norm, Pool, Relu

OPSET = 21


def write(network: Network, batch: int | str = 1) -> onnx.ModelProto:
    """The model; weights are made by ConstantOfShape, so that it stays small. `batch`: a number, or the name of a dynamic dimension."""
    nodes: list[onnx.NodeProto] = []
    sizes: list[onnx.TensorProto] = []

    def weights(name: str, *shape: int) -> str:
        sizes.append(numpy_helper.from_array(np.array(shape, np.int64), f"{name}.shape"))
        nodes.append(helper.make_node("ConstantOfShape", [f"{name}.shape"], [name]))
        return name

    def node(layer: Layer) -> tuple[str, list[str], dict]:
        inputs, channels = list(layer.inputs), layer.shape[0]
        match layer:
            case Conv():
                kernel = weights(f"{layer.name}.w", channels, layer.source[0] // layer.groups, *layer.kernel)
                return "Conv", [*inputs, kernel], {"strides": layer.stride, "pads": layer.padding, "group": layer.groups}
            case Linear():
                flat = f"{layer.name}.flat"
                nodes.append(helper.make_node("Flatten", inputs, [flat]))
                return "Gemm", [flat, weights(f"{layer.name}.w", channels, layer.features)], {"transB": 1}
            case Pool():
                operator = "MaxPool" if layer.kind == "max" else "AveragePool"
                return operator, inputs, {"kernel_shape": layer.kernel, "strides": layer.stride, "pads": layer.padding}
            case Norm():
                return "BatchNormalization", [*inputs, *(weights(f"{layer.name}.{part}", channels) for part in "smvb")], {}
            case Relu():
                return "Relu", inputs, {}
            case Add():
                return "Sum", inputs, {}
            case Concat():
                return "Concat", inputs, {"axis": 1}
        raise TypeError(layer)

    for layer in network.layers:
        operator, inputs, attributes = node(layer)
        nodes.append(helper.make_node(operator, inputs, [layer.name], name=layer.name, **attributes))
    last = network.layers[-1]
    value = helper.make_tensor_value_info
    shape = [batch, *(last.shape if not isinstance(last, Linear) else last.shape[:1])]
    graph = helper.make_graph(nodes, "network", [value("input", TensorProto.FLOAT, [batch, *network.input_shape])],
                              [value(last.name, TensorProto.FLOAT, shape)], sizes)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)

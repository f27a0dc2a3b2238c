"""A small quantised residual network as an ONNX model, its float operators between DequantizeLinear and QuantizeLinear."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

CHANNELS = 10


def build(seed: int) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """The model and its input: a convolution, a block whose sum is clipped, a pooling by maxima, one by averages, a global average."""
    rng = np.random.default_rng(seed)
    constants: dict[str, np.ndarray] = {}

    def constant(name: str, value) -> str:
        constants[name] = np.asarray(value)
        return name

    def scale(name: str, zero_point: int, dtype: type = np.uint8) -> list[str]:
        return [constant(f"{name}_scale", np.float32(rng.uniform(0.02, 0.06))), constant(f"{name}_zero", dtype(zero_point))]

    def conv(source: str, of: list[str], target: str, to: list[str], inputs: int) -> onnx.NodeProto:
        weights = [constant(f"{target}_w", rng.integers(-90, 90, (CHANNELS, inputs, 3, 3)).astype(np.int8)),
                   constant(f"{target}_ws", np.float32(0.012 / inputs)), constant(f"{target}_wz", np.int8(0))]
        return helper.make_node("QLinearConv", [source, *of, *weights, *to], [target], name=target, pads=[1, 1, 1, 1])

    def floats(source: str, of: list[str]) -> tuple[onnx.NodeProto, str]:
        return helper.make_node("DequantizeLinear", [source, *of], [f"{source}_float"], name=f"{source}_float"), f"{source}_float"

    image, first, block, summed, means, last = (scale(name, zero) for name, zero in (
        ("image", 120), ("first", 100), ("block", 140), ("summed", 0), ("means", 20), ("last", 5)))
    nodes = [conv("image", image, "first", first, 3), conv("first", first, "block", block, CHANNELS)]
    for source, of in (("first", first), ("block", block)):
        nodes.append(floats(source, of)[0])
    nodes += [
        helper.make_node("Add", ["block_float", "first_float"], ["sum"], name="sum"),
        helper.make_node("Relu", ["sum"], ["clipped"], name="relu"),
        helper.make_node("QuantizeLinear", ["clipped", *summed], ["summed"], name="summed"),
        helper.make_node("MaxPool", ["summed"], ["largest"], name="largest", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
        floats("largest", summed)[0],
        helper.make_node("AveragePool", ["largest_float"], ["average"], name="average", kernel_shape=[2, 2], pads=[0, 0, 1, 1]),
        helper.make_node("QuantizeLinear", ["average", *means], ["means"], name="means"),
        floats("means", means)[0],
        helper.make_node("GlobalAveragePool", ["means_float"], ["global"], name="global"),
        helper.make_node("QuantizeLinear", ["global", *last], ["last"], name="last"),
    ]
    graph = helper.make_graph(
        nodes, "residual", [helper.make_tensor_value_info("image", TensorProto.UINT8, [2, 3, 9, 8])],
        [helper.make_tensor_value_info("summed", TensorProto.UINT8, [2, CHANNELS, 9, 8]),
         helper.make_tensor_value_info("last", TensorProto.UINT8, [2, CHANNELS, 1, 1])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    return model, {"image": rng.integers(0, 256, (2, 3, 9, 8)).astype(np.uint8)}

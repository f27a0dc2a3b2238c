"""ONNX models on the machine: integer operators in every form against ONNX's reference evaluator, fall-backs with reasons, refusals."""

import contextlib

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from gen.presets import PRESETS
from sw.frontends.onnx_backend import FlexWaveBackend
from sw.frontends.onnx_model import OnnxError, OnnxModel
from sw.golden.conv import conv2d

KINDS = {np.dtype(np.int8): TensorProto.INT8, np.dtype(np.uint8): TensorProto.UINT8, np.dtype(np.float32): TensorProto.FLOAT,
         np.dtype(np.float16): TensorProto.FLOAT16, np.dtype(np.int32): TensorProto.INT32}


def model_of(node, inputs: dict[str, np.ndarray], output: np.ndarray) -> onnx.ModelProto:
    """A model of one node; types and shapes are those of the values."""
    infos = [helper.make_tensor_value_info(name, KINDS[value.dtype], value.shape) for name, value in inputs.items()]
    graph = helper.make_graph([node], "test", infos, [helper.make_tensor_value_info("y", KINDS[output.dtype], output.shape)])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def check(node, inputs: dict[str, np.ndarray], *, place: str = "machine", reason: str = ""):
    """The node gives what the reference evaluator gives, and runs where it should."""
    wanted = np.asarray(next(iter(ReferenceEvaluator(node).run(None, inputs))))
    ours = OnnxModel(model_of(node, inputs, wanted), PRESETS["small"], engine="model")
    found = ours.run(inputs)["y"]
    assert [run.place for run in ours.runs] == [place], ours.runs
    assert reason in ours.runs[0].reason
    assert found.dtype == wanted.dtype and found.shape == wanted.shape
    np.testing.assert_array_equal(found, wanted)


def random(rng, shape, dtype: npt.DTypeLike = np.int8) -> np.ndarray:
    """Over the whole range of a type of 8 bits."""
    return rng.integers(0, 256, shape, np.uint8).view(dtype)


CONVOLUTIONS = [
    ((1, 3, 6, 5), (4, 3, 3, 3), {"pads": [1, 1, 1, 1]}),
    ((2, 5, 7, 6), (3, 5, 3, 2), {"strides": [2, 2], "pads": [0, 1, 2, 1]}),
    ((1, 4, 9, 9), (6, 2, 3, 3), {"group": 2}),
    ((1, 6, 5, 5), (6, 1, 3, 3), {"group": 6, "pads": [1, 1, 1, 1]}),
    ((1, 20, 4, 4), (40, 1, 1, 1), {"group": 20}),
    ((1, 2, 9, 8), (3, 2, 3, 2), {"dilations": [2, 3]}),
    ((1, 2, 7, 8), (3, 2, 3, 3), {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    ((1, 2, 8, 7), (3, 2, 2, 2), {"auto_pad": "SAME_LOWER"}),
    ((1, 2, 8, 7), (3, 2, 2, 2), {"auto_pad": "VALID"}),
]


@pytest.mark.parametrize("x_shape,w_shape,attributes", CONVOLUTIONS)
@pytest.mark.parametrize("x_type,w_type,y_type", [(np.uint8, np.int8, np.uint8), (np.int8, np.int8, np.int8), (np.uint8,) * 3])
def test_qlinear_conv(x_shape, w_shape, attributes, x_type, w_type, y_type):
    rng = np.random.default_rng(len(attributes) + w_shape[0])
    inputs = {
        "x": random(rng, x_shape, x_type), "xs": np.float32(0.02), "xz": random(rng, (), x_type),
        "w": random(rng, w_shape, w_type), "ws": rng.uniform(0.001, 0.02, w_shape[0]).astype(np.float32),
        "wz": np.zeros(w_shape[0], w_type) if w_type == np.int8 else np.full(w_shape[0], 131, w_type),
        "ys": np.float32(0.3), "yz": random(rng, (), y_type), "b": rng.integers(-999, 999, w_shape[0]).astype(np.int32)}
    inputs = {name: np.asarray(value) for name, value in inputs.items()}
    check(helper.make_node("QLinearConv", list(inputs), ["y"], **attributes), inputs)


@pytest.mark.parametrize("x_shape,w_shape,attributes", CONVOLUTIONS)
def test_conv_integer(x_shape, w_shape, attributes):
    """A zero point for each output: a product for each different one."""
    rng = np.random.default_rng(5)
    inputs = {"x": random(rng, x_shape, np.uint8), "w": random(rng, w_shape), "xz": np.asarray(np.uint8(77)),
              "wz": rng.integers(-2, 2, w_shape[0]).astype(np.int8)}
    check(helper.make_node("ConvInteger", list(inputs), ["y"], **attributes), inputs)


def test_conv_of_lines():
    """One spatial dimension is an image of one line."""
    rng = np.random.default_rng(6)
    inputs = {"x": random(rng, (2, 3, 11)), "w": random(rng, (4, 3, 3))}
    node = helper.make_node("ConvInteger", list(inputs), ["y"], pads=[1, 0], strides=[2])
    wanted = conv2d(inputs["x"].transpose(0, 2, 1)[:, None], inputs["w"].transpose(2, 1, 0)[None], stride=2, pad=(0, 1, 0, 0))
    wanted = np.ascontiguousarray(wanted[:, 0].transpose(0, 2, 1))
    ours = OnnxModel(model_of(node, inputs, wanted), PRESETS["small"], engine="model")
    np.testing.assert_array_equal(ours.run(inputs)["y"], wanted)
    assert ours.runs[0].place == "machine"


@pytest.mark.parametrize("a_shape,b_shape", [
    ((4, 9), (9, 5)), ((2, 4, 9), (9, 5)), ((2, 4, 9), (2, 9, 5)), ((3, 1, 4, 9), (2, 9, 5)), ((9,), (9, 5)), ((4, 9), (9,)), ((9,), (9,)),
])
def test_matmul_integer(a_shape, b_shape):
    rng = np.random.default_rng(7)
    inputs = {"a": random(rng, a_shape, np.uint8), "b": random(rng, b_shape), "az": np.asarray(np.uint8(3)), "bz": np.asarray(np.int8(-4))}
    check(helper.make_node("MatMulInteger", list(inputs), ["y"]), inputs)


def test_matmul_integer_zero_points_of_rows_and_columns():
    rng = np.random.default_rng(8)
    inputs = {"a": random(rng, (6, 9), np.uint8), "b": random(rng, (9, 5)), "az": rng.integers(0, 3, 6).astype(np.uint8),
              "bz": rng.integers(-1, 2, 5).astype(np.int8)}
    node = helper.make_node("MatMulInteger", list(inputs), ["y"])
    wanted = (inputs["a"].astype(int) - inputs["az"][:, None].astype(int)) @ (inputs["b"].astype(int) - inputs["bz"].astype(int))
    found = OnnxModel(model_of(node, inputs, wanted.astype(np.int32)), PRESETS["small"], engine="model").run(inputs)["y"]
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("a_shape,b_shape", [((4, 9), (9, 5)), ((2, 4, 9), (2, 9, 5))])
def test_qlinear_matmul(a_shape, b_shape):
    rng = np.random.default_rng(9)
    inputs = {"a": random(rng, a_shape, np.uint8), "as": np.float32(0.01), "az": np.uint8(120), "b": random(rng, b_shape),
              "bs": np.float32(0.02), "bz": np.int8(1), "ys": np.float32(0.05), "yz": np.uint8(100)}
    inputs = {name: np.asarray(value) for name, value in inputs.items()}
    check(helper.make_node("QLinearMatMul", list(inputs), ["y"]), inputs)


def test_negative_pads_crop():
    """The reference evaluator cannot; the golden convolution of the cropped image can."""
    rng = np.random.default_rng(2)
    inputs = {"x": random(rng, (1, 2, 8, 9)), "w": random(rng, (3, 2, 3, 3))}
    node = helper.make_node("ConvInteger", list(inputs), ["y"], pads=[-2, 1, -1, -3])
    wanted = conv2d(inputs["x"].transpose(0, 2, 3, 1)[:, 2:7, :6], inputs["w"].transpose(2, 3, 1, 0), pad=(0, 1, 0, 0))
    wanted = wanted.transpose(0, 3, 1, 2)
    found = OnnxModel(model_of(node, inputs, wanted), PRESETS["small"], engine="model").run(inputs)["y"]
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("shape,attributes,reason", [
    ((1, 2, 6, 6), {"strides": [1, 2]}, "strides = [1, 2] differ"),
    ((1, 2, 6, 6), {"pads": [20, 20, 20, 20]}, "padding top = 20 is outside 0..15"),
    ((1, 2, 3, 3000), {}, "buffers.slice_words = 1024 is outside"),      # known only when the product is planned
])
def test_fall_back(shape, attributes, reason):
    """What the machine cannot do runs on the host, and the reason is named."""
    rng = np.random.default_rng(1)
    inputs = {"x": random(rng, shape), "w": random(rng, (3, 2, 3, 3))}
    check(helper.make_node("ConvInteger", ["x", "w"], ["y"], **attributes), inputs, place="host", reason=reason)


def test_float_runs_on_the_host():
    rng = np.random.default_rng(1)
    inputs = {"a": rng.normal(size=(3, 4)).astype(np.float32), "b": rng.normal(size=(4, 2)).astype(np.float32)}
    check(helper.make_node("MatMul", ["a", "b"], ["y"]), inputs, place="host", reason="the machine has no MatMul")


@pytest.mark.parametrize("shapes,place", [
    (((4, 9), (9, 4), (1,), (1,), (4,)), "machine"),
    (((4, 9), (9, 4), (1,), (1,), (4, 1)), "host"),
    (((4, 9), (9, 4), (4, 1), (1,), (1,)), "host"),
])
def test_scales_by_shape(shapes, place):
    """A value for each column is one of the second operand's shape, not just as many."""
    rng = np.random.default_rng(4)
    a, b, a_scale, y_scale, b_scale = shapes
    inputs = {"a": random(rng, a, np.uint8), "as": rng.uniform(0.01, 0.02, a_scale).astype(np.float32), "az": np.asarray(np.uint8(9)),
              "b": random(rng, b), "bs": rng.uniform(0.01, 0.02, b_scale).astype(np.float32), "bz": np.asarray(np.int8(1)),
              "ys": rng.uniform(0.1, 0.2, y_scale).astype(np.float32), "yz": np.asarray(np.uint8(100))}
    model = model_of(helper.make_node("QLinearMatMul", list(inputs), ["y"]), inputs, np.zeros((4, 4), np.uint8))
    ours = OnnxModel(model, PRESETS["small"], engine="model")
    with contextlib.suppress(OnnxError):        # the reference evaluator does not take every shape
        ours.run(inputs)
    assert ours.runs[0].place == place


@pytest.mark.parametrize("x_shape,w_shape,zero_points,group,message", [
    ((1, 3, 6, 6), (5, 1, 3, 3), (np.int8, np.int8), 3, "x of shape (1, 3, 6, 6) and w of shape (5, 1, 3, 3) do not fit with group = 3"),
    ((1, 3, 6, 6), (4, 2, 3, 3), (np.int8, np.int8), 1, "x of shape (1, 3, 6, 6) and w of shape (4, 2, 3, 3) do not fit with group = 1"),
    ((1, 2, 6, 6), (4, 2, 3, 3), (np.int8, np.uint8), 1, "w_zero_point has type uint8 and shape (), its operand int8"),
])
def test_inputs_that_do_not_fit(x_shape, w_shape, zero_points, group, message):
    rng = np.random.default_rng(4)
    inputs = {"x": random(rng, x_shape), "w": random(rng, w_shape)}
    inputs |= {name: np.asarray(kind(0)) for name, kind in zip(("xz", "wz"), zero_points)}
    node = helper.make_node("ConvInteger", list(inputs), ["y"], group=group, name="conv")
    with pytest.raises(OnnxError) as error:
        OnnxModel(model_of(node, inputs, np.zeros((1, 5, 4, 4), np.int32)), PRESETS["small"], engine="model").run(inputs)
    assert str(error.value) == f"node 'conv': {message}"


def test_errors_on_the_host_are_one_line():
    node = helper.make_node("Reshape", ["x", "shape"], ["y"], name="bad")
    inputs = {"x": np.zeros((2, 3), np.float32), "shape": np.array([4, 4])}
    infos = [helper.make_tensor_value_info("x", TensorProto.FLOAT, (2, 3)), helper.make_tensor_value_info("shape", TensorProto.INT64, (2,))]
    graph = helper.make_graph([node], "g", infos, [helper.make_tensor_value_info("y", TensorProto.FLOAT, (4, 4))])
    with pytest.raises(OnnxError) as error:
        OnnxModel(helper.make_model(graph, opset_imports=[helper.make_opsetid("ai.onnx", 21)], ir_version=10), PRESETS["small"]).run(inputs)
    assert str(error.value).startswith("node 'bad' (Reshape) on the host: ") and "\n" not in str(error.value)


def test_an_input_with_a_default():
    """Left out it has its value, given it has another."""
    rng = np.random.default_rng(5)
    a, b, other = random(rng, (3, 4)), random(rng, (4, 2)), random(rng, (4, 2))
    model = model_of(helper.make_node("MatMulInteger", ["a", "b"], ["y"]), {"a": a, "b": b}, np.zeros((3, 2), np.int32))
    model.graph.initializer.append(onnx.numpy_helper.from_array(b, "b"))
    ours = OnnxModel(model, PRESETS["small"], engine="model")
    np.testing.assert_array_equal(ours.run({"a": a})["y"], a.astype(int) @ b)
    np.testing.assert_array_equal(ours.run({"a": a, "b": other})["y"], a.astype(int) @ other)


def identity(shape, operator: str = "Relu", domain: str = "", name: str = "odd") -> onnx.ModelProto:
    graph = helper.make_graph([helper.make_node(operator, ["x"], ["y"], name=name, domain=domain)], "g",
                              [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
                              [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21), helper.make_opsetid("com.example", 1)], ir_version=10)


@pytest.mark.parametrize("model,message", [
    (identity([1, "n"]), "input 'x': dimension 1 is dynamic (n); give it a fixed size"),
    (identity([2], "Wobble", "com.example"), "node 'odd': operator com.example.Wobble is not supported and has no fall-back"),
    (identity([2], "Wobble"), "the model is not valid: No Op registered for Wobble"),
])
def test_refusals(model, message):
    with pytest.raises(OnnxError) as error:
        OnnxModel(model, PRESETS["small"])
    assert str(error.value).startswith(message) and "\n" not in str(error.value)


@pytest.mark.parametrize("inputs,message", [
    ({}, "input 'x' is missing"),
    ({"x": np.zeros(2)}, "input 'x' has type float64, the model takes float32"),
    ({"x": np.zeros(3, np.float32)}, "input 'x' has shape (3,), the model takes (2,)"),
    ({"x": np.zeros(2, np.float32), "z": np.zeros(2)}, "input 'z' is none of x"),
])
def test_input_refusals(inputs, message):
    model = OnnxModel(identity([2]), PRESETS["small"])
    with pytest.raises(OnnxError) as error:
        model.run(inputs)
    assert str(error.value).startswith(message)


def test_backend_options(monkeypatch):
    monkeypatch.setenv("FLEXWAVE_ENGINE", "fast")
    with pytest.raises(OnnxError, match="FLEXWAVE_ENGINE = 'fast' is none of rtl, model, golden"):
        FlexWaveBackend.prepare(identity([2]))
    with pytest.raises(OnnxError, match="device = 'CUDA' is none of CPU"):
        FlexWaveBackend.prepare(identity([2]), "CUDA")
    monkeypatch.setenv("FLEXWAVE_ENGINE", "model")
    monkeypatch.setenv("FLEXWAVE_CONFIG", "tiny")
    a, b = np.arange(6, dtype=np.uint8).reshape(2, 3), np.arange(6, dtype=np.uint8).reshape(3, 2)
    found, = FlexWaveBackend.run_node(helper.make_node("MatMulInteger", ["a", "b"], ["y"]), [a, b])
    np.testing.assert_array_equal(found, a.astype(int) @ b)

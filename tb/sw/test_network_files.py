"""Networks from files, for what they cost: ONNX models of every workload, SCALE-Sim topologies, and what is refused."""

import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from sw.cli.main import main
from sw.frontends.onnx_network import network_of
from sw.frontends.onnx_operators import OnnxError
from sw.frontends.scalesim import network_of as topology
from sw.frontends.scalesim import read_topology
from sw.workloads.builder import Builder
from sw.workloads.catalogue import NETWORKS, network
from sw.workloads.network import Conv, Linear, Pool
from tb.sw.digits_cnn import build as digits
from tb.sw.onnx_of_network import write
from tb.sw.test_scalesim import resnet50


@pytest.mark.parametrize("name", NETWORKS)
def test_every_workload_as_a_model(name):
    """Layer for layer what the catalogue has."""
    wanted = network(name)
    found = network_of(write(wanted, batch=3), name)
    assert [(type(layer), layer.shape, layer.inputs) for layer in found.layers] == \
        [(type(layer), layer.shape, layer.inputs) for layer in wanted.layers]
    for ours, theirs in zip(found.layers, wanted.layers):
        if isinstance(ours, Conv | Pool):
            assert isinstance(theirs, Conv | Pool) and ours.padding[:2] == theirs.padding[:2]
            assert (ours.source, ours.kernel, ours.stride) == (theirs.source, theirs.kernel, theirs.stride)
    assert (found.macs, found.input_shape) == (wanted.macs, wanted.input_shape)


def model(nodes, *, shape=(1, 4, 9, 9), weights=None, inputs=None) -> onnx.ModelProto:
    constants = {"w": (6, 4, 3, 3)} | (weights or {})
    value = helper.make_tensor_value_info
    made = [helper.make_node(operator, sources, targets, name=operator.lower(), **attributes)
            for operator, sources, targets, attributes in nodes]
    graph = helper.make_graph(
        made, "g", inputs or [value("x", TensorProto.FLOAT, shape)], [value("y", TensorProto.FLOAT, list("abcd"))],
        [numpy_helper.from_array(np.zeros(size, np.float32), name) for name, size in constants.items()])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


@pytest.mark.parametrize("attributes, out, padding", [
    ({"auto_pad": "SAME_UPPER", "strides": [2, 2]}, (5, 5), (1, 1, 1, 1)),
    ({"auto_pad": "SAME_LOWER", "strides": [3, 3]}, (3, 3), (0, 0, 0, 0)),
    ({"auto_pad": "VALID", "strides": [2, 2]}, (4, 4), (0, 0, 0, 0)),
    ({"pads": [0, 1, 2, 3]}, (9, 11), (0, 1, 2, 3)),
])
def test_paddings(attributes, out, padding):
    layer, = network_of(model([("Conv", ["x", "w"], ["y"], attributes)]), "n").layers
    assert isinstance(layer, Conv) and (layer.shape, layer.padding) == ((6, *out), padding)


def test_ceil_mode_pads_below():
    layer, = network_of(model([("MaxPool", ["x"], ["y"], {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1})]), "n").layers
    assert isinstance(layer, Pool) and layer.shape == (4, 5, 5) and layer.padding == (0, 0, 1, 1)


def test_quantised_models_and_rows():
    """Products of several rows; what quantises or reshapes costs nothing."""
    found = network_of(digits().model, "digits")
    assert [(type(layer).__name__, layer.shape) for layer in found.layers] == [
        ("Conv", (12, 8, 8)), ("Conv", (20, 8, 8)), ("Pool", (20, 4, 4)), ("Linear", (10, 1, 1))]
    rows, = network_of(model([("Flatten", ["x"], ["f"], {"axis": 2}), ("Identity", ["f"], ["g"], {}), ("MatMul", ["g", "v"], ["y"], {})],
                             weights={"v": (81, 5)}), "n").layers
    assert isinstance(rows, Linear) and rows.macs == rows.rows * 81 * 5


@pytest.mark.parametrize("wrong, message", [
    (model([("Einsum", ["x"], ["y"], {"equation": "abcd->abcd"})]), r"node 'einsum' \(Einsum\): the cost of this operator is not known"),
    (model([("Mul", ["x", "x"], ["y"], {})]), r"node 'mul' \(Mul\): the cost of this operator on two tensors"),
    (model([("Conv", ["x", "w"], ["y"], {"dilations": [2, 2]})]), r"node 'conv' \(Conv\): dilations = \[2, 2\]"),
    (model([("Concat", ["x", "x"], ["y"], {"axis": 2})]), r"node 'concat' \(Concat\): axis = 2"),
    (model([("Relu", ["x"], ["y"], {})], shape=(1, 4, "h", 9)), r"input 'x': dimension 2 is dynamic \(h\)"),
    (model([("Relu", ["x"], ["y"], {})], shape=(1, 4, 9)), r"input 'x' has 3 dimensions"),
    (model([("Add", ["x", "z"], ["y"], {})], inputs=[helper.make_tensor_value_info(name, TensorProto.FLOAT, (1, 4)) for name in "xz"]),
     "the model has 2 inputs, a network has 1"),
])
def test_refused_models(wrong, message):
    with pytest.raises(OnnxError, match=message):
        network_of(wrong, "n")


def test_a_topology_is_a_network():
    text = resnet50()
    found, rows = topology(text, "r50"), read_topology(text)
    assert [layer.macs for layer in found.layers] == [row.macs for row in rows]
    products = topology("Layer,M,N,K,\na,100,20,30\na,7,2,3\n", "g")
    assert [(layer.name, layer.macs) for layer in products.layers] == [("a", 60_000), ("a (2)", 42)]


def cost(capsys, *words: str) -> dict:
    assert main(["run", *words, "--json", "-"]) == 0
    return json.loads(capsys.readouterr().out)


def test_costs_on_the_command_line(tmp_path, capsys):
    """A model and a topology give the cycles of the same layers by name."""
    build = Builder("small", (8, 12, 12))
    build.conv(build.conv("input", 16, 3, norm=False), 8, 1, norm=False, relu=False)
    built = build.network()
    (tmp_path / "small.onnx").write_bytes(write(built, batch="n").SerializeToString())
    (tmp_path / "small.csv").write_text("Layer,H,W,R,S,C,K,stride\na,14,14,3,3,8,16,1\nb,12,12,1,1,16,8,1\n")
    found = cost(capsys, str(tmp_path / "small.onnx"), "--config", "small", "--batch", "2")
    assert found["macs"] == 2 * built.macs and found["batch"] == 2
    table = cost(capsys, str(tmp_path / "small.csv"), "--config", "small", "--batch", "2")
    assert [layer["macs"] for layer in table["layers"]] == [layer["macs"] for layer in found["layers"] if layer["macs"]]
    assert table["layers"][1]["cycles"] == found["layers"][-1]["cycles"]
    training = cost(capsys, str(tmp_path / "small.csv"), "--config", "small", "--phase", "training", "--batch", "4", "--schedule", "mbs2")
    assert training["macs"] == 4 * (3 * built.macs - built.products[0].macs)


@pytest.mark.parametrize("name, text, message", [
    ("a.csv", "Layer,H,W,R,S,C,K,stride\na,8,8,3,3,4,-1,1\n", "line 2 (a): kernels = -1 is outside"),
    ("a.csv", "Layer,H\n", "line 1: 2 columns"),
    ("a.csv", "Layer,H,W,R,S,C,K,stride\na,99,99,17,17,4,4,1\n", "kernel height = 17 is outside"),
    ("a.onnx", "nothing", "is not an ONNX file"),
    ("missing.csv", None, "cannot be read"),
])
def test_refused_files(tmp_path, capsys, name, text, message):
    if text is not None:
        (tmp_path / name).write_text(text)
    assert main(["run", str(tmp_path / name)]) == 2
    found = capsys.readouterr()
    assert message in found.err and found.err.count("\n") == 1 and not found.out

"""`flexwave run MODEL.onnx`: outputs, table, JSON, and one line for a mistake."""

import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from sw.cli.main import main


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A model of a product and a sigmoid behind it, and its inputs."""
    monkeypatch.chdir(tmp_path)
    nodes = [helper.make_node("MatMulInteger", ["a", "b"], ["c"], name="product"),
             helper.make_node("Cast", ["c"], ["d"], name="cast", to=TensorProto.FLOAT),
             helper.make_node("Sigmoid", ["d"], ["y"], name="squash")]
    graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("a", TensorProto.INT8, [5, 9]),
                                           helper.make_tensor_value_info("b", TensorProto.INT8, [9, 7])],
                              [helper.make_tensor_value_info("y", TensorProto.FLOAT, [5, 7])])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), "m.onnx")
    rng = np.random.default_rng(3)
    np.savez("x.npz", a=rng.integers(-9, 9, (5, 9)).astype(np.int8), b=rng.integers(-3, 3, (9, 7)).astype(np.int8))
    return tmp_path


def test_outputs_and_json(folder, capsys):
    assert main(["run", "m.onnx", "--engine", "model", "--config", "tiny", "--input", "x.npz", "--output", "y.npz", "--json", "-"]) == 0
    report = json.loads(capsys.readouterr().out)
    given, found = np.load("x.npz"), np.load("y.npz")["y"]
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-(given["a"].astype(int) @ given["b"]).astype(np.float32))), rtol=1e-5)
    assert [(layer["name"], layer["place"]) for layer in report["layers"]] == [("product", "machine"), ("cast", "host"), ("squash", "host")]
    assert report["macs"] == 5 * 9 * 7 and report["cycles"] == report["layers"][0]["cycles"] > 0
    assert report["utilization"] == pytest.approx(report["macs"] / (16 * report["cycles"]))
    assert main(["run", "m.onnx", "--engine", "model", "--config", "tiny", "--input", "x.npz"]) == 0
    text = capsys.readouterr().out
    assert "on the host: the machine has no Sigmoid" in text and "1 of 3 nodes on the machine" in text


def test_the_golden_engine(folder, capsys):
    """It runs nothing: its cycles are predictions. Programs have none."""
    assert main(["run", "m.onnx", "--engine", "golden", "--config", "tiny", "--input", "x.npz", "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["macs"] == 5 * 9 * 7
    assert main(["run", "x.npz", "--engine", "golden"]) == 2
    assert capsys.readouterr().err == "flexwave: engine = 'golden' is for models (.onnx), not for programs\n"


@pytest.mark.parametrize("words,message", [
    (["m.onnx", "--output", "y.npz"], "output = 'y.npz' is not for networks, which have no data (of a model give --input)"),
    (["m.onnx", "--input", "no.npz"], "input = 'no.npz' cannot be read: No such file"),
    (["m.onnx", "--input", "m.onnx"], "input = 'm.onnx' is not an .npz file of plain arrays"),
    (["no.onnx", "--input", "x.npz"], "model = 'no.onnx' cannot be read: No such file"),
    (["bad.onnx", "--input", "x.npz"], "model = 'bad.onnx' is not an ONNX file"),
    (["m.onnx", "--input", "x.npz", "--memory", "x"], "memory = 'x' is for programs"),
    (["m.onnx", "--input", "x.npz", "--limit", "5"], "limit = '5' is for programs"),
    (["m.onnx", "--input", "damaged.npz"], "input = 'damaged.npz' is not an .npz file of plain arrays"),
    (["m.onnx", "--input", "other.npz"], "input 'a' is missing"),
    (["m.onnx", "--input", "x.npz", "--output", "no/y.npz"], "output = 'no/y.npz': the folder 'no' does not exist"),
    (["x.npz", "--input", "x.npz"], "input = 'x.npz' is for models (.onnx)"),
])
def test_mistakes(folder, capsys, words, message):
    (folder / "bad.onnx").write_bytes(b"\xff" * 40)
    np.savez("other.npz", z=np.zeros(3))
    np.savez_compressed("damaged.npz", a=np.arange(4000))
    data = bytearray((folder / "damaged.npz").read_bytes())
    data[200:260] = bytes(60)
    (folder / "damaged.npz").write_bytes(data)
    assert main(["run", *words, "--engine", "model"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"flexwave: {message}") and error.count("\n") == 1


def test_a_wrong_machine_is_exit_1(folder, capsys, monkeypatch):
    """The golden model is asked about every product: here it disagrees."""
    from sw.runtime import product

    golden = product.golden
    monkeypatch.setattr(product, "golden", lambda work, tile: golden(work, tile) + 1)
    assert main(["run", "m.onnx", "--engine", "model", "--config", "tiny", "--input", "x.npz", "--output", "y.npz"]) == 1
    assert capsys.readouterr().err == "flexwave: result differs from the golden model in 35 of 35 values\n"
    assert not (folder / "y.npz").exists()

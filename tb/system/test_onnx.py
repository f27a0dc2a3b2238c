"""ONNX's own conformance tests through our backend, and a quantised CNN: integer operators on the RTL of `base`, the rest on the host."""

import re
import warnings

import numpy as np
import pytest
from onnx.reference import ReferenceEvaluator

import sw.frontends.onnx_backend as backend
from sw.frontends.onnx_model import OnnxModel
from tb.sw import residual_model
from tb.sw.digits_cnn import build
from tb.system.machines import machine

with warnings.catch_warnings():
    warnings.simplefilter("ignore")         # the test data of other operators overflows on purpose
    from onnx.backend.test import BackendTest

    tests = BackendTest(backend, __name__)       # pyright: ignore[reportArgumentType]  # a module is what ONNX's own backends pass

INTEGER = re.compile(r"qlinearconv|qlinearmatmul_.*float32|convinteger|matmulinteger")
FLOAT = re.compile(r"test_(basic_)?conv_|test_gemm_|test_matmul_")
# What the machine does not take, and the reason that the run gives; these pass through the host, too.
ON_HOST = {re.compile(r"qlinearmatmul_.*float16"): "has type float16, the machine takes float32",
           FLOAT: "the machine has no "}
INTEGER_TESTS, FLOAT_TESTS = 8, 22       # at least so many


def cases(pattern: re.Pattern[str]) -> list[str]:
    """Names of ONNX's node tests on the CPU."""
    return sorted(name for name in dir(tests.test_cases["OnnxBackendNodeModelTest"]) if name.endswith("_cpu") and pattern.search(name))


@pytest.fixture
def ran(monkeypatch):
    """Runs one conformance test; returns how its nodes ran."""
    kept = []
    real = backend.FlexWaveBackend.prepare.__func__

    def prepare(cls, model, device="CPU", **options):
        kept.append(real(cls, model, device, **options))
        return kept[-1]

    def call(name: str, engine: str):
        monkeypatch.setenv("FLEXWAVE_ENGINE", engine)
        monkeypatch.setattr(backend.FlexWaveBackend, "prepare", classmethod(prepare))
        monkeypatch.setattr(backend, "prepare", backend.FlexWaveBackend.prepare)
        case = tests.test_cases["OnnxBackendNodeModelTest"](name)
        getattr(case, name)()
        return kept[-1].model.runs

    return call


@pytest.mark.parametrize("name", cases(INTEGER))
def test_integer_operators_on_the_rtl(ran, name):
    assert [run.place for run in ran(name, "rtl")] == ["machine"]


@pytest.mark.parametrize("pattern,reason", ON_HOST.items(), ids=lambda value: "")
def test_the_rest_on_the_host(ran, pattern, reason):
    assert cases(pattern)
    for name in cases(pattern):
        runs = ran(name, "rtl")
        assert [run.place for run in runs] == ["host"] and reason in runs[0].reason, name


def test_nothing_is_missing():
    """The tests are there: a change of their names may not empty the lists above."""
    assert len(cases(INTEGER)) >= INTEGER_TESTS and len(cases(FLOAT)) >= FLOAT_TESTS


def test_a_quantised_cnn():
    """Handwritten digits: every value of the reference evaluator, so the same class for every image."""
    digits = build()
    model = OnnxModel(digits.model, machine("base"), engine="rtl")
    logits = model.run({"image": digits.images})["logits"]
    wanted = np.asarray(next(iter(ReferenceEvaluator(digits.model).run(None, {"image": digits.images}))))
    np.testing.assert_array_equal(logits, wanted)
    assert np.mean(logits.argmax(axis=1) == digits.labels) >= digits.float_accuracy - 0.03
    # On the host: what brings the image in and the logits out, and a change of shape.
    assert [run.name for run in model.runs if run.place == "machine"] == ["conv1", "conv2", "pool", "dense"]
    assert [run.name for run in model.runs if run.place == "host"] == ["quantise", "flatten", "dequantise", "add"]


def test_a_residual_network():
    """Nothing of it runs on the host: convolutions, a sum that is clipped, and three kinds of pooling."""
    for seed in (3, 4):
        network, given = residual_model.build(seed)
        model = OnnxModel(network, machine("small"), engine="rtl")
        found, wanted = model.run(given), list(ReferenceEvaluator(network).run(None, given))
        assert [run.operator for run in model.runs] == [
            "QLinearConv", "QLinearConv", "Add", "MaxPool", "AveragePool", "GlobalAveragePool"]
        assert {run.place for run in model.runs} == {"machine"}
        np.testing.assert_array_equal(found["summed"], np.asarray(wanted[0]))
        # The machine rounds an average once, floats after every addition.
        assert np.abs(found["last"].astype(int) - np.asarray(wanted[1]).astype(int)).max() <= 1

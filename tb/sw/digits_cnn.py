"""A small quantised CNN of scikit-learn's digits as an ONNX model: made with numpy and onnx, trained where training is cheap.

8 x 8 images, two convolutions with fixed edge-like kernels (random, but the same in every run), a pooling, and a layer trained by
scikit-learn on what they give. Quantised after training: weights int8 with a scale for each output, activations uint8.
"""

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

TEST_IMAGES = 64
FIRST, SECOND, CLASSES = 12, 20, 10


@dataclass(frozen=True)
class Digits:
    """The model (`TEST_IMAGES` images at a time), its test images as it takes them, their labels, and the float network's accuracy."""

    model: onnx.ModelProto
    images: np.ndarray
    labels: np.ndarray
    float_accuracy: float


def convolve(images: np.ndarray, kernel: np.ndarray, stride: int) -> np.ndarray:
    """NCHW float convolution, padded by one, clipped at zero."""
    padded = np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))[:, :, ::stride, ::stride]
    return np.maximum(np.einsum("nchwyx,ocyx->nohw", windows, kernel, optimize=True), 0)


def pool(images: np.ndarray) -> np.ndarray:
    """2 x 2 maximum."""
    batch, channels, height, width = images.shape
    return images.reshape(batch, channels, height // 2, 2, width // 2, 2).max(axis=(3, 5))


def build() -> Digits:
    """Train, quantise and write the model; deterministic."""
    import warnings

    from sklearn.datasets import load_digits
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import train_test_split

    pixels, labels = load_digits(return_X_y=True)
    train, test, train_labels, test_labels = map(np.asarray, train_test_split(
        np.asarray(pixels).reshape(-1, 1, 8, 8) / 16, labels, test_size=TEST_IMAGES, random_state=0, stratify=labels))
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(FIRST, 1, 3, 3)), rng.normal(size=(SECOND, FIRST, 3, 3)) / FIRST
    hidden = [convolve(train, first, 1)]
    hidden.append(pool(convolve(hidden[0], second, 1)))
    features = hidden[1].reshape(len(train), -1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        classifier = LogisticRegression(max_iter=300, C=10.0).fit(features, train_labels)
    test_features = pool(convolve(convolve(test, first, 1), second, 1)).reshape(len(test), -1)
    accuracy = float(np.mean(classifier.predict(test_features) == test_labels))
    logits = classifier.decision_function(features)
    return Digits(write(first, second, np.asarray(classifier.coef_), np.asarray(classifier.intercept_),
                        [float(value.max()) / 255 for value in hidden], float(np.abs(logits).max()) / 127),
                  test.astype(np.float32), test_labels, accuracy)


def write(first: np.ndarray, second: np.ndarray, dense: np.ndarray, intercept: np.ndarray, scales: list[float],
          logit_scale: float) -> onnx.ModelProto:
    """The quantised model; `scales` are those of the two hidden activations."""
    constants: dict[str, np.ndarray] = {"zero": np.uint8(0), "izero": np.int8(0), "s0": np.float32(1 / 16)}  # type: ignore[dict-item]

    def weight(name: str, values: np.ndarray):
        scale = np.abs(values).reshape(len(values), -1).max(axis=1) / 127
        constants[name] = np.rint(values / scale.reshape(-1, *[1] * (values.ndim - 1))).astype(np.int8)
        constants[f"{name}s"] = scale.astype(np.float32)

    weight("w1", first)
    weight("w2", second)
    weight("w3", dense)
    constants["w3"], constants["s3"] = np.ascontiguousarray(constants["w3"].T), np.float32(logit_scale)  # type: ignore[assignment]
    for name, scale in zip(("s1", "s2"), scales):
        constants[name] = np.float32(scale)  # type: ignore[assignment]
    constants["shape"] = np.array([TEST_IMAGES, SECOND * 16], np.int64)
    constants["bias"] = intercept.astype(np.float32)
    pads = [1, 1, 1, 1]
    nodes = [
        helper.make_node("QuantizeLinear", ["image", "s0", "zero"], ["x0"], name="quantise"),
        helper.make_node("QLinearConv", ["x0", "s0", "zero", "w1", "w1s", "izero", "s1", "zero"], ["x1"], name="conv1", pads=pads),
        helper.make_node("QLinearConv", ["x1", "s1", "zero", "w2", "w2s", "izero", "s2", "zero"], ["x2"], name="conv2", pads=pads),
        helper.make_node("MaxPool", ["x2"], ["x3"], name="pool", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Reshape", ["x3", "shape"], ["x4"], name="flatten"),
        helper.make_node("QLinearMatMul", ["x4", "s2", "zero", "w3", "w3s", "izero", "s3", "izero"], ["x5"], name="dense"),
        helper.make_node("DequantizeLinear", ["x5", "s3", "izero"], ["x6"], name="dequantise"),
        helper.make_node("Add", ["x6", "bias"], ["logits"], name="add"),
    ]
    graph = helper.make_graph(
        nodes, "digits", [helper.make_tensor_value_info("image", TensorProto.FLOAT, [TEST_IMAGES, 1, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [TEST_IMAGES, CLASSES])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)

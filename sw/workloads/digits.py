"""A classifier of handwritten digits, trained in float and quantised to int8 after training.

Data: the UCI digits that scikit-learn ships (1,797 images of 8 x 8, values 0..16). The network is a perceptron whose layer sizes need
all four modes on a 16 x 16 unit. Weights are int8 with a scale for each output, activations uint8 with the zero point 0 (they follow a
ReLU), the logits int8; every layer is requantised with one float32 multiplier for each output, as ONNX QLinear operators define it.
"""

from dataclasses import dataclass

import numpy as np

HIDDEN = (72, 40)
TEST_IMAGES = 256
SEED = 0


@dataclass(frozen=True)
class Layer:
    """A quantised dense layer: uint8 inputs (batch x k) times int8 weights (k x n), bias and multiplier for each of the n outputs."""

    name: str
    weights: np.ndarray       # int8, k x n
    bias: np.ndarray          # int32, n
    multiplier: np.ndarray    # float32, n: input scale * weight scale / output scale
    output: str               # "uint8" behind a ReLU, "int8" for logits
    zero_point: int
    relu: bool


@dataclass(frozen=True)
class Classifier:
    """The quantised network with its test images and labels, and the float network's accuracy on the same images."""

    layers: tuple[Layer, ...]
    images: np.ndarray        # uint8, batch x 64
    labels: np.ndarray
    float_accuracy: float


def train() -> Classifier:
    """Train (about two seconds on one core) and quantise; deterministic for given versions of the libraries."""
    import warnings

    from sklearn.datasets import load_digits
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.model_selection import train_test_split
    from sklearn.neural_network import MLPClassifier

    images, labels = load_digits(return_X_y=True)
    x_train, x_test, y_train, y_test = map(np.asarray, train_test_split(
        images, labels, test_size=TEST_IMAGES, random_state=SEED, stratify=labels))
    network = MLPClassifier(HIDDEN, max_iter=60, random_state=SEED)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        network.fit(x_train / 16, y_train)
    layers = quantise(network.coefs_, network.intercepts_, x_train / 16, input_scale=1 / 16)
    return Classifier(layers, x_test.astype(np.uint8), y_test, float(network.score(x_test / 16, y_test)))


def quantise(weights: list[np.ndarray], biases: list[np.ndarray], calibration: np.ndarray, *, input_scale: float) -> tuple[Layer, ...]:
    """Quantise a ReLU perceptron after training; `calibration` inputs set the range of each activation."""
    layers, values, scale = [], calibration, input_scale
    for i, (weight, bias) in enumerate(zip(weights, biases)):
        last = i == len(weights) - 1
        values = values @ weight + bias
        if not last:
            values = np.maximum(values, 0)
        weight_scale = np.maximum(np.abs(weight).max(axis=0), 1e-6) / 127
        output_scale = float(np.abs(values).max()) / (127 if last else 255)
        layers.append(Layer(
            name=f"dense{i + 1}",
            weights=np.clip(np.rint(weight / weight_scale), -127, 127).astype(np.int8),
            bias=np.rint(bias / (scale * weight_scale)).astype(np.int32),
            multiplier=(scale * weight_scale / output_scale).astype(np.float32),
            output="int8" if last else "uint8",
            zero_point=0,
            relu=not last,
        ))
        scale = output_scale
    return tuple(layers)

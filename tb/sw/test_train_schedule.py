"""Learning rates against values by hand, and the two forms of momentum against each other; orders of images."""

import numpy as np
import pytest

from sw.golden.training import momentum_step
from sw.runtime.errors import UserError
from sw.train.data import Data, batches, digits, load, order
from sw.train.schedule import Schedule, scaled
from tb.sw.train_works import few

SEED = 5


def test_linear_rule():
    """Goyal et al.: 0.1 for 256 images is 3.2 for 8,192."""
    assert scaled(0.1, 8192, 256) == pytest.approx(3.2)
    assert scaled(0.05, 16, 32) == pytest.approx(0.025)


@pytest.mark.parametrize("batch, done, rate", [
    (128, 0, 0.1),          # the rate of 32 images at the start of the warm-up
    (128, 1, 0.25),         # half of it: between 0.1 and 4 x 0.1
    (128, 1.5, 0.325),
    (128, 2, 0.4),          # its end
    (128, 6, 0.2),          # half of the cosine
    (128, 4, 0.34142136),   # a quarter: 0.4 (1 + cos 45 degrees) / 2
    (128, 10, 0.0),
    (32, 0, 0.1),           # nothing to warm up to
    (32, 1.9, 0.1),
    (32, 6, 0.05),
    (8, 0, 0.025),
])
def test_rates(batch, done, rate):
    assert Schedule(epochs=10, rate=0.1, warm_up=2).at(done, batch) == pytest.approx(rate, abs=1e-8)


def test_a_run_that_only_warms_up():
    assert Schedule(epochs=1, rate=0.1, warm_up=1).at(1, 64) == pytest.approx(0.2)


@pytest.mark.parametrize("fields, message", [
    ({"epochs": 0}, "epochs = 0 is not positive"),
    ({"epochs": 2, "rate": float("nan")}, "rate = nan is not a positive number"),
    ({"epochs": 2, "rate": 0}, "rate = 0 is not a positive number"),
    ({"epochs": 2, "warm_up": -1}, "warm_up = -1 is not a number of epochs"),
])
def test_refused(fields, message):
    with pytest.raises(UserError) as error:
        Schedule(**fields)
    assert str(error.value) == message


def test_outside_of_the_run():
    for done in (-0.1, 2.1):
        with pytest.raises(UserError, match=r"is outside 0\.\.2 epochs"):
            Schedule(epochs=2).at(done, 32)


def test_no_momentum_correction_is_needed():
    """With v = m v + rate g a velocity must be corrected by new / old rate; ours needs none: the same weights, and others without it."""
    print(f"seed {SEED}")
    rng = np.random.default_rng(SEED)
    start, gradients, rates = rng.standard_normal(50), rng.standard_normal((6, 50)), [0.1, 0.1, 0.3, 0.3, 0.05, 0.05]
    ours, velocity = start.astype(np.float32), np.zeros(50, np.float32)
    for gradient, rate in zip(gradients, rates):
        ours, velocity = momentum_step(ours, velocity, gradient.astype(np.float32), rate=rate, momentum=0.9, decay=0)

    def carried(corrected: bool) -> np.ndarray:
        weight, speed = start.copy(), np.zeros(50)
        for number, (gradient, rate) in enumerate(zip(gradients, rates)):
            if corrected and number:
                speed *= rate / rates[number - 1]
            speed = 0.9 * speed + rate * gradient
            weight = weight - speed
        return weight

    np.testing.assert_allclose(ours, carried(True), rtol=0, atol=1e-5)
    assert np.abs(ours - carried(False)).max() > 0.1


def test_digits():
    data = digits()
    assert (data.train_images.shape, data.test_images.shape, data.image) == ((1437, 8, 8, 1), (360, 8, 8, 1), (8, 8, 1))
    values = np.unique(np.concatenate([data.train_images.ravel(), data.test_images.ravel()]))
    np.testing.assert_array_equal(values, np.arange(-8, 9) / 8)
    every = np.concatenate([data.train_images, data.test_images]).reshape(-1, 64) * 8 + 8
    from sklearn.datasets import load_digits

    assert sorted(map(tuple, every)) == sorted(map(tuple, np.asarray(load_digits().data)))
    assert min(np.bincount(data.test_labels)) >= 34       # every class has its share
    np.testing.assert_array_equal(data.train_images, digits().train_images)


def test_order():
    for seed in range(3):
        orders = [order(50, seed, epoch).tolist() for epoch in range(4)]
        assert all(sorted(places) == list(range(50)) for places in orders)
        assert len({tuple(places) for places in orders}) == 4
        assert orders[2] == order(50, seed, 2).tolist() != order(50, seed + 1, 2).tolist()


def test_batches():
    """All of one size, no image twice; what is left over differs from epoch to epoch."""
    data = few(20)
    names = {data.train_images[place].tobytes(): place for place in range(20)}
    assert len(names) == 20
    left = set()
    for epoch in range(6):
        taken = []
        for images, labels in batches(data, batch=8, seed=1, epoch=epoch):
            assert images.shape == (8, 8, 8, 1)
            places = [names[image.tobytes()] for image in images]
            np.testing.assert_array_equal(labels, data.train_labels[places])
            taken += places
        assert len(taken) == len(set(taken)) == 16
        left |= set(range(20)) - set(taken)
    assert len(left) > 4


@pytest.mark.parametrize("part, place, value, message", [
    ("train_images", (3, 1, 2, 0), np.nan, "data = 'digits': train image 3 holds NaN or infinity"),
    ("test_images", (1, 0, 0, 0), np.inf, "data = 'digits': test image 1 holds NaN or infinity"),
    ("train_images", (0, 7, 7, 0), 1 + 2**-10, "data = 'digits': train image 0 holds numbers that bf16 does not have"),
    ("test_labels", 5, 10, "data = 'digits': the label of test image 5 is 10, outside 0..9"),
    ("train_labels", 0, -1, "data = 'digits': the label of train image 0 is -1, outside 0..9"),
])
def test_bad_data(part, place, value, message):
    data = few(8, 8)
    fields = {name: getattr(data, name).copy() for name in ("train_images", "train_labels", "test_images", "test_labels")}
    fields[part][place] = value
    with pytest.raises(UserError) as error:
        Data(name="digits", classes=10, **fields)
    assert str(error.value) == message


def test_bad_shapes():
    data = few(8, 8)
    with pytest.raises(UserError, match="train images are float32"):
        Data(name="x", classes=10, train_images=data.train_images[:7], train_labels=data.train_labels, test_images=data.test_images,
             test_labels=data.test_labels)


def test_unknown_data():
    with pytest.raises(UserError) as error:
        load("mnist")
    assert str(error.value) == "data = 'mnist' is none of digits"

"""Training runs: steps against the golden engine by hand, sub-batches, hooks, refusals; and networks that learn the digits."""

import numpy as np
import pytest
from sklearn.model_selection import StratifiedKFold

from sw.golden import training
from sw.golden.float32 import add
from sw.runtime.errors import UserError
from sw.train.data import Data, batches, digits
from sw.train.golden_engine import GoldenEngine
from sw.train.network import INPUT, Add, Conv, Linear, Network, Norm, Pool, digits_resnet
from sw.train.schedule import Schedule
from sw.train.shapes import shapes
from sw.train.trainer import Hook, Trainer, cross_entropy
from tb.sw.train_works import few, narrow_resnet, same, trainer


@pytest.mark.parametrize("sub_batch", [None, 4])
def test_an_epoch_by_hand(sub_batch):
    """Two steps, written out: order of images, sub-batches, shares, rates, update."""
    data, network = few(), narrow_resnet()
    engine, parameters = GoldenEngine(network, tile=8, lanes=4), network.parameters(7)
    velocity = {name: np.zeros_like(value) for name, value in parameters.items()}
    losses = []
    for images, labels in batches(data, batch=16, seed=7, epoch=0):
        total, logits = {}, []
        for start in range(0, 16, sub_batch or 16):
            part = slice(start, start + (sub_batch or 16))
            step = engine.backward(parameters, engine.forward(parameters, images[part]), labels[part], 1 / 16)
            logits.append(step.activations["classifier"].astype(float))
            total = {name: add(total[name], value) if total else value for name, value in step.by_parameter.items()}
        wide = np.concatenate(logits)
        losses.append(np.mean([np.log(np.exp(row - row[label]).sum()) for row, label in zip(wide, labels)]))
        # Half of the batch that 0.05 suits; the whole run is one epoch, so it has nothing but its warm-up.
        for name in parameters:
            parameters[name], velocity[name] = training.momentum_step(
                parameters[name], velocity[name], total[name], rate=0.025, momentum=0.9, decay=5e-4)
    run = trainer(network, data, seed=7, sub_batch=sub_batch)
    run.run()
    same(run.parameters, parameters)
    same(run.velocity, velocity)
    epoch, = run.history
    assert epoch.loss == pytest.approx(np.mean(losses), rel=1e-9) and len(losses) == 2
    found = engine.forward(parameters, data.test_images).activations["classifier"].argmax(axis=1)
    assert epoch.accuracy == np.mean(found == data.test_labels)
    assert epoch.channels == {"conv1": 4, "block1.conv1": 4, "block1.conv2": 4, "block2.conv1": 8, "block2.conv2": 8, "block2.conv3": 8}
    assert epoch.macs > 0 and set(epoch.cycles) == {"1G1C", "1G4C", "4G4C", "1G1F", "4G1F"}


def test_sub_batches_change_little():
    """Sums in another order: other bits, the same gradients."""
    images, labels = next(batches(few(), batch=16, seed=0, epoch=0))
    whole, parts = (trainer(sub_batch=size).gradients(images, labels) for size in (None, 4))
    assert whole[0] == parts[0]     # the forward pass of an image knows nothing of others
    for name in whole[1]:
        np.testing.assert_allclose(parts[1][name], whole[1][name], rtol=0, atol=0.02 * np.abs(whole[1][name]).max(), err_msg=name)
    assert any((whole[1][name] != parts[1][name]).any() for name in whole[1])


def test_deterministic():
    one, two, other = trainer(seed=3), trainer(seed=3), trainer(seed=4)
    for run in (one, two, other):
        run.run()
    same(one.parameters, two.parameters)
    assert one.history == two.history and (one.parameters["conv1.weight"] != other.parameters["conv1.weight"]).any()


def test_cross_entropy():
    """Of even odds it is ln 10, and large logits do not overflow."""
    assert cross_entropy(np.zeros((3, 10), np.float32), np.array([0, 4, 9])) == pytest.approx(2.302585)
    assert cross_entropy(np.array([[1e4, 0.0]], np.float32), np.array([1])) == pytest.approx(1e4)


class Recorder(Hook):
    """Freezes one parameter, notes its calls, and takes the place of the network behind the first epoch."""

    def __init__(self):
        self.calls: list = []

    def gradient(self, trainer: Trainer, by_parameter: dict[str, np.ndarray], loss: float):
        self.calls.append(("gradient", round(loss, 6) == round(trainer_loss(trainer), 6)))
        by_parameter["classifier.bias"] = np.full(10, 1.0, np.float32)

    def after_epoch(self, trainer: Trainer, epoch: int) -> bool:
        self.calls.append(("epoch", epoch))
        if epoch:
            return False
        trainer.network = digits_resnet(width=8, group=0)
        trainer.parameters = trainer.network.parameters(1)
        trainer.velocity = {name: np.zeros_like(value) for name, value in trainer.parameters.items()}
        return True


def trainer_loss(run: Trainer) -> float:
    """The loss of the batch that the run is at: with 16 images, all of them."""
    logits = GoldenEngine(run.network, tile=8, lanes=4).forward(run.parameters, run.data.train_images).activations["classifier"]
    return cross_entropy(logits, run.data.train_labels)


def test_hook():
    hook = Recorder()
    run = trainer(data=few(16, 200), hook=hook, epochs=2, batch=16)
    run.run()
    assert hook.calls == [("gradient", True), ("epoch", 0), ("gradient", True), ("epoch", 1)]
    assert [epoch.channels["conv1"] for epoch in run.history] == [4, 8]
    # The first epoch's accuracy is that of the network which the hook left, not of the one that was trained.
    network = digits_resnet(width=8, group=0)
    found = GoldenEngine(network, tile=8, lanes=4).forward(network.parameters(1), run.data.test_images).activations["classifier"]
    assert run.history[0].accuracy == np.mean(found.argmax(axis=1) == run.data.test_labels)
    # The gradient of the last step was the hook's: rate 0.025 of the cosine's start, on a bias and a velocity of zero.
    np.testing.assert_allclose(run.parameters["classifier.bias"], np.full(10, -0.025), rtol=1e-6)


class Due(Recorder):
    """As the Recorder, and the state before its second call is to be kept too."""

    def due(self, trainer: Trainer, epoch: int) -> bool:
        return epoch == 1


def test_moments():
    """What `done` is called with, and when; one that goes on from before a reconfiguration begins with it."""
    hook, moments = Due(), []
    run = trainer(data=few(16), hook=hook, epochs=3, batch=16)
    run.run(done=lambda run, moment: moments.append((run.epoch, moment, run.pending, len(hook.calls))))
    assert moments == [(1, "", False, 2), (2, "before", True, 3), (2, "after", False, 4), (3, "", False, 6)]
    again, calls = trainer(data=few(16), hook=Due(), epochs=3, batch=16), []
    again.go_on_from(run.network, run.parameters, run.velocity, run.history[:2], pending=True)
    again.run(done=lambda run, moment: calls.append((run.epoch, moment)))
    assert calls == [(2, "before"), (2, "after"), (3, "")]


class Growing(Hook):
    """Steps of 16 images, then of 32."""

    def batch(self, trainer: Trainer) -> int:
        return 16 if trainer.epoch == 0 else 32


def test_a_batch_that_grows(monkeypatch):
    """The rate follows by the linear rule."""
    asked = []
    rate = Schedule.at
    monkeypatch.setattr(Schedule, "at", lambda self, done, batch: asked.append((done, batch)) or rate(self, done, batch))
    run = trainer(hook=Growing(), epochs=2)
    run.run()
    assert asked == [(0.0, 16), (0.5, 16), (1.0, 32)] and [epoch.batch for epoch in run.history] == [16, 32]


def test_divergence_is_told():
    with pytest.raises(UserError, match=r"^the loss is no number any more in epoch 1, step 2: a lower rate may help$"):
        trainer(rate=1e30).run()


@pytest.mark.parametrize("settings, message", [
    ({"batch": 16, "sub_batch": 5}, "sub_batch = 5 does not divide batch = 16"),
    ({"batch": 16, "sub_batch": 32}, "sub_batch = 32 does not divide batch = 16"),
    ({"batch": 64}, "batch = 64 is outside 1..32, the images to train on"),
    ({"epochs": 0}, "epochs = 0 is not positive"),
    ({"momentum": 1.0}, "momentum = 1.0 is outside 0..1"),
])
def test_settings(settings, message):
    with pytest.raises(UserError) as error:
        trainer(**settings)
    assert str(error.value) == message


CONV, POOL, LINEAR = Conv("c", (INPUT,), 1, 8), Pool("p", ("c",)), Linear("l", ("p",), 8, 10)


@pytest.mark.parametrize("layers, message", [
    ((CONV, POOL), "the last layer must be fully connected with 10 outputs, one for each class"),
    ((CONV, POOL, Linear("l", ("p",), 8, 9)), "the last layer must be fully connected with 10 outputs, one for each class"),
    ((Conv("c", (INPUT,), 3, 8), POOL, LINEAR), "c is for 3 channels, not 1"),
    ((CONV, CONV, POOL, LINEAR), "two layers are called 'c'"),
    ((CONV, Pool("p", ("d",)), LINEAR), "p reads d, allowed: one layer before it"),
    ((CONV, Add("a", ("c",)), POOL, LINEAR), "a reads c, allowed: two layers before it"),
    ((CONV, Norm("n", ("c",), 8, 3), POOL, LINEAR), "n has groups of 3 of 8 channels, allowed: what divides them"),
    ((CONV, Norm("n", ("c",), 8, 8), POOL, LINEAR), "no layer reads n"),
    ((CONV, Linear("l", ("c",), 8, 10)), "l reads an image: a pool must be between"),
    ((CONV, POOL, Norm("n", ("p",), 8, 8), Linear("l", ("n",), 8, 10)), "n reads no image, but what is behind a pool"),
    ((Conv("c", (INPUT,), 1, 8, kernel=11, pad=0), POOL, LINEAR),
     "c has a kernel of 11, stride 1, padding 0 and 8 outputs on (8, 8, 1)"),
    ((CONV, Conv("d", ("c",), 8, 8, stride=2), Add("a", ("c", "d")), Pool("p", ("a",)), LINEAR), "a adds (8, 8, 8) and (4, 4, 8)"),
])
def test_networks_that_cannot_be_trained(layers, message):
    with pytest.raises(UserError) as error:
        shapes(Network("net", (8, 8, 1), layers))
    assert str(error.value) == f"net: {message}"


def test_groups_that_the_lanes_do_not_fit():
    layers = (Conv("c", (INPUT,), 1, 12), Norm("n", ("c",), 12, 6), Pool("p", ("n",)), Linear("l", ("p",), 12, 10))
    with pytest.raises(UserError, match="n has groups of 6, allowed on small-bf16: what divides 4 lanes or is divided by them"):
        trainer(Network("net", (8, 8, 1), layers))


def test_data_of_another_size():
    layers = (CONV, POOL, LINEAR)
    with pytest.raises(UserError, match=r"^net is for images \(9, 9, 1\) of 10 classes, data = 'digits' has \(8, 8, 1\) of 10$"):
        trainer(Network("net", (9, 9, 1), layers))


def test_it_learns():
    run = trainer(digits_resnet(width=8), few(128, 64), epochs=8, rate=0.1)
    run.run()
    assert run.history[-1].loss < 0.7 * run.history[0].loss and run.history[-1].accuracy > 0.3


def digits_accuracy(engine: str, data: Data) -> float:
    """Test accuracy at the end of a whole run."""
    run = trainer(digits_resnet(), data, engine=engine, epochs=12, batch=32)
    run.run()
    return run.history[-1].accuracy


def test_digits_to_97_percent():
    assert digits_accuracy("golden", digits()) >= 0.97


@pytest.mark.slow
def test_as_accurate_as_pytorch():
    """Within 0.5 points of PyTorch's fp32 on the same order of data, over five folds: one split's test images are 360, and 0.5 points of
    them less than two, which another CPU's order of fp32 additions in PyTorch can turn over."""
    pytest.importorskip("torch")
    split = digits()
    images = np.concatenate([split.train_images, split.test_images])
    labels = np.concatenate([split.train_labels, split.test_labels])
    right = {"golden": 0.0, "torch": 0.0}
    for train, test in StratifiedKFold(5, shuffle=True, random_state=0).split(images, labels):
        fold = Data(name="digits", classes=split.classes, train_images=images[train], train_labels=labels[train],
                    test_images=images[test], test_labels=labels[test])
        for engine in right:
            right[engine] += digits_accuracy(engine, fold) * len(test)
    print({engine: f"{count / len(images):.2%}" for engine, count in right.items()})
    assert abs(right["golden"] - right["torch"]) <= 0.005 * len(images)

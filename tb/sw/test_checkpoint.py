"""Checkpoints: runs that are cut off and go on to the same bits; files that are damaged, or of another run."""

import io
import os
import zipfile

import numpy as np
import pytest

from sw.runtime.errors import UserError
from sw.train import checkpoint
from sw.train.network import digits_resnet
from sw.train.trainer import Hook, Trainer
from tb.sw.train_works import narrow_resnet, same, trainer

RUN = {"model": "narrow", "batch": 16, "seed": 0}
SEED = 31


class Shrinking(Hook):
    """Behind the second epoch another network, with a state that must come back."""

    def __init__(self):
        self.steps = 0

    def gradient(self, trainer: Trainer, by_parameter: dict[str, np.ndarray], loss: float):
        self.steps += 1
        by_parameter["classifier.bias"] = by_parameter["classifier.bias"] * np.float32(self.steps)

    def after_epoch(self, trainer: Trainer, epoch: int) -> bool:
        if epoch != 1:
            return False
        trainer.network = digits_resnet(width=2, group=0)
        trainer.parameters = trainer.network.parameters(5)
        trainer.velocity = {name: value * np.float32(0.1) for name, value in trainer.parameters.items()}
        return True

    def state(self) -> dict:
        return {"steps": self.steps}

    def restore(self, state: dict):
        self.steps = state["steps"]


@pytest.mark.parametrize("hook", [Hook, Shrinking])
def test_resumed(tmp_path, hook):
    """Four epochs, and two, a new process's trainer, and two more."""
    path = tmp_path / "run.npz"
    whole = trainer(epochs=4, hook=hook())
    whole.run()

    def cut_off(run: Trainer, _moment: str):
        checkpoint.save(path, run, RUN)
        if run.epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trainer(epochs=4, hook=hook()).run(done=cut_off)
    run = trainer(epochs=4, hook=hook())
    checkpoint.resume(str(path), run, RUN)
    assert run.epoch == 2
    run.run(done=lambda run, _: checkpoint.save(path, run, RUN))
    same(run.parameters, whole.parameters)
    same(run.velocity, whole.velocity)
    assert run.history == whole.history and run.network == whole.network
    done = trainer(epochs=4, hook=hook())
    checkpoint.resume(str(path), done, RUN)
    done.run()      # nothing is left to do
    same(done.parameters, whole.parameters)


def test_cut_off_within_an_epoch(tmp_path):
    """The file is that of the epoch before."""
    path = tmp_path / "run.npz"
    whole = trainer(epochs=2)
    whole.run()

    def tell(text: str):
        if "epoch 2 of 2, step 1" in text:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trainer(epochs=2).run(tell=tell, done=lambda run, _: checkpoint.save(path, run, RUN))
    run = trainer(epochs=2)
    checkpoint.resume(str(path), run, RUN)
    assert run.epoch == 1
    run.run()
    same(run.parameters, whole.parameters)


@pytest.fixture
def saved(tmp_path):
    """A file behind one epoch of two."""
    path, run = tmp_path / "run.npz", trainer(epochs=2)
    run.history.append(run._train_epoch(0, lambda text: None))
    checkpoint.save(path, run, RUN)
    return path


def refused(path, network=None, run=RUN, **settings) -> str:
    """What is said when a file is not good for a run, which stays as it is."""
    new = trainer(network, epochs=2, **settings)
    before = dict(new.parameters)
    with pytest.raises(UserError) as error:
        checkpoint.resume(str(path), new, run)
    assert "\n" not in str(error.value) and new.epoch == 0
    same(new.parameters, before)
    return str(error.value)


def test_of_another_run(saved):
    name = f"checkpoint = {str(saved)!r}"
    assert refused(saved, digits_resnet(width=8)) == f"{name} is of another model: 'digits-resnet', here 'digits-resnet', conv1 differs"
    assert refused(saved, run=RUN | {"batch": 8}) == f"{name} is of a run with batch = 16, not 8"
    assert refused(saved, run=RUN | {"prune": 0.2}) == f"{name} is of a run with prune = None, not 0.2"


def test_no_checkpoint(tmp_path, saved):
    missing, other, array = tmp_path / "missing.npz", tmp_path / "other.npz", tmp_path / "array.npy"
    np.savez(other, a=np.arange(3))
    np.save(array, np.arange(3))
    assert refused(missing) == f"checkpoint = {str(missing)!r} cannot be read: No such file or directory"
    for path in (other, array):
        assert refused(path) == f"checkpoint = {str(path)!r} is damaged, or no checkpoint"


def rewritten(path, **changes):
    """The file with other arrays in it (None: without)."""
    with np.load(path) as archive:
        arrays = dict(archive)
    arrays |= changes
    np.savez(path, allow_pickle=False, **{name: value for name, value in arrays.items() if value is not None})


@pytest.mark.parametrize("name, value", [
    ("parameter/conv1.weight", None),
    ("parameter/conv1.weight", np.zeros((3, 3, 1, 5), np.float32)),
    ("velocity/classifier.bias", np.zeros(10)),     # float64
    ("velocity/other", np.zeros(10, np.float32)),
])
def test_inconsistent(saved, name, value):
    rewritten(saved, **{name: value})
    assert "does not fit itself" in refused(saved)


def test_another_version(saved):
    with np.load(saved) as archive:
        about = str(archive["about"])
    rewritten(saved, about=np.array(about.replace('"version": 1', '"version": 2')))
    assert "is of another format or version" in refused(saved)


def test_pickles_are_not_opened(tmp_path, saved):
    """A file is data: an object array in it is refused, not executed."""
    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "executed"),)

    rewritten(saved)
    with zipfile.ZipFile(saved, "a") as archive:
        buffer = io.BytesIO()
        np.lib.format.write_array(buffer, np.array([Bomb()], dtype=object), allow_pickle=True)
        archive.writestr("parameter/bomb.npy", buffer.getvalue())
    assert "is damaged" in refused(saved)
    assert not (tmp_path / "executed").exists()


def test_damage(saved):
    """Any part cut off, any byte changed: refused, or nothing of what counts has changed."""
    print(f"seed {SEED}")
    rng, data = np.random.default_rng(SEED), saved.read_bytes()
    good, refusals = checkpoint.load(str(saved)), 0
    for case in range(150):
        broken = bytearray(data)
        if case < 30:
            del broken[int(rng.integers(len(data))):]
        else:
            broken[int(rng.integers(len(data)))] ^= int(rng.integers(1, 256))
        saved.write_bytes(broken)
        try:
            found = checkpoint.load(str(saved))
        except UserError:
            refusals += 1
            continue
        same(found.parameters, good.parameters)
        same(found.velocity, good.velocity)
        assert (found.history, found.network, found.run) == (good.history, good.network, good.run)
    assert refusals > 100


def test_written_in_one_step(tmp_path, monkeypatch):
    """Whoever is stopped while it writes leaves the old file, and no other."""
    path, run = tmp_path / "run.npz", trainer(narrow_resnet())
    checkpoint.save(path, run, RUN)
    before = path.read_bytes()
    run.run()

    def fail(self, target):
        raise KeyboardInterrupt

    monkeypatch.setattr(type(path), "replace", fail)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save(path, run, RUN)
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["run.npz"]

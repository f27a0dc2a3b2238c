"""`flexwave train --rtl-steps`: what is passed on, told and refused; the steps themselves run in `system/test_training.py`."""

import json

import pytest

from sw.cli.main import main
from sw.train import data, machine_steps
from sw.train.machine_steps import MachineStep
from tb.sw.train_works import few

MODEL = "tb.sw.train_works:narrow_resnet"


@pytest.fixture
def images(monkeypatch):
    """A data set of 32 digits."""
    monkeypatch.setitem(data.DATA, "few", few)
    return ["--data", "few", "--batch", "8", "--epochs", "1"]


def test_first_steps_of_the_run(images, monkeypatch, tmp_path, capsys):
    """The same batches in the same order with the same rates and parameters as the golden engine's run."""
    seen = []

    def run_steps(config, network, parameters, batches, *, groups, momentum, decay, tell):
        seen.append((config.name, network.name, sorted(parameters), list(batches), groups, momentum, decay))
        return [MachineStep((), 10, 10, {}), MachineStep((), 11, 11, {})]

    monkeypatch.setattr(machine_steps, "run_steps", run_steps)
    path = tmp_path / "run.json"
    assert main(["train", MODEL, *images, "--rtl-steps", "2", "--sub-batch", "4", "--json", str(path)]) == 0
    (config, network, parameters, works, groups, momentum, decay), = seen
    assert (config, network, momentum, decay) == ("small-bf16", "digits-resnet", 0.9, 5e-4) and "conv1.weight" in parameters
    wanted = [labels for _, labels in data.batches(few(), batch=8, seed=0, epoch=0)]
    assert [list(work.labels) for work in works] == [list(labels) for labels in wanted[:2]]
    assert [work.rate for work in works] == [0.05 * 8 / 32] * 2
    assert [(group.layers[0], group.layers[-1], group.sub_batch) for group in groups] == [("conv1", "classifier", 4)]
    assert json.loads(path.read_text())["rtl_steps"] == [
        {"exact": True, "cycles": 10, "model_cycles": 10}, {"exact": True, "cycles": 11, "model_cycles": 11}]
    assert "step 2 on the RTL: every tensor as the golden engine has it, 11 cycles (11 predicted)" in capsys.readouterr().out


def test_a_difference_is_an_error(images, monkeypatch, capsys):
    monkeypatch.setattr(machine_steps, "run_steps", lambda *_, **__: [MachineStep(("gradient of conv1.weight", "norm1"), 10, 10, {})])
    assert main(["train", MODEL, *images, "--rtl-steps", "1"]) == 1
    out, err = capsys.readouterr()
    assert "step 1 on the RTL: DIFFERENT" in out
    assert err == ("flexwave: 2 differences between the RTL and the golden engine or the cycle model: step 1: gradient of conv1.weight, "
                   "step 1: norm1\n")


@pytest.mark.parametrize(("argv", "message"), [
    (["--rtl-steps", "x"], "rtl_steps = 'x' is not an integer in 0..2147483647"),
    (["--rtl-steps", "5"], "rtl_steps = 5 is outside 0..4, the steps of an epoch"),
    (["--rtl-steps", "1", "--prune", "0.5"], "rtl_steps = 1 does not go with prune"),
    (["--rtl-steps", "1", "--sub-batch", "3"], "sub_batch = 3 does not divide batch = 8"),
    (["--rtl-steps", "1", "--batch", "6"],
     "digits-resnet on small-bf16: classifier: 6 samples give 6 pixels, no multiple of array.side = 4"),
])
def test_refused(images, capsys, argv, message):
    """One line, before anything is trained."""
    assert main(["train", MODEL, *images, *argv]) == 2
    out, err = capsys.readouterr()
    assert (out, err) == ("", f"flexwave: {message}\n")

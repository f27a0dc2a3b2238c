"""Training on the RTL: three consecutive steps, and groups of layers that serialise a mini-batch."""

import json

import numpy as np

from gen.config import Config
from sw.cli.main import main
from sw.train import data
from sw.train.machine_steps import run_steps
from sw.train.network import digits_resnet
from tb.sw.step_works import batches, in_groups, pools, trained
from tb.sw.train_works import few

SMALL = Config.load("small-bf16")


def test_three_steps():
    """Every weight, gradient and activation of three steps, each from what the one before left in memory; every counter as predicted."""
    print("seed 30")
    rng, network = np.random.default_rng(30), digits_resnet()
    found = run_steps(SMALL, network, trained(rng, network), batches(rng, network, 8, 3))
    assert [step.different for step in found] == [(), (), ()]
    assert all(step.cycles == step.model_cycles for step in found)


def test_serialised_batch():
    """Groups of layers with sub-batches of their own: weights as with the whole batch but for the order of sums, bytes as predicted."""
    print("seed 31")
    rng, network = np.random.default_rng(31), digits_resnet(8, 8)
    groups = in_groups(network, ("conv1", 4), ("block2.conv1", 8), ("pool", 8))
    step, = run_steps(SMALL, network, trained(rng, network), batches(rng, network, 8, 1), groups=groups)
    assert step.different == () and step.cycles == step.model_cycles


def test_poolings():
    """Windows that overlap and windows that do not, with rests, in groups: every tensor, cycles as predicted."""
    print("seed 32")
    rng, network = np.random.default_rng(32), pools(8, ("max", 3, 2), ("average", 2, 1))
    other = pools(7, ("average", 3, 2), ("max", 2, 2))
    for one, groups in ((network, None), (other, in_groups(other, ("conv1", 4), ("conv2", 8)))):
        step, = run_steps(SMALL, one, trained(rng, one), batches(rng, one, 8, 1), groups=groups)
        assert step.different == () and step.cycles == step.model_cycles


def test_command(monkeypatch, tmp_path):
    """`flexwave train --rtl-steps`: the first steps of a run over digits, on the RTL."""
    monkeypatch.setitem(data.DATA, "few", few)
    path = tmp_path / "run.json"
    assert main(["train", "tb.sw.train_works:narrow_resnet", "--data", "few", "--batch", "8", "--sub-batch", "4", "--epochs", "1",
                 "--rtl-steps", "2", "--json", str(path)]) == 0
    found = json.loads(path.read_text())["rtl_steps"]
    assert [step["exact"] for step in found] == [True, True] and all(step["cycles"] == step["model_cycles"] for step in found)

"""Training on the RTL: three consecutive steps, and groups of layers that serialise a mini-batch."""

import numpy as np

from gen.config import Config
from sw.train.machine_steps import run_steps
from sw.train.network import digits_resnet
from tb.sw.step_works import batches, in_groups, trained

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

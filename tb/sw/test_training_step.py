"""Training steps as programs, in the functional model: every tensor is the golden engine's, whatever stays on the chip."""

import numpy as np
import pytest

from gen.config import Config
from sw.compiler.errors import CompileError
from sw.model import functional
from sw.runtime.errors import UserError
from sw.train.channels import with_channels
from sw.train.lower import elementwise
from sw.train.lower.step import compile_step
from sw.train.machine_steps import run_steps
from sw.train.network import INPUT, Conv, Linear, Network, Norm, Pool, digits_resnet
from tb.sw.step_works import batches, in_groups, little, plain, trained

SMALL = Config.load("small-bf16")


def check(config: Config, network: Network, size: int, seed: int, steps: int = 1, groups=None):
    print(f"seed {seed}")
    rng = np.random.default_rng(seed)
    found = run_steps(config, network, trained(rng, network), batches(rng, network, size, steps), groups=groups, engine="model")
    assert [step.different for step in found] == [()] * steps


@pytest.mark.parametrize("organisation", ["1G1C", "1G4C", "1G1F"])
def test_little_network(organisation):
    """Channels that fill no whole blocks, images of 4 and of 16 pixels, three steps."""
    check(Config.load("tiny-bf16").organise(organisation), little(), 4, 20, steps=2)


def test_pruned_network():
    """Irregular channels behind a reconfiguration: means go on dividing by the channels that there were."""
    left = {"conv1": 7, "block1.conv1": 5, "block1.conv2": 7, "block2.conv1": 11, "block2.conv2": 13, "block2.conv3": 13}
    network = with_channels(digits_resnet(8, 0), left)
    assert {layer.counted for layer in network.layers if isinstance(layer, Norm)} == {8, 16}
    check(SMALL, network, 4, 26)
    check(SMALL, network, 8, 27, groups=in_groups(network, ("conv1", 4)))


def test_other_kernels():
    check(SMALL, plain(), 4, 21, steps=2)


@pytest.mark.parametrize("sizes", [(4, 8, 4), (8, 4, 8)])
def test_groups(sizes):
    network = digits_resnet(8, 8)
    groups = in_groups(network, *zip(("conv1", "block2.conv1", "pool"), sizes))
    check(SMALL, network, 8, 22, groups=groups)


def test_one_group_of_all_layers():
    """Of four sub-batches."""
    network = little()
    check(SMALL, network, 16, 23, steps=2, groups=in_groups(network, ("conv1", 4)))


def test_what_stays_on_the_chip_never_reaches_memory():
    """A residual block over sub-batches: what it is given is read once, what the backward pass needs is written once and read once, weights
    are read for every sub-batch, and nothing else moves."""
    network, batch, sub_batch = digits_resnet(8, 8), 8, 4
    program = compile_step(SMALL, network, batch, groups=in_groups(network, ("conv1", sub_batch), ("block2.conv1", batch), ("pool", batch)))
    traffic, times = program.traffic(), batch // sub_batch
    feature = batch * 8 * 8 * 8 * 2         # bytes of 8 x 8 pixels and 8 channels
    for name in ("conv1", "norm1", "block1.conv1", "block1.norm1", "block1.conv2"):
        assert traffic[name] == (feature, feature), name            # for the backward pass alone
    for name in ("block1.norm2", "block1.back", "block1.norm2.back", "block1.conv2.back", "block1.norm1.back", "norm1.back"):
        assert name not in traffic, name
    for name in ("norm1", "block1.norm1", "block1"):
        assert traffic[f"{name}.mask"] == (feature // 16, feature // 16), name
    for name in ("block1.conv1", "block1.conv2"):
        weight = 9 * 8 * 8 * 2
        assert traffic[f"{name}.weight.forward"] == traffic[f"{name}.weight.backward"] == (times * weight, weight), name
        # The sum is written by the first sub-batch, read and written with each other one, and read by the update.
        assert traffic[f"{name}.weight.gradient"] == (2 * weight * times, 2 * weight * times), name
    whole = compile_step(SMALL, network, batch).traffic()
    assert sum(map(sum, traffic.values())) < 0.65 * sum(map(sum, whole.values()))


def test_a_wrong_bit_is_seen(monkeypatch):
    """The comparison can fail: a mask that is not applied changes gradients and weights."""
    monkeypatch.setattr(elementwise, "masked", lambda code, gradient, mask, result, images, pixels: elementwise.pool_backward(
        code, gradient, result, images * pixels, 1))
    network = digits_resnet(4, 4)
    rng = np.random.default_rng(24)
    step, = run_steps(SMALL, network, trained(rng, network), batches(rng, network, 4, 1), engine="model")
    assert "gradient of block1.norm2" in step.different and "conv1.weight" in step.different and "block2" not in step.different


def test_tokens_are_all_taken():
    """Between barriers every signal has its wait."""
    network = digits_resnet(8, 8)
    for groups in (None, in_groups(network, ("conv1", 4))):
        balance = [0] * 16
        for one in compile_step(SMALL, network, 8, groups=groups).instructions:
            if one.unit is None:
                assert not any(balance)
                continue
            balance = [count + (one.signal >> bit & 1) - (one.wait >> bit & 1) for bit, count in enumerate(balance)]


def test_update_leaves_rows_that_fill_up_a_block_alone():
    """Weights of outputs that do not exist stay zero."""
    network = little()
    program = compile_step(SMALL, network, 4)
    rng = np.random.default_rng(25)
    parameters = trained(rng, network)
    image = program.image(parameters, {name: np.zeros_like(value) for name, value in parameters.items()})
    batch, = batches(rng, network, 4, 1)
    program.feed(image, batch.images, batch.labels, batch.rate)
    after = functional.run(SMALL, program.instructions, image)
    tensor = program.memory.regions["block1.conv1.weight"]
    found = tensor.unpack(after, tensor.rows, tensor.blocks * SMALL.array.side)
    assert not found[6:].any() and found[:6].any()


@pytest.mark.parametrize(("change", "text"), [
    (lambda: compile_step(Config.load("small"), digits_resnet(8, 8), 8), "array.dtype = 'int8' cannot train; bf16 can"),
    (lambda: compile_step(SMALL, digits_resnet(8, 8), 6), "classifier: 6 samples give 6 pixels, no multiple of array.side = 4"),
    (lambda: compile_step(SMALL, digits_resnet(8, 8), 7), "batch = 7 is no multiple of 2 samples, the words of a beat"),
    (lambda: compile_step(SMALL, digits_resnet(8, 8), 8, groups=in_groups(digits_resnet(8, 8), ("conv1", 3))),
     "sub_batch = 3 does not divide batch = 8"),
    (lambda: compile_step(SMALL, digits_resnet(8, 8), 8, groups=in_groups(digits_resnet(8, 8), ("norm1", 4))),
     "groups must have all layers of the network, in its order"),
    (lambda: compile_step(SMALL, digits_resnet(6, 6), 8), "group = 6 of 12 channels is no multiple and no divisor of array.side = 4"),
    (lambda: compile_step(SMALL, digits_resnet(256, 8), 8), "buffers.slice_words = 1024"),
])
def test_refused(change, text):
    with pytest.raises((CompileError, UserError)) as caught:
        change()
    assert text in str(caught.value) and "\n" not in str(caught.value)


def test_a_network_that_ends_elsewhere():
    network = Network("odd", (8, 8, 4), (Conv("a", (INPUT,), 4, 4), Norm("b", ("a",), 4, 4), Pool("c", ("b",)), Linear("d", ("c",), 4, 10),
                                         Linear("e", ("d",), 10, 7)))
    with pytest.raises(UserError, match="10 outputs"):
        compile_step(SMALL, network, 4)

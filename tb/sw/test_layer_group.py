"""Groups of layers as one program: results in the functional model, DRAM bytes by the rules of MBS, and what is refused."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from gen.config import Config
from sw.compiler import CompileError, Gemm, Pooling, ProgramError, Window
from sw.compiler.group_layer import INPUT, GroupLayer
from sw.compiler.layer_group import compile_layer_group
from sw.compiler.tokens import Token
from sw.mbs.program import dram_bytes, layers_of
from sw.mbs.schedule import Variant, groups_of
from sw.mbs.traffic import FEATURE_BYTES, Group, group_traffic
from sw.mbs.units import units_of
from sw.model import functional
from sw.workloads.builder import Builder
from tb.sw.group_works import by_golden, possible_group, predicted_traffic, random_input, random_operands

CHANNELS = 8


def conv(inputs: int, outputs: int, size: int = 3, **fields) -> Gemm:
    window = Window(height=6, width=6, kernel=(size, size), padding=(size // 2, size // 2, size // 2, size // 2))
    return Gemm(m=window.rows, n=outputs, k=inputs, output="int8", window=window, **fields)


def chain(*channels: int) -> list[GroupLayer]:
    """3 x 3 convolutions, one behind the other."""
    return [GroupLayer(product=conv(inputs, outputs), source=number - 1)
            for number, (inputs, outputs) in enumerate(pairwise(channels))]


def residual_network():
    """8 x 8 images: a convolution, a residual block, poolings and a layer for classes; all channels fill blocks of `small`."""
    build = Builder("residual", (4, 8, 8))
    first = build.conv("input", 8, 3, name="a")
    last = build.conv(build.conv(first, 8, 3, name="b"), 8, 3, relu=False, name="c")
    pooled = build.pool(build.add(last, first, relu=True), "max", 2, 2)
    build.linear(build.pool(build.conv(pooled, 16, 3, name="d"), "average"), 12)
    return build.network()


@pytest.mark.parametrize("organisation", ["1G1F", "4G1F", "1G1C"])
@pytest.mark.parametrize("preset", ["tiny", "small", "base"])
def test_random_groups(preset, organisation):
    """In the functional model, which knows no time; the prediction counts the bytes."""
    config = Config.load(preset).organise(organisation)
    seed = 100 * ["tiny", "small", "base"].index(preset) + ["1G1F", "4G1F", "1G1C"].index(organisation)
    print(f"seed {seed}")
    rng = np.random.default_rng(seed)
    for _ in range(12):
        batch = int(rng.integers(1, 8))
        layers, program = possible_group(rng, config, batch)
        a, operands = random_input(rng, layers, batch), random_operands(rng, layers)
        after = functional.run(config, program.instructions, program.image(a, operands))
        np.testing.assert_array_equal(program.result(after).reshape(-1), by_golden(layers, batch, a, operands).reshape(-1))
        bytes_ = dram_bytes(config, layers, batch, program.sub_batch, weights_stay=program.weights_stay,
                            parameters_stay=program.parameters_stay)
        assert predicted_traffic(config, program) == (bytes_.read, bytes_.features_written)


def test_the_schedule_is_a_program():
    """Groups and sub-batches as MBS2 chooses them; bytes are those of its traffic model, in 8 bits instead of 16."""
    config, batch = Config.load("small"), 12
    sequence = units_of(residual_network())
    groups = groups_of(sequence, Variant.MBS2, batch, 16 << 10)
    assert [group.sub_batch for group in groups] == [5, 12] and len(groups[0].units) == 5
    for group in groups:
        layers = layers_of(sequence, group)
        program = compile_layer_group(config, layers, batch, sub_batch=group.sub_batch)
        found = dram_bytes(config, layers, batch, group.sub_batch)
        moved = [unit.forward for unit in group_traffic(sequence, batch, group, training=False)]
        assert found.features_read + found.features_written == sum(unit.features for unit in moved) // FEATURE_BYTES
        products = [sequence.units[number].product for number in group.units]
        assert found.weights == group.iterations(batch) * sum(product.weights for product in products if product)
        kept = dram_bytes(config, layers, batch, group.sub_batch, weights_stay=program.weights_stay,
                          parameters_stay=program.parameters_stay)
        assert predicted_traffic(config, program) == (kept.read, kept.features_written)


def test_layer_by_layer_takes_more():
    """The same layers as programs of their own move every result through DRAM."""
    from sw.compiler.lower import compile_product

    config, batch = Config.load("small"), 8
    layers = chain(4, 8, 8, 4)
    program = compile_layer_group(config, layers, batch)
    alone = [compile_product(config, layer.of(batch)) for layer in layers]
    together, *apart = [sum(predicted_traffic(config, each)) for each in (program, *alone)]
    between = 2 * sum(batch * layer.product.m * layer.product.n for layer in layers[:-1])
    assert sum(apart) - together >= between


def test_weights_are_read_for_every_sub_batch():
    """But once where the places for weights hold all of them."""
    config, layers = Config.load("tiny"), chain(2, 8, 4)
    program = compile_layer_group(config, layers, 4, sub_batch=1)
    small = compile_layer_group(config, chain(2, 4, 2), 4, sub_batch=1)
    assert not program.weights_stay and small.weights_stay
    loads = [sum(item.name == "DmaIn" and item.values["signal"] == 1 << Token.B_FULL for item in each.instructions)
             for each in (program, small)]
    assert loads == [4 * (2 + 1), 1 + 1]      # n tiles of four columns


def test_the_default_is_the_largest_sub_batch():
    config, layers = Config.load("tiny"), chain(2, 4, 2)
    program = compile_layer_group(config, layers, 9)
    assert 1 < program.sub_batch < 9
    with pytest.raises(CompileError, match=rf"words for {program.sub_batch + 1} samples of the result of layer 0"):
        compile_layer_group(config, layers, 9, sub_batch=program.sub_batch + 1)


@pytest.mark.parametrize("layers, message", [
    ([], r"layers = 0 is outside 1\.\. layers"),
    ([GroupLayer(product=conv(4, 8), source=0)], r"layer 0: source = 0 is outside -1\.\.-1"),
    ([*chain(4, 8), GroupLayer(product=conv(4, 8), source=0)], r"layer 1: source = 0 has .* \(36, 8, 'int8'\), not \(36, 4, 'int8'\)"),
    ([*chain(4, 8), GroupLayer(product=conv(4, 8), source=INPUT)], "layer 0: no layer of the group reads its result"),
    ([*chain(4, 8), GroupLayer(product=conv(8, 8), source=0, residual=INPUT)], r"layer 1: residual = -1 must be another"),
    ([GroupLayer(product=replace(conv(4, 8), output="int32"))], "layer 0: output = 'int32'"),
    ([GroupLayer(product=Pooling(window=Window(images=2, height=4, width=4, kernel=(2, 2)), channels=4))], "layer 0: images = 2"),
    (chain(4, 120, 4), r"buffers.slice_words = 1024 is outside \d+\.\.32768 words"),
])
def test_refused(layers, message):
    with pytest.raises(CompileError, match=message):
        compile_layer_group(Config.load("small"), layers, 4)


def test_refused_sub_batches():
    config = Config.load("small")
    with pytest.raises(CompileError, match=r"sub_batch = 5 is outside 1\.\.4"):
        compile_layer_group(config, chain(4, 8), 4, sub_batch=5)
    odd = [GroupLayer(product=Gemm(m=3, n=8, k=8, output="int8"))]
    with pytest.raises(CompileError, match="sub_batch = 1: 3 rows a sample of the input must be a multiple of 2 words"):
        compile_layer_group(config, odd, 4, sub_batch=1)
    with pytest.raises(CompileError, match=r"vector\.window = 0"):
        pooling = Pooling(window=Window(height=4, width=4, kernel=(2, 2)), channels=4)
        compile_layer_group(Config.load("ulx3s"), [GroupLayer(product=pooling)], 4)


def test_operands_are_checked():
    config, layers = Config.load("small"), chain(4, 8)
    program, rng = compile_layer_group(config, layers, 2), np.random.default_rng(0)
    a, operands = random_input(rng, layers, 2), random_operands(rng, layers)
    for wrong, given in ((a[:1], operands), (a.view(np.uint8), operands), (a, []), (a, [{}])):
        with pytest.raises(ProgramError):
            program.image(wrong, given)


def test_units_without_a_program():
    build = Builder("concat", (4, 8, 8))
    build.concat(build.conv("input", 8, 3), build.conv("input", 8, 1))
    sequence = units_of(build.network())
    with pytest.raises(CompileError, match="a Concat has no program in a group"):
        layers_of(sequence, Group(range(3), 1))
    sequence = units_of(residual_network())
    with pytest.raises(CompileError, match=r"reads .*: a program takes one input"):
        layers_of(sequence, Group(range(2, 4), 1))

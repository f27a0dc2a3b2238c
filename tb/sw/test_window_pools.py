"""Poolings over windows: the golden layers against plain loops, their phases in the functional model, whole training steps."""

import numpy as np
import pytest

from gen.config import Config
from sw.compiler.errors import CompileError
from sw.compiler.layout import blocks_of, pitch_of
from sw.golden import training
from sw.golden.float32 import narrow
from sw.model import functional
from sw.runtime.errors import UserError
from sw.train.channels import with_channels
from sw.train.checkpoint import network_from_dict, network_to_dict
from sw.train.costs import workload
from sw.train.golden_engine import GoldenEngine
from sw.train.lower import pooling
from sw.train.lower.memory import Memory, Tensor
from sw.train.lower.phase import Code, Place
from sw.train.lower.pooling import Windows
from sw.train.lower.step import compile_step
from sw.train.machine_steps import run_steps, same
from sw.train.network import INPUT, Add, Conv, Linear, Network, Norm, Pool, WindowPool
from sw.train.shapes import shapes
from sw.workloads import network as workloads
from tb.sw.float_works import numbers
from tb.sw.step_works import batches, in_groups, pools, trained

SMALL, TINY = Config.load("small-bf16"), Config.load("tiny-bf16")
SIZES = [(8, 8, 2, 2), (9, 7, 3, 2), (7, 8, 2, 2), (5, 5, 3, 1), (8, 6, 2, 3), (4, 4, 4, 4), (3, 5, 1, 1), (6, 6, 1, 2)]


# The golden layers


def pooled(x: np.ndarray, kernel: int, stride: int, kind: str) -> np.ndarray:
    """One channel of one image, pixel by pixel, in the type of `x`."""
    height, width = ((side - kernel) // stride + 1 for side in x.shape)
    found = np.zeros((height, width), x.dtype)
    for line, column in np.ndindex(height, width):
        total = None
        for y, z in np.ndindex(kernel, kernel):
            pixel = x[line * stride + y, column * stride + z]
            total = pixel if total is None else total + pixel if kind == "average" else max(total, pixel)
        found[line, column] = total * x.dtype.type(1 / kernel**2) if kind == "average" else total
    return found


def pooled_backward(gradient: np.ndarray, x: np.ndarray, kernel: int, stride: int, kind: str) -> np.ndarray:
    """The gradient of such a channel: windows give each pixel what is due to it, those that have it at an early position first."""
    back = np.zeros(x.shape, x.dtype)
    for line, column in np.ndindex(*x.shape):
        due = []
        for y, z in np.ndindex(kernel, kernel):
            top, left = line - y, column - z
            if top % stride or left % stride or not (0 <= top // stride < gradient.shape[0] and 0 <= left // stride < gradient.shape[1]):
                continue
            value = gradient[top // stride, left // stride]
            window = x[top:top + kernel, left:left + kernel]
            first = np.argwhere(window == window.max())[0]
            due.append(value * x.dtype.type(1 / kernel**2) if kind == "average" else value * (tuple(first) == (y, z)))
        for value in due:
            back[line, column] += value
    return back


@pytest.mark.parametrize("kind", ["max", "average"])
@pytest.mark.parametrize("size", SIZES)
def test_golden(kind, size):
    """Against loops in double precision, and in single precision bit for bit: the order of sums and of equal pixels."""
    height, width, kernel, stride = size
    print("seed 41")
    rng = np.random.default_rng(41)
    x = narrow(rng.integers(-3, 4, (2, height, width, 3)).astype(np.float32) / (4 if kind == "max" else 3))      # many are equal
    lines, columns = ((side - kernel) // stride + 1 for side in (height, width))
    gradient = narrow(rng.standard_normal((2, lines, columns, 3)).astype(np.float32))
    if kind == "max":
        result = training.max_pool(x, kernel, stride)
        back = training.max_pool_backward(gradient, x, result, kernel, stride)
    else:
        result, back = training.average_pool(x, kernel, stride), training.average_pool_backward(gradient, x.shape, kernel, stride)
    assert result.shape == gradient.shape and back.shape == x.shape and result.dtype == back.dtype == np.float32
    for dtype in (np.float64, np.float32):
        for image, channel in np.ndindex(2, 3):
            ours, theirs = x[image, ..., channel].astype(dtype), gradient[image, ..., channel].astype(dtype)
            wanted = pooled(ours, kernel, stride, kind), pooled_backward(theirs, ours, kernel, stride, kind)
            for found, value in zip((result[image, ..., channel], back[image, ..., channel]), wanted):
                if dtype is np.float64:
                    np.testing.assert_allclose(found, value, rtol=2.0**-8, atol=1e-6)
                else:
                    np.testing.assert_array_equal(found, narrow(value))


def test_golden_of_special_numbers():
    """The first of two zeros, a NaN wherever it is, infinities; a NaN gives its gradient to nobody; no pixel gets -0."""
    x = np.array([[[-0.0, 0.0], [0.0, -0.0]], [[1, np.nan], [2, 3]], [[-np.inf, -np.inf], [-np.inf, -1]]], np.float32)[..., None]
    result = training.max_pool(x, 2, 2)
    assert same(result.reshape(-1), np.array([-0.0, np.nan, -1], np.float32))
    assert same(training.max_pool(np.full((1, 1, 1, 1), -1e-40, np.float32), 1, 1), np.full((1, 1, 1, 1), -0.0, np.float32))
    back = training.max_pool_backward(np.full((3, 1, 1, 1), -0.0, np.float32), x, result, 2, 2)
    assert same(back, np.zeros_like(x))
    back = training.max_pool_backward(np.full((3, 1, 1, 1), np.inf, np.float32), x, result, 2, 2)[..., 0]
    assert same(back, np.array([[[np.inf, 0], [0, 0]], [[0, 0], [0, 0]], [[0, 0], [0, np.inf]]], np.float32))


# Phases


def put(image: np.ndarray, tensor: Tensor, values: np.ndarray):
    """Images (batch, height, width, channels) into memory."""
    data = tensor.pack(values.reshape(-1, values.shape[-1]))
    image[tensor.address:tensor.address + data.size] = data


def phases(config: Config, rng: np.random.Generator, size: tuple[int, int, int, int], kind: str, special: float, stay: bool):
    """Forward and backward of one pooling, each by itself; any of the tensors may stay on the chip. The names of those that differ."""
    height, width, kernel, stride = size
    images, channels = config.beat_words * int(rng.integers(1, 4)), int(rng.integers(1, 2 * config.array.side + 1))
    windows = Windows(images, height, width, kernel, stride)
    x = narrow(numbers(rng, (images, height, width, channels), special))
    x[rng.random(x.shape) < 0.5] = 1
    gradient = narrow(numbers(rng, (images, windows.lines, windows.columns, channels), special))
    if kind == "max":
        y = training.max_pool(x, kernel, stride)
        wanted = {"y": y, "back": training.max_pool_backward(gradient, x, y, kernel, stride)}
    else:
        y = training.average_pool(x, kernel, stride)
        wanted = {"y": y, "back": training.average_pool_backward(gradient, x.shape, kernel, stride)}
    different = []
    for result, given in (("y", {"x": x}), ("back", {"gradient": gradient, "x": x, "y": y})):
        memory = Memory(config)
        code = Code(config, memory)
        tensors = {name: memory.tensor(name, blocks_of(config, channels), value.shape[0] * value.shape[1] * value.shape[2])
                   for name, value in (given | {result: wanted[result]}).items()}
        for name, tensor in tensors.items() if stay else ():
            pitch = pitch_of(config, tensor.rows)
            if rng.random() < 0.6 and tensor.blocks * pitch <= config.buffers.slice_words and len(code.free_slices) > 4:
                place = Place(code.free_slices[-1], 0, pitch)
                if name in given:
                    code.load(tensor, place)
                code.residents[tensor] = place
        if result == "y":
            (pooling.maximum if kind == "max" else pooling.average)(code, windows, tensors["x"], tensors["y"])
        elif kind == "max":
            pooling.maximum_backward(code, windows, *(tensors[name] for name in ("gradient", "x", "y", "back")))
        else:
            pooling.average_backward(code, windows, tensors["gradient"], tensors["back"])
        code.sequencer.barrier()
        image = rng.integers(0, 256, memory.end).astype(np.uint8)       # what is not written is not zero
        for name, value in given.items():
            put(image, tensors[name], value)
        rows = code.constants.rows // 256
        put(image, code.constants, np.array(list(code.values.values()), np.float32).repeat(rows)[:, None].repeat(config.array.side, axis=1))
        after = functional.run(config, code.sequencer.instructions(), image)
        value = wanted[result]
        if not same(tensors[result].unpack(after, value.size // channels, channels).reshape(value.shape), value):
            different.append(result)
    return different


@pytest.mark.parametrize("kind", ["max", "average"])
@pytest.mark.parametrize("size", SIZES)
def test_phases(kind, size):
    """Each size with ordinary and with special numbers, in memory and on the chip."""
    print("seed 42")
    rng = np.random.default_rng([42, *size])
    for special in (0, 0.05):
        for stay in (False, True):
            assert phases(SMALL, rng, size, kind, special, stay) == []


def test_phases_of_random_sizes():
    print("seed 43")
    rng = np.random.default_rng(43)
    for _ in range(12):
        kernel = int(rng.integers(1, 5))
        size = int(rng.integers(kernel, 10)), int(rng.integers(kernel, 10)), kernel, int(rng.integers(1, 5))
        assert phases(SMALL, rng, size, str(rng.choice(["max", "average"])), 0.02, bool(rng.random() < 0.7)) == [], size


@pytest.mark.parametrize(("windows", "runs"), [
    (Windows(4, 8, 8, 2, 2), 4),        # a column of windows goes on from image to image
    (Windows(4, 8, 9, 2, 2), 4),
    (Windows(4, 9, 8, 2, 2), 16),       # it does not: sixteen rows, columns or places in the image
    (Windows(16, 7, 7, 3, 2), 9),       # a place of all images
    (Windows(4, 6, 6, 6, 1), 1),
    (Windows(2, 40, 40, 2, 2), 20),     # a step from image to image would be too large
    (Windows(32, 17, 17, 2, 2), 256),   # and here, where that would be the longest run
    (Windows(1, 2, 2, 2, 2), 1),
])
def test_runs(windows, runs):
    """Every window once, at the right place; in few instructions."""
    found = windows.runs(windows.images)
    assert len(found) == runs
    seen = {}
    for run in found:
        assert run.count == 1 or 2 * max(run.x_step, run.y_step) < 512
        seen |= {run.y + number * run.y_step: run.x + number * run.x_step for number in range(run.count)}
    wanted = [image * windows.pixels + (line * windows.width + column) * windows.stride
              for image in range(windows.images) for line in range(windows.lines) for column in range(windows.columns)]
    assert [seen[number] for number in range(len(seen))] == wanted and sum(run.count for run in found) == len(wanted)


# Training steps


@pytest.mark.parametrize(("config", "image", "first", "second"), [
    (SMALL, 8, ("max", 3, 2), ("average", 2, 2)),       # 8 to 3 to 1: rests in both
    (SMALL, 8, ("average", 2, 2), ("max", 3, 1)),
    (SMALL, 7, ("max", 2, 2), ("average", 3, 2)),
    (TINY, 4, ("max", 2, 2), ("average", 2, 1)),
], ids=["rests", "average first", "odd", "tiny"])
def test_training_steps(config, image, first, second):
    """Layer by layer and in groups, whatever stays on the chip; what the backward pass of a maximum compares is in memory."""
    print("seed 44")
    rng, network = np.random.default_rng(44), pools(image, first, second)
    cuts = [("conv1", 4)], [("conv1", 4), ("conv2", 8)], [("conv1", 8), ("pool1", 4), ("pool2", 8)]
    for groups in (None, *(in_groups(network, *parts) for parts in cuts)):
        step, = run_steps(config, network, trained(rng, network), batches(rng, network, 8, 1), groups=groups, engine="model")
        assert step.different == (), groups


def chain(kind: str) -> Network:
    """A pooling between a normalisation and the mean, neither of which needs its results again."""
    return Network("chain", (4, 4, 1), (
        Conv("conv", (INPUT,), 1, 4), Norm("norm", ("conv",), 4, 4, relu=True), WindowPool("pool", ("norm",), kind, 2, 1),
        Pool("mean", ("pool",)), Linear("classifier", ("mean",), 4, 10)))


@pytest.mark.parametrize("kind", ["max", "average"])
def test_what_the_backward_pass_reads_is_in_memory(kind):
    """x and y of a maximum are written once and read once; those of an average never leave the chip."""
    network = chain(kind)
    groups = in_groups(network, ("conv", 4))
    traffic = compile_step(SMALL, network, 8, groups=groups).traffic()
    x, y = (8 * pixels * 4 * 2 for pixels in (16, 9))
    if kind == "max":
        assert (traffic["norm"], traffic["pool"]) == ((x, x), (y, y))
    else:
        assert not {"norm", "pool"} & traffic.keys()
    assert not {"pool.back", "mean.back"} & traffic.keys()
    print("seed 45")
    rng = np.random.default_rng(45)
    step, = run_steps(SMALL, network, trained(rng, network), batches(rng, network, 8, 1), groups=groups, engine="model")
    assert step.exact


@pytest.fixture
def backwards(monkeypatch):
    """Positions of a window the other way round."""
    right = [y * 64 + x for y in range(3) for x in range(3)]
    assert Windows(1, 64, 64, 3, 1).positions == right
    monkeypatch.setattr(Windows, "positions", property(
        lambda self: [y * self.width + x for y in range(self.kernel) for x in range(self.kernel)][::-1]))


def test_a_wrong_order_is_seen_in_a_step(backwards):
    """The comparison can fail: of equal pixels behind the ReLU the last one gets the gradient."""
    print("seed 46")
    rng, network = np.random.default_rng(46), pools(8, ("max", 2, 2), ("average", 2, 1))
    step, = run_steps(SMALL, network, trained(rng, network), batches(rng, network, 8, 1), engine="model")
    assert {"gradient of norm1", "conv1.weight"} <= set(step.different) and "norm1" not in step.different


@pytest.mark.parametrize(("kind", "different"), [("max", ["back"]), ("average", ["y", "back"])])
def test_a_wrong_order_is_seen_in_a_phase(backwards, kind, different):
    """Sums too: a bf16 number seldom shows their order, of very different numbers it does."""
    print("seed 48")
    assert phases(SMALL, np.random.default_rng(48), (9, 7, 3, 1), kind, 0.3 if kind == "average" else 0, False) == different


def test_it_is_the_engines_function():
    """The golden engine's layers are those of `sw.golden.training`, and the gradient of what is read twice is a sum."""
    print("seed 47")
    rng, network = np.random.default_rng(47), pools(8, ("max", 3, 2), ("average", 2, 1))
    engine, parameters = GoldenEngine(network, tile=8, lanes=4), trained(rng, network)
    batch, = batches(rng, network, 4, 1)
    step = engine.backward(parameters, engine.forward(parameters, batch.images), batch.labels, 1 / 4)
    made, back = step.activations, step.gradients
    assert same(made["pool1"], training.max_pool(made["norm1"], 3, 2)) and same(made["pool2"], training.average_pool(made["conv2"], 2, 1))
    assert same(back["norm1"], training.max_pool_backward(back["pool1"], made["norm1"], made["pool1"], 3, 2))
    assert same(back["conv2"], training.average_pool_backward(back["pool2"], made["conv2"].shape, 2, 1))


# What else knows layers


def test_shapes_costs_and_checkpoints():
    network = pools(9, ("max", 3, 2), ("average", 2, 2))
    found = shapes(network)
    assert found["pool1"] == (4, 4, 6) and found["pool2"] == (2, 2, 6)
    assert network_from_dict(network_to_dict(network)) == network
    pool = workload(network).by_name["pool1"]
    assert isinstance(pool, workloads.Pool) and (pool.kind, pool.kernel, pool.stride) == ("max", (3, 3), (2, 2))
    assert (pool.source, pool.shape) == ((6, 9, 9), (6, 4, 4))


def test_a_branch_with_a_pooling_is_pruned():
    """A pooling in front of a dead projection goes with it."""
    network = Network("shortcut", (8, 8, 1), (
        Conv("stem", (INPUT,), 1, 4), Norm("norm", ("stem",), 4, 4, relu=True),
        Conv("conv", ("norm",), 4, 4, stride=2), Norm("norm1", ("conv",), 4, 4),
        WindowPool("pool", ("norm",), "average", 2, 2), Conv("projection", ("pool",), 4, 4, kernel=1, pad=0),
        Norm("norm2", ("projection",), 4, 4), Add("sum", ("norm1", "norm2")), Pool("mean", ("sum",)), Linear("out", ("mean",), 4, 10)))
    smaller = with_channels(network, {"stem": 4, "conv": 3})
    assert [layer.name for layer in smaller.layers] == ["stem", "norm", "conv", "norm1", "mean", "out"] and shapes(smaller)
    assert with_channels(network, {"stem": 3, "conv": 4, "projection": 4}).layers[4] == network.layers[4]


@pytest.mark.parametrize(("layer", "text"), [
    (WindowPool("p", ("c",), "least", 2, 2), "p has the kind 'least', allowed: max, average"),
    (WindowPool("p", ("c",), "max", 9, 2), r"p has a kernel of 9 and stride 2 on \(8, 8, 4\)"),
    (WindowPool("p", ("c",), "max", 2, 0), r"p has a kernel of 2 and stride 0 on \(8, 8, 4\)"),
    (WindowPool("p", ("m",), "max", 1, 1), "p reads no image, but what is behind a pool"),
    (WindowPool("p", ("c", "c"), "max", 2, 2), "p reads c, c, allowed: one layer before it"),
])
def test_refused(layer, text):
    layers = Conv("c", (INPUT,), 1, 4), Pool("m", ("c",)), layer, Linear("l", ("p",), 4, 10)
    with pytest.raises(UserError, match=text):
        shapes(Network("net", (8, 8, 1), layers))


@pytest.mark.parametrize(("kind", "size", "words"), [
    ("max", (11, 11, 3, 2), 484),       # sums in fp32
    ("average", (11, 11, 3, 2), 484),
    ("max", (11, 11, 1, 1), 484),       # a gradient beside every result
    ("max", (16, 16, 2, 2), 512),
])
def test_an_image_that_does_not_fit(kind, size, words):
    with pytest.raises(CompileError, match=rf"^buffers.slice_words = 256 is outside {words}\.\.65536 words for 2 x"):
        phases(TINY, np.random.default_rng(0), size, kind, 0, False)


@pytest.mark.parametrize("kind", ["max", "average"])
def test_an_image_that_just_fits(kind):
    """Where windows do not overlap, a pixel of the gradient takes one word."""
    print("seed 49")
    assert phases(TINY, np.random.default_rng(49), (11, 11, 2, 2), kind, 0, False) == []

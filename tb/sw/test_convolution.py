"""Compiled convolutions in the functional model, against the golden convolution: any window, machine and type; refusals."""

import dataclasses
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gen.config import ORGANISATIONS
from gen.presets import PRESETS
from sw.compiler import CompileError, Program, Window, compile_conv, compile_gemm
from sw.compiler.window import Walk
from sw.model.cycles import predict
from sw.model.functional import run
from sw.runtime.product import Work, golden
from tb.sw.program_checks import check_program


def operands(program: Program, seed: int) -> dict[str, np.ndarray]:
    """Random images and kernel over the full range of their types, and column parameters where they are used."""
    product, window, rng = program.gemm, program.gemm.window, np.random.default_rng(seed)
    assert window is not None

    def values(shape, dtype):
        return rng.integers(*((-128, 128) if dtype == "int8" else (0, 256)), shape).astype(dtype)

    found = {"a": values((window.images, window.height, window.width, product.k), product.a_dtype),
             "b": values((*window.kernel, product.k, product.n), product.b_dtype)}
    if product.parameters:
        found["bias"] = rng.integers(-9999, 9999, product.n).astype(np.int32)
        found["multiplier"] = rng.uniform(1e-4, 4e-3, product.n).astype(np.float32)
    return found


def check(program: Program, seed: int):
    """The program keeps the rules and gives what the golden convolution gives."""
    check_program(program)
    given_ = operands(program, seed)
    found = program.result(run(program.config, program.instructions, program.image(**given_)))
    np.testing.assert_array_equal(found, golden(Work(program.gemm, given_), program.config.tile))


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(["tiny", "small"]), st.sampled_from(ORGANISATIONS), st.integers(0, 1 << 30))
def test_any_window(preset, organisation, seed):
    rng = random.Random(seed)
    height, width = rng.randint(1, 9), rng.randint(1, 9)
    top, left, bottom, right = (rng.randint(0, 3) for _ in range(4))
    kernel = rng.randint(1, min(4, height + top + bottom)), rng.randint(1, min(4, width + left + right))
    window = Window(images=rng.randint(1, 3), height=height, width=width, stride=rng.randint(1, 4), kernel=kernel,
                    padding=(top, left, bottom, right))
    x_dtype, w_dtype = rng.choices(["int8", "uint8"], k=2)
    lowest = {"int8": -128, "uint8": 0}
    check(compile_conv(
        PRESETS[preset].organise(organisation), window, rng.randint(1, 24), rng.randint(1, 20), x_dtype=x_dtype, w_dtype=w_dtype,
        x_zero_point=lowest[x_dtype] + rng.randrange(256), w_zero_point=lowest[w_dtype] + rng.randrange(256),
        output=rng.choice(["int32", "uint8"])), seed)


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_any_machine(data):
    """Odd buffers, beats and queues: what compiles is right, and what does not fit is refused in one line."""
    draw = lambda *values: data.draw(st.sampled_from(values))       # noqa: E731
    config = PRESETS["tiny"].organise(draw(*ORGANISATIONS))
    config = dataclasses.replace(
        config,
        buffers=dataclasses.replace(config.buffers, slices=draw(3, 4, 9), slice_words=draw(64, 128, 512), accumulator_words=draw(8, 16)),
        memory=dataclasses.replace(config.memory, bytes_per_cycle=config.array.side * draw(1, 2, 4), latency=draw(1, 90)),
        control=dataclasses.replace(config.control, queue_depth=draw(2, 3, 8), landing_depth=draw(2, 4)))
    window = Window(images=draw(1, 2), height=draw(3, 6, 11), width=draw(3, 8, 17), kernel=draw((1, 1), (3, 3), (1, 3)), stride=draw(1, 2),
                    padding=draw((0, 0, 0, 0), (1, 1, 1, 1)))
    try:
        program = compile_conv(config, window, draw(3, 8, 17), draw(1, 9), output=draw("int32", "int8"))
    except CompileError as error:
        assert "\n" not in str(error) and "outside" in str(error)
        return
    check(program, data.draw(st.integers(0, 1 << 20)))


@pytest.mark.parametrize("organisation", ORGANISATIONS)
@pytest.mark.parametrize("kernel,stride,padding", [((3, 3), 1, (1, 1, 1, 1)), ((3, 3), 2, (0, 0, 1, 1)), ((1, 1), 2, (0, 0, 0, 0)),
                                                   ((7, 7), 2, (3, 3, 3, 3)), ((1, 5), 1, (0, 2, 0, 2))])
def test_windows_of_networks(organisation, kernel, stride, padding):
    window = Window(images=2, height=12, width=10, kernel=kernel, stride=stride, padding=padding)
    check(compile_conv(PRESETS["small"].organise(organisation), window, 11, 13, output="uint8", relu=True, output_zero_point=3), 7)


def test_pointwise_is_the_product():
    """A kernel of one position and stride 1 needs no walk: the same instructions as the product of pixels by channels."""
    config = PRESETS["small"]
    convolution = compile_conv(config, Window(images=2, height=5, width=7, kernel=(1, 1)), 20, 12)
    assert convolution.instructions == compile_gemm(config, 70, 12, 20).instructions


def test_full_rate_and_busy_array():
    """A layer as ResNet has it keeps the array busy: 56 x 56 pixels, 64 channels, 3 x 3."""
    window = Window(height=56, width=56, kernel=(3, 3), padding=(1, 1, 1, 1))
    program = compile_conv(PRESETS["base"], window, 64, 64, output="uint8")
    prediction = predict(program.config, program.instructions)
    assert program.gemm.macs == 56 * 56 * 9 * 64 * 64
    assert prediction.cycles <= 1.01 * program.gemm.macs / program.config.pes
    assert abs(program.plan["cycles"] - prediction.cycles) <= 0.1 * prediction.cycles


def test_more_channels_than_a_walk_counts():
    """300 waves of channels at one position: a walk counts 255, so no chunk has more, though slices would hold it."""
    small = PRESETS["small"]
    config = dataclasses.replace(small, buffers=dataclasses.replace(small.buffers, slice_words=32768))
    check(compile_conv(config, Window(height=5, width=3, kernel=(1, 1), stride=2), 2400, 17), 3)


@pytest.mark.parametrize("width,lines", [(8, 4), (6, 4)])
def test_lines_that_nobody_reads_are_not_loaded(width, lines):
    """1 x 1, stride 2, 8 lines: every other one comes, each channel block once (one tile, all outputs in one pass)."""
    config = PRESETS["small"]
    program = compile_conv(config, Window(height=8, width=width, kernel=(1, 1), stride=2), 16, 8)
    beats = predict(config, program.instructions).counters["dram_read_beats"]
    weights = 16 * 8
    assert beats * config.memory.bytes_per_cycle == lines * width * 16 + weights


@pytest.mark.parametrize("preset", ["tiny", "small", "base"])
@pytest.mark.parametrize("below, beside, stride", [(1, 1, 2), (5, 0, 3), (0, 2, 2)])
def test_lines_in_the_padding_are_not_loaded(preset, below, beside, stride):
    """SCALE-Sim counts the last position that is begun: output lines that lie below the image."""
    window = Window(height=16, width=16, kernel=(1, 1), stride=stride, padding=(0, 0, below, beside))
    assert Walk.of(window, 1).skips and window.out_height + (not below) > 16 / stride
    check(compile_conv(PRESETS[preset], window, 12, 8, x_dtype="uint8", x_zero_point=77), 5)


def test_files():
    program = compile_conv(PRESETS["tiny"], Window(height=4, width=4, kernel=(2, 2)), 3, 3)
    assert Program.from_bytes(program.to_bytes()) == program


@pytest.mark.parametrize("values,message", [
    ({"height": 0}, "height = 0 is outside 1..4095"),
    ({"width": 5000}, "width = 5000 is outside 1..4095"),
    ({"stride": 16}, "stride = 16 is outside 1..15"),
    ({"kernel": (7, 3)}, "kernel height = 7 is outside 1..6"),
    ({"kernel": (3, 0)}, "kernel width = 0 is outside 1..6"),
    ({"padding": (0, 16, 0, 0)}, "padding left = 16 is outside 0..15"),
    ({"images": 0}, "images = 0 is outside 1.."),
    ({"kernel": (3,)}, "kernel = (3,) must be 2 integers"),
    ({"padding": (1, 1, 1, 1, 1)}, "padding = (1, 1, 1, 1, 1) must be 4 integers"),
])
def test_refusals(values, message):
    with pytest.raises(CompileError) as error:
        Window(**{"height": 6, "width": 6, "kernel": (3, 3)} | values)
    assert str(error.value).startswith(message) and "\n" not in str(error.value)


@pytest.mark.parametrize("values,message", [
    ({"channels": 0}, "channels = 0 is outside 1.."), ({"outputs": 0}, "outputs = 0 is outside 1.."),
    ({"x_dtype": "int16"}, "x_dtype = 'int16' is none of int8, uint8"), ({"w_zero_point": 300}, "w_zero_point = 300 is outside -128..127"),
])
def test_refusals_by_name(values, message):
    with pytest.raises(CompileError) as error:
        compile_conv(PRESETS["small"], Window(height=6, width=6, kernel=(3, 3)), **{"channels": 4, "outputs": 4} | values)
    assert str(error.value).startswith(message)

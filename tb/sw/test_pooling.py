"""Poolings and residuals: the golden models against plain loops over fractions, programs in the functional model, refusals."""

from fractions import Fraction

import numpy as np
import pytest

from gen.config import Config, Vector
from gen.presets import PRESETS
from sw.compiler import Addition, CompileError, Gemm, Pooling, Program, Window, compile_pool
from sw.compiler.lower import compile_product
from sw.golden.pooling import add_residual, average_pool, max_pool
from sw.runtime.product import compute
from tb.sw.vector_works import numbers, random_addition, random_pooling, random_sum


def saturated(value: int, dtype: str) -> int:
    limits = np.iinfo(dtype)
    return min(max(value, limits.min), limits.max)


@pytest.mark.parametrize("seed", range(6))
def test_golden_poolings(seed):
    """Pixel by pixel; Python's round is to even."""
    rng = np.random.default_rng(seed)
    dtype, output = (str(kind) for kind in rng.choice(["int8", "uint8"], 2))
    kernel, stride, pad = (3, 2), int(rng.integers(1, 3)), (1, 0, 2, 1)
    x, zero_point = numbers(rng, (2, 6, 5, 3), dtype), int(rng.integers(0, 100))
    multiplier, count = float(rng.uniform(0.1, 2)), bool(seed & 1)
    largest = max_pool(x, kernel=kernel, stride=stride, pad=pad)
    averages = average_pool(x, kernel=kernel, stride=stride, pad=pad, zero_point=zero_point, multiplier=multiplier, output_zero_point=7,
                            dtype=output, count_padding=count)
    assert largest.shape == averages.shape == (2, (6 + 3 - 3) // stride + 1, (5 + 1 - 2) // stride + 1, 3)
    for image, y, column, channel in np.ndindex(largest.shape):
        pixels = [int(x[image, line, place, channel])
                  for line in range(y * stride - 1, y * stride + 2) if 0 <= line < 6
                  for place in range(column * stride, column * stride + 2) if place < 5]
        assert largest[image, y, column, channel] == max(pixels)
        scale = Fraction(float(np.float32(multiplier / (6 if count else len(pixels)))))
        wanted = saturated(round(sum(pixel - zero_point for pixel in pixels) * scale) + 7, output)
        assert averages[image, y, column, channel] == wanted


@pytest.mark.parametrize("seed", range(8))
def test_golden_sums(seed):
    rng = np.random.default_rng(seed)
    output = ("int8", "uint8")[seed & 1]
    addition = random_addition(rng, output, int(rng.integers(0, 100)))
    own, other = numbers(rng, (400,), output), numbers(rng, (400,), addition.dtype)
    found = add_residual(own, other, **{name: value for name, value in addition.to_dict().items() if name != "dtype"})
    for left, right, value in zip(own, other, found):
        exact = Fraction((int(left) - addition.own_zero_point) * addition.multiplier
                         + (int(right) - addition.residual_zero_point) * addition.residual_multiplier, 1 << 24)
        assert value == saturated((max(round(exact), 0) if addition.relu else round(exact)) + addition.zero_point, output)


@pytest.mark.parametrize("organisation", ["1G1F", "4G1F", "1G1C"])
@pytest.mark.parametrize("preset", ["tiny", "small"])
def test_programs(preset, organisation):
    """In the functional model, which knows no time."""
    config = PRESETS[preset].organise(organisation)
    seed = 5
    print(f"seed {seed}")
    rng, works = np.random.default_rng(seed), []
    for work in [*(random_pooling(rng, config) for _ in range(40)), *(random_sum(rng, config) for _ in range(15))]:
        try:
            compile_product(config, work.product)
        except CompileError as error:
            assert "slice_words" in str(error)
            continue
        works.append(work)
    assert len(works) > 40
    for work, (run, wanted) in zip(works, compute(config, works, engine="model")):
        np.testing.assert_array_equal(run.result, wanted, err_msg=str(work.product))


def test_a_program_is_kept():
    config = PRESETS["tiny"]
    rng = np.random.default_rng(2)
    for work in (random_pooling(rng, config), random_sum(rng, config)):
        program = compile_product(config, work.product)
        again = Program.from_bytes(program.to_bytes(), config)
        assert again == program and again.to_bytes() == program.to_bytes()


WINDOW = Window(height=6, width=6, kernel=(2, 2))


@pytest.mark.parametrize(("values", "text"), [
    ({"kind": "least"}, "kind = 'least' is none of max, average"),
    ({"dtype": "int4"}, "dtype = 'int4' is none of int8, uint8"),
    ({"channels": 0}, "channels = 0 is outside 1..2147483647"),
    ({"zero_point": 3}, "output = int8 with zero point 0 must be int8 with 3, as the operands of a max pooling"),
    ({"kind": "average", "multiplier": 0.0}, "multiplier = 0.0 is not a positive normal finite float32"),
    ({"window": Window(height=6, width=6, kernel=(2, 2), padding=(2, 0, 0, 0))}, "padding = 2 is outside 0..1 (kernel height - 1)"),
    ({"addition": {"multiplier": 1 << 26}}, "residual multiplier = 67108864 is outside 0..67108863"),
    ({"addition": {"dtype": "bool"}}, "residual dtype = 'bool' is none of int8, uint8"),
])
def test_values_out_of_range(values, text):
    with pytest.raises(CompileError) as error:
        Pooling(**{"window": WINDOW, "channels": 4} | values)
    assert str(error.value) == text


def test_machines_that_cannot():
    plain = Config(vector=Vector(window=0))
    with pytest.raises(CompileError, match=r"vector.window = 0 is outside 1..4096 pixels for a pooling"):
        compile_pool(plain, Pooling(window=WINDOW, channels=4))
    with pytest.raises(CompileError, match=r"vector.window = 0 is outside 1..4096 pixels for a residual"):
        compile_product(plain, Gemm(m=4, n=4, k=4, output="int8", addition=Addition()))
    with pytest.raises(CompileError, match=r"vector.window = 3 is outside 4..4096 pixels for this window"):
        compile_pool(Config(vector=Vector(window=3)), Pooling(window=WINDOW, channels=4, kind="average"))
    with pytest.raises(CompileError, match=r"output = 'int32' is none of int8, uint8 \(with a residual\)"):
        Gemm(m=4, n=4, k=4, addition=Addition())
    with pytest.raises(CompileError, match=r"buffers.slice_words = 256 is outside \d+..32768 words for a window's lines"):
        compile_pool(PRESETS["tiny"], Pooling(window=Window(height=9, width=200, kernel=(3, 3)), channels=4))

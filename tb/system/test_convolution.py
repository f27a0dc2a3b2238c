"""Random convolutions on the RTL of every preset up to base in every organisation: every integer and every counter is exact."""

import numpy as np
import pytest

from sw.compiler import CompileError, Program, Window, compile_conv
from sw.runtime import engines
from sw.runtime.product import Work, golden
from tb.sw.test_convolution import operands
from tb.system.machines import MACHINES, machine

WINDOWS = 10


def random_window(rng: np.random.Generator, side: int) -> Window:
    """A window over images small enough for a short run; kernels up to 4 x 4, odd paddings and strides included."""
    height, width, top, left, bottom, right = (int(value) for value in rng.integers((1, 1, 0, 0, 0, 0), (13, 2 * side + 9, 3, 3, 3, 3)))
    kernel_height, kernel_width = (int(rng.integers(1, min(4, size) + 1)) for size in (height + top + bottom, width + left + right))
    return Window(images=int(rng.integers(1, 3)), height=height, width=width, kernel=(kernel_height, kernel_width),
                  stride=int(rng.integers(1, 4)), padding=(top, left, bottom, right))


def random_program(rng: np.random.Generator, config, window: Window) -> Program:
    """int8 or uint8 operands, any zero points, int32 or requantised results."""
    side = config.array.side
    channels, outputs = (int(value) for value in rng.integers(1, (5 * side + 1, 5 * side + 1)))
    types = {"int8": -128, "uint8": 0}
    x_dtype, w_dtype = (str(kind) for kind in rng.choice(list(types), 2))
    output = str(rng.choice(["int32", "int8", "uint8"]))
    return compile_conv(config, window, channels, outputs, x_dtype=x_dtype, w_dtype=w_dtype,
                        x_zero_point=types[x_dtype] + int(rng.integers(256)), w_zero_point=types[w_dtype] + int(rng.integers(256)),
                        output=output, relu=bool(rng.integers(2)))


@pytest.mark.parametrize(("preset", "organisation"), MACHINES)
def test_random_convolutions(preset, organisation):
    config = machine(preset, organisation)
    seed = 1000 * MACHINES.index((preset, organisation)) + 19
    print(f"seed {seed}")
    rng = np.random.default_rng(seed)
    windows = [Window(images=2, height=9, width=10, kernel=(3, 3), padding=(1, 1, 1, 1)),
               Window(height=9, width=8, kernel=(1, 1), stride=2),
               Window(height=16, width=8, kernel=(1, 1), stride=2, padding=(0, 0, 1, 1)),
               Window(height=11, width=12, kernel=(5, 5), stride=2, padding=(2, 2, 2, 2)),
               *(random_window(rng, config.array.side) for _ in range(WINDOWS))]
    programs, images, wanted = [], [], []
    for window in windows:
        try:
            program = random_program(rng, config, window)
        except CompileError as error:       # the slices of a tiny machine with four groups have 128 words
            assert "slice_words" in str(error)
            continue
        given = operands(program, seed + len(programs))
        programs.append(program)
        images.append(program.image(**given))
        wanted.append(golden(Work(program.gemm, given), config.tile))
    assert len(programs) >= WINDOWS
    for run, program, result in zip(engines.run(config, programs, images), programs, wanted):
        assert run.mismatches == (), program.gemm
        np.testing.assert_array_equal(run.result, result)

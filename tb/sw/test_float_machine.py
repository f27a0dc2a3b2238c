"""bf16 products and convolutions on the functional model: bit for bit what the golden model gives, in every organisation."""

import dataclasses

import numpy as np
import pytest

from gen.config import ORGANISATIONS, Config, ConfigError
from gen.isa import Cause, Instruction
from sw.compiler import CompileError, compile_gemm
from sw.compiler.program import ProgramError
from sw.golden import bfloat16
from sw.model import check
from sw.runtime.errors import UserError
from sw.runtime.gemm import gemm
from sw.runtime.product import compute, differences, equal
from tb.sw.float_works import numbers, random_float_convolution, random_float_product

TINY = Config.load("tiny-bf16")


@pytest.mark.parametrize("organisation", ORGANISATIONS)
@pytest.mark.parametrize("preset", ["tiny-bf16", "small-bf16"])
def test_bit_for_bit(preset, organisation):
    config, seed = Config.load(preset).organise(organisation), 41
    print(f"seed {seed}")
    rng = np.random.default_rng(seed)
    works = [random_float_product(rng, config) for _ in range(12)] + [random_float_convolution(rng, config) for _ in range(8)]
    for (run, wanted), work in zip(compute(config, works, engine="model"), works):
        assert equal(run.result, wanted), (work.product, differences(run.result, wanted))


def test_the_order_of_sums_counts():
    """Another order gives other numbers, so that the test above can fail."""
    rng = np.random.default_rng(2)
    a, b = numbers(rng, (9, 11), 0), numbers(rng, (11, 5), 0)
    waves = bfloat16.waves_of(11, 4)
    assert [(part.start, part.stop) for part in waves] == [(8, 11), (0, 4), (4, 8)]
    wanted = bfloat16.matmul(a, b, waves)
    assert differences(bfloat16.matmul(a, b, waves[::-1]), wanted) > 0
    assert differences(bfloat16.matmul(a, b, [slice(0, 11)]), wanted) > 0
    np.testing.assert_allclose(wanted, a.astype(np.float64) @ b, rtol=1e-3, atol=1e-3)


def test_equal_is_bit_for_bit():
    zero, nan = np.zeros(2, np.float32), np.full(2, np.nan, np.float32)
    assert equal(nan, nan.copy()) and not equal(zero, -zero) and differences(zero, -zero) == 2


def test_operands_are_rounded():
    report = gemm(TINY, np.full((1, 1), 1.003, np.float32), np.full((1, 1), 3, np.float32), engine="model")
    assert report.exact and report.dtype == "bf16" and report.result.dtype == np.float32 and report.result[0, 0] == 3


@pytest.mark.parametrize(("fields", "message"), [
    ({}, "array.dtype = 'bf16' does not multiply int8"),
    ({"a_dtype": "bf16"}, "b_dtype = 'int8' does not go with a_dtype = 'bf16'"),
    ({"a_dtype": "bf16", "b_dtype": "bf16"}, "output = 'int32' is none of fp32, bf16"),
    ({"a_dtype": "bf16", "b_dtype": "bf16", "output": "fp32", "a_zero_point": 1}, "a_zero_point = 1 is outside 0..0 (bf16)"),
    ({"a_dtype": "bf16", "b_dtype": "bf16", "output": "bf16", "parameters": True}, "parameters: none with a_dtype = 'bf16'"),
])
def test_mistakes(fields, message):
    with pytest.raises(CompileError) as error:
        compile_gemm(TINY, 2, 2, 2, **fields)
    assert str(error.value) == message


def test_more_mistakes():
    floats: dict = {"a_dtype": "bf16", "b_dtype": "bf16", "output": "fp32"}
    with pytest.raises(CompileError, match=r"^array.dtype = 'int8' does not multiply bf16$"):
        compile_gemm(Config.load("tiny"), 2, 2, 2, **floats)
    program = compile_gemm(TINY, 2, 2, 2, **floats)
    for wrong in (np.full((2, 2), 1.003, np.float32), np.ones((2, 2))):
        with pytest.raises(ProgramError, match=r"^operand a must hold bf16 numbers as float32$"):
            program.pack(a=wrong)
    with pytest.raises(UserError, match=r"^a has type int8, allowed: float32$"):
        gemm(TINY, np.ones((2, 2), np.int8), np.ones((2, 2), np.int8), engine="model")
    with pytest.raises(ConfigError, match=r"^vector.window = 4 is outside 0..0 pixels with array.dtype = 'bf16'$"):
        dataclasses.replace(TINY, vector=dataclasses.replace(TINY.vector, window=4))


@pytest.mark.parametrize(("instruction", "cause"), [
    (Instruction("LdScale", blocks=1), Cause.OPCODE),
    (Instruction("SetAdd"), Cause.OPCODE),
    (Instruction("LdLBUF_H", mode=0, signed=1), Cause.FIELD),
    (Instruction("LdLBUF_V", mode=0, zero_point=-1), Cause.FIELD),
    (Instruction("StLBUF", parameters=1), Cause.FIELD),
    (Instruction("StLBUF", output=2), Cause.FIELD),
    (Instruction("StLBUF", output=1, relu=1), None),
])
def test_instructions_of_integers_are_refused(instruction, cause):
    assert check(TINY, instruction) == cause
    assert cause is None or check(Config.load("tiny"), instruction) is None

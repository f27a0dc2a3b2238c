"""Compiled programs: exact results in the functional model, serial order, tokens, ports, fields, schedules, files and refusals.

A program's counters and cycles come from the cycle model; products from numpy.
"""

import dataclasses
import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gen.config import ORGANISATIONS, Config, ConfigError
from gen.isa import Mode
from gen.presets import PRESETS
from gen.timing import drain
from sw.compiler import CompileError, Program, ProgramError, compile_gemm
from sw.model.cycles import predict
from sw.model.functional import run
from tb.sw.program_checks import check_program

LOWEST = {"int8": -128, "uint8": 0}


def machine(preset: str, organisation: str) -> Config:
    return PRESETS[preset].organise(organisation)


def operands(program: Program, seed: int) -> dict[str, Any]:
    """Random operands over the full range of their types."""
    gemm, rng = program.gemm, np.random.default_rng(seed)
    values: dict[str, Any] = {
        "a": rng.integers(0, 256, (gemm.m, gemm.k)) + LOWEST[gemm.a_dtype],
        "b": rng.integers(0, 256, (gemm.k, gemm.n)) + LOWEST[gemm.b_dtype],
    }
    if gemm.parameters:
        values["bias"] = rng.integers(-9999, 9999, gemm.n).astype(np.int32)
        values["multiplier"] = rng.uniform(1e-4, 4e-3, gemm.n).astype(np.float32)
    return values


def expected(program: Program, values: dict[str, Any]) -> np.ndarray:
    """The result by numpy; sums are small enough for their products with the multipliers to be exact in float64."""
    gemm = program.gemm
    total = (values["a"] - gemm.a_zero_point) @ (values["b"] - gemm.b_zero_point) + values.get("bias", 0)
    if gemm.output == "int32":
        return np.maximum(total, 0) if gemm.relu else total
    scaled = np.rint(total * values["multiplier"].astype(np.float64)) + gemm.output_zero_point
    low = LOWEST[gemm.output]
    return np.clip(scaled, max(low, gemm.output_zero_point) if gemm.relu else low, low + 255).astype(np.int64)


def check_result(program: Program, seed: int = 0):
    values = operands(program, seed)
    image = run(program.config, program.instructions, program.image(**values))
    np.testing.assert_array_equal(program.result(image), expected(program, values))


def check_all(program: Program, seed: int = 0):
    check_program(program)
    check_result(program, seed)


def sizes(limit: int) -> st.SearchStrategy[int]:
    return st.one_of(st.integers(1, 9), st.integers(1, limit))


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(["tiny", "small"]), st.sampled_from(ORGANISATIONS), sizes(70), sizes(40), sizes(60), st.integers(0, 1 << 30))
def test_any_shape(preset, organisation, m, n, k, seed):
    rng = random.Random(seed)
    a_dtype, b_dtype = rng.choices(list(LOWEST), k=2)
    check_all(compile_gemm(
        machine(preset, organisation), m, n, k, a_dtype=a_dtype, b_dtype=b_dtype, a_zero_point=LOWEST[a_dtype] + rng.randrange(256),
        b_zero_point=LOWEST[b_dtype] + rng.randrange(256), parameters=rng.random() < 0.3), seed)


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_any_machine(data):
    """Odd buffers, beats and queues: what compiles is right, and what does not fit is refused in one line."""
    config = machine("tiny", data.draw(st.sampled_from(ORGANISATIONS)))
    draw = lambda *values: data.draw(st.sampled_from(values))       # noqa: E731
    try:
        config = dataclasses.replace(
            config,
            buffers=dataclasses.replace(config.buffers, slices=draw(3, 4, 9), slice_words=draw(64, 128, 512), accumulator_words=draw(4, 16),
                                        moving_words=draw(16, 64),
                                        stationary_tiles=draw(4, 8)),
            memory=dataclasses.replace(config.memory, bytes_per_cycle=config.array.side * draw(1, 2, 8, 16), latency=draw(1, 90),
                                       burst_beats=draw(1, 16)),
            control=dataclasses.replace(config.control, queue_depth=draw(2, 3, 8), landing_depth=draw(2, 4)))
        program = compile_gemm(config, data.draw(sizes(50)), data.draw(sizes(20)), data.draw(sizes(40)), parameters=draw(False, True))
    except (ConfigError, CompileError) as error:
        assert "\n" not in str(error) and "outside" in str(error)
        return
    check_all(program)


@pytest.mark.parametrize("organisation", ORGANISATIONS)
@pytest.mark.parametrize("output,relu", [("int32", True), ("int8", False), ("uint8", True)])
def test_outputs(organisation, output, relu):
    zero_point = {"int32": 0, "int8": -20, "uint8": 31}[output]
    config = machine("small", organisation)
    check_all(compile_gemm(config, 37, 21, 26, output=output, relu=relu, output_zero_point=zero_point, parameters=True))


def test_layers_chain():
    """An 8-bit result is the next product's moving operand where it lies; padded columns do no harm."""
    config = PRESETS["small"]
    first = compile_gemm(config, 19, 10, 14, output="uint8", output_zero_point=9)
    address = first.regions["result"].address
    second = compile_gemm(config, 19, 7, 10, a_dtype="uint8", a_zero_point=9, base=first.memory, addresses={"moving": address})
    values = operands(first, 1)
    image = np.zeros(second.memory, np.uint8)
    image[:first.memory] = first.image(**values)
    image = run(config, first.instructions, image)
    hidden, b = first.result(image), operands(second, 2)["b"]
    packed = second.pack(b=b)["stationary"]
    address = second.regions["stationary"].address
    image[address:address + packed.size] = packed
    result = second.result(run(config, second.instructions, image))
    np.testing.assert_array_equal(hidden, expected(first, values))
    np.testing.assert_array_equal(result, (hidden.astype(int) - 9) @ b)


@pytest.mark.parametrize("organisation", ORGANISATIONS)
def test_every_product_once(organisation):
    """Matrices of ones count the products that reach each result."""
    program = compile_gemm(machine("tiny", organisation), 45, 13, 29)
    image = program.image(a=np.ones((45, 29), int), b=np.ones((29, 13), int))
    assert (program.result(run(program.config, program.instructions, image)) == 29).all()


def test_modes():
    """The largest mode that a tile fills, the remainder first, one step for each tile and mode once data is there."""
    program = compile_gemm(PRESETS["base"], 32, 24, 24)
    executed = [(Mode(i.mode).name, i.rows, i.waves, i.accumulate) for i in program.instructions if i.name == "ExecGEMM"]
    assert executed == [("HSW", 32, 1, 0), ("FW", 32, 1, 1), ("ISW", 32, 1, 0), ("VSW", 32, 1, 1)]
    assert predict(program.config, program.instructions).array_cycles == 16 + 32 + 8 + 16 + drain(program.config)      # not one bubble


@pytest.mark.parametrize("shape,array_limit,total_limit", [
    ((128, 128, 128), 8192 / 0.95, None),
    ((256, 256, 256), 66_900, 1.15 * 65_536),
    ((512, 512, 16), None, 1.15 * 512 * 512 * 4 / 16),      # bound by the memory port: int32 results
])
def test_schedule(shape, array_limit, total_limit):
    program = compile_gemm(PRESETS["base"], *shape)
    prediction = predict(program.config, program.instructions)
    assert array_limit is None or prediction.array_cycles <= array_limit
    assert total_limit is None or prediction.cycles <= total_limit
    assert abs(program.plan["cycles"] - prediction.cycles) <= 0.1 * prediction.cycles       # the estimate that chose the plan


def test_deterministic():
    first, second = (compile_gemm(machine("small", "4G1F"), 50, 30, 40) for _ in range(2))
    assert first.to_bytes() == second.to_bytes()


# Files


def test_file_round_trip(tmp_path):
    program = compile_gemm(machine("tiny", "4G4C"), 9, 7, 5, a_dtype="uint8", a_zero_point=3)
    program.save(tmp_path / "p.fw")
    loaded = Program.load(tmp_path / "p.fw", program.config)
    assert loaded == program and loaded.to_bytes() == program.to_bytes()
    check_result(loaded)


def test_damaged_files():
    data = compile_gemm(PRESETS["tiny"], 3, 3, 3).to_bytes()
    rng = random.Random(5)
    for position in [*range(25), *(rng.randrange(len(data)) for _ in range(60))]:
        with pytest.raises(ProgramError) as error:
            Program.from_bytes(data[:position])
        assert "\n" not in str(error.value)
        with pytest.raises(ProgramError):
            Program.from_bytes(data[:position] + bytes([data[position] ^ 1 << rng.randrange(8)]) + data[position + 1:])


def test_foreign_files(tmp_path):
    program = compile_gemm(PRESETS["tiny"], 3, 3, 3)
    with pytest.raises(ProgramError, match=r"is for the machine with digest .*, not .* \(small\)"):
        Program.from_bytes(program.to_bytes(), PRESETS["small"])
    with pytest.raises(ProgramError, match="cannot be read: No such file"):
        Program.load(tmp_path / "missing")
    with pytest.raises(ProgramError, match="first line is not"):
        Program.from_bytes(b"\x7fELF\x02")


# Refusals


@pytest.mark.parametrize("values,message", [
    ({"m": 0}, "m = 0 is outside 1..2147483647"),
    ({"k": 2.0}, "k = 2.0 must be an integer in 1..2147483647"),
    ({"m": 100_000, "n": 100_000}, "result = 40000000000 bytes from byte"),
    ({"a_dtype": "fp8"}, "a_dtype = 'fp8' is none of int8, uint8"),
    ({"a_zero_point": 128}, "a_zero_point = 128 is outside -128..127 (int8)"),
    ({"output": "int4"}, "output = 'int4' is none of int32, int8, uint8"),
    ({"output_zero_point": 1}, "output_zero_point = 1 is outside 0..0 (int32)"),
    ({"base": -1}, "base = -1 is outside 0..4294967295"),
    ({"addresses": {"weights": 0}}, "addresses.weights is not a region; known: moving, stationary, result, program"),
    ({"addresses": {"moving": 2}}, "addresses.moving = 2 must be a multiple of 4 bytes"),
    ({"addresses": {"moving": 0, "result": 4}}, "addresses.result = 4..67 overlaps moving at 0..15"),
])
def test_refusals(values, message):
    with pytest.raises(CompileError) as error:
        compile_gemm(PRESETS["tiny"], **{"m": 4, "n": 4, "k": 4} | values)
    assert str(error.value).startswith(message) and "\n" not in str(error.value)


def test_operand_refusals():
    program = compile_gemm(PRESETS["tiny"], 2, 2, 2, parameters=True)
    good = operands(program, 0)
    for change, message in [
        ({"a": np.zeros((2, 3), int)}, "operand a has shape"), ({"a": np.full((2, 2), 128)}, "operand a must hold integers in -128..127"),
        ({"b": np.zeros((2, 2))}, "operand b must hold integers"), ({"c": np.zeros(2)}, "operand c is none of a, b, bias, multiplier"),
    ]:
        with pytest.raises(ProgramError, match=message):
            program.image(**good | change)
    with pytest.raises(ProgramError, match="the operand of region 'moving' is missing"):
        program.image(**{name: good[name] for name in ("b", "bias", "multiplier")})
    with pytest.raises(ProgramError, match="belong together"):
        program.pack(bias=good["bias"])

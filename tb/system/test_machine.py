"""The machine as a whole: back-pressure, errors, recovery, convolution, random instruction streams."""

import random
from fractions import Fraction

import numpy as np
import pytest

from gen.isa import Cause, Instruction, Mode
from sw.compiler.layout import pack_moving, pack_stationary
from sw.compiler.lower import compile_gemm, compile_product
from sw.golden.conv import conv2d
from sw.golden.gemm import gemm
from sw.model import ModelError, predict
from sw.runtime import engines
from sw.runtime.product import golden
from tb.sw.random_programs import random_program
from tb.sw.vector_works import random_pooling, random_sum
from tb.system.machines import Job, job, machine, run

END = Instruction("End")


def product(config, m: int, n: int, k: int, seed: int):
    rng = np.random.default_rng(seed)
    a, b = rng.integers(-128, 128, (m, k), np.int8), rng.integers(-128, 128, (k, n), np.int8)
    program = compile_gemm(config, m, n, k)
    image = program.image(a=a, b=b)
    regions = program.regions
    address, size = regions["result"]
    return program, image, gemm(a, b), Job(image, regions["program"].address, len(program.instructions), (address, size))


def result(program, image, outcome):
    after = image.copy()
    address, size = program.regions["result"]
    after[address:address + size] = outcome.result
    return program.result(after)


@pytest.mark.parametrize(("preset", "organisation"), [("tiny", "1G1F"), ("small", "4G1F"), ("base", "1G1F")])
def test_back_pressure_changes_timing_never_a_result(preset, organisation):
    config = machine(preset, organisation)
    seed = 11
    print(f"seed {seed}")
    side = config.array.side
    program, image, wanted, plain = product(config, 9 * side + 1, 5 * side + 1, 5 * side, seed)
    jobs = [plain] + [Job(plain.image, plain.program, plain.count, plain.result, stalls=stalls, seed=seed + i)
                      for i, stalls in enumerate((0.05, 0.2, 0.5, 0.8))]
    outcomes = run(config, jobs)
    for outcome in outcomes:
        assert outcome.error is None
        assert np.array_equal(result(program, image, outcome), wanted)
    cycles = [outcome.registers["cycles"] for outcome in outcomes]
    assert cycles[0] == predict(config, program.instructions, program=plain.program).cycles
    assert cycles == sorted(cycles) and cycles[-1] > 2 * cycles[0]


@pytest.mark.parametrize(("preset", "organisation"), [("tiny", "4G1F"), ("small", "1G1F"), ("base", "1G1F")])
def test_slow_ports(preset, organisation):
    """A port that accepts fewer than one beat a cycle, evenly spread: every counter as predicted."""
    config = machine(preset, organisation)
    seed = 29
    print(f"seed {seed}")
    rng = np.random.default_rng(seed)
    works = [random_pooling(rng, config), random_sum(rng, config), random_sum(rng, config)]
    programs = [compile_product(config, work.product) for work in works]
    images = [program.image(**work.operands) for program, work in zip(programs, works)]
    cycles = []
    for pace in (Fraction(1), Fraction(3, 4), Fraction(5, 8), Fraction(1, 2), Fraction(5, 16)):
        runs = engines.run(config, programs, images, pace=pace)
        for found, work in zip(runs, works):
            assert found.mismatches == (), (pace, work.product)
            np.testing.assert_array_equal(found.result, golden(work))
        cycles.append(sum(found.counters["cycles"] for found in runs))
    assert cycles == sorted(cycles) and cycles[-1] > 1.5 * cycles[0]


def test_errors_stop_with_cause_and_index_and_the_next_program_runs():
    config = machine("tiny")
    program, image, wanted, plain = product(config, 9, 7, 5, 12)
    good = Instruction("DmaIn", beats=2)
    far = Instruction("LdLBUF_H", slice=9, rows=1, waves=1)
    cases = [
        (job([good, good, END], raw={1: bytes([0x10]) + bytes(31)}), Cause.OPCODE, 1),
        (job([good, good, END], raw={1: bytes(32)}), Cause.OPCODE, 1),
        (job([good, good, END], raw={0: bytes([good.encode()[0] ^ 0x30]) + good.encode()[1:]}), Cause.VERSION, 0),
        (job([good, far, END]), Cause.FIELD, 1),
        (job([good, good, good, END], raw={2: good.encode()[:-1] + b"\x80"}), Cause.FIELD, 2),
        (job([good, good]), Cause.END, 2),
        (job([good, Instruction("LdLBUF_V", waves=1, wait=1), END]), Cause.DEADLOCK, 1),
        (job([Instruction("LdLBUF_V", waves=9), Instruction("LdLBUF_V", waves=1), Instruction("StLBUF", rows=1, wait=3), END]),
         Cause.DEADLOCK, 0),
        (job([Instruction("DmaIn", beats=40), Instruction("StLBUF", rows=16, wide=1), END]), Cause.PORT, None),
    ]
    jobs = [each for case, _, _ in cases for each in (case, plain)]
    outcomes = run(config, jobs)
    for (_, cause, index), stopped, after in zip(cases, outcomes[::2], outcomes[1::2]):
        assert stopped.cause is cause
        assert index is None or stopped.index == index
        assert after.error is None
        assert np.array_equal(result(program, image, after), wanted)


@pytest.mark.parametrize(("organisation", "stride", "pad"), [("1G1F", 1, 1), ("1G1F", 2, 1), ("1G4C", 1, 0), ("1G1C", 2, 1)])
def test_implicit_im2col(organisation, stride, pad):
    """A convolution whose patches are never written out: the loader walks pixels, kernel positions and channels."""
    config = machine("small", organisation)
    side, seed = config.array.side, 13
    print(f"seed {seed}")
    rng = np.random.default_rng(seed)
    depth = config.tile                       # channels of one wave
    batch, height, width, channels, outputs, kernel = 2, 6, 5, 2 * depth, config.tile, 3
    x = rng.integers(-128, 128, (batch, height, width, channels), np.int8)
    w = rng.integers(-128, 128, (kernel, kernel, channels, outputs), np.int8)
    zero_point = 3
    wanted = conv2d(x, w, stride=stride, pad=pad, x_zero_point=zero_point)
    _, out_height, out_width, _ = wanted.shape
    rows, pixels = batch * out_height * out_width, batch * height * width
    mode = {"1G1F": Mode.FW, "1G4C": Mode.ISW, "1G1C": Mode.FW}[organisation]

    moving = pack_moving(config, x.reshape(pixels, channels))
    stationary = pack_stationary(config, w.reshape(kernel * kernel * channels, outputs))
    beat, words = config.memory.bytes_per_cycle, moving.size // side // (channels // side)
    pitch = words + (2 - words) % 4
    at = {"a": 0, "b": moving.size, "c": moving.size + stationary.size}
    at["c"] += -at["c"] % beat
    blocks, waves = channels // side, kernel * kernel * (channels // depth)
    back = (channels // depth - 1) * pitch * depth // side    # from the last channel wave of a kernel position to the first
    wide = int(mode.wide)
    column_blocks = 2 if wide and config.cores == 4 else 1
    result_words = rows * 4
    program = [
        Instruction("DmaIn", signal=1, memory=at["a"], slice=0, chunks=blocks, beats=words * side // beat,
                    memory_stride=words * side, buffer_stride=pitch),
        Instruction("DmaIn", signal=2, memory=at["b"], slice=1, beats=stationary.size // beat),
        Instruction("SetConv", out_width=out_width, out_height=out_height, in_width=width, in_height=height, stride=stride,
                    pad_x=pad, pad_y=pad, x_step=stride, row_step=stride * width - stride * (out_width - 1),
                    image_step=height * width - stride * width * (out_height - 1) - stride * (out_width - 1),
                    kernel_x_step=(1 - back) % 65536, kernel_y_step=(width - kernel + 1 - back) % 65536,
                    channel_waves=channels // depth, kernel_width=kernel, kernel_height=kernel),
        Instruction("LdLBUF_V", wait=2, slice=1, mode=mode, waves=waves, signed=1),
        Instruction("LdLBUF_H", wait=1, slice=0, address=(-pad * width - pad) % 65536, mode=mode, rows=rows, waves=waves, pitch=pitch,
                    wave_stride=pitch * depth // side, zero_point=zero_point, signed=1, im2col=1),
        Instruction("ExecGEMM", signal=4, mode=mode, rows=rows, waves=waves),
        Instruction("StLBUF", wait=4, signal=8, wide=wide, rows=rows, slice=2, pitch=result_words),
        Instruction("DmaOut", wait=8, memory=at["c"], slice=2, beats=column_blocks * result_words * side // beat),
        END,
    ]
    size = column_blocks * result_words * side
    image = np.zeros(at["c"] + size, np.uint8)
    image[:moving.size], image[at["b"]:at["b"] + stationary.size] = moving, stationary
    start = -(-image.size // 4096) * 4096
    outcome, = run(config, [job(program, data=image, bytes_=start, result=(at["c"], size))])
    assert outcome.error is None
    planes = outcome.result.reshape(column_blocks, rows, 4, side).transpose(1, 0, 3, 2).copy()
    assert np.array_equal(planes.view("<i4").reshape(rows, -1)[:, :outputs], wanted.reshape(rows, outputs))
    prediction = predict(config, program, program=start)
    assert {name: outcome.registers[name] for name in prediction.counters} == prediction.counters


@pytest.mark.parametrize("organisation", ["1G1F", "4G1F", "1G4C", "1G1C"])
def test_random_instruction_streams(organisation):
    """Programs that no compiler would write: an end gives every counter as predicted, a stop the same cause."""
    config, seed = machine("tiny", organisation), 17
    print(f"seed {seed}")
    rng = random.Random(f"{seed} {organisation}")
    programs = [own_slices(random_program(rng, config, rng.randint(2, 12))) for _ in range(60)]
    outcomes = run(config, [job(program, count=len(program)) for program in programs])
    ends = 0
    for program, outcome in zip(programs, outcomes):
        try:
            prediction = predict(config, program, program=4096)
        except ModelError as error:
            assert outcome.cause is error.cause, program
            if error.cause is not Cause.TOKEN:
                assert outcome.index == error.index, program
            continue
        assert outcome.cause is Cause.NONE, (outcome.error, program)
        assert {name: outcome.registers[name] for name in prediction.counters} == prediction.counters, program
        ends += 1
    assert ends > 20


def own_slices(program: list[Instruction]) -> list[Instruction]:
    """Give every unit slices of its own, so that no port is used twice, and let memory accesses stay inside the image."""
    place = {"DmaIn": 0, "LdLBUF_H": 1, "LdLBUF_V": 2, "DmaOut": 3, "StLBUF": 4, "LdScale": 5, "SetAdd": 6, "Pool": 4}


    def moved(each: Instruction) -> Instruction:
        values = {key: value for key, value in each.values.items() if key not in ("opcode", "version")}
        pixels = {"source_slice": 7} if each.name == "Pool" else {}
        return Instruction(each.name, **values | {"slice": place[each.name]} | pixels)

    return [moved(each) if each.name in place else each for each in program]

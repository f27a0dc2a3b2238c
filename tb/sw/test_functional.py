"""The functional simulator on programs built by hand, against plain numpy and fractions."""

import random
from fractions import Fraction

import numpy as np
import pytest

from gen.config import Array, Buffers, Config, Memory, Unit
from gen.isa import Cause, Instruction, Mode, Output
from sw.model import ModelError, predict, run
from tb.sw.random_programs import random_config, random_program

A_AT, B_AT, P_AT, C_AT, SIZE = 0, 4096, 8192, 12288, 16384     # places in memory
FULL, B_FULL, WAVES, DONE = 1, 2, 4, 8                     # tokens


def machine(unit: Unit, side: int = 4, beat_words: int = 2, **buffers: int) -> Config:
    sizes = {"moving_words": 64, "stationary_tiles": 8, "accumulator_words": 32, "slice_words": 512, "slices": 5, "store_lanes": 2}
    return Config(array=Array(side=side, unit=unit), buffers=Buffers(**sizes | buffers), memory=Memory(bytes_per_cycle=side * beat_words))


def padded(matrix: np.ndarray, rows: int, columns: int, fill: int = 0) -> np.ndarray:
    out = np.full((rows, columns), fill, np.int64)
    out[:matrix.shape[0], :matrix.shape[1]] = matrix
    return out.astype(np.uint8)


class Gemm:
    """One output tile, m x n with n at most `config.tile`: operands in memory and the program, written down from rtl/README.md."""

    def __init__(self, config: Config, a: np.ndarray, b: np.ndarray, a_zero: int = 0, b_zero: int = 0, a_signed: int = 1,
                 b_signed: int = 1):
        self.config, side = config, config.array.side
        self.m, k, self.n = *a.shape, b.shape[1]
        flex = config.array.unit is Unit.FLEX
        self.n_blocks, k_blocks = -(-self.n // side), -(-k // side)
        self.rows = -(-self.m // config.beat_words) * config.beat_words
        memory = self.memory = np.zeros(SIZE, np.uint8)
        blocks = padded(a, self.rows, k_blocks * side).reshape(self.rows, k_blocks, side).transpose(1, 0, 2)
        memory[A_AT:A_AT + blocks.size] = blocks.reshape(-1)
        wide = flex and self.n_blocks == 2
        full = padded(b, k_blocks * side, self.n_blocks * side, b_zero).reshape(k_blocks, side, self.n_blocks, side)
        # Waves: the odd block of k first, then pairs of blocks in tall modes.
        if flex:
            waves = [[0]] * (k_blocks % 2) + [[i, i + 1] for i in range(k_blocks % 2, k_blocks, 2)]
            modes = [Mode(2 * (len(wave) == 1) + (not wide)) for wave in waves]
        else:
            waves = [[i] for i in range(k_blocks)]
            modes = [Mode.ISW if config.array.unit is Unit.QUAD else Mode.FW] * k_blocks
        words = [full[block, i, column] for wave in waves for i in range(side) for block in wave for column in range(self.n_blocks)]
        stream = np.concatenate(words)
        memory[B_AT:B_AT + stream.size] = stream
        self.beats_a, self.beats_b = blocks.size // memory_beat(config), -(-stream.size // memory_beat(config))
        self.wide = int(wide or config.array.unit is Unit.SINGLE)
        self.load = []
        for tall in (False, True):
            chosen = [i for i, wave in enumerate(waves) if (len(wave) == 2) == tall]
            if not chosen:
                continue
            mode, first, count = modes[chosen[0]], chosen[0], len(chosen)
            address_b = sum(len(wave) * self.n_blocks * side for wave in waves[:first])
            common = {"mode": mode, "waves": count}
            a_fields = common | {"slice": 0, "address": waves[first][0] * self.rows, "rows": self.m, "rate": (mode.parts - 1).bit_length(),
                                 "pitch": self.rows, "wave_stride": len(waves[first]) * self.rows, "zero_point": a_zero, "signed": a_signed}
            b_fields = common | {"slice": 1, "address": address_b, "zero_point": b_zero, "signed": b_signed}
            execute = common | {"rows": self.m, "half": 1, "accumulate": int(bool(self.load))}
            self.load.append((a_fields, b_fields, execute))

    def run(self, **store: int) -> np.ndarray:
        """Result bytes, [block][row][words of a row][side]."""
        config, planes = self.config, 4 if store.get("output", 0) == Output.INT32 else 1
        dma = {"memory_stride": 0, "chunks": 1}
        program = [Instruction("DmaIn", memory=A_AT, slice=0, beats=self.beats_a, signal=FULL, **dma),
                   Instruction("DmaIn", memory=B_AT, slice=1, beats=self.beats_b, signal=B_FULL, **dma)]
        for i, (a_fields, b_fields, execute) in enumerate(self.load):
            last = i == len(self.load) - 1
            program += [Instruction("LdLBUF_H", wait=FULL * (i == 0), **a_fields),
                        Instruction("LdLBUF_V", wait=B_FULL * (i == 0), **b_fields),
                        Instruction("ExecGEMM", signal=WAVES * last, **execute)]
        beat_words, side = config.beat_words, config.array.side
        if store.get("parameters"):
            program += [Instruction("DmaIn", memory=P_AT, slice=3, beats=8 * self.n_blocks // beat_words, signal=16),
                        Instruction("LdScale", wait=16, slice=3, blocks=self.n_blocks)]
        pitch = self.rows * planes
        program += [Instruction("StLBUF", wait=WAVES, signal=DONE, half=1, wide=self.wide, rows=self.m, slice=2, pitch=pitch, **store),
                    Instruction("DmaOut", wait=DONE, memory=C_AT, slice=2, chunks=self.n_blocks, beats=pitch // beat_words,
                                memory_stride=pitch * side, buffer_stride=pitch), Instruction("End")]
        result = run(config, program, self.memory)
        assert (result[:C_AT] == self.memory[:C_AT]).all()
        assert predict(config, program).cycles > 0
        return result[C_AT:C_AT + self.n_blocks * pitch * side].reshape(self.n_blocks, self.rows, planes, side)[:, :self.m]

    def int32(self, **store: int) -> np.ndarray:
        planes = self.run(**store).transpose(0, 1, 3, 2)
        return np.ascontiguousarray(planes).view("<i4")[..., 0].transpose(1, 0, 2).reshape(self.m, -1)[:, :self.n]

    def bytes(self, **store: int) -> np.ndarray:
        return self.run(**store)[:, :, 0].transpose(1, 0, 2).reshape(self.m, -1)[:, :self.n]


def memory_beat(config: Config) -> int:
    return config.memory.bytes_per_cycle


@pytest.mark.parametrize("unit", Unit)
@pytest.mark.parametrize("seed", range(12))
def test_gemm(unit, seed):
    rng = np.random.default_rng(seed)
    config = machine(unit, side=int(rng.choice((1, 2, 4))), beat_words=int(rng.choice((1, 2, 4))), store_lanes=1)
    m, k, n = (int(rng.integers(1, limit + 1)) for limit in (24, 5 * config.array.side, config.tile))
    a_signed, b_signed = (int(value) for value in rng.integers(0, 2, 2))
    a = rng.integers(-128, 128, (m, k)) + 128 * (1 - a_signed)
    b = rng.integers(-128, 128, (k, n)) + 128 * (1 - b_signed)
    a_zero, b_zero = int(rng.integers(-20, 21)) + 128 * (1 - a_signed), int(rng.integers(-20, 21)) + 128 * (1 - b_signed)
    gemm = Gemm(config, a, b, a_zero, b_zero, a_signed, b_signed)
    assert (gemm.int32() == (a - a_zero) @ (b - b_zero)).all(), f"seed {seed}"


def exact(total: int, multiplier: np.float32, zero_point: int, low: int, high: int, relu: bool) -> int:
    value = Fraction(int(total)) * Fraction(float(multiplier))
    return min(max(max(round(value), 0 if relu else round(value)) + zero_point, low), high)      # round: half to even


@pytest.mark.parametrize("unit", Unit)
@pytest.mark.parametrize("seed", range(6))
def test_requantise(unit, seed):
    rng = np.random.default_rng(seed)
    config = machine(unit)
    m, k, n = int(rng.integers(1, 20)), 7, config.tile
    a, b = rng.integers(-128, 128, (m, k)), rng.integers(-128, 128, (k, n))
    gemm = Gemm(config, a, b)
    bias = rng.integers(-2000, 2000, n).astype(np.int32)
    multiplier = np.where(rng.random(n) < 0.5, 2.0 ** -rng.integers(1, 9, n), rng.random(n) * 0.01 + 1e-6).astype(np.float32)
    side, records = config.array.side, np.stack([bias.view(np.uint32), multiplier.view(np.uint32)], axis=1)
    parameters = np.ascontiguousarray(records).view(np.uint8).reshape(n // side, side, 8).transpose(0, 2, 1)
    gemm.memory[P_AT:P_AT + parameters.size] = parameters.reshape(-1)
    totals, relu = a @ b + bias, bool(seed & 1)
    assert (gemm.int32(parameters=1, relu=relu) == (np.maximum(totals, 0) if relu else totals)).all()
    for output, low, high, dtype in ((Output.INT8, -128, 127, np.int8), (Output.UINT8, 0, 255, np.uint8)):
        zero_point = int(rng.integers(low // 2, high // 2))
        found = gemm.bytes(parameters=1, relu=relu, output=output, zero_point=zero_point).copy().view(dtype)
        expected = [[exact(total, multiplier[j], zero_point, low, high, relu) for j, total in enumerate(row)] for row in totals]
        assert (found == expected).all(), f"seed {seed} {output}"


def test_rounding_of_large_products():
    from sw.model.datapath import requantise

    rng = np.random.default_rng(0)
    totals = np.concatenate([rng.integers(-2**31, 2**31, 400), [-2**31, 2**31 - 1, 0, 1, -1, 3, 5, -3]])
    for multiplier in np.array([2.0**-31, 2.0**-25, 3.0 * 2**-30, 1.1e-8, 0.5, 1.0, 0.75, 1e-38, 3e38, 2.0**30, 1.4999999], np.float32):
        bits = np.full(len(totals), multiplier.view(np.uint32))
        expected = [exact(total, multiplier, 3, -128, 127, False) for total in totals]
        assert (requantise(totals, bits, 3, False, True).view(np.int8) == expected).all(), multiplier


@pytest.mark.parametrize("unit", Unit)
@pytest.mark.parametrize("seed", range(4))
def test_convolution(unit, seed):
    """Implicit im2col: one block of channels a kernel position, started in the middle of an image row."""
    rng = np.random.default_rng(seed)
    config = machine(unit, moving_words=64, stationary_tiles=16)
    side = config.array.side
    mode = {Unit.FLEX: Mode.HSW, Unit.QUAD: Mode.ISW, Unit.SINGLE: Mode.FW}[unit]
    stride, pad, kernel, size, images = int(rng.integers(1, 3)), int(rng.integers(0, 2)), 3, 5, 2
    out = (size + 2 * pad - kernel) // stride + 1
    x, w = rng.integers(0, 256, (images, size, size, side)), rng.integers(-128, 128, (kernel, kernel, side, config.tile))
    zero, first = 77, int(rng.integers(0, 3)) if out * out > 3 else 0
    total = images * out * out - first
    rows = min(total, config.moving_capacity // 2 * mode.parts)
    start = -pad * size - pad       # address of the pixel under the kernel's first position: before the slice's base if padded
    base = 64
    origin = base + start + first // out * stride * size + first % out * stride
    conv = Instruction("SetConv", out_width=out, out_height=out, in_width=size, in_height=size, stride=stride, pad_x=pad, pad_y=pad,
                       x_step=stride, row_step=stride * size - (out - 1) * stride,
                       image_step=size * size - (out - 1) * stride * (size + 1), kernel_x_step=1, kernel_y_step=size - kernel + 1,
                       channel_waves=1, kernel_width=kernel, kernel_height=kernel)
    memory = np.zeros(SIZE, np.uint8)
    memory[A_AT:A_AT + x.size] = x.reshape(-1)
    blocks = config.tile // side
    stationary = w.reshape(kernel * kernel, side, blocks * side).astype(np.uint8)
    memory[B_AT:B_AT + stationary.size] = stationary.reshape(-1)
    beats = x.size // memory_beat(config)
    waves = {"mode": mode, "waves": 7}
    rest = {"mode": mode, "waves": 2}
    moving = {"slice": 0, "address": origin, "rows": rows, "rate": 0, "zero_point": zero, "im2col": 1,
              "start_x": first % out, "start_y": first // out}
    program = [
        Instruction("DmaIn", memory=A_AT, slice=0, address=base, beats=beats, signal=FULL),
        Instruction("DmaIn", memory=B_AT, slice=1, beats=stationary.size // memory_beat(config), signal=B_FULL),
        conv,
        Instruction("LdLBUF_H", wait=FULL, **moving, **waves), Instruction("LdLBUF_V", wait=B_FULL, slice=1, signed=1, **waves),
        Instruction("ExecGEMM", rows=rows, **waves),
        # The last two of the nine kernel positions: a second instruction starts at kernel position (1, 2).
        Instruction("LdLBUF_H", start_kernel_x=1, start_kernel_y=2, **moving | rest | {"address": origin + 2 * size + 1}),
        Instruction("LdLBUF_V", slice=1, address=7 * side * blocks, signed=1, **rest),
        Instruction("ExecGEMM", rows=rows, accumulate=1, signal=WAVES, **rest),
        Instruction("StLBUF", wait=WAVES, signal=DONE, wide=int(mode.wide), rows=rows, slice=2, pitch=0 if blocks == 1 else 256),
        Instruction("DmaOut", wait=DONE, memory=C_AT, slice=2, chunks=blocks, beats=256 // config.beat_words, buffer_stride=256,
                    memory_stride=256 * side), Instruction("End"),
    ]
    # Words of a slice wrap: the image's padding lies before and behind it.
    result = run(config, program, memory)[C_AT:C_AT + blocks * 256 * side].reshape(blocks, 64, 4, side)[:, :rows]
    found = np.ascontiguousarray(result.transpose(1, 0, 3, 2)).view("<i4").reshape(rows, -1)
    image = np.pad(x.astype(np.int64) - zero, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    expected = np.zeros((images, out, out, config.tile), np.int64)
    for dy in range(kernel):
        for dx in range(kernel):
            patch = image[:, dy:dy + stride * out:stride, dx:dx + stride * out:stride]
            expected += patch[:, :out, :out] @ w[dy, dx]
    assert (found == expected.reshape(-1, config.tile)[first:first + rows]).all(), f"seed {seed}"


def test_channel_waves():
    """Two waves a kernel position, and a start in the second of them."""
    config = machine(Unit.SINGLE)
    side, width, rows = config.array.side, 6, 4
    rng = np.random.default_rng(5)
    x, w = rng.integers(0, 100, (2, width, side)), rng.integers(0, 100, (6, side, side))     # 2 channel blocks, 3 kernel columns
    memory = np.zeros(SIZE, np.uint8)
    memory[:x.size], memory[B_AT:B_AT + w.size] = x.reshape(-1), w.reshape(-1)
    beat = memory_beat(config)
    common = {"rows": rows, "im2col": 1, "wave_stride": width}
    program = [
        Instruction("DmaIn", memory=0, slice=0, beats=x.size // beat, signal=1),
        Instruction("DmaIn", memory=B_AT, slice=1, beats=w.size // beat, signal=2),
        Instruction("SetConv", out_width=rows, out_height=1, in_width=width, in_height=1, x_step=1, kernel_x_step=(1 - width) % 65536,
                    channel_waves=2, kernel_width=3),
        Instruction("LdLBUF_H", wait=1, waves=3, **common), Instruction("LdLBUF_V", wait=2, slice=1, waves=6),
        Instruction("LdLBUF_H", address=width + 1, waves=3, start_kernel_x=1, start_wave=1, **common),
        Instruction("ExecGEMM", waves=6, rows=rows, signal=4), Instruction("StLBUF", wait=4, signal=8, wide=1, rows=rows, slice=2),
        Instruction("DmaOut", wait=8, memory=C_AT, slice=2, beats=rows * 4 * side // beat), Instruction("End"),
    ]
    result = run(config, program, memory)[C_AT:C_AT + rows * 4 * side].reshape(rows, 4, side).transpose(0, 2, 1)
    expected = sum(x[wave % 2, wave // 2:wave // 2 + rows] @ w[wave] for wave in range(6))
    assert (np.ascontiguousarray(result).view("<i4")[..., 0] == expected).all()


def test_dma_chunks_and_bounds():
    config = machine(Unit.FLEX)         # beats of two words of 4 bytes
    memory = np.arange(256, dtype=np.uint8)
    piece = {"chunks": 2, "beats": 2, "address": 510, "buffer_stride": 4}
    copy = [Instruction("DmaIn", memory=8, memory_stride=32, signal=1, **piece),
            Instruction("DmaOut", wait=1, memory=128, memory_stride=16, **piece), Instruction("End")]
    result = run(config, copy, memory)
    expected = memory.copy()
    expected[128:144], expected[144:160] = memory[8:24], memory[40:56]      # the first piece wraps round the slice's end
    assert (result == expected).all()
    with pytest.raises(ValueError, match=r"instruction 0 \(DmaIn\) reaches byte 264 of 256"):
        run(config, [Instruction("DmaIn", memory=248, beats=2), Instruction("End")], memory)
    with pytest.raises(ValueError, match=r"DmaOut\.memory = 4 of instruction 0 is not a multiple of 8 bytes"):
        run(config, [Instruction("DmaOut", memory=4), Instruction("End")], memory)


def test_end_is_missing():
    with pytest.raises(ModelError) as error:
        run(machine(Unit.FLEX), [Instruction("Barrier")], np.zeros(16, np.uint8))
    assert (error.value.cause, error.value.index) == (Cause.END, 1)


def test_stops_like_the_machine():
    """Whether and where a program deadlocks is the same as with time, as long as no token has two takers."""
    outcomes = set()
    for seed in range(150):
        rng = random.Random(seed)
        config = random_config(rng)
        program = random_program(rng, config, 12)
        takers: dict[tuple[int, int], set] = {}
        for instruction in program:
            for bit in range(16):
                if instruction.wait >> bit & 1:
                    takers.setdefault((instruction.group, bit), set()).add(instruction.unit)
        if any(len(units) > 1 for units in takers.values()):
            continue
        found = [outcome(run, config, program, np.zeros(1 << 12, np.uint8)), outcome(predict, config, program)]
        assert found[0] == found[1], f"seed {seed}"
        outcomes.add(found[0] and found[0][0])
    assert outcomes == {None, Cause.DEADLOCK}


def outcome(model, *arguments) -> tuple[Cause, int] | None:
    """Why and where a model stops, None when it does not."""
    try:
        model(*arguments)
    except ModelError as error:
        return error.cause, error.index
    return None

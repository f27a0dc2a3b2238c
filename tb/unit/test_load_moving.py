"""LOAD_H: cycles against the closed form, operands against numpy slices and a numpy im2col."""

from dataclasses import dataclass

import numpy as np
import pytest

from gen.config import Unit
from gen.isa import Instruction, Mode
from gen.timing import LOAD_LATENCY
from rtl.control.load_moving import LoadMoving
from tb.unit.loading import Wave, check, machine, run, schedule

MODES = {Unit.FLEX: list(Mode), Unit.QUAD: [Mode.ISW], Unit.SINGLE: [Mode.FW]}
PARTS = {Mode.FW: 1, Mode.VSW: 2, Mode.HSW: 2, Mode.ISW: 4}


def destinations(unit: Unit, mode: Mode, row: int) -> list[tuple[int, int]]:
    """(core, channel block) of a row, straight from the contract."""
    if unit is Unit.SINGLE:
        return [(0, 0)]
    odd = row & 1
    return {Mode.FW: [(0, 0), (2, 1)], Mode.VSW: [(odd, 0), (2 + odd, 1)], Mode.HSW: [(2 * odd, 0)], Mode.ISW: [(row & 3, 0)]}[mode]


@dataclass
class Load:
    """An instruction with the operands its waves must deliver: values[wave, row, block, lane]; None for SetConv."""

    arrival: int
    op: Instruction
    values: np.ndarray | None = None


def conflict_free(addresses, banks: int) -> bool:
    """No bank is asked for two different words."""
    return all(a == b or (a - b) % banks for a in addresses for b in addresses)


def wave_words(op: Instruction) -> int:
    """Words of the ring that a wave of LdLBUF_H takes; SetConv has none."""
    return -(-op.rows // PARTS[Mode(op.mode)]) if op.name == "LdLBUF_H" else 0


def simulate(config, contents, loads: list[Load], *, releases=None, tokens=None, rng=None):
    unit, depth = config.array.unit, config.buffers.moving_words
    program = [(load.arrival, load.op) for load in loads]
    waves = []
    for i, load in enumerate(loads):
        op = load.op
        if load.values is None:
            waves.append(Wave(i, 0, 1, True, True))
            continue
        n = -(-op.rows // (1 << op.rate))
        waves += [Wave(i, wave_words(op), n, w == 0, w == op.waves - 1) for w in range(op.waves)]
    releases = {} if releases is None else releases
    waves = schedule(waves, program, capacity=config.moving_capacity, releases=releases, tokens=tokens, rng=rng)
    log = run(LoadMoving(config), config, contents, program, releases=releases, cycles=waves[-1].decision + waves[-1].n + 12, tokens=tokens,
              wave_words=wave_words)
    check(log, waves, program)

    ready, words, writes, pointer, number = [], {}, {}, 0, 0
    for wave in waves:
        load, op = loads[wave.instruction], loads[wave.instruction].op
        number = 0 if wave.first else number + 1
        if load.values is None:
            words[wave.decision + 1] = 0
            continue
        mode, step = Mode(op.mode), 1 << op.rate
        ready.append(wave.decision + LOAD_LATENCY - 1 + (0 if step == PARTS[mode] else wave.n - 1))
        blocks = 2 if unit is Unit.FLEX and mode.tall else 1
        for i in range(wave.n):
            issue, block = wave.decision + 1 + i, {}
            words[issue] = blocks * min(step, op.rows - i * step)
            for row in range(i * step, (i + 1) * step):
                for core, half in destinations(unit, mode, row):
                    value = load.values[number, row, half].tolist() if row < op.rows else None
                    block[core] = ((pointer + row // PARTS[mode]) % depth, value)
            writes[issue + 4] = block
        pointer += wave.credits
    assert log.ready == ready
    assert log.words == words
    assert log.writes.keys() == writes.keys()
    for cycle, block in writes.items():
        assert log.writes[cycle].keys() == block.keys(), cycle
        for core, (address, value) in block.items():
            assert log.writes[cycle][core][0] == address, (cycle, core)
            assert value is None or log.writes[cycle][core][1] == value, (cycle, core)
    return log, waves


def operands(raw, op) -> np.ndarray:
    """Bytes as numbers with the zero point subtracted."""
    return (raw.view(np.int8) if op.signed else raw).astype(int) - op.zero_point


def number_format(rng) -> dict:
    signed = int(rng.integers(0, 2))
    return {"signed": signed, "zero_point": rng.integers(-128, 128) if signed else rng.integers(0, 256)}


def strided(rng, config, contents, arrival: int, *, short: bool = False) -> Load:
    """A random load of consecutive rows; `short`: many waves of a single step."""
    unit, size = config.array.unit, config.buffers.slice_words
    mode = Mode(rng.choice(MODES[unit]))
    rate = int(rng.integers(0, PARTS[mode].bit_length()))
    rows = int(rng.integers(1, 1 + (1 << rate if short else min(20, config.moving_capacity * PARTS[mode]))))
    op = Instruction("LdLBUF_H", mode=mode, rate=rate, rows=rows, slice=rng.integers(config.buffers.slices), address=rng.integers(1 << 16),
                     waves=rng.integers(1, 40 if short else 5), pitch=4 * rng.integers(1 << 14) + 2, wave_stride=rng.integers(1 << 16),
                     wait=rng.integers(0, 4), signal=rng.integers(0, 1 << 16), group=rng.integers(0, 4), **number_format(rng))
    wave, row, block = np.ogrid[:op.waves, :rows, :2]
    return Load(arrival, op, operands(contents[op.slice, (op.address + wave * op.wave_stride + row + block * op.pitch) % size], op))


def random_contents(rng, config):
    return rng.integers(0, 256, (config.buffers.slices, config.buffers.slice_words, config.array.side), dtype=np.uint8)


UNITS = [(Unit.FLEX, 1), (Unit.FLEX, 2), (Unit.FLEX, 4), (Unit.QUAD, 2), (Unit.SINGLE, 1), (Unit.SINGLE, 4)]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("unit", "side"), UNITS)
def test_random_strided(unit, side, seed):
    print("seed", seed)
    rng = np.random.default_rng(seed)
    config = machine(unit, side, moving_words=32)
    contents = random_contents(rng, config)
    loads, arrival = [], 0
    for _ in range(8):
        arrival += int(rng.integers(0, 12)) * int(rng.integers(0, 2))
        loads.append(strided(rng, config, contents, arrival))
    simulate(config, contents, loads, rng=rng, tokens={0: int(rng.integers(0, 30)), 1: int(rng.integers(0, 60))})


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("unit", "side"), UNITS)
def test_short_waves_fill_the_ring(unit, side, seed):
    """Waves of one issue cycle follow each other until no word is free, between longer ones; words come back at any time."""
    print("seed", seed)
    rng = np.random.default_rng(2000 + seed)
    config = machine(unit, side, moving_words=16)
    contents = random_contents(rng, config)
    loads = [strided(rng, config, contents, 0, short=bool(rng.integers(0, 4))) for _ in range(8)]
    log, _ = simulate(config, contents, loads, rng=rng)
    assert log.waiting


def convolution(rng, config, contents, arrival: int) -> list[Load]:
    """A random geometry, an image batch somewhere in a slice, and a load of some waves of its im2col matrix."""
    unit, side, size = config.array.unit, config.array.side, config.buffers.slice_words
    stride, kernel_x, kernel_y = int(rng.choice([1, 1, 2, 3])), int(rng.integers(1, 4)), int(rng.integers(1, 4))
    pad_x, pad_y, after_x, after_y = (int(v) for v in rng.integers(0, 3, 4))
    images, width, height = (int(rng.integers(1, 3)), *(int(v) for v in rng.integers(3, 8, 2)))
    out_width, out_height = (width + pad_x + after_x - kernel_x) // stride + 1, (height + pad_y + after_y - kernel_y) // stride + 1
    mode = Mode(rng.choice(MODES[unit]))
    blocks = 2 if unit is Unit.FLEX and mode.tall else 1
    channel_waves = int(rng.integers(1, 4))
    pitch = images * width * height
    pitch += (2 - pitch) % 4 if blocks == 2 else 0
    base, where = int(rng.integers(size)), int(rng.integers(config.buffers.slices))
    form = number_format(rng)
    back = (channel_waves - 1) * blocks * pitch      # from the last channel wave of a kernel position to the first

    conv = Instruction("SetConv", out_width=out_width, out_height=out_height, in_width=width, in_height=height, stride=stride,
                       pad_x=pad_x, pad_y=pad_y, x_step=stride, row_step=(stride * width - (out_width - 1) * stride) % 65536,
                       image_step=(width * height - (out_height - 1) * stride * width - (out_width - 1) * stride) % 65536,
                       kernel_x_step=(1 - back) % 65536, kernel_y_step=(width - kernel_x + 1 - back) % 65536,
                       channel_waves=channel_waves, kernel_width=kernel_x, kernel_height=kernel_y, signal=rng.integers(0, 1 << 16))
    # The image as numbers, padded with plain zeros behind the subtraction: [image, y, x, channel word, lane].
    channel_words = channel_waves * blocks
    image, y, x, word = np.ogrid[:images, :height, :width, :channel_words]
    fake = Instruction("LdLBUF_H", **form)
    pixels = operands(contents[where, (base + word * pitch + (image * height + y) * width + x) % size], fake)
    reach = stride * max(out_width, out_height) + 8
    padded = np.pad(pixels, ((0, 0), (pad_y, reach), (pad_x, reach), (0, 0), (0, 0)))
    # im2col: [pixel, kernel position, channel word, lane], then [pixel, wave, block, lane].
    matrix = np.array([[padded[n, stride * oy + ky, stride * ox + kx] for ky in range(kernel_y) for kx in range(kernel_x)]
                       for n in range(images) for oy in range(out_height) for ox in range(out_width)])
    matrix = matrix.reshape(len(matrix), kernel_x * kernel_y * channel_waves, blocks, side)

    total, every = matrix.shape[:2]
    first_row = int(rng.integers(total))
    rows = int(rng.integers(1, 1 + min(total - first_row, config.moving_capacity * PARTS[mode], 24)))
    first_wave = int(rng.integers(every))
    waves = int(rng.integers(1, 1 + min(every - first_wave, 12)))
    oy, ox = divmod(first_row, out_width)
    n, oy = divmod(oy, out_height)
    address = base + n * width * height + (oy * stride - pad_y) * width + ox * stride - pad_x
    position, start_wave = divmod(first_wave, channel_waves)
    start_y, start_x = divmod(position, kernel_x)
    address += start_wave * blocks * pitch + start_y * width + start_x

    # The compiler's duties: no bank asked twice in a step, at most one end of a row in a step.
    def linear(pixel):
        oy, ox = divmod(pixel, out_width)
        n, oy = divmod(oy, out_height)
        return n * width * height + oy * stride * width + ox * stride

    def fits(step):
        steps = [range(i, min(i + step, rows)) for i in range(0, rows, step)]
        words = [[linear(first_row + row) + block * pitch for row in some for block in range(blocks)] for some in steps]
        return out_width >= step and all(conflict_free(some, config.banks) for some in words)

    rate = int(rng.integers(0, PARTS[mode].bit_length()))
    while rate and not fits(1 << rate):
        rate -= 1
    load = Instruction("LdLBUF_H", slice=where, address=address % 65536, mode=mode, rate=rate, rows=rows, waves=waves,
                       pitch=pitch, wave_stride=blocks * pitch, im2col=1, start_x=ox, start_y=oy,
                       start_wave=start_wave, start_kernel_x=start_x, start_kernel_y=start_y,
                       wait=rng.integers(0, 4), signal=rng.integers(0, 1 << 16), **form)
    return [Load(arrival, conv), Load(arrival, load, matrix[first_row:first_row + rows, first_wave:first_wave + waves].swapaxes(0, 1))]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("unit", "side"), UNITS[1:5])
def test_random_im2col(unit, side, seed):
    """Convolutions and plain loads mixed, back to back: geometry registers may not leak into a neighbour."""
    print("seed", seed)
    rng = np.random.default_rng(1000 + seed)
    config = machine(unit, side, moving_words=32)
    contents = random_contents(rng, config)
    loads, arrival = [], 0
    for _ in range(5):
        arrival += int(rng.integers(0, 20)) * int(rng.integers(0, 2))
        loads += convolution(rng, config, contents, arrival) if rng.integers(0, 4) else [strided(rng, config, contents, arrival)]
    simulate(config, contents, loads, rng=rng, tokens={0: 10, 1: 25})


@pytest.mark.parametrize("mode", Mode)
def test_full_rate_without_a_gap(mode):
    """At 2**rate = parts, waves and instructions follow each other in consecutive cycles."""
    config = machine(Unit.FLEX, 2, moving_words=256)
    contents = random_contents(np.random.default_rng(0), config)
    rate, rows = {1: 0, 2: 1, 4: 2}[PARTS[mode]], 5
    loads = []
    for i in range(2):
        op = Instruction("LdLBUF_H", mode=mode, rate=rate, rows=rows, waves=3, pitch=66, wave_stride=132, address=7 * i)
        wave, row, block = np.ogrid[:3, :rows, :2]
        loads.append(Load(2, op, operands(contents[0, op.address + wave * 132 + row + block * 66], op)))
    log, _ = simulate(config, contents, loads)
    streamed = -(-rows // PARTS[mode])
    assert log.issues == list(range(3, 3 + 6 * streamed))
    assert log.ready == list(range(6, 6 + 6 * streamed, streamed))


def test_set_conv_takes_one_empty_cycle_and_its_tokens():
    config = machine(Unit.FLEX, 2)
    contents = random_contents(np.random.default_rng(0), config)
    loads = [Load(3, Instruction("SetConv", signal=2)), Load(3, Instruction("SetConv", signal=4, wait=1))]
    log, _ = simulate(config, contents, loads, tokens={0: 9})
    assert log.decisions == [3, 9] and log.issues == [4, 10] and log.signals == [(4, 0, 2), (10, 0, 4)] and not log.writes
    assert log.waiting == {cycle: 101 if cycle > 3 else 100 for cycle in (3, *range(5, 10))}


def test_waits_for_words():
    """A release in t is a credit in t + 1; a waiting wave names its own instruction, not the one behind it in the queue."""
    config = machine(Unit.SINGLE, 2, moving_words=16)
    contents = random_contents(np.random.default_rng(0), config)
    op = Instruction("LdLBUF_H", rows=10, waves=2, wave_stride=10)
    values = operands(contents[0, np.arange(20).reshape(2, 10, 1)], op)
    log, waves = simulate(config, contents, [Load(0, op, values), Load(5, Instruction("SetConv"))], releases={20: 3, 30: 1})
    assert [wave.decision for wave in waves] == [0, 31, 41]
    assert log.waiting == {0: 100} | dict.fromkeys(range(15, 32), 100)


def test_filler_rows_do_not_spoil_a_bank():
    """The only row of a step shares its bank with the pixel behind it, which does not count."""
    config = machine(Unit.FLEX, 2)
    contents = random_contents(np.random.default_rng(0), config)
    conv = Instruction("SetConv", out_width=8, out_height=8, in_width=8, in_height=8, x_step=2, channel_waves=2)
    op = Instruction("LdLBUF_H", mode=Mode.VSW, rate=1, rows=1, waves=1, pitch=6, im2col=1)
    three = Instruction("LdLBUF_H", mode=Mode.VSW, rate=1, rows=3, waves=2, pitch=5, wave_stride=16, im2col=1, address=100)
    wave, row, block = np.ogrid[:2, :3, :2]
    loads = [Load(0, conv), Load(0, op, operands(contents[0, np.array([[[0, 6]]])], op)),
             Load(0, three, operands(contents[0, 100 + wave * 16 + row * 2 + block * 5], three))]
    simulate(config, contents, loads)

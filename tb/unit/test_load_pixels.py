"""LOAD_V on bf16 machines: LdPixels between LdLBUF_Vs, cycles against the closed form, operands against the images' geometry."""

import numpy as np
import pytest

from gen.config import Unit
from gen.isa import Instruction, Mode
from gen.timing import LOAD_LATENCY
from rtl.control.load_stationary import LoadStationary
from sw.compiler.window import Window
from tb.sw.pixel_works import fields_of, input_pixel, random_window
from tb.unit.loading import Log, Wave, check, machine, run, schedule
from tb.unit.test_load_stationary import COUNT, MODES, WORDS

LARGE = Window(images=2, height=4095, width=4093, kernel=(3, 3), stride=2, padding=(2, 1, 0, 2))


class Pixels:
    """A LdPixels, and the geometry that its fields were made of."""

    def __init__(self, window: Window, position: tuple[int, int], first: int, base: int, **fields):
        self.window, self.position, self.first, self.base = window, position, first, base
        self.instruction = Instruction("LdPixels", **fields, **fields_of(window, position, first, base))

    def word(self, pixel: int, block: int) -> int | None:
        """Word of one of its pixels in a channel block; None outside the image."""
        source = input_pixel(self.window, self.position, self.first + pixel)
        return None if source is None else self.base + source + block * self.instruction.pitch


def simulate(config, program: list[tuple[int, Instruction | Pixels]], *, seed=0, releases=None, tokens=None, shuffle=False) -> Log:
    side, flex = config.array.side, config.array.unit is Unit.FLEX
    rng, releases = np.random.default_rng(seed), {} if releases is None else releases
    shape = config.buffers.slices, config.buffers.slice_words, config.word_bytes
    contents = rng.integers(0, 256, shape, dtype=np.uint8)
    numbers = contents.view("<u2").astype(int)
    plain = [(arrival, op.instruction if isinstance(op, Pixels) else op) for arrival, op in program]
    waves = []
    for i, ((_, op), (_, instruction)) in enumerate(zip(program, plain)):
        n = side * (2 if isinstance(op, Pixels) and flex and instruction.mode in (Mode.FW, Mode.VSW) else 1)
        waves += [Wave(i, 1, n, w == 0, w == instruction.waves - 1) for w in range(instruction.waves)]
    waves = schedule(waves, plain, capacity=config.stationary_capacity, releases=releases, tokens=tokens, rng=rng if shuffle else None)
    log = run(LoadStationary(config), config, contents, plain, releases=releases, cycles=waves[-1].decision + 2 * side + 12, tokens=tokens)
    check(log, waves, plain)
    assert log.ready == [wave.decision + wave.n - side + LOAD_LATENCY - 1 for wave in waves]

    writes, words, within = {}, {}, 0
    for number, wave in enumerate(waves):
        op, instruction = program[wave.instruction][1], plain[wave.instruction][1]
        mode = Mode(instruction.mode)
        within = 0 if wave.first else within + 1
        for step in range(wave.n):
            issue, row = wave.decision + 1 + step, step % side
            cores = range(config.cores)
            if isinstance(op, Pixels):
                words[issue] = {Unit.FLEX: 2 if mode in (Mode.FW, Mode.HSW) else 1, Unit.QUAD: 4, Unit.SINGLE: 1}[config.array.unit]
                cores = cores if wave.n == side else range(2) if step < side else range(2, 4)
            else:
                count = 1 if config.array.unit is Unit.SINGLE else COUNT[mode]
                words[issue] = {Unit.FLEX: count, Unit.QUAD: 4, Unit.SINGLE: 1}[config.array.unit]
            writes[issue + 4] = {}
            for core in cores:
                if isinstance(op, Pixels):
                    word = op.word(within * wave.n + step, core % 2 if flex and mode in (Mode.FW, Mode.HSW) else 0)
                else:
                    word = op.address + (within * side + row) * count + (WORDS[mode][core] if config.cores == 4 else 0)
                value = [0] * side if word is None else numbers[instruction.slice, word % config.buffers.slice_words].tolist()
                writes[issue + 4][core] = ((number * side + row) % (config.buffers.stationary_tiles * side), value)
    assert log.words == words
    assert log.writes == writes
    return log


def random_instruction(rng: np.random.Generator, config) -> Instruction | Pixels:
    """A LdPixels somewhere in the images of a random window, or now and then a LdLBUF_V."""
    def below(high: int, low: int = 0) -> int:
        return int(rng.integers(low, high))

    fields = {"slice": below(config.buffers.slices), "mode": int(rng.choice(MODES[config.array.unit])), "waves": below(6, 1),
              "wait": below(4), "signal": below(1 << 16), "group": below(4)}
    if rng.random() < 0.25:
        return Instruction("LdLBUF_V", address=below(1 << 16), **fields)
    window = LARGE if rng.random() < 0.15 else random_window(rng)
    ends = [0, 1, 2, 3, window.out_width * window.out_height, window.rows]      # first pixels at and before an end
    first = below(window.rows) if rng.random() < 0.5 else max(0, int(rng.choice(ends)) - below(4))
    pitch = config.banks * below((1 << 16) // config.banks) + below(config.banks, 1)
    return Pixels(window, (below(window.kernel[0]), below(window.kernel[1])), first, below(1 << 16), pitch=pitch, **fields)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("unit", "side"), [(unit, side) for unit in Unit for side in (1, 2, 4)])
def test_random_programs(unit, side, seed):
    print("seed", seed)
    rng = np.random.default_rng(seed + 200)
    config, program, arrival = machine(unit, side, floating=True), [], 0
    for _ in range(10):
        arrival += int(rng.integers(0, 12)) * int(rng.integers(0, 2))
        program.append((arrival, random_instruction(rng, config)))
    simulate(config, program, seed=seed, shuffle=True, tokens={0: int(rng.integers(0, 30)), 1: int(rng.integers(0, 60))})


def test_no_gap_and_late_ready():
    """Tall tiles of 2S pixels, ready S cycles later; a packed tile and short ones behind them follow in the next cycle."""
    config = machine(Unit.FLEX, 2, floating=True, stationary_tiles=16)
    window = Window(images=1, height=9, width=3, kernel=(1, 1))
    program = [(3, Pixels(window, (0, 0), 0, 0, mode=Mode.FW, waves=2, pitch=33, signal=1)),
               (3, Instruction("LdLBUF_V", mode=Mode.VSW, signal=2)),
               (3, Pixels(window, (0, 0), 0, 0, mode=Mode.ISW, waves=2, signal=4))]
    log = simulate(config, program)
    assert log.issues == list(range(4, 18))
    assert log.signals == [(11, 0, 1), (13, 0, 2), (17, 0, 4)]
    assert log.ready == [3 + 6, 7 + 6, 11 + 4, 13 + 4, 15 + 4]
    assert [sorted(log.writes[cycle]) for cycle in range(8, 14)] == [[0, 1], [0, 1], [2, 3], [2, 3], [0, 1], [0, 1]]
    assert [log.writes[cycle][core][0] for cycle, core in ((8, 0), (9, 0), (10, 2), (11, 2), (12, 0))] == [0, 1, 0, 1, 2]


def test_padding_is_zero():
    """A kernel of 3 x 3 over one padded line of two pixels: of its first position all is padding, of the middle one nothing."""
    config = machine(Unit.FLEX, 2, floating=True)
    window = Window(images=1, height=1, width=2, kernel=(3, 3), padding=(1, 1, 1, 1))
    for position, zeros in (((0, 0), [1, 1]), ((1, 1), [0, 0]), ((1, 0), [1, 0]), ((1, 2), [0, 1])):
        log = simulate(config, [(0, Pixels(window, position, 0, 7, mode=Mode.ISW))])
        assert [not any(log.writes[cycle][0][1]) for cycle in (5, 6)] == zeros

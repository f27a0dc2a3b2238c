"""The compute half of a group end to end: what loaders write, ExecGEMM instructions, and accumulators, at the cycles of the closed form."""

import numpy as np
import pytest

from gen.config import Config, Unit
from gen.isa import Instruction, Mode, Stall
from gen.timing import FETCH_LATENCY, drain
from gen.verilog import signals_of
from rtl.array.compute import Compute
from sw.golden import float32
from tb.unit.test_array import Wave, bits_of, machine, numbers, pack, times
from tb.unit.test_execute import Program, Times, drive, expected, random_program, simulate, start


def operands(rng, config: Config, program: Program) -> list[Wave]:
    """Random tiles for each wave of the program."""
    side, waves = config.array.side, []
    for instruction in program.instructions:
        mode = Mode(instruction.mode)
        k, n = (side * (1 + (config.array.unit == Unit.FLEX and large)) for large in (mode.tall, mode.wide))
        for _ in range(instruction.waves):
            waves.append(Wave(side, mode.tall, mode.wide, numbers(rng, config, (instruction.rows, k)), numbers(rng, config, (k, n))))
    return waves


def accumulate(config: Config, program: Program, waves: list[Wave]) -> np.ndarray:
    """Bits of the accumulators [half, pair, bank, word, column] by the rules of rtl/README.md, Modes and rows."""
    side, waves = config.array.side, list(waves)
    result = np.zeros((2, config.column_pairs, 2, config.buffers.accumulator_words, side), np.float32 if config.floating else np.int64)
    for instruction in program.instructions:
        for number in range(instruction.waves):
            wave = waves.pop(0)
            product = times(wave.a, wave.b)
            for row in range(instruction.rows):
                s = row if wave.wide else row >> 1
                pairs = range(config.column_pairs) if wave.wide else [row & 1]
                for pair in pairs:
                    place = result[instruction.half, pair, s & 1, s >> 1]
                    if number == 0 and not instruction.accumulate:
                        place[:] = 0
                    sums = product[row, wave.n_of(pair)]
                    place[:] = float32.add(place, sums) if config.floating else place + sums
    return bits_of(result)


def writes(config: Config, waves: list[Wave], times: Times):
    """Local-buffer writes {cycle: (address, words)}; a tile that is visible in V has row i written in V + i, the latest allowed."""
    rng, side = np.random.default_rng(7), config.array.side
    moving, stationary, pointer = {}, {}, 0
    for j, wave in enumerate(waves):
        for i in range(times.streamed[j]):
            words = []
            for core in range(config.cores):
                rows = wave.rows_of(core) if config.cores == 4 else range(len(wave.a))
                unused = i >= len(rows) or (wave.wide and core % 2)
                anything = int(rng.integers(0, 1 << min(62, config.operand_bits * side)))
                words.append(anything if unused else pack(wave.a[rows[i], wave.k_of(core)]))
            moving[times.moving[j] + i] = (pointer % config.buffers.moving_words, words)
            pointer += 1
        for i in range(side):
            address = (j * side + i) % (side * config.buffers.stationary_tiles)
            words = [pack(wave.b[wave.k_of(core), wave.n_of(core)][i]) for core in range(config.cores)]
            stationary[times.stationary[j] + i] = (address, words)
    return moving, stationary


def feed(ctx, port, write, cores: int):
    ctx.set(port.enable, (1 << cores) - 1 if write else 0)
    if write:
        ctx.set(port.address, write[0])
        for core in range(cores):
            ctx.set(port.data[core], write[1][core])


def read_of(config: Config, half: int):
    """Every place of a half."""
    words = range(config.buffers.accumulator_words)
    return [(half, pair, bank, word) for pair in range(config.column_pairs) for bank in range(2) for word in words]


def run(config: Config, program: Program, waves: list[Wave], times: Times, reads: dict[int, tuple], record: list[dict] | None = None):
    """Run the program, with `reads` of accumulators by cycle, and check every decision and token. Returns the values read, by place.

    `record` takes the bits of every port in every cycle, by name.
    """
    dut, seen, end = Compute(config), {}, max(len(times.stall), max(reads) + FETCH_LATENCY + 1)
    ports = signals_of(dut)
    moving, stationary = writes(config, waves, times)
    port = dut.accumulators

    async def bench(ctx):
        state = start(times.moving, times.stationary)
        for t in range(end):
            drive(ctx, dut, program, t, state)
            feed(ctx, dut.moving_write, moving.get(t), config.cores)
            feed(ctx, dut.stationary_write, stationary.get(t), config.cores)
            ctx.set(port.enable, t in reads)
            for name, value in zip(("half", "pair", "bank", "word"), reads.get(t, ())):
                ctx.set(getattr(port, name), value)
            if t - FETCH_LATENCY in reads:
                seen[reads[t - FETCH_LATENCY]] = [ctx.get(port.data[c]) for c in range(config.array.side)]
            assert ctx.get(dut.wave) == (t in times.stream), t
            if t in times.stream:
                assert ctx.get(dut.wave_mode) == program.instructions[state["popped"] - 1].mode, t
            assert ctx.get(dut.tokens.signal) == times.signals.get(t, (0, 0))[0], t
            if t < len(times.stall):
                assert Stall(ctx.get(dut.stall)) == times.stall[t], t
            if record is not None:
                record.append({name: ctx.get(value) & (1 << len(value)) - 1 for name, (value, _) in ports.items()})
            await ctx.tick()

    simulate(dut, bench)
    return seen


@pytest.mark.parametrize(("side", "unit", "row_latency", "multiplier_latency", "gap", "count", "dtype"), [
    (1, "flex", 3, 3, 0, 14, "bf16"), (2, "flex", 1, 3, 0, 10, "bf16"), (2, "flex", 2, 4, 8, 8, "bf16"), (2, "quad", 2, 3, 0, 6, "bf16"),
    (2, "single", 4, 2, 0, 6, "bf16"), (4, "flex", 2, 3, 0, 4, "bf16"), *((*case, "int8") for case in [
    (1, "flex", 1, 3, 0, 14), (1, "flex", 2, 1, 0, 14), (1, "single", 1, 1, 5, 8), (1, "quad", 1, 3, 0, 8),
    (2, "flex", 1, 3, 0, 14), (2, "flex", 2, 1, 8, 10), (2, "quad", 1, 3, 0, 8), (2, "single", 2, 3, 0, 8),
    (4, "flex", 1, 3, 0, 10), (4, "flex", 2, 1, 0, 8), (4, "quad", 1, 1, 10, 6), (4, "single", 1, 3, 0, 8)]),
])
def test_accumulators_and_cycles(side, unit, row_latency, multiplier_latency, gap, count, dtype):
    config, seed = machine(side, unit, row_latency, multiplier_latency, dtype), side * 100 + row_latency * 10 + gap
    print(f"seed {seed}")
    rng = np.random.default_rng(seed)
    program = random_program(rng, config, count, gap=gap)
    waves, times = operands(rng, config, program), expected(config, program)
    places = read_of(config, 0) + read_of(config, 1)
    seen = run(config, program, waves, times, dict(enumerate(places, start=max(times.signals) + 2)))
    result = accumulate(config, program, waves)
    for place in places:
        assert seen[place] == result[place].tolist(), (seed, place)


@pytest.mark.parametrize(("tall_first", "rows", "dtype", "row_latency"), [
    *((first, rows, "int8", 1) for first in (True, False) for rows in (3, 4, 5, 6, 8)),
    *((True, rows, "bf16", latency) for rows, latency in ((5, 1), (6, 1), (6, 2), (8, 2), (7, 4), (8, 4), (10, 4))), (False, 5, "bf16", 2),
])
def test_back_to_back_waves_into_the_same_words(tall_first, rows, dtype, row_latency):
    """At the minimum interval each mode finds what the one before has just written, in either order of tall and short."""
    config, rng = machine(1, "flex", row_latency, 3, dtype), np.random.default_rng(rows)
    for pair in ((Mode.FW, Mode.HSW), (Mode.VSW, Mode.ISW)):
        modes = pair if tall_first else pair[::-1]
        instructions = [Instruction("ExecGEMM", mode=mode, rows=rows, waves=2, accumulate=i > 0, signal=1)
                        for i, mode in enumerate(modes * 2)]
        program = Program(instructions, [0] * 4, [0] * 4, [1] * 8, [1] * 8)
        waves, times = operands(rng, config, program), expected(config, program)
        places = read_of(config, 0)
        seen = run(config, program, waves, times, dict(enumerate(places, start=max(times.signals) + 2)))
        result = accumulate(config, program, waves)
        assert all(seen[place] == result[place].tolist() for place in places)


@pytest.mark.parametrize("row_latency", [1, 2])
def test_a_half_is_read_while_the_other_accumulates(row_latency):
    config, rng = machine(2, "flex", row_latency, 3), np.random.default_rng(3)
    instructions = [Instruction("ExecGEMM", mode=Mode.FW, rows=9, waves=2, half=1, signal=2),
                    Instruction("ExecGEMM", mode=Mode.ISW, rows=50, waves=6, half=0, signal=1)]
    program = Program(instructions, [0, 0], [0, 0], [1] * 8, [1] * 8)
    waves, times = operands(rng, config, program), expected(config, program)
    done = times.stream[1] + times.streamed[1] + drain(config)
    row_word = [(1, pair, row & 1, row >> 1) for row in reversed(range(9)) for pair in range(2)]     # last row first
    busy, later = dict(enumerate(row_word, start=done)), read_of(config, 0)
    assert max(busy) < times.stream[-1]
    seen = run(config, program, waves, times, busy | dict(enumerate(later, start=max(times.signals) + 2)))
    result = accumulate(config, program, waves)
    for place in row_word + later:
        assert seen[place] == result[place].tolist(), place

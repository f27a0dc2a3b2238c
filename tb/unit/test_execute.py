"""The EXECUTE controller against the closed form of rtl/README.md: decisions, releases, tokens and the stall cause of every cycle."""

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import pytest
from amaranth.sim import Simulator

from gen.config import Config
from gen.isa import Instruction, Mode, Stall
from gen.timing import ACCUMULATOR_LATENCY, LOAD_LATENCY, drain
from rtl.control.execute import Execute
from tb.unit.test_array import machine

MODES = {"flex": tuple(Mode), "quad": (Mode.ISW,), "single": (Mode.FW,)}


@dataclass
class Program:
    """ExecGEMM instructions and the cycles in which what they need is visible."""

    instructions: list[Instruction]
    arrival: list[int]          # of each instruction
    tokens: list[int]           # of each instruction's tokens
    moving: list[int]           # of each wave's moving tile, if there is room and no tile before it in the way
    stationary: list[int]       # of each wave's stationary tile, likewise


@dataclass
class Times:
    """What the closed form says; one entry a wave, except `signals`."""

    moving: list[int] = field(default_factory=list)
    stationary: list[int] = field(default_factory=list)
    shift: list[int] = field(default_factory=list)
    stream: list[int] = field(default_factory=list)
    streamed: list[int] = field(default_factory=list)
    interval: list[int] = field(default_factory=list)
    signals: dict[int, tuple[int, int]] = field(default_factory=dict)     # cycle: mask, group
    stall: list[Stall] = field(default_factory=list)


def parts(config: Config, mode: Mode) -> int:
    return 1 if config.cores == 1 else mode.parts


def expected(config: Config, program: Program) -> Times:
    """rtl/README.md, EXECUTE, written down once more."""
    times, side, waves = Times(), config.array.side, []
    for number, instruction in enumerate(program.instructions):
        waves += [(number, instruction, i == 0, i == instruction.waves - 1) for i in range(instruction.waves)]
    causes = []
    for j, (number, instruction, first, last) in enumerate(waves):
        mode = Mode(instruction.mode)
        streamed = -(-instruction.rows // parts(config, mode))
        previous = times.stream[-1] if j else -1
        seen = program.arrival[number] if first else 0
        load(config, program, times, streamed)
        shift = max(previous + 1, seen, times.stationary[j])
        open_, closed = 0, 0
        if j:
            before = waves[j - 1][1]
            penalty = side * config.array.row_latency + (adding(config) + 1) // 2 - 1
            penalty *= config.array.unit == "flex" and Mode(before.mode).tall and not mode.tall and before.half == instruction.half
            open_ = previous + times.interval[-1] + penalty
            closed = previous + times.interval[-1]
        token = program.tokens[number] if first and instruction.wait else 0
        stream = max(shift + 1, shift + side - 1, times.moving[j], token, open_)
        for t in range(max(0, closed + 1 if j else 0), stream + 1):
            causes.append((t, Stall.INSTRUCTION if t < max(seen, previous + 1) else
                           Stall.STATIONARY if t < shift else
                           Stall.SHIFT if t < max(shift + 1, shift + side - 1) else
                           Stall.MOVING if t < times.moving[j] else
                           Stall.TOKEN if t < token else
                           Stall.ACCUMULATOR if t < open_ else Stall.SHIFT))
        times.shift.append(shift)
        times.stream.append(stream)
        times.streamed.append(streamed)
        times.interval.append(max(streamed, side, adding(config)))
        if last:
            times.signals[stream + streamed + drain(config)] = (instruction.signal, instruction.group)
    end = max(times.signals) + 2
    times.stall = [Stall.INSTRUCTION] * end
    for stream, interval in zip(times.stream, times.interval):
        times.stall[stream + 1:stream + interval + 1] = [Stall.ARRAY] * len(times.stall[stream + 1:stream + interval + 1])
    for t, cause in causes:
        times.stall[t] = cause
    return times


def adding(config: Config) -> int:
    """Cycles from a sum's being read to its being there again: those of an integer, and the adder's registers."""
    return ACCUMULATOR_LATENCY + config.array.row_latency * config.floating


def load(config: Config, program: Program, times: Times, streamed: int):
    """When the next tiles become visible: LOAD_LATENCY after a decision for which there is room, one word a cycle."""
    j, side = len(times.shift), config.array.side
    moving, stationary = program.moving[j], program.stationary[j]
    if j:
        moving = max(moving, times.moving[-1] + times.streamed[-1])
        stationary = max(stationary, times.stationary[-1] + side)
    room = config.moving_capacity - streamed
    for i in reversed(range(j)):
        room -= times.streamed[i]
        if room < 0:
            moving = max(moving, times.stream[i] + times.streamed[i] + 1 + LOAD_LATENCY)
    if j >= config.stationary_capacity:
        stationary = max(stationary, times.shift[j - config.stationary_capacity] + side + 1 + LOAD_LATENCY)
    times.moving.append(moving)
    times.stationary.append(stationary)


def random_program(rng, config: Config, count: int, *, gap: int) -> Program:
    """`gap`: cycles by which what is needed may be late; 0 means that nothing ever is."""
    instructions = []
    for i in range(count):
        mode = int(rng.choice(MODES[str(config.array.unit)]))
        instructions.append(Instruction(
            "ExecGEMM", mode=mode, rows=int(rng.integers(1, 14)), waves=int(rng.integers(1, 4)), half=int(rng.integers(0, 2)),
            accumulate=int(rng.integers(0, 2)), wait=int(rng.integers(0, 3)) << 3, signal=1 << int(rng.integers(0, 16)), group=i % 4,
        ))
    waves = sum(instruction.waves for instruction in instructions)

    def late(items):
        return [int(value) for value in np.cumsum(rng.integers(0, 2, items) * rng.integers(0, gap + 1, items))]

    return Program(instructions, late(count), late(count), [1 + time for time in late(waves)], [1 + time for time in late(waves)])


def drive(ctx, ports, program: Program, t: int, state: dict):
    """Inputs of cycle t; `state` counts the instructions taken and started."""
    popped, started = state["popped"], state["started"]
    visible = popped < len(program.instructions) and t >= program.arrival[popped]
    ctx.set(ports.instruction.valid, visible)
    if visible:
        instruction = program.instructions[popped]
        bits = ports.instruction.payload.bits
        ctx.set(bits, int.from_bytes(instruction.encode(), "little") & ((1 << len(bits)) - 1))
        ctx.set(ports.instruction.payload.index, 100 + popped)
    ctx.set(ports.moving_ready, t + 1 in state["moving"])
    ctx.set(ports.stationary_ready, t + 1 in state["stationary"])
    more = started < len(program.instructions)
    wait = ctx.get(ports.tokens.wait)           # when nothing waits, that of another instruction
    ready = not wait or (more and t >= program.tokens[started])
    ctx.set(ports.tokens.ready, ready)
    if ctx.get(ports.tokens.take):
        assert ready and more and wait == program.instructions[started].wait
        state["started"] += 1
    state["popped"] += visible and ctx.get(ports.instruction.ready)


def start(moving: list[int], stationary: list[int]) -> dict:
    return {"popped": 0, "started": 0, "moving": set(moving), "stationary": set(stationary)}


CASES = [(1, "flex", 1, 0), (1, "flex", 1, 60), (1, "flex", 2, 9), (2, "flex", 1, 0), (2, "flex", 2, 30), (2, "quad", 1, 5),
         (2, "single", 1, 5), (4, "flex", 1, 0), (4, "flex", 2, 0), (4, "flex", 1, 20), (4, "quad", 1, 0), (4, "single", 2, 40),
         (8, "flex", 1, 10), (8, "flex", 3, 0)]


@pytest.mark.parametrize(("side", "unit", "row_latency", "gap"), CASES)
def test_every_cycle_is_as_the_closed_form_says(side, unit, row_latency, gap):
    config, seed = machine(side, unit, row_latency, 3), side * 100 + row_latency * 10 + gap
    rng = np.random.default_rng(seed)
    program = random_program(rng, config, 25, gap=gap)
    times = expected(config, program)
    end, dut = len(times.stall), Execute(config)
    releases = {stream + streamed: streamed for stream, streamed in zip(times.stream, times.streamed)}
    active = np.zeros(end + 1, bool)
    for stream, streamed in zip(times.stream, times.streamed):
        active[stream + 1:stream + streamed + drain(config) + 1] = True
    rows_seen, starts = [], [0]
    for instruction in program.instructions:
        starts.append(starts[-1] + instruction.waves)

    async def bench(ctx):
        state = start(times.moving, times.stationary)
        for t in range(end):
            drive(ctx, dut, program, t, state)
            where = (seed, t)
            assert Stall(ctx.get(dut.stall)) == times.stall[t], where
            assert ctx.get(dut.wave) == (t in times.stream), where
            assert ctx.get(dut.moving_release) == releases.get(t, 0), where
            assert ctx.get(dut.stationary_release) == (t - side in times.shift), where
            assert ctx.get(dut.shift) == any(shift < t <= shift + side for shift in times.shift), where
            assert ctx.get(dut.capture) == (t - 1 in times.shift), where
            assert ctx.get(dut.first) == (t - 1 in times.stream), where
            assert ctx.get(dut.step) == any(s < t <= s + n for s, n in zip(times.stream, times.streamed)), where
            assert ctx.get(dut.active) == active[t], where
            signal, group = times.signals.get(t, (0, None))
            assert ctx.get(dut.tokens.signal) == signal, where
            if signal:
                assert ctx.get(dut.tokens.signal_group) == group, where
            if ctx.get(dut.step):
                rows_seen.append(ctx.get(dut.keep))
            under_way = any(shift < t <= stream for shift, stream in zip(times.shift, times.stream))
            under_way |= any(times.shift[i] < t <= times.stream[j - 1] for i, j in pairwise(starts))
            assert ctx.get(dut.idle) == (not under_way and not active[t]), where
            await ctx.tick()
        assert state["started"] == state["popped"] == len(program.instructions)

    simulate(dut, bench)
    keeps = []
    for instruction in program.instructions:
        keeps += instruction.waves * kept(config, instruction)
    assert rows_seen == keeps, seed


def kept(config: Config, instruction: Instruction) -> list[int]:
    """Masks of the cores that get an existing row, step by step, from the rule which rows go where."""
    mode, masks = Mode(instruction.mode), []
    for step in range(-(-instruction.rows // parts(config, mode))):
        mask = 0
        for core in range(config.cores):
            low, right = divmod(core, 2)
            row = step if config.cores == 1 else {Mode.FW: step, Mode.VSW: 2 * step + right, Mode.HSW: 2 * step + low,
                                                  Mode.ISW: 4 * step + 2 * low + right}[mode]
            mask |= (row < instruction.rows) << core
        masks.append(mask)
    return masks


def simulate(dut, bench):
    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(bench)
    sim.run()


def test_waiting_names_the_oldest_instruction_held():
    config = machine(2, "flex", 1, 3)
    dut = Execute(config)
    program = Program([Instruction("ExecGEMM", rows=4, waves=1), Instruction("ExecGEMM", rows=4, waves=1)],
                      [0, 3], [0, 0], [], [])

    async def bench(ctx):
        state, seen = start([], [6]), []
        for t in range(14):
            drive(ctx, dut, program, t, state)
            seen.append((ctx.get(dut.waiting), ctx.get(dut.index)))
            await ctx.tick()
        assert [waiting for waiting, _ in seen] == [1] * 7 + [0] * 2 + [1] * 5     # shifting in 7 and 8
        assert {index for _, index in seen} == {100}

    simulate(dut, bench)

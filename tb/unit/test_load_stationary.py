"""LOAD_V: cycles against the closed form, operands against the packed tiles."""

import numpy as np
import pytest

from gen.config import Unit
from gen.isa import Instruction, Mode
from gen.timing import LOAD_LATENCY
from rtl.control.load_stationary import LoadStationary
from tb.unit.loading import Wave, check, machine, run, schedule

MODES = {Unit.FLEX: list(Mode), Unit.QUAD: [Mode.ISW], Unit.SINGLE: [Mode.FW]}
# Distinct word of a tile row for cores 0 .. 3, straight from the contract.
WORDS = {Mode.FW: [0, 1, 2, 3], Mode.VSW: [0, 0, 1, 1], Mode.HSW: [0, 1, 0, 1], Mode.ISW: [0, 0, 0, 0]}
COUNT = {Mode.FW: 4, Mode.VSW: 2, Mode.HSW: 2, Mode.ISW: 1}


def simulate(config, program, *, seed=0, releases=None, tokens=None, shuffle=False):
    side, unit = config.array.side, config.array.unit
    rng, releases = np.random.default_rng(seed), {} if releases is None else releases
    contents = rng.integers(0, 256, (config.buffers.slices, config.buffers.slice_words, side), dtype=np.uint8)
    waves = [Wave(i, 1, side, w == 0, w == op.waves - 1) for i, (_, op) in enumerate(program) for w in range(op.waves)]
    waves = schedule(waves, program, capacity=config.stationary_capacity, releases=releases, tokens=tokens, rng=rng if shuffle else None)
    log = run(LoadStationary(config), config, contents, program, releases=releases, cycles=waves[-1].decision + side + 12, tokens=tokens)
    check(log, waves, program)
    assert log.ready == [wave.decision + LOAD_LATENCY - 1 for wave in waves]

    writes, words, within = {}, {}, 0
    for number, wave in enumerate(waves):
        op = program[wave.instruction][1]
        within = 0 if wave.first else within + 1
        count = 1 if unit is Unit.SINGLE else COUNT[Mode(op.mode)]
        for row in range(side):
            issue = wave.decision + 1 + row
            words[issue] = {Unit.FLEX: count, Unit.QUAD: 4, Unit.SINGLE: 1}[unit]
            writes[issue + 4] = {}
            for core in range(config.cores):
                word = op.address + (within * side + row) * count + (WORDS[Mode(op.mode)][core] if config.cores == 4 else 0)
                raw = contents[op.slice, word % config.buffers.slice_words]
                value = (raw.view(np.int8) if op.signed else raw).astype(int) - op.zero_point
                writes[issue + 4][core] = ((number * side + row) % (config.buffers.stationary_tiles * side), value.tolist())
    assert log.words == words
    assert log.writes == writes
    return log, waves


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("unit", "side"), [(unit, side) for unit in Unit for side in (1, 2, 4)])
def test_random_programs(unit, side, seed):
    print("seed", seed)
    rng = np.random.default_rng(seed + 100)
    config = machine(unit, side)
    program, arrival = [], 0
    for _ in range(8):
        arrival += int(rng.integers(0, 12)) * int(rng.integers(0, 2))
        signed = int(rng.integers(0, 2))

        def below(high: int, low: int = 0) -> int:
            return int(rng.integers(low, high))

        program.append((arrival, Instruction(
            "LdLBUF_V", slice=below(config.buffers.slices), address=below(1 << 16), mode=int(rng.choice(MODES[unit])),
            waves=below(6, 1), zero_point=below(128, -128) if signed else below(256), signed=signed,
            wait=below(4), signal=below(1 << 16), group=below(4))))
    simulate(config, program, seed=seed, shuffle=True, tokens={0: int(rng.integers(0, 30)), 1: int(rng.integers(0, 60))})


def test_no_gap_between_tiles_and_instructions():
    config = machine(Unit.FLEX, 2)
    program = [(3, Instruction("LdLBUF_V", mode=mode, waves=2, signal=signal)) for mode, signal in ((Mode.FW, 1), (Mode.ISW, 2))]
    log, _ = simulate(config, program)
    assert log.issues == list(range(4, 12))
    assert log.signals == [(7, 0, 1), (11, 0, 2)]


def test_waits_for_a_slot_and_says_so():
    """A release in t is a credit in t + 1; the tile names its own instruction, not the one behind it in the queue."""
    config = machine(Unit.FLEX, 2)
    capacity = config.stationary_capacity
    program = [(0, Instruction("LdLBUF_V", waves=capacity + 1)), (5, Instruction("LdLBUF_V"))]
    log, waves = simulate(config, program, releases={40: 1, 41: 1})
    assert [wave.decision for wave in waves[-2:]] == [41, 43]
    last = waves[-3].decision + 2
    assert log.waiting == {0: 100} | dict.fromkeys(range(last + 5, 42), 100)


def test_reports_a_head_without_its_token():
    config = machine(Unit.SINGLE, 2)
    log, _ = simulate(config, [(2, Instruction("LdLBUF_V", wait=1 << 15))], tokens={15: 20})
    assert log.waiting == dict.fromkeys(range(2, 21), 100)

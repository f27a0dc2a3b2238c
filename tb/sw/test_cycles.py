"""The cycle model: tiny programs worked out by hand from rtl/README.md, and random ones against a machine that steps cycles."""

import dataclasses
import random
from fractions import Fraction

import pytest

from gen.config import Array, Buffers, Config, Memory, Unit
from gen.isa import Cause, Instruction, Mode
from gen.registers import registers
from sw.model import ModelError, check, predict
from tb.sw.random_programs import random_config, random_program
from tb.sw.reference_machine import Reference, Stopped

BASE = Config()     # side 8, beats of 16 bytes, latency 32, bursts of 16 beats
END = Instruction("End")
STALLS = ("array", "instruction", "stationary", "shift", "moving", "token", "accumulator")


def stalls(prediction, group: int = 0) -> dict[str, int]:
    found = {name: prediction.counters[f"g{group}_stall_{name}"] for name in STALLS}
    assert sum(found.values()) == prediction.cycles
    return {name: value for name, value in found.items() if value}


# In the base machine a fetch burst is four instructions in eight beats, two beats each. The first burst is decided in 0 and accepted in
# 1..8; instruction i < 4 has its last byte accepted in 2 + 2i, at the port in 34 + 2i, and is available from 35 + 2i. Dispatched in t, a
# queue shows it in t + 2.


def test_end_alone():
    prediction = predict(BASE, [END])
    assert prediction.cycles == 36                  # available and quiet in 35, the last cycle counted
    assert prediction.array_cycles == 0
    assert prediction.counters["fetch_beats"] == 8
    assert stalls(prediction) == {"instruction": 36}


def test_narrow_memory():
    # 4 bytes a beat: an instruction is 8 beats, accepted in 1..8, the last one at the port in 40, available in 41.
    assert predict(Config.load("tiny"), [END]).cycles == 42


def test_beats_after_the_end_do_not_count():
    # Latency 1: End is at the port in 9, leaves in 10, when the burst's beats 1..10 of 32 have been accepted.
    config = dataclasses.replace(Config.load("tiny"), memory=Memory(bytes_per_cycle=4, latency=1))
    prediction = predict(config, [END])
    assert (prediction.cycles, prediction.counters["fetch_beats"]) == (11, 10)


def test_dma_in():
    # Dispatched 35, decided 37, beats 40..42, the last one's data in 74, all is quiet from 76 on; End (available 37) leaves in 77.
    prediction = predict(BASE, [Instruction("DmaIn", beats=3), END])
    assert (prediction.cycles, prediction.counters["dram_read_beats"]) == (78, 3)


def test_dma_out():
    # Decided 37, beats offered from 43, accepted 43..48 (two chunks), quiet from 50 on; End leaves in 51.
    prediction = predict(BASE, [Instruction("DmaOut", beats=3, chunks=2), END])
    assert (prediction.cycles, prediction.counters["dram_write_beats"]) == (52, 6)


def test_port_is_granted_by_turns():
    # DMA_IN (decided 37) offers from 40, DMA_OUT (dispatched 37, decided 39) from 45. Bursts of 16: IN 40..55, OUT 56..71 (it comes after
    # IN in the order), IN 72..87, OUT 88..103. IN is done in 87 + 32 + 2 = 121, End leaves in 122.
    prediction = predict(BASE, [Instruction("DmaIn", beats=32), Instruction("DmaOut", beats=32), END], timeline=True)
    assert prediction.cycles == 123
    assert [(event.index, event.decision, event.end) for event in prediction.timeline] == [(0, 37, 121), (1, 39, 105)]


def test_store_and_barrier():
    # StLBUF: decided 37, 4 rows x 2 blocks = 8 reads, tokens asserted in 37 + 8 + 18 = 63. All is quiet from 64 on, the barrier leaves in
    # 65, LdScale in 67; it is decided in 69, 8 reads, asserted in 69 + 8 + 7 = 84, End in 86.
    program = [Instruction("StLBUF", rows=4, wide=1), Instruction("Barrier"), Instruction("LdScale"), END]
    prediction = predict(BASE, program)
    assert prediction.cycles == 87
    assert prediction.counters["g0_stored_words"] == 4 * 2 * 4
    assert prediction.counters["g0_busy_store"] == 8 + 8


def test_one_wave():
    # LdLBUF_V: dispatched 35, decided 37, ready 42. LdLBUF_H: 37, 39, ready 44 (FW at rate 0 is full rate). ExecGEMM visible 41.
    # A = 42, S = max(42 + 7, 44) = 49. Drain = 2 + (16 + 1 + 8 + 7 + 3) + 4 = 41. Tokens asserted in 49 + 16 + 41 = 106; End in 108.
    program = [Instruction("LdLBUF_V"), Instruction("LdLBUF_H", rows=16), Instruction("ExecGEMM", rows=16), END]
    prediction = predict(BASE, program)
    assert prediction.cycles == 109
    assert prediction.array_cycles == 106 - 50 + 1
    # No instruction in 0..40 and 66..108; no tile in 41; shifting 42..48 and the decision in 49; the wave covers 50..65.
    assert stalls(prediction) == {"instruction": 41 + 43, "stationary": 1, "shift": 8, "array": 16}
    counters = prediction.counters
    assert (counters["g0_busy_load_h"], counters["g0_busy_load_v"], counters["g0_busy_execute"]) == (16, 8, 16)
    assert (counters["g0_moving_words"], counters["g0_stationary_words"], counters["g0_waves_fw"]) == (32, 32, 1)


def test_slow_load():
    # ISW, 16 rows at rate 0: 16 issue cycles, ready in 39 + 15 + 5 = 59, so the array waits for it in 49..58 and starts in 59.
    program = [Instruction("LdLBUF_V", mode=3), Instruction("LdLBUF_H", rows=16, mode=3), Instruction("ExecGEMM", rows=16, mode=3), END]
    prediction = predict(BASE, program)
    # Four steps, but a wave occupies the array for at least 8 cycles: 60..67. Tokens asserted in 59 + 4 + 41 = 104, End in 106.
    assert prediction.cycles == 107
    assert stalls(prediction) == {"instruction": 41 + 39, "stationary": 1, "shift": 7 + 1, "moving": 10, "array": 8}
    assert (prediction.counters["g0_moving_words"], prediction.counters["g0_stationary_words"]) == (16, 8)


def test_short_wave_after_a_tall_one():
    # The second fetch burst is decided in 9, accepted in 10..17: instructions 4, 5, 6 are available from 44, 46, 48.
    # LdLBUF_V: 37 and 45 (after 8 issue cycles), ready 42 and 50. LdLBUF_H: 39 and 55, ready 44 and 60. ExecGEMM visible 46 and 48.
    # A0 = 46, S0 = 53, interval 16. A1 = 54; S1 = 53 + 16 + 9 = 78: 9 cycles of penalty. Tokens 78 + 8 + 41 = 127, End in 129.
    program = [
        Instruction("LdLBUF_V", mode=Mode.FW), Instruction("LdLBUF_H", mode=Mode.FW, rows=16),
        Instruction("LdLBUF_V", mode=Mode.HSW), Instruction("LdLBUF_H", mode=Mode.HSW, rows=16, rate=1),
        Instruction("ExecGEMM", mode=Mode.FW, rows=16), Instruction("ExecGEMM", mode=Mode.HSW, rows=16, accumulate=1), END,
    ]
    prediction = predict(BASE, program)
    assert prediction.cycles == 130
    assert stalls(prediction) == {"instruction": 46 + 43, "shift": 7 + 1 + 1, "array": 16 + 8, "accumulator": 8}
    program[5].values["half"] = 1       # the other half: no penalty, no gap
    assert predict(BASE, program).cycles == 130 - 9


def test_tokens_order_units():
    # StLBUF signals token 3 in 37 + 1 + 18 = 56, visible in 58; LdScale of the same unit cannot be what waits, DmaOut does: decided in 58,
    # offered and accepted in 64, quiet from 66 on, End in 67.
    program = [Instruction("StLBUF", signal=8), Instruction("DmaOut", wait=8), END]
    assert predict(BASE, program).cycles == 68


def test_counters_are_the_registers():
    config = BASE.organise("4G1F")
    names = {register.name for register in registers(4)} - {
        "identity", "version", "control", "status", "cause", "error_index", "program", "count"}
    assert set(predict(config, [END]).counters) == names


def test_program_address():
    with pytest.raises(ValueError, match="program = 0x10 must be a multiple of 32 bytes"):
        predict(BASE, [END], program=16)


def differences(config: Config, program: list[Instruction], pace: Fraction = Fraction(1)) -> dict[str, tuple[int, int]]:
    """Counters in which the model and the machine that steps cycles differ."""
    expected = Reference(config, program, pace).run().n
    found = predict(config, program, pace=pace).counters
    return {name: (value, expected[name]) for name, value in found.items() if value != expected[name]}


def test_random_programs():
    """Every counter of every random program, or the reason why it stops, as in the machine that steps cycles."""
    outcomes, seen = {"ok": 0, "DEADLOCK": 0, "TOKEN": 0}, set()
    for seed in range(250):
        rng = random.Random(seed)
        config = random_config(rng)
        program = random_program(rng, config, rng.randint(1, 25))
        pace = rng.choice((Fraction(1), Fraction(1), Fraction(1, 2), Fraction(5, 16), Fraction(5, 8), Fraction(3, 4)))
        where = f"seed {seed}, {config.organisation}, {len(program)} instructions, {pace} beats a cycle"
        try:
            different = differences(config, program, pace)
        except Stopped as stop:
            cause, index = stop.args
            with pytest.raises(ModelError) as error:
                predict(config, program, pace=pace)
            assert error.value.cause.name == cause, where
            assert index is None or error.value.index == index, where
            outcomes[cause] += 1
            continue
        assert different == {}, where
        found = predict(config, program)
        for group in range(config.array.groups):
            seen |= set(stalls(found, group))
        seen.add(config.organisation)
        outcomes["ok"] += 1
    assert outcomes["ok"] > 150 and all(outcomes.values()), outcomes
    assert seen >= {*STALLS, "1G1F", "1G4C", "1G1C", "4G1F"}


@pytest.mark.parametrize("delay", range(8, 28))
def test_token_is_taken_by_another_during_the_penalty(delay):
    """A short wave sees its token while it waits for the accumulators, DMA_OUT takes it, and the wave waits for the next one."""
    config = dataclasses.replace(BASE, array=Array(row_latency=4))
    program = [
        Instruction("LdLBUF_V", mode=Mode.FW), Instruction("LdLBUF_H", mode=Mode.FW, rows=16),
        Instruction("LdLBUF_V", mode=Mode.HSW), Instruction("LdLBUF_H", mode=Mode.HSW, rows=16, rate=1), Instruction("SetConv", signal=1),
        Instruction("ExecGEMM", mode=Mode.FW, rows=16), Instruction("ExecGEMM", mode=Mode.HSW, rows=16, wait=1),
        *[Instruction("SetConv")] * delay, Instruction("DmaOut", wait=1), Instruction("StLBUF", rows=16, signal=1), END,
    ]
    try:
        assert differences(config, program) == {}
    except Stopped as stop:     # both take the last one in the same cycle
        assert (stop.args[0], delay) == ("TOKEN", 23)
        with pytest.raises(ModelError, match="TOKEN"):
            predict(config, program)


SMALL = Config(array=Array(side=2), buffers=Buffers(moving_words=64, accumulator_words=4, slice_words=64, slices=4, store_lanes=2),
               memory=Memory(bytes_per_cycle=2))


@pytest.mark.parametrize("unit, group, values", [
    (Unit.FLEX, 1, {}),                                         # only one group
    (Unit.FLEX, 0, {"slice": 4}),                               # only four slices
    (Unit.FLEX, 0, {"mode": Mode.FW, "rate": 1}),               # faster than the mode has parts
    (Unit.FLEX, 0, {"mode": Mode.FW, "rows": 61}),              # 60 words may be allocated
    (Unit.QUAD, 0, {"mode": Mode.FW}),
    (Unit.SINGLE, 0, {"mode": Mode.ISW}),
])
def test_illegal_loads(unit, group, values):
    config = dataclasses.replace(SMALL, array=Array(side=2, unit=unit))
    instruction = Instruction("LdLBUF_H", group=group, **values)
    assert check(config, instruction) is Cause.FIELD
    with pytest.raises(ModelError) as error:
        predict(config, [Instruction("SetConv"), instruction, END])
    assert (error.value.cause, error.value.index) == (Cause.FIELD, 1)


def test_limits_are_legal():
    assert SMALL.moving_capacity == 60 and SMALL.wide_rows == 8
    for instruction in (
        Instruction("LdLBUF_H", mode=Mode.FW, rows=60, slice=3), Instruction("LdLBUF_H", mode=Mode.ISW, rows=240, rate=2),
        Instruction("ExecGEMM", mode=Mode.HSW, rows=8), Instruction("ExecGEMM", mode=Mode.ISW, rows=16),
        Instruction("StLBUF", wide=1, rows=8), Instruction("StLBUF", wide=0, rows=16),
    ):
        assert check(SMALL, instruction) is None
        if "rows" in instruction.values:
            instruction.values["rows"] += 1
            assert check(SMALL, instruction) is Cause.FIELD


def test_end_is_missing():
    with pytest.raises(ModelError) as error:
        predict(BASE, [Instruction("Barrier")] * 3)
    assert (error.value.cause, error.value.index) == (Cause.END, 3)


@pytest.mark.parametrize("program, index", [
    ([Instruction("StLBUF"), Instruction("DmaOut", wait=1), Instruction("DmaIn", wait=2)], 2),     # DMA_IN comes first
    ([Instruction("LdLBUF_V"), Instruction("ExecGEMM")], 1),                                       # never gets its moving tile
    ([Instruction("LdLBUF_H", waves=9, rows=64)], 0),                                              # nobody makes room
])
def test_deadlock(program, index):
    with pytest.raises(ModelError) as error:
        predict(BASE, [*program, END])
    assert (error.value.cause, error.value.index) == (Cause.DEADLOCK, index)


def test_token_limits():
    full = [Instruction("SetConv", signal=1)] * 255
    assert predict(BASE, [*full, END]).cycles > 255
    with pytest.raises(ModelError) as error:
        predict(BASE, [*full, Instruction("SetConv", signal=1), Instruction("Barrier"), END])
    assert error.value.cause is Cause.TOKEN
    # StLBUF, decided in 40, signals in 40 + 1 + 17: DMA_IN and DMA_OUT both see the only token in 59 and take it.
    program = [Instruction("DmaIn", wait=1), Instruction("DmaOut", wait=1), Instruction("StLBUF", signal=1), END]
    with pytest.raises(ModelError) as error:
        predict(BASE, program)
    assert error.value.cause is Cause.TOKEN


def test_larger_machine_is_quick():
    """A hundred thousand waves: the count follows from the rules, too."""
    waves, tiles = 1000, 100
    program = []
    for i in range(tiles):
        program += [Instruction("LdLBUF_V", waves=waves), Instruction("LdLBUF_H", waves=waves, rows=16),
                    Instruction("ExecGEMM", waves=waves, rows=16, half=i & 1)]
    prediction = predict(BASE, [*program, END])
    # As above, S of the first wave is 49. All others follow without a gap, 16 cycles each; then 16 + 41 + 2 cycles to the end.
    assert prediction.cycles == 49 + 16 * (waves * tiles - 1) + 16 + 41 + 2 + 1

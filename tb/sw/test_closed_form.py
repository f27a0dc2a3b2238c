"""Counters in closed form: those of compiled programs, on machines of one group in every organisation; groups; cycles by hand."""

import random

import pytest

from gen.isa import Mode
from gen.presets import PRESETS
from gen.timing import drain
from sw.compiler import compile_gemm
from sw.model.closed_form import counters, on_groups, work
from sw.model.cycles import predict
from sw.model.energy import energy

NAMES = ("busy_execute", "moving_words", "stationary_words", "stored_words", "busy_store")


@pytest.mark.parametrize("preset", ["tiny", "small", "base"])
@pytest.mark.parametrize("organisation", ["1G1F", "1G4C", "1G1C"])
def test_counters_of_programs(preset, organisation):
    """Every counter that does not depend on time; cycles are a bound, and reached where nothing waits."""
    config, seed = PRESETS[preset].organise(organisation), 23
    print(f"seed {seed}")
    rng, reached = random.Random(f"{seed} {preset} {organisation}"), 0
    for _ in range(25):
        m, n, k = rng.randint(1, 300), rng.randint(1, 60), rng.randint(1, 60)
        program = compile_gemm(config, m, n, k)
        measured = predict(config, program.instructions).counters
        found = work(config, m, n, k, rows=program.plan["groups"][0]["rows"])
        assert {name: getattr(found, name) for name in NAMES} == {name: measured[f"g0_{name}"] for name in NAMES}, (m, n, k)
        assert {mode: found.waves.get(mode, 0) for mode in Mode} == {mode: measured[f"g0_waves_{mode.name.lower()}"] for mode in Mode}
        assert found.cycles <= measured["array_cycles"]
        reached += found.cycles == measured["array_cycles"]
        spent = energy(config, counters(config, found, 0, 0))
        wanted = energy(config, measured | {"dram_read_beats": 0, "dram_write_beats": 0, "fetch_beats": 0})
        assert {part: spent[part] for part in spent} == pytest.approx(wanted)
    assert reached or preset == "tiny"      # whose waves are shorter than the instructions for them


def test_cycles_by_hand():
    """32 x 24 x 24 on cores of 8 x 8: waves of 32, 16, 16 and 8 cycles, and the drain."""
    assert work(PRESETS["base"], 32, 24, 24).cycles == 72 + drain(PRESETS["base"])


def test_groups_share_rows_or_depth():
    config = PRESETS["base"].organise("4G1F")
    by_rows, by_depth = on_groups(config, 403, 24, 30), on_groups(config, 24, 30, 403, split_k=True)
    assert by_rows.cycles == work(config, 101, 24, 30).cycles and by_depth.cycles == work(config, 24, 30, 101).cycles
    assert by_rows.moving_words == 3 * work(config, 101, 24, 30).moving_words + work(config, 100, 24, 30).moving_words
    assert by_depth.stored_words == 4 * work(config, 24, 30, 101).stored_words

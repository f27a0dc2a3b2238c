"""LdPixels on the functional model: weight gradients bit for bit as the golden model adds them, and its cycles worked out by hand."""

import numpy as np
import pytest

from gen.config import ORGANISATIONS, Config
from gen.isa import Cause, Instruction, Mode
from sw.model import check, predict
from sw.model.functional import run
from tb.sw.pixel_works import found_in, random_gradient

TINY = Config.load("tiny-bf16")


@pytest.mark.parametrize("organisation", ORGANISATIONS)
@pytest.mark.parametrize("preset", ["tiny-bf16", "small-bf16"])
def test_weight_gradients(preset, organisation):
    config, seed = Config.load(preset).organise(organisation), 61
    print(f"seed {seed}")
    rng, some = np.random.default_rng(seed), 0
    for number in range(20):
        work = random_gradient(rng, config)
        different = found_in(work, run(config, work.instructions, work.memory)) != work.wanted
        assert not different.any(), f"program {number}: {different.sum()} halves of sums differ"
        some += work.wanted.any()
    assert some > 15        # the others read padding only


@pytest.mark.parametrize(("mode", "cycles", "words"), [(Mode.FW, 4, 8), (Mode.VSW, 4, 4), (Mode.HSW, 2, 4), (Mode.ISW, 2, 2)])
def test_cycles_and_words(mode, cycles, words):
    """A tall tile takes a cycle for each of its 2S pixels, and is ready S cycles later than a packed one; a wide one reads two words a
    pixel."""
    def program(name: str) -> list[Instruction]:
        waves = {"mode": mode, "waves": 3}
        return [Instruction(name, **waves), Instruction("LdLBUF_H", mode=mode, waves=3, rate=mode.parts.bit_length() - 1),
                Instruction("ExecGEMM", **waves), Instruction("End")]

    side = TINY.array.side
    pixels, packed = (predict(TINY, program(name)) for name in ("LdPixels", "LdLBUF_V"))
    assert pixels.counters["g0_busy_load_v"] == 3 * cycles and packed.counters["g0_busy_load_v"] == 3 * side
    assert pixels.counters["g0_stationary_words"] == 3 * words
    waiting = [Instruction("LdLBUF_H", mode=mode, rate=mode.parts.bit_length() - 1), Instruction("ExecGEMM", mode=mode)]
    stalls = [predict(TINY, [*waiting, Instruction(name, mode=mode), Instruction("End")]).counters["g0_stall_stationary"]
              for name in ("LdPixels", "LdLBUF_V")]
    assert stalls[0] - stalls[1] == cycles - side


@pytest.mark.parametrize(("organisation", "mode", "copies"), [("1G4C", Mode.ISW, 4), ("1G1C", Mode.FW, 1)])
def test_other_units_have_no_tall_tiles(organisation, mode, copies):
    config = TINY.organise(organisation)
    rest = [Instruction("LdLBUF_H", mode=mode), Instruction("ExecGEMM", mode=mode), Instruction("End")]
    counters = predict(config, [Instruction("LdPixels", mode=mode), *rest]).counters
    side = config.array.side
    assert (counters["g0_busy_load_v"], counters["g0_stationary_words"]) == (side, side * copies)


@pytest.mark.parametrize(("config", "fields", "cause"), [
    (Config.load("tiny"), {}, Cause.OPCODE),
    (TINY, {}, None),
    (TINY, {"slice": 15}, Cause.FIELD),
    (TINY.organise("1G4C"), {"mode": Mode.FW}, Cause.FIELD),
])
def test_what_the_dispatcher_refuses(config, fields, cause):
    assert check(config, Instruction("LdPixels", **fields)) == cause

"""Random programs for the vector unit on the RTL: every bit as the functional model has it, every cycle as predicted."""

import numpy as np
import pytest

from sw.model import predict
from sw.model.functional import run
from tb.sw.vector_programs import image, program
from tb.system.machines import FLOAT_MACHINES, job, machine
from tb.system.machines import run as simulate

PROGRAMS, LENGTH = 12, 60
SPECIAL = 0xFF      # exponent of infinities and NaNs


@pytest.mark.parametrize(("preset", "organisation"), FLOAT_MACHINES)
def test_random_programs(preset, organisation):
    config = machine(preset, organisation)
    seed = 900 + FLOAT_MACHINES.index((preset, organisation))
    print(f"seed {seed}")
    rng, cases = np.random.default_rng(seed), []
    for _ in range(PROGRAMS):
        data, instructions = image(rng, config), program(rng, config, LENGTH)
        memory = np.pad(data, (0, -data.size % 64))
        cases.append((memory, instructions, run(config, instructions, memory)))
    jobs = [job(instructions, data=memory, bytes_=memory.size, result=(0, memory.size)) for memory, instructions, _ in cases]
    for number, (found, (memory, instructions, wanted)) in enumerate(zip(simulate(config, jobs), cases)):
        assert found.error is None, (number, found.error)
        different = np.flatnonzero(found.result != wanted)
        assert not different.size, f"program {number}: {different.size} bytes differ, the first is {different[0]}"
        assert found.registers["cycles"] == predict(config, instructions, program=memory.size).cycles, f"program {number}"
        # Else nothing would have been tested.
        assert (wanted != memory).mean() > 0.2 and (wanted.view("<u2") >> 7 & 0xFF == SPECIAL).mean() < 0.2

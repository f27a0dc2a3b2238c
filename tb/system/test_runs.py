"""One program after another without a reset between them: what is left in the buffers must not show."""

import numpy as np
import pytest

from gen.config import Config
from gen.simulate import Job, Simulator
from sw.compiler import compile_gemm
from sw.golden.gemm import gemm
from sw.model import predict
from sw.runtime.gemm import random_operands

SHAPES = ((5, 3, 7), (9, 20, 6), (5, 3, 7), (1, 1, 1), (33, 10, 17))    # not whole rings, so that each run ends somewhere in them


@pytest.mark.parametrize("name", ["tiny", "small", "orangecrab"])
def test_runs_do_not_depend_on_earlier_ones(name):
    config, jobs, programs, wanted = Config.load(name), [], [], []
    for seed, (m, n, k) in enumerate(SHAPES):
        a, b = random_operands(m, n, k, seed)
        program = compile_gemm(config, m, n, k, a_dtype="int8", b_dtype="int8")
        programs.append((program, program.image(a=a, b=b)))
        wanted.append(gemm(a, b))
        address, size = program.regions["result"]
        jobs.append(Job(programs[-1][1], program.regions["program"].address, len(program.instructions), (address, size), limit=100_000,
                        reset=seed == 0))
    for (program, image), right, outcome in zip(programs, wanted, Simulator(config).run(jobs)):
        assert outcome.error is None
        address, size = program.regions["result"]
        image[address:address + size] = outcome.result
        np.testing.assert_array_equal(program.result(image), right)
        prediction = predict(config, program.instructions, program=program.regions["program"].address)
        assert {name: outcome.registers[name] for name in prediction.counters} == prediction.counters

"""Random poolings and residuals on the RTL of every preset up to base in every organisation: every integer and every counter is exact."""

import numpy as np
import pytest

from sw.compiler import CompileError
from sw.compiler.lower import compile_product
from sw.runtime.product import compute
from tb.sw.vector_works import random_pooling, random_sum
from tb.system.machines import MACHINES, machine

POOLINGS, SUMS = 10, 8


def fits(config, work) -> bool:
    """The slices of a tiny machine with four groups have 128 words."""
    try:
        compile_product(config, work.product)
    except CompileError as error:
        assert "slice_words" in str(error)
        return False
    return True


@pytest.mark.parametrize(("preset", "organisation"), MACHINES)
def test_random_poolings_and_residuals(preset, organisation):
    config = machine(preset, organisation)
    seed = 1000 * MACHINES.index((preset, organisation)) + 23
    print(f"seed {seed}")
    rng = np.random.default_rng(seed)
    works = [*(random_pooling(rng, config) for _ in range(POOLINGS)), *(random_sum(rng, config) for _ in range(SUMS))]
    works = [work for work in works if fits(config, work)]
    assert len(works) >= POOLINGS
    for work, (run, wanted) in zip(works, compute(config, works)):
        assert run.mismatches == (), work.product
        np.testing.assert_array_equal(run.result, wanted, err_msg=str(work.product))

"""bf16 products and convolutions on the RTL: every bit as the golden model has it, every counter as predicted."""

import numpy as np
import pytest

from sw.runtime.product import compute, differences, equal
from tb.sw.float_works import random_float_convolution, random_float_product
from tb.system.machines import FLOAT_MACHINES, machine


@pytest.mark.parametrize(("preset", "organisation"), FLOAT_MACHINES)
def test_products_and_convolutions(preset, organisation):
    config = machine(preset, organisation)
    seed = 700 + FLOAT_MACHINES.index((preset, organisation))
    print(f"seed {seed}")
    rng = np.random.default_rng(seed)
    works = [random_float_product(rng, config) for _ in range(14)] + [random_float_convolution(rng, config) for _ in range(8)]
    for (run, wanted), work in zip(compute(config, works), works):
        assert equal(run.result, wanted), (work.product, differences(run.result, wanted))
        assert run.mismatches == (), work.product

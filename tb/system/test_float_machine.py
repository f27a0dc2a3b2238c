"""bf16 products, convolutions and weight gradients on the RTL: every bit as the golden model has it, every counter as predicted."""

import numpy as np
import pytest

from sw.model import predict
from sw.runtime.product import compute, differences, equal
from tb.sw.float_works import random_float_convolution, random_float_product
from tb.sw.pixel_works import found_in, random_gradient
from tb.system.machines import FLOAT_MACHINES, job, machine, run


@pytest.mark.parametrize(("preset", "organisation"), FLOAT_MACHINES)
def test_products_and_convolutions(preset, organisation):
    config = machine(preset, organisation)
    seed = 700 + FLOAT_MACHINES.index((preset, organisation))
    print(f"seed {seed}")
    rng = np.random.default_rng(seed)
    works = [random_float_product(rng, config) for _ in range(14)] + [random_float_convolution(rng, config) for _ in range(8)]
    for (found, wanted), work in zip(compute(config, works), works):
        assert equal(found.result, wanted), (work.product, differences(found.result, wanted))
        assert found.mismatches == (), work.product


@pytest.mark.parametrize(("preset", "organisation"), FLOAT_MACHINES)
def test_weight_gradients(preset, organisation):
    """Stationary operands are pixels of images, read as they lie in a slice (LdPixels)."""
    config, seed = machine(preset, organisation), 730 + FLOAT_MACHINES.index((preset, organisation))
    print(f"seed {seed}")
    rng = np.random.default_rng(seed)
    works = [random_gradient(rng, config) for _ in range(40)]
    starts = [work.memory.size + -work.memory.size % 64 for work in works]
    jobs = [job(work.instructions, data=work.memory, bytes_=start, result=(0, work.memory.size)) for work, start in zip(works, starts)]
    for number, (found, work, start) in enumerate(zip(run(config, jobs), works, starts)):
        assert found.error is None, (number, found.error)
        different = found_in(work, found.result) != work.wanted
        assert not different.any(), f"program {number}: {different.sum()} halves of sums differ, tile by tile {different.sum((1, 2, 3, 4))}"
        prediction = predict(config, work.instructions, program=start)
        assert {name: found.registers[name] for name in prediction.counters} == prediction.counters, f"program {number}"
    assert sum(bool(work.wanted.any()) for work in works) > 30      # the others read padding only

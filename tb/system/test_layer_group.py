"""Groups of layers on the RTL of every machine: results, cycles, and DRAM bytes as mini-batch serialisation says."""

import numpy as np
import pytest

from sw.compiler.layer_group import compile_layer_group
from sw.mbs.program import dram_bytes, layers_of
from sw.mbs.schedule import Variant, groups_of
from sw.mbs.units import units_of
from sw.runtime import engines
from tb.sw.group_works import by_golden, possible_group, random_input, random_operands, traffic_of
from tb.sw.test_layer_group import residual_network
from tb.system.machines import MACHINES, machine

GROUPS = 5
BUFFER_BYTES = 16 << 10


def expect(config, cases):
    """Each case: layers, program, input, operands. Run all and compare."""
    runs = engines.run(config, [case[1] for case in cases], [program.image(a, operands) for _, program, a, operands in cases])
    for (layers, program, a, operands), run in zip(cases, runs):
        assert run.mismatches == (), layers
        wanted = by_golden(layers, program.batch, a, operands)
        np.testing.assert_array_equal(run.result.reshape(-1), wanted.reshape(-1), err_msg=str(layers))
        bytes_ = dram_bytes(config, layers, program.batch, program.sub_batch, weights_stay=program.weights_stay,
                            parameters_stay=program.parameters_stay)
        assert traffic_of(config, run.counters) == (bytes_.read, bytes_.features_written)


@pytest.mark.parametrize(("preset", "organisation"), MACHINES)
def test_random_groups(preset, organisation):
    config = machine(preset, organisation)
    seed = 1000 * MACHINES.index((preset, organisation)) + 61
    print(f"seed {seed}")
    rng, cases = np.random.default_rng(seed), []
    for _ in range(GROUPS):
        layers, program = possible_group(rng, config, int(rng.integers(1, 8)))
        cases.append((layers, program, random_input(rng, layers, program.batch), random_operands(rng, layers)))
    expect(config, cases)


def test_a_network_in_the_groups_of_mbs2():
    """Groups and sub-batches as the schedule chooses them for this buffer; what one group writes the next one reads."""
    config, batch, cases = machine("small"), 12, []
    sequence = units_of(residual_network())
    rng = np.random.default_rng(5)
    groups = groups_of(sequence, Variant.MBS2, batch, BUFFER_BYTES)
    assert len(groups) == 2 and groups[0].sub_batch < batch
    features = None
    for group in groups:
        layers = layers_of(sequence, group)
        program = compile_layer_group(config, layers, batch, sub_batch=group.sub_batch)
        a = random_input(rng, layers, batch) if features is None else features
        operands = random_operands(rng, layers)
        cases.append((layers, program, a, operands))
        features = by_golden(layers, batch, a, operands)
    expect(config, cases)

"""Random products on the RTL of every preset up to base in every organisation: every integer and every counter is exact."""

import numpy as np
import pytest

from gen.config import ORGANISATIONS
from gen.isa import Mode
from sw.runtime.gemm import gemms
from tb.system.machines import MACHINES, machine

SHAPES = 16


def operands(rng: np.random.Generator, m: int, n: int, k: int):
    types = [np.int8, np.uint8]
    draw = [rng.integers(np.iinfo(kind).min, np.iinfo(kind).max + 1, size, kind)
            for kind, size in zip((types[rng.integers(2)], types[rng.integers(2)]), ((m, k), (k, n)))]
    return draw[0], draw[1]


@pytest.mark.parametrize(("preset", "organisation"), MACHINES)
def test_random_products(preset, organisation):
    config = machine(preset, organisation)
    seed = 1000 * MACHINES.index((preset, organisation)) + 7
    print(f"seed {seed}")
    rng = np.random.default_rng(seed)
    side = config.array.side
    shapes = [(1, 1, 1), (1, 3 * side, 5 * side), (4 * side, 2 * side + 1, 1)]
    shapes += [tuple(int(size) for size in rng.integers(1, (12 * side + 8, 6 * side + 4, 8 * side + 4))) for _ in range(SHAPES)]
    shapes.append((3 * config.wide_rows // 2 + 1, 2 * side, 3 * side))
    for zero_points in ((0, 0), (3, 5)):
        reports = gemms(config, [operands(rng, *shape) for shape in shapes], a_zero_point=zero_points[0], b_zero_point=zero_points[1])
        for report in reports:
            assert report.mismatches == (), (report.m, report.n, report.k, report.mismatches)
            assert report.exact
            assert report.cycles == report.model_cycles
            assert sum(report.stalls.values()) == config.array.groups * report.model_cycles


def test_base_reaches_its_targets():
    """The figures that the README claims for 256 PEs with 16 bytes a cycle."""
    config = machine("base")
    rng = np.random.default_rng(3)
    shapes = [(128, 128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 16)]
    reports = gemms(config, [(rng.integers(-128, 128, (m, k), np.int8), rng.integers(-128, 128, (k, n), np.int8)) for m, n, k in shapes])
    for report in reports:
        assert report.exact and not report.mismatches
        ideal = report.macs / 256
        moved = (report.m * report.k + report.k * report.n + 4 * report.m * report.n) / config.memory.bytes_per_cycle
        assert report.cycles == report.model_cycles
        assert report.m < 512 or report.model_cycles <= 1.15 * max(ideal, moved)
        assert report.k < 128 or ideal / report.array_cycles >= 0.95
    assert reports[1].array_cycles <= 66_900


# m, n, k in units of one core's side, the waves' ideal cycles in the same unit (FlexSA reference, 9.2), and their modes
VECTORS = [
    ((4, 2, 2), 4, {"FW"}), ((4, 1, 2), 2, {"VSW"}), ((4, 2, 1), 2, {"HSW"}), ((4, 1, 1), 1, {"ISW"}),
    ((4, 3, 3), 9, {"FW", "VSW", "HSW", "ISW"}),
]


def test_modes_reach_the_ideal_cycles():
    """Ideal cycles plus one fill and one drain: no bubble between waves, whatever their modes."""
    config = machine("base")
    side = config.array.side
    drain = 2 * side + 2 * side + config.array.multiplier_latency + 6      # both edges of the array, multiplier, buffers
    rng = np.random.default_rng(4)
    shapes = [tuple(side * size for size in sizes) for sizes, _, _ in VECTORS]
    reports = gemms(config, [(rng.integers(-128, 128, (m, k), np.int8), rng.integers(-128, 128, (k, n), np.int8)) for m, n, k in shapes])
    for report, (_, ideal, waves) in zip(reports, VECTORS):
        assert report.exact and not report.mismatches
        assert {mode for mode, count in report.waves.items() if count} == waves
        assert report.array_cycles == ideal * side + drain


def test_organisations_agree():
    """The same product in all five organisations: equal integers, and the order of array times that the modes explain."""
    rng = np.random.default_rng(5)
    a, b = rng.integers(-128, 128, (64, 24), np.int8), rng.integers(-128, 128, (24, 24), np.int8)
    reports = {name: gemms(machine("small", name), [(a, b)])[0] for name in ORGANISATIONS}
    assert all(np.array_equal(report.result, reports["1G1F"].result) for report in reports.values())
    assert reports["1G4C"].waves["ISW"] == sum(reports["1G4C"].waves.values())
    assert reports["1G1C"].waves[Mode.FW.name] == sum(reports["1G1C"].waves.values())
    assert reports["1G1F"].array_cycles <= reports["1G1C"].array_cycles + 16

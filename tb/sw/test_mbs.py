"""Mini-batch serialisation: footprints against a table worked out by hand, bytes of small networks by hand, and the choice of groups."""

from itertools import combinations, pairwise

import pytest

from sw.mbs.schedule import Variant, groups_of, sub_batch
from sw.mbs.traffic import Bytes, Group, step_traffic
from sw.mbs.units import units_of
from sw.workloads.builder import Builder
from sw.workloads.catalogue import NETWORKS, network

BUFFER = 10 << 20
# ResNet-50, convolutions only: bytes of a sample (input and output; what is live besides), and how many samples fit 10 MiB.
FOOTPRINTS = {
    "conv1": (1_906_688, 5, 1_906_688, 5),
    "stage1.block1": (2_007_040, 5, 3_612_672, 2), "stage1.block3": (2_007_040, 5, 3_612_672, 2),
    "stage2.block1": (2_408_448, 4, 3_211_264, 3), "stage2.block4": (1_003_520, 10, 1_806_336, 5),
    "stage3.block1": (1_204_224, 8, 1_605_632, 6), "stage3.block6": (501_760, 20, 903_168, 11),
    "stage4.block1": (602_112, 17, 802_816, 13), "stage4.block3": (250_880, 41, 451_584, 23),
}


def total(sequence, batch, groups) -> int:
    return sum(unit.total for unit in step_traffic(sequence, batch, groups))


def chain():
    """4 x 8 x 8 to 8 channels (3x3, normalised, activated) to 8 channels (1x1, bias, activated)."""
    build = Builder("chain", (4, 8, 8))
    build.conv(build.conv("input", 8, 3, name="a"), 8, 1, norm=False, name="b")
    return units_of(build.network())


def residual():
    """A convolution, then two of them beside a short cut, the sum activated, and a last one."""
    build = Builder("residual", (4, 8, 8))
    source = build.conv("input", 8, 1, norm=False, relu=False, name="a")
    last = build.conv(build.conv(source, 8, 1, norm=False, relu=False, name="b"), 8, 1, norm=False, relu=False, name="c")
    build.conv(build.add(last, source, relu=True), 8, 1, norm=False, relu=False, name="d")
    return units_of(build.network())


def test_units():
    sequence = units_of(network("resnet50"))
    convolutions = (4, 3, 3, 4, 3, 3, 3, 4, 3, 3, 3, 3, 3, 4, 3, 3)
    assert [len(block) for block in sequence.blocks] == [1, 1, *(count + 1 for count in convolutions), 1, 1]
    assert sum(len(unit.layers) for unit in sequence.units) == len(sequence.network.layers)
    assert [len(block) for block in units_of(network("alexnet")).blocks] == [1] * 11


@pytest.mark.parametrize("name", FOOTPRINTS)
def test_footprints(name):
    sequence = units_of(network("resnet50"))
    members = [number for number, unit in enumerate(sequence.units) if unit.name.startswith(name) and unit.product]
    plain, live = (max(map(need, members)) for need in (sequence.plain_bytes, sequence.live_bytes))
    assert (plain, BUFFER // plain, live, BUFFER // live) == FOOTPRINTS[name]


def test_a_chain_layer_by_layer():
    """Batch 2: 1,024 bytes of input, 2,048 of each result."""
    first, second = step_traffic(chain(), 2, [Group(range(2), 0)])
    assert first.forward == Bytes(features=1024 + 2048 + (2 * 2048 + 2048) + 2 * 2048, weights=2 * 304)
    assert second.forward == Bytes(features=2048 + 2048 + 2 * 2048, weights=2 * 72)
    assert second.backward == Bytes(gradients=2 * 2048 + 2048 + (2048 + 2048), saved=2048 + 2048, weights=2 * 72, weight_gradients=2 * 72)
    assert first.backward == Bytes(gradients=2 * 2048 + 3 * 2048 + 2048, saved=2048 + 2 * 2048 + 1024, weight_gradients=2 * 304)


def test_a_chain_in_one_group():
    """Two iterations of one sample. A result is written for the weight gradient of who reads it; a mask is a bit for each element."""
    first, second = step_traffic(chain(), 2, [Group(range(2), 1)])
    assert first.forward == Bytes(features=1024 + 2048, saved=2048 + 128, weights=2 * 2 * 304)
    assert second.forward == Bytes(features=2048, saved=128, weights=2 * 2 * 72)
    assert second.backward == Bytes(gradients=2048, saved=128 + 2048, weights=2 * 2 * 72, weight_gradients=(2 * 4 + 2) * 72)
    assert first.backward == Bytes(saved=2048 + 128 + 1024, weight_gradients=(2 * 4 + 2) * 304)


def test_results_that_are_computed_again():
    """The first result is normalised: it is neither written nor read, and its mask is not kept; its normalisation's input is."""
    first, second = step_traffic(chain(), 2, [Group(range(2), 1, recompute=True)])
    assert first.forward == Bytes(features=1024, saved=2048, weights=2 * 2 * 304)
    assert second.forward == Bytes(features=2048, saved=128, weights=2 * 2 * 72)
    assert second.backward == Bytes(gradients=2048, saved=128, weights=2 * 2 * 72, weight_gradients=(2 * 4 + 2) * 72)
    assert first.backward == Bytes(saved=2048 + 1024, weight_gradients=(2 * 4 + 2) * 304)


def test_results_beyond_the_group_are_written():
    first, second = step_traffic(chain(), 2, [Group(range(1), 1, recompute=True), Group(range(1, 2), 1, recompute=True)])
    assert first.forward.features == 1024 + 2048 and second.forward.features == 2048 + 2048
    assert second.backward.saved == 128 + 2048


def test_concatenations_are_computed_again_if_all_their_parts_are():
    """Two normalised branches, put side by side, then a product that reads them; or one branch that is only pooled."""
    def written(pooled: bool) -> int:
        build = Builder("branches", (4, 8, 8))
        right = build.pool("input", "max", 3, 1, 1) if pooled else build.conv("input", 4, 1, name="right")
        build.conv(build.concat(build.conv("input", 4, 1, name="left"), right), 8, 1, norm=False, relu=False, name="last")
        sequence = units_of(build.network())
        found = step_traffic(sequence, 1, [Group(range(len(sequence.units)), 1, True, recompute=True)])
        return next(unit.forward.features for unit in found if unit.name.startswith("concat"))

    assert written(pooled=False) == 0 and written(pooled=True) == 2 * 8 * 8 * 8


def test_weight_gradients_behind_the_group():
    """64 inputs, 10 outputs: two iterations would write and read 2,600 bytes of sums; the results' gradients are 40 bytes."""
    build = Builder("fc", (64, 1, 1))
    build.linear("input", 10)
    sums, deferred = (step_traffic(units_of(build.network()), 2, [Group(range(1), 1, defer=defer)])[0] for defer in (False, True))
    assert sums.backward == Bytes(gradients=40, saved=256, weight_gradients=(2 * 4 + 2) * 650) and not sums.deferred
    assert deferred.backward == Bytes(gradients=40 + 2 * 40, saved=256, weight_gradients=2 * 650) and deferred.deferred
    first, second = step_traffic(chain(), 2, [Group(range(2), 1, defer=True)])     # here the gradients are larger than the sums
    assert not first.deferred and not second.deferred


def test_a_border_costs_a_gradient_both_ways_and_a_read():
    together = total(chain(), 2, [Group(range(2), 2)])
    assert total(chain(), 2, [Group(range(1), 2), Group(range(1, 2), 2)]) - together == 3 * 2048


def test_inference():
    """Nothing is kept for a backward pass: in one group only the ends of the network and the weights move."""
    first, second = step_traffic(chain(), 2, [Group(range(2), 1)], training=False)
    assert (first.forward, second.forward) == (Bytes(features=1024, weights=2 * 2 * 304), Bytes(features=2048, weights=2 * 2 * 72))
    assert first.backward == second.backward == Bytes()


def test_a_short_cut_stays_on_chip_only_with_inter_branch_reuse():
    """Without it the sum reads the block's input again, and a gradient of it goes out and comes back."""
    sequence = residual()
    without, with_ = (total(sequence, 2, [Group(range(5), 2, reuse)]) for reuse in (False, True))
    assert without - with_ == 3 * 2048
    assert sequence.live_bytes(2) == 2 * (3 * 512)      # of c: input, result, and the block's input


def test_sub_batches():
    sequence = chain()
    assert [sequence.plain_bytes(number) for number in (0, 1)] == [2 * (256 + 512), 2 * 1024]
    assert [sub_batch(sequence, range(2), 16, buffer, False) for buffer in (2047, 2048, 6000, 1 << 20)] == [0, 1, 2, 16]


@pytest.mark.parametrize("name", ["resnet50", "inception_v3", "alexnet", "vgg16", "mobilenet_v2"])
def test_variants(name):
    """Each is allowed more than the one before and moves no more, but for full serialisation, which may cost more than it saves."""
    sequence = units_of(network(name))
    moved = {variant: total(sequence, 32, groups_of(sequence, variant, 32, BUFFER)) for variant in Variant}
    assert moved[Variant.BASELINE] == moved[Variant.ARCHOPT] >= moved[Variant.IL] >= moved[Variant.MBS1] >= moved[Variant.MBS2]
    assert moved[Variant.MBS2] >= moved[Variant.MBS3]
    assert moved[Variant.MBS_FS] >= moved[Variant.MBS1]


def test_optimal_is_the_best_of_all_cuts():
    sequence = units_of(network("alexnet"))
    blocks, batch = len(sequence.blocks), 64

    def cut(borders) -> list[Group]:
        places = [0, *borders, blocks]
        runs = [range(sequence.blocks[a].start, sequence.blocks[b - 1].stop) for a, b in pairwise(places)]
        return [Group(run, sub_batch(sequence, run, batch, BUFFER // 4, False)) for run in runs]

    everything = (cut(borders) for count in range(blocks) for borders in combinations(range(1, blocks), count))
    best = min(total(sequence, batch, groups) for groups in everything)
    assert total(sequence, batch, groups_of(sequence, Variant.MBS1, batch, BUFFER // 4)) == best


@pytest.mark.parametrize("name", ["resnet50", "inception_v4", "alexnet"])
def test_greedy_is_near_the_optimum(name):
    sequence = units_of(network(name))
    greedy, best = (total(sequence, 32, groups_of(sequence, Variant.MBS2, 32, BUFFER, optimal=optimal)) for optimal in (False, True))
    assert best <= greedy <= 1.02 * best


def test_every_network_has_groups_that_cover_it():
    for name in NETWORKS:
        sequence = units_of(network(name))
        for variant in Variant:
            groups = groups_of(sequence, variant, 8, 1 << 20, optimal=False)
            assert [number for group in groups for number in group.units] == list(range(len(sequence.units))), (name, variant)

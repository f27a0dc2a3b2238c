"""DeLTA: exact footprints against a table worked out by brute force, the formulas, and the sense of the time model."""

import numpy as np
import pytest

from sw.delta.footprint import distinct_elements, raw_elements
from sw.delta.time import TITAN_V, time
from sw.delta.traffic import CtaTile, filter_inefficiency, input_inefficiency, tile_for, touched, traffic
from sw.workloads.network import Conv


def conv(channels: int, kernel: int, size: int, stride: int, padding: int, made: int = 64, groups: int = 1) -> Conv:
    out = (size + 2 * padding - kernel) // stride + 1
    return Conv(name="c", inputs=("input",), source=(channels, size, size), shape=(made, out, out), kernel=(kernel, kernel),
                stride=(stride, stride), padding=(padding, padding, padding, padding), groups=groups)


# Channels, kernel, size, stride, padding: mean over the tiles of batch 128, 128 rows each, of different elements, of all with padding, and
# of different ones with padding, at depth 8 and 4.
FOOTPRINTS = {
    (64, 3, 56, 1, 1): (311.76, 1024, 326.20, 205.34, 512, 213.90),
    (128, 3, 28, 1, 1): (266.30, 1024, 293.17, 184.71, 512, 201.41),
    (256, 3, 14, 1, 1): (240.54, 1024, 292.70, 171.36, 512, 204.35),
    (64, 1, 56, 1, 0): (1024, 1024, 1024, 512, 512, 512),
    (256, 1, 56, 2, 0): (1024, 1024, 1024, 512, 512, 512),
    (3, 7, 224, 2, 3): (463.19, 990.32, 473.05, 322.04, 508.54, 328.05),
    (3, 11, 224, 4, 2): (687.23, 1010.09, 695.65, 505.54, 510.59, 510.59),
}


@pytest.mark.parametrize("shape", FOOTPRINTS)
def test_footprints(shape):
    layer, found = conv(*shape), []
    rows, depth = 128 * layer.shape[1] * layer.shape[2], layer.source[0] * layer.kernel[0] ** 2
    for k in (8, 4):
        tiles = rows // 128 * -(-depth // k)
        found += [distinct_elements(layer, 128, rows=128, depth=k) / tiles, raw_elements(layer, 128) / tiles,
                  distinct_elements(layer, 128, rows=128, depth=k, padding=True) / tiles]
    assert tuple(round(value, 2) for value in found) == FOOTPRINTS[shape]


@pytest.mark.parametrize("seed", range(20))
def test_footprints_of_random_layers(seed):
    """Against sets of coordinates, tile by tile; batches that fill no whole number of tiles."""
    print(f"seed {seed}")
    rng = np.random.default_rng(seed)
    kernel, stride, padding = (int(rng.integers(1, high)) for high in (6, 4, 4))
    layer = conv(int(rng.integers(1, 4)), kernel, int(rng.integers(kernel, 12)), stride, padding - 1)
    batch, rows, depth = (int(rng.integers(1, high)) for high in (7, 40, 10))
    _, height, width = layer.shape
    total_rows, total_depth = batch * height * width, layer.source[0] * kernel**2
    wanted = {True: 0, False: 0}
    for first in range(0, total_rows, rows):
        for tap in range(0, total_depth, depth):
            touched_elements = set()
            for m in range(first, min(first + rows, total_rows)):
                for k in range(tap, min(tap + depth, total_depth)):
                    (image, pixel), (channel, place) = divmod(m, height * width), divmod(k, kernel**2)
                    touched_elements.add((image, channel, pixel // width * stride + place // kernel - padding + 1,
                                          pixel % width * stride + place % kernel - padding + 1))
            wanted[True] += len(touched_elements)
            wanted[False] += sum(0 <= y < layer.source[1] and 0 <= x < layer.source[2] for _, _, y, x in touched_elements)
    for with_padding, count in wanted.items():
        assert distinct_elements(layer, batch, rows=rows, depth=depth, padding=with_padding) == count


@pytest.mark.parametrize("shape, value", [((64, 3, 56, 1, 1), 1.0357), ((128, 3, 28, 1, 1), 1.0714), ((256, 3, 14, 1, 1), 1.1429),
                                          ((64, 1, 56, 1, 0), 1.0), ((256, 1, 56, 2, 0), 2.0), ((3, 7, 224, 2, 3), 2.0536),
                                          ((3, 11, 224, 4, 2), 4.1835)])
def test_input_inefficiency(shape, value):
    assert round(input_inefficiency(conv(*shape)), 4) == value


def test_filter_inefficiency():
    assert [filter_inefficiency(CtaTile(128, 128, depth)) for depth in (8, 4)] == [1.875, 2.75]


def test_tiles():
    assert [tile_for(channels).n for channels in (1, 32, 33, 64, 65, 128, 1000)] == [32, 32, 64, 64, 128, 128, 128]


def test_traffic_of_a_pointwise_layer():
    """By hand: 1x1, 64 to 128 channels at 56 x 56, batch 4: 98 row tiles, one column tile; no element is used twice."""
    found = traffic(conv(64, 1, 56, 1, 0, made=128), 4)
    rows = 4 * 56 * 56
    assert (found.ctas, found.steps) == (98, 8)
    assert found.l1 == 4 * (rows * 64 + 128 * 64 * 1.875 * 98)
    assert found.l2 == 4 * (rows * 64 + 128 * 64 * 98)
    assert found.dram == 4 * (rows * 64 + 128 * 64)


def test_touched():
    assert touched(conv(5, 1, 56, 2, 0)) == 5 * 28 * 28
    assert touched(conv(5, 3, 56, 1, 1)) == 5 * 56 * 56
    assert touched(conv(5, 3, 7, 2, 0)) == 5 * 7 * 7
    assert touched(conv(1, 2, 9, 3, 0)) == 6 * 6


def test_groups_are_small_layers():
    whole, part = traffic(conv(64, 3, 28, 1, 1, made=64, groups=4), 8), traffic(conv(16, 3, 28, 1, 1, made=16), 8)
    assert (whole.l1, whole.l2, whole.dram, whole.ctas) == (4 * part.l1, 4 * part.l2, 4 * part.dram, 4 * part.ctas)


def test_time():
    """A deep layer is bound by multiply-adds and near the peak; a shallow one by memory; less work never takes longer."""
    deep, shallow = conv(512, 3, 14, 1, 1, made=512), conv(64, 1, 56, 1, 0, made=32)
    found = time(TITAN_V, traffic(deep, 256))
    assert found.bound == "compute"
    assert 0.7 < 256 * deep.macs / found.seconds / TITAN_V.macs < 1
    assert time(TITAN_V, traffic(shallow, 256)).bound in ("l2", "dram")
    seconds = [time(TITAN_V, traffic(deep, batch)).seconds for batch in (1, 2, 8, 64, 256)]
    assert seconds == sorted(seconds)

"""Packing of operands and results, against byte positions written out from the text of rtl/README.md."""

import numpy as np
import pytest

from gen.config import ORGANISATIONS, Config
from gen.presets import PRESETS
from sw.compiler.layout import (
    pack_moving,
    pack_parameters,
    pack_stationary,
    padded_rows,
    stationary_bytes,
    unpack_moving,
    unpack_result,
)
from sw.model.ideal import mode_of

CASES = [(preset, organisation) for preset in ("tiny", "small") for organisation in ORGANISATIONS]


def machine(preset: str, organisation: str) -> Config:
    return PRESETS[preset].organise(organisation)


@pytest.mark.parametrize("preset,organisation", CASES)
def test_moving(preset, organisation):
    config, rng = machine(preset, organisation), np.random.default_rng(1)
    side, (m, k) = config.array.side, (13, 11)
    a = rng.integers(-128, 128, (m, k))
    image = pack_moving(config, a)
    rows = image.size // side // -(-k // side)
    assert rows * side % config.memory.bytes_per_cycle == 0 and m <= rows < m + config.beat_words
    for row in range(m):
        for column in range(k):
            assert image[(column // side * rows + row) * side + column % side] == a[row, column] % 256
    assert (unpack_moving(config, image, m, k, "int8") == a).all()


@pytest.mark.parametrize("preset,organisation", CASES)
@pytest.mark.parametrize("k,n", [(1, 1), (3, 5), (8, 8), (11, 9), (17, 12), (32, 31)])
def test_stationary(preset, organisation, k, n):
    """Walk the tiles in the order of use and look up each core's word where the text says it is."""
    config, rng, zero_point = machine(preset, organisation), np.random.default_rng(k * n), 77
    side, tile = config.array.side, config.tile
    b = rng.integers(0, 256, (k, n))
    image = pack_stationary(config, b, zero_point)
    assert image.size == stationary_bytes(config, k, n)

    def expected(row: int, column: int) -> int:
        return b[row, column] if row < k and column < n else zero_point

    at, full = 0, k // tile * tile
    for n0 in range(0, n, tile):
        for k0 in ([full] if k % tile else []) + list(range(0, full, tile)):
            tall, wide = min(tile, k - k0) > side, min(tile, n - n0) > side
            for i in range(side):
                for down in range(2 if tall else 1):            # cores in order: 0 1 2 3
                    for right in range(2 if wide else 1):
                        for column in range(side):
                            assert image[at] == expected(k0 + down * side + i, n0 + right * side + column)
                            at += 1
            assert mode_of(config, 1 + tall, 1 + wide).tall == tall or config.cores == 1
    assert image.size - at < config.memory.bytes_per_cycle


@pytest.mark.parametrize("preset,organisation", CASES)
@pytest.mark.parametrize("output", ["int32", "int8", "uint8"])
def test_result(preset, organisation, output):
    config, rng = machine(preset, organisation), np.random.default_rng(3)
    side, (m, n) = config.array.side, (9, 10)
    blocks, rows, size = -(-n // side), padded_rows(config, m), 4 if output == "int32" else 1
    image = rng.integers(0, 256, blocks * rows * size * side).astype(np.uint8)
    result = unpack_result(config, image, m, n, output)
    assert result.shape == (m, n) and result.dtype == output
    for row in range(m):
        for column in range(n):
            first = ((column // side * rows + row) * size) * side + column % side
            data = bytes(int(image[first + plane * side]) for plane in range(size))
            assert result[row, column] == int.from_bytes(data, "little", signed=output != "uint8")


def test_parameters():
    config = PRESETS["small"]
    side, n = config.array.side, 6
    bias, multiplier = np.arange(n, dtype=np.int32) * -70001, np.linspace(0.1, 2, n, dtype=np.float32)
    image = pack_parameters(config, bias, multiplier)
    for column in range(n):
        record = bytes(int(image[(column // side * 8 + j) * side + column % side]) for j in range(8))
        assert record == bias[column].tobytes() + multiplier[column].tobytes()

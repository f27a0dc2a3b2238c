"""Golden near-data operations against loops over single numbers, with the address map of sw.dram as the judge of what lies where."""

import math

import numpy as np
import pytest

from gen.dram import DramConfig, part, replace
from sw.dram.mapping import locate
from sw.golden import nda

NAN = 0x7FC0_0000
LAYOUTS = ((), (("bank", 1), ("channel", 1), ("column", 2), ("rank", 1), ("column", 5), ("bank", 3), ("row", 16)))
SPECIAL = np.array([0, 0x8000_0000, 1, 0x807F_FFFF, 0x0080_0000, 0x7F7F_FFFF, 0x7F80_0000, 0xFF80_0000, NAN, 0xFF80_0001, 0x3F80_0000],
                   np.uint32)


def system(channels=1, ranks=1, **more) -> DramConfig:
    return replace(DramConfig(part=part("ddr4-2400r")), channels=channels, ranks=ranks, **more)


def floats(rng: np.random.Generator, *shape: int, special: float = 0.05) -> np.ndarray:
    """Numbers whose sums round, cancel, overflow or vanish now and then."""
    bits = (rng.integers(-20, 20, shape) + 127 << 23) | rng.integers(0, 1 << 23, shape) | rng.integers(0, 2, shape) << 31
    strange = np.where(rng.random(shape) < 0.5, rng.choice(SPECIAL, shape), rng.integers(0, 1 << 32, shape))
    return np.where(rng.random(shape) < special, strange, bits).astype(np.uint32).view(np.float32)


def once(x: float) -> float:
    """A double rounded to float32 without subnormal numbers. Sums and products of two float32 round as if they had not been doubles."""
    with np.errstate(all="ignore"):
        value = float(np.float32(x))
    return math.copysign(0.0, value) if abs(value) < 2.0 ** -126 else value


def times(a: float, b: float) -> float:
    return once(once(float(a)) * once(float(b)))


def plus(a: float, b: float) -> float:
    return once(once(float(a)) + once(float(b)))


def same(result, expected) -> None:
    """Bit for bit; an expected NaN is the one that the units know."""
    expected = np.asarray(expected, np.float32)
    bits = np.where(np.isnan(expected), np.uint32(NAN), expected.view(np.uint32))
    assert np.asarray(result).dtype == np.float32
    assert (np.asarray(result).view(np.uint32) == bits).all()


@pytest.mark.parametrize("seed", range(4))
def test_elementwise(seed):
    print(f"seed {seed}")
    rng = np.random.default_rng(seed)
    x, y, z = floats(rng, 3, 300, special=0.2)
    a, b, c = (float(value) for value in floats(rng, 3, special=0.3))
    rows = list(zip(x.tolist(), y.tolist(), z.tolist()))
    same(nda.scal(a, x), [times(a, p) for p, _, _ in rows])
    same(nda.axpy(a, x, y), [plus(times(a, p), q) for p, q, _ in rows])
    same(nda.axpby(a, x, b, y), [plus(times(a, p), times(b, q)) for p, q, _ in rows])
    same(nda.axpbypcz(a, x, b, y, c, z), [plus(plus(times(a, p), times(b, q)), times(c, r)) for p, q, r in rows])
    same(nda.xmy(x, y), [times(p, q) for p, q, _ in rows])
    assert nda.copy(x).tobytes() == x.tobytes()


@pytest.mark.parametrize("seed", range(4))
def test_elementwise_integers(seed):
    print(f"seed {seed}")
    rng = np.random.default_rng(seed)
    x, y, z = rng.integers(-2**31, 2**31, (3, 200)).astype(np.int32)
    a, b, c = (int(value) for value in rng.integers(-2**31, 2**31, 3))

    def wrapped(values):
        return [(value + 2**31) % 2**32 - 2**31 for value in values]

    rows = list(zip(x.tolist(), y.tolist(), z.tolist()))
    assert nda.scal(a, x).tolist() == wrapped(a * p for p, _, _ in rows)
    assert nda.axpy(a, x, y).tolist() == wrapped(a * p + q for p, q, _ in rows)
    assert nda.axpby(a, x, b, y).tolist() == wrapped(a * p + b * q for p, q, _ in rows)
    assert nda.axpbypcz(a, x, b, y, c, z).tolist() == wrapped(a * p + b * q + c * r for p, q, r in rows)
    assert nda.xmy(x, y).tolist() == wrapped(p * q for p, q, _ in rows)
    assert nda.xmy(x, y).dtype == np.int32


@pytest.mark.parametrize("seed", range(8))
def test_where_blocks_lie(seed):
    print(f"seed {seed}")
    rng = np.random.default_rng(seed)
    shape = {"channels": 2, "ranks": 2, "layout": LAYOUTS[1]} if seed % 4 == 3 else \
        {"channels": int(rng.choice([1, 2, 4])), "ranks": int(rng.choice([1, 2, 4])), "reserved": int(rng.choice([1, 2, 4, 8]))} \
        if seed % 4 else {"hashed": False, "ranks": 2}
    config = system(**shape | ({"reserved": 2} if seed % 4 == 3 else {}))
    frame = int(rng.integers(config.frames))
    blocks = min(int(rng.integers(1, 3 * config.frame_blocks)), 40_000)
    number = np.arange(blocks)
    base = (config.part.rows - config.frames + frame + number // config.frame_blocks * config.colours) * config.frame_blocks
    inside = base < config.blocks
    place = locate(config, (base + number % config.frame_blocks)[inside])
    assert (nda.units(config, frame % config.colours, blocks)[inside] == place.channel * config.ranks + place.rank).all()


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("shape", [{}, {"ranks": 4, "channels": 2}, {"ranks": 2, "channels": 2, "layout": LAYOUTS[1]}], ids=str)
def test_sums(seed, shape):
    print(f"seed {seed}")
    rng = np.random.default_rng(seed)
    config = system(**shape)
    length, colour = int(rng.integers(1, 4000)), int(rng.integers(config.colours))
    x, y = floats(rng, 2, length, special=0.0 if seed % 3 else 0.001)
    lanes: dict[int, list[float]] = {}
    first = (config.part.rows - config.frames + colour) * config.frame_blocks
    for block in range(-(-length // 16)):
        place = locate(config, first + block)
        sums = lanes.setdefault(int(place.channel * config.ranks + place.rank), [0.0] * 16)
        for lane in range(16):
            i = 16 * block + lane
            product = times(x[i], y[i]) if i < length else 0.0
            sums[lane] = plus(product, sums[lane])
    found = nda.lane_sums(config, x, y, colour)
    assert sorted(found) == sorted(lanes)
    total = None
    for unit in sorted(lanes):
        same(found[unit], lanes[unit])
        part_sum = lanes[unit][0]
        for value in lanes[unit][1:]:
            part_sum = plus(part_sum, value)
        total = part_sum if total is None else plus(total, part_sum)
    same(nda.dot(config, x, y, colour), total)
    assert nda.nrm2(config, x, colour).view(np.uint32) == nda.square_root(nda.dot(config, x, x, colour)).view(np.uint32)
    if np.isfinite(x).all() and float(np.abs(x).max()) < 1e15:
        assert nda.nrm2(config, x, colour) == pytest.approx(np.linalg.norm(x.astype(np.float64)), rel=1e-4)


@pytest.mark.parametrize("seed", range(4))
def test_gemv(seed):
    print(f"seed {seed}")
    rng = np.random.default_rng(seed)
    rows, columns = (int(size) for size in rng.integers(1, 40, 2))
    matrix, scalars, y = floats(rng, columns, rows), floats(rng, columns), floats(rng, rows)
    expected = y.tolist()
    for j in range(columns):
        expected = [plus(times(scalars[j], matrix[j, i]), expected[i]) for i in range(rows)]
    same(nda.gemv(scalars, matrix, y), expected)


@pytest.mark.parametrize("seed", range(4))
def test_rows(seed):
    print(f"seed {seed}")
    rng = np.random.default_rng(seed)
    config = system(*[(1, 1), (2, 1), (2, 4), (1, 2)][seed])
    units = config.channels * config.ranks
    table, row = floats(rng, 9, 7, special=0.05 * (seed % 2)), floats(rng, 7)
    indices = rng.integers(0, 9, [400, 1, 400, 5][seed])
    whole = None
    for unit in range(units):
        mine = [int(i) for i in indices if i % units == unit]
        share = None
        for first in range(0, len(mine), 128):
            partial = table[mine[first]].tolist()
            for i in mine[first + 1:first + 128]:
                partial = [plus(p, q) for p, q in zip(table[i], partial)]
            share = partial if share is None else [plus(p, q) for p, q in zip(share, partial)]
        if share is not None:
            whole = share if whole is None else [plus(p, q) for p, q in zip(whole, share)]
    result = nda.gather(config, table, indices)
    if len(indices) > 1:
        same(result, whole)
    else:
        assert result.tobytes() == table[indices[0]].tobytes()      # bits pass unchanged
    added = table.tolist()
    for i in indices.tolist():
        added[i] = [plus(p, q) for p, q in zip(row, added[i])]
    found = nda.scatter_add(table, indices, row)
    touched = sorted(set(indices.tolist()))
    same(found[touched], [added[i] for i in touched])
    rest = [i for i in range(9) if i not in touched]
    assert found[rest].tobytes() == table[rest].tobytes()


def test_one_rounding_at_a_time():
    """A fused multiply-add would keep the product's last bits."""
    x = np.array([1 + 2.0 ** -12], np.float32)
    product = (1 + 2.0 ** -11)          # (1 + 2^-12)^2 without its last bit
    assert nda.axpy(float(x[0]), x, np.array([-product], np.float32)).tolist() == [0.0]

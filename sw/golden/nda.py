"""Golden near-data operations: whole vectors in numpy, every result bit as the units and the host's final sums give it.

Element-wise operations do not depend on where a vector lies. The order of additions of the others (rtl/memory/README.md), for a memory
system with channels x ranks units:

- `dot`, `nrm2`: a unit's sixteen lanes start at +0 and add their products block by block in local order (ascending address). The host adds
  lanes 0 to 15 of each unit, then the units in ascending (channel, rank); units without a block of the vector take no part.
- `gemv`: y, then column after column.
- `gather`: row i of a table lies in unit i mod units. A unit adds its rows in the order of the indices, 128 a launch; the host adds the
  launches of each unit in order, then the units in ascending order; units without an index take no part.
- `scatter_add`: each row in the order of the indices.

float32 rounds after each multiplication and each addition (`sw.golden.float32`); int32 wraps around. Scalars are rounded to float32.
Nothing here is shared with the allocator or the launch encoding: where a block lies is worked out again from the configuration.
"""

import numpy as np

from gen.dram import DramConfig
from sw.golden.float32 import CANONICAL_NAN, add, flush, multiply

LANES = 16
ROWS_OF_A_LAUNCH = 128


def copy(x: np.ndarray) -> np.ndarray:
    """x, bit by bit."""
    return np.array(x)


def scal(a: float, x: np.ndarray) -> np.ndarray:
    """a x."""
    return _times(a, x)


def axpy(a: float, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """a x + y."""
    return _plus(_times(a, x), y)


def axpby(a: float, x: np.ndarray, b: float, y: np.ndarray) -> np.ndarray:
    """a x + b y."""
    return _plus(_times(a, x), _times(b, y))


def axpbypcz(a: float, x: np.ndarray, b: float, y: np.ndarray, c: float, z: np.ndarray) -> np.ndarray:
    """(a x + b y) + c z."""
    return _plus(axpby(a, x, b, y), _times(c, z))


def xmy(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """x .* y."""
    return _times(x, y)


def gemv(scalars: np.ndarray, columns: np.ndarray, y: np.ndarray) -> np.ndarray:
    """((y + s0 A0) + s1 A1) + ...; `columns` is (columns, rows)."""
    for scalar, column in zip(np.asarray(scalars, np.float32), columns, strict=True):
        y = add(y, multiply(scalar, column))
    return np.array(y)


def dot(config: DramConfig, x: np.ndarray, y: np.ndarray, colour: int = 0) -> np.float32:
    """Sum of x .* y; the colour of the vectors' frames says in which unit a block lies."""
    return host_sum(lane_sums(config, x, y, colour))


def nrm2(config: DramConfig, x: np.ndarray, colour: int = 0) -> np.float32:
    """Square root of the sum of x .* x, rounded once."""
    return square_root(dot(config, x, x, colour))


def square_root(x: np.float32) -> np.float32:
    """The host's square root of a sum of squares, with the units' NaN."""
    return np.float32(np.sqrt(x)) if x >= 0 else CANONICAL_NAN.view(np.float32)


def lane_sums(config: DramConfig, x: np.ndarray, y: np.ndarray, colour: int = 0) -> dict[int, np.ndarray]:
    """The sixteen lanes' sums of each unit that holds a block; vectors are padded with zeros to whole blocks."""
    products = multiply(_blocks(x), _blocks(y))
    place = units(config, colour, len(products))
    order = np.argsort(place, kind="stable")                  # each unit's blocks together, in local order
    found, lengths = np.unique(place, return_counts=True)
    first, lanes = np.cumsum(lengths) - lengths, np.zeros((len(found), LANES), np.float32)
    for number in range(int(lengths.max())):                  # of the block, in all units at once
        more = lengths > number
        lanes[more] = add(products[order[first[more] + number]], lanes[more])
    return {int(unit): sums for unit, sums in zip(found, lanes)}


def host_sum(sums: dict[int, np.ndarray]) -> np.float32:
    """Lanes 0 to 15 of each unit, then the units in ascending order."""
    return np.float32(total([total(list(lanes)) for _, lanes in sorted(sums.items())]))


def gather(config: DramConfig, table: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """Sum of the rows named by `indices` (one or more, repetitions allowed)."""
    count, indices = config.channels * config.ranks, np.asarray(indices)
    units = []
    for unit in range(count):
        mine = indices[indices % count == unit]
        launches = [total(list(table[mine[first:first + ROWS_OF_A_LAUNCH]])) for first in range(0, len(mine), ROWS_OF_A_LAUNCH)]
        if launches:
            units.append(total(launches))
    return total(units)


def scatter_add(table: np.ndarray, indices: np.ndarray, row: np.ndarray) -> np.ndarray:
    """The table with `row` added to each row that `indices` names, as often as it does."""
    result = np.array(table)
    for index in np.asarray(indices):
        result[index] = add(result[index], row)
    return result


def total(parts: list) -> np.ndarray:
    """Sum of float32 numbers or arrays from the left; the first is taken as it is, bit by bit."""
    result = np.array(parts[0])
    for part in parts[1:]:
        result = add(result, part)
    return result


def units(config: DramConfig, colour: int, blocks: int) -> np.ndarray:
    """The unit (channel * ranks + rank) of each of a vector's first `blocks` blocks, from the address layout and the hash."""
    inside = np.arange(blocks, dtype=np.int64) % config.frame_blocks
    row_bits = config.field_bits["row"]
    raw_row = ((1 << config.swapped_bits) - 1 << row_bits - config.swapped_bits) | colour
    unit, low, taken = np.zeros(blocks, np.int64), 0, {"channel": 0, "rank": 0}
    for name, bits in config.layout:
        for bit in range(low, low + bits):
            if name in taken:
                flip = (raw_row & config.hash_masks[name][taken[name]]).bit_count() & 1
                weight = 1 if name == "rank" else config.ranks
                unit += ((inside >> bit & 1) ^ flip) * weight << taken[name]
                taken[name] += 1
        low += bits
    return unit


def _times(a, x: np.ndarray) -> np.ndarray:
    if x.dtype == np.int32:
        factor = a.view(np.uint32) if isinstance(a, np.ndarray) else np.uint32(int(a) & 0xFFFF_FFFF)
        return (x.view(np.uint32) * factor).view(np.int32)
    return multiply(np.asarray(a, np.float32), x)


def _plus(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    if x.dtype == np.int32:
        return (x.view(np.uint32) + y.view(np.uint32)).view(np.int32)
    return add(x, y)


def _blocks(x: np.ndarray) -> np.ndarray:
    padded = np.zeros(-(-len(x) // LANES) * LANES, np.float32)
    padded[:len(x)] = flush(x)
    return padded.reshape(-1, LANES)

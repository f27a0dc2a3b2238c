"""Near-data software: allocation, launches and golden model, through units that read the launch registers by the contract's words."""

import numpy as np
import pytest

from gen.dram import DramConfig, part, replace
from sw.dram import allocate
from sw.dram.allocate import Allocator, NdaError
from sw.dram.blas import Mismatch, Nda
from sw.dram.mapping import launch_block, locate
from tb.sw.nda_standin import StandIn
from tb.sw.test_nda_golden import floats

STRIPED = (("bank", 1), ("channel", 1), ("column", 2), ("rank", 1), ("column", 5), ("bank", 3), ("row", 16))
SHAPES = (
    {"reserved": 2}, {"reserved": 1, "ranks": 4}, {"reserved": 4, "channels": 2, "ranks": 2}, {"reserved": 8, "channels": 2},
    {"reserved": 2, "ranks": 2, "hashed": False}, {"reserved": 2, "channels": 2, "ranks": 2, "layout": STRIPED},
    {"reserved": 2, "channels": 4, "ranks": 4},
)


def system(**shape) -> DramConfig:
    return replace(DramConfig(part=part("ddr4-2400r")), **shape)


def units_of(config: DramConfig, numbers: np.ndarray) -> np.ndarray:
    place = locate(config, numbers)
    return place.channel * config.ranks + place.rank


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("seed", range(3))
def test_vectors_are_prefixes_of_the_local_order(shape, seed):
    """What a unit holds of a vector are the first blocks of the contract's local order, and all operands of a colour agree."""
    print(f"seed {seed}")
    rng = np.random.default_rng(seed)
    config = system(**shape)
    allocator, colour = Allocator(config), int(rng.integers(config.colours))
    room = min(60_000, 3 * config.frame_blocks) * 16
    elements = int(rng.integers(1, room) if seed else rng.integers(1, 2000))
    k, c, h = config.reserved_bits, config.field_bits["column"], config.swapped_bits
    first = None
    for _ in range(2):
        vector = allocator.allocate(elements, np.float32, colour)
        place, unit = locate(config, vector.numbers), units_of(config, vector.numbers)
        assert len(np.unique(vector.numbers)) == vector.blocks == -(-elements // 16)
        for number in range(allocator.units):
            mine = unit == number
            q = np.arange(mine.sum())
            assert len(q) == vector.lengths[number]
            low, column, high = q & (1 << k) - 1, q >> k & (1 << c) - 1, q >> k + c & (1 << h) - 1
            frame = vector.frame + (q >> k + c + h) * config.colours
            assert (place.bank[mine] == ((1 << h) - 1 << k) + (low ^ vector.flip & (1 << k) - 1)).all()
            assert (place.row[mine] == ((high ^ vector.flip >> k) << 16 - h) + frame).all()
            assert (place.column[mine] == column).all()
            assert (vector.local(number, q) == vector.numbers[mine]).all()
        if first is not None:
            assert (unit == first).all()
        first = unit


def test_frames_are_given_once():
    seed = 5
    print(f"seed {seed}")
    rng = np.random.default_rng(seed)
    config = system(channels=2, ranks=2)
    allocator = Allocator(config)
    registers = launch_block(config, 0, 0) // config.frame_blocks
    alive: dict[int, allocate.Vector] = {}
    for _ in range(300):
        if alive and rng.random() < 0.4:
            allocator.free(alive.pop(int(rng.choice(list(alive)))))
            continue
        vector = allocator.allocate(int(rng.integers(1, 20 * 16 * config.frame_blocks // 4)))
        used = set((vector.numbers // config.frame_blocks).tolist())
        assert len(used) == vector.frames and registers not in used
        assert min(used) * config.frame_blocks >= config.blocks - config.frames * config.frame_blocks
        for other in alive.values():
            assert not used & set((other.numbers // config.frame_blocks).tolist())
        alive[id(vector)] = vector
    for vector in alive.values():
        allocator.free(vector)
    assert sum(allocator.free_frames(colour) for colour in range(config.colours)) == config.frames - 1


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("seed", range(3))
def test_every_operation(shape, seed):
    print(f"seed {seed}")
    rng = np.random.default_rng(seed)
    engine = StandIn()
    nda = Nda(system(**shape), engine, policy=str(rng.choice(["none", "stochastic-4", "stochastic-16", "next-rank"])), seed=seed)
    length, colour = [9000, int(rng.choice([1, 15, 500])), 9000][seed], int(rng.integers(nda.config.colours))
    integer = seed == 2
    values = rng.integers(-2**31, 2**31, (3, length)).astype(np.int32) if integer else floats(rng, 3, length)
    x, y, z = (nda.array(row, colour) for row in values)
    a, b, c = [int(v) for v in rng.integers(-2**31, 2**31, 3)] if integer else [float(v) for v in floats(rng, 3, special=0.2)]
    nda.copy(x)
    nda.scal(a, x, out=x)
    nda.axpy(a, x, y, out=y)
    w = nda.axpby(a, x, b, y)
    nda.axpbypcz(a, w, b, x, c, z, out=z)
    nda.grain = 1
    nda.xmy(x, z)
    assert nda.last and nda.last.operations == ("xmy",)
    assert nda.numpy(y).dtype == values.dtype
    if not integer:
        nda.dot(x, y)
        nda.nrm2(z)
        nda.gemv(nda.matrix(floats(rng, length, 3), colour), floats(rng, 3), y, out=y)
        table = nda.table(floats(rng, 20, 30), colour)
        nda.gather(table, rng.integers(0, 20, 9))
        nda.scatter_add(table, rng.integers(0, 20, 9), floats(rng, 30))
    assert len(engine.policies) == 1 and 0 not in engine.seeds
    assert (len(engine.starts) > 1) == (-(-length // 16) > 128 * nda.allocator.units or max(x.lengths) > 128)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("seed", range(2))
def test_results_are_those_of_plain_numpy(shape, seed):
    """Small whole numbers: sums are exact in any order."""
    print(f"seed {seed}")
    rng = np.random.default_rng(seed)
    nda = Nda(system(**shape), StandIn())
    length = int(rng.integers(1, 6000))
    x, y = rng.integers(-8, 9, (2, length)).astype(np.float32)
    vectors = nda.array(x), nda.array(y)
    assert nda.numpy(nda.axpy(3.0, *vectors)).tolist() == (3 * x + y).tolist()
    assert nda.numpy(nda.axpby(3.0, vectors[0], -2, vectors[1])).tolist() == (3 * x - 2 * y).tolist()
    assert nda.numpy(nda.axpbypcz(3, vectors[0], 2, vectors[1], -5, vectors[1])).tolist() == (3 * x + 2 * y - 5 * y).tolist()
    assert nda.numpy(nda.xmy(*vectors)).tolist() == (x * y).tolist()
    assert nda.dot(*vectors) == x @ y
    assert nda.nrm2(vectors[0]) == np.float32(np.sqrt(x @ x))
    count = int(rng.integers(1, 5)) if seed else min(131, nda.allocator.free_frames(0) - 9)       # 131: more than parameters
    rows = length if seed else 40
    values, scalars = rng.integers(-4, 5, (rows, count)).astype(np.float32), rng.integers(-4, 5, count).astype(np.float32)
    matrix = nda.matrix(values)
    assert (nda.numpy(matrix) == values).all()
    start = nda.array(values[:, 0].copy())
    for y_operand, offset in ((None, 0), (start, values[:, 0])):
        for out in (None, start):
            nda.store(start, values[:, 0])
            expected = values @ scalars + offset
            assert nda.numpy(nda.gemv(matrix, scalars, y_operand, out)).tolist() == expected.tolist()
    assert nda.dot(matrix.column(count - 1), matrix.column(0)) == values[:, -1] @ values[:, 0]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("seed", range(3))
def test_rows(shape, seed):
    print(f"seed {seed}")
    rng = np.random.default_rng(seed)
    engine = StandIn()
    nda = Nda(system(**shape), engine)
    rows, width = int(rng.integers(1, 200)), int(rng.choice([1, 33, 2048]))
    count = int(rng.choice([1, 7, 900]))
    values = rng.integers(-8, 9, (rows, width)).astype(np.float32)
    table, indices = nda.table(values), rng.integers(0, rows, count)
    assert (nda.numpy(table) == values).all()
    units = nda.config.channels * nda.config.ranks
    unit = units_of(nda.config, table.numbers)
    assert (unit == (np.arange(rows) % units)[:, None]).all()
    assert nda.gather(table, indices).tolist() == values[indices].sum(axis=0).tolist()
    assert engine.launched == sum(-(-np.count_nonzero(indices % units == number) // 128) for number in range(units))
    row = rng.integers(-8, 9, width).astype(np.float32)
    nda.scatter_add(table, indices, row)
    np.add.at(values, indices, row)
    assert (nda.numpy(table) == values).all()
    strange = floats(rng, rows, width)
    nda.store(table, strange)
    nda.gather(table, indices)
    nda.scatter_add(table, indices, floats(rng, width))


def test_in_flight():
    seed = 3
    print(f"seed {seed}")
    rng = np.random.default_rng(seed)
    engine = StandIn()
    nda = Nda(system(ranks=2), engine)
    x, y = nda.array(floats(rng, 5000)), nda.array(floats(rng, 5000))
    free = nda.allocator.free_frames(0)
    handles = [nda.axpy(0.5, x, y, out=y, wait=False), nda.dot(x, y, wait=False), nda.scal(2.0, y, out=x, wait=False)]
    assert not any(handle.done for handle in handles) and not engine.runs
    total = handles[1].wait()
    assert all(handle.done for handle in handles) and engine.runs == 1
    assert nda.last and nda.last is handles[0].report and nda.last.operations == ("axpy", "dot", "scal")
    assert nda.last.cycles is None and nda.last.commands is None
    assert type(total) is np.float32 and handles[2].wait() is x
    assert nda.allocator.free_frames(0) == free          # the sums' frame is back
    waiting = nda.scal(3.0, y, out=y, wait=False)
    nda.numpy(y)
    assert waiting.done and engine.runs == 2
    waiting = nda.scal(float("inf"), y, out=y, wait=False)
    assert waiting.done                                  # the host has to clear the padding at once
    assert not y.content.reshape(-1)[y.elements:].any()


def test_scratch_waits_for_room():
    nda = Nda(system(ranks=4, channels=4), StandIn())
    frames = nda.allocator.free_frames(0)
    x = nda.array(np.ones(16, np.float32))
    handles = [nda.nrm2(x, wait=False) for _ in range(2 * frames)]
    assert handles[0].done and not handles[-1].done
    assert [handle.wait() for handle in handles] == [4.0] * len(handles)


def refused(text: str, function, *arguments, **named) -> None:
    with pytest.raises(NdaError) as caught:
        function(*arguments, **named)
    assert text in str(caught.value) and "\n" not in str(caught.value)


def test_mistakes():
    nda, other = Nda(system(), StandIn()), Nda(system(), StandIn())
    one = np.ones(20, np.float32)
    x, y, table = nda.array(one), nda.array(one), nda.table(np.ones((4, 20), np.float32))
    whole = nda.array(np.ones(20, np.int32))
    free = nda.allocator.free_frames(0)
    refused("colours of the operands are 0, 3, allowed is one", nda.xmy, x, nda.array(one, 3))
    refused("lengths of the operands are 20, 21", nda.dot, x, nda.array(np.ones(21, np.float32), 0))
    free -= 1
    refused("types of the operands are float32, int32", nda.axpy, 1, x, whole)
    refused("belongs to another memory system", nda.copy, other.array(one))
    refused("dot is not offered for int32", nda.dot, whole, whole)
    refused("nrm2 is not offered for int32", nda.nrm2, whole)
    refused("types of the operands are float32, int32", nda.gemv, nda.matrix(np.ones((20, 2), np.float32)), [1, 2], whole)
    free -= 2
    refused("scalars: 3 values, the matrix has 2 columns", nda.gemv, nda.matrix(np.ones((20, 2), np.float32)), [1, 2, 3], x)
    free -= 2
    refused("a = 1e+39 is outside", nda.scal, 1e39, x)
    refused("a = 1.5 is outside -2147483648..2147483647 (int32)", nda.scal, 1.5, whole)
    refused("a = 'b' is no number", nda.scal, "b", x)
    refused("index = 4 is outside 0..3", nda.gather, table, np.array([0, 4]))
    refused("indices are float64 (1,)", nda.gather, table, np.array([0.0]))
    refused("indices are int64 (0,)", nda.scatter_add, table, np.zeros(0, np.int64), one)
    refused("row is float32 (19,)", nda.scatter_add, table, np.array([1]), one[1:])
    refused("width = 2049 is outside 1..2048", nda.table, np.ones((1, 2049), np.float32))
    refused("dtype = float64 is none of float32, int32", nda.array, np.ones(3))
    refused("elements = 0 is outside 1..", nda.array, np.ones(0, np.float32))
    refused("a vector has one dimension", nda.array, np.ones((2, 2), np.float32))
    refused("colour = 16 is outside 0..15", nda.array, one, 16)
    refused("column = 2 is outside 0..1", nda.matrix(np.ones((20, 2), np.float32)).column, 2)
    free -= 2
    assert nda.allocator.free_frames(0) == free           # refused operations keep no memory
    nda.free(x)
    refused("has been freed", nda.axpy, 1, x, y)
    refused("has been freed", nda.numpy, x)
    refused("has been freed before", nda.free, x)
    refused("part of a matrix", nda.free, nda.matrix(np.ones((20, 2), np.float32)).column(0))
    refused("engine = 'fast' is none of rtl, model, untimed", Nda, system(), "fast")
    refused("policy = 'some' is none of none, stochastic-4", Nda, system(), "model", "some")
    refused("seed = 256 is outside 0..255", Nda, system(), "model", seed=256)
    refused("reserved = 0", Nda, system(reserved=0), "model")
    refused("consecutive frames, colour 0 has at most", nda.allocator.allocate, 1 << 30, np.float32, 0)
    refused("every colour has at most 512 free of 512", nda.allocator.allocate, 1 << 30)


def test_freed_matrix_takes_its_columns_along():
    nda = Nda(system(), StandIn())
    matrix = nda.matrix(np.ones((20, 2), np.float32))
    column = matrix.column(1)
    nda.free(matrix)
    refused("has been freed", nda.nrm2, column)


def test_a_wrong_block_is_found():
    class Wrong(StandIn):
        def play(self, config, launches, load, store):
            played = super().play(config, launches, load, store)
            assert played.blocks is not None
            place = store[-1]
            played.blocks[place] = bytes([played.blocks[place][0] ^ 1]) + played.blocks[place][1:]
            return played

    nda = Nda(system(), Wrong())
    x = nda.array(np.ones(100, np.float32))
    handle = nda.scal(2.0, x, wait=False)
    with pytest.raises(Mismatch, match="scal: channel, rank, bank, row, column"):
        handle.wait()
    refused("the run it was part of failed", handle.wait)

"""Vector and VectorLanes in the functional model against the golden operations, one instruction at a time; what is refused."""

import numpy as np
import pytest

from gen.config import Config
from gen.isa import Addend, Cause, Factor, Instruction, LaneOperation, Post, Result
from sw.golden import float32 as golden
from sw.model import check
from sw.model.float_datapath import FloatDatapath
from tb.sw.float_works import numbers

CONFIG = Config.load("small-bf16")
SIDE, COUNT = CONFIG.array.side, 19
A, B, D = 0, 1, 2       # slices


class Bench:
    """A data path with streams of random elements in its slices: A wide from word 0 on, B from word 5 on in bf16."""

    def __init__(self, seed: int):
        print(f"seed {seed}")
        rng = np.random.default_rng(seed)
        self.path = FloatDatapath(CONFIG)
        self.a = rng.standard_normal((COUNT, SIDE)).astype(np.float32)
        self.b = numbers(rng, (COUNT, SIDE), 0.05)
        self.registers = self.path.vectors.registers
        self.registers[:] = rng.standard_normal(self.registers.shape)
        self.put_a(self.a)
        self.path.put(B, 5 + np.arange(COUNT), (self.b.view("<u4") >> 16).astype("<u2").view(np.uint8))

    def put_a(self, values: np.ndarray):
        """Elements of A."""
        halves = values.view("<u4")
        words = np.stack([halves & 0xFFFF, halves >> 16], axis=1).reshape(-1, SIDE).astype("<u2")
        self.path.put(A, np.arange(2 * COUNT), words.view(np.uint8))

    def run(self, **values: int) -> np.ndarray:
        """A Vector to fp32 words from word 100 of the results' slice on; the elements it wrote."""
        fields = {"count": COUNT, "a_wide": 1, "a_step": 2, "a_slice": A, "b_slice": B, "b_address": 5, "b_step": 1,
                  "d_slice": D, "d_wide": 1, "d_address": 100, "d_step": 2} | values
        self.path.vector(Instruction("Vector", **fields))
        halves = self.words(100, 2 * COUNT).astype(np.uint32)
        return (halves[::2] | halves[1::2] << 16).astype("<u4").view("<f4")

    def words(self, address: int, count: int) -> np.ndarray:
        """Words of the results' slice as 16 bits a column."""
        return np.ascontiguousarray(self.path.words(D, address + np.arange(count))).view("<u2")

    def expected(self, factor: Factor, addend: Addend) -> np.ndarray:
        """a * factor + addend."""
        times = {Factor.ONE: np.ones_like(self.a), Factor.A: self.a, Factor.B: self.b, Factor.REGISTER: self.registers[3]}[factor]
        product = golden.multiply(self.a, np.broadcast_to(times, self.a.shape))
        if addend is Addend.NONE:
            return product
        return golden.add(product, np.broadcast_to(self.b if addend is Addend.B else self.registers[4], self.a.shape))


def same(found: np.ndarray, wanted: np.ndarray):
    np.testing.assert_array_equal(np.ascontiguousarray(found).view(np.uint32), np.ascontiguousarray(wanted).view(np.uint32))


@pytest.mark.parametrize("factor", Factor)
@pytest.mark.parametrize("addend", Addend)
def test_multiply_and_add(factor, addend):
    bench = Bench(1)
    wanted = bench.expected(factor, addend)
    same(bench.run(factor=factor, addend=addend, factor_register=3, addend_register=4), wanted)
    bench.run(factor=factor, addend=addend, factor_register=3, addend_register=4, d_wide=0, d_step=1)
    same((bench.words(100, COUNT).astype("<u4") << 16).view("<f4"), golden.narrow(wanted))
    bench.run(factor=factor, addend=addend, factor_register=3, addend_register=4, result=Result.REGISTER, result_register=9)
    same(bench.registers[9], wanted[-1])


def test_last_steps():
    bench = Bench(2)
    values, b = bench.expected(Factor.B, Addend.NONE), bench.b
    fields = {"factor": Factor.B}
    same(bench.run(**fields, post=Post.RELU), golden.maximum(values, np.zeros_like(values)))
    same(bench.run(**fields, post=Post.LARGER), golden.maximum(values, b))
    same(bench.run(factor=Factor.ONE, post=Post.EQUAL), np.zeros_like(values))
    bench.path.put(A, np.array([7]), bench.path.words(B, np.array([8])))        # an element that is one of B's
    found = bench.run(a_wide=0, a_address=7, a_step=0, count=4, post=Post.EQUAL)[:4]
    np.testing.assert_array_equal(found, np.where(np.isnan(b[3]), False, b[:4] == b[3]).astype(np.float32))


def test_powers_of_two():
    bench = Bench(3)
    exponents = np.arange(COUNT * SIDE, dtype=np.float32).reshape(COUNT, SIDE) - 60
    bench.put_a(exponents)
    bench.registers[7] = 1.5 * 2**23
    same(bench.run(addend=Addend.REGISTER, addend_register=7, post=Post.POWER), np.exp2(exponents).astype(np.float32))


def test_masks():
    bench = Bench(4)
    bench.run(factor=Factor.B, result=Result.MASK, d_address=300, d_step=3)
    with np.errstate(invalid="ignore"):
        positive = bench.expected(Factor.B, Addend.NONE) > 0
    words = bench.words(300, 4)
    for element in range(COUNT):
        np.testing.assert_array_equal(words[3 * (element // 16)] >> element % 16 & 1, positive[element])
    assert not (words[3] >> COUNT % 16).any()
    found = bench.run(factor=Factor.A, b_slice=D, b_address=300, b_step=3, post=Post.MASKED)
    same(found, np.where(positive, bench.expected(Factor.A, Addend.NONE), np.float32(0)))


@pytest.mark.parametrize("count", [1, 3, 8, 9, 16, 19])
def test_sums(count):
    """Element i goes to partial sum i mod 8; these are added in a tree, the halves first."""
    bench = Bench(5)
    products = golden.multiply(bench.a, bench.a)[:count]
    sums = [np.zeros(SIDE, np.float32) for _ in range(8)]
    for number, product in enumerate(products):
        sums[number % 8] = golden.add(sums[number % 8], product)
    for half in (4, 2, 1):
        sums = [golden.add(sums[number], sums[number + half]) for number in range(half)]
    bench.run(count=count, factor=Factor.A, result=Result.SUM, result_register=2, addend=Addend.B, post=Post.RELU)
    same(bench.registers[2], sums[0])
    np.testing.assert_allclose(bench.registers[2], (bench.a[:count].astype(np.float64) ** 2).sum(axis=0), rtol=1e-5)
    bench.run(count=count, result=Result.LARGEST, result_register=2)
    same(bench.registers[2], bench.a[:count].max(axis=0))


def test_lanes():
    bench = Bench(6)
    a, b = bench.registers[1].copy(), bench.registers[2].copy()
    a[0] = -1

    def lanes(operation: LaneOperation, span: int = 1) -> np.ndarray:
        bench.registers[1] = a
        bench.path.vector(Instruction("VectorLanes", operation=operation, a_register=1, b_register=2, register=8, span=span))
        return bench.registers[8]

    same(lanes(LaneOperation.DIVIDE), golden.divide(a, b))
    same(lanes(LaneOperation.ROOT), golden.square_root(a))
    pairs = golden.add(a[::2], a[1::2])
    same(lanes(LaneOperation.SUM), np.repeat(pairs, 2))
    same(lanes(LaneOperation.SUM, 2), np.repeat(golden.add(pairs[::2], pairs[1::2]), 4))
    same(lanes(LaneOperation.LARGEST, 2), np.full(SIDE, a.max()))


def test_transpose():
    bench = Bench(7)
    words = (bench.b.view("<u4") >> 16)[:2 * SIDE]
    bench.path.vector(Instruction("Transpose", count=2, a_slice=B, a_address=5, a_step=1, a_block=SIDE, d_slice=D, d_address=40, d_step=2,
                                  d_block=1))
    for block in range(2):
        np.testing.assert_array_equal(bench.words(40 + block, 2 * SIDE)[::2], words[block * SIDE:][:SIDE].T)


@pytest.mark.parametrize(("instruction", "cause"), [
    (Instruction("VectorLanes", operation=LaneOperation.SUM, span=2), None),
    (Instruction("VectorLanes", operation=LaneOperation.SUM, span=3), Cause.FIELD),
    (Instruction("VectorLanes", operation=LaneOperation.ROOT, span=3), None),
    (Instruction("Vector", post=Post.MASKED, factor=Factor.REGISTER), None),
    (Instruction("Vector", post=Post.MASKED, factor=Factor.B), Cause.FIELD),
    (Instruction("Vector", post=Post.MASKED, addend=Addend.B), Cause.FIELD),
    (Instruction("Vector", d_slice=CONFIG.buffers.slices - 1), None),
    (Instruction("Vector", d_slice=CONFIG.buffers.slices), Cause.FIELD),
])
def test_refused(instruction, cause):
    assert check(CONFIG, instruction) == cause
    assert check(Config.load("small"), instruction) == Cause.OPCODE

"""The near-data units' launch format: operations, policies, descriptor words, steps of each operation. The only place that states them."""

import enum
from dataclasses import dataclass

LANES = 16            # 32-bit elements of a block of 64 bytes
CHUNK_BLOCKS = 128    # blocks of the operand buffer and of the write buffer: 8 KiB a rank, 1 KiB a chip of eight
PARAMETERS = 128      # words behind the descriptor: scalars of GEMV, row positions of GATHER and SCATTER
LFSR_BITS = 16
LFSR_TAPS = (15, 14, 12, 3)    # x^16 + x^15 + x^13 + x^4 + 1, maximal length; a step is four shifts


class Operation(enum.IntEnum):
    """What a launch computes; x, y, z are read, w is written. fp32: each multiply and each add rounds once."""

    COPY = 0        # w = x
    SCAL = 1        # w = a x
    AXPY = 2        # w = a x + y
    AXPBY = 3       # w = a x + b y
    AXPBYPCZ = 4    # w = (a x + b y) + c z
    XMY = 5         # w = x .* y
    DOT = 6         # w = 16 sums, one a lane, of x y in ascending order of blocks
    NRM2 = 7        # w = 16 sums of x x
    GEMV = 8        # w = y + s0 A0 + s1 A1 ... (columns of A are vectors, `step` frames apart)
    GATHER = 9      # w = T[p0] + T[p1] + ... (rows of T at the local positions p)
    SCATTER = 10    # T[p] = T[p] + y for each p in order


class Policy(enum.IntEnum):
    """When a near-data write that is otherwise legal may be issued."""

    NONE = 0             # always
    STOCHASTIC_4 = 1     # with probability 1/4
    STOCHASTIC_16 = 2    # with probability 1/16
    NEXT_RANK = 3        # not while the host reads from this rank, or soon will (hold_writes in rtl/memory/README.md)


POLICY_NAMES = {"none": Policy.NONE, "stochastic-4": Policy.STOCHASTIC_4, "stochastic-16": Policy.STOCHASTIC_16,
                "next-rank": Policy.NEXT_RANK}


class Operand(enum.IntEnum):
    """The operands of a descriptor."""

    X = 0
    Y = 1
    Z = 2
    W = 3


class Factor(enum.IntEnum):
    """What an arriving element is multiplied with."""

    ONE = 0        # nothing: its bits pass unchanged
    A = 1
    B = 2
    C = 3
    STREAM = 4     # parameter j of GEMV
    STORED = 5     # the operand buffer's element
    SELF = 6


class Addend(enum.IntEnum):
    """What is added to the product."""

    NONE = 0
    STORED = 1     # the operand buffer's element
    LANES = 2      # the lane's running sum


class Target(enum.IntEnum):
    """Where a result goes."""

    OPERAND = 0
    WRITE = 1
    LANES = 2


@dataclass(frozen=True)
class Step:
    """One pass over a chunk: a read with its arithmetic, or the write that drains the write buffer."""

    operand: Operand
    write: bool = False
    factor: Factor = Factor.ONE
    addend: Addend = Addend.NONE
    target: Target = Target.OPERAND
    repeated: bool = False     # once for each of `streams`; in the last repetition a target OPERAND becomes WRITE (GEMV, GATHER)


X, Y, Z, W = Operand
_DRAIN = Step(W, write=True)
STEPS: dict[Operation, tuple[Step, ...]] = {
    Operation.COPY: (Step(X, target=Target.WRITE), _DRAIN),
    Operation.SCAL: (Step(X, factor=Factor.A, target=Target.WRITE), _DRAIN),
    Operation.AXPY: (Step(X, factor=Factor.A), Step(Y, addend=Addend.STORED, target=Target.WRITE), _DRAIN),
    Operation.AXPBY: (Step(X, factor=Factor.A), Step(Y, factor=Factor.B, addend=Addend.STORED, target=Target.WRITE), _DRAIN),
    Operation.AXPBYPCZ: (Step(X, factor=Factor.A), Step(Y, factor=Factor.B, addend=Addend.STORED),
                         Step(Z, factor=Factor.C, addend=Addend.STORED, target=Target.WRITE), _DRAIN),
    Operation.XMY: (Step(X), Step(Y, factor=Factor.STORED, target=Target.WRITE), _DRAIN),
    # The lanes' sums are written once, after the last chunk: see `ends_with_sums`.
    Operation.DOT: (Step(X), Step(Y, factor=Factor.STORED, addend=Addend.LANES, target=Target.LANES)),
    Operation.NRM2: (Step(X, factor=Factor.SELF, addend=Addend.LANES, target=Target.LANES),),
    Operation.GEMV: (Step(Y), Step(X, factor=Factor.STREAM, addend=Addend.STORED, repeated=True), _DRAIN),
    # The first repetition of GATHER adds nothing: it starts the sum.
    Operation.GATHER: (Step(X, addend=Addend.STORED, repeated=True), _DRAIN),
    # Each repetition of SCATTER is a read and a write of one table row.
    Operation.SCATTER: (Step(Y), Step(X, addend=Addend.STORED, target=Target.WRITE, repeated=True), Step(X, write=True, repeated=True)),
}
SUMS = (Operation.DOT, Operation.NRM2)                    # end with one written block: the lanes' sums
INDEXED = (Operation.GATHER, Operation.SCATTER)           # stream j starts at the local position in parameter j
INTEGER = (Operation.COPY, Operation.SCAL, Operation.AXPY, Operation.AXPBY, Operation.AXPBYPCZ, Operation.XMY)   # also in int32


@dataclass(frozen=True)
class Field:
    """A field of the descriptor: word of 32 bits, lowest bit, width."""

    word: int
    low: int
    width: int


# The descriptor is one block: 16 words of 32 bits, little endian. Words not named are zero.
DESCRIPTOR = {
    "operation": Field(0, 0, 4),
    "integer": Field(0, 4, 1),      # int32 with wrap-around instead of fp32
    "policy": Field(0, 5, 2),
    "flip": Field(0, 8, 4),         # the operands' colour: added (XOR) to the bank id
    "streams": Field(0, 16, 8),     # repetitions of GEMV, GATHER, SCATTER: 1..128
    "seed": Field(0, 24, 8),        # of the generator behind the stochastic policies; 0 counts as 1
    "blocks": Field(1, 0, 32),      # local blocks of an operand; of one table row for GATHER and SCATTER (at most a chunk)
    "a": Field(2, 0, 32),
    "b": Field(3, 0, 32),
    "c": Field(4, 0, 32),
    "x": Field(5, 0, 32),           # first frame of each operand
    "y": Field(6, 0, 32),
    "z": Field(7, 0, 32),
    "w": Field(8, 0, 32),
    "step": Field(9, 0, 32),        # frames from one column of GEMV to the next
    "start": Field(10, 0, 32),      # local position of the operands' first block, a multiple of a chunk
}


def pack(**fields: int) -> bytes:
    """The 64 bytes of a descriptor. Raises ValueError for an unknown field or a value that does not fit."""
    words = [0] * LANES
    for name, value in fields.items():
        if name not in DESCRIPTOR:
            raise ValueError(f"{name} is not a field of the descriptor: {', '.join(DESCRIPTOR)}")
        item = DESCRIPTOR[name]
        if not 0 <= value < 1 << item.width:
            raise ValueError(f"{name} = {value} is outside 0..{(1 << item.width) - 1}")
        words[item.word] |= int(value) << item.low
    return b"".join(word.to_bytes(4, "little") for word in words)


def settle(timing: dict[str, int]) -> int:
    """Least cycles from a read command for a block to the next command for that block: its data has passed the arithmetic by then."""
    return max(24, timing["tCL"] + 8)


def lfsr_step(state: int) -> int:
    """Four shifts of the generator."""
    for _ in range(4):
        bit = 0
        for tap in LFSR_TAPS:
            bit ^= state >> tap & 1
        state = (state << 1 | bit) & (1 << LFSR_BITS) - 1
    return state


def lfsr_seed(seed: int) -> int:
    """The generator's state at the start of a launch."""
    return (seed or 1) * 0x0101

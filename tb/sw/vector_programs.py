"""Random programs for the vector unit: data into the slices, instructions of every kind, slices and registers back to memory."""

import numpy as np

from gen.config import Config
from gen.isa import VECTOR_REGISTERS, Addend, Factor, Instruction, LaneOperation, Post, Result
from tb.sw.float_works import numbers

WORDS = 64              # of a slice that are used
SLICES = 3              # A, B and results


def image(rng: np.random.Generator, config: Config) -> np.ndarray:
    """Bytes of the slices: bf16 numbers, which are also the halves of fp32 ones, now and then special."""
    count = SLICES * WORDS * config.array.side
    return (numbers(rng, (count,), 0.01).view(np.uint32) >> 16).astype("<u2").view(np.uint8)


def random_vector(rng: np.random.Generator) -> Instruction:
    """A Vector of any kind whose streams stay within the words in use, A and B in different slices."""
    kinds = {"factor": Factor, "addend": Addend, "post": Post, "result": Result}
    values = {name: int(rng.choice(list(kind))) for name, kind in kinds.items()}
    count = int(rng.choice([1, 2, 7, 8, 9, 15, 16, 17, int(rng.integers(1, 30))]))
    if rng.random() < 0.1:      # more than one word of mask bits
        values |= {"post": Post.MASKED, "factor": Factor.REGISTER, "addend": Addend.NONE, "result": Result.STREAM}
        count = int(rng.integers(17, 40))
    if values["factor"] == Factor.B or values["addend"] == Addend.B:       # B is numbers then
        values["post"] = int(rng.choice([post for post in Post if post is not Post.MASKED]))
    slices = [int(number) for number in rng.permutation(SLICES)]
    for name, index in (("a", slices[0]), ("b", slices[1]), ("d", slices[2])):
        wide = int(rng.integers(2))
        step = int(rng.integers(0 if name != "d" else 1 + wide, 3))
        reach = (count - 1) * step + wide
        if reach >= WORDS or rng.random() < 0.2:
            step = 1 + wide
            count = min(count, (WORDS - wide - 1) // step)
            reach = (count - 1) * step + wide
        address = int(rng.integers(0, WORDS - reach))
        if rng.random() < 0.2:      # backwards
            address, step = address + (count - 1) * step, -step
        values |= {f"{name}_wide": wide, f"{name}_slice": index, f"{name}_address": address, f"{name}_step": step}
    values |= {f"{name}_register": int(rng.integers(VECTOR_REGISTERS)) for name in ("factor", "addend", "result")}
    return Instruction("Vector", count=count, a_register=int(rng.random() < 0.15), **values)


def random_lanes(rng: np.random.Generator, config: Config) -> Instruction:
    """A VectorLanes of any kind; a single column has no neighbours."""
    most = config.array.side.bit_length() - 1
    kinds = [kind for kind in LaneOperation if most or kind < LaneOperation.SUM]
    return Instruction("VectorLanes", operation=int(rng.choice(kinds)), span=int(rng.integers(1, max(1, most) + 1)),
                       **{name: int(rng.integers(VECTOR_REGISTERS)) for name in ("a_register", "b_register", "register")})


def random_transpose(rng: np.random.Generator, config: Config) -> Instruction:
    """A Transpose between different slices, blocks and words in either order."""
    side, slices = config.array.side, [int(number) for number in rng.permutation(SLICES)]
    count, values = int(rng.integers(1, 5)), {}
    for name, index in (("a", slices[0]), ("d", slices[1])):
        step, block = ((1, side), (count, 1))[int(rng.integers(2))]
        address = int(rng.integers(0, WORDS - count * side + 1))
        if rng.random() < 0.3:      # backwards
            address, step = address + (side - 1) * step, -step
        values |= {f"{name}_slice": index, f"{name}_address": address, f"{name}_step": step, f"{name}_block": block}
    return Instruction("Transpose", count=count, **values)


def program(rng: np.random.Generator, config: Config, count: int) -> list[Instruction]:
    """Loads the last group's slices from byte 0 on, fills its registers, does `count` things, and stores slices, with the registers in the
    last one, where they came from."""
    beats, size = WORDS // config.beat_words, WORDS * config.word_bytes
    instructions = [Instruction("DmaIn", memory=index * size, slice=index, beats=beats) for index in range(SLICES)]
    instructions.append(Instruction("Barrier"))
    for register in range(VECTOR_REGISTERS):
        instructions.append(Instruction("Vector", count=1, a_wide=register & 1, a_slice=register % SLICES, a_address=2 * register,
                                        result=Result.REGISTER, result_register=register))
    for _ in range(count):
        kind = rng.choice(["vector", "lanes", "transpose"], p=[0.65, 0.2, 0.15])
        instructions.append({"vector": lambda: random_vector(rng), "lanes": lambda: random_lanes(rng, config),
                             "transpose": lambda: random_transpose(rng, config)}[kind]())
    for register in range(VECTOR_REGISTERS):
        instructions.append(Instruction("Vector", count=1, a_register=1, a_address=register, d_wide=1, d_slice=SLICES - 1,
                                        d_address=WORDS - 2 * (register + 1)))
    instructions.append(Instruction("Barrier"))
    instructions += [Instruction("DmaOut", memory=index * size, slice=index, beats=beats) for index in range(SLICES)]
    for instruction in instructions:
        instruction.values["group"] = config.array.groups - 1
    return [*instructions, Instruction("End")]


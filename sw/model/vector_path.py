"""What Vector, VectorLanes and Transpose do to a group's global buffer and to the registers of its vector unit. No time in it."""

import numpy as np

from gen.isa import MASK_ELEMENTS, PARTIAL_SUMS, VECTOR_REGISTERS, Addend, Factor, Instruction, LaneOperation, Post, Result
from sw.model.datapath import Datapath
from sw.model.fp32 import added, bits_of, canonical, divided, larger, multiplied, relu, root, rounded


class VectorPath:
    """The registers, and the streams from and to the slices of a data path."""

    def __init__(self, path: Datapath):
        self.path, self.side = path, path.side
        self.registers = np.zeros((VECTOR_REGISTERS, path.side), np.float32)

    def vector(self, instruction: Instruction):
        """Vector."""
        values, count = instruction.values, instruction.values["count"]
        register = self.registers
        a = np.repeat(register[values["a_address"] % VECTOR_REGISTERS][None], count, axis=0) if values["a_register"] else \
            self.stream("a", values, count)
        post, factor, addend, result = Post(values["post"]), Factor(values["factor"]), Addend(values["addend"]), Result(values["result"])
        needs_b = factor is Factor.B or addend is Addend.B or post in (Post.LARGER, Post.EQUAL)
        b = self.stream("b", values, count) if needs_b else np.zeros_like(a)
        one = np.ones_like(a)
        value = multiplied(a, {Factor.ONE: one, Factor.A: a, Factor.B: b, Factor.REGISTER: register[values["factor_register"]]}[factor])
        if result is Result.SUM:
            register[values["result_register"]] = self.total(value)
            return
        if addend is not Addend.NONE:
            value = added(value, b if addend is Addend.B else register[values["addend_register"]])
        value = self.last_step(post, value, b, values, count)
        if result is Result.REGISTER:
            register[values["result_register"]] = value[-1]
        elif result is Result.LARGEST:
            largest = value[0]
            for element in value[1:]:
                largest = larger(largest, element)
            register[values["result_register"]] = largest
        elif result is Result.MASK:
            self.write_masks(values, value > 0)
        else:
            self.write(values, value)

    def last_step(self, post: Post, value: np.ndarray, b: np.ndarray, values: dict[str, int], count: int) -> np.ndarray:
        """What `post` makes of the sums."""
        if post is Post.RELU:
            return relu(value)
        if post is Post.MASKED:
            words = -(-count // MASK_ELEMENTS)
            marks = self.halves(values["b_slice"], values["b_address"] + values["b_step"] * np.arange(words))
            element = np.arange(count)
            return np.where(marks[element // MASK_ELEMENTS] >> (element % MASK_ELEMENTS)[:, None] & 1, value, np.float32(0))
        if post is Post.LARGER:
            return larger(value, b)
        if post is Post.EQUAL:
            return (value == b).astype(np.float32)
        if post is Post.POWER:
            return ((bits_of(value) + np.uint32(127) & np.uint32(0xFF)) << np.uint32(23)).view(np.float32)
        return value

    def total(self, value: np.ndarray) -> np.ndarray:
        """The sum of a stream's elements: eight partial sums, from zero, and a tree of these."""
        sums = np.zeros((PARTIAL_SUMS, self.side), np.float32)
        for number, element in enumerate(value):
            sums[number % PARTIAL_SUMS] = added(sums[number % PARTIAL_SUMS], element)
        while len(sums) > 1:
            sums = added(sums[:len(sums) // 2], sums[len(sums) // 2:])
        return sums[0]

    def transpose(self, instruction: Instruction):
        """Transpose: all blocks are read before one is written, which a program must not notice."""
        values, place = instruction.values, np.arange(self.side)
        blocks = [self.halves(values["a_slice"], values["a_address"] + block * values["a_block"] + values["a_step"] * place)
                  for block in range(values["count"])]
        for number, block in enumerate(blocks):
            for address, word in zip(values["d_address"] + number * values["d_block"] + values["d_step"] * place[::-1], block.T[::-1]):
                self.path.put(values["d_slice"], np.array([address]), word.astype("<u2").view(np.uint8))

    def lanes(self, instruction: Instruction):
        """VectorLanes."""
        values, operation = instruction.values, LaneOperation(instruction.values["operation"])
        a, b = self.registers[values["a_register"]], self.registers[values["b_register"]]
        if operation is LaneOperation.DIVIDE:
            result = divided(a, b)
        elif operation is LaneOperation.ROOT:
            result = root(a)
        else:
            result, column = a, np.arange(self.side)
            for step in range(values["span"]):
                neighbour = result[column ^ 1 << step]
                result = added(result, neighbour) if operation is LaneOperation.SUM else larger(result, neighbour)
        self.registers[values["register"]] = result

    def halves(self, number: int, addresses: np.ndarray) -> np.ndarray:
        """Words of a slice as 16 bits a column."""
        return np.ascontiguousarray(self.path.words(number, addresses)).view("<u2").astype(np.uint32)

    def stream(self, name: str, values: dict[str, int], count: int) -> np.ndarray:
        """The elements of A or B."""
        addresses = values[f"{name}_address"] + values[f"{name}_step"] * np.arange(count)
        low = self.halves(values[f"{name}_slice"], addresses)
        bits = low | self.halves(values[f"{name}_slice"], addresses + 1) << 16 if values[f"{name}_wide"] else low << 16
        return canonical(bits.astype(np.uint32).view(np.float32))

    def write(self, values: dict[str, int], value: np.ndarray):
        """Elements to the global buffer, one after the other: steps may lead to a word twice."""
        addresses = values["d_address"] + values["d_step"] * np.arange(len(value))
        bits, halves = bits_of(value), rounded(value)
        for address, wide, narrow in zip(addresses, bits, halves):
            if values["d_wide"]:
                for plane in range(2):
                    self.path.put(values["d_slice"], np.array([address + plane]), (wide >> 16 * plane).astype("<u2").view(np.uint8))
            else:
                self.path.put(values["d_slice"], np.array([address]), narrow.view(np.uint8))

    def write_masks(self, values: dict[str, int], positive: np.ndarray):
        """A mask bit of each element, the first of sixteen lowest."""
        for number, start in enumerate(range(0, len(positive), MASK_ELEMENTS)):
            part = positive[start:start + MASK_ELEMENTS]
            word = (part << np.arange(len(part))[:, None]).sum(axis=0).astype("<u2")
            self.path.put(values["d_slice"], np.array([values["d_address"] + number * values["d_step"]]), word.view(np.uint8))

"""Instructions of the vector unit in terms of streams and registers."""

from dataclasses import dataclass

from gen.isa import VECTOR_REGISTERS, Addend, Factor, LaneOperation, Post, Result
from sw.compiler.emission import ADDRESSES
from sw.compiler.errors import CompileError
from sw.compiler.sequencer import Sequencer


@dataclass(frozen=True)
class Stream:
    """Elements in a slice. `step`: words from one to the next; None: one behind the other."""

    slice: int
    address: int
    wide: bool = False
    step: int | None = None

    @property
    def stride(self) -> int:
        """Words from one element to the next."""
        return 1 + self.wide if self.step is None else self.step

    def at(self, element: int) -> "Stream":
        """The stream from an element on."""
        return Stream(self.slice, self.address + element * self.stride, self.wide, self.step)

    def every(self, step: int) -> "Stream":
        """The same first element, others `step` words apart."""
        return Stream(self.slice, self.address, self.wide, step)

    def fields(self, name: str) -> dict[str, int]:
        """The fields of operand `name` of a Vector."""
        return {f"{name}_slice": self.slice, f"{name}_address": self.address, f"{name}_step": self.stride, f"{name}_wide": int(self.wide)}


@dataclass(frozen=True)
class Register:
    """A register of the vector unit."""

    number: int


class Vectors:
    """Appends Vector, VectorLanes and Transpose to a program."""

    def __init__(self, sequencer: Sequencer):
        self.sequencer = sequencer
        self._registers = 0

    def register(self) -> Register:
        """A register that is not in use. Raises CompileError when none is left."""
        self._registers += 1
        if self._registers > VECTOR_REGISTERS:
            raise CompileError(f"a phase needs more than {VECTOR_REGISTERS} registers")
        return Register(self._registers - 1)

    def free_registers(self):
        """None is in use any more."""
        self._registers = 0

    def vector(self, count: int, a: Stream | Register, *, factor: Stream | Register | None = None, addend: Stream | Register | None = None,
               post: Post = Post.NONE, beside: Stream | None = None, into: Stream | Register, result: Result | None = None):
        """post(a * factor + addend) for `count` elements; `beside`: B of `post`. A factor that is `a` squares it. One stream beside A at
        most, in another slice."""
        fields: dict[str, int] = {"count": count, "post": post}
        others = {item for item in (None if factor is a else factor, addend, beside) if isinstance(item, Stream)}
        assert len(others) <= 1, "one stream beside A"
        reads, writes = set(), set()
        if isinstance(a, Register):
            fields |= {"a_register": 1, "a_address": a.number}
        else:
            fields |= a.fields("a")
            reads.add(a.slice)
        for other in others:
            assert other.slice not in reads, "A and B in one slice"
            fields |= other.fields("b")
            reads.add(other.slice)
        if factor is not None:
            fields["factor"] = Factor.A if factor is a else Factor.B if isinstance(factor, Stream) else Factor.REGISTER
            fields |= {"factor_register": factor.number} if fields["factor"] == Factor.REGISTER else {}     # type: ignore[union-attr]
        if addend is not None:
            fields["addend"] = Addend.B if isinstance(addend, Stream) else Addend.REGISTER
            fields |= {"addend_register": addend.number} if isinstance(addend, Register) else {}
        if isinstance(into, Register):
            fields |= {"result": result or Result.REGISTER, "result_register": into.number}
        else:
            fields |= {"result": result or Result.STREAM} | into.fields("d")
            writes.add(into.slice)
        self.sequencer.add("Vector", reads, writes, **fields)

    def lanes(self, operation: LaneOperation, a: Register, into: Register, *, by: Register | None = None, span: int = 1):
        """A division by `by`, a root, or the sum or largest of 2^span neighbouring columns."""
        if not span:        # a column by itself
            self.vector(1, a, into=into)
            return
        self.sequencer.add("VectorLanes", operation=operation, a_register=a.number, b_register=(by or a).number, register=into.number,
                           span=span)

    def transpose(self, count: int, a: Stream, a_block: int, d: Stream, d_block: int):
        """`count` blocks with rows and columns exchanged; blocks lie `a_block` and `d_block` words apart."""
        self.sequencer.add("Transpose", [a.slice], [d.slice], count=count, a_slice=a.slice, a_address=a.address,
                           a_step=a.stride, a_block=a_block % ADDRESSES, d_slice=d.slice, d_address=d.address, d_step=d.stride,
                           d_block=d_block % ADDRESSES)

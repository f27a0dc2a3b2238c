"""Tokens by themselves: instructions in the order of a plain program become one whose units run beside each other.

What an instruction reads and writes (slices of the global buffer, halves of the output buffers) decides for whom it has to wait.
"""

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field

from gen.isa import OPCODES, Instruction, Unit

TOKENS = 16


@dataclass
class Operation:
    """An instruction that is still to get its tokens. `known`: of each unit, the last operation that is done when this one is."""

    name: str
    fields: dict[str, int]
    unit: Unit | None
    number: int = 0
    known: dict[Unit, int] = field(default_factory=dict)
    wait: int = 0
    signal: int = 0


class Sequencer:
    """Collects the instructions of one group in program order.

    An operation waits for the last writer of what it reads and, if it writes, for all who used that before; it also waits for other readers
    of a slice, which has one read port. Waiting is by tokens, one for each pair of units that meet; a unit does its own work in order.
    There are sixteen tokens: where more pairs meet, a barrier comes between. What runs ahead of what is decided by the order of the
    instructions: a full queue holds back what follows.
    """

    def __init__(self, group: int = 0):
        self.group = group
        self._done: list[Operation] = []
        self._forget()

    def _forget(self):
        """Behind a barrier nobody has to wait for what came before."""
        self._writer: dict[Hashable, Operation] = {}
        self._readers: dict[Hashable, dict[Unit, Operation]] = {}
        self._count: dict[Unit, int] = {}
        self._known: dict[Unit, dict[Unit, int]] = {}
        self._tokens: dict[tuple[Unit, Unit], int] = {}

    def add(self, name: str, reads: Iterable[Hashable] = (), writes: Iterable[Hashable] = (), /, **fields: int):
        """An instruction and what it uses."""
        unit = OPCODES[name].unit
        assert unit is not None, name
        reads, writes = set(reads), set(writes)
        operation = Operation(name, fields, unit, self._count.get(unit, 0), dict(self._known.get(unit, {})))
        before: list[Operation] = []
        for used in reads | writes:
            before += [self._writer[used]] if used in self._writer else []
            before += self._readers.get(used, {}).values()
        latest: dict[Unit, Operation] = {}
        for other in before:
            if other.unit is not None and other.unit is not unit and other.number >= latest.get(other.unit, other).number:
                latest[other.unit] = other
        if len(self._tokens | {(other, unit): 0 for other in latest}) > TOKENS:
            self.barrier()
            return self.add(name, reads, writes, **fields)
        for other in sorted(latest.values(), key=lambda item: -len(item.known)):
            self._wait(operation, other)
        operation.known[unit] = operation.number
        self._known[unit], self._count[unit] = operation.known, operation.number + 1
        for used in reads:
            self._readers.setdefault(used, {})[unit] = operation
        for used in writes:
            self._writer[used] = operation
            self._readers.pop(used, None)
        self._done.append(operation)

    def _wait(self, operation: Operation, other: Operation):
        """Let an operation start only when another unit's is done, unless that is sure by now."""
        assert operation.unit is not None and other.unit is not None
        if operation.known.get(other.unit, -1) >= other.number:
            return
        token = self._tokens.setdefault((other.unit, operation.unit), len(self._tokens))
        other.signal |= 1 << token
        operation.wait |= 1 << token
        for unit, number in other.known.items():
            operation.known[unit] = max(operation.known.get(unit, -1), number)

    def barrier(self):
        """Let all that follows wait for all that came before."""
        if self._done and self._done[-1].name != "Barrier":
            self._done.append(Operation("Barrier", {}, None))
            self._forget()

    def program(self, instructions: Sequence[Instruction]):
        """A program that was compiled by itself, between barriers; its End is left out."""
        self.barrier()
        for instruction in instructions:
            if instruction.name != "End":
                fields = {name: value for name, value in instruction.values.items() if name not in ("wait", "signal")}
                self._done.append(Operation(instruction.name, fields, None, wait=instruction.wait, signal=instruction.signal))
        self.barrier()

    def instructions(self) -> list[Instruction]:
        """All of it, with tokens, and End."""
        found = []
        for one in self._done:
            common = {} if one.name == "Barrier" else {"group": self.group, "wait": one.wait, "signal": one.signal}
            found.append(Instruction(one.name, **common | one.fields))
        return [*found, Instruction("End")]

"""The units of a group as recurrences over their decisions (events as in rtl/README.md): what all share, STORE and VECTOR.

A unit works ahead of the clock as far as its inputs are known. Between one sender and one receiver an input is a queue of cycles:
instructions from the dispatcher, tiles ready for EXECUTE, words given back to a loader. Only tokens are looked at on the clock.
"""

from collections import deque
from typing import TYPE_CHECKING

from gen.isa import Instruction, LaneOperation, Output, Result, Unit
from gen.timing import (
    ADD_LATENCY,
    DIVIDE_INTERVAL,
    FOLD_LATENCY,
    LANES_LATENCY,
    LANES_START,
    LANES_STEP,
    POOL_LATENCY,
    ROOT_INTERVAL,
    SCALE_LATENCY,
    SET_ADD_LATENCY,
    STORE_LATENCY,
    TOKEN_LATENCY,
    TRANSPOSE_LATENCY,
    VECTOR_LATENCY,
)
from sw.model.kernel import DECIDE, Tokens

if TYPE_CHECKING:
    from sw.model.cycles import Machine


class InOrder:
    """A unit with its queue: finds the cycle of the next start, waits for tokens, decides."""

    def __init__(self, machine: "Machine", unit: Unit, group: int):
        self.machine, self.kernel, self.unit, self.group = machine, machine.kernel, unit, group
        self.queue: deque[tuple[int, Instruction, int]] = deque()   # index, instruction, cycle from which the head is visible
        self.credits = deque([-1] * machine.config.control.queue_depth)  # cycles in which the queue's places came free
        self.head_from = 0              # the queue has turned to the head after the last decision
        self.free_at: int | None = 0    # earliest next start, None while that is unknown
        self.trying = False             # an attempt is on the heap, or tokens are missing
        self.ticket = 0                 # makes attempts stale once one has decided
        self.busy = 0                   # issue cycles

    def tokens(self, instruction: Instruction) -> Tokens:
        """Those of the instruction's group."""
        return self.machine.tokens[instruction.values["group"]]

    def push(self, index: int, instruction: Instruction, visible: int):
        """The dispatcher's push; the entry is visible in cycle `visible`."""
        self.queue.append((index, instruction, visible))
        self.pump()

    def pop(self, time: int) -> tuple[int, Instruction]:
        """Take the head in cycle `time`."""
        index, instruction, _ = self.queue.popleft()
        self.credits.append(time + 1)
        self.head_from = time + 2
        return index, instruction

    def earliest(self) -> int | None:
        """First cycle in which the queue's head could start, tokens apart; None if that is not known yet."""
        return None if self.free_at is None or not self.queue else max(self.free_at, self.queue[0][2], self.head_from)

    def pump(self):
        """Go as far as the known inputs allow."""
        while not self.trying:
            time = self.earliest()
            if time is None:
                return
            if self.queue[0][1].values["wait"]:
                self.trying = True
                self.kernel.at(time, DECIDE, self.attempt, self.ticket)
                return
            self.begin(time)

    def attempt(self, ticket: int):
        """Look for the head's tokens in the present cycle."""
        if ticket != self.ticket:
            return
        index, instruction, _ = self.queue[0]
        mask, tokens = instruction.values["wait"], self.tokens(instruction)
        if not tokens.ready(mask, self):
            tokens.waiters[self] = mask
            return
        tokens.waiters.pop(self, None)
        tokens.take(mask, index)
        self.ticket += 1
        self.trying = False
        self.begin(self.kernel.now)
        self.pump()

    def begin(self, time: int):
        """Decide in cycle `time`."""
        index, instruction = self.pop(time)
        self.decide(index, instruction, time)
        self.machine.dispatcher.pump()

    def decide(self, index: int, instruction: Instruction, time: int):
        """Start an instruction with the decision in cycle `time`."""
        raise NotImplementedError

    def finish(self, index: int, instruction: Instruction, start: int, end: int):
        """The instruction has been done from cycle `end` on; its tokens were asserted in the one before."""
        if instruction.values["signal"]:
            self.tokens(instruction).signal(instruction.values["signal"], end + TOKEN_LATENCY - 1, index)
        self.machine.dispatcher.finished(end)
        if self.machine.timeline is not None:
            self.machine.timeline.append((self.unit, self.group, index, start, end))

    def waiting(self) -> int | None:
        """Index of an instruction that has left the queue and is not finished."""
        return None


class Store(InOrder):
    """STORE: one instruction after the other."""

    def __init__(self, machine: "Machine", group: int):
        super().__init__(machine, Unit.STORE, group)
        self.words = 0
        self.adds = False       # the next StLBUF or Pool has a residual

    def decide(self, index: int, instruction: Instruction, time: int):
        config, values = self.machine.config, instruction.values
        groups = config.array.side // config.buffers.store_lanes
        if instruction.name == "LdScale":
            issue, latency = 8 * values["blocks"] * groups, SCALE_LATENCY
        elif instruction.name == "SetAdd":
            issue, latency = groups, SET_ADD_LATENCY
        elif instruction.name == "Pool":
            words = values["lines"] * values["columns"]
            issue = words * max(values["kernel_width"] * values["kernel_height"], groups)
            latency = POOL_LATENCY + groups - 1 + STORE_LATENCY
            self.words += words
        else:
            blocks = 2 if values["wide"] and config.column_pairs == 2 else 1
            issue, latency = values["rows"] * blocks * groups, STORE_LATENCY
            self.words += values["rows"] * blocks * (config.planes if values["output"] == Output.INT32 else 1)
        if instruction.name in ("StLBUF", "Pool"):
            latency += ADD_LATENCY if self.adds else 0
        self.adds = (self.adds and instruction.name == "LdScale") or instruction.name == "SetAdd"
        self.busy += issue
        self.free_at = time + issue + latency + 1
        self.finish(index, instruction, time, self.free_at)


class Vector(InOrder):
    """VECTOR: one instruction after the other."""

    def __init__(self, machine: "Machine", group: int):
        super().__init__(machine, Unit.VECTOR, group)

    def decide(self, index: int, instruction: Instruction, time: int):
        values, side = instruction.values, self.machine.config.array.side
        if instruction.name == "Vector":
            issue = values["count"]
            duration = issue + VECTOR_LATENCY + (FOLD_LATENCY if values["result"] == Result.SUM else 0)
            self.busy += issue
        elif instruction.name == "Transpose":
            duration = (values["count"] + 1) * side + TRANSPOSE_LATENCY
        elif values["operation"] in (LaneOperation.DIVIDE, LaneOperation.ROOT):
            interval = DIVIDE_INTERVAL if values["operation"] == LaneOperation.DIVIDE else ROOT_INTERVAL
            duration = interval * side + LANES_LATENCY
        else:
            duration = values["span"] * (side + LANES_STEP) + LANES_START
        self.free_at = time + duration + 1
        self.finish(index, instruction, time, self.free_at)

"""Discrete events: a heap of future actions in the order of time, and the tokens of a group.

Only what depends on the order of several units goes through the heap: starts that wait for tokens, tokens becoming visible, and grants of
the memory port. Everything else travels as time stamps between one sender and one receiver and may be worked out ahead of the clock.
"""

from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush

from gen.isa import Cause
from sw.model.check import ModelError

SIGNAL, DECIDE, GRANT, STOP = range(4)     # order of what happens in one cycle
TOKEN_LIMIT = 255
REST = 2            # a token that was taken is not seen so many cycles later
RECENT = 24         # takes that may matter: six units in three cycles, and some to spare


class Kernel:
    """The clock: runs actions in the order of cycle and phase until one stops it or none is left."""

    def __init__(self):
        self.now = 0
        self.stopped = False
        self.heap: list[tuple[int, int, int, Callable, int]] = []
        self._order = 0

    def at(self, time: int, phase: int, action: Callable[[int], None], argument: int = 0):
        """Call `action(argument)` in cycle `time`."""
        assert time >= self.now
        self._order += 1
        heappush(self.heap, (time, phase, self._order, action, argument))

    def run(self) -> bool:
        """Returns whether an action stopped the clock (and not the lack of further events)."""
        heap = self.heap
        while heap and not self.stopped:
            self.now, _, _, action, argument = heappop(heap)
            action(argument)
        return self.stopped


class Tokens:
    """The sixteen counters of a group.

    What is taken in a cycle still counts as visible in it and in the next one; in the cycle after that the token rests: nobody sees it.
    """

    def __init__(self, kernel: Kernel):
        self.kernel = kernel
        self.count = [0] * 16
        self.taken: list[deque[int]] = [deque(maxlen=RECENT) for _ in range(16)]    # cycles of the last takes
        self.waiters: dict = {}     # unit -> its mask: tried again when one of these tokens arrives
        self.watchers: dict = {}    # unit -> its mask: tried again when somebody takes one of these tokens
        self._bits: dict[int, tuple[int, ...]] = {}

    def bits(self, mask: int) -> tuple[int, ...]:
        """Numbers of the tokens in a mask."""
        found = self._bits.get(mask)
        if found is None:
            found = self._bits[mask] = tuple(bit for bit in range(16) if mask >> bit & 1)
        return found

    def ready(self, mask: int, unit) -> bool:
        """Whether every token of the mask is visible in the present cycle. With takes of late, `unit` looks again in the next."""
        now, visible, again = self.kernel.now, True, False
        for bit in self.bits(mask):
            taken = self._taken(bit, now - REST)
            again = again or any(cycle < now for cycle in taken)
            visible = visible and self.count[bit] + len(taken) > 0 and now - REST not in taken
        if again:
            self.kernel.at(now + 1, DECIDE, unit.attempt, unit.ticket)
        return visible

    def _taken(self, bit: int, since: int) -> list[int]:
        """The takes of a token from cycle `since` on, the last one first."""
        found = []
        for cycle in reversed(self.taken[bit]):
            if cycle < since:
                break
            found.append(cycle)
        return found

    def take(self, mask: int, index: int):
        """Take one of each in the present cycle. Stops when others have taken or take the last one, unless one more is just arriving."""
        now = self.kernel.now
        for bit in self.bits(mask):
            self.count[bit] -= 1
            self.taken[bit].append(now)
            if self.count[bit] < 0:
                self.kernel.at(now + REST, DECIDE, lambda _, bit=bit: self._settle(bit, now, index))
        for unit, watched in self.watchers.items():
            if watched & mask:
                self.kernel.at(now + REST, DECIDE, unit.attempt, unit.ticket)

    def _settle(self, bit: int, taken: int, index: int):
        """Look whether a take of cycle `taken` was one too many."""
        if self.count[bit] + len(self._taken(bit, taken + 1)) < 0:
            raise ModelError(Cause.TOKEN, index, f"token {bit} is taken twice in cycle {taken} or {taken - 1}")

    def signal(self, mask: int, visible: int, index: int):
        """Add one to each token of the mask, visible in cycle `visible`."""
        if mask:
            self.kernel.at(visible, SIGNAL, lambda _: self._arrive(mask, index))

    def _arrive(self, mask: int, index: int):
        for bit in self.bits(mask):
            self.count[bit] += 1
            if self.count[bit] > TOKEN_LIMIT:
                raise ModelError(Cause.TOKEN, index, f"token {bit} passes {TOKEN_LIMIT}")
        for unit, waited in self.waiters.items():
            if waited & mask:
                self.kernel.at(self.kernel.now, DECIDE, unit.attempt, unit.ticket)

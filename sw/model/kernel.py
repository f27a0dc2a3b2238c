"""Discrete events: a heap of future actions in the order of time, and the tokens of a group.

Only what depends on the order of several units goes through the heap: starts that wait for tokens, tokens becoming visible, and grants of
the memory port. Everything else travels as time stamps between one sender and one receiver and may be worked out ahead of the clock.
"""

from collections.abc import Callable
from heapq import heappop, heappush

from gen.isa import Cause
from sw.model.check import ModelError

SIGNAL, DECIDE, GRANT, STOP = range(4)     # order of what happens in one cycle
TOKEN_LIMIT = 255
REST = 2            # cycles for which a token that was taken is not seen


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

    What is taken in a cycle still counts as visible for others that decide in it; in the next two cycles the token rests: nobody sees it.
    """

    def __init__(self, kernel: Kernel):
        self.kernel = kernel
        self.count = [0] * 16
        self.taken = [0] * 16       # takes in cycle `taken_at`
        self.taken_at = [-REST - 1] * 16
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
        """Whether every token of the mask is visible in the present cycle. If not, `unit` tries again when they have rested."""
        now, count = self.kernel.now, self.count
        bits = self.bits(mask)
        rested = max((self.taken_at[bit] for bit in bits if self.taken_at[bit] < now), default=-REST) + REST
        if rested >= now:
            self.kernel.at(rested + 1, DECIDE, unit.attempt, unit.ticket)
            return False
        return all(count[bit] > 0 or (self.taken_at[bit] == now and count[bit] + self.taken[bit] > 0) for bit in bits)

    def take(self, mask: int, index: int):
        """Take one of each in the present cycle. Stops when another taker is as fast for the last one, unless one more is just arriving."""
        now = self.kernel.now
        for bit in self.bits(mask):
            self.count[bit] -= 1
            if self.taken_at[bit] != now:
                self.taken_at[bit], self.taken[bit] = now, 0
            self.taken[bit] += 1
            if self.count[bit] < 0:
                self.kernel.at(now + 1, DECIDE, lambda _, bit=bit: self._overdrawn(bit, index))
        for unit, watched in self.watchers.items():
            if watched & mask:
                self.kernel.at(now + 1, DECIDE, unit.attempt, unit.ticket)

    def _overdrawn(self, bit: int, index: int):
        if self.count[bit] < 0:
            raise ModelError(Cause.TOKEN, index, f"token {bit} is taken twice in cycle {self.kernel.now - 1}")

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

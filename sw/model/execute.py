"""EXECUTE: shift and stream decisions of each wave, and what its group's array does in every cycle."""

from collections import deque
from typing import TYPE_CHECKING

from gen.isa import Instruction, Mode, Stall, Unit
from gen.timing import drain, interval, penalty
from sw.model.check import streamed
from sw.model.kernel import DECIDE
from sw.model.load import Loader
from sw.model.units import InOrder

if TYPE_CHECKING:
    from sw.model.cycles import Machine


class Execute(InOrder):
    """A wave's shift decision A depends on its tile and the wave before; its stream decision S on A, rows, tokens and the wave before."""

    def __init__(self, machine: "Machine", group: int, load_h: Loader, load_v: Loader):
        super().__init__(machine, Unit.EXECUTE, group)
        config = machine.config
        self.load_h, self.load_v = load_h, load_v
        load_h.execute = load_v.execute = self
        self.moving: deque[int] = deque()           # cycles in which loaded tiles are ready
        self.stationary: deque[int] = deque()
        self.stalls = [0] * len(Stall)
        self.waves = [0] * len(Mode)
        self.first = self.last = -1                 # array active from the first S + 1 to the last S + streamed + drain
        self.pumping = False
        self.index, self.instruction = -1, Instruction("End")   # present instruction, and how many of its waves have not been streamed
        self.left = 0
        self.pending = False                        # a wave is in the shadow registers (or on its way), since
        self.shifted = (-1, -1, -1)                 # these cycles: its instruction visible, its tile ready, shift decision
        self.is_first = False                       # it is its instruction's first
        self.start = 0                              # S of the present instruction's first wave
        self.stream_at = -1                         # S of the last wave
        self.covered = -1                           # last cycle it covers: S + interval
        self.tall, self.half = False, 0
        self.steps = self.interval = self.penalty = 0
        self.side, self.drain, self.wait_rows = config.array.side, drain(config), penalty(config)
        self.since, self.why = 0, Stall.TOKEN       # why the wave has waited since when, while it looks for tokens

    def pump(self):
        if self.pumping:
            return      # the loop below is active further up the stack and looks again
        self.pumping = True
        known = True
        while known:
            while not self.trying:
                if self.pending:
                    if not self.moving:
                        break
                    self.stream()
                elif not self.stationary or not (self.left or self.queue):
                    break
                elif self.left > 1 and self.moving:
                    self.cruise()
                else:
                    self.shift()
            self.load_v.pump()          # with what has been given back
            self.load_h.pump()
            known = not self.trying and bool(self.moving if self.pending else self.stationary and (self.left or self.queue))
        self.pumping = False

    def cruise(self):
        """Waves behind their instruction's first and before its last, as far as tiles and rows are known to come: no tokens, no penalty."""
        side, steps, interval, settling = self.side, self.steps, self.interval, max(1, self.side - 1)
        stationary, moving, left = self.stationary, self.moving, self.left
        tiles, words = self.load_v.released, self.load_h.released
        while left > 1 and stationary and moving:
            ready, rows = stationary.popleft(), moving.popleft()
            shift = max(self.stream_at + 1, ready)
            time = max(shift + settling, rows, self.covered)
            if time > self.covered:
                self.gap(0, ready, shift, rows, time)
            self.stream_at, self.covered = time, time + interval
            tiles.append((shift + side + 1, 1))
            words.append((time + steps + 1, steps))
            left -= 1
        count, self.left = self.left - left, left
        self.count(count)

    def shift(self):
        """Shift decision of the next wave, whose tile is known to come."""
        arrived = 0 if self.left else self.queue[0][2]
        ready = self.stationary.popleft()
        time = max(self.stream_at + 1, arrived, ready)
        self.is_first = not self.left
        self.pending, self.shifted = True, (arrived, ready, time)
        if self.is_first:
            self.index, self.instruction = self.pop(time)
            values = self.instruction.values
            mode = Mode(values["mode"])
            self.left = values["waves"]
            self.steps = streamed(mode, values["rows"])
            self.interval = interval(self.machine.config, self.steps)
            self.penalty = self.wait_rows if self.stream_at >= 0 and self.tall and not mode.tall and self.half == values["half"] else 0
            self.tall, self.half = mode.tall, values["half"]
            self.machine.dispatcher.pump()
        self.load_v.release(time + self.side + 1, 1)

    def stream(self):
        """Stream decision of the shifted wave, whose rows are known to come, or a look-out for its tokens."""
        time = max(self.shifted[2] + max(1, self.side - 1), self.moving[0], self.covered)
        if self.is_first:
            if self.instruction.values["wait"]:
                self.since, self.trying = time, True
                self.kernel.at(time, DECIDE, self.attempt, self.ticket)
                return
            if self.penalty:
                self.account(time, self.covered + self.penalty, Stall.ACCUMULATOR)
                time = max(time, self.covered + self.penalty)
        self.decided(time)

    def attempt(self, ticket: int):
        """Look for the tokens of the shifted wave's instruction, and at the penalty, in the present cycle."""
        if ticket != self.ticket:
            return
        now, mask, tokens = self.kernel.now, self.instruction.values["wait"], self.tokens(self.instruction)
        self.account(self.since, now, self.why)
        self.since = now
        ready, allowed = tokens.ready(mask, self), self.covered + self.penalty
        if ready and now >= allowed:
            tokens.waiters.pop(self, None)
            tokens.watchers.pop(self, None)
            tokens.take(mask, self.index)
            self.ticket += 1
            self.trying = False
            self.decided(now)
            self.pump()
        elif ready:
            self.why = Stall.ACCUMULATOR
            tokens.watchers[self] = mask
            self.kernel.at(allowed, DECIDE, self.attempt, ticket)
        else:
            self.why = Stall.TOKEN
            tokens.waiters[self] = mask

    def decided(self, time: int):
        """Stream decision in cycle `time`."""
        rows = self.moving.popleft()
        if time > self.covered:
            self.gap(*self.shifted, rows, time)
        if self.is_first:
            self.start = time
            if self.first < 0:
                self.first = time + 1
        self.pending = False
        self.stream_at, self.covered = time, time + self.interval
        self.count(1)
        self.left -= 1
        self.load_h.release(time + self.steps + 1, self.steps)
        if not self.left:
            self.last = time + self.steps + self.drain
            self.finish(self.index, self.instruction, self.start, self.last + 1)

    def count(self, waves: int):
        """So many waves of the present instruction have been decided."""
        self.stalls[Stall.ARRAY] += waves * self.interval
        self.waves[self.instruction.values["mode"]] += waves
        self.busy += waves * self.steps

    def gap(self, arrived: int, ready: int, shift: int, rows: int, time: int):
        """Why the array has not been busy until the stream decision of cycle `time`, whose rows are there from cycle `rows` on."""
        settled = shift + max(1, self.side - 1)
        self.account(0, arrived, Stall.INSTRUCTION)
        self.account(arrived, ready, Stall.STATIONARY)
        self.account(shift, settled, Stall.SHIFT)
        self.account(settled, rows, Stall.MOVING)
        self.account(time, time + 1, Stall.SHIFT)

    def account(self, start: int, end: int, why: Stall):
        """Cycles start .. end - 1 go to `why`, as far as no wave covers them."""
        start = max(start, self.covered + 1)
        if end > start:
            self.stalls[why] += end - start

    def waiting(self) -> int | None:
        return self.index if self.left else None

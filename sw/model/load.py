"""LOAD_H and LOAD_V: waves into the rings of the local buffers."""

from collections import deque
from typing import TYPE_CHECKING

from gen.config import Unit as Kind
from gen.isa import Instruction, Mode, Unit
from gen.timing import LOAD_LATENCY
from sw.model.check import pixels_a_wave, streamed
from sw.model.units import InOrder

if TYPE_CHECKING:
    from sw.model.cycles import Machine
    from sw.model.execute import Execute


class Loader(InOrder):
    """LOAD_H or LOAD_V: waves into a ring of words or tiles."""

    def __init__(self, machine: "Machine", unit: Unit, group: int):
        super().__init__(machine, unit, group)
        self.execute: Execute         # set by EXECUTE
        config, self.moving = machine.config, unit is Unit.LOAD_H
        self.side, self.flex = config.array.side, config.array.unit is Kind.FLEX
        self.room = config.moving_capacity if self.moving else config.stationary_capacity
        self.room_at = 0                                    # cycle in which that much room is visible
        self.released: deque[tuple[int, int]] = deque()     # cycle, words given back by EXECUTE
        self.words = 0                                      # global-buffer words, as the counters define them
        self.left = 0                                       # waves left of the present instruction
        self.current = (-1, Instruction("End"), -1)        # index, instruction, decision
        self.loading, self.last = False, 0                  # `load` is active; last issue cycle, in which the next wave may be decided
        # Counted for each row (or row of a tile) in each mode: blocks, or different words; QUAD counts each of its copies.
        self.copies = {Kind.FLEX: (2, 2, 1, 1) if self.moving else tuple(mode.stationary_words for mode in Mode),
                       Kind.QUAD: (1,) * 4 if self.moving else (4,) * 4, Kind.SINGLE: (1,) * 4}[config.array.unit]
        self.shape = (0, 0, 0, 0)                           # of the present instruction's waves: room, issue cycles, latency, words

    def release(self, visible: int, words: int):
        """EXECUTE gives words (tiles) back, visible in cycle `visible`."""
        self.released.append((visible, words))

    def shape_of(self, instruction: Instruction) -> tuple[int, int, int, int]:
        """Of each wave of an instruction: words (tiles) of the ring, issue cycles, decision to ready, global-buffer words."""
        values = instruction.values
        if instruction.name == "SetConv":
            return 0, 1, 0, 0
        if self.moving:
            rows, rate = values["rows"], 1 << values["rate"]
            steps, issue = streamed(values["mode"], rows), -(-rows // rate)
            return steps, issue, LOAD_LATENCY + (0 if issue == steps else issue - 1), rows * self.copies[values["mode"]]
        if instruction.name == "LdPixels":      # the lower rows of a tall tile come behind the upper ones
            mode = Mode(values["mode"])
            issue = pixels_a_wave(self.machine.config, mode)
            return 1, issue, LOAD_LATENCY + issue - self.side, issue * (1 + mode.wide if self.flex else self.copies[mode])
        return 1, self.side, LOAD_LATENCY, self.side * self.copies[values["mode"]]

    def roomy(self, need: int) -> bool:
        """Whether `need` words will come free; `room_at` is then the cycle in which they are."""
        while self.room < need:
            if not self.released:
                return False
            self.room_at, words = self.released.popleft()
            self.room += words
        return True

    def earliest(self) -> int | None:
        if self.left or not self.queue or not self.roomy(self.shape_of(self.queue[0][1])[0]):
            return None
        return max(self.last, self.queue[0][2], self.head_from, self.room_at)

    def pump(self):
        if self.loading:
            return      # the loop in `load` is active further up the stack and looks again
        if self.left:
            self.load()
        if not self.left:
            super().pump()

    def decide(self, index: int, instruction: Instruction, time: int):
        self.shape = self.shape_of(instruction)
        self.current = (index, instruction, time)
        self.left = instruction.values.get("waves", 1)
        self.load(time)

    def load(self, time: int | None = None):
        """Issue waves while there is room; the first in cycle `time`."""
        self.loading = True
        need, issue, latency, words = self.shape
        execute = self.execute
        ready = execute.moving if self.moving else execute.stationary
        while True:
            left = self.left
            while left and (time is not None or self.roomy(need)):
                start = max(self.last, self.room_at) if time is None else time
                self.room -= need
                self.last = start + issue
                left -= 1
                if need:
                    ready.append(start + latency)
                time = None
            loaded, self.left = self.left - left, left
            self.busy += loaded * issue
            self.words += loaded * words
            if need and loaded:
                execute.pump()      # may give room back
            elif left:
                self.loading = False
                return
            if not left:
                break
        self.loading = False
        index, instruction, start = self.current
        self.finish(index, instruction, start, self.last + 1)

    def waiting(self) -> int | None:
        return self.current[0] if self.left else None

"""The same board without a thread, in a time of its own: a line of a given speed, delay and badness, for many tests in little time."""

import time
from collections import deque

from tb.link.device import Noise
from tb.link.machine import ToyMachine
from tb.link.rules import FLAG, Rules

CHUNK = 1e-4    # seconds: what comes within it is read at once


class Clock:
    """Stands in for the module `time`; it passes only where somebody waits."""

    def __init__(self):
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float):
        self.now += seconds


class Line:
    """A port to a toy machine. `use` puts its clock in the place of the real one in the modules under test.

    A byte takes `byte` seconds, the way `latency` seconds each way, a frame `work` seconds on the board. `most`: largest number of bytes
    in the board's buffer; `starved`: seconds waited for nothing. `reset_at`: frames after which the board is reset and its memory is lost.
    """

    device = "line"

    def __init__(self, machine: ToyMachine, *, seed: int = 0, drop: float = 0.0, flip: float = 0.0, insert: float = 0.0, byte: float = 5e-6,
                 latency: float = 1e-3, work: float = 1e-5, reset_at: int | None = None):
        self.machine, self.rules, self.clock = machine, Rules(machine), Clock()
        self.noise_in = Noise(2 * seed, drop=drop, flip=flip, insert=insert)
        self.noise_out = Noise(2 * seed + 1, drop=drop, flip=flip, insert=insert)
        self.byte, self.latency, self.work, self.reset_at = byte, latency, work, reset_at
        self.arriving: deque[tuple[float, int]] = deque()       # at the board: when, byte
        self.leaving: deque[tuple[float, int]] = deque()        # at the host
        self.held: deque[tuple[float, int]] = deque()           # frames in the board's buffer: until when, bytes
        self.partial = bytearray()
        self.host_free = self.board_free = self.answer_free = 0.0
        self.frames = self.bytes_in = self.most = 0
        self.starved = 0.0

    def use(self, monkeypatch) -> "Line":
        """Let the modules under test see this clock."""
        from sw.runtime import board, link

        for module in (board, link):
            assert module.time is time or isinstance(module.time, Clock)
            monkeypatch.setattr(module, "time", self.clock)
        return self

    def write(self, data: bytes):
        """From the host."""
        self.bytes_in += len(data)
        self.advance(self.clock.now)
        for byte in self.noise_in(data):
            self.host_free = max(self.host_free, self.clock.now) + self.byte
            self.arriving.append((self.host_free + self.latency, byte))

    def read(self, seconds: float) -> bytes:
        """To the host."""
        until = self.clock.now + max(0.0, seconds)
        self.advance(until)
        if not self.leaving or self.leaving[0][0] > until:
            self.starved += until - self.clock.now
            self.clock.now = until + 1e-9    # time never stands still
            return b""
        self.clock.now = max(self.clock.now, self.leaving[0][0] + CHUNK)
        data = bytearray()
        while self.leaving and self.leaving[0][0] <= self.clock.now:
            data.append(self.leaving.popleft()[1])
        return bytes(data)

    def close(self):
        """As a port's."""

    def advance(self, until: float):
        """Let the board work."""
        while self.arriving and self.arriving[0][0] <= until:
            when, byte = self.arriving.popleft()
            while self.held and self.held[0][0] <= when:
                self.held.popleft()
            self.partial.append(byte)
            self.most = max(self.most, len(self.partial) + sum(size for _, size in self.held))
            if byte == FLAG:
                frame, self.partial = bytes(self.partial[:-1]), bytearray()
                self.board_free = max(self.board_free, when) + (self.work if frame else 0.0)
                self.held.append((self.board_free, len(frame) + 1))
                if frame:
                    self.handle(frame)

    def handle(self, frame: bytes):
        """A whole frame, at `board_free`."""
        self.frames += 1
        if self.frames == self.reset_at:
            self.rules.expected, self.rules.greeted = 0, False
            self.machine.reset()
            self.machine.memory[:] = bytes(len(self.machine.memory))
            return
        for byte in self.noise_out(self.rules.answer(frame)):
            self.answer_free = max(self.answer_free, self.board_free) + self.byte
            self.leaving.append((self.answer_free + self.latency, byte))

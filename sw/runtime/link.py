"""The host's end of a link to a board: sessions, reads and writes. Contract: rtl/link/README.md."""

import random
import time
from collections.abc import Callable
from typing import Protocol

from gen.link import MAGIC, Request, Status
from sw.runtime import frame
from sw.runtime.errors import MachineError
from sw.runtime.pace import Pace
from sw.runtime.transfer import Log, Transfer

SILENT = 5.0            # seconds without an answer to HELLO
PAUSE = 0.25            # seconds before an unanswered HELLO is repeated; each time twice as long
AGAIN = 0.01            # seconds before a damaged HELLO is repeated: what sends garbage sends much of it


class Bytes(Protocol):
    """What a link needs of a port. `read` waits at most so many seconds for the first byte and gives all there are."""

    device: str

    def read(self, seconds: float) -> bytes: ...

    def write(self, data: bytes): ...


class Link:
    """Reads and writes registers and memory of the board behind a port. `unit`: bytes to which memory addresses and lengths are aligned.

    Every call returns when all of it is answered. Raises MachineError when the board falls silent, stays busy or refuses.
    """

    def __init__(self, port: Bytes):
        self.port, self.unit, self.clock = port, 1, time
        self.answers, self.pace = frame.Answers(), Pace()
        self.next = 0                                       # number of the next new request; modulo 256 on the line
        self.log = Log()
        self.broken = False                                 # a transfer did not come to its end: a new session is needed

    def hello(self) -> bytes:
        """Begin a session; returns what the board says of itself.

        Answers of a session that broke off may still be on their way. Two numbers in a row, drawn at random, are not among them.
        """
        stale = time.monotonic() + 0.1
        while self.port.read(0.02) and time.monotonic() < stale:
            pass
        first, second = random.sample(range(256), 2)
        self._hello(first)
        return self._hello(second)

    def _hello(self, number: int) -> bytes:
        start = repeat = sent = time.monotonic()
        until, pause, times, bytes_came = start + SILENT, PAUSE, 0, False
        while (now := time.monotonic()) < until:
            if now >= repeat:
                self.port.write(frame.request(Request.HELLO, number))
                sent, repeat, pause, times = now, now + pause, 2 * pause, times + 1
            data = self.port.read(min(repeat, until) - now)
            bytes_came |= bool(data)
            for answer in self.answers.feed(data):
                if answer is not None:      # a board, and perhaps a slow one with much to do
                    until = min(time.monotonic() + SILENT, start + 3 * SILENT)
                if answer is None or answer[0] is Status.REPEAT:
                    repeat, pause = min(repeat, sent + AGAIN), PAUSE
                elif answer[:2] == (Status.OK, number) and answer[2].startswith(MAGIC):
                    self.next = number + 256 + 1
                    self.log.clear()
                    if times == 1:
                        self.pace.measured(time.monotonic() - sent)
                    return answer[2]
        if bytes_came:
            raise MachineError(f"device = {self.port.device!r} answers, but not as a FlexWave board (or not at this baud rate)")
        raise MachineError(f"device = {self.port.device!r} does not answer")

    def read(self, kind: Request, address: int, size: int, progress: Callable[[int], None] | None = None) -> bytes:
        """`size` bytes from `address` on, by READ_REGISTERS or READ_MEMORY. `progress` is told how many are there."""
        return bytes(self._carry(kind, address, bytearray(size), progress))

    def write(self, kind: Request, address: int, data: bytes, progress: Callable[[int], None] | None = None):
        """Write bytes from `address` on, by WRITE_REGISTERS or WRITE_MEMORY."""
        self._carry(kind, address, bytearray(data), progress)

    def _carry(self, kind: Request, address: int, data: bytearray, progress: Callable[[int], None] | None) -> bytearray:
        if self.broken:
            self.hello()
        self.broken = True
        transfer = Transfer(self, kind, address, data)
        while not transfer.done:
            transfer.step()
            if progress:
                progress(transfer.finished)
        self.broken = False
        return data

"""A board on a pseudo-terminal, as a thread: what a host sees of one, with a line as bad as asked for.

`python -m tb.link.device --config tiny` offers one until it is interrupted.
"""

import argparse
import contextlib
import os
import pty
import random
import select
import threading
import time
import tty
from collections import deque

from tb.link.machine import ToyMachine
from tb.link.rules import FLAG, Rules

RECEIVE_BYTES = 2048    # of the contract
CHUNK = 1 << 16


class Noise:
    """Drops, flips a bit of, or inserts behind, each byte with a probability."""

    def __init__(self, seed: int, *, drop: float = 0.0, flip: float = 0.0, insert: float = 0.0):
        self.random, self.drop, self.flip, self.insert = random.Random(seed), drop, flip, insert

    def __call__(self, data: bytes) -> bytes:
        if not (self.drop or self.flip or self.insert):
            return data
        out = bytearray()
        for byte in data:
            draw = self.random.random()
            if draw < self.drop:
                continue
            out.append(byte ^ 1 << self.random.randrange(8) if draw < self.drop + self.flip else byte)
            if self.random.random() < self.insert:
                out.append(self.random.randrange(256))
        return bytes(out)


class Device:
    """Use it in a `with` statement; `path` is what to open. Fields may be set before.

    `delay`: seconds for each frame; `silent`: takes everything, says nothing; `garbage`: answers anything but frames; `pull_after`: frames
    after which the cable is pulled; `reset_after`: frames after which the board is reset.
    `most` is the largest number of bytes that waited in the board's buffer: those of whole frames not worked through and what came behind.
    """

    def __init__(self, machine: ToyMachine, *, seed: int = 1, drop: float = 0.0, flip: float = 0.0, insert: float = 0.0, delay: float = 0.0,
                 silent: bool = False, garbage: bool = False, pull_after: int | None = None, reset_after: int | None = None):
        self.machine, self.rules = machine, Rules(machine)
        self.noise = {name: Noise(2 * seed + number, drop=drop, flip=flip, insert=insert) for number, name in enumerate(("in", "out"))}
        self.delay, self.silent, self.garbage, self.pull_after, self.reset_after = delay, silent, garbage, pull_after, reset_after
        self.most = self.frames = self.bytes_in = self.bytes_out = 0
        self.failure: BaseException | None = None
        self._stop = threading.Event()

    def __enter__(self) -> "Device":
        self._master, self._slave = pty.openpty()
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        self.path = os.ttyname(self._slave)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()
        self._close()
        if self.failure:
            raise self.failure

    def _close(self):
        for descriptor in (self._master, self._slave):
            if descriptor >= 0:
                os.close(descriptor)
        self._master = self._slave = -1

    def _serve(self):
        try:
            buffer: deque[int] = deque()
            while not self._stop.is_set():
                while buffer and buffer[0] == FLAG:
                    buffer.popleft()
                whole = FLAG in buffer
                if whole and self.delay:
                    time.sleep(self.delay)
                self._receive(buffer, 0.0 if whole else 0.02)
                if FLAG in buffer:
                    frame = bytearray()
                    while (byte := buffer.popleft()) != FLAG:
                        frame.append(byte)
                    if frame:
                        self._handle(bytes(frame))
        except _Pulled:
            self._close()
        except BaseException as error:
            self.failure = error

    def _receive(self, buffer: deque[int], seconds: float):
        ready, _, _ = select.select([self._master], [], [], seconds)
        if ready:
            data = os.read(self._master, CHUNK)
            self.bytes_in += len(data)
            buffer.extend(self.noise["in"](data))
            self.most = max(self.most, len(buffer))

    def _handle(self, frame: bytes):
        self.frames += 1
        if self.frames == self.pull_after:
            raise _Pulled
        if self.frames == self.reset_after:
            self.rules.expected, self.rules.greeted = 0, False
            self.machine.reset()
            return
        if self.silent:
            return
        answer = bytes(random.Random(self.frames).choices(range(256), k=40)) if self.garbage else self.rules.answer(frame)
        self.bytes_out += len(answer)
        with contextlib.suppress(BlockingIOError):  # nobody reads: a line loses what nobody takes
            os.write(self._master, self.noise["out"](answer))


class _Pulled(Exception):
    """The cable is pulled."""


def main():
    """Offer a board until interrupted."""
    from gen.config import Config

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--config", default="tiny", metavar="NAME|FILE")
    parser.add_argument("--memory", type=int, default=1 << 18, metavar="BYTES")
    parser.add_argument("--noise", type=float, default=0.0, metavar="P", help="probability of a dropped, and of a flipped byte")
    options = parser.parse_args()
    with Device(ToyMachine(Config.load(options.config), memory_bytes=options.memory), drop=options.noise, flip=options.noise) as device:
        print(device.path, flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()


if __name__ == "__main__":
    main()

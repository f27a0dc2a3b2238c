"""A cable to a board on a pseudo-terminal: passes bytes both ways, spoils some, and can be pulled."""

import os
import pty
import select
import threading
import tty

from tb.link.device import Noise

CHUNK = 1 << 12


class Wire:
    """Use it in a `with` statement; `path` is the host's end. `passed` counts the bytes of both directions as they came in."""

    def __init__(self, device: str, *, seed: int = 1, drop: float = 0.0, flip: float = 0.0):
        self.device, self.passed = device, 0
        self._noise = [Noise(2 * seed + number, drop=drop, flip=flip) for number in range(2)]
        self._pulled = threading.Event()

    def __enter__(self) -> "Wire":
        self._board = os.open(self.device, os.O_RDWR | os.O_NOCTTY)
        self._master, self._slave = pty.openpty()
        tty.setraw(self._slave)
        self.path = os.ttyname(self._slave)
        self._thread = threading.Thread(target=self._carry, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self.pull()
        os.close(self._slave)

    def pull(self):
        """Take the cable off. The host's end stays a terminal on which nothing comes any more, then hangs up."""
        if not self._pulled.is_set():
            self._pulled.set()
            self._thread.join()
            os.close(self._board)
            os.close(self._master)

    def _carry(self):
        ways = {self._master: (self._board, self._noise[0]), self._board: (self._master, self._noise[1])}
        while not self._pulled.is_set():
            for end in select.select(list(ways), [], [], 0.05)[0]:
                to, noise = ways[end]
                data = os.read(end, CHUNK)
                self.passed += len(data)
                data = noise(data)
                while data:
                    data = data[os.write(to, data):]

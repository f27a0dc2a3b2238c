"""A region on its way over the link: numbered requests, several under way, repeated until each is answered. Contract: rtl/link/README.md.

Nothing that a line loses, damages or invents may change what is read or written. This rests on four facts:
a frame counts only with its CRC; both directions keep their order, so a board that expects number e has carried out all before e, and no
answer is older than the requests under way; a number always means the same request from the same address on, it may be
made shorter (the rest gets a number of its own), never anything else; and what is under way at a time are either reads or writes.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gen.link import Request, Status
from sw.runtime import frame
from sw.runtime.errors import MachineError
from sw.runtime.pace import FRAME_BYTES, REQUESTS

if TYPE_CHECKING:
    from sw.runtime.link import Link

GONE = 10.0             # seconds without any answer
LOST = 20.0             # seconds in which answers come, but none that is awaited
BUSY = (0.001, 0.1)     # seconds before a refused request is sent again: first, most
BUSY_PATIENCE = 10.0    # seconds for which a board may be busy
WRITES = (Request.WRITE_REGISTERS, Request.WRITE_MEMORY)
MEMORY = (Request.READ_MEMORY, Request.WRITE_MEMORY)


class Log:
    """Transmissions that the board has not worked through, as far as answers tell. They are counted from 1 on."""

    def __init__(self):
        self.sent, self.bytes = 0, 0
        self._under_way: deque[tuple[int, int, int]] = deque()      # which, number of the request, bytes

    def __len__(self) -> int:
        return len(self._under_way)

    def add(self, number: int, size: int) -> int:
        """A transmission of a request; returns which it is."""
        self.sent += 1
        self.bytes += size
        self._under_way.append((self.sent, number, size))
        return self.sent

    def pop(self) -> int:
        """The oldest has been worked through; returns which that was (with none under way, the last one)."""
        if not self._under_way:
            return self.sent
        which, _, size = self._under_way.popleft()
        self.bytes -= size
        return which

    def pop_through(self, number: int, *, last: bool) -> int:
        """So have all up to the first or the `last` one of a request; returns which that was, or 0."""
        found = [which for which, other, _ in self._under_way if other == number]
        target = found[-1 if last else 0] if found else 0
        while self._under_way and self._under_way[0][0] <= target:
            self.pop()
        return target

    def clear(self):
        """Nothing is under way."""
        self._under_way.clear()
        self.bytes = 0


@dataclass
class Waiting:
    """A numbered request without its answer. `sent`: its last transmission (None: to be sent, for the first time or again)."""

    number: int
    address: int
    length: int
    asked: set[int] = field(default_factory=set)    # lengths under which it was sent
    sent: int | None = None
    since: float | None = None      # when it was first sent and not known to be lost


class Transfer:
    """A region on its way: the pieces that have no number yet, and the numbered ones that wait for an answer.

    `data` is what is written, or receives what is read.
    """

    def __init__(self, link: "Link", kind: Request, address: int, data: bytearray):
        self.link, self.log, self.pace, self.kind, self.address, self.data = link, link.log, link.pace, kind, address, data
        self.unit = link.unit if kind in MEMORY else 4
        self.writes = kind in WRITES
        self.todo: deque[tuple[int, int]] = deque([(address, len(data))] if data else [])
        self.waiting: dict[int, Waiting] = {}       # by number, ascending
        self.finished = 0                           # bytes
        self.expected = link.next                   # the board expects this number, or a later one
        self.heard = link.clock.monotonic()               # the last valid answer
        self.moved = self.heard                     # the last that was awaited
        self.since = self.heard                     # the wait for the next one began
        self.held, self.pause = 0.0, BUSY[0]        # nothing is sent before; the next pause
        self.busy_since: float | None = None

    @property
    def done(self) -> bool:
        """Everything is answered."""
        return not self.todo and not self.waiting

    @property
    def patience(self) -> float:
        """When to repeat if nothing comes."""
        return max(self.since, self.held) + self.pace.wait

    def step(self):
        """Send what may be sent, wait for answers, act on them."""
        now = self.link.clock.monotonic()
        if now >= self.held:
            self.fill(now)
        data = self.link.port.read((self.held if now < self.held else self.patience) - now)
        now = self.link.clock.monotonic()
        for answer in self.link.answers.feed(data):
            if answer is None:
                self.damaged()
            else:
                self.heard = self.since = now
                self.take(*answer, now)
        if self.done or now < self.held:
            return
        if now >= self.heard + GONE:
            raise MachineError(f"device = {self.link.port.device!r} has gone: no answer in {GONE:.0f} seconds")
        if now >= self.moved + LOST:
            raise MachineError(f"device = {self.link.port.device!r} was reset while it was in use")
        if now >= self.patience:
            self.log.clear()
            self.again(0, lost=False)
            self.pace.silent()

    # Sending

    def fill(self, now: float):
        """Send what was lost, in order; then new requests."""
        for item in list(self.waiting.values()):
            if item.sent is None and not self.send(item, now):
                return
        while self.todo and self.link.next - next(iter(self.waiting), self.link.next) < REQUESTS:
            address, length = self.todo.popleft()
            item = self.waiting[self.link.next] = Waiting(self.link.next, address, length)
            self.link.next += 1
            if not self.send(item, now):
                return

    def send(self, item: Waiting, now: float) -> bool:
        """Send a request, shortened to what the pace allows, unless too much is under way."""
        length = min(item.length, max(self.unit, self.pace.payload // self.unit * self.unit))
        if not self.room(FRAME_BYTES + length):     # at least; to make the frame takes longer
            return False
        start = item.address - self.address
        payload = bytes(self.data[start:start + length]) if self.writes else b""
        data = frame.request(self.kind, item.number, address=item.address, length=length, payload=payload)
        cost = len(data) if self.writes else max(len(data), FRAME_BYTES + length)   # reads: of the answer, usually
        if not self.room(cost):
            return False
        if length < item.length:
            self.todo.appendleft((item.address + length, item.length - length))
            item.length = length
        if not self.log:
            self.since = now
        item.asked.add(length)
        item.sent, item.since = self.log.add(item.number, cost), item.since or now
        self.link.port.write(data)
        return True

    def room(self, cost: int) -> bool:
        """Whether so many bytes more may be under way: one request always."""
        return not self.log or self.log.bytes + cost <= self.pace.allowance

    def again(self, number: int, *, lost: bool):
        """Send everything from this number on again: it was `lost`, or is only late, perhaps."""
        for item in self.waiting.values():
            if item.number >= number:
                item.sent, item.since = None, None if lost else item.since

    # Receiving

    def take(self, status: Status, sequence: int, payload: bytes, now: float):
        """A valid answer."""
        number = self.expected + (sequence - self.expected + 128) % 256 - 128
        if status is Status.REPEAT:
            self.repeat(number)
            return
        worked = self.log.pop_through(number, last=True)
        item = self.waiting.get(number)
        if item is None:
            return      # to a repetition that was not needed
        self.moved = now
        if status is Status.OK:
            self.okay(item, payload, now)
            self.lost(worked)
        elif status is Status.BUSY:
            self.busy(item, now)
        else:
            raise MachineError(f"device = {self.link.port.device!r} refuses {self.kind.name} of {item.length} bytes at {item.address:#x}")

    def okay(self, item: Waiting, payload: bytes, now: float):
        """OK: the request and all before it were carried out."""
        self.busy_since, self.pause = None, BUSY[0]
        self.carried_out(item.number + 1)
        if not self.writes and len(payload) in item.asked:
            start = item.address - self.address
            self.data[start:start + item.length] = payload[:item.length]
            self.finish(item)
        if item.since:
            self.pace.measured(now - item.since)
        self.pace.answered(item.length)

    def carried_out(self, expected: int):
        """All before this number was carried out: for writes this is the answer."""
        self.expected = max(self.expected, expected)
        if self.writes:
            for item in [item for number, item in self.waiting.items() if number < expected]:
                self.finish(item)

    def finish(self, item: Waiting):
        """A request is answered."""
        self.finished += item.length
        del self.waiting[item.number]

    def repeat(self, expected: int):
        """REPEAT: the answer to a transmission after one of `expected` - 1, damaged or behind a gap."""
        self.log.pop_through(expected - 1, last=False)
        last = self.log.pop()
        if not self.expected <= expected <= self.link.next:     # what a board expects never falls back
            raise MachineError(f"device = {self.link.port.device!r} was reset while it was in use")
        self.carried_out(expected)
        item = self.waiting.get(expected)
        if item and item.sent is not None and item.sent <= last:    # else it has been sent again since
            self.again(expected, lost=True)
            self.pace.lost()
        self.lost(last)

    def lost(self, last: int):
        """Send again what was worked through up to this transmission and is not answered."""
        gone = [item for item in self.waiting.values() if item.sent is not None and item.sent <= last]
        for item in gone:
            item.sent = item.since = None
        if gone:
            self.pace.lost()

    def damaged(self):
        """A damaged answer. Of several under way the next answer tells more."""
        if len(self.log) == 1:
            self.lost(self.log.pop())

    def busy(self, item: Waiting, now: float):
        """BUSY: this was not carried out, nor is anything behind it."""
        self.busy_since = self.busy_since or now
        if now >= self.busy_since + BUSY_PATIENCE:
            raise MachineError(f"device = {self.link.port.device!r}: its memory is not ready after {BUSY_PATIENCE:.0f} seconds")
        self.again(item.number, lost=True)
        self.held = now + self.pause
        self.pause = min(2 * self.pause, BUSY[1])

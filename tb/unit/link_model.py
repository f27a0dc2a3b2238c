"""A board as the contract in rtl/link/README.md describes it, and frames as a host makes them. Written without the RTL and gen.link."""

import struct
import zlib
from dataclasses import dataclass, field

FLAG, ESCAPE = 0x7E, 0x7D
OK, FIELD, BUSY, REPEAT = range(4)


class Ask:
    """Requests."""

    HELLO, READ_REGISTERS, WRITE_REGISTERS, READ_MEMORY, WRITE_MEMORY = range(5)


def escaped(content: bytes) -> bytes:
    """Content with its CRC as it goes over the line, the flag behind it."""
    content += struct.pack("<I", zlib.crc32(content))
    return b"".join(bytes([ESCAPE, byte ^ 0x20]) if byte in (FLAG, ESCAPE) else bytes([byte]) for byte in content) + bytes([FLAG])


def request(kind: int, sequence: int, *, length: int = 0, address: int = 0, payload: bytes = b"") -> bytes:
    """A request frame."""
    return escaped(struct.pack("<BBHI", kind, sequence % 256, length, address) + payload)


def write(kind: int, sequence: int, address: int, payload: bytes) -> bytes:
    """A request that writes."""
    return request(kind, sequence, length=len(payload), address=address, payload=payload)


def answer(status: int, sequence: int, payload: bytes = b"") -> bytes:
    """An answer frame."""
    return escaped(struct.pack("<BBH", status, sequence % 256, len(payload)) + payload)


@dataclass
class Board:
    """Takes bytes, gives the bytes of its answers, and notes what it did in `effects`: what it wrote, in order, group by group."""

    unit: int
    memory_bytes: int
    identity: bytes
    busy: bool = False
    ready: bool = True
    expected: int = 0
    greeted: bool = False
    memory: bytearray = field(default_factory=bytearray)
    registers: bytearray = field(default_factory=lambda: bytearray(4096))
    effects: list[tuple[str, int, bytes]] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    _content: bytes = b""
    _damaged: bool = False
    _escape: bool = False

    def __post_init__(self):
        self.memory = self.memory or bytearray(self.memory_bytes)

    def feed(self, received: list[tuple[int, bool]]) -> bytes:
        """Bytes and whether they are damaged."""
        answers = b""
        for byte, error in received:
            if byte == FLAG and not error:
                damaged = self._damaged or self._escape
                if self._content or damaged:
                    answers += self._frame(self._content, damaged)
                self._content, self._damaged, self._escape = b"", False, False
            elif error:
                self._damaged = True
            elif byte == ESCAPE and not self._escape:
                self._escape = True
            else:
                self._content += bytes([byte ^ 0x20 if self._escape else byte])
                self._escape = False
        return answers

    def _frame(self, content: bytes, damaged: bool) -> bytes:
        status, sequence, payload = self._judge(content, damaged)
        self.statuses.append(status)
        return answer(status, sequence, payload)

    def _judge(self, content: bytes, damaged: bool) -> tuple[int, int, bytes]:
        repeat = REPEAT, self.expected, b""
        if damaged or len(content) < 12 or struct.pack("<I", zlib.crc32(content[:-4])) != content[-4:]:
            return repeat
        kind, sequence, length, address = struct.unpack("<BBHI", content[:8])
        writes, payload = kind in (Ask.WRITE_REGISTERS, Ask.WRITE_MEMORY), content[8:-4]
        if len(payload) != (length if writes else 0) or len(payload) > 256:
            return repeat
        if kind == Ask.HELLO:
            self.expected, self.greeted = (sequence + 1) % 256, True
            return OK, sequence, self.identity
        before = (self.expected - sequence) % 256
        if before > 127 or not self.greeted:
            return repeat
        if writes and before:
            return OK, sequence, b""
        status = self._check(kind, length, address)
        if status != OK:
            return status, sequence, b""
        if not before:
            self.expected = (sequence + 1) % 256
        space, name, group = ((self.registers, "register", 4) if kind in (Ask.READ_REGISTERS, Ask.WRITE_REGISTERS) else
                              (self.memory, "memory", self.unit))
        if not writes:
            return OK, sequence, bytes(space[address:address + length])
        for at in range(0, length, group):
            self.effects.append((name, address + at, payload[at:at + group]))
        space[address:address + length] = payload
        return OK, sequence, b""

    def _check(self, kind: int, length: int, address: int) -> int:
        if kind not in (Ask.READ_REGISTERS, Ask.WRITE_REGISTERS, Ask.READ_MEMORY, Ask.WRITE_MEMORY):
            return FIELD
        in_memory = kind in (Ask.READ_MEMORY, Ask.WRITE_MEMORY)
        group, size = (self.unit, self.memory_bytes) if in_memory else (4, 4096)
        if address % group or length % group or not group <= length <= 256 or address + length > size:
            return FIELD
        return BUSY if in_memory and (self.busy or not self.ready) else OK

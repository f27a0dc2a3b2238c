"""The board's end of a link, from the text of rtl/link/README.md: bytes in, answers out. Shares no code with the host's end."""

from binascii import crc32
from typing import Protocol

FLAG, ESCAPE = 0x7E, 0x7D
HELLO, READ_REGISTERS, WRITE_REGISTERS, READ_MEMORY, WRITE_MEMORY = range(5)
OK, FIELD, BUSY, REPEAT = range(4)


def escaped(content: bytes) -> bytes:
    """A frame with its CRC, escaped, a flag behind it."""
    content += crc32(content).to_bytes(4, "little")
    out = bytearray()
    for byte in content:
        out += bytes([ESCAPE, byte ^ 0x20]) if byte in (FLAG, ESCAPE) else bytes([byte])
    return bytes(out) + bytes([FLAG])


def plain(data: bytes) -> bytes | None:
    """The content of a frame (without its flag), or None if it is damaged."""
    out, flip = bytearray(), False
    for byte in data:
        if byte == ESCAPE and not flip:
            flip = True
        else:
            out.append(byte ^ 0x20 if flip else byte)
            flip = False
    if flip or len(out) < 4 or crc32(bytes(out[:-4])) != int.from_bytes(out[-4:], "little"):
        return None
    return bytes(out[:-4])


class Target(Protocol):
    """What lies behind the link."""

    unit: int
    memory: bytearray

    def memory_free(self) -> bool: ...

    def read_register(self, address: int) -> int: ...

    def write_register(self, address: int, value: int): ...

    def identity(self) -> bytes: ...


class Rules:
    """Rules 1 to 5 and the checks. `carried_out` lists every write that was carried out: (kind, address, bytes)."""

    def __init__(self, target: Target):
        self.target, self.expected, self.greeted, self.carried_out = target, 0, False, []

    def answer(self, data: bytes) -> bytes:
        """The answer to the bytes of one frame (without its flag, at least one byte), ready for the line."""
        return escaped(self.content(plain(data)))

    def content(self, request: bytes | None) -> bytes:
        """Header and payload of the answer to an unescaped frame without its CRC; None: a damaged one."""
        if request is None or len(request) < 8:
            return self.head(REPEAT, self.expected)
        kind, sequence = request[:2]
        length, address = int.from_bytes(request[2:4], "little"), int.from_bytes(request[4:8], "little")
        payload = request[8:]
        if len(payload) != (length if kind in (WRITE_REGISTERS, WRITE_MEMORY) else 0):
            return self.head(REPEAT, self.expected)
        if kind == HELLO:
            self.expected, self.greeted = (sequence + 1) % 256, True
            return self.head(OK, sequence, self.target.identity())
        before = (self.expected - sequence) % 256
        if before > 127 or not self.greeted:
            return self.head(REPEAT, self.expected)
        if before and kind in (WRITE_REGISTERS, WRITE_MEMORY):
            return self.head(OK, sequence)
        status = self.check(kind, length, address)
        if status != OK:
            return self.head(status, sequence)
        if not before:
            self.expected = (sequence + 1) % 256
        return self.head(OK, sequence, self.carry_out(kind, address, length, payload))

    def head(self, status: int, sequence: int, payload: bytes = b"") -> bytes:
        """An answer."""
        return bytes([status, sequence]) + len(payload).to_bytes(2, "little") + payload

    def check(self, kind: int, length: int, address: int) -> int:
        """OK, FIELD or BUSY."""
        registers = kind in (READ_REGISTERS, WRITE_REGISTERS)
        unit, end = (4, 4096) if registers else (self.target.unit, len(self.target.memory))
        if kind > WRITE_MEMORY or address % unit or length % unit or not unit <= length <= 256 or address + length > end:
            return FIELD
        return OK if registers or self.target.memory_free() else BUSY

    def carry_out(self, kind: int, address: int, length: int, payload: bytes) -> bytes:
        """Do it; returns what was read."""
        target = self.target
        if kind in (WRITE_REGISTERS, WRITE_MEMORY):
            self.carried_out.append((kind, address, payload))
        if kind == READ_REGISTERS:
            return b"".join(target.read_register(at).to_bytes(4, "little") for at in range(address, address + length, 4))
        if kind == READ_MEMORY:
            return bytes(target.memory[address:address + length])
        if kind == WRITE_MEMORY:
            target.memory[address:address + length] = payload
        else:
            for at in range(0, length, 4):
                target.write_register(address + at, int.from_bytes(payload[at:at + 4], "little"))
        return b""

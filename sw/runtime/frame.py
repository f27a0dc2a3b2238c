"""Frames between host and board, as the host makes and reads them. Contract: rtl/link/README.md."""

import zlib

from gen.link import ANSWER_HEADER, CRC_BYTES, ESCAPE, ESCAPE_FLIP, FLAG, PAYLOAD_BYTES, REQUEST_HEADER, Request, Status

LONGEST = 2 * (sum(size for _, size in ANSWER_HEADER) + PAYLOAD_BYTES + CRC_BYTES)      # of an answer, all escaped


def request(kind: Request, number: int, *, address: int = 0, length: int = 0, payload: bytes = b"") -> bytes:
    """A request as it goes over the line. The flag in front ends what noise may have put there."""
    values = {"request": kind, "sequence": number % 256, "length": length, "address": address}
    content = b"".join(values[name].to_bytes(size, "little") for name, size in REQUEST_HEADER) + payload
    content += zlib.crc32(content).to_bytes(CRC_BYTES, "little")
    for byte in (ESCAPE, FLAG):     # in this order: what the second inserts is not escaped again
        content = content.replace(bytes([byte]), bytes([ESCAPE, byte ^ ESCAPE_FLIP]))
    return bytes([FLAG]) + content + bytes([FLAG])


class Answers:
    """Cuts bytes into answers: (status, sequence, payload), or None for a damaged one."""

    def __init__(self):
        self._rest = b""

    def feed(self, data: bytes) -> list[tuple[Status, int, bytes] | None]:
        """The answers that these bytes complete."""
        *complete, self._rest = (self._rest + data).split(bytes([FLAG]))
        self._rest = self._rest[:LONGEST + 1]   # too long already: what follows does not matter
        return [answer(part) for part in complete if part]


def answer(part: bytes) -> tuple[Status, int, bytes] | None:
    """The answer between two flags."""
    first, *rest = part.split(bytes([ESCAPE]))
    if not all(rest):   # an escape with nothing behind it
        return None
    content = first + b"".join(bytes([piece[0] ^ ESCAPE_FLIP]) + piece[1:] for piece in rest)
    content, crc = content[:-CRC_BYTES], content[-CRC_BYTES:]
    values, at = {}, 0
    for name, size in ANSWER_HEADER:
        values[name] = int.from_bytes(content[at:at + size], "little")
        at += size
    if len(content) < at or zlib.crc32(content).to_bytes(CRC_BYTES, "little") != crc:
        return None
    if values["length"] != len(content) - at or values["status"] not in list(Status):
        return None
    return Status(values["status"]), values["sequence"], content[at:]

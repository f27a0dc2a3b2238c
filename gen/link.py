"""The protocol between a host and a board: frames, requests, answers. RTL and host software derive from it; rtl/link/README.md explains.

All numbers are little-endian. A frame is header, payload and the CRC-32 of both (that of zlib), escaped byte by byte, and a flag behind.
"""

import enum
from dataclasses import dataclass

PROTOCOL = 1
MAGIC = b"FWLK"

FLAG = 0x7E             # ends a frame; between frames any number of them
ESCAPE = 0x7D           # the next byte was FLAG or ESCAPE and is sent with bit 5 inverted
ESCAPE_FLIP = 0x20

PAYLOAD_BYTES = 256     # most of a frame
CRC_BYTES = 4
CRC_POLYNOMIAL = 0xEDB88320     # reflected; starts with all ones, inverted at the end
RECEIVE_BYTES = 2048    # that a board buffers: a host has no more bytes (escaped, flags included) under way for requests without an answer
REPEATABLE = 127        # requests before the expected one that may be sent again


class Request(enum.IntEnum):
    """What a host may ask."""

    HELLO = 0               # no address, length 0: who are you? Sets the sequence number
    READ_REGISTERS = 1      # length: bytes to read, a multiple of 4
    WRITE_REGISTERS = 2     # length: bytes of payload, a multiple of 4
    READ_MEMORY = 3         # address, length: multiples of the unit
    WRITE_MEMORY = 4


class Status(enum.IntEnum):
    """What a board answers. Only a request answered with OK counts."""

    OK = 0
    FIELD = 1       # unknown request, misaligned or too long, outside registers or memory
    BUSY = 2        # memory while the machine runs or the memory is not ready
    REPEAT = 3      # a damaged frame or a gap in the sequence: send again from `sequence` on


# Headers: field and bytes, in this order
REQUEST_HEADER = (("request", 1), ("sequence", 1), ("length", 2), ("address", 4))
ANSWER_HEADER = (("status", 1), ("sequence", 1), ("length", 2))
# The payload of the answer to HELLO; names and digest are ASCII, padded with zeros
IDENTITY = (("magic", 4), ("protocol", 2), ("unit", 2), ("clock_khz", 4), ("memory_bytes", 4), ("config", 16), ("board", 16))


@dataclass(frozen=True, kw_only=True)
class Identity:
    """What a board says of itself. `config`: `Config.digest()`; `unit`: bytes of a memory beat; memory is accessed in multiples of it."""

    unit: int
    clock_khz: int
    memory_bytes: int
    config: str
    board: str

    def __post_init__(self):
        for name in ("config", "board"):
            value = getattr(self, name)
            if not value.isascii() or not 1 <= len(value) <= 16:
                raise ValueError(f"{name} = {value!r} must be 1..16 ASCII characters")

    def to_bytes(self) -> bytes:
        """The payload of the answer to HELLO."""
        values = {"magic": MAGIC, "protocol": PROTOCOL, "unit": self.unit, "clock_khz": self.clock_khz, "memory_bytes": self.memory_bytes,
                  "config": self.config.encode(), "board": self.board.encode()}
        return b"".join(value.ljust(size, b"\0") if isinstance(value := values[name], bytes) else value.to_bytes(size, "little")
                        for name, size in IDENTITY)

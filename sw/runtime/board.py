"""A board: who it is, its registers and memory, and programs on it."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from gen.config import Config
from gen.isa import VERSION, Cause
from gen.link import IDENTITY, PAYLOAD_BYTES, PROTOCOL, Identity, Request
from gen.presets import PRESETS
from gen.registers import IDENTITY as MACHINE
from gen.registers import registers
from sw.runtime.errors import MachineError, UserError
from sw.runtime.link import Link
from sw.runtime.port import BAUD, Port

ON_CHIP = 1 << 20       # bytes: no device of ours has more memory on chip, and no DRAM chip has less
POLL = (0.001, 0.2)     # seconds between two looks at the status: first, most
PATIENCE = 10.0         # seconds given to any program, and
SLOWEST = 10_000        # times what its cycles take at the board's clock: a simulated board is slow
OCCUPIED = 60.0         # seconds to wait for a program that an earlier session left running
TELL = 0.2              # seconds between two reports of progress
OFFSETS = {item.name: item.offset for item in registers(0)}
BUSY, DONE = 1, 2       # bits of the status


def exact_cycles(identity: Identity) -> bool:
    """Whether the board's memory answers as the default memory port does (fixed latency, a beat every cycle), so that cycles must equal
    the prediction. Its identity does not say so; memory on chip keeps the law, a DRAM does not, and they are told apart by size."""
    return identity.memory_bytes < ON_CHIP


@dataclass(frozen=True)
class Outcome:
    """What a program left behind: the bytes asked for (uint8), every register by name, and where the machine stopped in one line."""

    result: np.ndarray
    registers: dict[str, int]
    error: str | None


class OtherContents(MachineError):
    """A board that carries something else."""


class Board:
    """A board with a machine on a serial port; use it in a `with` statement.

    Everything raises MachineError when the board falls silent or its cable is pulled.
    """

    CONTENTS = MACHINE          # what its register `identity` says
    counts_cycles = True        # the registers of a program are its own

    def __init__(self, port: Port):
        """Greet the board behind an open port. Raises MachineError if it does not answer, or not as a board of this version."""
        self.device, self._port, self._link = port.device, port, Link(port)
        self.identity = identify(self.device, self._link.hello())
        self._link.unit = self.identity.unit
        if self._register("identity") != self.CONTENTS or self._register("version") != VERSION:
            raise OtherContents(f"device = {self.device!r} has no machine of version {VERSION} (register identity "
                                f"{self._register('identity'):#x}, version {self._register('version')})")

    @classmethod
    def open(cls, device: str, baud: int = BAUD) -> "Board":
        """The board on a serial port. Raises UserError if the port cannot be opened, and as the constructor does."""
        port = Port(device, baud)
        try:
            return cls(port)
        except BaseException:
            port.close()
            raise

    def __enter__(self) -> "Board":
        return self

    def __exit__(self, *_):
        self._port.close()

    # Who it is

    def configuration(self, config: Config | None = None, organisation: str | None = None) -> Config:
        """`config`, which must be the board's own, or the preset that is. Raises UserError if there is none, or it is another."""
        wanted = self.identity.config
        if config is not None:
            config = config.organise(organisation) if organisation else config
            if config.digest() != wanted:
                name = next((f"{known.name} " for known in PRESETS.values() if known.digest() == wanted), "")
                raise UserError(f"config = {config.name} ({config.organisation}, digest {config.digest()}) is not the board's: "
                                f"{name}(digest {wanted})")
            return config
        for preset in PRESETS.values():
            preset = preset.organise(organisation) if organisation else preset
            if preset.digest() == wanted:
                return preset
        asked = f" as {organisation}" if organisation else ""
        raise UserError(f"config: the board's configuration (digest {wanted}) is no preset{asked}, --config FILE is needed")

    @property
    def exact_cycles(self) -> bool:
        """Whether cycles must equal the prediction; see `exact_cycles` of this module."""
        return exact_cycles(self.identity)

    def check_room(self, size: int):
        """Raises UserError if a memory image of `size` bytes does not fit."""
        if size > self.identity.memory_bytes:
            raise UserError(f"device = {self.device!r} has {self.identity.memory_bytes} bytes of memory, program and operands take {size}")

    # Memory and registers

    def read_memory(self, address: int, size: int, progress: Callable[[str], None] | None = None) -> np.ndarray:
        """Bytes of main memory as uint8. Any address and size within memory."""
        unit = self.identity.unit
        first, last = address // unit * unit, -(-(address + size) // unit) * unit
        data = self._link.read(Request.READ_MEMORY, first, last - first, _meter("reading", last - first, progress))
        return np.frombuffer(data, np.uint8)[address - first:address - first + size]

    def write_memory(self, data: np.ndarray, progress: Callable[[str], None] | None = None):
        """Write uint8 from address 0 on, filled up with zeros to a whole `unit`."""
        padded = data.tobytes() + bytes(-data.size % self.identity.unit)
        self._link.write(Request.WRITE_MEMORY, 0, padded, _meter("writing", len(padded), progress))

    def read_registers(self, groups: int) -> dict[str, int]:
        """Every register of a machine with so many groups, by name."""
        items = registers(groups)
        data = self._link.read(Request.READ_REGISTERS, 0, items[-1].offset + 4)
        return {item.name: int.from_bytes(data[item.offset:item.offset + 4], "little") for item in items}

    def _register(self, name: str) -> int:
        return int.from_bytes(self._link.read(Request.READ_REGISTERS, OFFSETS[name], 4), "little")

    def _write_registers(self, first: str, *values: int):
        self._link.write(Request.WRITE_REGISTERS, OFFSETS[first], b"".join(value.to_bytes(4, "little") for value in values))

    # Programs

    def run(self, config: Config, image: np.ndarray, *, program: int, count: int, result: tuple[int, int], limit: int,
            expected: int = 0, progress: Callable[[str], None] | None = None) -> Outcome:
        """Run `count` instructions at address `program` of a memory image (uint8) and bring back `result` (address, bytes).

        `limit`: cycles after which to give up; `expected`: cycles it will take, for `progress`. Raises UserError if the image does not fit,
        MachineError if the board was reset on the way.
        """
        self.check_room(image.size)
        tell = progress or (lambda text: None)
        self._wait_until_free(tell)
        # Program and count go first: a reset clears them, so a board that still has them at the end was not reset since.
        self._write_registers("program", program, count)
        self.write_memory(image, tell)
        self._write_registers("control", 1)
        error = self._wait_until_done(limit, expected, tell)
        values = self.read_registers(config.array.groups)
        if error is None:
            error = stopped(values, limit)
        after = np.zeros(0, np.uint8) if error else self.read_memory(*result, tell)
        self._check_kept(program, count)
        return Outcome(after, values, error)

    def _wait_until_free(self, tell: Callable[[str], None]):
        start = time.monotonic()
        while self._register("status") & BUSY:
            tell("waiting for the program of an earlier session")
            if time.monotonic() >= start + OCCUPIED:
                raise MachineError(f"device = {self.device!r} still runs an earlier program after {OCCUPIED:.0f} seconds: reset it")
            time.sleep(POLL[1])

    def _wait_until_done(self, limit: int, expected: int, tell: Callable[[str], None]) -> str | None:
        """Look at the status until the machine is done; counters say nothing before. Returns what went wrong."""
        start, pause = time.monotonic(), POLL[0]
        end = start + PATIENCE + SLOWEST * limit / (1000 * max(1, self.identity.clock_khz))
        while (status := self._register("status")) & BUSY:
            now = time.monotonic()
            if now >= end:
                return f"the program did not end within {limit} cycles, nor within {now - start:.0f} seconds"
            tell(f"running, {now - start:.0f} seconds" + (f" for about {expected:,} cycles" if expected else ""))
            time.sleep(pause)
            pause = min(2 * pause, POLL[1])
        if not status & DONE:
            raise self._reset()
        return None

    def _check_kept(self, program: int, count: int):
        """Raises MachineError if the board was reset since `run` wrote these registers."""
        data = self._link.read(Request.READ_REGISTERS, OFFSETS["program"], 8)
        if data != program.to_bytes(4, "little") + count.to_bytes(4, "little"):
            raise self._reset()

    def _reset(self) -> MachineError:
        return MachineError(f"device = {self.device!r} was reset while it was in use")


def stopped(values: dict[str, int], limit: int) -> str | None:
    """What the registers of a machine that is done say of a program that did not end as it should, in the words of the RTL simulation."""
    if values["cycles"] > limit:
        return f"the program did not end within {limit} cycles"
    cause = Cause(values["cause"])
    return None if cause is Cause.NONE else f"the machine stopped at instruction {values['error_index']}: {cause.name}"


def identify(device: str, payload: bytes) -> Identity:
    """The identity in the answer to HELLO. Raises MachineError for another protocol."""
    values, at = {}, 0
    for name, size in IDENTITY:
        values[name] = payload[at:at + size]
        at += size
    numbers = {name: int.from_bytes(values[name], "little") for name in ("protocol", "unit", "clock_khz", "memory_bytes")}
    if numbers["protocol"] != PROTOCOL:
        raise MachineError(f"device = {device!r} speaks protocol {numbers['protocol']}, not {PROTOCOL}")
    del numbers["protocol"]
    try:
        texts = {name: values[name].rstrip(b"\0").decode("ascii") for name in ("config", "board")}
        identity = Identity(**numbers, **texts)
    except ValueError:
        identity = None
    if identity is None or not 1 <= identity.unit <= PAYLOAD_BYTES or len(payload) != at:
        raise MachineError(f"device = {device!r} says of itself what no FlexWave board says: {payload.hex()}")
    return identity


def _meter(verb: str, total: int, progress: Callable[[str], None] | None) -> Callable[[int], None] | None:
    """Tells bytes done, of how many, and the rate."""
    if progress is None:
        return None
    start = told = time.monotonic()

    def meter(done: int):
        nonlocal told
        now = time.monotonic()
        if now >= told + TELL:
            told = now
            progress(f"{verb}, {done:,} of {total:,} bytes, {done / (now - start) / 1000:,.0f} kB/s")

    return meter

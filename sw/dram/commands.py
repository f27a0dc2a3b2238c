"""The recorded DRAM command trace: numpy columns in memory, CSV in a file.

The file has the header `cycle,channel,rank,bank_group,bank,command,row,column,source` and a line a command. Source is host or nda. PREA and
REF leave the bank's fields empty, only ACT must and RD, RDA, WR, WRA, PRE may name the row, only RD, RDA, WR, WRA name the column. Parts
without bank groups leave `bank_group` empty or 0. Both directions work on whole chunks of the file: about a second for 10^6 commands.
"""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import BinaryIO

import numpy as np

NAMES = ("ACT", "PRE", "PREA", "RD", "RDA", "WR", "WRA", "REF")
ACT, PRE, PREA, RD, RDA, WR, WRA, REF = range(8)
SOURCES = ("host", "nda")
HOST, NDA = range(2)
HEADER = "cycle,channel,rank,bank_group,bank,command,row,column,source"

_COLUMNS = tuple(HEADER.split(","))
_KINDS = {"cycle": np.int64, "channel": np.int16, "rank": np.int16, "bank_group": np.int16, "bank": np.int16, "command": np.int8,
          "row": np.int32, "column": np.int32, "source": np.int8}
_TOP = {"cycle": 10**17, "channel": 255, "rank": 255, "bank_group": 255, "bank": 255, "row": 2**30, "column": 2**30}
_BANKED, _OPENS, _MOVES = (ACT, PRE, RD, RDA, WR, WRA), (ACT,), (RD, RDA, WR, WRA)
_REQUIRED = {"bank": _BANKED, "row": _OPENS, "column": _MOVES}                          # commands that must fill a field
_ALLOWED = {"bank_group": _BANKED, "bank": _BANKED, "row": _BANKED, "column": _MOVES}   # commands that may
_READ, _WRITE = 1 << 24, 1 << 18     # bytes and rows in work at once
_COMMA, _NEWLINE = ord(","), ord("\n")


class TraceError(ValueError):
    """A malformed trace. One line: file, line, field, value, what is allowed."""


@dataclass(frozen=True, eq=False)
class Commands:
    """Commands in the order of the trace; each column is an array of one length. An unused field is -1.

    `command` counts in the order of NAMES, `source` in the order of SOURCES, `bank` within its bank group.
    """

    cycle: np.ndarray
    channel: np.ndarray
    rank: np.ndarray
    bank_group: np.ndarray
    bank: np.ndarray
    command: np.ndarray
    row: np.ndarray
    column: np.ndarray
    source: np.ndarray

    def __post_init__(self):
        for name in _COLUMNS:
            object.__setattr__(self, name, np.asarray(getattr(self, name), dtype=_KINDS[name]))
        lengths = {getattr(self, name).shape for name in _COLUMNS}
        if len(lengths) > 1 or len(next(iter(lengths))) != 1:
            raise ValueError(f"columns of shapes {sorted(lengths)}: allowed is one length for all")

    def __len__(self) -> int:
        return len(self.cycle)

    def __getitem__(self, index) -> "Commands":
        """The commands a slice, mask or array of positions selects."""
        return Commands(*(getattr(self, item.name)[index] for item in fields(self)))


def read(path: str | Path) -> Commands:
    """The commands of a CSV file; TraceError names the first malformed line."""
    with open(path, "rb") as file:
        header = file.readline().rstrip(b"\r\n")
        if header != HEADER.encode():
            raise TraceError(f"{path} line 1: header {_shown(header)}, allowed is {HEADER}")
        parts, line = [], 2
        for chunk in _chunks(file):
            parts.append(_parse(np.frombuffer(chunk, dtype=np.uint8), str(path), line))
            line += len(parts[-1][0])
    if not parts:
        return Commands(*(np.zeros(0, dtype=np.int64) for _ in _COLUMNS))
    return Commands(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def write(path: str | Path, commands: Commands) -> None:
    """Writes the CSV file in one step: a reader, or a killed run, never leaves half a file under the name."""
    target = Path(path)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(HEADER.encode() + b"\n")
            for first in range(0, len(commands), _WRITE):
                file.write(_format(commands[first:first + _WRITE]))
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(name, 0o666 & ~umask)
        os.replace(name, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise


def _shown(value: bytes) -> str:
    """A value in an error message, on one line and not too long."""
    return repr(value[:40].decode("ascii", "backslashreplace"))


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    """The rest of a file in pieces of whole lines, each line ended by one newline."""
    rest = b""
    while block := file.read(_READ):
        end = block.rfind(b"\n") + 1
        if end:
            yield (rest + block[:end]).replace(b"\r\n", b"\n")
            rest = block[end:]
        else:
            rest += block
    if rest:
        yield rest + b"\n"


def _parse(text: np.ndarray, path: str, line: int) -> list[np.ndarray]:
    """The columns of whole lines, of which the first is line `line` of the file."""
    marks = np.flatnonzero((text == _COMMA) | (text == _NEWLINE))
    ends = np.flatnonzero(text[marks] == _NEWLINE)
    uneven = np.flatnonzero(np.diff(ends, prepend=-1) != len(_COLUMNS))
    whole = int(uneven[0]) if len(uneven) else len(ends)           # lines before the first with a wrong number of fields
    marks = marks[:whole * len(_COLUMNS)]
    starts = np.concatenate(([0], marks[:-1] + 1)).reshape(whole, -1) if whole else np.zeros((0, len(_COLUMNS)), dtype=np.int64)
    lengths = marks.reshape(whole, -1) - starts if whole else starts

    found: dict[str, np.ndarray] = {}
    wrong: list[tuple[int, int, str]] = []                          # (line, field, allowed) of the first wrong value of each field

    def note(name: str, bad: np.ndarray, allowed: str) -> None:
        if bad.any():
            wrong.append((int(np.argmax(bad)), _COLUMNS.index(name), allowed))

    for index, name in enumerate(_COLUMNS):
        if name == "command" or name == "source":
            names = NAMES if name == "command" else SOURCES
            found[name], bad = _words(text, starts[:, index], lengths[:, index], names)
            note(name, bad, f"one of {', '.join(names)}")
        else:
            found[name], bad = _integers(text, starts[:, index], lengths[:, index], _TOP[name])
            optional = name in _ALLOWED
            note(name, bad if optional else bad | (lengths[:, index] == 0), f"0 to {_TOP[name]}" + (" or nothing" if optional else ""))
    for name, by in _REQUIRED.items():
        note(name, (found[name] < 0) & np.isin(found["command"], by), f"0 to {_TOP[name]} with this command")
    for name, by in _ALLOWED.items():
        note(name, (found[name] >= 0) & (found["command"] >= 0) & ~np.isin(found["command"], by), "nothing with this command")

    if wrong:
        row, field, allowed = min(wrong)
        value = text[starts[row, field]:starts[row, field] + lengths[row, field]].tobytes()
        raise TraceError(f"{path} line {line + row}: {_COLUMNS[field]} {_shown(value)}, allowed is {allowed}")
    if len(uneven):
        begin = int(marks[-1]) + 1 if len(marks) else 0
        value = text[begin:begin + 200].tobytes().split(b"\n")[0]
        raise TraceError(f"{path} line {line + whole}: line {_shown(value)}, allowed are {len(_COLUMNS)} fields: {HEADER}")
    return [found[name].astype(_KINDS[name]) for name in _COLUMNS]


def _integers(text: np.ndarray, start: np.ndarray, length: np.ndarray, top: int) -> tuple[np.ndarray, np.ndarray]:
    """Decimal numbers at `start`, -1 where there is none, and where something else stands."""
    value, bad = np.zeros(len(start), dtype=np.int64), length > 18
    for place in range(min(int(length.max(initial=0)), 18)):
        live = length > place
        digit = text[np.minimum(start + place, len(text) - 1)] - np.uint8(48)      # wraps, so anything but a digit is above 9
        bad |= live & (digit > 9)
        value = np.where(live, value * 10 + digit, value)
    bad |= value > top
    return np.where(length == 0, -1, value), bad


def _words(text: np.ndarray, start: np.ndarray, length: np.ndarray, names: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Positions in `names` of the words at `start`, and where another word stands."""
    code = np.zeros(len(start), dtype=np.int64)
    for place in range(4):
        code = code * 256 + np.where(length > place, text[np.minimum(start + place, len(text) - 1)], 0)
    value = np.full(len(start), -1, dtype=np.int64)
    for index, name in enumerate(names):
        value[(code == int.from_bytes(name.encode().ljust(4, b"\0"), "big")) & (length == len(name))] = index
    return value, value < 0


def _format(commands: Commands) -> bytes:
    """The lines of some commands."""
    blocks, shown = [], []
    for index, name in enumerate(_COLUMNS):
        values = getattr(commands, name).astype(np.int64)
        if name == "command" or name == "source":
            names = NAMES if name == "command" else SOURCES
            table = np.array([list(item.encode().ljust(4, b"\0")) for item in names], dtype=np.uint8)
            blocks.append(table[values])
            shown.append(blocks[-1] > 0)
        else:
            powers = 10 ** np.arange(len(str(int(values.max(initial=0)))) - 1, -1, -1, dtype=np.int64)
            quotients = values[:, None] // powers
            visible = quotients > 0
            visible[:, -1] = values >= 0
            blocks.append((quotients % 10 + 48).astype(np.uint8))
            shown.append(visible)
        blocks.append(np.full((len(values), 1), _NEWLINE if index == len(_COLUMNS) - 1 else _COMMA, dtype=np.uint8))
        shown.append(np.ones((len(values), 1), dtype=bool))
    return np.hstack(blocks)[np.hstack(shown)].tobytes()

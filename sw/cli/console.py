"""What the commands share: progress that shows on a terminal only, and checks of names of files."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from sw.runtime.errors import UserError

if TYPE_CHECKING:
    from gen.config import Config
    from sw.runtime.board import Board

DEFAULT_CONFIG = "base"


@contextlib.contextmanager
def progress(text: str) -> Iterator[Callable[[str], None]]:
    """A spinner on standard error while the block runs; the function given changes its text. Nothing where that is no terminal."""
    if not sys.stderr.isatty():
        yield lambda text: None
        return
    from rich.console import Console

    with Console(stderr=True).status(text) as status:
        yield lambda text: status.update(text)


def output_file(field: str, name: str | None) -> Path | None:
    """The path of a file to be written later. Raises UserError now if that could not work."""
    if name is None:
        return None
    path = Path(name)
    if path.is_dir():
        raise UserError(f"{field} = {name!r} is a folder, not a file")
    if not path.parent.is_dir():
        raise UserError(f"{field} = {name!r}: the folder {str(path.parent)!r} does not exist")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise UserError(f"{field} = {name!r} cannot be written")
    return path


def write_bytes(path: Path, data: bytes):
    """Write a file in one step, so that nobody finds half of it."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        part.write_bytes(data)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def read_bytes(field: str, name: str) -> bytes:
    """The content of a file. Raises UserError if it cannot be read."""
    try:
        return Path(name).read_bytes()
    except OSError as error:
        raise UserError(f"{field} = {name!r} cannot be read: {error.strerror}") from None


def integer(field: str, text: str, low: int, high: int = (1 << 31) - 1) -> int:
    """A whole number in low..high. Raises UserError."""
    try:
        value = int(text)
    except ValueError:
        raise UserError(f"{field} = {text!r} is not an integer in {low}..{high}") from None
    if not low <= value <= high:
        raise UserError(f"{field} = {value} is outside {low}..{high}")
    return value


def configuration(options, board: "Board | None" = None) -> "Config":
    """The configuration of `--config` and `--organisation`. That of a board must be the board's own, and may be left out."""
    from gen.config import Config

    if board is not None:
        return board.configuration(Config.load(options.config) if options.config else None, options.organisation)
    config = Config.load(options.config or DEFAULT_CONFIG)
    return config.organise(options.organisation) if options.organisation else config


def add_configuration(parser):
    """Add the options that `configuration` reads."""
    parser.add_argument("--config", metavar="NAME|FILE",
                        help=f"a preset (tiny, small, base, paper) or a TOML file (default: {DEFAULT_CONFIG}; on a board its own)")
    parser.add_argument("--organisation", metavar="NAME", help="1G1C, 1G4C, 4G4C, 1G1F or 4G1F, derived from the configuration")


@contextlib.contextmanager
def board_of(options) -> Iterator["Board | None"]:
    """The board of `--engine board`, `--device` and `--baud` while the block runs, or None. Raises UserError, MachineError."""
    if options.engine != "board":
        for field in ("device", "baud"):
            if getattr(options, field) is not None:
                raise UserError(f"{field} = {getattr(options, field)!r} needs --engine board, not {options.engine}")
        yield None
        return
    if options.device is None:
        raise UserError("device: --engine board needs --device, e.g. /dev/ttyUSB0")
    from sw.runtime.port import BAUD
    from sw.runtime.unit_board import open_board

    baud = BAUD if options.baud is None else integer("baud", options.baud, 300, 12_000_000)
    with progress(f"opening {options.device}"):
        board = open_board(options.device, baud)
    with board:
        yield board


def add_board(parser):
    """Add the options that `board_of` reads besides `--engine`."""
    parser.add_argument("--device", metavar="FILE", help="the board's serial port (engine board), e.g. /dev/ttyUSB0")
    parser.add_argument("--baud", metavar="RATE", help="bits a second on that port (default: 2000000)")

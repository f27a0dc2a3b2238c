"""What the commands share: progress that shows on a terminal only, and checks of names of files."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from sw.runtime.errors import UserError


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


def configuration(options):
    """The configuration of `--config` and `--organisation`."""
    from gen.config import Config

    config = Config.load(options.config)
    return config.organise(options.organisation) if options.organisation else config


def add_configuration(parser):
    """Add the options that `configuration` reads."""
    parser.add_argument("--config", default="base", metavar="NAME|FILE", help="a preset (tiny, small, base, paper) or a TOML file")
    parser.add_argument("--organisation", metavar="NAME", help="1G1C, 1G4C, 4G4C, 1G1F or 4G1F, derived from the configuration")

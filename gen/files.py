"""Writing files and naming content: what generators and caches share."""

import contextlib
import fcntl
import hashlib
import os
import tempfile
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build"


def write_if_changed(path: Path, text: str) -> bool:
    """Write `text` unless the file holds it already, in one step (a reader never sees half a file). Says whether it wrote."""
    if path.exists() and path.read_text() == text:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w") as file:
            file.write(text)
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(name, 0o666 & ~umask)
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise
    return True


def digest(*parts: str | bytes) -> str:
    """Sixteen hex digits that name the parts, in order."""
    total = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        total.update(len(data).to_bytes(8, "little"))
        total.update(data)
    return total.hexdigest()[:16]


def sources_digest() -> str:
    """Names the state of every source file that generated Verilog depends on."""
    paths = sorted([*(ROOT / "gen").glob("*.py"), *(ROOT / "rtl").rglob("*.py")])
    return digest(*(part for path in paths for part in (str(path.relative_to(ROOT)), path.read_bytes())))


def versions(*packages: str) -> dict[str, str]:
    """Installed versions of some packages."""
    return {package: version(package) for package in packages}


@contextlib.contextmanager
def locked(path: Path):
    """Hold an exclusive lock between processes, so that two do not make the same thing at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield

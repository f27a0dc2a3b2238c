"""The flow's tools, from Python wheels, in processes of their own; for nextpnr's speed WebAssembly's memory gets huge pages."""

import ctypes
import importlib
import re
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

MAPPINGS = Path("/proc/self/maps")      # of Linux; elsewhere memory stays as it is
RESERVED = 1 << 30                      # bytes: WebAssembly's memory is reserved whole, nothing else is as large
MADV_HUGEPAGE = 14                      # madvise(2)
PERIOD = 1.0                            # seconds between looks for it


class FlowError(RuntimeError):
    """A tool refused its input; one line with its complaint and where the log is."""


def run(package: str, function: str, arguments: Sequence[str], folder: Path):
    """A tool in its own process, within a folder (a sandbox sees little else). Raises FlowError."""
    command = [sys.executable, "-P", __file__, package, function, *arguments]
    result = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    if result.returncode:
        lines = [line for line in (result.stderr + result.stdout).splitlines() if re.search("error", line, re.IGNORECASE)]
        raise FlowError(f"{package}: {(lines or [f'ended with {result.returncode}'])[0].strip()} (in {folder})")


def reserved() -> list[tuple[int, int]]:
    """Address ranges, start and end, of anonymous memory that is as large as WebAssembly's, with what has been made accessible of it."""
    found: list[tuple[int, int]] = []
    for span, *rest in map(str.split, MAPPINGS.read_text().splitlines()):
        start, stop = (int(address, 16) for address in span.split("-"))
        if len(rest) > 4:       # named: a file, the stack
            continue
        if found and found[-1][1] == start:
            start = found.pop()[0]
        found.append((start, stop))
    return [(start, stop) for start, stop in found if stop - start >= RESERVED]


def ask_for_huge_pages(ended: threading.Event):
    """Wait for that memory, then advise the kernel to back it with huge pages. Advice only: a kernel without them declines, and all is
    as before."""
    madvise = ctypes.CDLL(None).madvise
    while not ended.wait(PERIOD):
        if ranges := reserved():
            for start, stop in ranges:
                madvise(ctypes.c_void_p(start), ctypes.c_size_t(stop - start), MADV_HUGEPAGE)
            return


def main() -> int | str | None:
    """Within the process: package, function and arguments of a tool."""
    _, package, function, *arguments = sys.argv
    tool = getattr(importlib.import_module(package), function)
    if not package.startswith("yowasp"):
        sys.argv[1:] = arguments
        return tool()
    ended = threading.Event()
    if MAPPINGS.exists():
        threading.Thread(target=ask_for_huge_pages, args=(ended,), daemon=True).start()
    try:
        return tool(arguments)
    finally:
        ended.set()


if __name__ == "__main__":
    sys.exit(main())

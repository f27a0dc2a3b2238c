"""The mutation check: plants single faults in a copy of the RTL and shows that the tests turn red for each of them.

Run: `make mutation`, or `python -m tb.mutation [NAME ...]`; the faults are in `tb/mutants.py`. First the tests must pass without a fault.
A fault is *red* when a test fails by an assertion of its own. It *SURVIVED* when all its tests pass: a hole in the tests. Everything else
is *invalid*: RTL that cannot be built, an exception, or tests that do not end within LIMIT seconds. The working tree is never changed.
"""

import argparse
import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from sw.cli.console import progress
from tb.mutants import MUTANTS, Mutant

ROOT = Path(__file__).resolve().parent.parent
COPIED = ("rtl", "gen", "sw", "tb", "boards", "pyproject.toml")
WORKERS = 2
LIMIT = 120     # seconds for the tests of one fault

# The installed packages are the working tree's: make sure that the tests import the copy's.
RUN = """
import pathlib, sys
import pytest, gen, rtl, tb
for package in (gen, rtl, tb):
    assert pathlib.Path(package.__file__).resolve().is_relative_to(pathlib.Path.cwd().resolve()), package.__file__
sys.exit(pytest.main(sys.argv[1:]))
"""


class Stale(Exception):
    """A fault that cannot be planted any more, because the RTL has changed."""


@dataclass(frozen=True)
class Outcome:
    """How the tests ended: verdict, the first failing test (or why there is none), and seconds."""

    verdict: str
    text: str
    seconds: float


def copy(source: Path, target: Path):
    """Copy everything that the tests need into the new folder `target`."""
    target.mkdir()
    for name in COPIED:
        if (source / name).is_dir():
            shutil.copytree(source / name, target / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source / name, target / name)


def mutated(mutant: Mutant, root: Path = ROOT) -> str:
    """The faulty text of the mutant's file. Raises Stale unless the fault has exactly one place."""
    text = (root / mutant.file).read_text()
    if (count := text.count(mutant.old)) != 1:
        raise Stale(f"{mutant.name}: {mutant.old!r} occurs {count} times in {mutant.file}, must be once")
    return text.replace(mutant.old, mutant.new)


def judge(code: int, report: Path) -> tuple[str, str]:
    """Verdict and text from pytest's exit code and its JUnit report."""
    if code == 0:
        return "SURVIVED", ""
    if code != 1 or not report.exists():
        return "invalid", f"pytest ended with {code}"
    for case in ElementTree.parse(report).iter("testcase"):
        name = f"{case.get('classname', '').rpartition('.')[2]}::{case.get('name')}"
        if case.find("error") is not None:
            return "invalid", f"error in {name}"
        if (failure := case.find("failure")) is not None:
            places = re.findall(r"^(\S+\.py):\d+: (\w+)", failure.text or "", re.MULTILINE)
            where, what = places[-1] if places else ("?", "?")
            if where.startswith("tb/") and what in ("AssertionError", "Failed"):
                return "red", name
            return "invalid", f"{what} in {where} during {name}"
    return "invalid", "no failing test"


def run(folder: Path, tests: Iterable[str]) -> Outcome:
    """Run tests in a copy until the first one fails."""
    report, start = folder / "report.xml", time.perf_counter()
    # Whatever steers a pytest around this one must not reach it.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")} | {"PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-c", RUN, "-x", "-q", "-p", "no:cacheprovider", f"--junitxml={report}", *tests]
    try:
        code = subprocess.run(command, cwd=folder, env=environment, capture_output=True, timeout=LIMIT).returncode
        verdict, text = judge(code, report)
    except subprocess.TimeoutExpired:
        verdict, text = "invalid", f"no end within {LIMIT} seconds"
    return Outcome(verdict, text, time.perf_counter() - start)


def plant(original: Path, mutant: Mutant) -> Outcome:
    """Plant one fault in a copy of `original` of its own, and run its tests there."""
    with tempfile.TemporaryDirectory(dir=original.parent) as parent:
        folder = Path(parent) / "faulty"
        copy(original, folder)
        (folder / mutant.file).write_text(mutated(mutant, folder))
        return run(folder, mutant.tests)


def table(mutants: list[Mutant], outcomes: list[Outcome]) -> str:
    """One line a mutant."""
    rows = [("fault", "file", "verdict", "s", "first failing test")]
    rows += [(mutant.name, mutant.file, outcome.verdict, f"{outcome.seconds:.1f}", outcome.text)
             for mutant, outcome in zip(mutants, outcomes, strict=True)]
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    return "\n".join("  ".join([*(cell.ljust(width) for cell, width in zip(row, widths)), row[4]]).rstrip() for row in rows)


@contextlib.contextmanager
def workers() -> Iterator[ThreadPoolExecutor]:
    """A pool that drops what has not begun when it is left early."""
    pool = ThreadPoolExecutor(WORKERS)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def check(mutants: list[Mutant], work: Path) -> bool:
    """Check that each fault is noticed, in a new folder inside `work`; print the table. Raises Stale before anything runs."""
    for mutant in mutants:
        mutated(mutant)
    work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=work) as parent, workers() as pool, progress("tests without a fault") as say:
        original = Path(parent) / "original"
        copy(ROOT, original)
        sets = list(dict.fromkeys(mutant.tests for mutant in mutants))
        jobs = []
        for number, tests in enumerate(sets):
            copy(original, Path(parent) / f"green_{number}")
            jobs.append(pool.submit(run, Path(parent) / f"green_{number}", tests))
        wrong = [f"{' '.join(tests)}: {job.result().verdict} {job.result().text}" for tests, job in zip(sets, jobs)
                 if job.result().verdict != "SURVIVED"]
        if wrong:
            print("tests that fail without a fault:", *wrong, sep="\n", file=sys.stderr)
            return False
        jobs = [pool.submit(plant, original, mutant) for mutant in mutants]
        outcomes = []
        for mutant, job in zip(mutants, jobs):
            say(f"{mutant.name} ({len(outcomes) + 1} of {len(mutants)})")
            outcomes.append(job.result())
    red = sum(outcome.verdict == "red" for outcome in outcomes)
    print(table(mutants, outcomes))
    print(f"{len(mutants)} mutants, {red} red")
    return red == len(mutants)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tb.mutation", description="Plant faults in the RTL and see the tests turn red.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="faults to plant (default: all)")
    names = parser.parse_args(arguments).names
    known = {mutant.name: mutant for mutant in MUTANTS}
    if unknown := [name for name in names if name not in known]:
        parser.error(f"no such fault: {', '.join(unknown)}; there are {', '.join(known)}")
    try:
        return 0 if check([known[name] for name in names] or MUTANTS, ROOT / "build" / "mutation") else 1
    except Stale as error:
        print(error, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())

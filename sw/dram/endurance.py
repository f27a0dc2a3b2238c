"""Endurance: RTL runs over host traffics, near-data operations, policies and ranks, until so many DRAM commands were checked.

Run: `python -m sw.dram.endurance [--commands 10000000] [--requests 2000] [--seed S] [--jobs N]`; `make bench` runs it too.

Each run is checked by itself, so memory does not grow: datasheet minima by the independent checker, every read against what was written,
the two copies of each rank's state in every cycle, launches that were ignored, and every command, answer and cycle against the model. The
runs go through all combinations in an order drawn from the seed, then through them again with new traffic; each has a line of `flexwave
dram` that repeats it. Ends with 1 if anything was found.
"""

import argparse
import concurrent.futures
import itertools
import multiprocessing
import os
import random
import signal
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, fields

import numpy as np

from gen import dram
from sw.cli.console import progress
from sw.cli.gemm import integer
from sw.dram import metrics
from sw.dram.scenario import LIMIT, OPERATIONS, POLICIES, Scenario
from sw.dram.traffic import MIXES
from sw.runtime.errors import UserError

RANKS = (1, 2, 4)
HOSTS = (*MIXES, "sequential", "random", None)      # None: near-data work alone
BLOCKS = 512                                       # of an operand in each rank; rows of GATHER and SCATTER have their own length


@dataclass
class Tally:
    """What was run and what was found."""

    runs: int = 0
    cycles: int = 0
    commands: int = 0
    violations: int = 0
    data_errors: int = 0
    mismatches: int = 0      # cycles in which two copies differed, and launches that were ignored
    differences: int = 0     # runs that are not the model's
    seconds: float = 0.0     # in the simulator

    def add(self, other: "Tally"):
        """Adds the counts of another."""
        for item in fields(self):
            setattr(self, item.name, getattr(self, item.name) + getattr(other, item.name))

    @property
    def faults(self) -> int:
        """What must not happen."""
        return self.violations + self.data_errors + self.mismatches + self.differences


def cases(requests: int, seed: int) -> Iterator[Scenario]:
    """Runs without end: all combinations, shuffled, each round with new traffic."""
    configs = {ranks: dram.DramConfig(part=dram.part("ddr4-2400r"), channels=1, ranks=ranks, reserved=2) for ranks in RANKS}
    draw = random.Random(seed)
    while True:
        combinations = list(itertools.product(RANKS, HOSTS, POLICIES, (*OPERATIONS, None)))
        draw.shuffle(combinations)
        for ranks, host, policy, operation in combinations:
            if host is None and operation is None:
                continue
            blocks = 0 if operation in (None, "gather", "scatter") else BLOCKS
            writes = draw.choice((0.0, 0.3, 1.0)) if host in ("sequential", "random") else 0.0
            yield Scenario(config=configs[ranks], host=host or "sequential", requests=requests if host else 0, operation=operation,
                           policy=policy, seed=draw.randrange(1 << 30), writes=writes, blocks=blocks)


def command_line(case: Scenario) -> str:
    """What repeats a run."""
    return (f"flexwave dram --part {case.config.part.name} --ranks {case.config.ranks} --host {case.host} --requests {case.requests} "
            f"--nda {case.operation or 'none'} --policy {case.policy} --writes {case.writes} --blocks {case.blocks} --seed {case.seed}")


def run(case: Scenario) -> tuple[Tally, list[str]]:
    """One run with all its checks: the counts, and a line for each kind of fault."""
    from gen.simulate_dram import DramJob, DramSimulator
    from sw.model import dram as model

    workload, simulator = case.workload(), DramSimulator(case.config)
    start = time.perf_counter()
    recording = simulator.run([DramJob(workload, limit=LIMIT)])[0]
    seconds = time.perf_counter() - start
    found = metrics.violations(case.config, recording)
    expected = model.run(case.config, workload)
    same = (np.array_equal(recording.commands, expected.commands) and np.array_equal(recording.reads, expected.reads)
            and (recording.cycles, recording.core_done) == (expected.cycles, expected.core_done))
    tally = Tally(1, recording.cycles + 1, len(recording.commands), len(found), recording.data_errors,
                  recording.replica_mismatches + recording.overruns, int(not same), seconds)
    lines = []
    if found:
        lines.append(f"violations = {len(found)}, first: {found[0].text}")
    if recording.data_errors:
        lines.append(f"data_errors = {recording.data_errors}, first: {recording.errors[0]}")
    if tally.mismatches:
        lines.append(f"replica_mismatches = {recording.replica_mismatches}, overruns = {recording.overruns}")
    if not same:
        lines.append("commands, answers or cycles are not the model's")
    return tally, lines


def table(tallies: dict[tuple[int, str], Tally]) -> str:
    """A line for each number of ranks and policy, and the sum."""
    head = ("ranks", "policy", "runs", "cycles", "commands", "violations", "data errors", "mismatches", "not the model's", "cycles/s")
    total, rows = Tally(), []
    order = sorted(tallies, key=lambda key: (key[0], POLICIES.index(key[1])))
    for (ranks, policy), tally in [*((key, tallies[key]) for key in order), ((0, "all"), total)]:
        if tally is not total:
            total.add(tally)
        rows.append((str(ranks or "all"), policy, f"{tally.runs:,}", f"{tally.cycles:,}", f"{tally.commands:,}", f"{tally.violations:,}",
                     f"{tally.data_errors:,}", f"{tally.mismatches:,}", f"{tally.differences:,}",
                     f"{tally.cycles / tally.seconds if tally.seconds else 0:,.0f}"))
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    return "\n".join("  ".join(text.rjust(width) if place != 1 else text.ljust(width) for place, (text, width)
                               in enumerate(zip(row, widths, strict=True))) for row in (head, *rows)) + "\n"


def endure(commands: int, requests: int, seed: int, jobs: int) -> tuple[dict[tuple[int, str], Tally], list[str]]:
    """Runs until `commands` were checked; no more than two runs a processor are under way."""
    from gen.simulate import SimulationError
    from gen.simulate_dram import DramSimulator

    tallies: dict[tuple[int, str], Tally] = {}
    faults: list[str] = []
    done, plan, waiting = 0, cases(requests, seed), {}
    with progress("endurance") as tell:
        for ranks in RANKS:     # one after the other: a build takes a processor for a minute
            tell(f"endurance: building the simulator of {ranks} rank{'s' * (ranks > 1)}")
            DramSimulator(dram.DramConfig(part=dram.part("ddr4-2400r"), channels=1, ranks=ranks, reserved=2)).build()
        # Ctrl-C reaches the workers too: this process alone answers it.
        pool = concurrent.futures.ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn"), initializer=signal.signal,
                                                      initargs=(signal.SIGINT, signal.SIG_IGN))
        try:
            while done < commands:
                while len(waiting) < 2 * jobs:
                    case = next(plan)
                    waiting[pool.submit(run, case)] = case
                for future in concurrent.futures.wait(waiting, return_when=concurrent.futures.FIRST_COMPLETED).done:
                    case = waiting.pop(future)
                    try:
                        tally, lines = future.result()
                    except SimulationError as error:      # it never ended: nothing to count, and nothing to go on with
                        return tallies, [*faults, f"{command_line(case)}: {error}"]
                    tallies.setdefault((case.config.ranks, case.policy), Tally()).add(tally)
                    faults += [f"{command_line(case)}: {line}" for line in lines]
                    done += tally.commands
                tell(f"endurance: {done:,} of {commands:,} commands" + f", {len(faults)} faults" * bool(faults))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            for worker in multiprocessing.active_children():     # what they are at is not needed any more
                worker.terminate()
    return tallies, faults


def main(argv: list[str] | None = None) -> int:
    """Print the table; 1 if a run found anything."""
    parser = argparse.ArgumentParser(prog="endurance", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--commands", default="10000000", metavar="N", help="DRAM commands to check")
    parser.add_argument("--requests", default="2000", metavar="N", help="host requests of a run")
    parser.add_argument("--seed", default=None, metavar="S", help="of order and traffic; drawn and printed unless given")
    parser.add_argument("--jobs", default=str(os.cpu_count() or 1), metavar="N", help="runs at once")
    options = parser.parse_args(argv)
    try:
        seed = random.SystemRandom().randrange(1 << 31) if options.seed is None else integer("seed", options.seed, 0)
        commands, requests = integer("commands", options.commands, 1, 10**12), integer("requests", options.requests, 1, 10**7)
        jobs = integer("jobs", options.jobs, 1, 256)
    except UserError as error:
        print(f"endurance: {error}", file=sys.stderr)
        return 2
    start = time.perf_counter()
    try:
        tallies, faults = endure(commands, requests, seed, jobs)
    except KeyboardInterrupt:
        warnings.simplefilter("ignore")      # Amaranth's, about components that were not converted any more
        print("endurance: interrupted", file=sys.stderr)
        return 130
    print(table(tallies), end="")
    print(f"\nDDR4-2400R, one channel; seed {seed}; {time.perf_counter() - start:,.0f} s. cycles/s: of one simulator, its start included.")
    for line in faults[:20]:
        print(f"endurance: {line}", file=sys.stderr)
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())

"""Runs compiled programs on the RTL with a simulated DRAM behind the memory port."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from gen.config import Config
from gen.dram import ALIASES, PARTS, DramConfig, part
from sw.compiler.program import Program
from sw.model import predict
from sw.runtime.engines import Run
from sw.runtime.errors import MachineError, UserError

TIMED = ("cycles", "array_cycles", "stall_")    # counters that depend on the memory's timing


@dataclass(frozen=True)
class DramRun(Run):
    """A program that ran on DRAM. The prediction is for the memory port of fixed latency: its timing is there to compare, not to match."""

    @property
    def mismatches(self) -> tuple[str, ...]:
        """What does not depend on timing (traffic, waves) and differs from the prediction, a line each."""
        wanted = self.prediction.counters
        return tuple(f"{name} = {self.counters[name]} differs from the predicted {value}" for name, value in wanted.items()
                     if not any(timed in name for timed in TIMED) and self.counters[name] != value)


def dram(memory: str) -> DramConfig:
    """The memory system of `--memory`: one channel and rank of a part at its own clock, all of it the host's. Raises UserError."""
    if memory not in PARTS and memory not in ALIASES:
        raise UserError(f"memory = {memory!r} is none of {', '.join([*PARTS, *ALIASES])}")
    return DramConfig(part=part(memory), reserved=0)


def run(config: Config, memory: str, programs: Sequence[Program], images: Sequence[np.ndarray], *,
        progress: Callable[[str], None] | None = None) -> list[DramRun]:
    """Run each program on its memory image (uint8), which lies at the DRAM's start. Raises UserError, MachineError."""
    from gen.simulate import Job
    from gen.simulate_memory import MemorySimulator

    tell, config_of_dram = progress or (lambda text: None), dram(memory)
    for image in images:
        if image.size > config_of_dram.bytes:
            raise UserError(f"memory = {memory!r} has {config_of_dram.bytes} bytes, program and operands take {image.size}")
    tell("predicting")
    predictions = [predict(config, program.instructions, program=program.regions["program"].address) for program in programs]
    simulator = MemorySimulator(config, config_of_dram)
    jobs = []
    for program, image, prediction in zip(programs, images, predictions):
        address, size = program.regions["result"]
        jobs.append(Job(image, program.regions["program"].address, len(program.instructions), (address, size),
                        limit=limit_of(config, config_of_dram, prediction.cycles)))
    tell("building the simulator (kept for the next time)")
    simulator.build(simulator.capacity(jobs))
    tell("simulating")
    outcomes = simulator.run(jobs, lambda done: tell(f"simulating, {done} of {len(jobs)} programs done"))
    runs = []
    for number, (program, image, outcome, prediction) in enumerate(zip(programs, images, outcomes, predictions)):
        if outcome.error:
            raise MachineError(f"program {number}: {outcome.error}" if len(jobs) > 1 else outcome.error)
        after = image.copy()
        address, size = program.regions["result"]
        after[address:address + size] = outcome.result
        runs.append(DramRun(program.result(after), outcome.registers, prediction))
    return runs


def limit_of(config: Config, memory: DramConfig, cycles: int) -> int:
    """Cycles after which a program is given up: as if every beat were a row miss of its own."""
    blocks = max(1, config.memory.bytes_per_cycle // memory.part.block_bytes)
    return 2 * cycles * (1 + blocks * (memory.gaps.rc + memory.gaps.rtw)) + 100_000

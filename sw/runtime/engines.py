"""Runs compiled programs on an engine: the RTL, the functional and cycle models, or a board. On the RTL many programs share one process."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from gen.config import Config
from sw.compiler.layer_group import GroupProgram
from sw.compiler.program import Program
from sw.model import Prediction, predict
from sw.runtime.errors import MachineError

if TYPE_CHECKING:
    from sw.runtime.board import Board

ENGINES = ("rtl", "model", "board")
SLOW_MEMORY = 100   # times the predicted cycles: no DRAM of a board takes longer, even with a row miss for every beat


@dataclass(frozen=True)
class Run:
    """A finished program: its result, the machine's counters by register name (of the RTL or of the model), and the prediction."""

    result: np.ndarray
    counters: dict[str, int]
    prediction: Prediction

    @property
    def mismatches(self) -> tuple[str, ...]:
        """Counters that differ from the prediction, a line each."""
        wanted = self.prediction.counters
        return tuple(f"{name} = {self.counters[name]} differs from the predicted {value}" for name, value in wanted.items()
                     if self.counters[name] != value)


def run(config: Config, programs: Sequence[Program | GroupProgram], images: Sequence[np.ndarray], *, engine: str = "rtl",
        board: "Board | None" = None, pace: Fraction = Fraction(1), progress: Callable[[str], None] | None = None) -> list[Run]:
    """Run each program on its memory image (uint8); engine "board" runs them on `board`. Raises MachineError if one does not reach its end.

    The memory port accepts `pace` beats a cycle (a board has its own). `progress` is told what is going on, in a few words.
    """
    if engine not in ENGINES:
        raise ValueError(f"engine = {engine!r} is none of {', '.join(ENGINES)}")
    if (board is not None) != (engine == "board"):
        raise ValueError(f"engine = {engine!r} {'needs a board' if board is None else 'takes no board'}")
    tell = progress or (lambda text: None)
    tell("predicting")
    predictions = [predict(config, program.instructions, program=program.regions["program"].address, pace=pace) for program in programs]
    if engine == "rtl":
        return _on_rtl(config, programs, images, predictions, pace, tell)
    if board is not None:
        return _on_board(board, config, programs, images, predictions, tell)
    from sw.model import functional

    runs = []
    for program, image, prediction in zip(programs, images, predictions):
        tell(f"running program {len(runs) + 1} of {len(programs)} in the functional model")
        after = functional.run(config, program.instructions, image)
        runs.append(Run(program.result(after), prediction.counters, prediction))
    return runs


def _on_rtl(config: Config, programs, images, predictions, pace: Fraction, tell) -> list[Run]:
    from gen.simulate import Job, Simulator

    simulator = Simulator(config)
    jobs = [Job(image, program.regions["program"].address, len(program.instructions), tuple(program.regions["result"]),
                pace=pace, limit=limit_of(prediction.cycles)) for program, image, prediction in zip(programs, images, predictions)]
    tell("building the simulator (kept for the next time)")
    simulator.build(simulator.capacity(jobs))
    total = sum(prediction.cycles for prediction in predictions)
    tell(f"simulating {total:,} cycles")
    outcomes = simulator.run(jobs, lambda done: tell(f"simulating {total:,} cycles, {done} of {len(jobs)} programs done"))
    runs = []
    for number, (program, image, outcome, prediction) in enumerate(zip(programs, images, outcomes, predictions)):
        if outcome.error:
            raise MachineError(f"program {number}: {outcome.error}" if len(jobs) > 1 else outcome.error)
        after = image.copy()
        address, size = program.regions["result"]
        after[address:address + size] = outcome.result
        runs.append(Run(program.result(after), outcome.registers, prediction))
    return runs


def _on_board(board: "Board", config: Config, programs, images, predictions, tell) -> list[Run]:
    from sw.runtime.memory import DramRun

    runs = []
    for number, (program, image, prediction) in enumerate(zip(programs, images, predictions)):
        which = f"program {number}: " if len(programs) > 1 else ""
        limit = limit_of(prediction.cycles if board.exact_cycles else SLOW_MEMORY * prediction.cycles)
        outcome = board.run(config, image, program=program.regions["program"].address, count=len(program.instructions),
                            result=tuple(program.regions["result"]), limit=limit, expected=prediction.cycles,
                            progress=lambda text, which=which: tell(which + text))
        if outcome.error:
            raise MachineError(which + outcome.error)
        after = image.copy()
        address, size = program.regions["result"]
        after[address:address + size] = outcome.result
        runs.append((Run if board.exact_cycles else DramRun)(program.result(after), outcome.registers, prediction))
    return runs


def limit_of(cycles: int) -> int:
    """Cycles after which a program that was predicted to take `cycles` is given up."""
    return 2 * cycles + 10_000

"""Where launches run: the generated Verilog beside the cycle model, whose every command it has to give, or the cycle model alone."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from gen.dram import DramConfig
from gen.traffic import Launch, Recording, Workload

Place = tuple[int, int, int, int, int]       # channel, rank, bank id, row, column


class Mismatch(RuntimeError):
    """An engine disagrees with the golden model or with the cycle model: a fault of ours."""


@dataclass(frozen=True)
class Played:
    """A run: its record (None where the engine has no clock) and the 64 bytes of each block asked for (None: the engine has no data)."""

    recording: Recording | None
    blocks: dict[Place, bytes] | None = None


class Engine(Protocol):
    """Plays launches on memory that holds `load`, and brings back the blocks `store`. Without `has_data` both are empty."""

    has_data: bool

    def play(self, config: DramConfig, launches: tuple[Launch, ...], load: dict[Place, bytes], store: list[Place]) -> Played: ...


def model(config: DramConfig, workload: Workload) -> Recording:
    """The cycle model's record of a run."""
    from sw.model import dram

    return dram.run(config, workload)


class ModelEngine:
    """Cycles of the model; no data."""

    has_data = False

    def play(self, config: DramConfig, launches: tuple[Launch, ...], load: dict[Place, bytes], store: list[Place]) -> Played:
        return Played(model(config, Workload(launches=launches)))


class RtlEngine:
    """The generated Verilog; its commands have to be the model's."""

    has_data = True

    def __init__(self):
        self._simulator = None

    def play(self, config: DramConfig, launches: tuple[Launch, ...], load: dict[Place, bytes], store: list[Place]) -> Played:
        from gen.simulate_dram import DramJob, DramSimulator

        workload = Workload(launches=launches)
        self._simulator = self._simulator or DramSimulator(config)
        recording = self._simulator.run([DramJob(workload, load=load, store=store)])[0]
        for name in ("replica_mismatches", "data_errors", "overruns"):
            if getattr(recording, name):
                raise Mismatch(f"{name} = {getattr(recording, name)}, allowed is 0 {' '.join(recording.errors[:1])}")
        expected = model(config, workload)
        if expected.cycles != recording.cycles or not np.array_equal(expected.commands, recording.commands):
            raise Mismatch(f"the hardware took {recording.cycles} cycles and {len(recording.commands)} commands, "
                           f"the model {expected.cycles} and {len(expected.commands)}, or at other times")
        blocks: Any = recording.blocks      # keyed by place
        return Played(recording, blocks)


class UntimedEngine:
    """Neither data nor time: results are the golden model's. For computations whose time is known already."""

    has_data = False

    def play(self, config: DramConfig, launches: tuple[Launch, ...], load: dict[Place, bytes], store: list[Place]) -> Played:
        return Played(None)


ENGINES: dict[str, Callable[[], Engine]] = {"rtl": RtlEngine, "model": ModelEngine, "untimed": UntimedEngine}

"""A fast command-level model of the DRAM system: the command trace and the time of every answer, without data.

It follows rtl/memory/README.md cycle by cycle and agrees with the hardware command for command.
"""

from collections.abc import Callable

import numpy as np

from gen.dram import DramConfig
from gen.traffic import COMMAND_RECORD, READ_RECORD, Recording, Workload
from sw.model.dram import tables
from sw.model.dram.machine import cycles

CHUNK = 1 << 18      # commands recorded, and cycles run, between two looks at the progress


def run(config: DramConfig, workload: Workload, *, progress: Callable[[int, int], None] | None = None) -> Recording:
    """What the hardware does with a workload. `progress` is told now and then how many requests of the cores are accepted, of how many.

    Commands are in order of cycle, channel, source, rank. `blocks` and the two error counts of the recording stay empty: data are not
    modelled. About a million cycles a second (four cores, one channel of two ranks). Raises DramError for a workload that names something
    the memory does not have.
    """
    known, (work, carried), state = tables.constants(config, workload), tables.requests(config, workload), tables.state(config, workload)
    total = sum(len(core.gaps) for core in workload.cores)
    out, reads = np.zeros((CHUNK, 8), np.int64), np.zeros((CHUNK, 4), np.int64)
    commands, answers = [], []
    while not state["ended"][0]:
        used, answered = cycles(known[0], work, carried, state[0], out, reads, CHUNK)
        commands.append(_record(COMMAND_RECORD, out[:used], ("cycle", "channel", "rank", "source", "kind", "bank", "row", "column")))
        answers.append(_record(READ_RECORD, reads[:answered], ("offered", "answered", "core", "index")))
        if progress:
            progress(int(state["accepted"][0]), total)
    done = tuple(int(cycle) for cycle in state["done"][0, :len(workload.cores)])
    return Recording(commands=np.concatenate(commands), reads=np.concatenate(answers), host_done=max(done, default=0), core_done=done,
                     cycles=int(state["time"][0]))


def _record(kind: np.dtype, columns: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
    made = np.zeros(len(columns), kind)
    for number, name in enumerate(names):
        made[name] = columns[:, number]
    return made

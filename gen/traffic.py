"""What a memory-system run is made of, for RTL and model: cores with their requests, near-data launches, and the record of a run.

Timing of the bench (cycle t as in rtl/memory/README.md). A core offers its next request from cycle `last + gap` on, where `last` is the
cycle in which its previous one was accepted (0 before the first), a read only while its outstanding reads (register) are below `window`.
Each cycle the offering core first in the order behind the one accepted last (at first: core 0 is first) owns the port; the launcher
counts as the core after the last one. Accepted when the port is ready. A response in cycle t lowers the outstanding reads seen in t+1.
Latency of a read: from the cycle in which it was first offered to the cycle of its response.
The launcher offers launch writes in order, each once every unit in its `wait` mask is inactive (`active` register), and repeats its list
`repeat` times; `repeat` = 0 means until the cores are done: it then starts no further entry that has a `wait`.
A run ends in the first cycle in which cores and launcher are done, all responses have come and the system is quiet.
"""

from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Core:
    """One core's requests: cycles since the previous one, block number, write or read."""

    gaps: np.ndarray                # uint32, 1 or more
    blocks: np.ndarray              # uint64
    writes: np.ndarray              # bool
    window: int = 8                 # reads that may be outstanding


@dataclass(frozen=True)
class Launch:
    """One write to a launch register."""

    block: int                      # block number of the register
    data: bytes                     # 64 bytes
    wait: int = 0                   # units (bit channel * ranks + rank) that must be inactive before


@dataclass(frozen=True)
class Workload:
    """Everything a run does."""

    cores: tuple[Core, ...] = ()
    launches: tuple[Launch, ...] = ()
    repeat: int = 1


# A command as recorded by the bench and by the model. Only what is on the pins: RD and WR carry no row.
COMMAND_RECORD = np.dtype([
    ("cycle", "<u8"), ("channel", "u1"), ("rank", "u1"), ("bank", "u1"), ("kind", "u1"), ("source", "u1"), ("unused", "u1"),
    ("column", "<u2"), ("row", "<u4"), ("spare", "<u4"),
])    # 24 bytes; bank = bank id; kind as rtl.memory.interfaces.Command (1 ACT 2 PRE 3 PREA 4 RD 5 WR 6 REF); source 0 host, 1 near-data
READ_RECORD = np.dtype([("offered", "<u8"), ("answered", "<u8"), ("core", "<u4"), ("index", "<u4")])    # one a read, in order of answers


@dataclass
class Recording:
    """What happened in a run. Cycles count from the first one after reset."""

    commands: np.ndarray                    # COMMAND_RECORD
    reads: np.ndarray                       # READ_RECORD
    host_done: int                          # cycle of the last answer or accepted write of the cores (0 without cores)
    core_done: tuple[int, ...]              # the same for each core
    cycles: int                             # cycle in which the run ended: everything done, no refresh owed
    data_errors: int = 0                    # reads that did not return what was written last
    replica_mismatches: int = 0             # cycles in which the two copies of a rank's state differed
    blocks: dict[tuple[int, int, int, int, int], bytes] = field(default_factory=dict, repr=False)    # by location: content, where asked for

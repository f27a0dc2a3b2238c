"""From the record of a memory-system run to its figures: bandwidth, latency, row hits, turnarounds, timing violations."""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from gen.dram import DramConfig
from gen.traffic import Recording, Workload
from sw.dram import commands as trace

ACT, PRE, PREA, RD, WR, REF = range(1, 7)     # kinds of a COMMAND_RECORD
HOST, NEAR = 0, 1
NAMES = np.array([-1, trace.ACT, trace.PRE, trace.PREA, trace.RD, trace.WR, trace.REF])    # record kind -> trace command


@dataclass(frozen=True)
class Figures:
    """One run. Fractions of bandwidth: of the peak of all channels (host), of all ranks (near-data units), over `window` cycles.

    The window reaches to the host's last request; without a host, to the last command that moves data.
    """

    window: int
    cycles: int
    host_bandwidth_fraction: float
    host_latency_mean: float
    host_latency_p99: float
    nda_bandwidth_fraction: float
    nda_idle_fraction: float         # of the rank bandwidth that host and refresh leave, what the near-data units take
    row_hit_rate: float
    turnarounds: int
    refreshes: int


def to_commands(config: DramConfig, record: np.ndarray) -> trace.Commands:
    """A recorded trace as the checker and the CSV have it: bank within its group, column in words of the bus."""
    kind = record["kind"].astype(np.int64)
    banked, moves = np.isin(kind, (ACT, PRE, RD, WR)), np.isin(kind, (RD, WR))
    groups, bank = config.part.bank_groups, record["bank"].astype(np.int64)
    return trace.Commands(
        cycle=record["cycle"].astype(np.int64), channel=record["channel"], rank=record["rank"],
        bank_group=np.where(banked, bank % groups, -1), bank=np.where(banked, bank // groups, -1), command=NAMES[kind],
        row=np.where(kind == ACT, record["row"].astype(np.int64), -1),
        column=np.where(moves, record["column"].astype(np.int64) * config.part.burst, -1), source=record["source"])


def reserved_banks(config: DramConfig) -> frozenset[tuple[int, int]]:
    """The near-data units' banks as (bank group, bank in the group)."""
    total, groups = config.part.all_banks, config.part.bank_groups
    return frozenset((bank % groups, bank // groups) for bank in range(total - config.reserved, total))


def violations(config: DramConfig, recording: Recording) -> list:
    """What the independent checker finds in a run."""
    from sw.dram.checker import check

    return check(to_commands(config, recording.commands), part=config.part.name, channels=config.channels, ranks=config.ranks,
                 clock_mhz=Fraction(config.clock_khz, 1000), reserved_banks=reserved_banks(config), cycles=recording.cycles + 1)


def requests(workload: Workload) -> int:
    """Requests of the host."""
    return sum(len(core.blocks) for core in workload.cores)


def figures(config: DramConfig, workload: Workload, recording: Recording) -> Figures:
    """The figures of a run."""
    record, burst = recording.commands, config.part.burst_cycles
    moves = (record["kind"] == RD) | (record["kind"] == WR)
    host, near = record["source"] == HOST, record["source"] == NEAR
    if requests(workload):
        window = recording.host_done + 1
    else:
        window = int(record["cycle"][moves].max()) + 1 if moves.any() else recording.cycles
    inside = record["cycle"] < window
    host_moves, near_moves = int((moves & host & inside).sum()), int((moves & near & inside).sum())
    refreshes = int(((record["kind"] == REF) & inside).sum())
    ranks = config.channels * config.ranks
    left = ranks * window - host_moves * burst - refreshes * config.gaps.rfc
    latency = (recording.reads["answered"] - recording.reads["offered"]).astype(np.int64)
    opened = int(((record["kind"] == ACT) & host & inside).sum())
    return Figures(
        window=window, cycles=recording.cycles + 1,
        host_bandwidth_fraction=host_moves * burst / (config.channels * window),
        host_latency_mean=float(latency.mean()) if latency.size else 0.0,
        host_latency_p99=float(np.percentile(latency, 99)) if latency.size else 0.0,
        nda_bandwidth_fraction=near_moves * burst / (ranks * window),
        nda_idle_fraction=near_moves * burst / max(left, 1),
        row_hit_rate=max(0.0, 1 - opened / host_moves) if host_moves else 0.0,
        turnarounds=_turnarounds(config, record[moves & inside]), refreshes=refreshes)


def _turnarounds(config: DramConfig, moves: np.ndarray) -> int:
    """Changes between reading and writing in a rank, whoever reads and writes."""
    total = 0
    for channel in range(config.channels):
        for rank in range(config.ranks):
            here = moves[(moves["channel"] == channel) & (moves["rank"] == rank)]
            kinds = here["kind"][np.argsort(here["cycle"], kind="stable")]
            total += int((kinds[1:] != kinds[:-1]).sum())
    return total

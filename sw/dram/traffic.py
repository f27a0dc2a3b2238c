"""Host traffic and near-data work for measurements and tests, reproducible by seed.

Host traffic: `sequential`, `random`, `mix0` .. `mix8`, `trace:FILE` (lines `gap,R|W,address`: cycles since the previous request, a hex byte
address). The mixes stand for four cores that miss their caches: each keeps up to eight reads outstanding, in runs of neighbouring blocks,
with random pauses. They are not recorded from programs: what they share with Chopim's mixes is the range of intensity (nda.md, section 7).
"""

import zlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from gen.dram import DramConfig, DramError, part
from gen.nda import CHUNK_BLOCKS, INDEXED, LANES, Operation, Policy, pack
from gen.traffic import Core, Launch, Workload
from sw.dram.mapping import hashed, in_launch_rows, launch_block, rank_frame_blocks, shared_blocks

CORES, WINDOW = 4, 8        # of a mix; reads that one core keeps outstanding
OPEN = 64                   # the same for `sequential`, `random` and traces: more than a queue holds
STREAMS = 8                 # columns of GEMV, rows that GATHER and SCATTER use
TABLE = 1 << 14             # blocks of their table
TOP_GAP = (1 << 32) - 1


@dataclass(frozen=True)
class Mix:
    """Four cores alone on one channel of two ranks: share of the data bus, blocks of a run, share of writes; found by `calibrate`: gap."""

    bus_use: float
    run: float
    writes: float
    gap: float              # calibrated gap: mean cycles from one request of a core to its next, if nothing holds it up


# Column `gap`: python -m sw.dram.traffic
MIXES = {
    "mix0": Mix(0.75, 6.0, 0.35, 19.1),
    "mix1": Mix(0.60, 4.5, 0.32, 25.5),
    "mix2": Mix(0.50, 3.5, 0.30, 31.3),
    "mix3": Mix(0.40, 3.0, 0.28, 39.3),
    "mix4": Mix(0.30, 2.5, 0.25, 52.9),
    "mix5": Mix(0.22, 2.2, 0.22, 72.4),
    "mix6": Mix(0.15, 2.0, 0.20, 105.4),
    "mix7": Mix(0.08, 1.8, 0.18, 196.4),
    "mix8": Mix(0.03, 1.5, 0.15, 524.7),
}


def cores(config: DramConfig, name: str, *, requests: int, seed: int, writes: float = 0.0) -> tuple[Core, ...]:
    """Host traffic by name; `writes` is the share of writes of `sequential` and `random`.

    A trace gives all its requests, whatever `requests` says. Raises DramError.
    """
    if name.startswith("trace:"):
        return (trace(config, name.removeprefix("trace:")),)
    if name not in ("sequential", "random", *MIXES):
        raise DramError(f"traffic = {name!r} is none of sequential, random, {', '.join(MIXES)}, trace:FILE")
    if requests < 1:
        raise DramError(f"requests = {requests} is outside 1 and more")
    if not 0 <= writes <= 1:
        raise DramError(f"writes = {writes} is outside 0..1")
    if name in MIXES:
        return mix(config, MIXES[name], requests=requests, seed=[seed, zlib.crc32(name.encode())])
    rng, room = np.random.default_rng([seed, 1]), config.blocks - shared_blocks(config)
    blocks = np.arange(requests) % room if name == "sequential" else rng.integers(0, room, requests)
    return (Core(np.ones(requests, np.uint32), blocks.astype(np.uint64), rng.random(requests) < writes, OPEN),)


def mix(config: DramConfig, kind: Mix, *, requests: int, seed) -> tuple[Core, ...]:
    """The four cores of a mix; each has a quarter of the host's region to itself. With more channels they miss more often."""
    made, room = [], (config.blocks - shared_blocks(config)) // CORES
    for number in range(CORES):
        rng = np.random.default_rng([*np.atleast_1d(seed), number])
        count = requests // CORES + (number < requests % CORES)
        lengths = rng.geometric(1 / kind.run, count)
        run = np.repeat(np.arange(count), lengths)[:count]                   # the run of each request
        inside = np.arange(count) - (np.cumsum(lengths) - lengths)[run]      # its place in it
        blocks = number * room + (rng.integers(0, room, count)[run] + inside) % room
        gaps = rng.geometric(min(1.0, config.channels / max(kind.gap, 1.0)), count)
        made.append(Core(gaps.astype(np.uint32), blocks.astype(np.uint64), (rng.random(count) < kind.writes)[run], WINDOW))
    return tuple(made)


def trace(config: DramConfig, path: str | Path) -> Core:
    """A core that does what a file says. Raises DramError naming the line."""
    gaps, blocks, writes = [], [], []
    try:
        lines = Path(path).read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DramError(f"{path}: {getattr(error, 'strerror', None) or 'not a text file'}") from None
    for number, line in enumerate(lines, 1):
        where, fields = f"{path} line {number}", [item.strip() for item in line.split(",")]
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if len(fields) != 3:
            raise DramError(f"{where}: {line[:40]!r} is not gap,R|W,hex byte address")
        try:
            gap = int(fields[0])
        except ValueError:
            gap = 0
        if not 1 <= gap <= TOP_GAP:
            raise DramError(f"{where}: gap = {fields[0][:20]!r} is outside 1..{TOP_GAP} cycles")
        if fields[1] not in ("R", "W"):
            raise DramError(f"{where}: {fields[1][:20]!r} is neither R nor W")
        try:
            address = int(fields[2], 16)
        except ValueError:
            raise DramError(f"{where}: address = {fields[2][:20]!r} is not a hex number") from None
        if not 0 <= address < config.bytes:
            raise DramError(f"{where}: address = {address:#x} is outside 0..{config.bytes - 1:#x}")
        gaps.append(gap)
        blocks.append(address // config.part.block_bytes)
        writes.append(fields[1] == "W")
    core = Core(np.array(gaps, np.uint32), np.array(blocks, np.uint64), np.array(writes, bool), OPEN)
    if config.reserved and len(blocks):
        launches = in_launch_rows(config, core.blocks) & core.writes
        if launches.any():
            first = int(core.blocks[launches][0]) * config.part.block_bytes
            raise DramError(f"{path}: a write to address {first:#x}, which lies in a row of launch registers")
    return core


def near_data(config: DramConfig, operation: Operation, *, blocks: int, policy: Policy, seed: int = 1) -> tuple[Launch, ...]:
    """One launch of `operation` on every unit, each waiting for its own unit to be idle.

    Operands of `blocks` local blocks lie one behind the other in frames of colour 0. GEMV has STREAMS columns; GATHER and SCATTER use
    STREAMS random rows of `blocks` blocks of a table of TABLE blocks. Raises DramError if the shared region is too small.
    """
    operation, indexed = Operation(operation), operation in INDEXED
    if not config.reserved:
        raise DramError("reserved = 0: there is no near-data unit to launch")
    most = CHUNK_BLOCKS if indexed else config.frames * rank_frame_blocks(config)
    if not 1 <= blocks <= most:
        raise DramError(f"blocks = {blocks} is outside 1..{most} ({operation.name})")
    span = -(-blocks // rank_frame_blocks(config)) * config.colours
    table = -(-TABLE // rank_frame_blocks(config)) * config.colours if indexed else 0
    x_span = table or span * (STREAMS if operation == Operation.GEMV else 1)
    frames = {"x": 0, "y": x_span, "z": x_span + span, "w": x_span + 2 * span}
    if x_span + 3 * span >= config.frames:
        raise DramError(f"blocks = {blocks}: operands need {x_span + 3 * span} frames, the shared region has {config.frames}")
    rng, launches = np.random.default_rng([seed, int(operation)]), []
    one = 0x3F800000
    for channel in range(config.channels):
        for rank in range(config.ranks):
            unit, own = channel * config.ranks + rank, []
            if operation == Operation.GEMV:
                own.append((1, np.full(LANES, one, "<u4").tobytes()))
            elif indexed:
                words = np.zeros(LANES, "<u4")
                words[:STREAMS] = rng.integers(0, TABLE // blocks, STREAMS) * blocks
                own.append((1, words.tobytes()))
            own.append((0, pack(operation=operation, policy=policy, flip=int(hashed(config, "bank", config.part.rows - config.frames)),
                                streams=STREAMS, seed=1 + (unit + seed) % 255, blocks=blocks, a=one, b=one, c=one, step=span, **frames)))
            launches += [Launch(launch_block(config, channel, rank, column), data, 1 << unit if number == 0 else 0)
                         for number, (column, data) in enumerate(own)]
    return tuple(launches)


def calibrate(config: DramConfig, kind: Mix, *, seed, requests: int = 60_000) -> float:
    """The mean gap at which a mix, alone on the system, uses its share of the channels' data buses; by bisection with the model."""
    from sw.model.dram import run  # late: whoever only makes traffic need not wait for the compiler

    low, high = 1.0, 16.0 * config.part.burst_cycles / kind.bus_use
    for _ in range(12):
        gap = (low * high) ** 0.5
        recording = run(config, Workload(mix(config, replace(kind, gap=gap), requests=requests, seed=seed)))
        used = requests * config.part.burst_cycles / recording.host_done
        low, high = (gap, high) if used > kind.bus_use else (low, gap)
    return round((low * high) ** 0.5, 1)


if __name__ == "__main__":
    for _name, _kind in MIXES.items():
        print(_name, calibrate(DramConfig(part=part("ddr4-2400r"), ranks=2), _kind, seed=[1, zlib.crc32(_name.encode())]))

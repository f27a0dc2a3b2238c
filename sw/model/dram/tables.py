"""A run's constants, requests and state as plain memory: what the compiled loop in `machine` works on.

All sizes are those of the largest memory system, so one compiled function serves every configuration. Its signature contains every field
and, as the name of one, a digest of this folder's sources: so a function cached on disk is never taken after a change, which numba would
not see in another file. A unit is channel * ranks + rank. The DRAM's state is kept as absolute cycles: `..._from`, `group_...` and
`rank_...` are the first cycle in which such a command may be on the pins.
"""

import hashlib
from pathlib import Path

import numpy as np

from gen.dram import LINK_LATENCY, SOON, DramConfig, DramError
from gen.nda import CHUNK_BLOCKS, DESCRIPTOR, LANES, LFSR_TAPS, PARAMETERS, STEPS, SUMS, Operation, Policy, settle
from gen.traffic import Workload
from sw.dram.mapping import locate

CHANNELS, RANKS, BANKS, GROUPS, ENTRIES = 4, 4, 32, 4, 64     # the largest system
UNITS, PLAYERS, RING = CHANNELS * RANKS, 64, 256
MOST_STEPS = max(map(len, STEPS.values()))
FIELDS = ("operation", "policy", "flip", "streams", "blocks", "step", "start", "seed")    # of the descriptor, beside the operands


SOURCES = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))).hexdigest()[:16]


def _layout(numbers: str, **arrays: tuple[int, ...]) -> np.dtype:
    """64-bit numbers and arrays of them, by name."""
    return np.dtype([(name, np.int64) for name in numbers.split()] + [(name, np.int64, shape) for name, shape in arrays.items()])


CONSTANTS = _layout(
    # row_top: number of the launch row; row_low: bits of a row below the swapped ones; first_reserved: bank id from which banks are
    # reserved; forced: owed refreshes that do not wait; answer: cycles from an RD on the pins to its response; last_beat: from a WR on the
    # pins to its last beat; link: each way between host and controller; players: cores and the launcher; repeat: of the launches
    "channels ranks banks groups row_top row_low reserved reserved_bits swapped_bits column_bits colours first_reserved drain_high "
    "drain_low patience forced soon answer last_beat settle link depth burst chunk next_rank operand_x indexed gemv players repeat "
    "rcd ras rc rp rtp wr ccd_s ccd_l rrd_s rrd_l faw wtr_s wtr_l rtw rfc refi rd_rd rd_wr wr_rd wr_wr",
    size=(2,), first=(PLAYERS + 1,), window=(PLAYERS,), taps=(len(LFSR_TAPS),),
    operand=(len(STEPS), MOST_STEPS), write=(len(STEPS), MOST_STEPS), repeated=(len(STEPS), MOST_STEPS + 1), steps=(len(STEPS),),
    sums=(len(STEPS),))
"""Numbers that do not change in a run. Requests of core i are first[i] .. first[i+1]-1, the launches follow the last core."""

REQUEST = _layout("player gap write block channel rank bank row column asked")
"""One request; asked: the cycle in which it was first offered."""

LAUNCH = _layout(" ".join(("wait", *FIELDS)), frame=(4,), words=(LANES,))
"""What a launch write carries: the descriptor decoded, and the words as they are."""

STATE = _layout(
    # time: the cycle; served: the player accepted last; accepted: requests of cores; repetition: of the launches; reading: reads under way
    f"time served accepted repetition reading ended sources_{SOURCES}",
    # cores and launcher
    next=(PLAYERS,), last=(PLAYERS,), offered=(PLAYERS,), outstanding=(PLAYERS,), done=(PLAYERS,),
    # requests by number (-1: none); the queues are reads, writes
    arriving=(CHANNELS,), incoming=(CHANNELS,), queue=(CHANNELS, 2, ENTRIES), count=(CHANNELS, 2), waited=(CHANNELS, 2),
    draining=(CHANNELS,),
    entries=(UNITS,), guests=(UNITS,), active=(UNITS,),      # queued requests for the rank; those of them for reserved banks
    # the bus: rank of the last column command, first RD and WR of other ranks; the pins
    bus_rank=(CHANNELS,), bus_rd=(CHANNELS,), bus_wr=(CHANNELS,),
    pin_kind=(CHANNELS,), pin_rank=(CHANNELS,), pin_bank=(CHANNELS,), pin_row=(CHANNELS,), pin_request=(CHANNELS,),
    # the link: requests on their way (cycle in which they are offered, request), cycles in which credits return; `active` at the host, and
    # that of the last cycles at the channel
    way=(CHANNELS, RING, 2), way_head=(CHANNELS,), way_end=(CHANNELS,), credit=(CHANNELS, RING), credit_head=(CHANNELS,), shown=(UNITS,),
    history=(UNITS,),
    hold_all=(UNITS,), hold_writes=(UNITS,), next_all=(UNITS,), next_writes=(UNITS,),
    # reads on their way back: (cycle of the response, request); launch blocks on their way to a unit: (cycle of the last beat, request)
    back=(CHANNELS, RING, 2), back_head=(CHANNELS,), back_end=(CHANNELS,),
    coming=(UNITS, RING, 2), coming_head=(UNITS,), coming_end=(UNITS,),
    # ranks
    owed=(UNITS,), refresh=(UNITS,), frozen=(UNITS,), row=(UNITS, BANKS), open_banks=(UNITS,), hit=(UNITS, BANKS),
    column_from=(UNITS, BANKS), act_from=(UNITS, BANKS), pre_from=(UNITS, BANKS), group_act=(UNITS, GROUPS), group_rd=(UNITS, GROUPS),
    group_wr=(UNITS, GROUPS), rank_act=(UNITS,), rank_rd=(UNITS,), rank_wr=(UNITS,), rank_prea=(UNITS,), rank_ref=(UNITS,),
    four=(UNITS, 4), four_next=(UNITS,),
    # near-data units: the launch at work, the sequencer, where it goes next, what it commits in this cycle
    busy=(UNITS,), launch=(UNITS,), parameters=(UNITS, PARAMETERS), chunk=(UNITS,), step=(UNITS,), stream=(UNITS,), block=(UNITS,),
    summing=(UNITS,), settle_from=(UNITS,), lfsr=(UNITS,), overrun=(UNITS,),
    aim_write=(UNITS,), aim_bank=(UNITS,), aim_row=(UNITS,), aim_column=(UNITS,), left=(UNITS,), length=(UNITS,),
    commit=(UNITS,), commit_bank=(UNITS,))
"""Registers of the machine and of the bench, changed in place."""


def constants(config: DramConfig, workload: Workload) -> np.ndarray:
    """CONSTANTS of a run."""
    part, gaps, timing = config.part, config.gaps, config.timing
    if len(workload.cores) >= PLAYERS:
        raise DramError(f"cores = {len(workload.cores)} is outside 0..{PLAYERS - 1}")
    made = np.zeros(1, CONSTANTS)
    values = {name: getattr(gaps, name) for name in CONSTANTS.fields or () if hasattr(gaps, name)} | {
        "channels": config.channels, "ranks": config.ranks, "banks": part.all_banks, "groups": part.bank_groups, "row_top": part.rows - 1,
        "row_low": config.field_bits["row"] - config.swapped_bits, "reserved": config.reserved, "reserved_bits": config.reserved_bits,
        "swapped_bits": config.swapped_bits, "column_bits": config.field_bits["column"], "colours": config.colours,
        "first_reserved": part.all_banks - config.reserved, "drain_high": config.drain_high, "drain_low": config.drain_low,
        "patience": config.patience, "forced": config.refresh_forced, "soon": SOON, "answer": timing["tCL"] + part.burst_cycles,
        "last_beat": timing["tCWL"] + part.burst_cycles - 1, "settle": settle(timing),
        "link": LINK_LATENCY if config.interface == "packet" else 0, "depth": 2 * LINK_LATENCY, "burst": part.burst_cycles,
        "chunk": CHUNK_BLOCKS, "next_rank": Policy.NEXT_RANK, "operand_x": 0,
        "indexed": Operation.GATHER, "gemv": Operation.GEMV, "players": len(workload.cores) + 1, "repeat": workload.repeat,
        "size": (config.read_entries, config.write_entries), "taps": LFSR_TAPS,
    }
    for name, value in values.items():
        made[name][0] = value
    first = np.cumsum([0, *(len(core.gaps) for core in workload.cores), len(workload.launches)])
    made["first"][0, :len(first)] = first
    made["window"][0, :len(workload.cores)] = [core.window for core in workload.cores]
    for operation, sequence in STEPS.items():
        made["steps"][0, operation], made["sums"][0, operation] = len(sequence), operation in SUMS
        for number, step in enumerate(sequence):
            for name in ("operand", "write", "repeated"):
                made[name][0, operation, number] = getattr(step, name)
    return made


def requests(config: DramConfig, workload: Workload) -> tuple[np.ndarray, np.ndarray]:
    """REQUESTs and LAUNCHes of a run, every address decoded. Raises DramError for one that the model cannot follow."""
    cores, launches = workload.cores, workload.launches
    for number, core in enumerate(cores):
        if not len(core.gaps) == len(core.blocks) == len(core.writes):
            raise DramError(f"core {number}: gaps, blocks and writes have {len(core.gaps)}, {len(core.blocks)}, {len(core.writes)} entries")
        if len(core.gaps) and int(core.gaps.min()) < 1:
            raise DramError(f"core {number}: gaps = 0 is outside 1..4294967295 cycles")
        if core.window < 1:
            raise DramError(f"core {number}: window = {core.window} is outside 1 and more")
    own = sum(len(core.gaps) for core in cores)
    made, carried = np.zeros(own + len(launches), REQUEST), np.zeros(len(launches), LAUNCH)
    made["player"], made["write"], at = len(cores), 1, 0
    for number, core in enumerate(cores):
        part = made[at:at + len(core.gaps)]
        part["player"], part["gap"], part["write"], part["block"] = number, core.gaps, core.writes, core.blocks
        at += len(part)
    made["block"][own:] = [launch.block for launch in launches]
    place = locate(config, made["block"])
    for name, value in place._asdict().items():
        made[name] = value
    registers = (place.row == config.part.rows - 1) & (place.bank == config.part.all_banks - 1) & (config.reserved > 0)
    if registers[:own].any():
        raise DramError(f"block = {int(made['block'][np.argmax(registers[:own])])} is a launch register: only launches may go there")
    if not registers[own:].all():
        raise DramError(f"launch block = {int(made['block'][own + np.argmin(registers[own:])])} is no launch register")
    if workload.repeat == 0 and launches and not any(launch.wait for launch in launches):
        raise DramError("repeat = 0 needs a launch that waits")
    carried["wait"] = [launch.wait for launch in launches]
    if wrong := [len(launch.data) for launch in launches if len(launch.data) != 4 * LANES]:
        raise DramError(f"launch data = {wrong[0]} bytes: a launch register takes {4 * LANES}")
    words = carried["words"] = np.array([np.frombuffer(launch.data, "<u4") for launch in launches], np.int64).reshape(-1, LANES)
    for name in (*FIELDS, *"xyzw"):
        item = DESCRIPTOR[name]
        value = words[:, item.word] >> item.low & (1 << item.width) - 1
        if name in FIELDS:
            carried[name] = value
        else:
            carried["frame"][:, "xyzw".index(name)] = value
    for launch in np.flatnonzero(place.column[own:] == 0):
        if carried["operation"][launch] >= len(STEPS):
            raise DramError(f"launch {launch}: operation = {carried['operation'][launch]} is outside 0..{len(STEPS) - 1}")
        if not carried["blocks"][launch]:
            raise DramError(f"launch {launch}: blocks = 0 is outside 1..4294967295")
        if not carried["streams"][launch] and any(step.repeated for step in STEPS[Operation(carried["operation"][launch])]):
            raise DramError(f"launch {launch}: streams = 0 is outside 1..128")
    return made, carried


def state(config: DramConfig, workload: Workload) -> np.ndarray:
    """STATE after reset."""
    made = np.zeros(1, STATE)
    for name in ("row", "hit", "arriving", "incoming", "offered"):
        made[name] = -1
    made["served"] = len(workload.cores)      # the launcher counts as the one served last: core 0 is first
    return made

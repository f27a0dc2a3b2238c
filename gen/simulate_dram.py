"""Simulation of the DRAM system: the RTL built with Verilator, cached by content, with cores, launcher, DRAM and scoreboard in C++."""

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from gen import verilog
from gen.dram import DramConfig
from gen.files import BUILD, digest, sources_digest, versions, write_if_changed
from gen.simulate import (
    ARGUMENTS,
    OPTIMISE,
    SIM,
    SimulationError,
    build_environment,
    build_once,
    find_verilator,
    keep_only,
    log_of,
)
from gen.traffic import COMMAND_RECORD, READ_RECORD, Recording, Workload

SOURCES = ("dram_bench.cpp", "dram_device.h")
OUTSTANDING = 1024    # reads with different tags

Location = tuple[int, int, int, int, int]    # channel, rank, bank id, row, column


@dataclass(frozen=True)
class DramJob:
    """A workload, blocks to put into the DRAM before it (64 bytes, or those of the part's burst) and blocks to bring back after it.

    Where nothing was loaded or written the DRAM holds `pattern`. `limit` is the cycle in which to give up (0: never). `record` False leaves
    `commands` empty.
    """

    workload: Workload
    load: Mapping[Location, bytes] = field(default_factory=dict, repr=False)
    store: tuple[Location, ...] | list[Location] = field(default=(), repr=False)
    limit: int = 0
    record: bool = True


@dataclass
class DramRecording(Recording):
    """A recording with what the bench found wrong. `blocks` is keyed by location.

    `errors` are the first of the `data_errors`, a line each: reads that returned something else than was written, and commands the DRAM
    cannot follow. `overruns` counts cycles, from the first launch that was ignored on (all units together).
    """

    overruns: int = 0
    errors: tuple[str, ...] = ()


class DramSimulator:
    """Runs jobs on the RTL of a memory system. `factory(config)` may give another top with the ports of `rtl.memory.dram_system`."""

    def __init__(self, config: DramConfig, *, factory: Callable | None = None):
        self.config = config
        self.factory = factory

    def build(self) -> Path:
        """The folder with the simulator; built unless the same content was built before.

        Where only the sources decide (no factory) a note from sources to folder saves the conversion to Verilog.
        """
        executable, tool = find_verilator()
        settings = [settings_header(self.config), *((SIM / name).read_text() for name in SOURCES), tool, *ARGUMENTS, OPTIMISE]
        note = BUILD / "sim" / "dram" / digest(sources_digest(), repr(self.config), json.dumps(versions(*verilog.TOOLS)), *settings)
        if self.factory is None and note.exists():
            folder = BUILD / "sim" / note.read_text()
            if (folder / "bench").exists():
                return folder
        design = verilog.convert((self.factory or dram_system)(self.config))
        key = digest(design.verilog, *settings)
        folder = build_once(key, lambda part: self._compile(part, design, executable))
        if self.factory is None:
            write_if_changed(note, key)
        return folder

    def _compile(self, part: Path, design: verilog.Design, executable: Path):
        (part / "flexwave.v").write_text(design.verilog)
        (part / "control.vlt").write_text("\n".join(["`verilator_config", *(f'no_inline -module "{name}"' for name in design.shared), ""]))
        (part / "dram_config.h").write_text(settings_header(self.config))
        for name in SOURCES:
            shutil.copy(SIM / name, part)
        command = [
            str(executable), "--cc", "--exe", "--build", "--top-module", verilog.TOP, "--prefix", "Vdram", "-Mdir", ".", "-o", "bench",
            *ARGUMENTS, "-CFLAGS", "-std=c++17", "control.vlt", "flexwave.v", SOURCES[0]]
        environment = os.environ | build_environment(executable, os.environ.get("PATH", ""))
        with open(part / "build.log", "w") as log:
            code = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, env=environment, cwd=part).returncode
        if code:
            raise SimulationError(f"building the simulator failed (Verilator ended with {code}), see {log_of(part)}")
        keep_only(part, ("bench", "build.log", "flexwave.v", "control.vlt", "dram_config.h", *SOURCES))

    def run(self, jobs: list[DramJob], progress: Callable[[int], None] | None = None,
            share: Callable[[float], None] | None = None) -> list[DramRecording]:
        """Run jobs one after the other in one process, each from a reset.

        `progress` is told how many are done, `share` now and then which part (0 to 1) of all the cores' requests were accepted. Raises
        SimulationError if the simulator cannot be built or dies, if a job meets its limit, or if nothing moves any more.
        """
        if not jobs:
            return []
        plans = [plan(self.config, job) for job in jobs]
        folder = self.build()
        (BUILD / "run").mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(dir=BUILD / "run"))
        for number, text in enumerate(plans):
            (scratch / f"{number}.job").write_bytes(text)
        sizes = [sum(len(core.gaps) for core in job.workload.cores) for job in jobs]
        log = scratch / "simulation.log"
        with open(log, "w") as errors, subprocess.Popen(
                [str(folder / "bench"), str(len(jobs))], cwd=scratch, stdout=subprocess.PIPE, stderr=errors, text=True) as process:
            assert process.stdout
            try:
                for line in process.stdout:     # jobs done, requests accepted in the next one
                    done, accepted = map(int, line.split())
                    if progress and not accepted:
                        progress(done)
                    if share and sum(sizes):
                        share((sum(sizes[:done]) + accepted) / sum(sizes))
            except BaseException:
                process.kill()
                raise
        if process.returncode:
            raise SimulationError(f"the simulation failed (it ended with {process.returncode}), see {log}")
        if missing := [number for number in range(len(jobs)) if not (scratch / f"{number}.json").exists()]:
            raise SimulationError(f"job {missing[0]} of {len(jobs)} did not end, see {log}")
        recordings = [_recording(scratch, number, job, self.config) for number, job in enumerate(jobs)]
        shutil.rmtree(scratch, ignore_errors=True)
        return recordings


def dram_system(config: DramConfig):
    """The DRAM system of a configuration, as an Amaranth component."""
    from rtl.memory.dram_system import DramSystem

    return DramSystem(config)


def settings_header(config: DramConfig) -> str:
    """What the bench must know of a configuration besides the ports."""
    part, timing = config.part, config.timing
    values = {
        "CHANNELS": config.channels, "RANKS": config.ranks, "BANKS": part.all_banks, "CL": timing["tCL"], "CWL": timing["tCWL"],
        "BURST": part.burst_cycles, "BEAT_BYTES": part.beat_bytes, "BLOCK_BYTES": part.block_bytes, "SWAPPED": config.swapped_bits,
    }
    number = {"channel": 0, "rank": 1, "bank": 2, "row": 3, "column": 4}
    layout = [(number[name], bits) for name, bits in config.layout]
    hashes = [(number[name], bit, mask) for name, masks in config.hash_masks.items() for bit, mask in enumerate(masks)] or [(0, 0, 0)]

    def rows(values: list[tuple[int, ...]]) -> str:
        return ", ".join(f"{{{', '.join(map(str, value))}}}" for value in values)

    return "".join(f"constexpr int {name} = {value};\n" for name, value in values.items()) + (
        f"constexpr struct {{ int field, bits; }} LAYOUT[] = {{{rows(layout)}}};\n"
        f"constexpr struct {{ int field, bit; unsigned long long mask; }} HASH[] = {{{rows(hashes)}}};\n")


def location_number(config: DramConfig, location: Location) -> int:
    """A location as the one number that the bench's files use. Raises ValueError if there is no such location."""
    part = config.part
    limits = (config.channels, config.ranks, part.all_banks, part.rows, part.row_blocks)
    names = ("channel", "rank", "bank", "row", "column")
    for name, value, limit in zip(names, location, limits, strict=True):
        if not 0 <= value < limit:
            raise ValueError(f"{name} = {value} of location {tuple(location)} is outside 0..{limit - 1}")
    channel, rank, bank, row, column = map(int, location)
    return channel << 56 | rank << 48 | bank << 40 | row << 16 | column


def pattern(config: DramConfig, location: Location) -> bytes:
    """What the simulated DRAM holds where nothing was loaded or written."""
    mask = (1 << 64) - 1
    words = []
    for i in range(8):
        x = (location_number(config, location) * 8 + i + 0x9E3779B97F4A7C15) & mask    # splitmix64
        x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 & mask
        x = (x ^ x >> 27) * 0x94D049BB133111EB & mask
        words.append((x ^ x >> 31).to_bytes(8, "little"))
    return b"".join(words)[:config.part.block_bytes]


def plan(config: DramConfig, job: DramJob) -> bytes:
    """The file of a job. Raises ValueError for a workload that cannot run."""
    work, size = job.workload, config.part.block_bytes

    def numbers(*values: int) -> bytes:
        return np.array(values, "<u8").tobytes()

    def padded(data: bytes, what: str) -> bytes:
        if len(data) != size:
            raise ValueError(f"{what} has {len(data)} bytes, allowed are {size}")
        return data.ljust(64, b"\0")

    if work.repeat < 0 or (work.repeat == 0 and work.launches and not any(launch.wait for launch in work.launches)):
        raise ValueError(f"repeat = {work.repeat} is outside 1.. (0 needs a launch with a wait)")
    parts = [numbers(len(work.cores), len(work.launches), len(job.load), len(job.store), work.repeat, job.limit, job.record)]
    for number, core in enumerate(work.cores):
        count = len(core.gaps)
        if len(core.blocks) != count or len(core.writes) != count:
            raise ValueError(f"core {number} has {count} gaps, {len(core.blocks)} blocks and {len(core.writes)} writes")
        if count and not 0 <= int(core.blocks.max()) < config.blocks:
            raise ValueError(f"block = {core.blocks.max()} of core {number} is outside 0..{config.blocks - 1}")
        if count and core.gaps.min() < 1:
            raise ValueError(f"gap = {core.gaps.min()} of core {number} is outside 1..{2**32 - 1}")
        if not 1 <= core.window <= OUTSTANDING:
            raise ValueError(f"window = {core.window} of core {number} is outside 1..{OUTSTANDING}")
        parts += [numbers(count, core.window), core.gaps.astype("<u4").tobytes(), core.blocks.astype("<u8").tobytes(),
                  core.writes.astype("u1").tobytes()]
    if (total := sum(core.window for core in work.cores)) > OUTSTANDING:
        raise ValueError(f"sum of windows = {total} is outside 0..{OUTSTANDING}")
    for number, launch in enumerate(work.launches):
        if not 0 <= launch.block < config.blocks:
            raise ValueError(f"block = {launch.block} of launch {number} is outside 0..{config.blocks - 1}")
        if not 0 <= launch.wait < 1 << config.channels * config.ranks:
            raise ValueError(f"wait = {launch.wait} of launch {number} is outside 0..{(1 << config.channels * config.ranks) - 1}")
        parts += [numbers(launch.block, launch.wait), padded(launch.data, f"launch {number}")]
    for location, data in job.load.items():
        parts += [numbers(location_number(config, location)), padded(data, f"the block at {location}")]
    parts.append(numbers(*(location_number(config, location) for location in job.store)))
    return b"".join(parts)


def _recording(scratch: Path, number: int, job: DramJob, config: DramConfig) -> DramRecording:
    data = json.loads((scratch / f"{number}.json").read_text())
    state = f"{data['accepted']} of {data['total']} requests accepted, {data['outstanding']} reads without answer, see {scratch}"
    if data["stopped"] == "limit":
        raise SimulationError(f"job {number} did not end within {job.limit} cycles: {state}")
    if data["stopped"]:
        raise SimulationError(f"job {number} stood still in cycle {data['cycles']}: {state}")
    size = config.part.block_bytes
    text = (scratch / f"{number}.blocks").read_bytes()
    blocks: dict = {tuple(location): text[64 * i:64 * i + size] for i, location in enumerate(job.store)}
    return DramRecording(
        commands=np.fromfile(scratch / f"{number}.commands", COMMAND_RECORD), reads=np.fromfile(scratch / f"{number}.reads", READ_RECORD),
        host_done=max(data["core_done"], default=0), core_done=tuple(data["core_done"]), cycles=data["cycles"],
        data_errors=data["data_errors"], replica_mismatches=data["mismatches"],
        blocks=blocks, overruns=data["overruns"], errors=tuple(data["errors"]))

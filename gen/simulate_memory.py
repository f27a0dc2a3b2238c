"""RTL simulation of the accelerator on its own DRAM: `gen.simulate` with the simulated DRAM device in place of the memory port's model."""

import dataclasses
import json
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from gen import verilog
from gen.config import Config
from gen.dram import SDR_STAGES, DramConfig, DramError
from gen.files import BUILD, digest, sources_digest, versions, write_if_changed
from gen.registers import registers
from gen.simulate import (
    ARGUMENTS,
    MEMORY_BYTES,
    OPTIMISE,
    SIM,
    Job,
    Outcome,
    SimulationError,
    Simulator,
    build_once,
    control_file,
    find_verilator,
    from_hex,
    keep_only,
    log_of,
    outcome_of,
    plan_of,
    runner,
    to_hex,
)

SOURCES = ("memory_bench.sv", "sdr_chip.sv", "dram_array.sv")
REGISTER_ADDRESS_BITS = 12
INIT_CYCLES = 32      # power-up wait of an SDR chip in simulation: the real one is 200 us


class MemorySimulator(Simulator):
    """Runs jobs on `rtl.memory.accelerator_system.AcceleratorSystem`; images start at the DRAM's first byte.

    One channel with one rank and the row on top of the address, so that an image lies in the DRAM's first rows. `Job.stalls` is 0.
    """

    def __init__(self, config: Config, dram: DramConfig, *, factory: Callable | None = None, waves: bool = False):
        super().__init__(config, factory=factory, waves=waves)
        for name in ("channels", "ranks"):
            if getattr(dram, name) != 1:
                raise DramError(f"{name} = {getattr(dram, name)} is outside 1 (accelerator on simulated DRAM)")
        row = ["row"] * dram.field_bits["row"]
        if [name for name, bits in dram.layout for _ in range(bits)][-len(row):] != row:
            raise DramError("layout = this order is outside those with the row on top (accelerator on simulated DRAM)")
        self.dram = dram

    def build(self, memory_bytes: int = MEMORY_BYTES) -> Path:
        """The folder with the simulator for images up to `memory_bytes`; built unless the same content was built before."""
        parameters = bench_parameters(self.dram, memory_bytes)
        parameters["REGISTER_ADDRESS_BITS"] = REGISTER_ADDRESS_BITS
        parameters["CONTROL"] = next(item.offset for item in registers(self.config.array.groups) if item.name == "control")
        texts, (executable, tool) = [(SIM / name).read_text() for name in SOURCES], find_verilator()
        settings = json.dumps([parameters, versions("cocotb"), tool, ARGUMENTS, OPTIMISE, self.waves, self.dram.part.family])
        # Where only the sources decide, a note from sources to folder saves the conversion to Verilog.
        note = BUILD / "sim" / "memory" / digest(
            sources_digest(), self.config.digest(), repr((self.dram, self.dram.timing)),
            json.dumps(versions(*verilog.TOOLS)), *texts, settings)
        if self.factory is None and note.exists() and (BUILD / "sim" / note.read_text() / "bench").exists():
            return BUILD / "sim" / note.read_text()
        design = self._design = self._design or verilog.convert((self.factory or self._system)(self.config))
        key = digest(design.verilog, *texts, settings)
        folder = build_once(key, lambda part: self._compile(part, design, parameters, executable))
        if self.factory is None:
            write_if_changed(note, key)
        return folder

    def _system(self, config: Config):
        from rtl.memory.accelerator_system import AcceleratorSystem

        return AcceleratorSystem(config, self.dram, init_cycles=INIT_CYCLES)

    def _compile(self, part: Path, design: verilog.Design, parameters: dict[str, int], executable: Path):
        (part / "flexwave.v").write_text(design.verilog)
        for name in SOURCES:
            shutil.copy(SIM / name, part)
        (part / "control.vlt").write_text(control_file(part / SOURCES[0], design.shared))
        trace = ["--trace-fst", "--trace-structs"] if self.waves else []
        try:
            runner(executable).build(
                sources=[part / name for name in ("control.vlt", "flexwave.v", *SOURCES)], hdl_toplevel="bench", build_dir=part,
                parameters=parameters, build_args=[*ARGUMENTS, *trace], defines={"SDR": 1} if self.dram.part.family == "sdr" else {},
                timescale=("1ns", "1ns"), always=True, waves=self.waves, log_file=part / "build.log")
        except (subprocess.CalledProcessError, SystemExit, RuntimeError) as error:
            raise SimulationError(f"building the simulator failed ({error}), see {log_of(part)}") from None
        keep_only(part, ("bench", "build.log", "flexwave.v", "control.vlt", *SOURCES))

    def run(self, jobs: list[Job], progress: Callable[[int], None] | None = None) -> list[Outcome]:
        """As `Simulator.run`. Raises DramError for an image larger than the DRAM; SimulationError also where a datasheet is not kept."""
        if not jobs:
            return []
        for job in jobs:
            if job.image.size > self.dram.bytes:
                raise DramError(f"image = {job.image.size} bytes is outside 1..{self.dram.bytes} (part {self.dram.part.name})")
            if job.stalls or job.pace != 1:
                raise ValueError(f"stalls = {job.stalls}, pace = {job.pace}: a simulated DRAM has its own")
        folder = self.build(self.capacity(jobs))
        runs = BUILD / "run"
        runs.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(dir=runs))
        size, plans = self.dram.part.block_bytes, []
        for number, job in enumerate(jobs):
            blocks = self._frames(0, job.image.size)[1]
            placed = np.zeros((blocks, size), np.uint8)
            placed[device_order(self.dram, np.arange(blocks))] = padded(job.image, blocks * size).reshape(blocks, size)
            (scratch / f"{number}.image").write_text(to_hex(placed.reshape(-1), size))
            first, end = self._frames(*job.result)
            plans.append(plan_of(job, size) | {"image_beats": blocks})
            if job.result[1]:
                plans[-1] |= {"result_first": first, "result_last": end - 1}
        (scratch / "jobs.json").write_text(json.dumps({"groups": self.config.array.groups, "jobs": plans}))
        self._simulate(folder, scratch, len(jobs), progress)
        outcomes = [self._result(scratch, number, job) for number, job in enumerate(jobs)]
        if not self.waves:
            shutil.rmtree(scratch, ignore_errors=True)
        return outcomes

    def _frames(self, address: int, size: int) -> tuple[int, int]:
        """First and last + 1 block of the whole rows (in all banks) that hold these bytes: there the device's order stays inside."""
        frame = self.dram.frame_blocks * self.dram.part.block_bytes
        return address // frame * self.dram.frame_blocks, -(-(address + size) // frame) * self.dram.frame_blocks

    def _result(self, scratch: Path, number: int, job: Job) -> Outcome:
        outcome = outcome_of(scratch, number, dataclasses.replace(job, result=(0, 0)), 1)
        address, size = job.result
        if not size:
            return outcome
        first, end = self._frames(address, size)
        placed = from_hex((scratch / f"{number}.result").read_text(), self.dram.part.block_bytes).reshape(end - first, -1)
        linear = placed[device_order(self.dram, np.arange(first, end)) - first].reshape(-1)
        start = address - first * self.dram.part.block_bytes
        return dataclasses.replace(outcome, result=linear[start:start + size])


def padded(image: np.ndarray, size: int) -> np.ndarray:
    """An image with zeros behind it."""
    return np.concatenate([image, np.zeros(size - image.size, np.uint8)])


def device_order(dram: DramConfig, blocks: np.ndarray) -> np.ndarray:
    """Place of each block number in the order {row, rank, bank, column} of a channel without reserved banks."""
    raw, at = {name: np.zeros_like(blocks) for name in dram.field_bits}, dict.fromkeys(dram.field_bits, 0)
    position = 0
    for name, bits in dram.layout:
        raw[name] |= (blocks >> position & (1 << bits) - 1) << at[name]
        position, at[name] = position + bits, at[name] + bits
    place = raw["row"]
    for name in ("rank", "bank"):
        value = raw[name]
        for bit, mask in enumerate(dram.hash_masks[name]):
            value = value ^ (np.bitwise_count(raw["row"] & mask) & 1).astype(value.dtype) << bit
        place = place << dram.field_bits[name] | value
    return place << dram.field_bits["column"] | raw["column"]


def bench_parameters(dram: DramConfig, memory_bytes: int) -> dict[str, int]:
    """Parameters of `memory_bench.sv`: shape of the DRAM, and for an SDR chip its datasheet in cycles."""
    part, timing, bits = dram.part, dram.timing, dram.field_bits
    sdr = part.family == "sdr"
    return {
        "BUS_BYTES": part.beat_bytes, "BURST": part.burst_cycles, "ADDRESS_BITS": max(bits["row"], 11), "ROW_BITS": bits["row"],
        "BANK_BITS": bits["bank"], "COLUMN_BITS": bits["column"],
        "BLOCKS": max(dram.frame_blocks, min(dram.blocks, memory_bytes // part.block_bytes)),
        "INIT": INIT_CYCLES, "CL": timing["tCL"] - (SDR_STAGES if sdr else 0), "CWL": timing["tCWL"], "RCD": timing["tRCD"],
        "RP": timing["tRP"], "RAS": timing["tRAS"], "RC": timing["tRC"], "RFC": timing["tRFC"], "RRD": timing["tRRD_S"],
        "WR": timing["tWR"], "MRD": timing["tMRD"], "REFI": timing["tREFI"],
    }

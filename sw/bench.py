"""Benchmarks: how long generating and building take, how fast the RTL runs, and the cycles of reference GEMMs beside published yardsticks.

Run: `make bench`, or `python -m sw.bench [--no-paper]`. Seconds are of this machine and this run; cycles and ratios are not.
The yardsticks are SCALE-Sim's formulas for weight- and output-stationary arrays, compute only, and the bound of a weight-stationary
array that loads each tile behind the one before. Our array cycles count from the first to the last active cycle and include every
stall in between, our total cycles everything.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from gen import simulate, verilog
from gen.config import Config
from sw.cli.console import progress
from sw.frontends.scalesim import Row, output_stationary, overlapped, weight_stationary
from sw.runtime.gemm import gemms, random_operands
from sw.runtime.report import Report

GEMMS = {"small": [(64, 64, 64), (128, 128, 128), (256, 256, 256)],
         "base": [(64, 64, 64), (128, 128, 128), (256, 256, 256), (512, 512, 512), (1, 1024, 1024), (512, 512, 16)]}
PAPER = [(256, 128, 128), (256, 64, 128), (256, 128, 64), (256, 64, 64), (256, 192, 192)]


def fresh_build(config: Config) -> tuple[float, float]:
    """Seconds to generate the Verilog and to build the simulator, nothing cached."""
    start = time.perf_counter()
    verilog.convert(verilog.machine(config))
    generated = time.perf_counter() - start
    kept, built = simulate.BUILD, 0.0
    with tempfile.TemporaryDirectory() as folder:
        verilog.design(config)
        simulate.BUILD = Path(folder)
        try:
            start = time.perf_counter()
            simulate.Simulator(config).build()
            built = time.perf_counter() - start
        finally:
            simulate.BUILD = kept
    return generated, built


def run(config: Config, sizes: list[tuple[int, int, int]]) -> tuple[list[Report], float]:
    """All products in one simulator process, and the simulated cycles per second (loading of the images included)."""
    simulate.Simulator(config).build()
    pairs = [random_operands(m, n, k, 0) for m, n, k in sizes]
    start = time.perf_counter()
    reports = gemms(config, pairs)
    return reports, sum(report.cycles or 0 for report in reports) / (time.perf_counter() - start)


def line(config: Config, report: Report) -> str:
    """A GEMM beside the yardsticks."""
    row, side = Row("", report.m, report.n, report.k), 2 * config.array.side
    moved = (report.traffic["dram_read_bytes"] + report.traffic["dram_write_bytes"]) / config.memory.bytes_per_cycle
    fine = "yes" if report.exact and not report.mismatches else "NO"
    return (f"{f'{row.m} x {row.n} x {row.k}':18} {f'{side}x{side}':8} {fine:5} {report.cycles:9,} {report.array_cycles:9,} "
            f"{report.macs / (config.pes * report.array_cycles):6.1%} {moved:9,.0f} {weight_stationary(row, side):9,} "
            f"{output_stationary(row, side):9,} {overlapped(row, side):9,} "
            + " ".join(f"{count:5}" for count in report.waves.values()))


def main(argv: list[str] | None = None) -> int:
    """Print both tables; 1 if a result or a cycle count is wrong."""
    parser = argparse.ArgumentParser(prog="bench", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--no-paper", action="store_true", help="leave out the 128 x 128 unit, whose build takes minutes")
    options = parser.parse_args(argv)
    presets = ["small", "base"] if options.no_paper else ["small", "base", "paper"]
    speeds, lines, wrong = [], [], False
    for name in presets:
        config = Config.load(name)
        with progress(f"{name}: generating and building") as tell:
            generated, built = fresh_build(config)
            tell(f"{name}: simulating")
            reports, speed = run(config, GEMMS.get(name, PAPER))
        speeds.append(f"{name:8} {config.pes:7,} {generated:11.1f} {built:9.1f} {speed:12,.0f}")
        lines += [line(config, report) for report in reports]
        wrong |= any(report.mismatches for report in reports)
    print(f"{'preset':8} {'PEs':>7} {'generate s':>11} {'build s':>9} {'cycles/s':>12}")
    print("\n".join(speeds))
    print(f"\n{'M x N x K':18} {'array':8} {'exact':5} {'cycles':>9} {'array':>9} {'busy':>6} "
          f"{'memory':>9} {'WS':>9} {'OS':>9} {'overlap':>9}    FW   VSW   HSW   ISW")
    print("\n".join(lines))
    print("\nexact: result and every counter. busy: MACs / (PEs x array cycles). memory: bytes moved / bytes a cycle.\n"
          "WS, OS: SCALE-Sim's formulas without memory; overlap: weight-stationary, tiles loaded behind each other.")
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main())

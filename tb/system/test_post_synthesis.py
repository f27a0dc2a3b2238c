"""The netlist that synthesis makes for ECP5, simulated in Verilator: the array with its buffers and its controller.

Programs of EXECUTE run on the RTL in Amaranth's simulator first, whose every port is recorded; the netlist gets the same inputs and must
give the same outputs in every cycle, and the accumulators of numpy. The netlist is nextpnr's own input; its cells are Yosys's models, but
for block RAM and multiplier, which are black boxes there: `ecp5_blocks.v` has their behaviour. Half of the PEs of `tiny` have multiplier
blocks, half multiply in carry cells.

A whole machine of cells runs matrix products, too: the preset `orangecrab`, or the one that NETLIST names in the environment.
"""

import os
import subprocess
from collections import Counter

import numpy as np
import pytest

from gen import verilog
from gen.config import Config
from gen.simulate import ARGUMENTS, build_environment, find_verilator
from gen.timing import FETCH_LATENCY
from rtl.array.compute import Compute
from sw.runtime.gemm import gemms
from tb.system.netlist import NetlistSimulator, netlist, to_verilog
from tb.unit.test_compute import accumulate, operands, read_of
from tb.unit.test_compute import run as run_on_rtl
from tb.unit.test_execute import expected, random_program

CONFIG = Config.load("tiny")
MULTIPLIERS = 8
# Cells whose tables are inverted, one at a time: in a multiplier of carry cells, the adders of a PE with a block and of an output
# buffer, and the controller. Each is the first cell by name of this type whose name has these parts.
FAULTS = {
    "multiplier in LUTs": ("CCU2C", "core_1.", "multiplier.in_luts.sign_"),
    "sum of a PE": ("CCU2C", "core_2.row_1.pe_1.add_"),
    "accumulator": ("CCU2C", "output_buffer_1.bank_0.lane_0.add_"),
    "controller": ("LUT4", "execute."),
}
BENCH = """
module bench(input clk);
    reg [INPUTS-1:0] stimulus [0:CYCLES-1];
    reg [7:0] fault;
    reg [31:0] cycle = 0;
    integer out;
    string from, to;
    initial begin
        if (!$value$plusargs("stimulus=%s", from) || !$value$plusargs("results=%s", to) || !$value$plusargs("fault=%d", fault))
            $fatal(1, "plusargs");
        $readmemh(from, stimulus);
        out = $fopen(to, "w");
    end
    wire [INPUTS-1:0] in = stimulus[cycle];
    wire [OUTPUTS-1:0] found;
    flexwave dut(.clk(clk), .fault(fault), PORTS);
    always @(posedge clk) begin
        $fwrite(out, "%h\\n", found);
        cycle <= cycle + 1;
    end
endmodule
"""
MAIN = """
#include "Vbench.h"
int main(int count, char **names)
{
    VerilatedContext context;
    context.commandArgs(count, names);
    Vbench bench{&context};
    for (int i = 0; i < 2 * CYCLES && !context.gotFinish(); i++) {
        bench.clk = i & 1;
        bench.eval();
    }
    bench.final();
}
"""
CYCLES = 3000


class Replay:
    """The netlist of the unit of `tiny`, on recorded inputs."""

    def __init__(self, folder):
        self.folder, unit = folder, Compute(CONFIG)
        self.module = netlist(unit, multipliers=MULTIPLIERS)
        self.ports = list(verilog.ports_of(unit))
        cells = self.module["cells"].items()
        self.faults = tuple(min(name for name, cell in cells if cell["type"] == kind and all(part in name for part in parts))
                            for kind, *parts in FAULTS.values())
        (folder / "cells.v").write_text(to_verilog(self.module, self.faults))
        inputs, outputs = self.of("input"), self.of("output")
        wires = [f".{port.name}({bus}[{at} +: {port.width}])" for bus, side in (("in", inputs), ("found", outputs))
                 for port, at in zip(side, np.cumsum([0] + [port.width for port in side]))]
        text = BENCH.replace("PORTS", ", ".join([*wires, ".rst(1'b0)"])).replace("CYCLES", str(CYCLES))
        text = text.replace("INPUTS", str(sum(port.width for port in inputs))).replace("OUTPUTS", str(sum(port.width for port in outputs)))
        (folder / "bench.sv").write_text(text)
        (folder / "main.cpp").write_text(MAIN.replace("CYCLES", str(CYCLES)))
        executable, _ = find_verilator()
        env = os.environ | build_environment(executable, os.environ.get("PATH", ""))
        command = [executable, "--cc", "--exe", "--build", *ARGUMENTS, "--top-module", "bench", "-o", "bench", "--Mdir", folder / "made"]
        built = subprocess.run([*command, *(folder / name for name in ("cells.v", "bench.sv", "main.cpp"))], env=env, capture_output=True,
                               text=True)
        assert built.returncode == 0, built.stdout + built.stderr

    def of(self, direction: str):
        return [port for port in self.ports if port.direction == direction]

    def run(self, record: list[dict], fault: int = 0) -> list[dict]:
        """The bits of every output in every recorded cycle, by name."""
        assert len(record) <= CYCLES

        def pack(values: dict) -> int:
            word, at = 0, 0
            for port in self.of("input"):
                word |= values[port.name] << at
                at += port.width
            return word

        files = {name: self.folder / name for name in ("stimulus", "results")}
        files["stimulus"].write_text("\n".join(f"{pack(values):x}" for values in record) + "\n")
        done = subprocess.run([self.folder / "made" / "bench", f"+fault={fault}", *(f"+{name}={path}" for name, path in files.items())],
                              capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        found = []
        for line in files["results"].read_text().splitlines()[:len(record)]:
            word, values = int(line, 16), {}
            for port in self.of("output"):
                values[port.name], word = word & (1 << port.width) - 1, word >> port.width
            found.append(values)
        assert len(found) == len(record)
        return found


@pytest.fixture(scope="module")
def replay(tmp_path_factory) -> Replay:
    return Replay(tmp_path_factory.mktemp("netlist"))


def recorded(seed: int):
    """A random program on the RTL: the record, the cycle in which each accumulator is read, and what it must be."""
    rng = np.random.default_rng(seed)
    program = random_program(rng, CONFIG, 16, gap=3)
    waves, times = operands(rng, CONFIG, program), expected(CONFIG, program)
    places, record = read_of(CONFIG, 0) + read_of(CONFIG, 1), []
    reads = dict(enumerate(places, start=max(times.signals) + 2))
    run_on_rtl(CONFIG, program, waves, times, reads, record)
    return record, reads, accumulate(CONFIG, program, waves)


def differences(record: list[dict], found: list[dict]) -> list[tuple[int, str]]:
    """Cycle and output wherever the netlist differs from the RTL."""
    return [(cycle, name) for cycle, values in enumerate(found) for name, value in values.items() if record[cycle][name] != value]


def test_both_kinds_of_multiplier_are_in_the_netlist(replay):
    types = Counter(cell["type"] for cell in replay.module["cells"].values())
    assert types["MULT18X18D"] == MULTIPLIERS
    assert types["CCU2C"] >= 50 * (CONFIG.pes - MULTIPLIERS)


@pytest.mark.parametrize("seed", range(3))
def test_netlist_equals_rtl_and_numpy(replay, seed):
    record, reads, wanted = recorded(seed)
    found = replay.run(record)
    assert differences(record, found) == [], seed
    for cycle, place in reads.items():
        values = [found[cycle + FETCH_LATENCY][f"accumulators__data__{column}"] for column in range(CONFIG.array.side)]
        assert values == [int(value) & 0xFFFFFFFF for value in wanted[place]], (seed, place)


@pytest.mark.parametrize("fault", FAULTS)
def test_an_inverted_table_is_seen(replay, fault):
    record, _, _ = recorded(1)
    assert differences(record, replay.run(record, fault=list(FAULTS).index(fault) + 1)) != []


def test_products_of_a_whole_machine(monkeypatch):
    config = Config.load(os.environ.get("NETLIST", "orangecrab"))
    module = netlist(verilog.machine(config), multipliers=config.pes // 2)
    monkeypatch.setattr("gen.simulate.Simulator", lambda config: NetlistSimulator(config, module))
    rng, side = np.random.default_rng(5), config.array.side
    pairs = [(rng.integers(-128, 128, (m, k), np.int8), rng.integers(0, 256, (k, n), np.uint8))
             for m, n, k in [(1, 1, 1), (5 * side + 1, 2 * side + 1, 3 * side), (20 * side, 5 * side, 2 * side)]]
    for report in gemms(config, pairs, a_zero_point=3, b_zero_point=5):
        assert report.exact and report.mismatches == ()
        assert report.cycles == report.model_cycles

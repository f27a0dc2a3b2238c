"""A component as Verilog with vendor primitives, in Verilator with the vendor's models: a function of two words, one pair a cycle."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np

from gen import verilog
from gen.simulate import ARGUMENTS, build_environment, find_verilator

MAIN = """
#include "Vflexwave.h"
#include <cstdint>
#include <cstdio>
int main(int, char **names)
{
    FILE *in = fopen(names[1], "rb"), *out = fopen(names[2], "wb");
    Vflexwave dut;
    int64_t inputs[2];
    while (fread(inputs, sizeof inputs, 1, in)) {
        dut.x = inputs[0]; dut.y = inputs[1];
        dut.clk = 0; dut.eval();
        int64_t results[] = {RESULTS};
        fwrite(results, sizeof results, 1, out);
        dut.clk = 1; dut.eval();
    }
    return fclose(in) || fclose(out);
}
"""


def verilated(component, folder: Path, *, family: str, cells: Path) -> Callable[..., dict[str, np.ndarray]]:
    """`component` has the ports `x` and `y`; the function gives the bits of each of its outputs, by name. `cells`: the models."""
    outputs = [port.name for port in verilog.ports_of(component) if port.direction == "output"]
    (folder / "flexwave.v").write_text(verilog.convert(component, family=family).verilog)
    (folder / "main.cpp").write_text(MAIN.replace("RESULTS", ", ".join(f"(int64_t)dut.{name}" for name in outputs)))
    executable, _ = find_verilator()
    environment = os.environ | build_environment(executable, os.environ.get("PATH", ""))
    command = [executable, "--cc", "--exe", "--build", *ARGUMENTS, "-Wno-fatal", f"-I{cells.parent}", "--top-module", "flexwave",
               "-o", "bench", "--Mdir", folder / "made", folder / "flexwave.v", cells, folder / "main.cpp"]
    built = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr

    def run(x: np.ndarray, y: np.ndarray) -> dict[str, np.ndarray]:
        np.stack([x, y], axis=1).astype("<i8").tofile(folder / "in")
        subprocess.run([folder / "made" / "bench", folder / "in", folder / "out"], check=True)
        return dict(zip(outputs, np.fromfile(folder / "out", "<i8").reshape(-1, len(outputs)).T))

    return run

"""A component as a program, through Verilog and Verilator; and one with vendor primitives as a function of two words, one pair a cycle."""

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


def built(component, folder: Path, main: str, *, family: str | None = None, cells: Path | None = None) -> Path:
    """`main`, in C++, drives `component`, which is a class Vflexwave; the program's path. `cells`: models of the family's primitives."""
    (folder / "flexwave.v").write_text(verilog.convert(component, family=family).verilog)
    (folder / "main.cpp").write_text(main)
    executable, _ = find_verilator()
    environment = os.environ | build_environment(executable, os.environ.get("PATH", ""))
    models = ["-Wno-fatal", f"-I{cells.parent}", cells] if cells else []
    command = [executable, "--cc", "--exe", "--build", *ARGUMENTS, "--top-module", "flexwave", "-o", "bench", "--Mdir", folder / "made",
               folder / "flexwave.v", *models, folder / "main.cpp"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "made" / "bench"


def verilated(component, folder: Path, *, family: str | None = None, cells: Path | None = None) -> Callable[..., dict[str, np.ndarray]]:
    """`component` has the ports `x` and `y`; the function gives the bits of each of its outputs, by name. `cells` as for `built`."""
    outputs = [port.name for port in verilog.ports_of(component) if port.direction == "output"]
    bench = built(component, folder, MAIN.replace("RESULTS", ", ".join(f"(int64_t)dut.{name}" for name in outputs)), family=family,
                  cells=cells)

    def run(x: np.ndarray, y: np.ndarray) -> dict[str, np.ndarray]:
        np.stack([x, y], axis=1).astype("<i8").tofile(folder / "in")
        subprocess.run([bench, folder / "in", folder / "out"], check=True)
        return dict(zip(outputs, np.fromfile(folder / "out", "<i8").reshape(-1, len(outputs)).T))

    return run

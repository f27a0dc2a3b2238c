"""Images of the boards: the iCEBreaker's from the generator to the bitstream, the others up to the netlist that nextpnr gets."""

import json
import shutil
from collections import Counter

import pytest

from boards.fit import DOUBT, needs
from boards.flow import Build
from boards.registry import BOARDS
from gen.config import Config
from gen.files import BUILD

# What one cell of a netlist takes of the device: logic cells (a carry cell has two, a distributed RAM two more for its writes)
LOGIC = {
    "ecp5": {"LUT4": 1, "CCU2C": 2, "TRELLIS_DPR16X4": 6},
    "ice40": {},
    "gowin": {"LUT1": 1, "LUT2": 1, "LUT3": 1, "LUT4": 1, "ALU": 1},
}
MULTIPLIERS = {"ecp5": {"MULT18X18D"}, "ice40": {"SB_MAC16"}, "gowin": {"MULT9X9", "MULT18X18"}}
BLOCK_RAMS = {"ecp5": {"DP16KD", "PDPW16KD"}, "ice40": {"SB_RAM40_4K"}, "gowin": {"SDPB", "SDPX9B", "DPB", "DPX9B", "SPX9", "SP"}}
ICE40_SYNCHRONISATION = bytes.fromhex("7eaa997e")


def fresh_build(name: str) -> Build:
    """A build with nothing of an earlier one, and away from those of a user."""
    folder = BUILD / "tests" / name
    shutil.rmtree(folder, ignore_errors=True)
    return Build(BOARDS[name], Config.load(BOARDS[name].config), folder=folder)


def test_the_icebreaker_has_a_bitstream():
    build = fresh_build("icebreaker")
    board = build.board
    report = build.run(1)
    assert report.median >= report.clock_mhz
    assert report.cells["LUT"] <= board.device.luts and report.cells["SPRAMs"] == 1
    image = (build.folder / "icebreaker.bin").read_bytes()
    assert ICE40_SYNCHRONISATION in image[:64] and len(image) > 100_000
    assert json.loads((build.folder / "report.json").read_text())["macs"] == build.config.pes


@pytest.mark.parametrize("name", [name for name in BOARDS if name != "icebreaker"])
def test_synthesis_of(name):
    build, device = fresh_build(name), BOARDS[name].device
    module = json.loads(build.synthesise().read_text())["modules"]["top"]
    types = Counter(cell["type"] for cell in module["cells"].values())
    luts = sum(types[cell] * weight for cell, weight in LOGIC[device.family].items())
    multipliers = sum(types[cell] for cell in MULTIPLIERS[device.family])
    rams = sum(types[cell] for cell in BLOCK_RAMS[device.family])
    print(f"{name}: {luts} LUT, {multipliers} multipliers, {rams} block RAMs")
    assert luts <= device.luts and multipliers <= device.multipliers and rams <= device.block_rams
    if name == "ulx3s":
        assert luts <= 160 * build.config.pes, "LUT per MAC of the whole design"
    # The estimate by which a machine is refused before synthesis
    wanted = needs(build.board, build.config)
    assert rams == wanted.block_rams
    assert wanted.luts / DOUBT <= luts <= wanted.luts * DOUBT

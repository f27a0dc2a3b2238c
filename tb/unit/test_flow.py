"""Which seeds a board's build places and routes; the tools are replaced."""

import json
from pathlib import Path

import pytest

from boards.flow import Build
from boards.registry import BOARDS
from boards.tools import FlowError
from gen.config import Config

CLOCKS = {1: 101.0, 2: 104.0, 3: 99.0, 4: 108.0, 5: 100.5}


class Pretended(Build):
    """Seeds come to `CLOCKS`, and to `slower` MHz less."""

    slower = 0.0

    def synthesise(self) -> Path:
        """A netlist of one cell."""
        self.ran: list[int] = []
        return self.write('{"cell": "LUT4", "attributes": {"src": "here:1"}}')

    def write(self, text: str) -> Path:
        netlist = self.folder / "top.json"
        netlist.write_text(text)
        return netlist

    def place_and_route(self, seed: int) -> tuple[float, dict[str, int]]:
        """As if it had been."""
        self.ran.append(seed)
        return CLOCKS[seed] - self.slower, {"LUT": 700 + seed}

    def pack(self, seed: int) -> Path:
        """The image of this seed."""
        return self.folder / f"{seed}.bit"


@pytest.fixture
def build(tmp_path):
    return Pretended(BOARDS["ulx3s"], Config.load("ulx3s"), folder=tmp_path)


def kept(report) -> dict:
    return json.loads(report.to_json())


def test_every_seed(build):
    report = build.run(5)
    assert sorted(build.ran) == [1, 2, 3, 4, 5] and report.clocks == CLOCKS
    assert report.median == 101.0 and report.bitstream.endswith("4.bit") and report.cells == {"LUT": 704}


def test_known_seeds_but_the_fastest_are_kept(build):
    first = build.run(3)
    report = build.run(5, kept(first))
    assert sorted(build.ran) == [2, 4, 5] and report.clocks == CLOCKS
    assert report.bitstream.endswith("4.bit") and report.cells == {"LUT": 704}
    assert build.run(5, kept(report)).clocks == CLOCKS and build.ran == [4]


def test_fewer_seeds_than_are_known(build):
    report = build.run(2, kept(build.run(5)))
    assert build.ran == [2] and list(report.clocks) == [1, 2]


def test_another_netlist(build):
    first = kept(build.run(3)) | {"netlist": "another"}
    build.run(3, first)
    assert sorted(build.ran) == [1, 2, 3]


def test_another_clock_of_the_same_netlist(build):
    first = kept(build.run(3))
    build.slower = 0.5
    with pytest.raises(FlowError, match=r"seed 2 came to 103\.5 MHz, and to 104\.0 MHz before"):
        build.run(3, first)


def test_the_digest_is_of_what_is_placed(build):
    """Not of the place of the source, but of everything else."""
    build.synthesise()
    first = build.digest()
    build.write('{"cell": "LUT4", "attributes": {"src": "there:2"}}')
    assert build.digest() == first
    build.write('{"cell": "LUT5", "attributes": {"src": "here:1"}}')
    assert build.digest() != first
    build.synthesise()
    (build.folder / "top.lpf").write_text("FREQUENCY")
    assert build.digest() != first

"""`flexwave reproduce flexsa|mbs|prunetrain|delta|ports`: what is derived or logged, to the last digit; files; laws of the estimates."""

import json
import re

import pytest

from gen.files import ROOT
from sw.cli.main import main
from sw.mbs.schedule import Variant
from sw.mbs.time import MEMORIES, local_bytes, product_cycles
from sw.mbs.traffic import step_traffic
from sw.studies import delta, flexsa, mbs, ports, prunetrain
from sw.studies.table import Claim, claims_table, markdown


@pytest.mark.parametrize("study", [prunetrain, delta])
def test_exact_numbers(study):
    """As many digits as the source has."""
    for claim in study.claims(study.run()):
        assert claim.source in ("log", "derived")
        assert claim.form.format(claim.ours) == claim.form.format(claim.paper), claim.name


def test_flexsa():
    """One state: dense ResNet-50. FlexSA is as busy as four small cores or busier and moves no more than one large array."""
    state = next(flexsa.states())
    base = flexsa.Config.load("paper")
    one, quad, flex = (flexsa.point(state, base, organisation) for organisation in ("1G1C", "1G4C", "1G1F"))
    assert one.macs == quad.macs == flex.macs
    assert one.utilisation < quad.utilisation <= flex.utilisation < 1
    assert flex.local_bytes <= one.local_bytes < quad.local_bytes
    assert one.dram_bytes == quad.dram_bytes == flex.dram_bytes
    assert sum(flex.modes.values()) == pytest.approx(1) and one.modes["FW"] == 1 and quad.modes["ISW"] == 1


def test_product_cycles_by_hand():
    """600 rows: two waves of 256 and one of 88, for each of 2 x 3 tiles."""
    assert product_cycles(600, 200, 300, double_buffered=True) == 6 * (256 + 256 + 128)
    assert product_cycles(600, 200, 300, double_buffered=False) == 6 * (600 + 3 * 128)
    assert local_bytes(600, 200, 300) == 2 * (600 * 300 * 2 + 300 * 200 * 3 + 600 * 200)


@pytest.mark.parametrize("name", ["resnet50", "alexnet"])
def test_mbs_steps(name):
    sequence, batch = mbs.sequence_of(name), mbs.NETWORKS[name]
    steps = {variant: mbs.point(name, variant).step for variant in Variant}
    for variant, step in steps.items():
        groups = mbs.chosen(name, variant, True, mbs.BUFFER)
        assert step.dram_bytes == sum(found.total for found in step_traffic(sequence, batch, groups))
        assert step.macs == steps[Variant.BASELINE].macs and 0 < step.utilisation < 1 and step.seconds >= step.compute_seconds
    assert steps[Variant.ARCHOPT].dram_bytes == steps[Variant.BASELINE].dram_bytes
    assert steps[Variant.ARCHOPT].seconds < steps[Variant.BASELINE].seconds
    assert steps[Variant.MBS2].dram_bytes <= steps[Variant.MBS1].dram_bytes < steps[Variant.BASELINE].dram_bytes
    assert steps[Variant.MBS3].dram_bytes <= steps[Variant.MBS2].dram_bytes
    assert steps[Variant.MBS2].dram_bytes <= mbs.point(name, Variant.MBS2, optimal=False).step.dram_bytes
    slow_first = sorted(MEMORIES.values(), key=lambda one: one.bandwidth)
    times = [mbs.point(name, Variant.MBS2, memory=memory.name).step.seconds for memory in slow_first]
    assert times == sorted(times, reverse=True)


@pytest.mark.parametrize("port", ["2.5", "8"])
def test_the_table_of_ports(port):
    """As sw/README.md has it: its first column, and a line for each port."""
    page = (ROOT / "sw/README.md").read_text().splitlines()
    lines = [line.split("|")[1:-1] for line in page if re.match(r"\| [\d.]+ +\| [\d.]+% ", line)]
    assert [cells[0].strip() for cells in lines] == list(ports.PORTS)
    found = ports.point(port, 1)
    assert [cells[1].strip() for cells in lines if cells[0].strip() == port] == [f"{found.utilization:.1%}"]


def test_command(tmp_path, capsys):
    folder = tmp_path / "out"
    assert main(["reproduce", "prunetrain", "--out", str(folder)]) == 0
    assert "3,516.26986" in capsys.readouterr().out
    assert sorted(path.name for path in folder.iterdir()) == ["points.json", "prunetrain.svg", "table.md"]
    assert len(json.loads((folder / "points.json").read_text())) == 29
    first = (folder / "prunetrain.svg").read_bytes()
    assert main(["reproduce", "prunetrain", "--out", str(folder)]) == 0
    assert first == (folder / "prunetrain.svg").read_bytes()
    (tmp_path / "file").write_text("")
    capsys.readouterr()
    assert main(["reproduce", "delta", "--out", str(tmp_path / "file")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_table():
    text = claims_table([Claim("x", 2, 3, "paper", "{:.1f}")])
    assert text.splitlines()[2] == "| x        | 2.0   | 3.0  | 1.500 | paper  |        |"
    assert markdown(("a",), []) == "| a |\n|---|\n"

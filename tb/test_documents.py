"""The pages keep their word: links lead somewhere, the code in them runs, and the numbers are those of the models."""

import contextlib
import io
import re

import pytest

from gen.config import ORGANISATIONS, Config
from gen.dram import DramConfig, part
from gen.files import ROOT
from gen.isa import Mode
from gen.tables import PAGES as FOLDERS
from sw import demo
from sw.cli.main import main
from sw.frontends.scalesim import Row, output_stationary, overlapped, weight_stationary
from sw.model import predict
from sw.runtime.gemm import gemm, random_operands
from sw.train import nda_update
from sw.train.lower.step import compile_step
from sw.train.network import digits_resnet
from tb.sw.step_works import in_groups

PAGES = sorted(path for folder in FOLDERS for path in (ROOT / folder).glob("*.md"))


def page(name: str) -> str:
    """The text of a page."""
    return (ROOT / name).read_text()


def block(name: str, *, after: str, kind: str = "") -> str:
    """The first code block of a kind behind some text."""
    text = page(name).split(after, 1)[1]
    found = re.search(rf"^```{kind}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    assert found, (name, after)
    return found[1]


def rows(name: str, head: str) -> list[list[str]]:
    """The cells of the table whose first line starts with `head`."""
    lines = page(name).split(f"\n{head}", 1)[1].split("\n\n", 1)[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def printed(code: str) -> str:
    """What a piece of Python prints."""
    with contextlib.redirect_stdout(io.StringIO()) as output:
        exec(compile(code, "page", "exec"), {})
    return output.getvalue()


def anchor(heading: str) -> str:
    """The anchor of a heading, as code hosts make it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("path", PAGES, ids=[str(path.relative_to(ROOT)) for path in PAGES])
def test_links(path):
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
        if target.startswith(("http://", "https://")):
            continue
        name, _, part = target.partition("#")
        place = path.parent / name if name else path
        assert place.exists(), target
        if part:
            assert part in {anchor(heading) for heading in re.findall(r"^#+ (.+)$", place.read_text(), re.MULTILINE)}, target


def test_results():
    config = Config.load("base")
    table = rows("README.md", "| M x N x K | waves |")
    assert len(table) > 5
    for shape, *cells in table:
        m, n, k = map(int, shape.split(" x "))
        report = gemm(config, *random_operands(m, n, k, 0), engine="model")
        assert report.exact
        moved = (report.traffic["dram_read_bytes"] + report.traffic["dram_write_bytes"]) // config.memory.bytes_per_cycle
        yardsticks = [f"{bound(Row('', m, n, k), 16):,}" for bound in (weight_stationary, output_stationary, overlapped)]
        assert cells == [waves(report), f"{report.cycles:,}", f"{report.array_cycles:,}",
                         f"{report.macs / (config.pes * report.array_cycles):.1%}", f"{moved:,}", *yardsticks], shape


def test_organisations():
    table = rows("README.md", "| organisation | cores |")
    assert [name for name, *_ in table] == list(ORGANISATIONS)
    for name, _, *cells in table:
        report = gemm(Config.load("base").organise(name), *random_operands(512, 72, 72, 0), engine="model")
        moved = report.traffic["gbuf_to_lbuf_moving_bytes"] + report.traffic["gbuf_to_lbuf_stationary_bytes"]
        energy = f"{report.energy_pj / 1e6:.1f}"
        assert cells == [waves(report), f"{report.cycles:,}", f"{report.array_cycles:,}", f"{moved:,}", energy], name


def waves(report) -> str:
    """The modes in use and their waves."""
    return ", ".join(f"{mode.name} {report.waves[mode.name]:,}" for mode in Mode if report.waves[mode.name])


def test_report(capsys):
    command, _, text = block("README.md", after="## Multiply two matrices").partition("\n")
    assert main(command.split()[2:]) == 0
    assert capsys.readouterr().out == text


def test_memory_example(capsys, tmp_path, monkeypatch):
    command, _, text = block("README.md", after="![Who uses the ranks").partition("\n")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "build").mkdir()
    assert main(command.partition("flexwave ")[2].split()) == 0
    assert capsys.readouterr().out == text
    assert (tmp_path / "build/timeline.svg").read_bytes().startswith(b"<?xml")


def test_training_steps():
    """Cycles of the README's steps, and the bytes that mini-batch serialisation saves in the guide."""
    config = Config.load("small-bf16")
    program = compile_step(config, digits_resnet(), 8)
    cycles = predict(config, program.instructions, program=program.start).cycles
    assert block("README.md", after="## Train a network").count(f"{cycles:,} cycles ({cycles:,} predicted)") == 3
    network = digits_resnet(width=8)
    groups = in_groups(network, ("conv1", 4), ("block2.conv1", 8), ("pool", 8))
    whole, parts = (sum(map(sum, compile_step(config, network, 8, groups=given).traffic().values())) for given in (None, groups))
    assert f"{whole:,} and {parts:,} bytes" in page("sw/README.md")


def test_near_data_vectors():
    assert printed(block("sw/dram/README.md", after="## Calls", kind="python")) == block("sw/dram/README.md", after="\nprints\n")


def test_near_data_update():
    after = "### The update on the near-data units"
    assert printed(block("sw/README.md", after=after, kind="python")) == block("sw/README.md", after="update.velocities\n```\n\nprints\n")


@pytest.mark.parametrize("channels, ranks", [(1, 1), (1, 2), (2, 2), (2, 4)])
def test_near_data_update_beside_traffic(channels, ranks):
    config = DramConfig(part=part("ddr4-2400r"), channels=channels, ranks=ranks)
    table = [cells for cells in rows("sw/README.md", "| channels x ranks | update by |") if cells[0] == f"{channels} x {ranks}"]
    found = nda_update.beside(config, 400_000, host="mix4", requests=240_000)
    assert table == [[f"{channels} x {ranks}", by, f"{one.channel_bytes:,}", f"{one.update_alone:,}", f"{one.update:,}",
                      f"{100 * one.slowdown - 100:+.2f} %"] for by, one in found.items()]
    least = 5 * 400_000 // 16 * config.part.burst_cycles / channels      # the host's alone, at the channels' peak
    assert 0.83 <= least / found["host"].update_alone < 0.935
    assert (found["units"].update > found["units"].traffic_alone) == (ranks == 1)
    if ranks == 1:
        free = nda_update.beside(config, 400_000, host="mix4", requests=240_000, policy="none")["units"]
        assert 0.6 < free.update / found["units"].update < 0.7
    if ranks == 2:
        assert 0.90 < found["units"].update / found["host"].update < 0.94


@pytest.mark.parametrize("reserved, operation", [(2, "nrm2"), (2, "dot"), (1, "nrm2")])
def test_near_data_alone(reserved, operation, capsys):
    argv = ["dram", "--host", "sequential", "--requests", "0", "--nda", operation, "--blocks", "16384", "--reserved", str(reserved)]
    assert main([*argv, "--engine", "model"]) == 0
    share = re.search(r"([\d.]+)% of the ranks' peak", capsys.readouterr().out)
    table = {name: cells[0] for name, *cells in rows("README.md", "| case (DDR4-2400R) |")}
    name = {
        (2, "nrm2"): "near-data unit alone, NRM2, banks of two bank groups",
        (2, "dot"): "the same, DOT (two rows of each bank in turn)",
        (1, "nrm2"): "NRM2, one bank group",
    }[reserved, operation]
    assert share and table[name].startswith(share[1]), (share, table[name])


def test_demo(capsys):
    """All but the accuracy, whose training is floating point."""
    text = block("README.md", after="only the engine's name differs")
    assert demo.main(["--engine", "model"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if "accuracy" not in line] == [line for line in text.splitlines()[1:] if "accuracy" not in line]


def test_python_from_the_guide():
    assert printed(block("sw/README.md", after="## From Python", kind="python")) == block("sw/README.md", after="\nprints\n")
    assert printed(block("sw/README.md", after="## Below a product", kind="python")) == "int8 (20, 12) 398\n"
    assert printed(block("sw/README.md", after="## A group of layers", kind="python")) == "range(0, 5) 5 6240 49248\n"


def test_program_by_hand(tmp_path, monkeypatch):
    """Assembled by the command, run by the models."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "build").mkdir()
    (tmp_path / "build/gemm.s").write_text(block("sw/README.md", after="## A program by hand", kind="asm"))
    assert main(["asm", "build/gemm.s", "-o", "build/gemm.bin"]) == 0
    assert (tmp_path / "build/gemm.bin").stat().st_size == 8 * 32
    printed(block("sw/README.md", after="The operands, packed", kind="python"))
    text = printed(block("sw/README.md", after="to check the result", kind="python"))
    assert text == block("sw/README.md", after="program=256).cycles)\n```\n")
    assert text.splitlines()[1] in block("sw/README.md", after="among them")

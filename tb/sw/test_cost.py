"""Costs of networks: layers by programs, training steps in closed form, and `flexwave run NETWORK`."""

import dataclasses
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest

from gen.config import ORGANISATIONS, Vector
from gen.files import ROOT
from gen.isa import Mode
from gen.presets import PRESETS
from sw.cli.main import main
from sw.cli.network_run import on_port
from sw.compiler import Addition, Gemm, Pooling, Window, compile_conv, compile_gemm, compile_pool
from sw.compiler.lower import compile_product
from sw.cost.programs import inference
from sw.cost.steps import buffer_bytes, training
from sw.mbs.schedule import Variant, groups_of
from sw.mbs.traffic import step_traffic
from sw.mbs.units import units_of
from sw.model import predict
from sw.workloads.builder import Builder
from sw.workloads.catalogue import network
from sw.workloads.products import products_of


def small():
    """3 channels of 12 x 12, a residual block, depth-wise, pooled, classified."""
    build = Builder("small", (3, 12, 12))
    first = build.conv("input", 16, 3, name="first")
    last = build.conv(build.conv(first, 16, 3, stride=1, name="a"), 16, 1, relu=False, name="b")
    last = build.add(last, first, relu=True)
    last = build.conv(build.pool(last, "max", 2, 2), 32, 3, depthwise=True, name="deep")
    build.linear(build.pool(last, "average"), 10)
    return build.network()


def test_inference_layer_by_layer():
    config, net = PRESETS["small"], small()
    cost = inference(config, net, 2)
    layers = {layer.name: layer for layer in cost.layers}
    assert cost.macs == 2 * net.macs and list(layers) == ["first", "a", "b", "add", "pool", "deep", "pool2", "fc"]

    def cycles(program) -> int:
        return predict(config, program.instructions, program=program.regions["program"].address).cycles

    window = Window(images=2, height=12, width=12, kernel=(3, 3), padding=(1, 1, 1, 1))
    assert layers["a"].cycles == cycles(compile_conv(config, window, 16, 16, output="int8"))
    patches = cycles(compile_gemm(config, 288, 16, 27, output="int8"))
    assert layers["first"].cycles == min(patches, cycles(compile_conv(config, window, 3, 16, output="int8"))) == patches
    half = Window(images=2, height=6, width=6, kernel=(3, 3), padding=(1, 1, 1, 1))
    deep = compile_conv(config, half, 8, 8, output="int8")          # eight depth-wise channels fill a wave
    assert (layers["deep"].groups, layers["deep"].cycles) == (2, 2 * cycles(deep))
    sums = compile_product(config, Gemm(m=288, n=16, k=16, output="int8", addition=Addition()))
    assert layers["b"].cycles == cycles(sums)
    assert (layers["add"].cycles, layers["add"].remark) == (0, "in b")
    halves = Window(images=2, height=12, width=12, kernel=(2, 2), stride=2)
    assert layers["pool"].cycles == cycles(compile_pool(config, Pooling(window=halves, channels=16)))
    assert all(layer.proved for layer in cost.layers)
    plain = {layer.name: layer for layer in inference(dataclasses.replace(config, vector=Vector(window=0)), net, 2).layers}
    assert [name for name, layer in plain.items() if not layer.proved] == ["add", "pool", "pool2"]
    assert plain["add"].cycles == 2 * 3 * 16 * 12 * 12 // 8
    assert sum(layers["a"].waves.values()) == layers["a"].waves["FW"] > 0


@pytest.mark.parametrize("organisation", ORGANISATIONS)
def test_training_step(organisation):
    """Multiply-adds of all products; DRAM bytes of the schedule; a step never faster than its products alone or its bytes alone."""
    config, net = PRESETS["paper"].organise(organisation), network("resnet50")
    cost = training(config, net, 32, Variant.MBS2)
    assert cost.macs == sum(product.macs for product in products_of(net, 32, training=True))
    sequence = units_of(net)
    groups = groups_of(sequence, Variant.MBS2, 32, buffer_bytes(config))
    assert cost.dram_bytes == sum(unit.total for unit in step_traffic(sequence, 32, groups))
    assert cost.cycles >= cost.macs / config.pes and cost.cycles >= cost.dram_bytes / config.memory.bytes_per_cycle
    serialised = [group for group in groups if group.sub_batch]
    assert [(len(names), size) for names, size in cost.groups] == [(len(group.units), group.sub_batch) for group in serialised]
    assert all(set(layer.waves) == {mode.name for mode in Mode} for layer in cost.layers)


def test_schedules():
    config, net = PRESETS["paper"], network("resnet50")
    steps = {variant: training(config, net, 32, variant) for variant in Variant}
    assert steps[Variant.BASELINE].dram_bytes == steps[Variant.ARCHOPT].dram_bytes > steps[Variant.MBS2].dram_bytes
    assert steps[Variant.BASELINE].cycles > steps[Variant.ARCHOPT].cycles > steps[Variant.MBS2].cycles


def test_command(tmp_path, capsys):
    assert main(["run", "vgg8", "--config", "small", "--json", str(tmp_path / "cost.json")]) == 0
    assert "vgg8, batch 1, inference, on small" in capsys.readouterr().out
    report = json.loads((tmp_path / "cost.json").read_text())
    assert report["macs"] == network("vgg8").macs and report["cycles"] == sum(layer["cycles"] for layer in report["layers"])
    assert {"name", "phase", "m", "n", "k", "groups", "cycles", "utilization", "waves", "traffic", "energy_pj"} <= set(report["layers"][0])
    words = ["run", "resnet50@prunetrain:0.3:90", "--config", "paper", "--phase", "training", "--batch", "32", "--schedule", "mbs1"]
    assert main([*words, "--json", "-"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["mbs_groups"] and not report["proved"]


@pytest.mark.parametrize("phase", ["inference", "training"])
def test_named_memories_and_slow_ports(phase, capsys):
    """hbm2: 300 GiB a second at 0.7 GHz are 460 bytes a cycle. A slower port takes longer; a step is never faster than its bytes."""
    cycles = []
    for memory in ("port:1024", "hbm2", "port:2.5"):
        assert main(["run", "vgg8@0.25", "--config", "paper", "--phase", phase, "--memory", memory, "--json", "-"]) == 0
        found = json.loads(capsys.readouterr().out)
        cycles.append(found["cycles"])
    assert cycles == sorted(cycles) and cycles[0] < cycles[2] >= found["dram_bytes"] / 2.5
    config, pace = on_port(PRESETS["paper"], "hbm2")
    assert float(config.memory.bytes_per_cycle * pace) == pytest.approx(300 * 2**30 / 0.7e9, rel=1e-3)


@pytest.mark.parametrize("words,message", [
    (["resnet50@9"], "multiplier = 9 is outside 1/16..4"),
    (["resnet50", "--batch", "0"], "batch = 0 is outside 1..65536"),
    (["resnet50", "--engine", "rtl"], "engine = 'rtl' is none of model"),
    (["resnet50", "--memory", "hbm"], "memory = 'hbm' is none of hbm2, hbm2x2, gddr5, lpddr4, sdr-ulx3s or port:BYTES"),
    (["resnet50", "--memory", "port:much"], "memory port = 'much' must be a number of bytes a cycle"),
    (["resnet50", "--memory", "port:0"], "memory port = 0 is outside 1/8..1024 bytes a cycle"),
    (["resnet50", "--memory", "hbm2x2", "--config", "tiny"], "memory.bytes_per_cycle = 1024 is outside"),
    (["resnet50", "--schedule", "mbs2"], "schedule = 'mbs2' is for --phase training"),
    (["resnet50", "--phase", "training", "--schedule", "mbs9"], "schedule = 'mbs9' is none of baseline, archopt, il, mbs-fs, mbs1, mbs2"),
    (["resnet50", "--input", "x.npz"], "input = 'x.npz' is not for networks"),
    (["program.bin", "--batch", "3"], "batch = '3' is for networks: resnet50,"),
])
def test_mistakes(capsys, words, message):
    assert main(["run", *words]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"flexwave: {message}") and error.count("\n") == 1


def test_the_figures_of_the_page():
    """ResNet-50 as sw/README.md has it: one image on `base`, 8 bytes a cycle."""
    base = PRESETS["base"]
    cost = inference(dataclasses.replace(base, memory=dataclasses.replace(base.memory, bytes_per_cycle=8)), network("resnet50"))
    assert all(layer.proved for layer in cost.layers) and cost.utilization >= 0.85
    text = " ".join((ROOT / "sw/README.md").read_text().split())
    assert f"{cost.cycles / 1e6:.1f} million cycles, {cost.utilization:.1%} of".replace("%", " %") in text


# The page


@pytest.fixture
def page_file(tmp_path):
    """A training step's page."""
    path = tmp_path / "page.html"
    words = ["run", "vgg8", "--config", "paper", "--phase", "training", "--batch", "64", "--schedule", "mbs1"]
    assert main([*words, "--report", str(path)]) == 0
    return path


def test_page_is_whole(page_file):
    """Every layer is in the table, tags are balanced, nothing is fetched."""
    text, stack, alone = page_file.read_text(), [], {"meta", "line", "path"}
    cost = training(PRESETS["paper"], network("vgg8"), 64, Variant.MBS1)
    assert text.count("<tr") == 1 + len(cost.layers) and "http" not in text and "src=" not in text

    class Balance(HTMLParser):
        def handle_starttag(self, tag, attrs):
            if tag not in alone:
                stack.append(tag)

        def handle_endtag(self, tag):
            if tag not in alone:
                assert stack.pop() == tag

    Balance().feed(text)
    assert not stack


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium")
def test_page_in_a_browser(page_file, tmp_path):
    """A click on "cycles" sorts the table by them."""
    clicked = page_file.read_text().replace("</html>", "<script>document.querySelectorAll('th')[7].click()</script></html>")
    page_file.write_text(clicked)
    browser = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
               "--disable-quic", f"--user-data-dir={tmp_path / 'profile'}"]
    shown = subprocess.run([*browser, "--dump-dom", page_file.as_uri()], capture_output=True, text=True, timeout=120, check=True)
    rows = re.findall(r"<tr[^>]*>(.*?)</tr>", shown.stdout)[1:]
    cycles = [int(re.findall(r'data-value="([^"]*)"', row)[7]) for row in rows]
    assert cycles == sorted(cycles) and len(cycles) == len(training(PRESETS["paper"], network("vgg8"), 64, Variant.MBS1).layers)

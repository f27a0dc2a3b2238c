"""What a training step of a network costs: multiply-adds by hand, the layers cost models see, laws of the five organisations, a report."""

import json
from dataclasses import replace

import pytest

from gen.config import ORGANISATIONS, Config
from sw.mbs.units import units_of
from sw.train import report
from sw.train.channels import with_channels
from sw.train.costs import CONFIG, step_costs, training_macs, workload
from sw.train.network import Conv, Network, digits_resnet
from sw.train.report import Run
from sw.train.trainer import Epoch
from sw.workloads.network import Conv as Convolution
from sw.workloads.network import Relu

FORWARD = {"conv1": 64 * 9 * 16, "block1.conv1": 64 * 9 * 16 * 16, "block1.conv2": 64 * 9 * 16 * 16, "block2.conv1": 16 * 9 * 16 * 32,
           "block2.conv2": 16 * 9 * 32 * 32, "block2.conv3": 16 * 16 * 32, "classifier": 32 * 10}


def pruned(network: Network, **channels: int) -> Network:
    """`network` with other channels for some of its convolutions, whose names are given with _ for the dot."""
    outputs = {layer.name: layer.outputs for layer in network.layers if isinstance(layer, Conv)}
    return with_channels(network, outputs | {name.replace("_", "."): count for name, count in channels.items()})


def test_multiply_adds():
    """The data gradient of a strided layer counts all pixels of its input; the first layer has none."""
    network = digits_resnet(16, 0)
    found = workload(network)
    assert {layer.name: layer.macs for layer in found.products} == FORWARD
    strided = 3 * (FORWARD["block2.conv1"] + FORWARD["block2.conv3"])
    assert training_macs(network) == 3 * sum(FORWARD.values()) - FORWARD["conv1"] + strided
    assert found.parameters == sum(value.size for value in network.parameters(0).values())


def test_layers():
    """Each convolution, its normalisation and its ReLU are one unit; each addition with its ReLU another."""
    found = workload(digits_resnet(16, 0))
    units = {unit.name: unit for unit in units_of(found).units}
    assert list(units) == ["conv1", "block1.conv1", "block1.conv2", "block1", "block2.conv1", "block2.conv2", "block2.conv3", "block2",
                           "pool", "classifier"]
    assert {name for name, unit in units.items() if unit.relu} == {"conv1", "block1.conv1", "block1", "block2.conv1", "block2"}
    assert all(unit.norm == (unit.product is not None and name != "classifier") for name, unit in units.items())
    assert units["block2"].inputs == ("block2.conv2", "block2.conv3") and units["block1"].inputs == ("block1.conv2", "conv1")
    assert isinstance(strided := found.by_name["block2.conv3"], Convolution) and strided.stride == (2, 2) and strided.padding == (0,) * 4
    assert found.by_name["conv1"].shape == (16, 8, 8) and found.by_name["block2"].shape == (32, 4, 4)
    assert sum(isinstance(layer, Relu) for layer in found.layers) == 5


def test_five_organisations():
    network = digits_resnet(16, 0)
    found, config = step_costs(network, 8), Config.load(CONFIG)
    assert tuple(found) == ORGANISATIONS and step_costs(network, 8) is found
    for step in found.values():
        assert step.macs == 8 * training_macs(network)
        assert step.utilisation == pytest.approx(step.macs / (config.pes * step.cycles)) and 0.5 < step.utilisation < 1
        assert sum(part for name, part in step.energy.items() if name != "total") == pytest.approx(step.energy["total"])
    # Nine channels fill two tiles of 8 columns as badly as one of 16; where a group has cores of 4, three tiles do.
    nine, sixteen = (step_costs(pruned(network, block2_conv1=count), 8) for count in (9, 16))
    lost = {name: 1 - nine[name].utilisation / sixteen[name].utilisation for name in ORGANISATIONS}
    assert lost["1G1C"] > lost["1G1F"] > lost["4G1F"] > 0
    thin = step_costs(pruned(network, conv1=5, block1_conv1=3, block1_conv2=5, block2_conv1=9, block2_conv2=9, block2_conv3=9), 8)
    assert thin["1G1C"].utilisation < thin["1G1F"].utilisation < thin["4G1F"].utilisation
    assert all(thin[name].cycles < found[name].cycles and thin[name].energy["total"] < found[name].energy["total"] for name in found)


def test_bytes_of_bf16():
    """Operands of two bytes, sums of gradients of four: against the machine for int8 numbers."""
    network = digits_resnet(16, 0)
    wide, narrow = (step_costs(network, 8, Config.load(name))["1G1F"] for name in ("base-bf16", "base"))
    sums = 4 * sum(layer.weights for layer in workload(network).products)
    assert wide.dram_bytes - sums == 2 * (narrow.dram_bytes - sums)


def history(network: Network) -> list[Epoch]:
    """Two epochs of a dense network, two of a smaller one."""
    thin = pruned(network, block1_conv1=5, block2_conv1=11)
    counts = [{layer.name: layer.outputs for layer in one.layers if isinstance(layer, Conv)} for one in (network, network, thin, thin)]
    return [Epoch(loss=1.0, accuracy=0.9 + number / 100, channels=channels, batch=8, macs=0, cycles={})
            for number, channels in enumerate(counts)]


def test_report(tmp_path):
    network = digits_resnet(16, 0)
    thin = pruned(network, block1_conv1=5, block2_conv1=11)
    run = Run.of("ratio 0.5", network, thin, history(network))
    forward = FORWARD | {"block1.conv1": FORWARD["block1.conv1"] * 5 // 16, "block1.conv2": FORWARD["block1.conv2"] * 5 // 16,
                         "block2.conv1": FORWARD["block2.conv1"] * 11 // 32, "block2.conv2": FORWARD["block2.conv2"] * 11 // 32}
    assert run.removed_from_inference == pytest.approx(1 - sum(forward.values()) / sum(FORWARD.values()))
    assert run.removed_from_run == pytest.approx(run.removed_from_step / 2)     # half of the epochs were dense
    cycles, energy = run.total("1G1F")
    assert cycles == (2 * step_costs(network, 8)["1G1F"].cycles + 2 * step_costs(thin, 8)["1G1F"].cycles) / 8
    assert cycles < run.total("1G1F", dense=True)[0] and energy < run.total("1G1F", dense=True)[1]
    text = report.text([run])
    assert "| ratio 0.5 | 4      | 93.00%" in text and "16>5 5>16" in text and "16>11 11>32" in text
    points = json.loads(json.dumps(report.to_points([run])))
    assert len(points) == 4 * 5 and points[-1]["organisation"] == "4G1F" and points[-1]["macs"] == 8 * training_macs(thin)
    report.plot([run, replace(run, label="the same")], tmp_path / "runs.png")
    assert (tmp_path / "runs.png").read_bytes().startswith(b"\x89PNG")

"""What a training step of a network costs: multiply-adds by hand, the layers cost models see, laws of the five organisations; records of
runs, drawn and in tables."""

import json
import os

import pytest

from gen.config import ORGANISATIONS, Config
from sw.mbs.units import units_of
from sw.train import curves, record, report
from sw.train.channels import with_channels
from sw.train.costs import CONFIG, by_organisation, described, step_costs, training_macs, workload
from sw.train.network import Conv, Network, digits_resnet
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


PRUNED = {"block1_conv1": 5, "block2_conv1": 11}


def run_record() -> dict:
    """As JSON, a pruned run: two epochs of the dense network, two of a smaller one whose batch is larger; then channels go once more."""
    network = digits_resnet(16, 0)
    thin, last = pruned(network, **PRUNED), pruned(network, **PRUNED | {"block2_conv1": 3})
    epochs = []
    for number, (one, batch) in enumerate(((network, 8), (network, 8), (thin, 16), (thin, 16))):
        channels = {layer.name: layer.outputs for layer in one.layers if isinstance(layer, Conv)}
        epochs.append(Epoch(loss=1.0, accuracy=0.9 + number / 100, channels=channels, batch=batch, macs=training_macs(one),
                            **by_organisation(one, batch)).to_dict())
    about = {"model": "digits-resnet", "data": "digits", "engine": "golden", "config": "base-bf16", "batch": 8, "sub_batch": 8, "seed": 3,
             "rate": 0.02, "prune": 0.5, "prune_every": 2, "prune_below": 0.001, "prune_grow": 8, "train_images": 1437, "test_images": 360}
    return json.loads(json.dumps({**about, "costs_of": CONFIG, "dense": described(network, 8), "left": described(last, 16),
                                  "epochs": epochs, "rtl_steps": []}))


def dense_record() -> dict:
    """Of a run that is not pruned."""
    found = run_record()
    return found | {"left": found["dense"], "epochs": found["epochs"][:2], "prune_grow": None,
                    **dict.fromkeys(("prune", "prune_every", "prune_below"))}


def test_removed():
    """Shares by hand, from products whose multiply-adds are those of their channels."""
    found = run_record()
    forward = FORWARD | {"block1.conv1": FORWARD["block1.conv1"] * 5 // 16, "block1.conv2": FORWARD["block1.conv2"] * 5 // 16,
                         "block2.conv1": FORWARD["block2.conv1"] * 3 // 32, "block2.conv2": FORWARD["block2.conv2"] * 3 // 32}
    network = digits_resnet(16, 0)
    dense, thin = training_macs(network), training_macs(pruned(network, **PRUNED))
    last = training_macs(pruned(network, **PRUNED | {"block2_conv1": 3}))
    wanted = {"inference": 1 - sum(forward.values()) / sum(FORWARD.values()), "a training step": 1 - last / dense,
              "the whole run": 0.5 * (1 - thin / dense)}
    assert record.removed(found) == pytest.approx(wanted)
    assert set(record.removed(dense_record()).values()) == {0.0}
    steps = [step_costs(network, 8), step_costs(pruned(network, **PRUNED), 16)]
    for place, name in enumerate(ORGANISATIONS):
        images = [step[name].cycles / batch for step, batch in zip(steps, (8, 16))]
        assert report.of_dense(found, "cycles")[place] == pytest.approx((1 + images[1] / images[0]) / 2)
        energy = [step[name].energy["total"] / batch for step, batch in zip(steps, (8, 16))]
        assert report.of_dense(found, "energy")[place] == pytest.approx((1 + energy[1] / energy[0]) / 2)


def test_text():
    found = run_record()
    head, *_, shares, last = record.text(found).splitlines()
    assert head == ("digits-resnet on 1,437 images of digits, engine golden (base-bf16), batch 8, rate 0.02, seed 3, pruned with ratio 0.5 "
                    "every 2 epochs below 0.001, growing by 8 images")
    inference, step, whole = (f"{share:.1%}" for share in record.removed(found).values())
    assert shares == f"multiply-adds removed: {inference} of inference, {step} of a training step, {whole} of the whole run"
    assert last == "accuracy 93.0% on 360 other images" and "removed" not in record.text(dense_record())


def test_page():
    """All that a run's page must show; two runs beside each other."""
    one = report.page({"run": run_record()})
    for cost in ("Cycles", "Utilisation", "Energy"):
        assert f"<h2>{cost} of a training step on organisations of base-bf16" in one
    assert one.count("<svg") == 8 and one.count("<table>") == 3 and "http" not in one
    assert "<td>16 5 16 3 32 32</td>" in one and "multiply-adds removed: " in one
    # The last epoch's accuracy belongs to the network that is left.
    assert f'<circle cx="{80 + 1010 * record.removed(run_record())["a training step"]:.1f}" cy="{180 - 170 * 13 / 20:.1f}" r="7"' in one
    both = report.page({"dense": dense_record(), "a < b": run_record()})
    assert both.count("<svg") == 4 + 2 * 3 and "a &lt; b: Utilisation" in both and "a < b" not in both


def test_curves():
    """Where points lie: 1,010 wide and 170 high, from (80, 180)."""
    assert curves.steps([5.0, 5.0, 3.0]) == [(0.5, 5.0), (1.5, 5.0), (1.5, 5.0), (2.5, 5.0), (2.5, 3.0)]
    line = curves.draw([curves.Curve("a", [(0, 0), (10, 5), (20, 10)])])
    assert 'points="80.0,180.0 585.0,95.0 1090.0,10.0"' in line and line.count("<circle") == 3 and "class=key" not in line
    assert [f">{mark}</text>" in line for mark in (0, 2, 4, 20)] == [True] * 4 and line.count("text-anchor=\"middle\"") == 11
    dots = curves.draw([curves.Curve(name, [(30, 95)], line=False) for name in "ab"], low=(0, 90), high=(100, 100))
    assert "polyline" not in dots and dots.count('cx="383.0" cy="95.0" r="7"') == 2 and dots.count("class=key") == 2
    assert "<svg" in curves.draw([curves.Curve("nothing", [], line=False)]) and "<svg" in curves.draw([])


def test_comparison(tmp_path, capsys):
    """`python -m sw.train.report`."""
    names = {"dense": dense_record(), "half": run_record()}
    for name, found in names.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(found))
    (tmp_path / "list.json").write_text("[3]")
    paths = [str(tmp_path / f"{name}.json") for name in names]
    assert report.main([*paths, "-o", str(tmp_path / "made")]) == 0
    out = capsys.readouterr().out
    text = (tmp_path / "made/runs.md").read_text()
    assert out == text + "\n" and "| dense | -     | -     | -     | 2      | 91.0%    | 16 16 16 32 32 32   | 0.0%" in text
    assert "| half  | 0.5   | 2     | 0.001 | 4      | 93.0%    | 16 5 16 3 32 32" in text and "## half: on base-bf16, estimates" in text
    assert sorted(os.listdir(tmp_path / "made")) == ["runs.html", "runs.md"]
    (tmp_path / "other").mkdir()
    (tmp_path / "other/half.json").write_text("{}")
    for argv, message in (([str(tmp_path / "no.json")], "cannot be read: No such file or directory"),
                          ([str(tmp_path / "list.json")], "is not what flexwave train --json writes"),
                          ([str(tmp_path / "other/half.json")], "is not what flexwave train --json writes"),
                          ([paths[1], str(tmp_path / "other/half.json")], "there are two called 'half'")):
        assert report.main([*argv, "-o", str(tmp_path / "none")]) == 2
        out, err = capsys.readouterr()
        assert out == "" and err.startswith("report: runs = ") and err.count("\n") == 1 and message in err


def test_the_trainer_records_it():
    """What a run notes of its epochs and at its end."""
    from tb.sw.train_works import narrow_resnet, trainer

    run = trainer(epochs=1)
    run.run()
    found = record.record({"prune": None}, run)
    assert found["left"] == found["dense"] == described(narrow_resnet(), 16)
    epoch, = found["epochs"]
    assert {name: epoch[name] for name in ("cycles", "utilisation", "energy")} == by_organisation(narrow_resnet(), 16)
    cost = step_costs(narrow_resnet(), 16)["4G1F"]
    assert (epoch["cycles"]["4G1F"], epoch["utilisation"]["4G1F"], epoch["energy"]["4G1F"]) == (
        cost.cycles, cost.utilisation, cost.energy["total"])

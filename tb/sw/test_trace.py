"""Traces of networks: every instruction once, at its time, no two on top of each other; on the command line."""

import json
from collections import defaultdict

import pytest

from gen.isa import Unit
from gen.presets import PRESETS
from sw.cli.main import main
from sw.compiler.lower import compile_product
from sw.cost.programs import inference, product_of
from sw.cost.trace import trace
from sw.model import predict
from tb.sw.test_cost import small


def events_of(data: dict) -> tuple[dict, dict]:
    """Names of the tracks, and the events on each."""
    names, found = {}, defaultdict(list)
    for event in data["traceEvents"]:
        if event["ph"] == "X":
            found[event["pid"], event["tid"]].append(event)
        elif event["name"] == "thread_name":
            names[event["pid"], event["tid"]] = event["args"]["name"]
    return names, found


@pytest.mark.parametrize("organisation", ["1G1F", "4G1F"])
def test_every_instruction_of_every_layer(organisation):
    config, net = PRESETS["small"].organise(organisation), small()
    cost = inference(config, net, 2, timeline=True)
    names, found = events_of(json.loads(trace(cost)))
    layers, = (events for track, events in found.items() if names[track] == "layers")
    assert [event["name"].split()[0] for event in layers] == [layer.name for layer in cost.layers if layer.cycles]
    assert sum(event["dur"] for event in layers) == layers[-1]["ts"] + layers[-1]["dur"] == cost.cycles
    starts = {event["name"].split()[0]: event["ts"] for event in layers}

    for track, events in found.items():
        assert names[track] == "layers" or names[track].split(" (")[0] in Unit.__members__
        ends = [event["ts"] + event["dur"] for event in events]
        assert all(end <= event["ts"] for end, event in zip(ends, events[1:])), names[track]

    # One layer, instruction for instruction, against its own program.
    layer = net.by_name["a"]
    program = compile_product(config, product_of(config, layer, 2)[0])     # type: ignore[arg-type]
    wanted = predict(config, program.instructions, program=program.regions["program"].address, timeline=True).timeline
    start, stop = starts["a"], starts["b"]
    there = sorted((event["ts"] - start, event["ts"] + event["dur"] - start, event["args"]["index"])
                   for track, events in found.items() if names[track] != "layers" for event in events if start <= event["ts"] < stop)
    assert there == sorted((event.decision, event.end, event.index) for event in wanted) and len(there) == len(program.instructions) - 1


def test_groups_of_a_convolution_follow_each_other():
    cost = inference(PRESETS["small"], small(), 2, timeline=True)
    deep = next(layer for layer in cost.layers if layer.name == "deep")
    assert deep.groups == 2
    events = [event for event in json.loads(trace(cost))["traceEvents"] if event["ph"] == "X" and event["pid"]]
    before = sum(layer.cycles for layer in cost.layers[:cost.layers.index(deep)])
    inside = [event["ts"] - before for event in events if before <= event["ts"] < before + deep.cycles]
    half = deep.cycles // 2
    assert sorted(time for time in inside if time < half) == sorted(time - half for time in inside if time >= half)


def test_on_the_command_line(tmp_path, capsys):
    path = tmp_path / "trace.json"
    assert main(["run", "vgg8@0.25", "--config", "small", "--trace", str(path)]) == 0
    names, _ = events_of(json.loads(path.read_text()))
    assert {"layers", "DMA_IN", "EXECUTE", "STORE"} <= set(names.values())
    assert main(["run", "vgg8@0.25", "--config", "small", "--phase", "training", "--trace", str(path)]) == 0
    names, found = events_of(json.loads(path.read_text()))
    assert set(names.values()) == {"layers"} and all(not event["args"]["proved"] for event in next(iter(found.values())))
    capsys.readouterr()
    assert main(["run", "vgg8", "--trace", str(tmp_path / "no" / "folder.json")]) == 2
    assert capsys.readouterr().err.count("\n") == 1

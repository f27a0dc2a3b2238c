"""Instructions in time as a trace that Perfetto and chrome://tracing open: a track for each unit and one for the layers.

One cycle is a microsecond of the trace. An instruction lasts from its decision to the cycle from which on it is done; where two of a unit
overlap (data on its way, the array running empty), the second lies on a further track of that unit.
"""

import json
from collections.abc import Iterable, Iterator
from itertools import count

from gen.isa import Unit
from sw.cost.layers import LayerCost, NetworkCost
from sw.model.cycles import Event

LAYERS = 0              # process of the layers; behind it the groups of the machine, then what they share
SHARED = (Unit.DMA_IN, Unit.DMA_OUT)


class Tracks:
    """The tracks of a trace and the events on them."""

    def __init__(self):
        self.numbers: dict[tuple[int, str, int], int] = {}
        self.free: dict[tuple[int, str], list[int]] = {}        # of a unit's tracks: until when they are taken
        self.events: list[dict] = []
        self._next = count(1)

    def add(self, process: int, unit: str, name: str, start: int, end: int, **more):
        """An event on the first of the unit's tracks that is free."""
        lanes = self.free.setdefault((process, unit), [])
        lane = next((number for number, until in enumerate(lanes) if until <= start), len(lanes))
        lanes[lane:lane + 1] = [end]
        key = process, unit, lane
        if key not in self.numbers:
            self.numbers[key] = next(self._next)
            self._name("thread_name", process, self.numbers[key], unit if lane == 0 else f"{unit} ({lane + 1})")
        self.events.append({
            "ph": "X", "pid": process, "tid": self.numbers[key], "name": name, "ts": start, "dur": end - start, "args": more})

    def process(self, process: int, name: str):
        """Name a process."""
        self._name("process_name", process, 0, name)

    def _name(self, kind: str, process: int, thread: int, name: str):
        self.events.append({"ph": "M", "pid": process, "tid": thread, "name": kind, "args": {"name": name}})


def instructions(tracks: Tracks, groups: int, timeline: Iterable[tuple[Event, str]], start: int = 0):
    """Every instruction of a program that begins in cycle `start`."""
    for event, name in sorted(timeline, key=lambda item: item[0].decision):
        process = groups + 1 if event.unit in SHARED else 1 + event.group
        tracks.add(process, event.unit.name, name, start + event.decision, start + event.end, index=event.index)


def named(groups: int, title: str) -> Tracks:
    """Tracks for a machine of so many groups."""
    tracks = Tracks()
    tracks.process(LAYERS, title)
    for group in range(groups):
        tracks.process(1 + group, f"group {group}")
    tracks.process(1 + groups, "memory port")
    return tracks


def spans(cost: NetworkCost) -> Iterator[tuple[LayerCost, int]]:
    """Every layer and the cycle in which it begins."""
    start = 0
    for layer in cost.layers:
        yield layer, start
        start += layer.cycles


def trace(cost: NetworkCost) -> str:
    """The trace of a network, as JSON."""
    groups = cost.config.array.groups
    tracks = named(groups, f"{cost.network}, batch {cost.batch}, {cost.phase}, on {cost.config.name} ({cost.config.organisation})")
    for layer, start in spans(cost):
        if layer.cycles:
            tracks.add(LAYERS, "layers", f"{layer.name} {layer.phase}", start, start + layer.cycles, macs=layer.macs, proved=layer.proved)
        for turn in range(layer.groups if layer.timeline else 0):
            instructions(tracks, groups, layer.timeline, start + turn * (layer.cycles // layer.groups))
    return text(tracks)


def text(tracks: Tracks) -> str:
    """The events as JSON, one a line."""
    lines = ",\n".join(json.dumps(event, separators=(",", ":")) for event in tracks.events)
    return f'{{"displayTimeUnit":"ns","otherData":{{"clock":"1 us is 1 cycle"}},"traceEvents":[\n{lines}\n]}}\n'

"""Checkpoints: one .npz file behind every epoch, from which a run goes on to the same bits; pairs of files around reconfigurations."""

import io
import json
from dataclasses import asdict, dataclass
from glob import escape
from pathlib import Path
from typing import Any

import numpy as np

from sw.cli.console import read_bytes, write_bytes
from sw.runtime.errors import UserError
from sw.train.golden_engine import Parameters
from sw.train.network import Add, Conv, Linear, Network, Norm, Pool, WindowPool
from sw.train.shapes import shapes
from sw.train.trainer import Epoch, Moment, Trainer

FORMAT, VERSION = "flexwave-checkpoint", 1
KINDS = {kind.__name__: kind for kind in (Conv, Norm, Add, Pool, WindowPool, Linear)}
PARTS = ("parameter", "velocity")


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A run behind one of its epochs. `origin` is the network it began with, `run` what else decides its numbers (as JSON has it);
    `pending`: the reconfiguration that was due there has not happened yet."""

    origin: dict[str, Any]
    run: dict[str, Any]
    network: Network
    parameters: Parameters
    velocity: Parameters
    history: list[Epoch]
    hook: dict[str, Any]
    pending: bool


def network_to_dict(network: Network) -> dict[str, Any]:
    """A network as JSON has it."""
    layers = [{"type": type(layer).__name__, **asdict(layer), "inputs": list(layer.inputs)} for layer in network.layers]
    return {"name": network.name, "image": list(network.image), "classes": network.classes, "layers": layers}


def network_from_dict(data: dict[str, Any]) -> Network:
    """The network again. Raises KeyError, TypeError, UserError for whatever is none."""
    layers = []
    for given in data["layers"]:
        fields = dict(given)
        kind: Any = KINDS[fields.pop("type")]
        layers.append(kind(**fields | {"inputs": tuple(fields["inputs"])}))
    height, width, channels = data["image"]
    network = Network(data["name"], (height, width, channels), tuple(layers), data["classes"])
    shapes(network)
    return network


def save(path: Path, trainer: Trainer, run: dict[str, Any]):
    """Write the run's checkpoint in one step: whoever reads it, or whatever is killed, finds the old one or the new one."""
    about = {"format": FORMAT, "version": VERSION, "origin": network_to_dict(trainer.origin), "run": run,
             "network": network_to_dict(trainer.network), "history": [epoch.to_dict() for epoch in trainer.history],
             "hook": trainer.hook.state(), "pending": trainer.pending}
    every = zip(PARTS, (trainer.parameters, trainer.velocity))
    arrays = {f"{part}/{name}": value for part, values in every for name, value in values.items()}
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, about=np.array(json.dumps(about)), **arrays)
    write_bytes(path, buffer.getvalue())


def keep(path: Path, trainer: Trainer, run: dict[str, Any], moment: Moment):
    """Save the newest state as `path`; one beside a reconfiguration also as `beside` names it, for good.

    That one is written first: whoever finds `path` behind a reconfiguration finds the pair.
    """
    if moment:
        save(beside(path, trainer.epoch, moment), trainer, run)
    save(path, trainer, run)


def beside(path: Path, epoch: int | str, moment: str) -> Path:
    """The file of the state before or after the reconfiguration behind an epoch (from 1): run.npz becomes run-epoch5-before.npz."""
    return path.with_name(f"{path.stem}-epoch{epoch}-{moment}{path.suffix}")


def pairs(path: Path) -> list[Path]:
    """The files beside `path` that runs of its name have left."""
    name = path.with_name(escape(path.name))
    return sorted(found for moment in ("before", "after") for found in path.parent.glob(beside(name, "*", moment).name))


def load(name: str) -> Checkpoint:
    """What a file holds; nothing in it is executed. Raises UserError if it cannot be read, is damaged or is none of ours."""
    data = read_bytes("checkpoint", name)
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
        about = json.loads(str(arrays.pop("about")))
        known, version = about["format"] == FORMAT, about["version"]
    except Exception:       # numpy and zipfile raise a dozen kinds for damaged files
        raise UserError(f"checkpoint = {name!r} is damaged, or no checkpoint") from None
    if not known or version != VERSION:
        raise UserError(f"checkpoint = {name!r} is of another format or version")
    try:
        network = network_from_dict(about["network"])
        history = [Epoch(**epoch) for epoch in about["history"]]
        wanted = {key: value.shape for key, value in network.parameters(0).items()}
        parameters, velocity = ({key.removeprefix(f"{part}/"): value for key, value in arrays.items() if key.startswith(f"{part}/")}
                                for part in PARTS)
        for values in (parameters, velocity):
            if {key: value.shape for key, value in values.items()} != wanted or any(value.dtype != np.float32 for value in values.values()):
                raise ValueError
        return Checkpoint(origin=about["origin"], run=about["run"], network=network, history=history, hook=about["hook"],
                          pending=bool(about["pending"]), parameters={key: parameters[key] for key in wanted},
                          velocity={key: velocity[key] for key in wanted})
    except (KeyError, TypeError, ValueError):
        raise UserError(f"checkpoint = {name!r} does not fit itself: its parameters are not those of its network") from None


def resume(name: str, trainer: Trainer, run: dict[str, Any]):
    """Let `trainer` go on from a file. Raises UserError, before it is changed, if the file's run is another one by model or settings."""
    found = load(name)
    wanted = network_to_dict(trainer.origin)
    if found.origin != wanted:
        there, here = ([layer["name"] for layer in network["layers"]] for network in (found.origin, wanted))
        differs = next((ours["name"] for ours, theirs in zip(wanted["layers"], found.origin["layers"]) if ours != theirs),
                       f"layer {min(len(there), len(here)) + 1}")
        names = f"{found.origin['name']!r}, here {trainer.origin.name!r}"
        raise UserError(f"checkpoint = {name!r} is of another model: {names}, {differs} differs")
    for key in sorted({*run, *found.run}):
        if run.get(key) != found.run.get(key):
            raise UserError(f"checkpoint = {name!r} is of a run with {key} = {found.run.get(key)}, not {run.get(key)}")
    trainer.hook.restore(found.hook)
    trainer.go_on_from(found.network, found.parameters, found.velocity, found.history, found.pending)

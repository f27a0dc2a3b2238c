"""What is told of a run: as JSON, and as a table. `sw.train.report` draws it."""

from collections.abc import Sequence
from typing import Any

from sw.train.costs import CONFIG, described
from sw.train.machine_steps import MachineStep
from sw.train.trainer import Trainer

COUNTED = "Multiply-adds of a training step are those of all its products. Cycles, utilisation and energy are estimates in closed form."


def record(about: dict[str, Any], trainer: Trainer, rtl_steps: Sequence[MachineStep] = ()) -> dict[str, Any]:
    """Everything: what the run was, its epochs, the network it began with and the one that is left, with what a step costs on `costs_of`,
    and the steps that the RTL made too. Energy is in pJ."""
    return {**about, "train_images": len(trainer.data.train_images), "test_images": len(trainer.data.test_images), "costs_of": CONFIG,
            "dense": described(trainer.origin, trainer.settings.batch), "left": described(trainer.network, trainer.hook.batch(trainer)),
            "epochs": [epoch.to_dict() for epoch in trainer.history],
            "rtl_steps": [step.to_dict() for step in rtl_steps]}


def removed(found: dict[str, Any]) -> dict[str, float]:
    """Shares of multiply-adds that pruning has removed: from inference and from a training step on the network that is left, and from all
    epochs."""
    dense, left, epochs = found["dense"], found["left"], found["epochs"]
    return {"inference": 1 - left["inference_macs"] / dense["inference_macs"], "a training step": 1 - left["macs"] / dense["macs"],
            "the whole run": 1 - sum(epoch["macs"] for epoch in epochs) / (len(epochs) * dense["macs"])}


def text(found: dict[str, Any]) -> str:
    """A line for the run, one for each epoch, and what came of it."""
    engine = found["engine"] + (f" ({found['config']})" if found["config"] else " (fp32)")
    parts = [f"engine {engine}", f"batch {found['batch']}", f"rate {found['rate']:g}", f"seed {found['seed']}"]
    if found["sub_batch"] != found["batch"]:
        parts.insert(2, f"in sub-batches of {found['sub_batch']}")
    if found["prune"] is not None:
        parts.append(f"pruned with ratio {found['prune']:g} every {found['prune_every']} epochs below {found['prune_below']:g}")
    if found["prune_grow"]:
        parts.append(f"growing by {found['prune_grow']} images")
    lines = [f"{found['model']} on {found['train_images']:,} images of {found['data']}, {', '.join(parts)}", "",
             f"{'epoch':>5} {'loss':>8} {'accuracy':>9} {'channels':>9} {'multiply-adds':>14}"]
    lines += [f"{number:5} {epoch['loss']:8.4f} {epoch['accuracy']:9.1%} {sum(epoch['channels'].values()):9,} {epoch['macs']:14,}"
              for number, epoch in enumerate(found["epochs"], 1)]
    return "\n".join([*lines, "", *ends(found)])


def ends(found: dict[str, Any]) -> list[str]:
    """What came of the run: steps on the RTL, multiply-adds removed, accuracy."""
    lines = [f"step {number} on the RTL: {'every tensor as the golden engine has it' if step['exact'] else 'DIFFERENT'}, "
             f"{step['cycles']:,} cycles ({step['model_cycles']:,} predicted)" for number, step in enumerate(found["rtl_steps"], 1)]
    if found["prune"] is not None:
        lines.append("multiply-adds removed: " + ", ".join(f"{share:.1%} of {what}" for what, share in removed(found).items()))
    return [*lines, f"accuracy {found['epochs'][-1]['accuracy']:.1%} on {found['test_images']} other images"]

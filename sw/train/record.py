"""What is told of a run: as JSON, as a table, and as an HTML page that needs no network."""

from collections.abc import Sequence
from html import escape
from typing import Any

from sw.cost.page import HEIGHT, LEFT, STYLE, WIDTH, axis
from sw.train.machine_steps import MachineStep
from sw.train.trainer import Trainer

COLOURS = ("#1f4e79", "#f28e2b", "#59a14f", "#e15759", "#b07aa1", "#edc948", "#76b7b2", "#9c755f", "#4c9be8", "#f2a93b")


def record(about: dict[str, Any], trainer: Trainer, rtl_steps: Sequence[MachineStep] = ()) -> dict[str, Any]:
    """Everything: what the run was, its epochs, and the steps that the RTL made too."""
    return {**about, "train_images": len(trainer.data.train_images), "test_images": len(trainer.data.test_images),
            "epochs": [epoch.to_dict() for epoch in trainer.history],
            "rtl_steps": [step.to_dict() for step in rtl_steps]}


def text(found: dict[str, Any]) -> str:
    """A line for the run and one for each epoch."""
    engine = found["engine"] + (f" ({found['config']})" if found["config"] else " (fp32)")
    parts = [f"engine {engine}", f"batch {found['batch']}", f"seed {found['seed']}"]
    if found["sub_batch"] != found["batch"]:
        parts.insert(2, f"in sub-batches of {found['sub_batch']}")
    if found["prune"] is not None:
        parts.append(f"pruned with ratio {found['prune']}")
    lines = [f"{found['model']} on {found['train_images']:,} images of {found['data']}, {', '.join(parts)}", "",
             f"{'epoch':>5} {'loss':>8} {'accuracy':>9} {'channels':>9} {'multiply-adds':>14}"]
    lines += [f"{number:5} {epoch['loss']:8.4f} {epoch['accuracy']:9.1%} {sum(epoch['channels'].values()):9,} {epoch['macs']:14,}"
              for number, epoch in enumerate(found["epochs"], 1)]
    if found["rtl_steps"]:
        lines += ["", *(f"step {number} on the RTL: {'every tensor as the golden engine has it' if step['exact'] else 'DIFFERENT'}, "
                        f"{step['cycles']:,} cycles ({step['model_cycles']:,} predicted)"
                        for number, step in enumerate(found["rtl_steps"], 1))]
    last = found["epochs"][-1]
    return "\n".join([*lines, "", f"accuracy {last['accuracy']:.1%} on {found['test_images']} other images"])


def page(found: dict[str, Any]) -> str:
    """Curves along the epochs and a table."""
    epochs = found["epochs"]
    head, *rest = text(found).splitlines()
    curves = {"Loss": {"loss": [epoch["loss"] for epoch in epochs]}, "Accuracy": {"accuracy": [epoch["accuracy"] for epoch in epochs]},
              "Output channels": {name: [epoch["channels"].get(name, 0) for epoch in epochs] for name in epochs[0]["channels"]},
              "Multiply-adds of a training step for each image": {"multiply-adds": [epoch["macs"] for epoch in epochs]},
              "Cycles of a training step by organisation (estimates)":
                  {name: [epoch["cycles"][name] for epoch in epochs] for name in epochs[0]["cycles"]}}
    body = "".join(f"<h2>{escape(name)}</h2>{lines(values)}" for name, values in curves.items())
    names = ["epoch", "loss", "accuracy", "batch", "multiply-adds", *epochs[0]["cycles"], *epochs[0]["channels"]]
    rows = [[str(number), f"{epoch['loss']:.4f}", f"{epoch['accuracy']:.1%}", str(epoch["batch"]), f"{epoch['macs']:,}",
             *(f"{cycles:,}" for cycles in epoch["cycles"].values()),
             *(str(epoch["channels"].get(name, 0)) for name in epochs[0]["channels"])]
            for number, epoch in enumerate(epochs, 1)]
    table = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    heads = "".join(f"<th>{escape(name)}</th>" for name in names)
    return (f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(head)}</title><style>{STYLE}</style>"
            f"<h1>{escape(head)}</h1><p>{escape(rest[-1])}</p>{body}<h2>Epochs</h2>"
            f"<table><thead><tr>{heads}</tr></thead><tbody>{table}</tbody></table></html>\n")


def lines(curves: dict[str, list[float]]) -> str:
    """A line for each curve along the epochs, from zero."""
    top = max((value for values in curves.values() for value in values), default=0) or 1
    shapes = [axis(top)]
    for number, (name, values) in enumerate(curves.items()):
        colour, step = COLOURS[number % len(COLOURS)], (WIDTH - LEFT - 10) / max(1, len(values) - 1)
        points = [(LEFT + place * step, HEIGHT - value / top * (HEIGHT - 10)) for place, value in enumerate(values)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        shapes.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        shapes += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}">'
                   f"<title>{escape(name)}, epoch {place}: {value:,.4g}</title></circle>"
                   for place, ((x, y), value) in enumerate(zip(points, values), 1)]
    keys = "".join(f'<span class=key><i style="background:{COLOURS[number % len(COLOURS)]}"></i>{escape(name)}</span>'
                   for number, name in enumerate(curves))
    return f'{keys if len(curves) > 1 else ""}<svg viewBox="0 0 {WIDTH} {HEIGHT + 4}" width="{WIDTH}">{"".join(shapes)}</svg>'

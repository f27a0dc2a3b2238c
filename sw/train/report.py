"""Runs drawn and in tables, from what `flexwave train --json` writes: a page for one run or several, Markdown.

    python -m sw.train.report A.json B.json -o FOLDER
"""

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from gen.config import ORGANISATIONS
from sw.cli.console import read_bytes, write_bytes
from sw.cost.page import STYLE
from sw.runtime.errors import UserError
from sw.studies.table import markdown
from sw.train import record
from sw.train.curves import Curve, draw, steps

Runs = Mapping[str, dict[str, Any]]                     # records by a name for each
Table = tuple[str, Sequence[str], list[Sequence[str]]]  # what it shows, heads, rows
# Of a step by organisation: name, unit, how many of them are one in the record, how to print it.
COSTS = {"cycles": ("cycles", "", 1, "{:,.0f}"), "utilisation": ("utilisation", ", %", 100, "{:.1f}"),
         "energy": ("energy", ", uJ", 1e-6, "{:,.1f}")}
HEADS = ("run", "ratio", "every", "below", "epochs", "accuracy", "channels at the end", "removed: inference", "training step", "whole run")


def load(names: Sequence[str]) -> Runs:
    """Records of files, by the files' names. Raises UserError for a file that cannot be read or is none, and for two of one name."""
    found = {}
    for name in names:
        label = Path(name).stem
        if label in found:
            raise UserError(f"runs = {name!r}: there are two called {label!r}")
        data = read_bytes("runs", name)
        try:
            found[label] = json.loads(data)
            page({label: found[label]})
        except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError):     # whatever else a JSON file holds
            raise UserError(f"runs = {name!r} is not what flexwave train --json writes") from None
    return found


# Tables.

def tables(runs: Runs) -> list[Table]:
    """The runs beside each other, and of each its cost on the organisations."""
    found: list[Table] = [("Multiply-adds removed against accuracy", HEADS, [
        (label, *("-" if run[name] is None else f"{run[name]:g}" for name in ("prune", "prune_every", "prune_below")),
         str(len(run["epochs"])), f"{run['epochs'][-1]['accuracy']:.1%}", " ".join(map(str, run["left"]["channels"].values())),
         *(f"{share:.1%}" for share in record.removed(run).values())) for label, run in runs.items()])]
    for label, run in runs.items():
        rows: list[Sequence[str]] = [(f"utilisation, {what}", *(f"{run[name]['utilisation'][each]:.1%}" for each in ORGANISATIONS))
                for what, name in (("dense", "dense"), ("at the end", "left"))]
        rows += [(f"{cost} of the whole run, of dense", *(f"{part:.1%}" for part in of_dense(run, cost))) for cost in ("cycles", "energy")]
        found.append((f"{label}: on {run['costs_of']}, estimates", ("", *ORGANISATIONS), rows))
    return found


def epochs(run: dict[str, Any]) -> Table:
    """A row for each epoch."""
    names = list(run["dense"]["channels"])
    costs = [f"{what} {each}{unit}" for what, unit, *_ in COSTS.values() for each in ORGANISATIONS]
    return "Epochs", ("epoch", "loss", "accuracy", "batch", "multiply-adds", *costs, *names), [
        (str(number), f"{epoch['loss']:.4f}", f"{epoch['accuracy']:.1%}", str(epoch["batch"]), f"{epoch['macs']:,}",
         *(form.format(scale * epoch[cost][each]) for cost, (*_, scale, form) in COSTS.items() for each in ORGANISATIONS),
         *(str(epoch["channels"].get(name, 0)) for name in names)) for number, epoch in enumerate(run["epochs"], 1)]


def of_dense(run: dict[str, Any], cost: str) -> list[float]:
    """Cycles or energy of the whole run by organisation, as shares of what they were with the network and batch of the beginning."""
    dense = run["dense"]
    return [sum(epoch[cost][each] / epoch["batch"] for epoch in run["epochs"]) / (len(run["epochs"]) * dense[cost][each] / dense["batch"])
            for each in ORGANISATIONS]


def text(runs: Runs) -> str:
    """The tables as Markdown."""
    return "\n".join(["# Training runs\n", record.COUNTED + "\n",
                      *(f"## {title}\n\n{markdown(heads, rows)}" for title, heads, rows in tables(runs))])


# The page.

def page(runs: Runs) -> str:
    """Curves and tables; works without a network. Where there is one run, its steps on the RTL and its epochs are part of it."""
    first, *others = runs.values()
    title = f"{len(runs)} training runs" if others else record.text(first).splitlines()[0]
    parts = [("Loss", _epochs(runs, "loss")), ("Accuracy, %", _epochs(runs, "accuracy", 100)),
             ("Multiply-adds of a training step, % of dense", draw(
                 [Curve(name, steps([100 * macs / run["dense"]["macs"] for macs in _macs(run)])) for name, run in runs.items()])),
             ("Accuracy, %, against multiply-adds removed from a training step, %", _trade(runs))]
    for name, run in runs.items():
        for cost, (what, unit, scale, _) in COSTS.items():
            values = {each: [scale * epoch[cost][each] for epoch in [*run["epochs"], run["left"]]] for each in ORGANISATIONS}
            heading = f"{what.capitalize()} of a training step on organisations of {run['costs_of']}{unit}"
            parts.append((f"{name}: {heading}" if others else heading, draw([Curve(each, steps(found)) for each, found in values.items()])))
    if not others:
        states = [epoch["channels"] for epoch in (*first["epochs"], first["left"])]
        parts.append(("Output channels", draw([Curve(name, steps([state.get(name, 0) for state in states])) for name in states[0]])))
    body = "".join(f"<h2>{escape(name)}</h2>{figure}" for name, figure in parts)
    every = tables(runs) + ([] if others else [epochs(first)])
    body += "".join(f"<h2>{escape(name)}</h2>{_table(heads, rows)}" for name, heads, rows in every)
    said = "" if others else "".join(f"<p>{escape(line)}</p>" for line in record.ends(first))
    return (f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(title)}</title><style>{STYLE}</style>"
            f"<h1>{escape(title)}</h1>{said}<p>{escape(record.COUNTED)}</p>{body}</html>\n")


def _epochs(runs: Runs, name: str, scale: float = 1) -> str:
    """A number of every epoch."""
    return draw([Curve(label, [(number, scale * epoch[name]) for number, epoch in enumerate(run["epochs"], 1)])
                 for label, run in runs.items()])


def _macs(run: dict[str, Any]) -> list[int]:
    """Multiply-adds of a step in every epoch, and of the network that is left."""
    return [*(epoch["macs"] for epoch in run["epochs"]), run["left"]["macs"]]


def _trade(runs: Runs) -> str:
    """A point for each epoch, the last one large: accuracy is measured behind it, on the network of the next one. Cut off well below where
    the runs end."""
    floor = 100 * min(run["epochs"][-1]["accuracy"] for run in runs.values()) - 5
    low = max(0, 10 * (floor // 10))
    curves = []
    for label, run in runs.items():
        points = [(100 * (1 - macs / run["dense"]["macs"]), 100 * epoch["accuracy"]) for epoch, macs in zip(run["epochs"], _macs(run)[1:])]
        curves.append(Curve(label, [point for point in points if point[1] >= low], line=False))
    return draw(curves, low=(0, low), high=(100, 100))


def _table(heads: Sequence[str], rows: list[Sequence[str]]) -> str:
    top = "".join(f"<th>{escape(head)}</th>" for head in heads)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"


def main(argv: Sequence[str] | None = None, say: Callable[[str], Any] = print) -> int:
    """Write runs.md and runs.html; 2 and a line for what is no record."""
    parser = argparse.ArgumentParser(prog="python -m sw.train.report", description="Compare training runs.", allow_abbrev=False)
    parser.add_argument("runs", nargs="+", metavar="RUN.json", help="what flexwave train --json wrote")
    parser.add_argument("-o", "--output", required=True, metavar="FOLDER", help="for runs.md and runs.html")
    options = parser.parse_args(argv)
    try:
        found = load(options.runs)
    except UserError as error:
        print(f"report: {error}", file=sys.stderr)
        return 2
    folder = Path(options.output)
    folder.mkdir(parents=True, exist_ok=True)
    write_bytes(folder / "runs.md", text(found).encode())
    write_bytes(folder / "runs.html", page(found).encode())
    say(text(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())

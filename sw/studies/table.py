"""What a study gives back: tables with the paper's number beside ours, the points as JSON, and a plot."""

import json
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Claim:
    """A number of a paper, ours, how sure the paper's is, and what explains a difference."""

    name: str
    paper: float
    ours: float
    source: str             # "paper": its abstract; "log": its authors'; "derived": from its definitions; "recalled": unchecked
    form: str = "{:.3g}"    # how to print both
    remark: str = ""

    @property
    def ratio(self) -> float:
        """Ours over the paper's."""
        return self.ours / self.paper


def claims_table(claims: Sequence[Claim]) -> str:
    """A line a claim."""
    rows = [(claim.name, claim.form.format(claim.paper), claim.form.format(claim.ours), f"{claim.ratio:.3f}", claim.source, claim.remark)
            for claim in claims]
    return markdown(("quantity", "paper", "ours", "ratio", "source", "remark"), rows)


def markdown(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table in Markdown whose columns line up as plain text, too."""
    cells = [[str(cell) for cell in row] for row in (heads, *rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(heads))]
    lines = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |" for row in cells]
    return "\n".join([lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]]) + "\n"


def to_json(points: object) -> str:
    """Points as a JSON file."""
    return json.dumps(points, indent=1) + "\n"

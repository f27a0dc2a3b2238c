"""Figures as files: written in one step, and the same bytes for the same figure."""

import os
from pathlib import Path

SALT = "flexwave"       # of the names inside an SVG, which are random without


def save(figure, path: Path):
    """Write a matplotlib figure and close it."""
    import matplotlib
    import matplotlib.pyplot as plt

    part = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        with matplotlib.rc_context({"svg.hashsalt": SALT}):
            figure.savefig(part, metadata={"Date": None} if path.suffix == ".svg" else None)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
        plt.close(figure)

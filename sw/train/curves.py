"""Curves as SVG for pages that need no network."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import ceil

from sw.cost.page import HEIGHT, LEFT, WIDTH, number

COLOURS = ("#1f4e79", "#f28e2b", "#59a14f", "#e15759", "#b07aa1", "#edc948", "#76b7b2", "#9c755f", "#4c9be8", "#f2a93b")
MARKS = 12      # below the figure, at most
Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Curve:
    """Points (x, y) with a line through them; without one, the last point is a large one."""

    name: str
    points: Points
    line: bool = True


def steps(values: Sequence[float]) -> Points:
    """A value for each epoch, from its beginning to its end; epochs count from 1. The last value is what is left behind the last one."""
    points = []
    for epoch, value in enumerate(values[:-1], 1):
        points += [(epoch - 0.5, value), (epoch + 0.5, value)]
    return [*points, (len(values) - 0.5, values[-1])]


def draw(curves: Sequence[Curve], low: tuple[float, float] | None = None, high: tuple[float, float] | None = None) -> str:
    """All curves in one figure, with keys above it. `low` and `high`: the axes' ends (x, y), None: y from zero, the rest as the points are.
    What a point is, is told where the mouse is on it."""
    xs, ys = ([point[place] for curve in curves for point in curve.points] or [0] for place in (0, 1))
    (left, bottom), (right, top) = low or (min(xs), 0), high or (max(xs), max(ys))
    wide, tall = right - left or 1, top - bottom or 1

    def at(point: tuple[float, float]) -> tuple[float, float]:
        return LEFT + (point[0] - left) / wide * (WIDTH - LEFT - 10), HEIGHT - (point[1] - bottom) / tall * (HEIGHT - 10)

    shapes = []
    for part in (0, 0.5, 1):
        x, y = at((left, bottom + part * tall))
        shapes.append(f'<line x1="{x:.1f}" x2="{WIDTH}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>'
                      f'<text x="{x - 6:.1f}" y="{y + 3:.1f}" text-anchor="end">{number(bottom + part * tall)}</text>')
    every = next(step * 10**power for power in range(20) for step in (1, 2, 5) if wide <= MARKS * step * 10**power)
    for mark in range(ceil(left / every) * every, int(right) + 1, every):
        shapes.append(f'<text x="{at((mark, bottom))[0]:.1f}" y="{HEIGHT + 14}" text-anchor="middle">{mark}</text>')
    for place, curve in enumerate(curves):
        colour, points = COLOURS[place % len(COLOURS)], [at(point) for point in curve.points]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        if curve.line:
            shapes.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        sizes = [3] * len(points) if curve.line else [3] * (len(points) - 1) + [7]
        for given, (x, y), size in zip(curve.points, points, sizes):
            said = f"{escape(curve.name)}: {given[0]:.4g}, {given[1]:,.5g}"
            shapes.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{size}" fill="{colour}"><title>{said}</title></circle>')
    keys = "".join(f'<span class=key><i style="background:{COLOURS[place % len(COLOURS)]}"></i>{escape(curve.name)}</span>'
                   for place, curve in enumerate(curves))
    return f'{keys if len(curves) > 1 else ""}<svg viewBox="0 0 {WIDTH} {HEIGHT + 18}" width="{WIDTH}">{"".join(shapes)}</svg>'

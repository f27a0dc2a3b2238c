"""A network's cost as one HTML page that needs no network: plots along the layers, a roofline, the groups of MBS, a table to sort."""

from collections.abc import Sequence
from html import escape
from math import log10

from gen.isa import Mode
from sw.cost.layers import LayerCost, NetworkCost

COLOURS = {"FW": "#1f4e79", "VSW": "#4c9be8", "HSW": "#59a14f", "ISW": "#f2a93b"}
KINDS = {"DRAM": ("#b07aa1", ("dram_bytes", "dram_read_bytes", "dram_write_bytes")),
         "to the local buffers": ("#f28e2b", ("gbuf_to_lbuf_moving_bytes", "gbuf_to_lbuf_stationary_bytes")),
         "stored": ("#76b7b2", ("gbuf_store_bytes",))}
GROUPS = ("#4e79a7", "#f28e2b", "#59a14f", "#e15759", "#b07aa1", "#edc948", "#76b7b2", "#9c755f")
WIDTH, HEIGHT, LEFT = 1100, 180, 80

STYLE = """
body { font: 14px system-ui, sans-serif; margin: 2em auto; max-width: 1180px; color: #222 }
h1 { font-size: 22px } h2 { font-size: 16px; margin: 1.6em 0 .3em }
dl { display: flex; flex-wrap: wrap; gap: .6em 2.4em } dt { color: #666; font-size: 12px } dd { margin: 0; font-size: 18px }
table { border-collapse: collapse; width: 100%; font-size: 12px } th { cursor: pointer; text-align: right; border-bottom: 2px solid #888 }
td { text-align: right; padding: 2px 6px; border-bottom: 1px solid #ddd } td:first-child, th:first-child { text-align: left }
tr.estimate td { color: #777; font-style: italic } .key { font-size: 12px; margin-right: 1.2em }
.key i { display: inline-block; width: .8em; height: .8em; margin-right: .3em }
svg { display: block; background: #fafafa } svg text { font-size: 10px; fill: #444 } svg rect:hover, svg circle:hover { opacity: .6 }
"""
SORT = """
for (const [column, head] of document.querySelectorAll("th").entries()) head.onclick = () => {
  const body = document.querySelector("tbody"), up = head.dataset.up !== "1";
  const value = row => row.cells[column].dataset.value;
  const rows = [...body.rows].sort((a, b) => (isNaN(value(a)) ? value(a).localeCompare(value(b)) : value(a) - value(b)) * (up ? 1 : -1));
  body.append(...rows);
  head.dataset.up = up ? "1" : "0";
};
"""


def page(cost: NetworkCost) -> str:
    """The page."""
    totals = {
        "multiply-adds": f"{cost.macs:,}", "cycles": f"{cost.cycles:,}", "utilization": f"{cost.utilization:.1%}",
        "DRAM bytes": f"{cost.dram_bytes:,}", "energy": f"{cost.energy_pj / 1e6:,.1f} uJ",
        "cycles that are estimates": f"{sum(layer.cycles for layer in cost.layers if not layer.proved) / cost.cycles:.1%}",
    }
    title = f"{cost.network}, batch {cost.batch}, {cost.phase}, on {cost.config.name} ({cost.config.organisation})"
    layers = cost.layers
    sections = [
        ("Cycles", bars(layers, {"array at work": ("#1f4e79", [layer.macs / cost.config.pes for layer in layers]),
                                 "the rest": ("#c6d4e1", [layer.cycles - layer.macs / cost.config.pes for layer in layers])})),
        ("Utilization", bars(layers, {"utilization": ("#59a14f", [utilization(cost, layer) for layer in layers])}, most=1.0)),
        ("Waves by mode", bars(layers, {mode.name: (COLOURS[mode.name], [layer.waves[mode.name] for layer in layers]) for mode in Mode})),
        ("Bytes", bars(layers, {name: (colour, [sum(layer.traffic.get(key, 0) for key in keys) for layer in layers])
                                for name, (colour, keys) in KINDS.items()})),
        ("Energy, uJ", bars(layers, {"energy": ("#b07aa1", [layer.energy_pj / 1e6 for layer in layers])})),
        ("Roofline: multiply-adds a cycle over multiply-adds a DRAM byte", roofline(cost)),
    ]
    if cost.groups:
        sections.append(("Groups of units that a sub-batch passes on chip", groups(cost.groups)))
    body = "".join(f"<h2>{escape(name)}</h2>{content}" for name, content in sections)
    facts = "".join(f"<div><dt>{escape(name)}</dt><dd>{value}</dd></div>" for name, value in totals.items())
    return (f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(title)}</title><style>{STYLE}</style>"
            f"<h1>{escape(title)}</h1><dl>{facts}</dl>{body}<h2>Layers</h2>{table(cost)}<script>{SORT}</script></html>\n")


def utilization(cost: NetworkCost, layer: LayerCost) -> float:
    """Of a layer."""
    return layer.macs / (cost.config.pes * layer.cycles) if layer.cycles else 0.0


def bars(layers: Sequence[LayerCost], parts: dict[str, tuple[str, list[float]]], most: float | None = None) -> str:
    """Stacked bars along the layers; `parts` are colour and values by name."""
    sums = [sum(values[number] for _, values in parts.values()) for number in range(len(layers))]
    top = most or max(sums) or 1
    step = (WIDTH - LEFT) / max(1, len(layers))
    shapes = [axis(top)]
    for number, layer in enumerate(layers):
        base = HEIGHT
        for name, (colour, values) in parts.items():
            height = values[number] / top * (HEIGHT - 10)
            base -= height
            if height > 0.05:
                said = f"{layer.name} {layer.phase}: {name} {values[number]:,.4g}"
                shapes.append(f'<rect x="{LEFT + number * step:.1f}" y="{base:.1f}" width="{max(0.6, step - 1):.1f}" height="{height:.1f}" '
                              f'fill="{colour}"><title>{escape(said)}</title></rect>')
    keys = "".join(f'<span class=key><i style="background:{colour}"></i>{escape(name)}</span>' for name, (colour, _) in parts.items())
    return f'{keys if len(parts) > 1 else ""}<svg viewBox="0 0 {WIDTH} {HEIGHT + 4}" width="{WIDTH}">{"".join(shapes)}</svg>'


def axis(top: float) -> str:
    """Lines at zero, a half and the top."""
    lines = []
    for part in (0, 0.5, 1):
        y = HEIGHT - part * (HEIGHT - 10)
        lines.append(f'<line x1="{LEFT}" x2="{WIDTH}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>'
                     f'<text x="{LEFT - 6}" y="{y + 3:.1f}" text-anchor="end">{number(part * top)}</text>')
    return "".join(lines)


def number(value: float) -> str:
    """Short, without an exponent."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def roofline(cost: NetworkCost) -> str:
    """Every layer that multiplies, below what the PEs and the memory port allow; both axes logarithmic. Both products of a layer's backward
    pass are one point: they share its bytes.
    """
    sums: dict[tuple[str, str], list[int]] = {}
    for layer in cost.layers:
        one = sums.setdefault((layer.name, layer.phase if layer.phase in ("inference", "forward") else "backward"), [0, 0, 0])
        for place, value in enumerate((layer.macs, layer.cycles, sum(layer.traffic.get(key, 0) for key in KINDS["DRAM"][1]))):
            one[place] += value
    points = [(" ".join(name), macs / moved, macs / cycles) for name, (macs, cycles, moved) in sums.items() if macs and cycles and moved]
    if not points:
        return "<p>No layer of this phase has DRAM bytes of its own.</p>"
    peak, port, height = cost.config.pes, cost.port, 2 * HEIGHT
    low, high = (edge(log10(value) for _, value, _ in points) for edge in (min, max))
    low, high = min(low, log10(peak / port)) - 0.2, max(high, log10(peak / port)) + 0.2
    floor = min(log10(value) for *_, value in points) - 0.2

    def x(value: float) -> float:
        return LEFT + (log10(value) - low) / (high - low) * (WIDTH - LEFT - 10)

    def y(value: float) -> float:
        return height - (log10(value) - floor) / (log10(peak) + 0.1 - floor) * (height - 10)

    knee, left = peak / port, 10**low
    roof = f"M{x(left):.1f},{y(max(10**floor, left * port)):.1f} L{x(knee):.1f},{y(peak):.1f} L{WIDTH},{y(peak):.1f}"
    dots = "".join(f'<circle cx="{x(intensity):.1f}" cy="{y(speed):.1f}" r="4" fill="#1f4e79" fill-opacity=".7">'
                   f"<title>{escape(name)}: {intensity:,.1f} a byte, {speed:,.1f} a cycle</title></circle>"
                   for name, intensity, speed in points)
    return (f'<svg viewBox="0 0 {WIDTH} {height + 4}" width="{WIDTH}"><path d="{roof}" fill="none" stroke="#e15759" stroke-width="2"/>'
            f'<text x="{x(knee) + 6:.0f}" y="{y(peak) + 14:.0f}">{peak:,} PEs, {port} bytes a cycle: knee at {knee:,.1f}</text>'
            f"{dots}</svg>")


def groups(found: Sequence[tuple[list[str], int]]) -> str:
    """A strip of all units, a colour a group, with its sub-batch."""
    units = sum(len(names) for names, _ in found)
    step, at, shapes = (WIDTH - LEFT) / units, 0, []
    for number, (names, sub_batch) in enumerate(found):
        colour = GROUPS[number % len(GROUPS)]
        shapes.append(f'<rect x="{LEFT + at * step:.1f}" y="8" width="{len(names) * step - 1:.1f}" height="40" fill="{colour}">'
                      f"<title>{escape(names[0])} to {escape(names[-1])}: {len(names)} units, sub-batch {sub_batch}</title></rect>"
                      f'<text x="{LEFT + (at + len(names) / 2) * step:.1f}" y="64" text-anchor="middle">{sub_batch}</text>')
        at += len(names)
    return (f'<svg viewBox="0 0 {WIDTH} 72" width="{WIDTH}"><text x="{LEFT - 6}" y="64" text-anchor="end">sub-batch</text>'
            f'{"".join(shapes)}</svg>')


def table(cost: NetworkCost) -> str:
    """All layers, sorted by a click on a head."""
    heads = ("layer", "phase", "M", "N", "K", "groups", "multiply-adds", "cycles", "utilization", *(mode.name for mode in Mode),
             "DRAM bytes", "energy, uJ", "remark")
    rows = []
    for layer in cost.layers:
        dram = sum(layer.traffic.get(key, 0) for key in KINDS["DRAM"][1])
        used = utilization(cost, layer)
        cells = [(layer.name, layer.name), (layer.phase, layer.phase),
                 *((value, f"{value:,}") for value in (layer.m, layer.n, layer.k, layer.groups, layer.macs, layer.cycles)),
                 (used, f"{used:.1%}"), *((layer.waves[mode.name], f"{layer.waves[mode.name]:,}") for mode in Mode), (dram, f"{dram:,}"),
                 (layer.energy_pj, f"{layer.energy_pj / 1e6:,.2f}"),
                 (layer.remark, ("" if layer.proved else "estimate" + ": " * bool(layer.remark)) + layer.remark)]
        rows.append(f'<tr{"" if layer.proved else " class=estimate"}>'
                    + "".join(f'<td data-value="{escape(str(value))}">{escape(text)}</td>' for value, text in cells) + "</tr>")
    return f"<table><thead><tr>{''.join(f'<th>{head}</th>' for head in heads)}</tr></thead><tbody>{''.join(rows)}</tbody></table>"

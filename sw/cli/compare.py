"""`flexwave compare`: the layers of a SCALE-Sim topology on our machine, beside what SCALE-Sim's formulas say."""

import json
from typing import TYPE_CHECKING

from sw.cli.console import add_configuration, configuration, output_file, progress, read_bytes, write_bytes
from sw.runtime.errors import UserError

if TYPE_CHECKING:
    from sw.cost.comparison import Line


def add(commands):
    """Add the command."""
    command = commands.add_parser("compare", help="cycles of a SCALE-Sim topology's layers beside SCALE-Sim's formulas", allow_abbrev=False)
    command.add_argument("topology", metavar="FILE.csv", help="convolutions or matrix products, one a line")
    add_configuration(command)
    command.add_argument("--json", metavar="FILE", help="write the table as JSON (- for standard output)")
    command.set_defaults(run=run)


def run(options) -> int:
    """Print the table."""
    out = output_file("json", options.json if options.json != "-" else None)
    config = configuration(options)
    from sw.compiler.errors import CompileError
    from sw.cost.comparison import Line, array_side, compare
    from sw.frontends.scalesim import TopologyError, read_topology

    try:
        rows = read_topology(read_bytes("topology", options.topology).decode())
    except (TopologyError, UnicodeDecodeError) as error:
        raise UserError(f"{options.topology}: {error if isinstance(error, TopologyError) else 'is not text'}") from None
    try:
        with compare(config, rows) as found, progress(f"{len(rows)} layers on {config.name} {config.organisation}") as tell:
            lines = []
            for line in found:
                lines.append(line)
                tell(f"{line.name}: layer {len(lines)} of {len(rows)}")
    except CompileError as error:
        raise UserError(f"{options.topology}: {error}") from None
    side = array_side(config)
    total = {name: sum(getattr(line, name) for line in lines) for name in Line._fields[4:]}
    macs = sum(line.m * line.n * line.k for line in lines)
    report = {"config": config.name, "organisation": config.organisation, "array": [side, side], "macs": macs, **total,
              "utilization": macs / (config.pes * total["cycles"]), "layers": [line._asdict() for line in lines]}
    if out:
        write_bytes(out, (json.dumps(report, indent=1) + "\n").encode())
    print(json.dumps(report, indent=1) if options.json == "-" else to_text(config, lines, total, macs))
    return 0


def to_text(config, lines: "list[Line]", total: dict[str, int], macs: int) -> str:
    """The table, a line a layer."""
    from sw.cost.comparison import array_side

    side = array_side(config)
    heads = ("M", "N", "K", "cycles", "array", "WS", "OS", "IS", "overlap")
    width = max(len("layer"), len("total"), *(len(line.name) for line in lines))
    text = [f"{'layer':<{width}}" + "".join(f"{head:>12}" for head in heads)]
    text += [f"{line.name:<{width}}" + "".join(f"{value:>12,}" for value in line[1:]) for line in lines]
    text.append(f"{'total':<{width}}" + " " * 36 + "".join(f"{value:>12,}" for value in total.values()))
    text.append(f"\n{config.name} {config.organisation}: {macs:,} multiply-adds, utilization {macs / (config.pes * total['cycles']):.1%}. "
                "cycles: all, memory port included; array: from its\nfirst to its last active one. "
                f"WS, OS, IS: SCALE-Sim's formulas for {side} x {side} PEs, without memory; overlap: weights loaded behind each other.")
    return "\n".join(text)

"""`flexwave compare`: the layers of a SCALE-Sim topology on our machine, beside what SCALE-Sim's formulas say."""

import json
from collections.abc import Iterable
from typing import NamedTuple

from sw.cli.console import add_configuration, configuration, output_file, progress, read_bytes, write_bytes
from sw.runtime.errors import UserError


def add(commands):
    """Add the command."""
    command = commands.add_parser("compare", help="cycles of a SCALE-Sim topology's layers beside SCALE-Sim's formulas", allow_abbrev=False)
    command.add_argument("topology", metavar="FILE.csv", help="convolutions or matrix products, one a line")
    add_configuration(command)
    command.add_argument("--json", metavar="FILE", help="write the table as JSON (- for standard output)")
    command.set_defaults(run=run)


class Line(NamedTuple):
    """A layer: its product, our cycles with and without memory, SCALE-Sim's for an array of the same PEs, and the bound between them."""

    name: str
    m: int
    n: int
    k: int
    cycles: int
    array_cycles: int
    weight_stationary: int
    output_stationary: int
    input_stationary: int
    overlapped: int


def run(options) -> int:
    """Print the table."""
    out = output_file("json", options.json if options.json != "-" else None)
    config = configuration(options)
    from sw.frontends.scalesim import TopologyError, read_topology

    try:
        rows = read_topology(read_bytes("topology", options.topology).decode())
    except (TopologyError, UnicodeDecodeError) as error:
        raise UserError(f"{options.topology}: {error if isinstance(error, TopologyError) else 'is not text'}") from None
    with progress(f"{len(rows)} layers on {config.name} {config.organisation}") as tell:
        lines = list(compare(config, rows, options.topology, tell))
    side = array_side(config)
    total = {name: sum(getattr(line, name) for line in lines) for name in Line._fields[4:]}
    macs = sum(line.m * line.n * line.k for line in lines)
    report = {"config": config.name, "organisation": config.organisation, "array": [side, side], "macs": macs, **total,
              "utilization": macs / (config.pes * total["cycles"]), "layers": [line._asdict() for line in lines]}
    if out:
        write_bytes(out, (json.dumps(report, indent=1) + "\n").encode())
    print(json.dumps(report, indent=1) if options.json == "-" else to_text(config, lines, total, macs))
    return 0


def array_side(config) -> int:
    """Side of the square array with as many PEs as the machine."""
    return round(config.pes**0.5)


def compare(config, rows, name: str, tell) -> Iterable[Line]:
    """A line for each layer; layers of equal size are worked out once."""
    from sw.compiler.errors import CompileError
    from sw.compiler.lower import compile_gemm
    from sw.frontends import scalesim
    from sw.model import predict

    known: dict[tuple[int, int, int], tuple[int, int]] = {}
    for number, row in enumerate(rows, 1):
        size = row.m, row.n, row.k
        if size not in known:
            tell(f"layer {number} of {len(rows)}: {row.name}")
            try:
                program = compile_gemm(config, *size)
            except CompileError as error:
                raise UserError(f"{name}: {row.name}: {error}") from None
            found = predict(config, program.instructions, program=program.regions["program"].address)
            known[size] = found.cycles, found.array_cycles
        formulas = (scalesim.weight_stationary, scalesim.output_stationary, scalesim.input_stationary, scalesim.overlapped)
        yield Line(row.name, *size, *known[size], *(formula(row, array_side(config)) for formula in formulas))


def to_text(config, lines: list[Line], total: dict[str, int], macs: int) -> str:
    """The table, a line a layer."""
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

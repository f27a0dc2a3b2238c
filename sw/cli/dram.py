"""`flexwave dram`: host traffic and near-data work on the DRAM controller, with every check and the figures."""

import sys

from sw.cli.console import output_file, progress, write_bytes
from sw.cli.gemm import integer
from sw.runtime.errors import UserError

POLICIES = ("none", "stochastic-4", "stochastic-16", "next-rank")
OPERATIONS = ("copy", "scal", "axpy", "axpby", "axpbypcz", "xmy", "dot", "nrm2", "gemv", "gather", "scatter")


def add(commands):
    """Add the command."""
    command = commands.add_parser("dram", help="host traffic and near-data work on the DRAM controller", allow_abbrev=False)
    command.add_argument("--part", default="ddr4-2400r", metavar="NAME", help="a DRAM part: ddr4-2400r or an SDR chip (sdr-ulx3s, ...)")
    command.add_argument("--channels", default="1", metavar="C", help="1, 2 or 4")
    command.add_argument("--ranks", default="1", metavar="R", help="ranks of a channel: 1, 2 or 4")
    command.add_argument("--host", required=True, metavar="NAME", help="sequential, random, mix0 .. mix8 or trace:FILE")
    command.add_argument("--nda", default="none", choices=(*OPERATIONS, "none"), metavar="OP", help=f"{', '.join(OPERATIONS)} or none")
    command.add_argument("--policy", default="next-rank", choices=POLICIES, help="when near-data writes are held back")
    command.add_argument("--requests", default="20000", metavar="N", help="of the host; 0: near-data work alone")
    command.add_argument("--writes", default="0", metavar="PART", help="part of writes in sequential and random traffic, 0 to 1")
    command.add_argument("--blocks", default="0", metavar="N", help="blocks of a near-data operand in each rank (0: 4096)")
    command.add_argument("--reserved", default=None, metavar="N", help="banks of a rank for near-data operands only; 0: no unit")
    command.add_argument("--interface", choices=("ddr", "packet"), default="ddr", help="scheduler beside the host (replicas) or the memory")
    command.add_argument("--engine", choices=("rtl", "model"), default="rtl", help="generated hardware, or the model of its commands")
    command.add_argument("--seed", default="0", help="seed of the traffic")
    command.add_argument("--json", metavar="FILE", help="write the report as JSON (- for standard output)")
    command.add_argument("--commands", metavar="FILE.csv", help="write every DRAM command")
    command.add_argument("--timeline", metavar="FILE.svg", help="draw a stretch of the run: commands and data of every rank")
    command.set_defaults(run=run)


def run(options) -> int:
    """Run it and print the report; 1 if a check fails."""
    json = output_file("json", options.json if options.json != "-" else None)
    commands = output_file("commands", options.commands)
    if json and commands and json.absolute() == commands.absolute():
        raise UserError(f"commands = {options.commands!r} is the file of json too")
    timeline = output_file("timeline", options.timeline)
    if timeline and timeline.suffix not in (".svg", ".png", ".pdf"):
        raise UserError(f"timeline = {options.timeline!r}: the name must end in .svg, .png or .pdf")
    from sw.dram import metrics, scenario

    case = request(options)
    with progress(f"{options.engine}: {options.host}") as tell:
        result = scenario.run([case], engine=options.engine, progress=tell)[0]
    if commands:
        from sw.dram import commands as trace

        trace.write(commands, metrics.to_commands(case.config, result.recording.commands))
    if timeline:
        from sw.dram.timeline import draw

        draw(case.config, result.recording, timeline)
    if json:
        write_bytes(json, result.to_json().encode())
    print(result.to_json() if options.json == "-" else result.to_text(), end="")
    for failure in result.failures:
        print(f"flexwave: {failure}", file=sys.stderr)
    return int(bool(result.failures))


def request(options):
    """The scenario of the options, checked. Raises UserError."""
    from gen import dram
    from sw.dram.scenario import Scenario

    part = dram.part(options.part)
    reserved = (2 if part.family == "ddr4" else 0) if options.reserved is None else integer("reserved", options.reserved, 0, 8)
    config = dram.DramConfig(part=part, channels=integer("channels", options.channels, 1, 4), ranks=integer("ranks", options.ranks, 1, 4),
                             reserved=reserved, interface=options.interface)
    return Scenario(config=config, host=options.host, requests=integer("requests", options.requests, 0, 100_000_000),
                    operation=None if options.nda == "none" else options.nda, policy=options.policy, seed=integer("seed", options.seed, 0),
                    writes=fraction("writes", options.writes), blocks=integer("blocks", options.blocks, 0, 1 << 20))


def fraction(field: str, text: str) -> float:
    """A number in 0..1. Raises UserError."""
    try:
        value = float(text)
    except ValueError:
        raise UserError(f"{field} = {text!r} is not a number in 0..1") from None
    if not 0 <= value <= 1:
        raise UserError(f"{field} = {text} is outside 0..1")
    return value

"""`flexwave run NETWORK`: what a network (a name, an ONNX model, a SCALE-Sim topology) costs on a machine, layer by layer."""

import json
from fractions import Fraction

from sw.cli.console import configuration, integer, output_file, progress, read_bytes, write_bytes
from sw.runtime.errors import UserError

OPTIONS = ("batch", "phase", "schedule", "report", "trace")
PHASES = ("inference", "training")
DEFAULT_SCHEDULE = "archopt"
SLOWEST, FASTEST = Fraction(1, 8), 1024      # bytes a cycle of a memory port
MOST_PARTS = 64     # denominator of a named memory's bytes a cycle


def names() -> tuple[str, ...]:
    """The networks that have a name."""
    from sw.workloads.catalogue import NETWORKS

    return tuple(NETWORKS)


def is_network(options) -> bool:
    """Whether it is a network's cost that is asked for."""
    name = options.program
    return name.partition("@")[0] in names() or name.endswith(".csv") or (name.endswith(".onnx") and options.input is None)


def load(name: str):
    """The network of a name or a file. Raises UserError."""
    from sw.frontends.scalesim import TopologyError
    from sw.workloads.network import NetworkError

    try:
        if name.endswith(".onnx"):
            from sw.frontends.onnx_network import load_network

            return load_network(read_bytes("model", name), name)
        if name.endswith(".csv"):
            from sw.frontends.scalesim import network_of

            return network_of(read_bytes("topology", name).decode(), name)
        from sw.workloads.catalogue import network

        return network(name)
    except NetworkError as error:
        raise UserError(str(error)) from None
    except (TopologyError, UnicodeDecodeError) as error:
        raise UserError(f"{name}: {error if isinstance(error, TopologyError) else 'is not text'}") from None


def add_options(command):
    """Add the options that only networks have."""
    command.add_argument("--batch", metavar="B", help="of a network: samples at a time (default: 1)")
    command.add_argument("--phase", choices=PHASES, help="of a network: inference (default), or a training step")
    command.add_argument("--report", metavar="FILE.html", help="of a network: write plots and a table as one page")
    command.add_argument("--trace", metavar="FILE.json", help="of a network: write every instruction in time, for Perfetto")
    command.add_argument("--schedule", metavar="NAME",
                         help=f"of a training step: baseline, archopt, il, mbs-fs, mbs1, mbs2 or mbs3 (ours; default: {DEFAULT_SCHEDULE})")


def run(options) -> int:
    """Print the table."""
    out, report, traced = (output_file(name, value) for name, value in (
        ("json", options.json if options.json != "-" else None), ("report", options.report), ("trace", options.trace)))
    if options.engine not in (None, "model"):
        raise UserError(f"engine = {options.engine!r} is none of model (the cost of a network; run an .onnx model for its data)")
    for field in ("input", "output", "out", "device", "baud", "size", "limit"):
        if getattr(options, field) is not None:
            raise UserError(f"{field} = {getattr(options, field)!r} is not for networks, which have no data (of a model give --input)")
    config, pace = on_port(configuration(options), options.memory)
    batch, phase = integer("batch", options.batch or "1", 1, 1 << 16), options.phase or PHASES[0]
    from sw.compiler.errors import CompileError
    from sw.cost.programs import inference
    from sw.cost.steps import training

    built = load(options.program)
    try:
        with progress(options.program) as tell:
            if phase == "training":
                cost = training(config, built, batch, schedule(options.schedule), tell, pace)
            elif options.schedule is not None:
                raise UserError(f"schedule = {options.schedule!r} is for --phase training")
            else:
                cost = inference(config, built, batch, tell, pace, timeline=traced is not None)
    except CompileError as error:
        raise UserError(str(error)) from None
    text = json.dumps(cost.to_dict(), indent=1)
    if out:
        write_bytes(out, (text + "\n").encode())
    if report:
        from sw.cost.page import page

        write_bytes(report, page(cost).encode())
    if traced:
        from sw.cost.trace import trace

        write_bytes(traced, trace(cost).encode())
    print(text if options.json == "-" else cost.to_text())
    return 0


def schedule(name: str | None):
    """The schedule of a training step. Raises UserError."""
    from sw.mbs.schedule import Variant

    try:
        return Variant(name or DEFAULT_SCHEDULE)
    except ValueError:
        raise UserError(f"schedule = {name!r} is none of {', '.join(Variant)}") from None


def on_port(config, memory: str | None):
    """The configuration for `--memory`, and the beats that its memory port accepts a cycle. Raises UserError, ConfigError."""
    from sw.mbs.time import CLOCK, MEMORIES

    if memory is None:
        return config, Fraction(1)
    kind, _, text = memory.partition(":")
    if memory in MEMORIES:
        rate = Fraction(round(MEMORIES[memory].bandwidth), round(CLOCK)).limit_denominator(MOST_PARTS)
    elif kind == "port":
        try:
            rate = Fraction(text)
        except (ValueError, ZeroDivisionError):
            raise UserError(f"memory port = {text!r} must be a number of bytes a cycle") from None
    else:
        raise UserError(f"memory = {memory!r} is none of {', '.join(MEMORIES)} or port:BYTES, bytes a cycle of the memory port")
    if not SLOWEST <= rate <= FASTEST:
        raise UserError(f"memory port = {text or memory} is outside {SLOWEST}..{FASTEST} bytes a cycle")
    from sw.cost import programs

    return programs.on_port(config, rate)

"""`flexwave gemm`: a matrix product on an engine, checked against the golden model and the prediction."""

import io
import sys

from sw.cli.console import add_board, add_configuration, board_of, configuration, integer, output_file, progress, write_bytes
from sw.runtime.errors import UserError

ENGINES = ("rtl", "model", "golden", "board")
LARGEST = 1 << 32   # a size beyond has no address; less is refused with the others known


def add(commands):
    """Add the command."""
    command = commands.add_parser("gemm", help="multiply two matrices on an engine", allow_abbrev=False)
    command.add_argument("sizes", nargs="*", metavar="M N K", help="(M x K) by (K x N), random operands")
    command.add_argument("--a", metavar="A.npy", help="your own M x K operand, int8, uint8 or float32 (rounded to bf16)")
    command.add_argument("--b", metavar="B.npy", help="your own K x N operand")
    command.add_argument("--out", metavar="C.npy", help="write the int32 or fp32 result")
    add_configuration(command)
    command.add_argument("--engine", choices=ENGINES, default="rtl",
                         help="generated hardware, functional and cycle model, numpy, or a board")
    add_board(command)
    command.add_argument("--memory", metavar="PART", help="simulate main memory as this DRAM part (engine rtl), e.g. ddr4-2400r, sdr-ulx3s")
    command.add_argument("--seed", default="0", help="seed of the random operands")
    command.add_argument("--json", metavar="FILE", help="write the report as JSON (- for standard output)")
    command.set_defaults(run=run)


def run(options) -> int:
    """Run it and print the report; 1 if result or cycles differ."""
    out = output_file("out", options.out)
    json = output_file("json", options.json if options.json != "-" else None)
    if options.engine == "board" and options.memory is not None:
        raise UserError(f"memory = {options.memory!r} simulates a DRAM behind the RTL, a board has its own")
    with board_of(options) as board:
        config = configuration(options, board)
        a, b = operands(options, config)
        from sw.runtime.gemm import gemm

        with progress(f"{options.engine}: {config.name} {config.organisation}") as tell:
            report = gemm(config, a, b, engine=options.engine, memory=options.memory, board=board, progress=tell)
    if out:
        write_bytes(out, to_npy(report.result))
    if json:
        write_bytes(json, report.to_json().encode())
    print(report.to_json() if options.json == "-" else report.to_text(), end="")
    if report.mismatches:
        print(f"flexwave: {report.mismatches[0]}" + (f" (and {len(report.mismatches) - 1} more)" if len(report.mismatches) > 1 else ""),
              file=sys.stderr)
    return int(bool(report.mismatches))


def operands(options, config):
    """The two operands: from files, or random."""
    if options.a is None and options.b is None:
        if len(options.sizes) != 3:
            raise UserError(f"M N K: three sizes are needed, not {len(options.sizes)} (or --a and --b)")
        m, n, k = (integer(name, text, 1, LARGEST) for name, text in zip("MNK", options.sizes))
        seed = integer("seed", options.seed, 0)
        from sw.runtime.gemm import check_sizes, random_operands

        check_sizes(config, m, n, k)
        return random_operands(m, n, k, seed, config.floating)
    if options.sizes:
        raise UserError("M N K: give sizes or --a and --b, not both")
    if options.a is None or options.b is None:
        raise UserError(f"{'a' if options.a is None else 'b'}: --a and --b belong together")
    from sw.runtime.gemm import check_operands

    a, b = load("a", options.a), load("b", options.b)
    check_operands(config, a, b)
    return a, b


def load(field: str, name: str):
    """A matrix from a .npy file. Raises UserError for whatever is not one; never unpickles."""
    import numpy as np

    try:
        value = np.load(name, allow_pickle=False)
    except OSError as error:
        raise UserError(f"{field} = {name!r} cannot be read: {error.strerror or 'not a complete .npy file'}") from None
    except (ValueError, EOFError, SyntaxError):
        raise UserError(f"{field} = {name!r} is not a .npy file of int8, uint8 or float32") from None
    if not isinstance(value, np.ndarray):
        raise UserError(f"{field} = {name!r} is an archive, not a .npy file of int8, uint8 or float32")
    return value


def to_npy(value) -> bytes:
    """The bytes of a .npy file."""
    import numpy as np

    buffer = io.BytesIO()
    np.save(buffer, value, allow_pickle=False)
    return buffer.getvalue()

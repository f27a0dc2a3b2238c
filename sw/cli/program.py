"""`flexwave compile|asm|disasm|run`: programs as files. A program file knows its machine; raw code is 32 bytes an instruction."""

import sys

from sw.cli import network_run
from sw.cli.console import (
    DEFAULT_CONFIG,
    add_board,
    add_configuration,
    board_of,
    configuration,
    integer,
    output_file,
    progress,
    read_bytes,
    write_bytes,
)
from sw.cli.gemm import LARGEST
from sw.runtime.errors import UserError


def add(commands):
    """Add the commands."""
    command = commands.add_parser("compile", help="compile a GEMM into a program file", allow_abbrev=False)
    command.add_argument("sizes", nargs=3, metavar=("M", "N", "K"), help="(M x K) by (K x N), int8")
    add_configuration(command)
    command.add_argument("-o", "--output", required=True, metavar="FILE", help="the program file")
    command.set_defaults(run=compile_)

    command = commands.add_parser("asm", help="assemble text into raw code", allow_abbrev=False)
    command.add_argument("source", metavar="FILE.s", help="one instruction a line")
    command.add_argument("-o", "--output", required=True, metavar="FILE.bin", help="the code, 32 bytes an instruction")
    command.set_defaults(run=asm)

    command = commands.add_parser("disasm", help="print a program file or raw code as text", allow_abbrev=False)
    command.add_argument("program", metavar="FILE", help="a program file or raw code")
    command.add_argument("-o", "--output", metavar="FILE.s", help="write here instead of standard output")
    command.set_defaults(run=disasm)

    command = commands.add_parser("run", help="run a program file, raw code, an ONNX model, or the cost model of a network",
                                  allow_abbrev=False)
    command.add_argument("program", metavar="FILE|NETWORK",
                         help="a program file (for its own machine), raw code, a model (.onnx) with --input; or, for its cost, a name "
                              "(resnet50, resnet50@0.75, resnet50@prunetrain:0.2:90, ...), a model (.onnx) or a topology (.csv)")
    command.add_argument("--engine", choices=("rtl", "model", "golden", "board"),
                         help="generated hardware (default), functional and cycle model, a board; of a model numpy, too; the cost of a "
                              "network is the model's")
    command.add_argument("--input", metavar="FILE.npz", help="of a model: an array for each of its inputs")
    command.add_argument("--output", metavar="FILE.npz", help="of a model: write its outputs here")
    command.add_argument("--json", metavar="FILE", help="of a model or network: write nodes or layers as JSON (- for standard output)")
    network_run.add_options(command)
    add_board(command)
    add_configuration(command)
    command.add_argument("--memory", metavar="FILE|NAME|port:BYTES",
                         help="of a program: bytes of main memory from address 0, zeros where there is none; of a network: bytes a cycle "
                              "of the memory port, or a memory (hbm2, hbm2x2, gddr5, lpddr4, sdr-ulx3s) beside a machine at 0.7 GHz")
    command.add_argument("--size", metavar="BYTES", help="least size of main memory (default: 65536); raw code lies behind it")
    command.add_argument("--limit", metavar="CYCLES", help="cycles after which to give up (default: 1000000)")
    command.add_argument("--out", metavar="FILE", help="write main memory as it is afterwards")
    command.set_defaults(run=run)


def compile_(options) -> int:
    """Compile and save."""
    config, path = configuration(options), output_file("output", options.output)
    m, n, k = (integer(name, text, 1, LARGEST) for name, text in zip("MNK", options.sizes))
    from sw.compiler.errors import CompileError
    from sw.compiler.lower import compile_gemm
    from sw.runtime.gemm import check_sizes

    check_sizes(config, m, n, k)
    try:
        with progress("compiling"):
            program = compile_gemm(config, m, n, k)
    except CompileError as error:
        raise UserError(str(error)) from None
    assert path
    write_bytes(path, program.to_bytes())
    return 0


def asm(options) -> int:
    """Text to code."""
    path = output_file("output", options.output)
    assert path
    from sw.compiler.assembler import AssemblerError, assemble

    try:
        instructions = assemble(read_bytes("source", options.source).decode())
    except UnicodeDecodeError:
        raise UserError(f"source = {options.source!r} is not text") from None
    except AssemblerError as error:
        raise UserError(f"{options.source}: {error}") from None
    write_bytes(path, b"".join(instruction.encode() for instruction in instructions))
    return 0


def disasm(options) -> int:
    """Code to text."""
    path = output_file("output", options.output)
    from gen.isa import INSTRUCTION_BYTES, Instruction, IsaError
    from sw.compiler.assembler import disassemble

    code, instructions = code_of(options.program), []
    for at in range(0, len(code), INSTRUCTION_BYTES):
        try:
            instructions.append(Instruction.decode(code[at:at + INSTRUCTION_BYTES]))
        except IsaError as error:
            raise UserError(f"{options.program}: instruction {at // INSTRUCTION_BYTES}: {error}") from None
    text = disassemble(instructions)
    if path:
        write_bytes(path, text.encode())
    else:
        sys.stdout.write(text)
    return 0


def load(name: str):
    """A program file's `Program`, or raw code as bytes. Raises UserError for a damaged or truncated one."""
    from gen.isa import INSTRUCTION_BYTES
    from sw.compiler.program import MAGIC, Program, ProgramError

    data = read_bytes("program", name)
    if data.startswith(MAGIC.encode()[:8]):
        try:
            return Program.from_bytes(data)
        except ProgramError as error:
            raise UserError(f"program = {name!r}: {error}") from None
    if not data or len(data) % INSTRUCTION_BYTES:
        raise UserError(f"program = {name!r} has {len(data)} bytes, not a multiple of {INSTRUCTION_BYTES} (at least one instruction)")
    return data


def code_of(name: str) -> bytes:
    """The code of a program file or of raw code."""
    program = load(name)
    return program if isinstance(program, bytes) else program.code()


def run(options) -> int:
    """Run a program; print the counters, or the cause and index with which the machine stopped. Models and networks run elsewhere."""
    if network_run.is_network(options):
        return network_run.run(options)
    options.engine = options.engine or "rtl"
    for field in network_run.OPTIONS:
        if getattr(options, field) is not None:
            raise UserError(f"{field} = {getattr(options, field)!r} is for networks: {', '.join(network_run.names())}, a model without "
                            "--input, or a topology (.csv)")
    if options.program.endswith(".onnx"):
        from sw.cli import onnx_run

        for field in ("memory", "out", "size", "limit"):
            if getattr(options, field) is not None:
                raise UserError(f"{field} = {getattr(options, field)!r} is for programs; a model takes --input and --output")
        return onnx_run.run(options)
    for field in ("input", "output", "json"):
        if getattr(options, field) is not None:
            raise UserError(f"{field} = {getattr(options, field)!r} is for models (.onnx); a program takes --memory and --out")
    if options.engine == "golden":
        raise UserError("engine = 'golden' is for models (.onnx), not for programs")
    out, program = output_file("out", options.out), load(options.program)
    size, limit = integer("size", options.size or "65536", 1), integer("limit", options.limit or "1000000", 1)
    data = read_bytes("memory", options.memory) if options.memory else b""
    with board_of(options) as board:
        config, image, start, count = place(options, program, data, size, board)
        with progress(f"running on {options.engine}") as tell:
            if board is not None:
                after, counters = _on_board(board, config, image, start, count, limit, tell)
            else:
                after, counters = (_on_rtl if options.engine == "rtl" else _on_model)(config, image, start, count, limit)
    if out:
        write_bytes(out, after.tobytes())
    for name, value in counters.items():
        print(f"{name:<24}{value}")
    return 0


def place(options, program, data: bytes, size: int, board):
    """The configuration, the memory image with data and program in it, the program's address and its instructions. Raises UserError."""
    from gen.isa import INSTRUCTION_BYTES

    if isinstance(program, bytes):
        config, code, size = configuration(options, board), program, max(size, len(data))
        step = max(INSTRUCTION_BYTES, config.memory.bytes_per_cycle)
        start = -(-size // step) * step
        size = -(-(start + len(code)) // step) * step
    else:
        config, code, start, size = program.config, program.code(), program.regions["program"].address, program.memory
        if options.organisation or options.config not in (None, DEFAULT_CONFIG, config.name):
            raise UserError(f"config: {options.program!r} was compiled for {config.name} ({config.organisation}) and runs on nothing else")
        if board is not None:
            board.configuration(config)
        if len(data) > size:
            raise UserError(f"memory = {options.memory!r} has {len(data)} bytes, the program's memory {size}")
    if size > 1 << 30:
        raise UserError(f"size = {size} is outside 1..{1 << 30} bytes")
    if board is not None:
        board.check_room(size)
    import numpy as np

    image = np.zeros(size, np.uint8)
    image[:len(data)] = np.frombuffer(data, np.uint8)
    image[start:start + len(code)] = np.frombuffer(code, np.uint8)
    return config, image, start, len(code) // INSTRUCTION_BYTES


def _on_rtl(config, image, start: int, count: int, limit: int):
    from gen.simulate import Job, Simulator

    outcome, = Simulator(config).run([Job(image, start, count, (0, image.size), limit=limit)])
    if outcome.error:
        raise UserError(outcome.error)
    return outcome.result, outcome.registers


def _on_board(board, config, image, start: int, count: int, limit: int, tell):
    outcome = board.run(config, image, program=start, count=count, result=(0, image.size), limit=limit, progress=tell)
    if outcome.error:
        raise UserError(outcome.error)
    return outcome.result, outcome.registers


def _on_model(config, image, start: int, count: int, _limit: int):
    from gen.isa import INSTRUCTION_BYTES, Instruction, IsaError
    from sw.model import ModelError, functional, predict

    instructions = []
    for index in range(count):
        at = start + index * INSTRUCTION_BYTES
        try:
            instructions.append(Instruction.decode(image[at:at + INSTRUCTION_BYTES].tobytes()))
        except IsaError as error:
            raise UserError(f"the machine would stop at instruction {index}: {error.cause.name}") from None
    try:
        return functional.run(config, instructions, image), predict(config, instructions, program=start).counters
    except ModelError as error:
        raise UserError(f"the machine would stop at instruction {error.index}: {error.cause.name}") from None
    except ValueError as error:
        raise UserError(str(error)) from None

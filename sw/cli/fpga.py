"""`flexwave fpga`: images for open FPGA boards, and the same boards simulated."""

from sw.cli.console import output_file, progress, write_bytes
from sw.runtime.errors import MachineError, UserError

LARGEST_SEEDS = 99


def add(commands):
    """Add the command."""
    command = commands.add_parser("fpga", help="build a bitstream for a board, or simulate the board", allow_abbrev=False)
    command.add_argument("board", metavar="BOARD", help="a board, or `list` to see them")
    command.add_argument("--config", metavar="NAME|FILE", help="a preset or TOML file instead of the board's own preset")
    command.add_argument("--seeds", default="1", metavar="N", help="placements to try; the fastest becomes the bitstream")
    command.add_argument("--program", action="store_true", help="load the bitstream into the board (openFPGALoader)")
    command.add_argument("--simulate", action="store_true", help="run the board in Verilator behind a pseudo-terminal, until Ctrl-C")
    command.add_argument("--json", metavar="FILE", help="write the report as JSON")
    command.set_defaults(run=run)


def run(options) -> int:
    """List, simulate or build."""
    from boards.registry import BOARDS

    if options.board == "list":
        print(table(BOARDS.values()), end="")
        return 0
    if options.board not in BOARDS:
        raise UserError(f"board = {options.board!r} is none of {', '.join(BOARDS)} (or list)")
    from gen.config import Config
    from sw.cli.gemm import integer

    board = BOARDS[options.board]
    config = Config.load(options.config or board.config)
    seeds = integer("seeds", options.seeds, 1, LARGEST_SEEDS)
    if options.simulate and (options.program or options.json or seeds > 1):
        raise UserError("simulate: --simulate goes with --config alone")
    return simulate(board, config) if options.simulate else build(board, config, seeds, options)


def table(boards) -> str:
    """The boards, a line each."""
    rows = [("board", "device", "clock", "memory", "link", "config")]
    for board in boards:
        memory = f"{board.main_memory_bytes >> 20} MB SDRAM" if board.dram else f"{board.main_memory_bytes >> 10} KB block RAM"
        if board.contents == "unit":
            memory = "the host's"
        link = f"{board.link}, {board.baud:,} baud"
        rows.append((board.name, board.device.name, f"{board.clock_khz / 1000:g} MHz", memory, link, board.config))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "".join("  ".join(value.ljust(width) for value, width in zip(row, widths)).rstrip() + "\n" for row in rows)


def simulate(board, config) -> int:
    """Offer the simulated board until it is interrupted."""
    from boards.simulate import BoardSimulator
    from gen.simulate import SimulationError

    simulator = BoardSimulator(board, config)
    try:
        with progress(f"{board.name}: {config.name}") as tell:
            simulator.build(tell)
        with simulator.running() as running:
            print(f"{board.name} with {config.name}, simulated: {running.device}", flush=True)
            print(f"try: flexwave gemm 32 32 32 --engine board --device {running.device}", flush=True)
            running.wait()
    except SimulationError as error:
        raise MachineError(str(error)) from None
    return 0


def build(board, config, seeds: int, options) -> int:
    """Bitstream and report."""
    from boards.fit import FitError, check
    from boards.flow import Build
    from boards.tools import FlowError

    json = output_file("json", options.json)
    try:
        check(board, config)
        with progress(f"{board.name}: {config.name}") as tell:
            flow = Build(board, config, tell=tell)
            report = flow.run(seeds)
        if json:
            write_bytes(json, report.to_json().encode())
        print(text(board, report), end="")
        if options.program:
            flow.program()
    except FitError as error:
        raise UserError(str(error)) from None
    except FlowError as error:
        raise MachineError(str(error)) from None
    return 0 if report.median >= report.clock_mhz else 1


def text(board, report) -> str:
    """The report in words."""
    have = {"LUT": board.device.luts, "multipliers": board.device.multipliers, "block RAMs": board.device.block_rams}
    lines = [f"{report.board}: {report.config} ({report.organisation}, {report.macs} PEs) on {board.device.name}"]
    lines += [f"  {name:13} {used:6,}" + (f" of {have[name]:,}" if name in have else "") for name, used in report.cells.items()]
    lines += [
        f"  {'LUT per MAC':13} {report.cells['LUT'] / report.macs:6.0f}",
        f"  {'clock':13} " + ", ".join(f"{clock:.1f} MHz (seed {seed})" for seed, clock in report.clocks.items())
        + f"; median {report.median:.1f}, the board runs at {report.clock_mhz:g} MHz",
        f"  {'bitstream':13} {report.bitstream}",
    ]
    return "\n".join(lines) + "\n"

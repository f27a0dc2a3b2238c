"""`flexwave reproduce`: the papers' experiments on our models, as tables and plots."""

from pathlib import Path

from sw.cli.console import output_file, progress, write_bytes
from sw.cli.gemm import integer
from sw.runtime.errors import UserError


def add(commands):
    """Add the command."""
    command = commands.add_parser("reproduce", help="a paper's experiment as tables and a plot", allow_abbrev=False)
    command.add_argument("experiment", choices=("nda",), help="nda: policies, mixes and operations of near-data work beside a host")
    command.add_argument("--requests", default="50000", metavar="N", help="host requests of a run")
    command.add_argument("--seeds", default="1", metavar="N", help="seeds of the host traffic")
    command.add_argument("--mixes", default="", metavar="A,B", help="some of mix0 .. mix8")
    command.add_argument("--operations", default="", metavar="A,B", help="some of the near-data operations")
    command.add_argument("--out", default="build/reproduce/nda", metavar="DIR", help="for table.md, points.json and nda.svg")
    command.set_defaults(run=run)


def run(options) -> int:
    """Run it; 1 if a run breaks a timing."""
    from sw.dram import scenario, study

    requests = integer("requests", options.requests, 100, 10_000_000)
    seeds = integer("seeds", options.seeds, 1, 100)
    mixes = chosen("mixes", options.mixes, study.MIXES)
    operations = chosen("operations", options.operations, scenario.OPERATIONS)
    folder = Path(options.out)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"out = {options.out!r} is a file, not a folder")
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("table.md", "points.json", "nda.svg"):
        output_file("out", str(folder / name))
    plan = study.Study(mixes=mixes, operations=operations, seeds=tuple(range(seeds)), requests=requests)
    with progress("reproduce nda") as tell:
        points = study.run(plan, tell)
    text = study.table(plan, points)
    write_bytes(folder / "points.json", study.to_json(plan, points).encode())
    study.plot(plan, points, folder / "nda.svg")
    write_bytes(folder / "table.md", text.encode())
    print(text, end="")
    print(f"\n{folder / 'nda.svg'}, {folder / 'points.json'}")
    return int(any(point.violations for point in points))


def chosen(field: str, text: str, known: tuple[str, ...]) -> tuple[str, ...]:
    """Some of the known names. Raises UserError."""
    names = tuple(text.split(",")) if text else known
    for name in names:
        if name not in known:
            raise UserError(f"{field} = {name!r} is none of {', '.join(known)}")
    return names

"""`flexwave reproduce`: the papers' experiments on our models, as tables and plots."""

import sys
from pathlib import Path

from sw.cli.console import output_file, progress, write_bytes
from sw.cli.gemm import integer
from sw.runtime.errors import UserError

POLICIES = ("none", "stochastic-4", "stochastic-16", "next-rank")
STUDIES = {
    "flexsa": "five organisations of 16,384 PEs on training steps of networks that are pruned while they train",
    "mbs": "mini-batch serialisation: DRAM bytes, time and energy of training steps, six networks, six variants",
    "prunetrain": "costs of training while pruning, by its authors' model, beside their logs",
    "ports": "whole inference of ResNet-50 on 256 PEs over the bytes a cycle of the memory port and the batch",
    "delta": "traffic of convolutions on a GPU: distinct elements of a tile, and the layers of ResNet-50",
}


def add(commands):
    """Add the command, a command of its own for each experiment."""
    command = commands.add_parser("reproduce", help="a paper's experiment as tables and a plot", allow_abbrev=False)
    experiments = command.add_subparsers(dest="experiment", metavar="EXPERIMENT", required=True)
    nda = experiments.add_parser("nda", help="policies, mixes and operations of near-data work beside a host", allow_abbrev=False)
    nda.add_argument("--requests", default="50000", metavar="N", help="host requests of a run")
    nda.add_argument("--seeds", default="1", metavar="N", help="seeds of the host traffic")
    nda.add_argument("--mixes", default="", metavar="A,B", help="some of mix0 .. mix8")
    nda.add_argument("--operations", default="", metavar="A,B", help="some of the near-data operations")
    nda.add_argument("--out", default="build/reproduce/nda", metavar="DIR", help="for table.md, points.json and nda.svg")
    nda.set_defaults(run=run)
    svrg = experiments.add_parser("svrg", help="logistic regression with full gradients on the near-data units", allow_abbrev=False)
    svrg.add_argument("--engine", choices=("model", "rtl"), default="model",
                      help="rtl: before the study a full gradient of 64 images runs on the generated hardware and is compared")
    svrg.add_argument("--samples", default=None, metavar="N", help="the first N of the 1,797 images only")
    svrg.add_argument("--passes", default="16", metavar="N", help="inner steps of a run at most, in passes over the images")
    svrg.add_argument("--policy", default="next-rank", choices=POLICIES, help="when near-data writes are held back")
    svrg.add_argument("--seed", default="0", help="seed of the order of the images")
    svrg.add_argument("--out", default="build/reproduce/svrg", metavar="DIR", help="for table.md, points.json and svrg.svg")
    svrg.set_defaults(run=run_svrg)
    for name, what in STUDIES.items():
        study = experiments.add_parser(name, help=what, allow_abbrev=False)
        study.add_argument("--out", default=f"build/reproduce/{name}", metavar="DIR", help=f"for table.md, points.json and {name}.svg")
        study.set_defaults(run=run_study)


def run(options) -> int:
    """Run the policy study; 1 if a run breaks a timing."""
    from sw.dram import scenario, study

    requests = integer("requests", options.requests, 100, 10_000_000)
    seeds = integer("seeds", options.seeds, 1, 100)
    mixes = chosen("mixes", options.mixes, study.MIXES)
    operations = chosen("operations", options.operations, scenario.OPERATIONS)
    folder = output_folder(options.out, "table.md", "points.json", "nda.svg")
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


def run_svrg(options) -> int:
    """Run the SVRG study; 1 if the hardware disagrees with the model."""
    samples = None if options.samples is None else integer("samples", options.samples, 10, 1797)
    passes, seed = integer("passes", options.passes, 1, 1000), integer("seed", options.seed, 0)
    folder = output_folder(options.out, "table.md", "points.json", "svrg.svg")
    from sw.dram import svrg, svrg_plot, svrg_study
    from sw.dram.engines import Mismatch

    plan = svrg_study.Study(samples=samples, policy=options.policy, passes=passes, seed=seed)
    with progress("reproduce svrg") as tell:
        if options.engine == "rtl":
            tell("reproduce svrg: a full gradient of 64 images on the generated hardware")
            try:
                _, nda = svrg.short_piece("rtl")
            except Mismatch as error:
                print(f"flexwave: {error}", file=sys.stderr)
                return 1
            assert nda.last is not None and nda.last.commands is not None
            print(f"hardware: a full gradient of 64 images, every block and all {len(nda.last.commands):,} commands of its DOTs "
                  "are the model's\n")
        cases = svrg_study.run(plan, tell)
    text = svrg_study.table(plan, cases)
    write_bytes(folder / "points.json", svrg_study.to_json(plan, cases).encode())
    svrg_plot.plot(cases, folder / "svrg.svg")
    write_bytes(folder / "table.md", text.encode())
    print(text, end="")
    print(f"\n{folder / 'svrg.svg'}, {folder / 'points.json'}")
    return 0


def run_study(options) -> int:
    """Run one of `STUDIES`: a module of `sw.studies` with `run`, `text`, `to_points` and `plot`."""
    folder = output_folder(options.out, "table.md", "points.json", f"{options.experiment}.svg")
    from importlib import import_module

    from sw.studies.table import to_json

    study = import_module(f"sw.studies.{options.experiment}")
    with progress(f"reproduce {options.experiment}") as tell:
        points = study.run(tell)
        text = study.text(points)
    write_bytes(folder / "points.json", to_json(study.to_points(points)).encode())
    study.plot(points, folder / f"{options.experiment}.svg")
    write_bytes(folder / "table.md", text.encode())
    print(text, end="")
    print(f"\n{folder / f'{options.experiment}.svg'}, {folder / 'points.json'}")
    return 0


def output_folder(name: str, *files: str) -> Path:
    """The folder, made if it does not exist, in which these files can be written. Raises UserError."""
    folder = Path(name)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"out = {name!r} is a file, not a folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"out = {name!r} cannot be made: {error.strerror}") from None
    for file in files:
        output_file("out", str(folder / file))
    return folder


def chosen(field: str, text: str, known: tuple[str, ...]) -> tuple[str, ...]:
    """Some of the known names. Raises UserError."""
    names = tuple(text.split(",")) if text else known
    for name in names:
        if name not in known:
            raise UserError(f"{field} = {name!r} is none of {', '.join(known)}")
    return names

"""`flexwave train MODEL`: train a network with the arithmetic of a machine, bit for bit, or with PyTorch's."""

import json
from math import inf, nan

from sw.cli.console import integer, output_file, progress, write_bytes
from sw.runtime.errors import MismatchError, UserError
from sw.train.schedule import RATE, RATE_BATCH

DEFAULT_CONFIG = "small-bf16"
# The paper's 10 epochs and 1e-4 are for runs of 70,000 steps. In one of 540, channels that die are still between 1e-3 and 1e-2 while the
# rate is high: below 1e-4 they would go when nothing is left to save.
PRUNE_EVERY, PRUNE_BELOW = 3, 5e-3


def add(commands):
    """Add the command."""
    command = commands.add_parser("train", help="train a network as a machine computes", allow_abbrev=False)
    command.add_argument("model", metavar="MODEL", help="digits-resnet, or package.module:factory (a Network or a torch.nn.Module)")
    command.add_argument("--data", default="digits", metavar="NAME", help="digits (default)")
    command.add_argument("--epochs", default="12", metavar="E", help="default: 12")
    command.add_argument("--batch", default="32", metavar="B", help="images in a step (default: 32)")
    command.add_argument("--sub-batch", metavar="N", help="images that pass at a time, a divisor of the batch (default: all)")
    command.add_argument("--rate", default=str(RATE), metavar="R", help=f"learning rate that suits {RATE_BATCH} images (default: {RATE})")
    command.add_argument("--seed", default="0", help="seed of fresh parameters and of the order of images")
    command.add_argument("--prune", metavar="RATIO", help="PruneTrain: this part of the first loss is the penalty on channels, e.g. 0.7")
    command.add_argument("--prune-every", metavar="E", help=f"epochs between reconfigurations (default: {PRUNE_EVERY})")
    command.add_argument("--prune-below", metavar="X", help=f"a channel whose weights are all smaller goes (default: {PRUNE_BELOW}; the "
                         "paper's 1e-4 is for runs a hundred times as long)")
    command.add_argument("--prune-grow", metavar="N", help="images by multiples of which the batch grows into memory that becomes free "
                         "(default: 0, it stays)")
    command.add_argument("--engine", default="golden", metavar="NAME", help="golden: a machine's numbers (default); torch: PyTorch's")
    command.add_argument("--rtl-steps", default="0", metavar="S", help="steps that the RTL makes too, compared with the golden engine")
    command.add_argument("--config", default=DEFAULT_CONFIG, metavar="NAME|FILE", help=f"a bf16 machine (default: {DEFAULT_CONFIG})")
    command.add_argument("--organisation", metavar="NAME", help="1G1C, 1G4C, 4G4C, 1G1F or 4G1F, derived from the configuration")
    command.add_argument("--json", metavar="FILE", help="write the epochs as JSON (- for standard output)")
    command.add_argument("--report", metavar="FILE.html", help="write curves and a table as one page")
    command.add_argument("--checkpoint", metavar="FILE.npz", help="write the run's state behind every epoch; keep it before and after each "
                         "reconfiguration")
    command.add_argument("--resume", action="store_true", help="go on from the checkpoint, to the same bits")
    command.set_defaults(run=run)


def run(options) -> int:
    """Train and print a line for every epoch."""
    out = output_file("json", options.json if options.json != "-" else None)
    report, checkpoint = output_file("report", options.report), output_file("checkpoint", options.checkpoint)
    if options.resume and checkpoint is None:
        raise UserError("resume: --resume needs --checkpoint")
    if checkpoint is not None and checkpoint.exists() and not options.resume:
        raise UserError(f"checkpoint = {options.checkpoint!r} exists: --resume goes on from it")
    epochs, batch = integer("epochs", options.epochs, 1, 100_000), integer("batch", options.batch, 1)
    sub_batch = None if options.sub_batch is None else integer("sub_batch", options.sub_batch, 1)
    seed, rate, steps = integer("seed", options.seed, 0), number("rate", options.rate), integer("rtl_steps", options.rtl_steps, 0)
    prune = pruning(options)
    from gen.config import Config

    config = Config.load(options.config)
    config = config.organise(options.organisation) if options.organisation else config
    with progress(f"{options.model}: loading") as tell:
        trainer = _trainer(options, config, epochs=epochs, batch=batch, sub_batch=sub_batch, seed=seed, rate=rate, prune=prune)
        about = _about(options, config, trainer, prune)
        from sw.train import checkpoint as checkpoints

        if options.resume:
            checkpoints.resume(options.checkpoint, trainer, about)
        elif checkpoint is not None and (old := checkpoints.pairs(checkpoint)):
            raise UserError(f"checkpoint = {options.checkpoint!r}: {old[0].name!r} of an older run is in the way")
        on_rtl = _rtl_steps(options, config, trainer, steps, lambda text: tell(f"{options.model}: {text}"))
        trainer.run(tell=lambda text: tell(f"{options.model}: {text}"),
                    done=lambda trainer, moment: checkpoints.keep(checkpoint, trainer, about, moment) if checkpoint else None)
    from sw.train import record
    from sw.train import report as reports

    found = record.record(about, trainer, on_rtl)
    text = json.dumps(found, indent=1)
    if out:
        write_bytes(out, (text + "\n").encode())
    if report:
        write_bytes(report, reports.page({trainer.origin.name: found}).encode())
    print(text if options.json == "-" else record.text(found))
    wrong = [f"step {number}: {name}" for number, step in enumerate(on_rtl, 1) for name in step.different]
    if wrong:
        raise MismatchError(f"{len(wrong)} differences between the RTL and the golden engine or the cycle model: {', '.join(wrong[:3])}")
    return 0


def number(field: str, text: str, high: float = inf) -> float:
    """A number between 0 and `high`, both excluded. Raises UserError."""
    try:
        value = float(text)
    except ValueError:
        value = nan
    if not 0 < value < high:
        raise UserError(f"{field} = {text!r} is not a {'positive number' if high == inf else f'number between 0 and {high:g}'}")
    return value


def pruning(options) -> dict:
    """How the run is pruned, as JSON has it: None for all where it is not. Raises UserError."""
    given = {name: getattr(options, name) for name in ("prune_every", "prune_below", "prune_grow")}
    if options.prune is None:
        for name, text in given.items():
            if text is not None:
                raise UserError(f"{name}: --{name.replace('_', '-')} needs --prune")
        return {"prune": None, **given}
    every, below, grow = given.values()
    return {"prune": number("prune", options.prune, 1),
            "prune_every": PRUNE_EVERY if every is None else integer("prune_every", every, 1, 100_000),
            "prune_below": PRUNE_BELOW if below is None else number("prune_below", below),
            "prune_grow": 0 if grow is None else integer("prune_grow", grow, 0)}


def _rtl_steps(options, config, trainer, steps: int, tell) -> list:
    """The run's first steps on the RTL. Raises UserError for what it cannot do there."""
    if not steps:
        return []
    for name, given in (("prune", options.prune is not None), ("resume", options.resume), ("engine = 'torch'", options.engine == "torch")):
        if given:
            raise UserError(f"rtl_steps = {steps} does not go with {name}")
    from sw.train.data import batches
    from sw.train.lower.step import Group
    from sw.train.machine_steps import Batch, run_steps

    settings, network = trainer.settings, trainer.network
    per_epoch = len(trainer.data.train_images) // settings.batch
    if steps > per_epoch:
        raise UserError(f"rtl_steps = {steps} is outside 0..{per_epoch}, the steps of an epoch")
    given = zip(range(steps), batches(trainer.data, batch=settings.batch, seed=settings.seed, epoch=0))
    works = [Batch(images, labels, trainer.schedule.at(number / per_epoch, settings.batch)) for number, (images, labels) in given]
    groups = [Group(tuple(layer.name for layer in network.layers), settings.sub_batch)] if settings.sub_batch else None
    return run_steps(config, network, trainer.parameters, works, groups=groups, momentum=settings.momentum, decay=settings.decay, tell=tell)


def _trainer(options, config, *, epochs: int, batch: int, sub_batch: int | None, seed: int, rate: float, prune: dict):
    """The run, checked but not begun. Raises UserError."""
    from sw.train import data, engines, models
    from sw.train.trainer import Hook, Settings, Trainer

    settings = Settings(epochs=epochs, batch=batch, sub_batch=sub_batch, seed=seed, rate=rate)
    engine = engines.engine(options.engine, config)
    images = data.load(options.data)
    network, parameters = models.load(options.model, images, seed=seed, prune=prune["prune"] is not None)
    hook = Hook()
    if prune["prune"] is not None:
        from sw.train.pruning import Pruning

        models.check_prunable(network)
        if sub_batch and prune["prune_grow"] % sub_batch:
            raise UserError(f"prune_grow = {prune['prune_grow']} is no multiple of sub_batch = {sub_batch}")
        hook = Pruning(prune["prune"], prune["prune_every"], threshold=prune["prune_below"], grow=prune["prune_grow"])
    return Trainer(network, images, engine=engine, settings=settings, parameters=parameters, hook=hook)


def _about(options, config, trainer, prune: dict) -> dict:
    """What decides the numbers of the run, as JSON: a checkpoint is good for the same only."""
    settings = trainer.settings
    golden = options.engine == "golden"
    return {"model": options.model, "data": options.data, "engine": options.engine, "config": config.name if golden else None,
            "tile": config.tile if golden else None, "lanes": config.array.side if golden else None, "epochs": settings.epochs,
            "batch": settings.batch, "sub_batch": settings.sub_batch or settings.batch, "seed": settings.seed, "rate": settings.rate,
            "momentum": settings.momentum, "decay": settings.decay, **prune}

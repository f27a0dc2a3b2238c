"""`flexwave config show|check|list`."""

from gen.config import Config
from sw.cli.console import add_configuration, configuration


def add(commands):
    """Add the command."""
    group = commands.add_parser("config", help="show or check a configuration", allow_abbrev=False)
    actions = group.add_subparsers(dest="action", metavar="ACTION", required=True)
    for name, text, run in (("show", "print it as TOML, to be edited", show), ("check", "say what it makes, or what is wrong", check)):
        action = actions.add_parser(name, help=text, allow_abbrev=False)
        action.add_argument("name", nargs="?", metavar="NAME|FILE", help="a preset or a TOML file, instead of --config")
        add_configuration(action)
        action.set_defaults(run=run)
    actions.add_parser("list", help="the presets", allow_abbrev=False).set_defaults(run=listing)


def _chosen(options) -> Config:
    options.config = options.name or options.config
    return configuration(options)


def show(options) -> int:
    """Print TOML."""
    print(_chosen(options).to_toml(), end="")
    return 0


def check(options) -> int:
    """Print one line, or fail with one."""
    print(summary(_chosen(options)))
    return 0


def listing(options) -> int:
    """Print a line for each preset."""
    from gen.presets import PRESETS

    for config in PRESETS.values():
        print(summary(config))
    return 0


def summary(config: Config) -> str:
    """One line about a configuration."""
    array, buffers = config.array, config.buffers
    slices = buffers.slices * buffers.slice_words * array.side / 1024
    units = f"{array.groups} x {config.cores} cores of {array.side} x {array.side} = {config.pes} PEs"
    return (f"{config.name}: {config.organisation}, {units}, {slices:g} KiB global buffer a group, "
            f"{config.memory.bytes_per_cycle} bytes a cycle of memory")

"""`flexwave verilog`: Verilog, manifest and C header of a configuration."""

from pathlib import Path

from sw.cli.console import add_configuration, configuration, progress
from sw.runtime.errors import UserError


def add(commands):
    """Add the command."""
    command = commands.add_parser("verilog", help="write Verilog, manifest and C header", allow_abbrev=False)
    add_configuration(command)
    command.add_argument("-o", "--output", required=True, metavar="DIR", help="folder to write into; made if missing")
    command.set_defaults(run=run)


def run(options) -> int:
    """Write the files; print their names."""
    config, folder = configuration(options), Path(options.output)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"output = {options.output!r} is a file, not a folder")
    from gen.verilog import write

    with progress(f"generating {config.name} {config.organisation}"):
        try:
            paths = write(config, folder)
        except OSError as error:
            raise UserError(f"output = {options.output!r} cannot be written: {error.strerror}") from None
    for path in paths:
        print(path)
    return 0

"""The command `flexwave`. Exit codes: 0 fine, 1 a result or cycle mismatch, 2 a user error, 130 interrupted."""

import argparse
import os
import sys
import warnings
from collections.abc import Sequence
from typing import NoReturn

from gen.config import ConfigError
from gen.dram import DramError
from gen.isa import IsaError
from sw.cli import compare, config, dram, fpga, gemm, program, reproduce, train, verilog
from sw.runtime.errors import MachineError, MismatchError, UserError


class Parser(argparse.ArgumentParser):
    """Reports a wrong command line as one line."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} (see {self.prog} --help)")


def parser() -> Parser:
    """The parser of every command."""
    top = Parser(prog="flexwave", description="Generate, program, simulate and predict FlexSA accelerators.", allow_abbrev=False)
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    gemm.add(commands)
    config.add(commands)
    verilog.add(commands)
    program.add(commands)
    compare.add(commands)
    dram.add(commands)
    train.add(commands)
    reproduce.add(commands)
    fpga.add(commands)
    commands.add_parser("doctor", help="what is installed, what is missing, and the command that mends it", allow_abbrev=False) \
        .set_defaults(run=_doctor)
    return top


def _doctor(options) -> int:
    from sw.doctor import main as doctor

    return doctor()


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    try:
        options = parser().parse_args(argv)
        return options.run(options)
    except (UserError, ConfigError, DramError, IsaError, MachineError) as error:
        print(f"flexwave: {error}", file=sys.stderr)
        return 2
    except MismatchError as error:
        print(f"flexwave: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        warnings.simplefilter("ignore")    # of Amaranth, whose components were not all used
        print("flexwave: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of a pipe has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


if __name__ == "__main__":
    sys.exit(main())

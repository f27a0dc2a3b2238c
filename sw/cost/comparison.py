"""A SCALE-Sim topology's layers on our machine, beside what SCALE-Sim's formulas say."""

import contextlib
from collections.abc import Iterator, Sequence
from functools import partial
from typing import NamedTuple

from gen.config import Config
from sw.compiler.errors import CompileError
from sw.compiler.lower import compile_gemm
from sw.frontends import scalesim
from sw.model import predict
from sw.workers import spread


class Line(NamedTuple):
    """A layer: its product, our cycles with and without memory, SCALE-Sim's for an array of the same PEs, and the bound between them."""

    name: str
    m: int
    n: int
    k: int
    cycles: int
    array_cycles: int
    weight_stationary: int
    output_stationary: int
    input_stationary: int
    overlapped: int


def array_side(config) -> int:
    """Side of the square array with as many PEs as the machine."""
    return round(config.pes**0.5)


@contextlib.contextmanager
def compare(config: Config, rows: Sequence[scalesim.Row]) -> Iterator[Iterator[Line]]:
    """Lines of the layers, in order; layers of equal size are worked out once, by processes of their own on several cores.

    Raises CompileError for a layer that the machine cannot hold.
    """
    firsts: dict[tuple[int, int, int], scalesim.Row] = {}
    for row in rows:
        firsts.setdefault((row.m, row.n, row.k), row)
    with spread(partial(cycles_of, config), list(firsts.values())) as found:
        yield lines(config, rows, found)


def lines(config: Config, rows: Sequence[scalesim.Row], found: Iterator[tuple[int, int]]) -> Iterator[Line]:
    """Lines of the layers, from the cycles of each new size in their order."""
    known: dict[tuple[int, int, int], tuple[int, int]] = {}
    formulas = (scalesim.weight_stationary, scalesim.output_stationary, scalesim.input_stationary, scalesim.overlapped)
    for row in rows:
        size = row.m, row.n, row.k
        if size not in known:
            known[size] = next(found)
        yield Line(row.name, *size, *known[size], *(formula(row, array_side(config)) for formula in formulas))


def cycles_of(config: Config, row: scalesim.Row) -> tuple[int, int]:
    """Cycles of a layer, all and those of the array. Raises CompileError, with the layer's name in front."""
    try:
        program = compile_gemm(config, row.m, row.n, row.k)
    except CompileError as error:
        raise CompileError(f"{row.name}: {error}") from None
    found = predict(config, program.instructions, program=program.regions["program"].address)
    return found.cycles, found.array_cycles

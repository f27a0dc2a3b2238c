"""Products and convolutions with data on an engine, each compared with the golden model."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gen.config import Config
from sw.golden.conv import conv2d
from sw.golden.gemm import gemm
from sw.golden.requantise import add_bias, requantise
from sw.runtime import engines
from sw.runtime.errors import MachineError, UserError

if TYPE_CHECKING:
    from sw.compiler.tiling import Gemm
    from sw.runtime.board import Board

ENGINES = ("rtl", "model", "golden", "board")


@dataclass(frozen=True)
class Work:
    """What to compute, and its operands as `sw.compiler.Program.pack` names them."""

    product: "Gemm"
    operands: dict[str, np.ndarray]


def golden(work: Work) -> np.ndarray:
    """The result by the golden model."""
    product, given = work.product, work.operands
    if product.window is None:
        sums = gemm(given["a"], given["b"], a_zero_point=product.a_zero_point, b_zero_point=product.b_zero_point)
    else:
        sums = conv2d(given["a"], given["b"], stride=product.window.stride, pad=product.window.padding,
                      x_zero_point=product.a_zero_point, w_zero_point=product.b_zero_point)
    if product.output == "int32":
        return add_bias(sums, given.get("bias", 0), product.relu)
    return requantise(sums, given["bias"], given["multiplier"], product.output_zero_point, product.output, product.relu)


def run(config: Config, works: Sequence[Work], *, engine: str = "rtl", board: "Board | None" = None,
        progress: Callable[[str], None] | None = None) -> list[engines.Run]:
    """Compile and run each; on the RTL they share one simulator process. The golden engine runs nothing: its counters are predictions.

    Raises CompileError for what the machine cannot hold, MachineError where it stops, or a result or a counter is not as it must be.
    """
    from sw.compiler.lower import compile_product
    from sw.model import predict

    if engine not in ENGINES:
        raise UserError(f"engine = {engine!r} is none of {', '.join(ENGINES)}")
    programs = [compile_product(config, work.product) for work in works]
    wanted = [golden(work) for work in works]
    if engine == "golden":
        predictions = [predict(config, program.instructions, program=program.regions["program"].address) for program in programs]
        return [engines.Run(value, prediction.counters, prediction) for value, prediction in zip(wanted, predictions)]
    images = [program.image(**work.operands) for program, work in zip(programs, works)]
    runs = engines.run(config, programs, images, engine=engine, board=board, progress=progress)
    for run, value in zip(runs, wanted):
        if not np.array_equal(run.result, value):
            raise MachineError(f"result differs from the golden model in {np.count_nonzero(run.result != value)} of {value.size} values")
        if run.mismatches:
            raise MachineError(run.mismatches[0])
    return runs

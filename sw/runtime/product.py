"""Products, convolutions and poolings with data on an engine, each compared with the golden model."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gen.config import Config
from sw.golden import bfloat16
from sw.golden.conv import conv2d
from sw.golden.float32 import maximum, narrow
from sw.golden.gemm import gemm
from sw.golden.pooling import add_residual, average_pool, max_pool
from sw.golden.requantise import add_bias, requantise
from sw.runtime import engines
from sw.runtime.errors import MismatchError, UserError

if TYPE_CHECKING:
    from sw.compiler.addition import Addition
    from sw.compiler.pooling import Pooling
    from sw.compiler.tiling import Gemm
    from sw.runtime.board import Board

ENGINES = ("rtl", "model", "golden", "board")


@dataclass(frozen=True)
class Work:
    """What to compute, and its operands as `sw.compiler.Program.pack` names them."""

    product: "Gemm | Pooling"
    operands: dict[str, np.ndarray]


def golden(work: Work, tile: int = 0) -> np.ndarray:
    """The result by the golden model; of bf16 numbers as an array adds them whose waves have at most `tile` rows."""
    product, given = work.product, work.operands
    if getattr(product, "floating", False):
        return _golden_floating(product, given, tile)
    result = _golden_pooling(product, given["a"]) if hasattr(product, "kind") else _golden_product(product, given)
    return _add(product.addition, result, given["residual"]) if product.addition else result


def _add(addition: "Addition", own: np.ndarray, residual: np.ndarray) -> np.ndarray:
    values = {name: value for name, value in addition.to_dict().items() if name != "dtype"}
    return add_residual(own, residual, **values)


def _golden_pooling(pooling, images: np.ndarray) -> np.ndarray:
    window = pooling.window
    shape = {"kernel": window.kernel, "stride": window.stride, "pad": window.padding}
    if pooling.kind == "max":
        return max_pool(images, **shape)
    return average_pool(images, **shape, zero_point=pooling.zero_point, multiplier=pooling.multiplier, dtype=pooling.output,
                        output_zero_point=pooling.output_zero_point, count_padding=pooling.count_padding)


def _golden_floating(product, given: dict[str, np.ndarray], tile: int) -> np.ndarray:
    if product.window is None:
        sums = bfloat16.matmul(given["a"], given["b"], bfloat16.waves_of(product.k, tile))
    else:
        sums = bfloat16.conv2d(given["a"], given["b"], tile, stride=product.window.stride, pad=product.window.padding)
    if product.relu:
        sums = maximum(sums, np.zeros_like(sums))
    return narrow(sums) if product.output == "bf16" else sums


def equal(found: np.ndarray, wanted: np.ndarray) -> bool:
    """Whether two results are the same bit for bit, NaNs and the signs of zeros included."""
    return found.shape == wanted.shape and found.dtype == wanted.dtype and found.tobytes() == wanted.tobytes()


def differences(found: np.ndarray, wanted: np.ndarray) -> int:
    """Values that are not the same bit for bit."""
    kind = f"u{found.itemsize}"
    return int(np.count_nonzero(found.view(kind) != wanted.view(kind)))


def _golden_product(product, given: dict[str, np.ndarray]) -> np.ndarray:
    if product.window is None:
        sums = gemm(given["a"], given["b"], a_zero_point=product.a_zero_point, b_zero_point=product.b_zero_point)
    else:
        sums = conv2d(given["a"], given["b"], stride=product.window.stride, pad=product.window.padding,
                      x_zero_point=product.a_zero_point, w_zero_point=product.b_zero_point)
    if product.output == "int32":
        return add_bias(sums, given.get("bias", 0), product.relu)
    return requantise(sums, given["bias"], given["multiplier"], product.output_zero_point, product.output, product.relu)


def compute(config: Config, works: Sequence[Work], *, engine: str = "rtl", memory: str | None = None, board: "Board | None" = None,
            progress: Callable[[str], None] | None = None) -> list[tuple[engines.Run, np.ndarray]]:
    """Compile and run each; what it gave, and what the golden model gives. On the RTL they share one simulator process.

    The golden engine runs nothing: its counters are predictions. With `memory`, a DRAM part, the RTL's port leads to it. Raises
    CompileError for what the machine cannot hold, UserError for an engine that is none, MachineError where the machine stops.
    """
    from sw.compiler.lower import compile_product
    from sw.model import predict
    from sw.runtime import memory as memories

    if engine not in ENGINES:
        raise UserError(f"engine = {engine!r} is none of {', '.join(ENGINES)}")
    tell = progress or (lambda text: None)
    programs = []
    for work in works:
        tell(f"compiling program {len(programs) + 1} of {len(works)}")
        programs.append(compile_product(config, work.product))
        if board is not None:
            board.check_room(programs[-1].memory)
    wanted = [golden(work, config.tile) for work in works]
    if engine == "golden":
        tell("predicting")
        predictions = [predict(config, program.instructions, program=program.regions["program"].address) for program in programs]
        runs = [engines.Run(value, prediction.counters, prediction) for value, prediction in zip(wanted, predictions)]
    else:
        images = [program.image(**work.operands) for program, work in zip(programs, works)]
        if memory is not None:
            runs = memories.run(config, memory, programs, images, progress=progress)
        else:
            runs = engines.run(config, programs, images, engine=engine, board=board, progress=progress)
    return list(zip(runs, wanted))


def run(config: Config, works: Sequence[Work], **options) -> list[engines.Run]:
    """`compute`, all of whose results and counters must be as they should: else MismatchError."""
    found = compute(config, works, **options)
    for done, value in found:
        if not equal(done.result, value):
            raise MismatchError(f"result differs from the golden model in {differences(done.result, value)} of {value.size} values")
        if done.mismatches:
            raise MismatchError(done.mismatches[0])
    return [done for done, _ in found]

"""One call for a matrix product on any engine, with the same report."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from gen.config import Config
from sw.golden.float32 import narrow
from sw.golden.gemm import OPERANDS
from sw.runtime import report
from sw.runtime.errors import UserError
from sw.runtime.product import ENGINES, Work, compute, differences, equal
from sw.runtime.report import Report

if TYPE_CHECKING:
    from sw.runtime.board import Board

FLOATS = (np.dtype(np.float32),)
MEMORY = 1 << 32   # bytes that an address of 32 bits reaches


def gemm(config: Config, a: np.ndarray, b: np.ndarray, *, engine: str = "rtl", a_zero_point: int = 0, b_zero_point: int = 0,
         memory: str | None = None, board: "Board | None" = None, progress: Callable[[str], None] | None = None) -> Report:
    """(a - a_zero_point) @ (b - b_zero_point), modulo 2^32, on an engine: "rtl", "model", "golden" or "board" (on `board`).

    On a machine with `array.dtype` bf16 the operands are float32, rounded to bf16, without zero points, and the result is fp32.
    With `memory`, the name of a DRAM part, the RTL's memory port leads through a DRAM controller to that part, simulated.
    Raises UserError for operands that are not (M, K) and (K, N) of a type the machine multiplies, MachineError if it stops on the way.
    """
    return gemms(config, [(a, b)], engine=engine, a_zero_point=a_zero_point, b_zero_point=b_zero_point, memory=memory, board=board,
                 progress=progress)[0]


def gemms(config: Config, pairs: Sequence[tuple[np.ndarray, np.ndarray]], *, engine: str = "rtl", a_zero_point: int = 0,
          b_zero_point: int = 0, memory: str | None = None, board: "Board | None" = None,
          progress: Callable[[str], None] | None = None) -> list[Report]:
    """The same for many products; on the RTL they share one simulator process."""
    from sw.compiler.errors import CompileError
    from sw.compiler.tiling import FLOAT, Gemm
    from sw.runtime import memory as memories

    if engine not in ENGINES:
        raise UserError(f"engine = {engine!r} is none of {', '.join(ENGINES)}")
    if memory is not None:
        memories.dram(memory)
        if engine != "rtl":
            raise UserError(f"engine = {engine!r} is none of rtl (memory = {memory!r})")
    if (board is not None) != (engine == "board"):
        raise UserError(f"engine = {engine!r} needs a board" if board is None else f"engine = {engine!r} takes no board")
    if board is not None:
        config = board.configuration(config)
    works = []
    for a, b in pairs:
        check_operands(config, a, b)
        a_dtype, b_dtype, output = (FLOAT, FLOAT, "fp32") if config.floating else (str(a.dtype), str(b.dtype), "int32")
        try:
            product = Gemm(m=a.shape[0], n=b.shape[1], k=a.shape[1], a_dtype=a_dtype, b_dtype=b_dtype, output=output,
                           a_zero_point=a_zero_point, b_zero_point=b_zero_point)
        except CompileError as error:
            raise UserError(str(error)) from None
        works.append(Work(product, {"a": narrow(a), "b": narrow(b)} if config.floating else {"a": a, "b": b}))
    try:
        found = compute(config, works, engine=engine, memory=memory, board=board, progress=progress)
    except CompileError as error:
        raise UserError(str(error)) from None
    return [_report(config, engine, memory, board, a, b, value, run) for (a, b), (run, value) in zip(pairs, found)]


def _report(config: Config, engine: str, memory: str | None, board: "Board | None", a: np.ndarray, b: np.ndarray, wanted: np.ndarray,
            run) -> Report:
    from sw.model.energy import energy

    (m, k), n = a.shape, b.shape[1]
    macs, counters, predicted = m * n * k, run.counters, run.prediction.cycles
    cycles = None if engine == "golden" or (board and not board.counts_cycles) else counters["cycles"]
    exact = equal(run.result, wanted)
    wrong = () if exact else (f"result differs from the golden model in {differences(run.result, wanted)} of {m * n} values",)
    return Report(
        m=m, n=n, k=k, config=config.name, organisation=config.organisation,
        dtype="bf16" if config.floating else str(a.dtype) if a.dtype == b.dtype else f"{a.dtype} x {b.dtype}",
        engine=engine, exact=exact, cycles=cycles, model_cycles=predicted, array_cycles=counters["array_cycles"],
        macs=macs, utilization=macs / (config.pes * (cycles or predicted)), waves=report.waves(config, counters),
        traffic=report.traffic(config, counters), energy_pj=energy(config, counters)["total"],
        stalls=report.stalls(config, counters), result=run.result, mismatches=wrong + run.mismatches, memory=memory,
        board=board.identity if board else None, exact_cycles=board.exact_cycles if board else memory is None)


def check_operands(config: Config, a: np.ndarray, b: np.ndarray):
    """Raises UserError for operands that cannot be multiplied."""
    for name, value in (("a", a), ("b", b)):
        if value.dtype not in (FLOATS if config.floating else OPERANDS):
            raise UserError(f"{name} has type {value.dtype}, allowed: {', '.join(map(str, FLOATS if config.floating else OPERANDS))}")
        if value.ndim != 2:
            raise UserError(f"{name} has {value.ndim} dimensions, a matrix has 2")
        if not value.size:
            raise UserError(f"{name} has shape {value.shape}, each size must be at least 1")
    if a.shape[1] != b.shape[0]:
        raise UserError(f"K = {a.shape[1]} columns of a differ from the {b.shape[0]} rows of b")
    check_sizes(config, a.shape[0], b.shape[1], a.shape[1])


def check_sizes(config: Config, m: int, n: int, k: int):
    """Raises UserError for a product whose operands and result cannot lie in memory, naming the largest size and its limit."""
    side = config.array.side
    m_, n_, k_ = (-(-value // side) * side for value in (m, n, k))
    room, ratio = MEMORY // config.operand_bytes, config.planes     # in operands; of a result to an operand
    if m_ * k_ + k_ * n_ + ratio * m_ * n_ <= room:
        return
    sizes = {"K": k, "M": m, "N": n}
    largest = max(sizes, key=lambda name: sizes[name])
    rest = {
        "K": (room - ratio * m_ * n_) // (m_ + n_),
        "M": (room - k_ * n_) // (k_ + ratio * n_),
        "N": (room - m_ * k_) // (k_ + ratio * m_),
    }[largest]
    limit = rest // side * side
    allowed = f"1..{limit}" if limit >= 1 else "every range"
    others = ", ".join(f"{name} = {sizes[name]}" for name in "MNK" if name != largest)
    raise UserError(f"{largest} = {sizes[largest]} is outside {allowed} with {others}: memory has {MEMORY} bytes")


def random_operands(m: int, n: int, k: int, seed: int, floating: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Reproducible operands: int8 over the whole range, or bf16 numbers of a normal distribution."""
    generator = np.random.default_rng(seed)
    if floating:
        a, b = (generator.standard_normal(shape, np.float32) for shape in ((m, k), (k, n)))
        return narrow(a), narrow(b)
    return generator.integers(-128, 128, (m, k), np.int8), generator.integers(-128, 128, (k, n), np.int8)

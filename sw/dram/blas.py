"""BLAS-like calls on the near-data units: `Nda(config).axpy(2.0, x, y)`. Each call gives its result and leaves a report in `last`.

Calls are asynchronous with `wait=False`: they give a `Handle`, and its completion flag `done` is set when the units have finished. Launches
in flight are ordered by unit: a unit takes its next launch when it is idle. The simulated clock runs when the host looks: when it waits
for a handle, reads or writes an operand, or frees one, everything in flight is played in one run, whose report all its handles share.
Cycles are those of the launches until the memory is quiet again. The host's own part is not in them: writing operands, and
reading and adding the sums of `dot`, `nrm2` and `gather`.

| engine | data | cycles and commands |
|---|---|---|
| "rtl" | the generated Verilog's, compared with the golden model block by block | the Verilog's, compared with the model's |
| "model" | the golden model's | the model's |
| "untimed" | the golden model's | none |

A difference raises `Mismatch`. Another engine is any object with `play(config, launches, load, store)`, see `sw.dram.engines.Engine`.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gen.dram import DramConfig
from gen.nda import LANES, Operation
from gen.traffic import Launch, Recording
from sw.dram import launch as encode
from sw.dram.allocate import Allocator, Matrix, NdaError, Region, Scratch, Table, Vector, check
from sw.dram.engines import ENGINES, Engine, Mismatch, Place
from sw.dram.launch import Issue
from sw.dram.mapping import locate
from sw.golden import nda as golden


@dataclass(frozen=True)
class Report:
    """One run of one or more operations."""

    operations: tuple[str, ...]
    launches: tuple[Launch, ...] = field(repr=False)
    recording: Recording | None = field(repr=False)

    @property
    def cycles(self) -> int | None:
        """Cycles from reset until the memory is quiet; None for an engine without a clock."""
        return self.recording.cycles if self.recording else None

    @property
    def commands(self) -> np.ndarray | None:
        """Every command (gen.traffic.COMMAND_RECORD)."""
        return self.recording.commands if self.recording else None


@dataclass(eq=False)
class Handle:
    """An operation in flight. `done`: its completion flag. `report` once it is done."""

    nda: "Nda" = field(repr=False)
    name: str
    launches: tuple[Launch, ...] = field(repr=False)
    operands: tuple[Region, ...] = field(repr=False)
    compute: Callable[[], Any] = field(repr=False)
    scratch: Region | None = field(default=None, repr=False)
    report: Report | None = field(default=None, repr=False)
    result: Any = field(default=None, repr=False)

    @property
    def done(self) -> bool:
        """Whether the units have finished it."""
        return self.report is not None

    def wait(self) -> Any:
        """The result; lets the clock run until it is there."""
        if not self.done:
            self.nda.wait()
        if not self.done:
            raise NdaError(f"{self.name}: the run it was part of failed")
        return self.result


class Nda:
    """The near-data units of a memory system. `policy`, `seed`, `grain`: see `sw.dram.launch.Issue`; they may be changed between calls.

    Results are new vectors unless `out` names one; `out` may be an operand (`out=y` is BLAS' axpy). Operands of one call need one colour,
    length and type: vectors get the lowest colour with room unless one is named. Raises NdaError, one line, for what cannot work.
    """

    def __init__(self, config: DramConfig, engine: "str | Engine" = "rtl", policy: str = "none", *, seed: int = 0, grain: int = 0):
        if isinstance(engine, str) and engine not in ENGINES:
            raise NdaError(f"engine = {engine!r} is none of {', '.join(ENGINES)}")
        self.config, self.allocator = config, Allocator(config)
        self.engine: Engine = ENGINES[engine]() if isinstance(engine, str) else engine
        self.policy, self.seed, self.grain = policy, seed, grain
        self.last: Report | None = None
        self._flying: list[Handle] = []
        _ = self._issue

    # The host's side of the memory

    def array(self, values: np.ndarray, colour: int | None = None) -> Vector:
        """A vector of float32 or int32 with these values."""
        values = np.asarray(values)
        if values.ndim != 1:
            raise NdaError(f"shape = {values.shape}: a vector has one dimension")
        return self._fill(self.allocator.allocate(values.size, values.dtype, colour), values)

    def matrix(self, values: np.ndarray, colour: int | None = None) -> Matrix:
        """A matrix of float32 for `gemv`."""
        return self._fill(self.allocator.matrix(*self._shape(values), colour), values)

    def table(self, values: np.ndarray, colour: int | None = None) -> Table:
        """A table of float32 for `gather` and `scatter_add`."""
        return self._fill(self.allocator.table(*self._shape(values), colour), values)

    def numpy(self, operand: "Vector | Matrix | Table") -> np.ndarray:
        """An operand's values, after everything in flight."""
        self.wait()
        check("numpy", self.allocator, operand)
        return operand.values.copy()

    def store(self, operand: "Vector | Matrix | Table", values: np.ndarray) -> None:
        """Write an operand, after everything in flight."""
        self.wait()
        check("store", self.allocator, operand)
        self._fill(operand, np.asarray(values))

    def free(self, operand: Region) -> None:
        """Give an operand's memory back, after everything in flight."""
        self.wait()
        self.allocator.free(operand)

    def wait(self) -> None:
        """Let the clock run until nothing is in flight."""
        handles, self._flying = self._flying, []
        if not handles:
            return
        try:
            self._play(handles)
        finally:
            for handle in handles:
                if handle.scratch is not None:
                    self.allocator.free(handle.scratch)

    # Operations

    def copy(self, x: Vector, out: Vector | None = None, *, wait: bool = True) -> Any:
        """x."""
        return self._elementwise(Operation.COPY, {"x": x}, {}, out, wait)

    def scal(self, a: float, x: Vector, out: Vector | None = None, *, wait: bool = True) -> Any:
        """a x."""
        return self._elementwise(Operation.SCAL, {"x": x}, {"a": a}, out, wait)

    def axpy(self, a: float, x: Vector, y: Vector, out: Vector | None = None, *, wait: bool = True) -> Any:
        """a x + y."""
        return self._elementwise(Operation.AXPY, {"x": x, "y": y}, {"a": a}, out, wait)

    def axpby(self, a: float, x: Vector, b: float, y: Vector, out: Vector | None = None, *, wait: bool = True) -> Any:
        """a x + b y."""
        return self._elementwise(Operation.AXPBY, {"x": x, "y": y}, {"a": a, "b": b}, out, wait)

    def axpbypcz(self, a: float, x: Vector, b: float, y: Vector, c: float, z: Vector, out: Vector | None = None, *,
                 wait: bool = True) -> Any:
        """(a x + b y) + c z."""
        return self._elementwise(Operation.AXPBYPCZ, {"x": x, "y": y, "z": z}, {"a": a, "b": b, "c": c}, out, wait)

    def xmy(self, x: Vector, y: Vector, out: Vector | None = None, *, wait: bool = True) -> Any:
        """x .* y."""
        return self._elementwise(Operation.XMY, {"x": x, "y": y}, {}, out, wait)

    def dot(self, x: Vector, y: Vector, *, wait: bool = True) -> Any:
        """Sum of x .* y, np.float32."""
        return self._reduction(Operation.DOT, x, y, wait)

    def nrm2(self, x: Vector, *, wait: bool = True) -> Any:
        """Euclidean length of x, np.float32."""
        return self._reduction(Operation.NRM2, x, None, wait)

    def gemv(self, matrix: Matrix, scalars: Iterable[float], y: Vector | None = None, out: Vector | None = None, *,
             wait: bool = True) -> Any:
        """y + matrix @ scalars; y is zero if not given."""
        scalars = list(scalars)
        check("gemv", self.allocator, matrix, *[item for item in (y, out) if item is not None])
        zero = self._like(matrix.column(0)) if y is None and out is not None else None     # a new result begins as zeros itself
        w = out or self._like(matrix.column(0))
        start = y or zero or w
        launches = self._encode([zero, None if out else w], encode.gemv, matrix, scalars, start, w, self._issue)

        def compute() -> Vector:
            columns = matrix.content.reshape(matrix.columns, -1).view(np.float32)
            w.content[:] = _words(golden.gemv(np.array(scalars, np.float32), columns, _padded(start)))
            return w

        return self._begin("gemv", launches, (matrix, start, w), compute, wait, scalars, zero)

    def gather(self, table: Table, indices: np.ndarray, *, wait: bool = True) -> Any:
        """Sum of the table's rows named by `indices`, an array of float32."""
        indices = self._indices("gather", table, indices)
        sums = self._scratch(encode.gather_length(table, indices), table.colour)
        launches = encode.gather(table, indices, sums, self._issue)

        def compute() -> np.ndarray:
            rows = table.content.reshape(table.rows, -1).view(np.float32)
            for unit, number, positions in encode.gather_plan(table, indices):
                mine = [position // table.row_blocks * self.allocator.units + unit for position in positions]
                first = number * encode.CHUNK_BLOCKS
                sums.content[unit, first:first + table.row_blocks] = _words(golden.total(list(rows[mine])))
            return golden.gather(self.config, table.values, indices)

        return self._begin("gather", launches, (table, sums), compute, wait, scratch=sums)

    def scatter_add(self, table: Table, indices: np.ndarray, row: np.ndarray, *, wait: bool = True) -> Any:
        """Add `row` to the table's rows named by `indices`, once for each time it is named; gives the table."""
        indices, row = self._indices("scatter_add", table, indices), np.asarray(row)
        if row.dtype != np.float32 or row.shape != (table.width,):
            raise NdaError(f"scatter_add: row is {row.dtype} {row.shape}, the table has rows of float32 ({table.width},)")
        copies = self._scratch(table.row_blocks, table.colour)
        copies.content.reshape(self.allocator.units, -1)[:, :table.width] = row.view(np.uint32)
        launches = encode.scatter_add(table, indices, copies, self._issue)

        def compute() -> Table:
            rows = table.content.reshape(table.rows, -1).view(np.float32)
            table.content[:] = _words(golden.scatter_add(rows, indices, _padded(copies)[:rows.shape[1]])).reshape(table.content.shape)
            return table

        return self._begin("scatter_add", launches, (table, copies), compute, wait, scratch=copies)

    # How an operation is checked, launched and completed

    @property
    def _issue(self) -> Issue:
        return Issue(self.policy, self.seed, self.grain)

    def _elementwise(self, operation: Operation, operands: dict[str, Vector], scalars: dict[str, float], out: Vector | None, wait: bool):
        name = operation.name.lower()
        check(name, self.allocator, *operands.values(), *([] if out is None else [out]))
        w = out or self._like(operands["x"])
        launches = self._encode([None if out else w], encode.elementwise, operation, operands | {"w": w}, scalars, self._issue)

        def compute() -> Vector:
            pairs = zip([*scalars.values()] or [None] * len(operands), operands.values(), strict=False)
            if operation is Operation.AXPY:
                arguments = [scalars["a"], _padded(operands["x"]), _padded(operands["y"])]
            else:
                arguments = [item for a, vector in pairs for item in ((_padded(vector),) if a is None else (a, _padded(vector)))]
            w.content[:] = _words(getattr(golden, name)(*arguments))
            return w

        return self._begin(name, launches, (*operands.values(), w), compute, wait, scalars.values())

    def _reduction(self, operation: Operation, x: Vector, y: Vector | None, wait: bool):
        name = operation.name.lower()
        check(name, self.allocator, *[item for item in (x, y) if item is not None])
        sums = self._scratch(1, x.colour)
        launches = self._encode([sums], encode.reduction, operation, x, y, sums, self._issue)

        def compute() -> np.float32:
            lanes = golden.lane_sums(self.config, _padded(x), _padded(y or x), x.colour)
            for unit, values in lanes.items():
                sums.content[unit, 0] = values.view(np.uint32)
            total = golden.host_sum(lanes)
            return golden.square_root(total) if operation is Operation.NRM2 else total

        return self._begin(name, launches, tuple(item for item in (x, y, sums) if item is not None), compute, wait, scratch=sums)

    def _encode(self, fresh: list[Region | None], function: Callable[..., list[Launch]], *arguments) -> list[Launch]:
        """The launches; regions made for the operation are freed again if it is refused."""
        try:
            return function(*arguments)
        except NdaError:
            for region in fresh:
                if region is not None:
                    self.allocator.free(region)
            raise

    def _begin(self, name: str, launches: list[Launch], operands: tuple[Region, ...], compute: Callable[[], Any], wait: bool,
               scalars: Iterable[float] = (), scratch: Region | None = None):
        handle = Handle(self, name, tuple(launches), operands, compute, scratch)
        self._flying.append(handle)
        if not all(np.isfinite(value) for value in scalars):
            # Infinity times the padding's zeros is a NaN: it must not get into a later sum, so the host clears it.
            self.wait()
            self._clear_padding(operands[-1])
        return handle.wait() if wait else handle

    def _play(self, handles: list[Handle]) -> None:
        regions = list({id(region): region for handle in handles for region in handle.operands}.values()) if self.engine.has_data else []
        places = [_places(self.config, region.numbers) for region in regions]
        load = {place: block for region, where in zip(regions, places) for place, block in zip(where, _blocks(region))}
        launches = tuple(item for handle in handles for item in handle.launches)
        results = [handle.compute() for handle in handles]
        played = self.engine.play(self.config, launches, load, list(load))
        if played.blocks is not None:
            for region, where in zip(regions, places):
                for place, block in zip(where, _blocks(region)):
                    if played.blocks[place] != block:
                        raise Mismatch(f"{', '.join(handle.name for handle in handles)}: channel, rank, bank, row, column = {place} holds "
                                       f"{played.blocks[place].hex()}, the golden model has {block.hex()}")
        self.last = Report(tuple(handle.name for handle in handles), launches, played.recording)
        for handle, result in zip(handles, results):
            handle.result, handle.report = result, self.last

    def _scratch(self, length: int, colour: int) -> Scratch:
        """Frames for a result; waits for those of operations in flight if there are no others."""
        try:
            return self.allocator.scratch(length, colour)
        except NdaError:
            if not any(handle.scratch is not None for handle in self._flying):
                raise
        self.wait()
        return self.allocator.scratch(length, colour)

    def _like(self, x: Vector) -> Vector:
        return self.allocator.allocate(x.elements, x.dtype, x.colour)

    def _indices(self, operation: str, table: Table, indices: np.ndarray) -> np.ndarray:
        check(operation, self.allocator, table)
        indices = np.asarray(indices)
        if indices.ndim != 1 or not indices.size or indices.dtype.kind not in "iu":
            raise NdaError(f"{operation}: indices are {indices.dtype} {indices.shape}, allowed is a row of one or more whole numbers")
        wrong = (indices < 0) | (indices >= table.rows)
        if wrong.any():
            raise NdaError(f"{operation}: index = {int(indices[wrong][0])} is outside 0..{table.rows - 1}")
        return indices.astype(np.int64)

    @staticmethod
    def _shape(values: np.ndarray) -> tuple[int, int]:
        values = np.asarray(values)
        if values.ndim != 2 or values.dtype != np.float32:
            raise NdaError(f"values are {values.dtype} {values.shape}, allowed is float32 with two dimensions")
        return values.shape

    @staticmethod
    def _fill(operand, values: np.ndarray):
        current = operand.values
        if values.shape != current.shape or values.dtype != current.dtype:
            raise NdaError(f"values are {values.dtype} {values.shape}, the operand is {current.dtype} {current.shape}")
        current[:] = values
        return operand

    @staticmethod
    def _clear_padding(vector: Region) -> None:
        if isinstance(vector, Vector):
            vector.content.reshape(-1)[vector.elements:] = 0


def _padded(region: Region) -> np.ndarray:
    """A region's whole content in one row, in its type."""
    return region.content.reshape(-1).view(region.dtype if isinstance(region, Vector) else np.float32)


def _words(values: np.ndarray) -> np.ndarray:
    return values.view(np.uint32).reshape(-1, LANES)


def _blocks(region: Region) -> list[bytes]:
    """The content's blocks, little endian."""
    data = np.ascontiguousarray(region.content).astype("<u4").tobytes()
    return [data[first:first + 4 * LANES] for first in range(0, len(data), 4 * LANES)]


def _places(config: DramConfig, numbers: np.ndarray) -> list[Place]:
    return list(zip(*(item.tolist() for item in locate(config, numbers.reshape(-1)))))

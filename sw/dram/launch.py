"""From an operation on allocated operands to the writes that launch it: for each unit its parameter registers, then its descriptor.

The first write of a unit's launch waits until that unit is inactive: its registers may change only then. Nothing waits for another unit,
since operands are aligned and every unit works on its own part. Units without a block of the operands get no launch.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gen.nda import CHUNK_BLOCKS, INTEGER, LANES, PARAMETERS, POLICY_NAMES, Operation, Policy, pack
from gen.traffic import Launch
from sw.dram.allocate import Allocator, Matrix, NdaError, Scratch, Table, Vector
from sw.dram.mapping import launch_block


@dataclass(frozen=True)
class Issue:
    """How launches are made: the policy of near-data writes, the seed of its generator, and the chunks of a launch (0: all of them).

    Small pieces keep units less busy at a time and cost more of the host's command bandwidth.
    """

    policy: str = "none"
    seed: int = 0
    grain: int = 0

    def __post_init__(self):
        if self.policy not in POLICY_NAMES:
            raise NdaError(f"policy = {self.policy!r} is none of {', '.join(POLICY_NAMES)}")
        if not 0 <= self.seed <= 255:
            raise NdaError(f"seed = {self.seed} is outside 0..255")
        if self.grain < 0:
            raise NdaError(f"grain = {self.grain} is outside 0.. chunks")

    @property
    def code(self) -> Policy:
        """The descriptor's policy."""
        return POLICY_NAMES[self.policy]


def scalar(name: str, value, dtype: np.dtype) -> int:
    """A scalar's 32 bits: rounded to float32, or an int32. Raises NdaError for one that does not fit."""
    if dtype == np.int32:
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or not -1 << 31 <= value < 1 << 31:
            raise NdaError(f"{name} = {value!r} is outside {-1 << 31}..{(1 << 31) - 1} (int32)")
        return int(value) & 0xFFFF_FFFF
    try:
        exact = float(value)
    except (TypeError, ValueError):
        raise NdaError(f"{name} = {value!r} is no number") from None
    with np.errstate(over="ignore", under="ignore"):
        single = np.float32(value)
    if math.isfinite(exact) and not np.isfinite(single):
        raise NdaError(f"{name} = {value!r} is outside {-np.finfo(np.float32).max}..{np.finfo(np.float32).max} (float32)")
    return int(single.view(np.uint32))


def one(allocator: Allocator, unit: int, parameters: Sequence[int] = (), **fields: int) -> list[Launch]:
    """One unit's launch: as many parameter registers as needed, then the descriptor."""
    channel, rank = divmod(unit, allocator.config.ranks)
    writes = []
    for first in range(0, len(parameters), LANES):
        words = [*parameters[first:first + LANES]]
        writes.append((1 + first // LANES, np.array(words + [0] * (LANES - len(words)), "<u4").tobytes()))
    writes.append((0, pack(**fields)))
    return [Launch(launch_block(allocator.config, channel, rank, column), data, wait=0 if i else 1 << unit)
            for i, (column, data) in enumerate(writes)]


def elementwise(operation: Operation, operands: dict[str, Vector], scalars: dict[str, float], issue: Issue) -> list[Launch]:
    """COPY to XMY. `operands` by the descriptor's names (x, y, z, w), all checked before."""
    target = operands["w"]
    if target.dtype == np.int32 and operation not in INTEGER:
        raise NdaError(f"{operation.name.lower()} is not offered for int32, only {', '.join(item.name.lower() for item in INTEGER)}")
    fields = {"operation": operation, "integer": target.dtype == np.int32, "policy": issue.code, "flip": target.flip,
              **{name: vector.frame for name, vector in operands.items()},
              **{name: scalar(name, value, target.dtype) for name, value in scalars.items()}}
    return _pieces(target, issue, (), fields)


def reduction(operation: Operation, x: Vector, y: Vector | None, sums: Scratch, issue: Issue) -> list[Launch]:
    """DOT, NRM2: the lanes' sums of unit u go to its first block of `sums`."""
    if x.dtype == np.int32:
        raise NdaError(f"{operation.name.lower()} is not offered for int32, only {', '.join(item.name.lower() for item in INTEGER)}")
    fields = {"operation": operation, "policy": issue.code, "flip": x.flip, "x": x.frame, "w": sums.frame}
    if y is not None:
        fields["y"] = y.frame
    return _pieces(x, Issue(issue.policy, issue.seed), (), fields)     # one launch: the sums are of the whole vector


def gemv(matrix: Matrix, scalars: Sequence[float], y: Vector, w: Vector, issue: Issue) -> list[Launch]:
    """w = y + A s. More columns than parameters take further launches that add to w."""
    if len(scalars) != matrix.columns:
        raise NdaError(f"scalars: {len(scalars)} values, the matrix has {matrix.columns} columns")
    if w.dtype == np.int32:
        raise NdaError(f"gemv is not offered for int32, only {', '.join(item.name.lower() for item in INTEGER)}")
    words = [scalar("scalar", value, w.dtype) for value in scalars]
    launches = []
    for first in range(0, matrix.columns, PARAMETERS):
        part = words[first:first + PARAMETERS]
        fields = {"operation": Operation.GEMV, "policy": issue.code, "flip": w.flip, "streams": len(part), "step": matrix.step,
                  "x": matrix.frame + first * matrix.step, "y": (w if first else y).frame, "w": w.frame}
        launches += _pieces(w, issue, part, fields)
    return launches


def gather_plan(table: Table, indices: np.ndarray) -> list[tuple[int, int, list[int]]]:
    """Launches of a gather or scatter: unit, how many launches the unit has before it, local positions of the rows."""
    units = table.allocator.units
    plan = []
    for unit in range(units):
        positions = (indices[indices % units == unit] // units * table.row_blocks).tolist()
        plan += [(unit, number, positions[first:first + PARAMETERS]) for number, first in enumerate(range(0, len(positions), PARAMETERS))]
    return sorted(plan, key=lambda item: item[1])      # every unit's first launch before any unit's second


def gather_length(table: Table, indices: np.ndarray) -> int:
    """Local blocks of the scratch a gather needs in each unit: a chunk for each of its launches."""
    return CHUNK_BLOCKS * max(number for _, number, _ in gather_plan(table, indices)) + table.row_blocks


def gather(table: Table, indices: np.ndarray, sums: Scratch, issue: Issue) -> list[Launch]:
    """Launch n of a unit leaves the sum of its rows at local position 128 n of `sums`."""
    launches = []
    for unit, number, positions in gather_plan(table, indices):
        launches += one(table.allocator, unit, positions, operation=Operation.GATHER, policy=issue.code, seed=_seed(issue, unit),
                        flip=table.flip, streams=len(positions), blocks=table.row_blocks, x=table.frame, w=sums.frame,
                        start=number * CHUNK_BLOCKS)
    return launches


def scatter_add(table: Table, indices: np.ndarray, row: Scratch, issue: Issue) -> list[Launch]:
    """Every unit adds its copy of `row` to its rows in the order of the indices."""
    launches = []
    for unit, _, positions in gather_plan(table, indices):
        launches += one(table.allocator, unit, positions, operation=Operation.SCATTER, policy=issue.code, seed=_seed(issue, unit),
                        flip=table.flip, streams=len(positions), blocks=table.row_blocks, x=table.frame, y=row.frame)
    return launches


def _seed(issue: Issue, unit: int) -> int:
    """Units draw different numbers; 0 is left out, the hardware takes it as 1."""
    return 1 + (issue.seed + unit) % 255


def _pieces(vector: Vector, issue: Issue, parameters: Sequence[int], fields: dict[str, int]) -> list[Launch]:
    """A launch for each unit that holds blocks of a vector; in pieces of `grain` chunks, all units' first pieces first."""
    lengths = vector.lengths
    size = issue.grain * CHUNK_BLOCKS or int(lengths.max())
    launches = []
    for start in range(0, int(lengths.max()), size):
        for unit in np.flatnonzero(lengths > start).tolist():
            launches += one(vector.allocator, unit, parameters, **fields, seed=_seed(issue, unit), start=start,
                            blocks=min(size, int(lengths[unit]) - start))
    return launches

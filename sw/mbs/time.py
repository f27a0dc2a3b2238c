"""Time and energy of a training step on a WaveCore core: an array of 128 x 128, and DRAM beside it. Estimates, not proved by RTL yet.

A unit takes as long as the slower of its products and its DRAM bytes, forward and backward each; the vector unit's work hides behind them.
A product is cut into waves of at most 256 rows. With double-buffered weights a wave takes its rows, or the 128 cycles in which the next
tile arrives, if those are more; without, it takes both. In a group a product runs once a sub-batch.
"""

from dataclasses import dataclass
from math import ceil

from sw.mbs.schedule import Variant
from sw.mbs.traffic import Group, step_traffic
from sw.mbs.units import Sequence
from sw.workloads.products import Phase, product_of

ARRAY, BLOCK_ROWS, CLOCK, CORES = 128, 256, 0.7e9, 2
MAC_PJ = 1.1 + 0.9          # fp16 multiplication, fp32 addition (45 nm, Horowitz, ISSCC 2014; recalled)
BUFFER_PJ_PER_BYTE = 12.5   # a large SRAM of the same table (recalled)
OPERAND_BYTES = 2
GIB = 1 << 30


@dataclass(frozen=True)
class Memory:
    """A chip's off-chip memory: bytes a second, energy of a bit, and where they are from."""

    name: str
    bandwidth: float
    pj_per_bit: float
    source: str


MEMORIES = {memory.name: memory for memory in (
    Memory("hbm2", 300 * GIB, 3.9, "bandwidth: MBS paper, recalled; energy: figure for HBM2 in the literature, recalled"),
    Memory("hbm2x2", 600 * GIB, 3.9, "two of them"),
    Memory("gddr5", 384 * GIB, 14.0, "bandwidth: MBS paper, recalled; energy: figure for GDDR5 in the literature, recalled"),
    Memory("lpddr4", 239.2 * GIB, 4.0, "bandwidth: MBS paper, recalled; energy: assumed near HBM2's"),
    Memory("sdr-ulx3s", 0.2e9, 20.0, "16 bits at 100 MHz; energy: DRAM of the 45 nm table"),
)}


@dataclass(frozen=True)
class Step:
    """A training step of one core: seconds, those of the products alone, multiply-adds, DRAM bytes, and energy by part in joules."""

    seconds: float
    compute_seconds: float
    macs: int
    dram_bytes: int
    energy: dict[str, float]

    @property
    def utilisation(self) -> float:
        """Of the array while products run."""
        return self.macs / (ARRAY**2 * CLOCK * self.compute_seconds)


def product_cycles(m: int, n: int, k: int, *, double_buffered: bool) -> int:
    """Cycles of an m x k by k x n product on one array."""
    tiles = ceil(n / ARRAY) * ceil(k / ARRAY)
    whole, rest = divmod(m, BLOCK_ROWS)

    def wave(rows: int) -> int:
        return max(rows, ARRAY) if double_buffered else rows + ARRAY

    return tiles * (whole * wave(BLOCK_ROWS) + (wave(rest) if rest else 0))


def local_bytes(m: int, n: int, k: int) -> int:
    """Bytes between the global buffer and the array: the moving operand for each tile of columns, each stationary tile for each block of
    rows, and the result."""
    return OPERAND_BYTES * (m * k * ceil(n / ARRAY) + k * n * ceil(m / BLOCK_ROWS) + m * n)


def step(sequence: Sequence, variant: Variant, groups: list[Group], batch: int, memory: Memory) -> Step:
    """A training step of `batch` samples on one of the chip's cores, which share its memory."""
    network, moved = sequence.network, {found.name: found for found in step_traffic(sequence, batch, groups)}
    seconds = compute = 0.0
    macs = dram = local = 0
    for group in groups:
        sizes = [group.sub_batch] * (batch // group.sub_batch) if group.sub_batch else [batch]
        if group.sub_batch and batch % group.sub_batch:
            sizes.append(batch % group.sub_batch)
        for number in group.units:
            unit, work = sequence.units[number], {Phase.FORWARD: 0, Phase.WEIGHT_GRADIENT: 0, Phase.DATA_GRADIENT: 0}
            bytes_ = moved[unit.name]
            for phase in work if unit.product else ():
                if phase is Phase.DATA_GRADIENT and unit.inputs[0] == network.input_name:
                    continue
                for size in [batch] if bytes_.deferred and phase is Phase.WEIGHT_GRADIENT else sizes:
                    item = product_of(unit.first, phase, size)
                    shape = item.m, item.n, item.k
                    work[phase] += item.groups * product_cycles(*shape, double_buffered=variant.double_buffered)
                    macs += item.macs
                    local += item.groups * local_bytes(*shape)
            forward, backward = work[Phase.FORWARD], work[Phase.WEIGHT_GRADIENT] + work[Phase.DATA_GRADIENT]
            seconds += slower(forward, bytes_.forward.total, memory) + slower(backward, bytes_.backward.total, memory)
            compute += (forward + backward) / CLOCK
            dram += bytes_.total
    energy = {"macs": 1e-12 * MAC_PJ * macs, "buffer": 1e-12 * BUFFER_PJ_PER_BYTE * (local + dram),
              "dram": 8e-12 * memory.pj_per_bit * dram}
    return Step(seconds, compute, macs, dram, energy | {"total": sum(energy.values())})


def slower(cycles: int, dram_bytes: int, memory: Memory) -> float:
    """Seconds of a half of a unit's work."""
    return max(cycles / CLOCK, dram_bytes * CORES / memory.bandwidth)

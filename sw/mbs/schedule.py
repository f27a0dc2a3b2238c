"""The variants of the MBS paper: which units form groups, and how many samples pass them at once.

| variant | array | groups |
|---|---|---|
| baseline | waits for each stationary tile | none: layer by layer |
| archopt | loads tiles behind each other | none |
| il | as archopt | units that hold a whole mini-batch |
| mbs-fs | as archopt | one, with the sub-batch of its largest unit |
| mbs1 | as archopt | chosen for the least traffic |
| mbs2 | as archopt | the same, with a block's input and waiting branches kept on chip |
| mbs3 | as archopt | ours: as mbs2, and the backward pass keeps and sums up less (below) |

*mbs3* does not keep normalised results for the backward pass, which computes them again from what the normalisation read (that comes back
for its own gradient anyway); and where the sums of a weight gradient would move more than the gradient of the layer's result, it computes
the weight gradient behind the group for the whole mini-batch.

Groups begin and end at cuts of the network. *Greedy*, as the paper has it: blocks of as many iterations side by side, then neighbours are
merged, the best pair first, as long as traffic falls. *Optimal*: of all ways to cut, by dynamic programming; a border costs the same
whatever lies around it, so the least traffic of a beginning is known once.
"""

import enum
from collections.abc import Callable, Iterable
from functools import cache
from itertools import groupby, pairwise

from sw.mbs.traffic import Group, group_traffic
from sw.mbs.units import Sequence


class Variant(enum.StrEnum):
    """A way to run a network."""

    BASELINE = "baseline"
    ARCHOPT = "archopt"
    IL = "il"
    MBS_FS = "mbs-fs"
    MBS1 = "mbs1"
    MBS2 = "mbs2"
    MBS3 = "mbs3"

    @property
    def double_buffered(self) -> bool:
        """Whether the next stationary tile is loaded behind the present one."""
        return self is not Variant.BASELINE


def sub_batch(sequence: Sequence, units: Iterable[int], batch: int, buffer: int, inter_branch: bool) -> int:
    """Samples of which every unit's features fit the buffer, at most `batch`; 0 where one sample does not."""
    need = sequence.live_bytes if inter_branch else sequence.plain_bytes
    return min(batch, *(buffer // need(number) for number in units))


def groups_of(sequence: Sequence, variant: Variant, batch: int, buffer: int, *, optimal: bool = True) -> list[Group]:
    """The groups of a variant. `buffer`: bytes for features."""
    units = range(len(sequence.units))
    if variant in (Variant.BASELINE, Variant.ARCHOPT):
        return [Group(units, 0)]
    if variant is Variant.IL:
        def fits(number: int) -> bool:
            return sub_batch(sequence, range(number, number + 1), batch, buffer, False) == batch

        return _runs(units, fits, lambda run, fitting: Group(run, batch if fitting else 0))
    ours = variant is Variant.MBS3
    inter_branch = ours or variant is Variant.MBS2
    if variant is Variant.MBS_FS:
        def possible(number: int) -> bool:
            return sub_batch(sequence, range(number, number + 1), batch, buffer, False) > 0

        least = sub_batch(sequence, [number for number in units if possible(number)], batch, buffer, False)
        return _runs(units, possible, lambda run, fitting: Group(run, least if fitting else 0))

    def group(start: int, stop: int) -> Group:
        run = range(sequence.blocks[start].start, sequence.blocks[stop - 1].stop)
        return Group(run, sub_batch(sequence, run, batch, buffer, inter_branch), inter_branch, recompute=ours, defer=ours)

    @cache
    def cost(start: int, stop: int) -> int:
        return sum(found.total for found in group_traffic(sequence, batch, group(start, stop)))

    return [group(*borders) for borders in (_optimal if optimal else _greedy)(len(sequence.blocks), cost, group, batch)]


def _runs(units: range, test: Callable[[int], bool], make: Callable[[range, bool], Group]) -> list[Group]:
    """Neighbours with the same answer form a group."""
    found = []
    for answer, run in groupby(units, test):
        members = list(run)
        found.append(make(range(members[0], members[-1] + 1), answer))
    return found


def _optimal(blocks: int, cost: Callable[[int, int], int], *_) -> list[tuple[int, int]]:
    """Borders (first block, last + 1) of the cheapest cut of all blocks."""
    best: list[tuple[int, int]] = [(0, 0)]      # of the first n blocks: cost, where the last group begins
    for stop in range(1, blocks + 1):
        best.append(min((best[start][0] + cost(start, stop), start) for start in range(stop)))
    borders, stop = [], blocks
    while stop:
        borders.append((best[stop][1], stop))
        stop = best[stop][1]
    return borders[::-1]


def _greedy(blocks: int, cost: Callable[[int, int], int], group: Callable[[int, int], Group], batch: int) -> list[tuple[int, int]]:
    """Blocks of equally many iterations together; then the merge that saves most, until none saves anything."""
    borders = []
    for _, run in groupby(range(blocks), lambda block: (group(block, block + 1).sub_batch > 0, group(block, block + 1).iterations(batch))):
        members = list(run)
        borders.append((members[0], members[-1] + 1))
    while len(borders) > 1:
        saved, at = max((cost(*left) + cost(*right) - cost(left[0], right[1]), -number)
                        for number, (left, right) in enumerate(pairwise(borders)))
        if saved <= 0:
            break
        borders[-at:2 - at] = [(borders[-at][0], borders[1 - at][1])]
    return borders

"""The plan of a group's share: loop order, chunk sizes and which slices of the global buffer hold what, chosen by closed-form estimates.

Slices get roles: moving chunks (A), stationary chunks (B), output tiles (C), their residuals (R), column parameters (P); a role's slices
are cut into equal slots. A chunk is `chunk` waves of one m or n tile. Loops: blocks of n tiles (outer "n") or of m tiles (outer "m");
inside a block the other dimension, then the block's own tiles, then k. So in outer "n" the chunks of an m tile may stay while a block's n
tiles pass (keep_a), and those of a whole block while all m tiles pass (keep_b); in outer "m" the same with A and B exchanged. What does not
stay is loaded again.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import NamedTuple

from sw.compiler.errors import CompileError
from sw.compiler.estimate import Estimate, Nest
from sw.compiler.layout import PARAMETER_WORDS, ceil_div, pitch_of, round_up
from sw.compiler.tiling import Share, Tile
from sw.compiler.window import MOST_CHANNEL_WAVES

MOST_WORDS = 32768      # of a slice of any machine
HEIGHTS = 3             # tile heights to compare
MOST_SLOTS = 64         # keeps token counters far from their limit of 255
TOLERANCE = 1.03        # estimates this close count as equal
SLACK = 64              # and so do estimates that differ by less than this


@dataclass(frozen=True)
class Role:
    """Slices of the global buffer with one purpose, cut into slots of `words`; at most `slots` are used."""

    first: int
    slices: int
    words: int
    slots: int

    def place(self, slot: int, slice_words: int) -> tuple[int, int]:
        """Slice and address of a slot."""
        row, column = divmod(slot, slice_words // self.words)
        return self.first + row, column * self.words


@dataclass(frozen=True)
class Plan:
    """Decisions for one share, and the estimates in cycles that led to them (array, store: work; memory: beats; cycles: all together)."""

    rows: int = 0
    chunk: int = 0
    outer: str = "n"
    block: int = 1
    keep_a: bool = False
    keep_b: bool = False
    a: Role = Role(0, 0, 1, 0)
    b: Role = Role(0, 0, 1, 0)
    c: Role = Role(0, 0, 1, 0)
    p: Role = Role(0, 0, 1, 0)
    r: Role = Role(0, 0, 1, 0)
    keep_p: bool = False
    array: int = 0
    store: int = 0
    memory: int = 0
    cycles: int = 0

    def to_dict(self) -> dict:
        """Plain values, for reports and files."""
        return asdict(self)


def tile_order(share: Share, plan: Plan) -> Iterator[tuple[int, Tile]]:
    """The output tiles in the plan's order, each with the index of its block."""
    m_tiles, n_tiles = range(ceil_div(share.rows, plan.rows)), range(share.tile, share.tile_stop)
    blocked, other = (n_tiles, m_tiles) if plan.outer == "n" else (m_tiles, n_tiles)
    for block, start in enumerate(range(0, len(blocked), plan.block)):
        for outside in other:
            for inside in blocked[start:start + plan.block]:
                m_index, n_index = (outside, inside) if plan.outer == "n" else (inside, outside)
                row = share.row + m_index * plan.rows
                rows = min(plan.rows, share.row_stop - row)
                yield block, Tile(m_index, n_index, row, rows, n_index * share.depth.reach, share.width(n_index))


class Sizes:
    """Slot sizes in words for a tile height and a chunk depth. Blocks of A lie 2 mod 4 words apart, for reads without conflict."""

    def __init__(self, share: Share, rows: int, chunk: int):
        config, beat = share.config, share.config.beat_words
        span = round_up(share.bands(rows)[0], beat)
        self.pitch = pitch_of(config, span)
        blocks = min(chunk * share.depth.reach, share.depth.blocks)
        self.a = (blocks - 1) * self.pitch + span
        self.b = blocks * share.gemm.taps * share.widest * config.array.side + _slack(config.array.side, beat)
        self.c = share.widest * round_up(min(rows, share.rows), beat) * share.gemm.output_words
        self.p = share.widest * PARAMETER_WORDS + _slack(PARAMETER_WORDS, beat)


def _slack(step: int, beat: int) -> int:
    """Words by which a load grows when pieces of `step` words need not start and end at whole beats."""
    return 2 * beat if step % beat else 0


def make_plan(share: Share, sharers: float = 1) -> Plan:
    """The plan when `sharers` groups use the memory port (twice as many if it takes a beat in two cycles). Of those with nearly the fewest
    estimated cycles it has the highest tiles, for the most reuse of stationary operands, and then the least traffic.

    Raises CompileError when not even one row block and one wave fit the global buffer.
    """
    plans = list(_candidates(share, sharers))
    if not plans:
        wave, words = Sizes(share, share.config.beat_words, 1), share.config.buffers.slice_words
        slices, gemm = share.config.buffers.slices, share.gemm
        for least, needed in ((5, gemm.addition and "a residual"), (4, gemm.parameters and "column parameters")):
            if needed and slices < least:
                raise CompileError(f"buffers.slices = {slices} is outside {least}..16 slices for {needed}")
        rows, word_bytes = share.row_limit(), share.config.word_bytes
        if rows < share.config.beat_words:
            raise CompileError(f"memory.bytes_per_cycle = {share.config.memory.bytes_per_cycle} is outside {word_bytes}.."
                               f"{rows * word_bytes} bytes for tiles of {rows} rows")
        need = max(wave.a, wave.b, wave.c, wave.p if share.gemm.parameters else 0)
        if share.gemm.window and need > MOST_WORDS:
            raise CompileError(f"width = {share.gemm.window.width} with a kernel of {' x '.join(map(str, share.gemm.window.kernel))} needs "
                               f"{need} words of a slice, outside 1..{MOST_WORDS}")
        raise CompileError(f"buffers.slice_words = {words} is outside {need}..{MOST_WORDS} words for one wave")
    enough = min(plan.cycles for plan in plans) * TOLERANCE + SLACK
    best = min((item for item in plans if item.cycles <= enough),
               key=lambda item: (-item.plan.rows, item.memory, item.cycles, -item.plan.chunk))
    return best.whole()


class Candidate(NamedTuple):
    """A plan that is still to get its loop nest, and its estimated traffic (beats) and cycles."""

    plan: Plan
    nest: Nest
    estimate: Estimate
    memory: int
    cycles: int

    def whole(self) -> Plan:
        """The plan with nest and estimates."""
        return replace(self.plan, **self.nest._asdict(), array=self.estimate.array, store=self.estimate.store, memory=self.memory,
                       cycles=self.cycles)


def _candidates(share: Share, sharers: float) -> Iterator[Candidate]:
    """All plans worth comparing."""
    config, waves = share.config, share.depth.waves
    beat, slice_words = config.beat_words, config.buffers.slice_words
    heights: set[int] = set()
    limit = share.row_limit() // beat * beat
    while limit and len(heights) < HEIGHTS:
        even = ceil_div(share.rows, ceil_div(share.rows, limit))            # tiles of nearly equal height, full in every mode
        height = min(round_up(even, 4 * beat), limit)
        sizes = Sizes(share, height, 1)
        if max(sizes.a, sizes.c) <= slice_words:
            heights.add(height)
        limit = limit // 2 // beat * beat
    for height in sorted(heights, reverse=True):
        depths = {min(waves, 1 << bit) for bit in range(8)} | {ceil_div(waves, parts) for parts in range(1, 9)}
        most = MOST_CHANNEL_WAVES if share.walk and share.gemm.taps == 1 else waves        # one LdLBUF_H then walks all waves of a chunk
        for chunk in sorted(depth for depth in depths if depth <= most):
            sizes = Sizes(share, height, chunk)
            if max(sizes.a, sizes.b) <= slice_words:
                yield from _roles(share, sharers, Plan(rows=height, chunk=chunk), sizes)


def _roles(share: Share, sharers: float, plan: Plan, sizes: Sizes) -> Iterator[Candidate]:
    """Hand the slices out in every sensible way."""
    config, estimate = share.config, Estimate(share, sharers, plan.rows, plan.chunk)

    def role(first: int, slices: int, words: int, useful: int) -> Role:
        return Role(first, slices, words, min(slices * (config.buffers.slice_words // words), useful, MOST_SLOTS))

    last = config.buffers.slices
    if share.gemm.parameters:
        last -= 1
        if sizes.p > config.buffers.slice_words:
            return
        p = role(last, 1, sizes.p, share.n_tiles)
        plan = replace(plan, p=p, keep_p=p.slots >= share.n_tiles)
    per_slice = config.buffers.slice_words // sizes.c
    for outputs in {1, ceil_div(2, per_slice)}:
        first = last - outputs
        c = role(first, outputs, sizes.c, estimate.tiles)
        if share.gemm.addition:
            first -= outputs
            plan = replace(plan, r=role(first, outputs, sizes.c, estimate.tiles))
        for moving in range(1, first):
            a = role(0, moving, sizes.a, 1 << 31)
            b = role(moving, first - moving, sizes.b, 1 << 31)
            yield from _nests(replace(plan, a=a, b=b, c=c), estimate)


def _nests(plan: Plan, estimate: Estimate) -> Iterator[Candidate]:
    """Both loop nests with the block sizes and residencies that the slots allow."""
    chunks, a_slots, b_slots = estimate.chunks, plan.a.slots, plan.b.slots
    for outer, tiles, others, slots, other_slots in (("n", estimate.n_tiles, estimate.m_tiles, b_slots, a_slots),
                                                     ("m", estimate.m_tiles, estimate.n_tiles, a_slots, b_slots)):
        least = 1 if outer == "n" else 2        # blocks of one m tile are the same order as one block of all n tiles
        for block in sorted({least, tiles, *(room // chunks for room in (slots, slots - 1, slots - chunks))}):
            if not least <= block <= tiles:
                continue
            for keep_blocked in {False, others > 1 and block * chunks <= slots}:
                for keep_other in {False, block > 1 and chunks <= other_slots}:
                    nest = Nest(outer, block, *((keep_other, keep_blocked) if outer == "n" else (keep_blocked, keep_other)))
                    cycles = estimate.cycles(nest, a_slots, b_slots, plan.c.slots)
                    yield Candidate(plan, nest, estimate, estimate.loads(nest).memory, cycles)

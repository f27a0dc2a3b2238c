"""The plan of a group's share: loop order, chunk sizes and which slices of the global buffer hold what, chosen by closed-form estimates.

Slices get roles: moving chunks (A), stationary chunks (B), output tiles (C), their residuals (R), column parameters (P); a role's slices
are cut into equal slots. A chunk is `chunk` waves of one m or n tile. Loops: blocks of n tiles (outer "n") or of m tiles (outer "m");
inside a block the other dimension, then the block's own tiles, then k. So in outer "n" the chunks of an m tile may stay while a block's n
tiles pass (keep_a), and those of a whole block while all m tiles pass (keep_b); in outer "m" the same with A and B exchanged. What does not
stay is loaded again.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace

from gen.isa import INSTRUCTION_BYTES
from gen.timing import drain
from sw.compiler.errors import CompileError
from sw.compiler.layout import PARAMETER_WORDS, ceil_div, pitch_of, round_up
from sw.compiler.tiling import Share, Tile
from sw.compiler.window import MOST_CHANNEL_WAVES

MOST_WORDS = 32768      # of a slice of any machine
HEIGHTS = 3             # tile heights to compare
MOST_SLOTS = 64         # keeps token counters far from their limit of 255
TOLERANCE = 1.03        # estimates this close count as equal
SLACK = 64              # and so do estimates that differ by less than this
REFILL_OVERHEAD = 64    # cycles from a slot being freed to its new data being used, besides the transfer and the memory's latency
STORE_OVERHEAD = 17     # cycles between the stores of two tiles
DMA_OUT_OVERHEAD = 6    # cycles between two DmaOut


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
        self.c = share.widest * round_up(min(rows, share.rows), beat) * share.gemm.output_bytes
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
        rows, side = share.row_limit(), share.config.array.side
        if rows < share.config.beat_words:
            raise CompileError(f"memory.bytes_per_cycle = {share.config.memory.bytes_per_cycle} is outside {side}..{rows * side} bytes "
                               f"for tiles of {rows} rows")
        need = max(wave.a, wave.b, wave.c, wave.p if share.gemm.parameters else 0)
        if share.gemm.window and need > MOST_WORDS:
            raise CompileError(f"width = {share.gemm.window.width} with a kernel of {' x '.join(map(str, share.gemm.window.kernel))} needs "
                               f"{need} words of a slice, outside 1..{MOST_WORDS}")
        raise CompileError(f"buffers.slice_words = {words} is outside {need}..{MOST_WORDS} words for one wave")
    enough = min(plan.cycles for plan in plans) * TOLERANCE + SLACK
    return min((plan for plan in plans if plan.cycles <= enough), key=lambda plan: (-plan.rows, plan.memory, plan.cycles, -plan.chunk))


def _candidates(share: Share, sharers: float) -> Iterator[Plan]:
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


def _roles(share: Share, sharers: float, plan: Plan, sizes: Sizes) -> Iterator[Plan]:
    """Hand the slices out in every sensible way."""
    config, m_tiles = share.config, ceil_div(share.rows, plan.rows)
    chunks = ceil_div(share.depth.waves, plan.chunk)

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
        first, tiles = last - outputs, m_tiles * share.n_tiles
        c = role(first, outputs, sizes.c, tiles)
        if share.gemm.addition:
            first -= outputs
            plan = replace(plan, r=role(first, outputs, sizes.c, tiles))
        for moving in range(1, first):
            a = role(0, moving, sizes.a, 1 << 31)
            b = role(moving, first - moving, sizes.b, 1 << 31)
            yield from _nests(share, sharers, replace(plan, a=a, b=b, c=c), chunks, m_tiles)


def _nests(share: Share, sharers: float, plan: Plan, chunks: int, m_tiles: int) -> Iterator[Plan]:
    """Both loop nests with the block sizes and residencies that the slots allow."""
    for outer, tiles, others, slots, other_slots in (("n", share.n_tiles, m_tiles, plan.b.slots, plan.a.slots),
                                                     ("m", m_tiles, share.n_tiles, plan.a.slots, plan.b.slots)):
        least = 1 if outer == "n" else 2        # blocks of one m tile are the same order as one block of all n tiles
        for block in sorted({least, tiles, *(room // chunks for room in (slots, slots - 1, slots - chunks))}):
            if not least <= block <= tiles:
                continue
            for keep_blocked in {False, others > 1 and block * chunks <= slots}:
                for keep_other in {False, block > 1 and chunks <= other_slots}:
                    keep_a, keep_b = (keep_other, keep_blocked) if outer == "n" else (keep_blocked, keep_other)
                    yield _nest(share, sharers, plan, chunks, m_tiles, outer=outer, block=block, keep_a=keep_a, keep_b=keep_b)


def _nest(share: Share, sharers: float, plan: Plan, chunks: int, m_tiles: int, *, outer: str, block: int, keep_a: bool,
          keep_b: bool) -> Plan:
    """A plan with this loop nest, and its estimates."""
    config, depth, tiles = share.config, share.depth, m_tiles * share.n_tiles
    beat, blocks = config.beat_words, ceil_div(share.n_tiles if outer == "n" else m_tiles, block)
    array, store = share.work(plan.rows)
    store += tiles * STORE_OVERHEAD
    if outer == "n":
        a_sweeps, b_sweeps = blocks if keep_a else share.n_tiles, 1 if keep_b else m_tiles
        a_live, b_live = chunks if keep_a else 1, block * chunks if keep_b else 1
    else:
        a_sweeps, b_sweeps = 1 if keep_a else share.n_tiles, blocks if keep_b else m_tiles
        a_live, b_live = block * chunks if keep_a else 1, chunks if keep_b else 1
    a_words, b_words = depth.blocks * share.bands(plan.rows)[1], depth.blocks * share.gemm.taps * config.array.side * share.column_blocks
    a_loads, b_loads = a_sweeps * m_tiles * chunks, b_sweeps * share.n_tiles * chunks
    c_beats = share.column_blocks * share.rows * share.gemm.output_bytes // beat
    split = depth.waves > 1 and depth.depth(0) != depth.depth(1)
    steps = tiles * (chunks + (split and plan.chunk > 1))
    moving = tiles * depth.waves if share.gemm.taps > 1 else steps
    a_pieces = a_sweeps * m_tiles * depth.blocks if share.walk and share.walk.skips else a_loads       # DmaIn: for each block, or chunk
    instructions = 2 * steps + moving + a_pieces + b_loads + 2 * tiles + a_sweeps * m_tiles * (depth.remainder > 0)
    data = a_words * a_sweeps // beat + b_words * b_sweeps // beat + c_beats + a_pieces + b_loads
    if share.gemm.addition:
        data, instructions = data + c_beats + tiles, instructions + 2 * tiles
    memory = data + instructions * INSTRUCTION_BYTES // config.memory.bytes_per_cycle

    exposed, chunk_cycles = 0, array // (tiles * chunks)
    latency = config.memory.latency + REFILL_OVERHEAD
    for loads, live, slots, words in ((a_loads, a_live, plan.a.slots, a_words // (m_tiles * chunks)),
                                      (b_loads, b_live, plan.b.slots, b_words // (share.n_tiles * chunks))):
        if loads > slots:
            # All `live` chunks are replaced while they are used for the last time. The first load starts when the first of them is free,
            # or earlier with spare slots; the first new chunk is needed when the old ones are used up, the last `live` - 1 chunks later.
            load, start = words // beat * sharers, (1 + live - slots) * chunk_cycles
            late = max(start + load - live * chunk_cycles, start + live * load - (2 * live - 1) * chunk_cycles)
            exposed += (loads - slots) // live * max(0, late + latency)
    if plan.c.slots < min(2, tiles):
        exposed += min(store, c_beats * sharers)
    tail = share.store_cycles(plan.rows, share.widest) + (c_beats // tiles + DMA_OUT_OVERHEAD) * sharers
    turns = (array + store + tiles * drain(config)) // 2 if tiles > 2 else 0     # a half: fill, drain, store
    cycles = int(max(array, store, turns, memory * sharers) + exposed + tail)
    return replace(plan, outer=outer, block=block, keep_a=keep_a, keep_b=keep_b, array=array, store=store, memory=memory, cycles=cycles)

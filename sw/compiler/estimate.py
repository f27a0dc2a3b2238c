"""Closed-form estimates of what a plan costs: beats of the memory port, cycles of the array and the store unit, and all together."""

from typing import NamedTuple

from gen.isa import INSTRUCTION_BYTES
from gen.timing import drain
from sw.compiler.layout import ceil_div
from sw.compiler.tiling import Share

REFILL_OVERHEAD = 64    # cycles from a slot being freed to its new data being used, besides the transfer and the memory's latency
STORE_OVERHEAD = 17     # cycles between the stores of two tiles
DMA_OUT_OVERHEAD = 6    # cycles between two DmaOut


class Nest(NamedTuple):
    """A loop nest: what its blocks are made of ("n" or "m"), tiles of a block, and which operand's chunks stay (see `sw.compiler.plan`)."""

    outer: str
    block: int
    keep_a: bool
    keep_b: bool


class Loads(NamedTuple):
    """Chunks of A and of B that a nest loads, how many of each are in use by turns, and the beats of the whole program."""

    a: int
    a_live: int
    b: int
    b_live: int
    memory: int


class Estimate:
    """Estimates for one share, tile height and depth of chunks, when `sharers` groups use the memory port."""

    def __init__(self, share: Share, sharers: float, rows: int, chunk: int):
        config, depth = share.config, share.depth
        beat = config.beat_words
        self.share, self.sharers = share, sharers
        self.m_tiles, self.n_tiles, self.chunks = ceil_div(share.rows, rows), share.n_tiles, ceil_div(depth.waves, chunk)
        self.tiles = self.m_tiles * self.n_tiles
        self.array, store = share.work(rows)
        self.store = store + self.tiles * STORE_OVERHEAD
        self.a_words = depth.blocks * share.bands(rows)[1]
        self.b_words = depth.blocks * share.gemm.taps * config.array.side * share.column_blocks
        self.c_beats = share.column_blocks * share.rows * share.gemm.output_words // beat
        split = depth.waves > 1 and depth.depth(0) != depth.depth(1)
        self.steps = self.tiles * (self.chunks + (split and chunk > 1))
        self.latency = config.memory.latency + REFILL_OVERHEAD
        self.tail = share.store_cycles(rows, share.widest) + (self.c_beats // self.tiles + DMA_OUT_OVERHEAD) * sharers
        # A half of the output buffers: fill, drain, store
        turns = (self.array + self.store + self.tiles * drain(config)) // 2 if self.tiles > 2 else 0
        self.work = max(self.array, self.store, turns)
        self._loads: dict[Nest, Loads] = {}

    def loads(self, nest: Nest) -> Loads:
        """What a nest loads."""
        found = self._loads.get(nest)
        if found is None:
            found = self._loads[nest] = self._count(nest)
        return found

    def _count(self, nest: Nest) -> Loads:
        share, gemm, depth, config, chunks = self.share, self.share.gemm, self.share.depth, self.share.config, self.chunks
        beat, blocks = config.beat_words, ceil_div(self.n_tiles if nest.outer == "n" else self.m_tiles, nest.block)
        if nest.outer == "n":
            a_sweeps, b_sweeps = blocks if nest.keep_a else self.n_tiles, 1 if nest.keep_b else self.m_tiles
            a_live, b_live = chunks if nest.keep_a else 1, nest.block * chunks if nest.keep_b else 1
        else:
            a_sweeps, b_sweeps = 1 if nest.keep_a else self.n_tiles, blocks if nest.keep_b else self.m_tiles
            a_live, b_live = nest.block * chunks if nest.keep_a else 1, chunks if nest.keep_b else 1
        a_loads, b_loads = a_sweeps * self.m_tiles * chunks, b_sweeps * self.n_tiles * chunks
        moving = self.tiles * depth.waves if gemm.taps > 1 else self.steps
        a_pieces = a_sweeps * self.m_tiles * depth.blocks if share.walk and share.walk.skips else a_loads  # DmaIn: for each block, or chunk
        instructions = 2 * self.steps + moving + a_pieces + b_loads + 2 * self.tiles + a_sweeps * self.m_tiles * (depth.remainder > 0)
        data = self.a_words * a_sweeps // beat + self.b_words * b_sweeps // beat + self.c_beats + a_pieces + b_loads
        if gemm.addition:
            data, instructions = data + self.c_beats + self.tiles, instructions + 2 * self.tiles
        return Loads(a_loads, a_live, b_loads, b_live, data + instructions * INSTRUCTION_BYTES // config.memory.bytes_per_cycle)

    def cycles(self, nest: Nest, a_slots: int, b_slots: int, c_slots: int) -> int:
        """All cycles, with so many slots for the chunks of A and B and for output tiles."""
        loads, sharers, chunks = self.loads(nest), self.sharers, self.chunks
        beat, exposed, chunk_cycles = self.share.config.beat_words, 0, self.array // (self.tiles * chunks)
        for count, live, slots, words in ((loads.a, loads.a_live, a_slots, self.a_words // (self.m_tiles * chunks)),
                                          (loads.b, loads.b_live, b_slots, self.b_words // (self.n_tiles * chunks))):
            if count > slots:
                # All `live` chunks are replaced while they are used for the last time. The first load starts when the first of them is
                # free, or earlier with spare slots; the first new chunk is needed when the old ones are used up, the last `live` - 1
                # chunks later.
                load, start = words // beat * sharers, (1 + live - slots) * chunk_cycles
                late = max(start + load - live * chunk_cycles, start + live * load - (2 * live - 1) * chunk_cycles)
                exposed += (count - slots) // live * max(0, late + self.latency)
        if c_slots < min(2, self.tiles):
            exposed += min(self.store, self.c_beats * sharers)
        return int(max(self.work, loads.memory * sharers) + exposed + self.tail)

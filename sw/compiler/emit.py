"""Instructions of one group, step by step. A step is one ExecGEMM with its LdLBUF_V and LdLBUF_H; before it come the loads of its data.

The order is itself a valid serial execution, and a load comes only after the step that frees its slot: no queue can block for ever.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from itertools import pairwise

from gen.isa import INSTRUCTION_BYTES, Instruction, Mode, Output
from sw.compiler.emission import ADDRESSES, Emission
from sw.compiler.layout import PARAMETER_WORDS
from sw.compiler.plan import Plan, Role, Sizes
from sw.compiler.steps import Slots, Step, steps_of
from sw.compiler.tiling import Share, Tile
from sw.compiler.tokens import Token, mask
from sw.compiler.window import MOST_CHANNEL_WAVES


class Emitter(Emission):
    """Emits a group's instructions. `addresses`: byte addresses of the regions in memory."""

    def __init__(self, share: Share, plan: Plan, group: int, addresses: Mapping[str, int], sharers: float = 1):
        super().__init__(share.config, group)
        self.share, self.plan, self.addresses = share, plan, addresses
        self.gemm, self.depth = share.gemm, share.depth
        self.pitch = Sizes(share, plan.rows, plan.chunk).pitch
        self.steps = list(steps_of(share, plan))
        tiles = [step.tile if step.last else None for step in self.steps]
        self.a = Slots(self._places(plan.a), (step.a_key for step in self.steps), Token.A_FREE)
        self.b = Slots(self._places(plan.b), (step.b_key for step in self.steps), Token.B_FREE)
        self.p = Slots(self._places(plan.p), (step.p_key for step in self.steps), Token.P_FREE)
        self.c = Slots(self._places(plan.c), (tile and (tile,) for tile in tiles), Token.C_FREE)
        self.r = Slots(self._places(plan.r), (step.r_key for step in self.steps), Token.R_FREE)
        self.halves = Slots(range(2), (tile and (tile,) for tile in tiles), Token.O_FREE)
        self.a_waves: dict[tuple, int] = {}     # wave up to which a chunk of A has been loaded
        self.b_words: dict[tuple, int] = {}     # word of the stationary region up to which a chunk of B has been loaded
        self.arrivals: dict[int, set[Token]] = {}               # step -> tokens by which its loads report
        self.prepared: deque[list[Instruction]] = deque()       # loads of steps, not emitted yet
        self.loads: deque[int] = deque()        # DmaIn emitted for each step to come
        self.loaded = self.done = 0             # steps whose loads have been emitted; steps emitted
        self.ahead = 0                          # DmaIn emitted for steps to come
        self.go_step = self._warm_up(sharers)   # the array starts when this step's loads have arrived

    def _places(self, role: Role) -> Iterable[tuple[int, int]]:
        return (role.place(slot, self.config.buffers.slice_words) for slot in range(role.slots))

    # Loads

    def can_load(self) -> bool:
        """Whether a step is left whose loads have not been emitted, and there are slots for them."""
        return bool(self.prepared) or self._can_prepare()

    def load(self) -> list[Instruction]:
        """The loads of the next step that has none yet (often nothing is left to load)."""
        if not self.prepared:
            self._prepare()
        instructions = self.prepared.popleft()
        if self.loaded == self.go_step > 0:
            last = instructions[-1].values
            instructions[-1] = Instruction("DmaIn", **last | {"signal": last["signal"] | mask([Token.GO])})
        self.loaded += 1
        self.loads.append(len(instructions))
        self.ahead += len(instructions)
        return instructions

    def _can_prepare(self) -> bool:
        at = self.loaded + len(self.prepared)
        if at == len(self.steps):
            return False
        step = self.steps[at]
        return self.a.ready(step.a_key) and self.b.ready(step.b_key) and self.p.ready(step.p_key) and self.r.ready(step.r_key)

    def _prepare(self):
        """Make the next step's loads. DmaIn land in order, so the last one of each kind reports for all."""
        at = self.loaded + len(self.prepared)
        instructions: list[Instruction] = []
        for report, load in ((Token.B_FULL, self._load_b), (Token.A_FULL, self._load_a), (Token.P_FULL, self._load_p),
                             (Token.R_FULL, self._load_r)):
            transfers = load(self.steps[at])
            for transfer in transfers:
                wait, last = transfer.pop("wait"), transfer is transfers[-1]
                instructions.append(self.emit("DmaIn", [wait], [report if last else None], **transfer))
            if transfers:
                self.arrivals.setdefault(at, set()).add(report)
        self.prepared.append(instructions)

    def _warm_up(self, sharers: float) -> int:
        """The step whose loads should have arrived before the array starts, so that it does not run dry; it then ends no later.

        Looks at the steps whose data fits half of the slots; data arrives at one beat a cycle, shared by `sharers` groups.
        """
        arrived, busy, delay, arrivals = 0, 0, 0, []
        fetch = INSTRUCTION_BYTES / self.config.memory.bytes_per_cycle
        while self._can_prepare() and 2 * len(self.a.at) <= self.plan.a.slots and 2 * len(self.b.at) <= self.plan.b.slots:
            self._prepare()
            step, loads = self.steps[len(arrivals)], self.prepared[-1]
            arrived += sharers * (sum(load.chunks * load.beats + 1 for load in loads) + (len(loads) + 3) * fetch)
            arrivals.append(arrived if loads else 0)
            delay = max(delay, arrived - busy)
            busy += (step.stop - step.first) * self.share.wave_cycles(step.first, step.tile.rows, step.tile.width)
        return next((index for index, arrival in enumerate(arrivals) if arrival >= delay), 0)

    def _load_a(self, step: Step) -> list[dict]:
        """Rows of a chunk of A that a tile reads, block by block; the remainder lies at the end of memory but first in the chunk."""
        depth, word_bytes, key = self.depth, self.config.word_bytes, step.a_key
        wait = None if key in self.a.at else self.a.take(key)
        start = self.a_waves.get(key, step.chunk)
        if start >= step.stop:
            return []
        self.a_waves[key] = step.stop
        index, address = self.a.at[key]
        cuts = [start, 1, step.stop] if depth.remainder and start == 0 and step.stop > 1 else [start, step.stop]
        row, rows = self.share.band(step.tile.row, step.tile.rows)
        walk, transfers = self.share.walk, []
        if walk and walk.skips:         # block by block the lines that are read, one behind the other
            window = walk.window
            origin = self.addresses["moving"] + row * window.stride * word_bytes
            for wave in range(start, step.stop):
                for block in range(depth.depth(wave)):
                    position = depth.position(wave) - depth.position(step.chunk) + block
                    transfers.append({
                        "wait": wait, "memory": origin + (depth.block(wave) + block) * self.share.padded_pixels() * word_bytes,
                        "slice": index, "address": address + position * self.pitch,
                        "chunks": rows // window.width, "beats": self.beats(window.width),
                        "memory_stride": window.stride * window.width * word_bytes, "buffer_stride": window.width})
                    wait = None
            return transfers
        for first, stop in pairwise(cuts):
            position, word = depth.position(first), depth.block(first) * self.share.padded_pixels() + row
            transfers.append({
                "wait": wait, "memory": self.addresses["moving"] + word * word_bytes, "slice": index,
                "address": address + (position - depth.position(step.chunk)) * self.pitch,
                "chunks": depth.position(stop) - position, "beats": self.beats(rows),
                "memory_stride": self.share.padded_pixels() * word_bytes, "buffer_stride": self.pitch,
            })
            wait = None
        return transfers

    def _load_b(self, step: Step) -> list[dict]:
        """Tiles of a chunk of B, contiguous in memory."""
        key = step.b_key
        wait = None if key in self.b.at else self.b.take(key)
        origin = self.aligned(self.share.stationary_word(step.tile, step.chunk))
        start = self.b_words.get(key, origin)
        beats = self.beats(self.share.stationary_word(step.tile, step.stop) - start)
        self.b_words[key] = start + max(0, beats) * self.config.beat_words
        return self._stream("stationary", wait, self.b.at[key], origin, start, beats)

    def _load_p(self, step: Step) -> list[dict]:
        """Column parameters of an n tile."""
        key = step.p_key
        if key is None or key in self.p.at:
            return []
        word = step.tile.column_block * PARAMETER_WORDS
        origin = self.aligned(word)
        return self._stream("parameters", self.p.take(key), self.p.at[key], origin, origin,
                            self.beats(word + step.tile.width * PARAMETER_WORDS - origin))

    def _load_r(self, step: Step) -> list[dict]:
        """The residual of an output tile, which lies in memory as the result does."""
        if step.r_key is None:
            return []
        tile, wait = step.tile, self.r.take(step.r_key)
        (index, address), pitch = self.r.at[step.r_key], self._tile_pitch(tile)
        return [{"wait": wait, "memory": self._tile_memory("residual", tile), "slice": index, "address": address, "chunks": tile.width,
                 "beats": self.beats(pitch), "memory_stride": self.share.padded_rows() * self.config.word_bytes, "buffer_stride": pitch}]

    def _tile_pitch(self, tile: Tile) -> int:
        """Words from a column block of an output tile to the next, in its slot."""
        return self.beats(tile.rows) * self.config.beat_words * self.gemm.output_words

    def _tile_memory(self, region: str, tile: Tile) -> int:
        """Byte address of an output tile's first block."""
        row = tile.column_block * self.share.padded_rows() + tile.row
        return self.addresses[region] + row * self.gemm.output_words * self.config.word_bytes

    def _stream(self, region: str, wait: Token | None, place: tuple[int, int], origin: int, start: int, beats: int) -> list[dict]:
        """Load beats of a contiguous region, from word `start`, into a slot whose first word is word `origin`; both are at whole beats."""
        if beats <= 0:
            return []
        memory = self.addresses[region] + start * self.config.word_bytes
        return [{"wait": wait, "memory": memory, "slice": place[0], "address": place[1] + start - origin, "chunks": 1, "beats": beats}]

    # Steps

    @property
    def finished(self) -> bool:
        """Whether every step has been emitted."""
        return self.done == len(self.steps)

    def step(self) -> list[Instruction]:
        """The next step, whose loads have been emitted, and what stores its tile if it is the last one."""
        index, step, gemm, depth = self.done, self.steps[self.done], self.gemm, self.depth
        self.ahead -= self.loads.popleft()
        self.done += 1
        arrived, tile = self.arrivals.pop(index, set()), step.tile
        mode, waves = self.share.mode(step.first, tile.width), self.gemm.taps * (step.stop - step.first)
        full_a, full_b, full_p, full_r = (token if token in arrived else None for token in
                                          (Token.A_FULL, Token.B_FULL, Token.P_FULL, Token.R_FULL))
        (a_slice, a_address), (b_slice, b_address) = self.a.at[step.a_key], self.b.at[step.b_key]
        a_address += (depth.position(step.first) - depth.position(step.chunk)) * self.pitch
        moving = self._load_h(step, mode, a_slice, a_address, full_a, self.a.leave(step.a_key, index))
        b_address += self.share.stationary_word(tile, step.first) - self.aligned(self.share.stationary_word(tile, step.chunk))
        free_o = self.halves.take((tile,)) if step.first == 0 else None
        go = Token.GO if index == 0 < self.go_step else None
        instructions = [
            self.emit("LdLBUF_V", [full_b], [self.b.leave(step.b_key, index)], slice=b_slice, address=b_address, mode=mode, waves=waves,
                       zero_point=gemm.b_zero_point, signed=gemm.b_dtype == "int8"),
            moving[0],
            self.emit("ExecGEMM", [free_o, go], [Token.O_FULL if step.last else None], mode=mode, rows=tile.rows, waves=waves,
                       half=self.halves.at[(tile,)], accumulate=step.first > 0),
            *moving[1:],        # behind ExecGEMM: LOAD_H's queue may fill up with them, and drains only while the array runs
        ]
        if self.share.walk and index == 0:
            geometry = self.share.walk.geometry(1 if self.gemm.taps > 1 else MOST_CHANNEL_WAVES)
            instructions.insert(0, Instruction("SetConv", group=self.group, **geometry))
        return instructions + self._store(index, step, full_p, full_r) if step.last else instructions

    def _load_h(self, step: Step, mode: Mode, index: int, address: int, full: Token | None, free: Token | None) -> list[Instruction]:
        """The moving tiles of a step, from the chunk's words at `address` on. Only within one LdLBUF_H can positions of a kernel follow
        each other before the next channels do, so a convolution takes one for each wave along k.
        """
        gemm, tile, depth = self.gemm, step.tile, self.depth.depth(step.first) * self.pitch
        walk, waves, count = {}, step.stop - step.first, 1
        if self.share.walk:
            x, y, pixel = self.share.walk.place(tile.row)
            address += pixel - self.share.band(tile.row, tile.rows)[0]
            walk = {"im2col": 1, "start_x": x, "start_y": y}
            if gemm.taps > 1:
                waves, count = gemm.taps, waves
        return [self.emit("LdLBUF_H", [full if number == 0 else None], [free if number == count - 1 else None], slice=index,
                           address=(address + number * depth) % ADDRESSES, mode=mode, rate=self.share.rate(mode, tile.row, tile.rows),
                           rows=tile.rows, waves=waves, pitch=self.pitch, wave_stride=depth if waves > 1 and count == 1 else 0,
                           zero_point=gemm.a_zero_point, signed=gemm.a_dtype == "int8", **walk) for number in range(count)]

    def _store(self, index: int, step: Step, full_p: Token | None, full_r: Token | None) -> list[Instruction]:
        gemm, tile, instructions = self.gemm, step.tile, []
        if step.p_key is not None:
            word, (index_p, address_p) = tile.column_block * PARAMETER_WORDS, self.p.at[step.p_key]
            instructions.append(self.emit("LdScale", [full_p], [self.p.leave(step.p_key, index)], slice=index_p,
                                           address=address_p + word - self.aligned(word), blocks=tile.width))
        free_c, half = self.c.take((tile,)), self.halves.at[(tile,)]
        index_c, address_c = self.c.at[(tile,)]
        pitch, free_r = self._tile_pitch(tile), None
        if gemm.addition and step.r_key:
            index_r, address_r = self.r.at[step.r_key]
            instructions.append(self.emit("SetAdd", [full_r], (), slice=index_r, address=address_r, pitch=pitch, **gemm.addition.fields()))
            free_r = self.r.leave(step.r_key, index)
        instructions += [
            self.emit("StLBUF", [Token.O_FULL, free_c], [Token.C_FULL, self.halves.leave((tile,), index), free_r], half=half,
                       wide=self.share.stores_wide(tile.width), rows=tile.rows, output=Output[gemm.output.upper()],
                       parameters=gemm.parameters, relu=gemm.relu, zero_point=gemm.output_zero_point,
                       slice=index_c, address=address_c, pitch=pitch),
            self.emit("DmaOut", [Token.C_FULL], [self.c.leave((tile,), index)], memory=self._tile_memory("result", tile), slice=index_c,
                       address=address_c, chunks=tile.width, beats=self.beats(pitch),
                       memory_stride=self.share.padded_rows() * gemm.output_words * self.config.word_bytes, buffer_stride=pitch),
        ]
        return instructions

"""Instructions of a group of layers: a sub-batch passes all layers, then the next one. A step is an n tile of a layer, or a whole pooling.

Every result has a slice of its own, so no two units meet at a port; the order is a valid serial execution, as in `sw.compiler.emit`.
A layer begins when the one before it is done: its first reader waits for a token that the last store of that one signals.
"""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from gen.config import Config
from gen.isa import Instruction, Output
from sw.compiler.emission import ADDRESSES, Emission
from sw.compiler.group_layer import INPUT, GroupLayer
from sw.compiler.group_plan import Features, GroupPlan, share_of, words_of
from sw.compiler.layout import PARAMETER_WORDS, blocks_of, ceil_div, padded_rows, round_up
from sw.compiler.pooling import Pooling
from sw.compiler.steps import Slots
from sw.compiler.strips import Strip, strip_parts
from sw.compiler.tiling import Share, Tile
from sw.compiler.tokens import Token
from sw.compiler.window import MOST_CHANNEL_WAVES


class Step(NamedTuple):
    """An n tile of a layer, for the sub-batch `turn` (counted over those of this group of the machine)."""

    turn: int
    layer: int
    tile: int


def steps_of(config: Config, layers: Sequence[GroupLayer], turns: int) -> list[Step]:
    """All steps in order."""
    counts = [share.n_tiles if (share := share_of(config, layer, 1)) else 1 for layer in layers]
    return [Step(turn, number, tile) for turn in range(turns) for number, count in enumerate(counts) for tile in range(count)]


class GroupEmitter(Emission):
    """Emits what a group of the machine does, step by step, as `sw.compiler.emit.Emitter` does.

    `turns`: first sample and number of samples of its sub-batches. `addresses`: byte addresses of the regions in memory.
    """

    def __init__(self, config: Config, group: int, plan: GroupPlan, turns: Sequence[tuple[int, int]], addresses: Mapping[str, int]):
        super().__init__(config, group)
        self.plan, self.turns, self.addresses = plan, turns, addresses
        self.shares = {(number, samples): share_of(config, layer, samples) for number, layer in enumerate(plan.layers)
                       for _, samples in turns}
        self.steps = steps_of(config, plan.layers, len(turns))
        self.last_reader = max(number for number, layer in enumerate(plan.layers) if INPUT in (layer.source, layer.residual))
        self.b = Slots(plan.b_places, map(self._b_key, self.steps), Token.B_FREE)
        self.p = Slots(plan.p_places, map(self._p_key, self.steps), Token.P_FREE)
        self.halves = Slots(range(2), ((step, tile) for step in self.steps for tile in self._tiles(step)), Token.O_FREE)
        self.tiles_done = 0
        self.arrivals: dict[Step, set[Token]] = {}      # tokens by which the loads of a step report
        self.loads: deque[int] = deque()
        self.loaded = self.done = self.ahead = self.go_step = 0
        self.geometry: dict[str, int] = {}

    def _b_key(self, step: Step) -> tuple | None:
        if isinstance(self.plan.layers[step.layer].product, Pooling):
            return None
        return step[1:] if self.plan.b_stays else step

    def _p_key(self, step: Step) -> tuple | None:
        product = self.plan.layers[step.layer].product
        if isinstance(product, Pooling) and not product.parameters():
            return None
        return step[1:] if self.plan.p_stays else step

    def _share(self, step: Step) -> Share | None:
        return self.shares[step.layer, self.turns[step.turn][1]]

    def _tiles(self, step: Step) -> list[Tile]:
        """Output tiles of a product's step: of nearly equal height, as many as the output buffers make necessary."""
        share = self._share(step)
        if share is None:
            return []
        parts = ceil_div(share.rows, share.row_limit())
        height = min(round_up(ceil_div(share.rows, parts), 4), share.row_limit())
        return [Tile(number, step.tile, row, min(height, share.rows - row), step.tile * share.depth.reach, share.width(step.tile))
                for number, row in enumerate(range(0, share.rows, height))]

    # Loads

    def can_load(self) -> bool:
        """Whether a step is left whose loads have not been emitted, and there are places for them."""
        if self.loaded == len(self.steps):
            return False
        step = self.steps[self.loaded]
        return self.b.ready(self._b_key(step)) and self.p.ready(self._p_key(step)) and not (self._begins(step) and self._input_in_use(step))

    def _begins(self, step: Step) -> bool:
        return step.layer == step.tile == 0

    def _input_in_use(self, step: Step) -> bool:
        """Whether a step of the turn before that reads the group's input has not been emitted."""
        return any(before.turn < step.turn and before.layer <= self.last_reader for before in self.steps[self.done:self.loaded])

    def load(self) -> list[Instruction]:
        """The loads of the next step that has none yet."""
        step, loads, arrived = self.steps[self.loaded], [], set()
        share = self._share(step)
        for slots, key, report in ((self.b, self._b_key(step), Token.B_FULL), (self.p, self._p_key(step), Token.P_FULL)):
            if key is None or key in slots.at:
                continue
            free = slots.take(key)
            name = "stationary" if slots is self.b else "parameters"
            first, stop = self._words(step, share, name)
            origin, (index, address) = self.aligned(first), slots.at[key]
            loads.append(self.emit("DmaIn", [free], [report], slice=index, address=address, beats=self.beats(stop - origin),
                                   memory=self.addresses[f"{name}{step.layer}"] + origin * self.config.word_bytes))
            arrived.add(report)
        if self._begins(step):
            (first, samples), layer, place = self.turns[step.turn], self.plan.layers[0], self.plan.features[INPUT]
            loads.append(self.emit(
                "DmaIn", [Token.A_FREE if step.turn else None], [Token.A_FULL], slice=place.slice, buffer_stride=place.pitch,
                memory=self.addresses["moving"] + first * layer.rows_in * self.config.word_bytes,
                memory_stride=padded_rows(self.config, self.plan.batch * layer.rows_in) * self.config.word_bytes,
                chunks=blocks_of(self.config, layer.channels_in), beats=self.beats(samples * layer.rows_in)))
        self.arrivals[step] = arrived
        self.loaded += 1
        self.loads.append(len(loads))
        self.ahead += len(loads)
        return loads

    def _words(self, step: Step, share: Share | None, name: str) -> tuple[int, int]:
        """First and last + 1 word that a step needs of its weights or column parameters."""
        if share is None:
            product = self.plan.layers[step.layer].product
            assert isinstance(product, Pooling)
            return 0, len(product.parameters()) * PARAMETER_WORDS
        return words_of(share, step.tile, name)

    # Steps

    @property
    def finished(self) -> bool:
        """Whether every step has been emitted."""
        return self.done == len(self.steps)

    def step(self) -> list[Instruction]:
        """The next step, whose loads have been emitted."""
        step, share = self.steps[self.done], self._share(self.steps[self.done])
        self.ahead -= self.loads.popleft()
        arrived, instructions = self.arrivals.pop(step), []
        if share is None:
            instructions += self._pool(step, arrived)
        else:
            for tile in self._tiles(step):
                instructions += self._tile(step, share, tile, arrived)
                arrived = set()
        if self._ends(step) and step.layer == len(self.plan.layers) - 1:
            instructions.append(self._write(step))
        self.done += 1
        return instructions

    def _ends(self, step: Step) -> bool:
        """Whether a step is its layer's last one."""
        share = self._share(step)
        return share is None or step.tile == share.n_tiles - 1

    def _full(self, step: Step, first: bool) -> Token | None:
        """What a layer's first reader waits for."""
        if not first or step.tile:
            return None
        if step.layer == 0:
            return Token.A_FULL
        return Token.R_FULL if isinstance(self.plan.layers[step.layer].product, Pooling) else Token.F_FULL

    def _stored(self, step: Step, last: bool) -> Token | None:
        """What a layer's last store signals: to LOAD_H, STORE or DMA_OUT, whichever begins what follows."""
        if not last or not self._ends(step):
            return None
        if step.layer == len(self.plan.layers) - 1:
            return Token.C_FULL
        return Token.R_FULL if isinstance(self.plan.layers[step.layer + 1].product, Pooling) else Token.F_FULL

    def _free_input(self, step: Step, last: bool, role: str) -> Token | None:
        """What the last reader of the group's input signals, if another sub-batch follows. `role`: as what the layer reads it."""
        reads = getattr(self.plan.layers[step.layer], role) == INPUT
        ends = last and self._ends(step) and step.layer == self.last_reader and step.turn < len(self.turns) - 1
        return Token.A_FREE if ends and reads else None

    def _free_result(self, step: Step, first: bool) -> Token | None:
        """What the first store into the group's result waits for: the one before has been written to memory."""
        return Token.C_FREE if first and step.tile == 0 and step.turn and step.layer == len(self.plan.layers) - 1 else None

    def _tile(self, step: Step, share: Share, tile: Tile, arrived: set[Token]) -> Iterator[Instruction]:
        layer, index, gemm, depth = self.plan.layers[step.layer], self.done, share.gemm, share.depth
        first, last = tile.m_index == 0, tile.row + tile.rows == share.rows
        source, b_key = self.plan.features[layer.source], self._b_key(step)
        assert b_key is not None
        b_slice, b_address = self.b.at[b_key]
        geometry = share.walk.geometry(1 if gemm.taps > 1 else MOST_CHANNEL_WAVES) if share.walk else self.geometry
        if geometry != self.geometry:
            self.geometry = geometry
            yield self.emit("SetConv", (), (), **geometry)
        self.tiles_done += 1
        free_o = self.halves.take((step, tile))
        runs = [(0, 1), (1, depth.waves)] if depth.remainder and depth.waves > 1 else [(0, depth.waves)]
        for number, (wave, stop) in enumerate(runs):
            ends = number == len(runs) - 1
            moving = self._load_h(share, tile, source, wave, stop, self._full(step, first) if number == 0 else None,
                                  self._free_input(step, last and ends, "source"))
            origin, mode = share.stationary_word(tile, wave) - self.aligned(share.stationary_word(tile, 0)), share.mode(wave, tile.width)
            yield self.emit("LdLBUF_V", [Token.B_FULL if number == 0 and Token.B_FULL in arrived else None],
                            [self.b.leave(b_key, index) if last and ends else None], slice=b_slice, address=b_address + origin, mode=mode,
                            waves=gemm.taps * (stop - wave), zero_point=gemm.b_zero_point, signed=gemm.b_dtype == "int8")
            yield moving[0]
            yield self.emit("ExecGEMM", [free_o if number == 0 else None], [Token.O_FULL if ends else None], mode=mode, rows=tile.rows,
                            waves=gemm.taps * (stop - wave), half=self.halves.at[step, tile], accumulate=number > 0)
            yield from moving[1:]
        yield from self._store(step, share, tile, arrived)

    def _load_h(self, share: Share, tile: Tile, source: Features, wave: int, stop: int, full: Token | None,
                free: Token | None) -> list[Instruction]:
        gemm, depth, mode, walk, count = share.gemm, share.depth, share.mode(wave, tile.width), {}, 1
        address, waves, distance = tile.row, stop - wave, depth.depth(wave) * source.pitch
        if share.walk:
            x, y, address = share.walk.place(tile.row)
            walk = {"im2col": 1, "start_x": x, "start_y": y}
            if gemm.taps > 1:       # within one LdLBUF_H the positions of the kernel come before the next channels
                waves, count = gemm.taps, waves
        address += depth.block(wave) * source.pitch
        return [self.emit("LdLBUF_H", [full if number == 0 else None], [free if number == count - 1 else None], slice=source.slice,
                          address=(address + number * distance) % ADDRESSES, mode=mode, rate=share.rate(mode, tile.row, tile.rows),
                          rows=tile.rows, waves=waves, pitch=source.pitch, wave_stride=distance if waves > 1 and count == 1 else 0,
                          zero_point=gemm.a_zero_point, signed=gemm.a_dtype == "int8", **walk) for number in range(count)]

    def _store(self, step: Step, share: Share, tile: Tile, arrived: set[Token]) -> Iterator[Instruction]:
        layer, gemm, target = self.plan.layers[step.layer], share.gemm, self.plan.features[step.layer]
        first, last, p_key = tile.m_index == 0, tile.row + tile.rows == share.rows, self._p_key(step)
        if first:
            assert p_key is not None
            index, address = self.p.at[p_key]
            word = tile.column_block * PARAMETER_WORDS
            yield self.emit("LdScale", [Token.P_FULL if Token.P_FULL in arrived else None], [self.p.leave(p_key, self.done)], slice=index,
                            address=address + word - self.aligned(word), blocks=tile.width)
        if gemm.addition:
            assert layer.residual is not None
            residual = self.plan.features[layer.residual]
            yield self.emit("SetAdd", (), (), slice=residual.slice, pitch=residual.pitch,
                            address=tile.column_block * residual.pitch + tile.row, **gemm.addition.fields())
        half = self.halves.at[step, tile]
        yield self.emit("StLBUF", [Token.O_FULL, self._free_result(step, first)],
                        [self._stored(step, last), self._free_input(step, last, "residual"),
                         self.halves.leave((step, tile), self.tiles_done - 1)],
                        half=half, wide=share.stores_wide(tile.width), rows=tile.rows, output=Output[gemm.output.upper()], parameters=1,
                        relu=gemm.relu, zero_point=gemm.output_zero_point, slice=target.slice,
                        address=tile.column_block * target.pitch + tile.row, pitch=target.pitch)

    def _pool(self, step: Step, arrived: set[Token]) -> Iterator[Instruction]:
        layer, pooling = self.plan.layers[step.layer], self.plan.layers[step.layer].of(self.turns[step.turn][1])
        assert isinstance(pooling, Pooling)
        source, target, p_key = self.plan.features[layer.source], self.plan.features[step.layer], self._p_key(step)
        strip, scaled, sizes = Strip(0, 0, pooling.window.images * pooling.window.out_height), None, pooling.parameters()
        parts = [(block, values) for block in range(blocks_of(self.config, pooling.channels)) for values in strip_parts(pooling, strip, 0)]
        for number, (block, values) in enumerate(parts):
            first, last, size = number == 0, number == len(parts) - 1, (values["kernel_height"], values["kernel_width"])
            if p_key is not None and size != scaled:
                index, address = self.p.at[p_key]
                yield self.emit("LdScale", [Token.P_FULL if scaled is None and Token.P_FULL in arrived else None], slice=index,
                                address=address + sizes[size] * PARAMETER_WORDS, blocks=1)
                scaled = size
            if pooling.addition:
                assert layer.residual is not None
                residual = self.plan.features[layer.residual]
                yield self.emit("SetAdd", (), (), slice=residual.slice, address=block * residual.pitch + values["address"],
                                **pooling.addition.fields())
            places = {"source_slice": source.slice, "source_address": (block * source.pitch + values["source_address"]) % ADDRESSES,
                      "slice": target.slice, "address": block * target.pitch + values["address"]}
            yield self.emit(
                "Pool", [self._full(step, first), self._free_result(step, first)],
                [self._stored(step, last), self._free_input(step, last, "source"), self._free_input(step, last, "residual"),
                 self.p.leave(p_key, self.done) if last and p_key is not None else None], **values | places)

    def _write(self, step: Step) -> Instruction:
        """The result of a sub-batch to memory."""
        (first, samples), number = self.turns[step.turn], step.layer
        product, place = self.plan.layers[number].product, self.plan.features[number]
        return self.emit("DmaOut", [Token.C_FULL], [Token.C_FREE if step.turn < len(self.turns) - 1 else None], slice=place.slice,
                         buffer_stride=place.pitch, memory=self.addresses["result"] + first * product.m * self.config.word_bytes,
                         memory_stride=padded_rows(self.config, self.plan.batch * product.m) * self.config.word_bytes,
                         chunks=blocks_of(self.config, product.n), beats=self.beats(samples * product.m))

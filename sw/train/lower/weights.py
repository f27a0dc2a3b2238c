"""Weights on the vector unit: packed as stationary tiles for the forward and the backward products, and updated.

A layer's weights lie as its weight gradient leaves the array: [kernel position, channel block][output], a word of `side` channels each.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from sw.compiler.layout import blocks_of
from sw.compiler.tiling import Depth
from sw.train.lower.memory import Tensor
from sw.train.lower.phase import Code, Place
from sw.train.lower.vectors import Stream


@dataclass(frozen=True)
class Part:
    """A piece of a stationary region, the tiles of one n tile and one wave at all kernel positions: the first word, the first blocks along
    k and along n, and how many there are of each."""

    word: int
    k_block: int
    depth: int
    n_block: int
    width: int

    @property
    def k_blocks(self) -> tuple[int, int]:
        """The first block along k, and the one behind the last."""
        return self.k_block, self.k_block + self.depth

    @property
    def n_blocks(self) -> tuple[int, int]:
        """The same along n."""
        return self.n_block, self.n_block + self.width


def parts(code: Code, k: int, n: int, taps: int) -> Iterator[Part]:
    """All pieces of a stationary region in memory order (`sw.compiler.layout.pack_stationary`)."""
    config, depth = code.config, Depth(code.config, k)
    n_blocks, word = blocks_of(config, n), 0
    for n_block in range(0, n_blocks, depth.reach):
        width = min(depth.reach, n_blocks - n_block)
        for wave in range(depth.waves):
            yield Part(word, depth.block(wave), depth.depth(wave), n_block, width)
            word += taps * config.array.side * depth.depth(wave) * width


def _load(code: Code, weights: Tensor, index: int, channels: tuple[int, int], outputs: tuple[int, int], all_channels: int, taps: int):
    """Blocks first..stop-1 of channels, those of outputs, at all kernel positions: [channel block][kernel position][output block][side]."""
    side, width = code.config.array.side, outputs[1] - outputs[0]
    for number, block in enumerate(range(*channels)):
        code.load(weights, Place(index, number * taps * width * side, width * side), blocks=(block, weights.blocks),
                  rows=(outputs[0] * side, outputs[1] * side), block_step=all_channels)


def pack_forward(code: Code, weights: Tensor, region: Tensor, channels: int, outputs: int, taps: int):
    """Stationary tiles of channels x outputs at each kernel position: blocks of the weights with rows and columns exchanged."""
    code.phase()
    side, all_channels = code.config.array.side, blocks_of(code.config, channels)

    def load(part: Part, slices):
        _load(code, weights, slices[0], part.k_blocks, part.n_blocks, all_channels, taps)

    def compute(part: Part, slices):
        words = part.depth * part.width         # of a row of a tile
        for k in range(part.depth):
            for n in range(part.width):
                code.transpose(taps, Stream(slices[0], (k * taps * part.width + n) * side), part.width * side,
                               Stream(slices[1], k * part.width + n, step=words), side * words)

    def store(part: Part, slices):
        words = taps * side * part.depth * part.width
        code.transfer("DmaOut", slices[1], 0, region.at(0, part.word), words)

    code.tiles(parts(code, channels, outputs, taps), load, compute, store)


def pack_backward(code: Code, weights: Tensor, region: Tensor, channels: int, outputs: int, taps: int):
    """Stationary tiles of outputs x channels, kernel positions in reverse: blocks of the weights as they are, exchanged twice."""
    code.phase()
    side, all_channels = code.config.array.side, blocks_of(code.config, channels)

    def load(part: Part, slices):
        _load(code, weights, slices[0], part.n_blocks, part.k_blocks, all_channels, taps)

    def compute(part: Part, slices):
        words, half = part.depth * part.width, taps * side
        for k in range(part.depth):
            for n in range(part.width):
                scratch = Stream(slices[1], (k * part.width + n) * half)
                code.transpose(taps, Stream(slices[0], (n * taps * part.depth + k) * side), part.depth * side, scratch, side)
                code.transpose(taps, scratch, side, Stream(slices[2], (taps - 1) * side * words + k * part.width + n, step=words),
                               -side * words)

    def store(part: Part, slices):
        words = taps * side * part.depth * part.width
        code.transfer("DmaOut", slices[2], 0, region.at(0, part.word), words)

    code.tiles(parts(code, outputs, channels, taps), load, compute, store)


@dataclass(frozen=True)
class Rule:
    """Stochastic gradient descent with momentum."""

    momentum: float
    decay: float


def update(code: Code, rule: Rule, weights: Tensor, velocity: Tensor, gradient: Tensor, rows: int):
    """v = momentum * v + (gradient + decay * w), w = w - rate * v; of each block the first `rows` rows. The rate is the constant
    "minus_rate"."""
    code.phase()
    minus_rate = code.in_register(0.0, "minus_rate")
    momentum, decay = code.in_register(rule.momentum), code.in_register(rule.decay)
    whole = rows == weights.rows
    tiles = code.pieces(weights.elements, code.config.beat_words, 2) if whole else [
        (block * weights.rows + first, block * weights.rows + stop) for block in range(weights.blocks)
        for first, stop in code.pieces(weights.rows, code.config.beat_words, 2)]

    def load(tile, slices):
        first, stop = tile
        for tensor, index in zip((weights, velocity, gradient), slices):
            code.transfer("DmaIn", index, 0, tensor.at(0, first), (stop - first) * 2)

    def compute(tile, slices):
        first, stop = tile
        count = stop - first if whole else max(0, min(stop - first, rows - first % weights.rows))
        w, v, g = (Stream(index, 0, True) for index in slices)
        if count:
            code.vector(count, w, factor=decay, addend=g, into=g)
            code.vector(count, v, factor=momentum, addend=g, into=v)
            code.vector(count, v, factor=minus_rate, addend=w, into=w)

    def store(tile, slices):
        first, stop = tile
        for tensor, index in zip((weights, velocity), slices):
            code.transfer("DmaOut", index, 0, tensor.at(0, first), (stop - first) * 2)

    code.tiles(tiles, load, compute, store)


def narrowed(code: Code, weights: Tensor, result: Tensor):
    """The weights in bf16."""
    code.phase()

    def load(tile, slices):
        code.transfer("DmaIn", slices[0], 0, weights.at(0, tile[0]), (tile[1] - tile[0]) * 2)

    def compute(tile, slices):
        code.vector(tile[1] - tile[0], Stream(slices[0], 0, True), into=Stream(slices[1], 0))

    def store(tile, slices):
        code.transfer("DmaOut", slices[1], 0, result.at(0, tile[0]), tile[1] - tile[0])

    code.tiles(code.pieces(weights.elements, code.config.beat_words, 2), load, compute, store)

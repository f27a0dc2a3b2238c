"""Where everything of a group of layers lies on chip, and why a sub-batch may not fit."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from gen.config import Config
from sw.compiler.group_layer import INPUT, GroupLayer
from sw.compiler.layout import PARAMETER_WORDS, blocks_of, ceil_div, padded_rows, pitch_of, round_up
from sw.compiler.plan import MOST_SLOTS, MOST_WORDS
from sw.compiler.pooling import Pooling
from sw.compiler.tiling import Share, Tile

B_SLICES = 2            # of weights: one is filled while the other is in use


class Features(NamedTuple):
    """Where a tensor lies: at the beginning of a slice, its channel blocks `pitch` words apart."""

    slice: int
    pitch: int


@dataclass(frozen=True)
class GroupPlan:
    """Where everything of a group lies. `features`: the group's input (INPUT) and each layer's result. Weights and column parameters take
    turns in places of `b_words` and `p_words`; `b_stays`: there is one for every tile, so that weights are read once."""

    layers: Sequence[GroupLayer]
    batch: int
    features: Mapping[int, Features]
    b_places: Sequence[tuple[int, int]]
    p_places: Sequence[tuple[int, int]]
    b_stays: bool
    p_stays: bool


def share_of(config: Config, layer: GroupLayer, samples: int) -> Share | None:
    """A product of so many samples, all of which one group of the machine computes; None for a pooling."""
    product = layer.of(samples)
    if isinstance(product, Pooling):
        return None
    return Share(config, product, 0, product.m, 0, ceil_div(blocks_of(config, product.n), config.tile // config.array.side), resident=True)


def last_use(layers: Sequence[GroupLayer], number: int) -> int:
    """The last layer that reads a result; -1 for none."""
    return max((reader for reader, layer in enumerate(layers) if number in (layer.source, layer.residual)), default=-1)


def feature_slices(layers: Sequence[GroupLayer]) -> dict[int, int]:
    """A slice for the input, the results on chip in turns, and the group's result."""
    found, busy = {INPUT: 0}, {}
    last = len(layers) - 1
    for number in range(last):
        place = next(place for place in range(1, len(layers) + 1) if busy.get(place, -1) < number)
        found[number], busy[place] = place, last_use(layers, number)
    return found | {last: max(found.values()) + 1}


def obstacles(config: Config, layers: Sequence[GroupLayer], batch: int, sub_batch: int) -> Iterator[str]:
    """Why a group cannot run with this sub-batch, a line each."""
    words, slices = config.buffers.slice_words, config.buffers.slices
    needed = 1 + max(feature_slices(layers).values()) + B_SLICES + 1
    if needed > slices:
        yield f"buffers.slices = {slices} is outside {needed}..16 slices for a group of {len(layers)} layers"
        return
    tensors = {INPUT: (layers[0].rows_in, layers[0].channels_in)}
    tensors |= {number: (layer.product.m, layer.product.n) for number, layer in enumerate(layers)}
    for number, (rows, channels) in tensors.items():
        blocks, name = blocks_of(config, channels), "the input" if number == INPUT else f"the result of layer {number}"
        need = (blocks - 1) * pitch_of(config, sub_batch * rows) + padded_rows(config, sub_batch * rows)
        if need > words:
            yield f"buffers.slice_words = {words} is outside {need}..{MOST_WORDS} words for {sub_batch} samples of {name}"
        if number in (INPUT, len(layers) - 1) and sub_batch < batch and sub_batch * rows % config.beat_words:
            yield (f"sub_batch = {sub_batch}: {rows} rows a sample of {name} must be a multiple of {config.beat_words} words, a beat, "
                   "together")
    need = max(b_words(config, layers), p_words(config, layers))
    if need > words:
        yield f"buffers.slice_words = {words} is outside {need}..{MOST_WORDS} words for the weights of a tile"


def b_words(config: Config, layers: Sequence[GroupLayer]) -> int:
    """Words of the largest tile of weights, at whole beats."""
    return max((stop - first for first, stop in aligned_words(config, layers, "stationary")), default=1)


def p_words(config: Config, layers: Sequence[GroupLayer]) -> int:
    """Words of the most column parameters that are loaded together, at whole beats."""
    pooled = [len(layer.product.parameters()) * PARAMETER_WORDS for layer in layers if isinstance(layer.product, Pooling)]
    return max(1, *(round_up(words, config.beat_words) for words in pooled),
               *(stop - first for first, stop in aligned_words(config, layers, "parameters")))


def aligned_words(config: Config, layers: Sequence[GroupLayer], name: str) -> Iterator[tuple[int, int]]:
    """First and last + 1 word of every tile of the products' weights or column parameters, at whole beats."""
    beat = config.beat_words
    for layer in layers:
        if share := share_of(config, layer, 1):
            for tile in range(share.n_tiles):
                first, stop = words_of(share, tile, name)
                yield first // beat * beat, round_up(stop, beat)


def make_plan(config: Config, layers: Sequence[GroupLayer], batch: int, sub_batch: int) -> GroupPlan:
    """Where everything of the group lies."""
    slices, words, rows = feature_slices(layers), config.buffers.slice_words, {INPUT: layers[0].rows_in}
    rows |= {number: layer.product.m for number, layer in enumerate(layers)}
    features = {number: Features(place, pitch_of(config, sub_batch * rows[number])) for number, place in slices.items()}
    top = config.buffers.slices - 1

    def places(size: int, of: Sequence[int]) -> list[tuple[int, int]]:
        return [(index, slot * size) for slot in range(words // size) for index in of][:MOST_SLOTS]

    b, p = places(b_words(config, layers), range(top - B_SLICES, top)), places(p_words(config, layers), [top])
    shares = [share_of(config, layer, 1) for layer in layers]
    b_tiles = sum(share.n_tiles for share in shares if share)
    p_tiles = b_tiles + sum(bool(layer.product.parameters()) for layer in layers if isinstance(layer.product, Pooling))
    return GroupPlan(layers, batch, features, b, p, b_tiles <= len(b), p_tiles <= len(p))


def words_of(share: Share, n_index: int, name: str) -> tuple[int, int]:
    """First and last + 1 word of an n tile in the region "stationary" or "parameters"."""
    tile = Tile(0, n_index, 0, 0, n_index * share.depth.reach, share.width(n_index))
    if name == "parameters":
        return tile.column_block * PARAMETER_WORDS, (tile.column_block + tile.width) * PARAMETER_WORDS
    return share.stationary_word(tile, 0), share.stationary_word(tile, share.depth.waves)

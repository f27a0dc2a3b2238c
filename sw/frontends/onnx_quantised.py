"""Float operators between DequantizeLinear and QuantizeLinear, as the 8-bit operators of the machine that they amount to."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product as pairs_of

import numpy as np
import onnx

from gen.isa import FRACTION_BITS, layout
from sw.compiler.addition import Addition
from sw.compiler.pooling import Pooling
from sw.compiler.window import Window
from sw.frontends.onnx_operators import Lowered, NotOnMachine, pool_window
from sw.runtime.product import Work

ISLANDS = ("Add", "AveragePool", "GlobalAveragePool")
ROUNDED_ONCE = "the average is rounded once"
FEW = 16        # pairs of operands
MOST = next(item.top for item, _ in layout("SetAdd") if item.name == "multiplier")


@dataclass(frozen=True)
class Island:
    """A float operator whose operands come from DequantizeLinear and whose result goes, perhaps through Relu, to QuantizeLinear alone.

    `operands` and `result` are the inputs of those nodes: numbers, scale, zero point; `nodes` the indices that it stands for (the last is
    QuantizeLinear's), `sources` those of its operands' DequantizeLinear, `output` the name of what it makes.
    """

    node: onnx.NodeProto
    operands: tuple[tuple[str, ...], ...]
    result: tuple[str, ...]
    relu: bool
    nodes: tuple[int, ...]
    sources: tuple[int, ...]
    output: str


def islands(graph: onnx.GraphProto) -> dict[int, Island]:
    """All islands by the index of their QuantizeLinear."""
    makers = {name: (index, node) for index, node in enumerate(graph.node) for name in node.output}
    uses: dict[str, int] = {}
    for name in (*(name for node in graph.node for name in node.input), *(item.name for item in graph.output)):
        uses[name] = uses.get(name, 0) + 1
    found = {}
    for index, node in enumerate(graph.node):
        if node.op_type != "QuantizeLinear" or node.domain or len(node.input) != 3 or node.input[0] not in makers:
            continue
        place, maker = makers[node.input[0]]
        inside = [place, index]
        relu = maker.op_type == "Relu" and maker.input[0] in makers
        if relu:
            place, maker = makers[maker.input[0]]
            inside.insert(0, place)
        sources = [makers[name] for name in maker.input if name in makers]
        if (maker.op_type in ISLANDS and not maker.domain and all(uses[name] == 1 for name in (maker.output[0], node.input[0]))
                and len(sources) == len(maker.input)
                and all(source.op_type == "DequantizeLinear" and len(source.input) == 3 for _, source in sources)):
            found[index] = Island(maker, tuple(tuple(source.input) for _, source in sources), tuple(node.input[1:]), relu, tuple(inside),
                                  tuple(place for place, _ in sources), node.output[0])
    return found


def only_for_islands(graph: onnx.GraphProto, found: Mapping[int, Island]) -> set[int]:
    """DequantizeLinear nodes whose numbers nobody but islands uses."""
    inside = {index for island in found.values() for index in island.nodes}
    others = {name for index, node in enumerate(graph.node) if index not in inside for name in node.input}
    others |= {item.name for item in graph.output}
    return {index for island in found.values() for index in island.sources if graph.node[index].output[0] not in others}


@dataclass(frozen=True)
class Scaled:
    """8-bit numbers with the one scale and zero point that all of them have."""

    data: np.ndarray
    scale: np.float32
    zero_point: int


def scaled(names: tuple[str, ...], values: Mapping[str, np.ndarray]) -> Scaled:
    """The numbers, scale and zero point of these names. Raises NotOnMachine."""
    data, scale, zero_point = (values[name] for name in names)
    if data.dtype not in (np.int8, np.uint8):
        raise NotOnMachine(f"{names[0]} has type {data.dtype}, the machine takes int8 and uint8")
    if scale.dtype != np.float32 or scale.size != 1 or zero_point.size != 1:
        raise NotOnMachine(f"{names[1]} has type {scale.dtype} and shape {scale.shape}, the machine takes one float32")
    return Scaled(data, np.float32(scale.reshape(-1)[0]), int(zero_point.reshape(-1)[0]))


def lower_island(island: Island, attributes: dict, values: Mapping[str, np.ndarray]) -> tuple[Lowered, str]:
    """An island as poolings of the machine, and a remark. Raises NotOnMachine."""
    operands = [scaled(names, values) for names in island.operands]
    zero_point, scale = values[island.result[1]], values[island.result[0]]
    if zero_point.dtype not in (np.int8, np.uint8) or scale.dtype != np.float32 or scale.size != 1 or zero_point.size != 1:
        raise NotOnMachine(f"{island.result[0]} has shape {scale.shape}, the machine takes one float32")
    result = Scaled(zero_point.reshape(-1)[:0], np.float32(scale.reshape(-1)[0]), int(zero_point.reshape(-1)[0]))
    if island.node.op_type == "Add":
        return _sum(operands, result, island.relu)
    return _average(island, attributes, operands[0], result), ROUNDED_ONCE


def _images(data: np.ndarray) -> np.ndarray:
    """Images as the machine has them, pixel by pixel; of a matrix each row is a pixel."""
    if data.ndim == 4:
        return np.ascontiguousarray(data.transpose(0, 2, 3, 1))
    if data.ndim == 2:
        return data[None, None]
    raise NotOnMachine(f"an operand has {data.ndim} dimensions, the machine takes 2 or 4")


def _sum(operands: list[Scaled], result: Scaled, relu: bool) -> tuple[Lowered, str]:
    """Add: a pooling over single pixels, and a residual. On a machine that has no other way to an output it costs no product."""
    own, other = operands
    if own.data.shape != other.data.shape:
        raise NotOnMachine(f"operands have shapes {own.data.shape} and {other.data.shape}, the machine takes equal ones")
    if own.data.dtype != result.data.dtype:
        own, other = other, own
    if own.data.dtype != result.data.dtype:
        raise NotOnMachine(f"operands have type {own.data.dtype}, the machine takes one of the result's type, {result.data.dtype}")
    addition, wrong = fit_addition(own, other, result, relu)
    images = _images(own.data)
    dtype = str(own.data.dtype)
    pooling = Pooling(window=Window(images=images.shape[0], height=images.shape[1], width=images.shape[2], kernel=(1, 1)),
                      channels=images.shape[3], dtype=dtype, zero_point=own.zero_point, output=dtype, output_zero_point=own.zero_point,
                      addition=addition)

    def join(results: list[np.ndarray]) -> np.ndarray:
        return results[0].transpose(0, 3, 1, 2) if own.data.ndim == 4 else results[0][0, 0]

    remark = f"{wrong:,} of 65,536 sums are rounded once, not as float32 arithmetic does" if wrong else ""
    return Lowered([Work(pooling, {"a": images, "residual": _images(other.data)})], join), remark


def fit_addition(own: Scaled, other: Scaled, result: Scaled, relu: bool) -> tuple[Addition, int]:
    """The multipliers with which the machine does what float32 arithmetic does, as ONNX defines it; and for how many of the 65,536 pairs of
    operands the results differ. The machine rounds once, to even; float32 rounds products, sum and quotient, so it may miss ties by a hair.

    Raises NotOnMachine for a ratio of scales that SetAdd cannot hold.
    """
    numbers = [np.arange(np.iinfo(item.data.dtype).min, np.iinfo(item.data.dtype).max + 1) for item in (own, other)]
    floats = [(value - item.zero_point).astype(np.float32) * item.scale for value, item in zip(numbers, (own, other))]
    total = floats[0][:, None] + floats[1][None, :]
    limits = np.iinfo(result.data.dtype)

    def quantised(quotient: np.ndarray) -> np.ndarray:
        rounded = np.rint(np.maximum(quotient, 0) if relu else quotient).astype(np.int64)
        return np.clip(rounded + result.zero_point, limits.min, limits.max)

    wanted = quantised(total / result.scale)
    ratios = [float(item.scale) / float(result.scale) * (1 << FRACTION_BITS) for item in (own, other)]
    if max(ratios) >= MOST - 2:
        raise NotOnMachine(f"scales of {max(ratios) / (1 << FRACTION_BITS):.3g} times the result's, the machine takes less than 4")
    found = []
    for steps in sorted(pairs_of((0, -1, 1, -2, 2), repeat=2), key=lambda steps: abs(steps[0]) + abs(steps[1])):
        multipliers = [max(0, round(ratio) + step) for ratio, step in zip(ratios, steps)]
        sums = ((numbers[0] - own.zero_point) * multipliers[0])[:, None] + ((numbers[1] - other.zero_point) * multipliers[1])[None, :]
        found.append((np.count_nonzero(quantised(sums / (1 << FRACTION_BITS)) != wanted), multipliers))
        if not found[-1][0] or found[0][0] > FEW:       # ties: other multipliers would only miss them all
            break
    wrong, (multiplier, residual_multiplier) = min(found, key=lambda item: item[0])
    return Addition(multiplier=multiplier, residual_multiplier=residual_multiplier, own_zero_point=own.zero_point,
                    residual_zero_point=other.zero_point, zero_point=result.zero_point, dtype=str(other.data.dtype), relu=relu), wrong


def _average(island: Island, attributes: dict, operand: Scaled, result: Scaled) -> Lowered:
    if operand.data.ndim != 4 or island.relu:
        raise NotOnMachine("the machine averages over the two dimensions of images, and has no Relu behind that")
    if island.node.op_type == "GlobalAveragePool":
        attributes = {"kernel_shape": operand.data.shape[2:]}
    window = pool_window(attributes, operand.data.shape)
    pooling = Pooling(window=window, channels=operand.data.shape[1], kind="average", dtype=str(operand.data.dtype),
                      zero_point=operand.zero_point, output=str(result.data.dtype), output_zero_point=result.zero_point,
                      multiplier=float(operand.scale / result.scale), count_padding=bool(attributes.get("count_include_pad", 0)))
    return Lowered([Work(pooling, {"a": _images(operand.data)})], lambda results: results[0].transpose(0, 3, 1, 2))

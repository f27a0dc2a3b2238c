"""The integer operators of ONNX as products and convolutions of the machine. What the machine cannot do is refused with the reason."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from gen.config import Config
from sw.compiler.errors import CompileError
from sw.compiler.tiling import Gemm
from sw.compiler.window import Window
from sw.runtime.product import Work


class NotOnMachine(Exception):
    """Why a node runs on the host; the text completes "on the host: ..."."""


@dataclass(frozen=True)
class Lowered:
    """A node as products of the machine, and how their results make the node's."""

    works: list[Work]
    join: Callable[[list[np.ndarray]], np.ndarray]


Values = list[np.ndarray | None]


def lower(config: Config, operator: str, attributes: dict, values: Values) -> Lowered:
    """A node with its inputs (None where an optional one is left out). Raises NotOnMachine."""
    if operator not in OPERATORS:
        raise NotOnMachine(f"the machine has no {operator}")
    try:
        return OPERATORS[operator](config, attributes, values)
    except CompileError as error:
        raise NotOnMachine(str(error)) from None


def _at(values: Values, index: int) -> np.ndarray | None:
    return values[index] if index < len(values) else None


def _operand(name: str, value: np.ndarray | None) -> np.ndarray:
    if value is None or value.dtype not in (np.int8, np.uint8):
        raise NotOnMachine(f"{name} has type {'none' if value is None else value.dtype}, the machine takes int8 and uint8")
    if not value.size:
        raise NotOnMachine(f"{name} is empty")
    return value


def _single(name: str, value: np.ndarray | None) -> int:
    """The one value of a tensor that is the same everywhere; 0 where it is left out."""
    if value is None:
        return 0
    if not (value == value.flat[0]).all():
        raise NotOnMachine(f"{name} differs along an axis, the machine has one for a product")
    return value.flat[0].item()


def _alike(name: str, value: np.ndarray | None, count: int) -> list[tuple[int, np.ndarray]]:
    """Zero points of rows or columns as (zero point, the numbers of those that have it): a product has one zero point for each operand."""
    if value is None or value.size == 1:
        return [(_single(name, value), np.arange(count))]
    if value.size != count:
        raise NotOnMachine(f"{name} differs from matrix to matrix")
    return [(int(zero_point), np.flatnonzero(value.reshape(-1) == zero_point)) for zero_point in np.unique(value)]


def _multiplier(names: tuple[str, str], x_scale: np.ndarray | None, w_scale: np.ndarray | None, y_scale: np.ndarray | None,
                outputs: int) -> np.ndarray:
    """The float32 multipliers of all outputs; `names` are those of the first two."""
    scales = []
    for name, value in zip((*names, "y_scale"), (x_scale, w_scale, y_scale)):
        if value is None or value.dtype != np.float32:
            raise NotOnMachine(f"{name} has type {'none' if value is None else value.dtype}, the machine takes float32")
        scales.append(value.reshape(-1))
    multiplier = np.broadcast_to(scales[0] * scales[1] / scales[2], outputs).astype(np.float32)
    if not ((multiplier >= np.finfo(np.float32).tiny) & np.isfinite(multiplier)).all():
        raise NotOnMachine(f"{names[0]} * {names[1]} / y_scale is not a positive normal float32")
    return multiplier


# Matrix products


def matmul_integer(_config: Config, _attributes: dict, values: Values) -> Lowered:
    """MatMulInteger: a, b, a_zero_point, b_zero_point; int32."""
    return _matmul(values[0], values[1], _at(values, 2), _at(values, 3), None)


def qlinear_matmul(_config: Config, _attributes: dict, values: Values) -> Lowered:
    """QLinearMatMul: a, a_scale, a_zero_point, b, b_scale, b_zero_point, y_scale, y_zero_point."""
    a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero = values
    return _matmul(a, b, a_zero, b_zero, (a_scale, b_scale, y_scale, y_zero))


def _matmul(a: np.ndarray | None, b: np.ndarray | None, a_zero: np.ndarray | None, b_zero: np.ndarray | None, scaled) -> Lowered:
    a, b = _operand("a", a), _operand("b", b)
    left, right = (a[None] if a.ndim == 1 else a), (b[:, None] if b.ndim == 1 else b)
    rows, depth, columns = left.shape[-2], left.shape[-1], right.shape[-1]
    if right.ndim == 2:                             # the rows of all matrices make one
        pairs, batch = [(left.reshape(-1, depth), right)], left.shape[:-2]
    else:
        batch = np.broadcast_shapes(left.shape[:-2], right.shape[:-2])
        lefts = np.broadcast_to(left, (*batch, rows, depth)).reshape(-1, rows, depth)
        rights = np.broadcast_to(right, (*batch, depth, columns)).reshape(-1, depth, columns)
        pairs = list(zip(lefts, rights))
    extra, form = {}, {}
    if scaled is not None:
        a_scale, b_scale, y_scale, y_zero = scaled
        if a_scale is not None and a_scale.size > 1:
            raise NotOnMachine("a_scale differs from row to row, the machine has one for each column")
        extra = {"bias": np.zeros(columns, np.int32), "multiplier": _multiplier(("a_scale", "b_scale"), a_scale, b_scale, y_scale, columns)}
        form = {"output": str(_operand("y_zero_point", y_zero).dtype), "output_zero_point": _single("y_zero_point", y_zero)}
    works, places = [], []
    for number, (one, other) in enumerate(pairs):
        for a_zero_point, of_rows in _alike("a_zero_point", a_zero, len(one)):
            for b_zero_point, of_columns in _alike("b_zero_point", b_zero, columns):
                product = Gemm(m=len(of_rows), n=len(of_columns), k=depth, a_dtype=str(one.dtype), b_dtype=str(other.dtype),
                               a_zero_point=a_zero_point, b_zero_point=b_zero_point, **form)
                operands = {"a": one[of_rows], "b": other[:, of_columns]}
                works.append(Work(product, operands | {name: value[of_columns] for name, value in extra.items()}))
                places.append((number, of_rows, of_columns))

    def join(results: list[np.ndarray]) -> np.ndarray:
        whole = np.empty((len(pairs), len(pairs[0][0]), columns), results[0].dtype)
        for (number, of_rows, of_columns), result in zip(places, results):
            whole[number, of_rows[:, None], of_columns] = result
        return whole.reshape((*batch, *((rows,) if a.ndim > 1 else ()), *((columns,) if b.ndim > 1 else ())))

    return Lowered(works, join)


# Convolutions


def conv_integer(config: Config, attributes: dict, values: Values) -> Lowered:
    """ConvInteger: x, w, x_zero_point, w_zero_point; int32."""
    return _conv(config, attributes, values[0], values[1], _at(values, 2), _at(values, 3), {}, {})


def qlinear_conv(config: Config, attributes: dict, values: Values) -> Lowered:
    """QLinearConv: x, x_scale, x_zero_point, w, w_scale, w_zero_point, y_scale, y_zero_point, bias."""
    x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero = values[:8]
    outputs = _operand("w", w).shape[0]
    given = _at(values, 8)
    extra = {"bias": np.zeros(outputs, np.int32) if given is None else given.astype(np.int32),
             "multiplier": _multiplier(("x_scale", "w_scale"), x_scale, w_scale, y_scale, outputs)}
    form = {"output": str(_operand("y_zero_point", y_zero).dtype), "output_zero_point": _single("y_zero_point", y_zero)}
    return _conv(config, attributes, x, w, x_zero, w_zero, extra, form)


def window_of(attributes: dict, shape: tuple[int, ...], kernel: tuple[int, ...]) -> Window:
    """The window of a convolution over images (batch, channels, height, width); it covers what a dilated `kernel` spans."""
    strides, dilations = attributes.get("strides", [1, 1]), attributes.get("dilations", [1, 1])
    if len(set(strides)) != 1:
        raise NotOnMachine(f"strides = {list(strides)} differ, the machine has one for both directions")
    spread = [(size - 1) * step + 1 for size, step in zip(kernel, dilations)]
    pads = list(attributes.get("pads", [0, 0, 0, 0]))
    automatic = attributes.get("auto_pad", "NOTSET")
    if automatic in ("SAME_UPPER", "SAME_LOWER"):
        missing = [max(0, (-(-size // strides[0]) - 1) * strides[0] + reach - size) for size, reach in zip(shape[2:], spread)]
        halves = [(total // 2, total - total // 2) for total in missing]
        low, high = (0, 1) if automatic == "SAME_UPPER" else (1, 0)
        pads = [half[low] for half in halves] + [half[high] for half in halves]
    elif automatic == "VALID":
        pads = [0, 0, 0, 0]
    return Window(images=shape[0], height=shape[2], width=shape[3], kernel=(spread[0], spread[1]), stride=strides[0],
                  padding=(pads[0], pads[1], pads[2], pads[3]))


def _conv(config: Config, attributes: dict, x: np.ndarray | None, w: np.ndarray | None, x_zero: np.ndarray | None,
          w_zero: np.ndarray | None, extra: dict[str, np.ndarray], form: dict) -> Lowered:
    """`extra`: operands with a value for each output; `form`: fields of the product."""
    x, w = _operand("x", x), _operand("w", w)
    if x.ndim == 3:                                 # one line of pixels
        wide = {name: [fill, *attributes[name]] for name, fill in (("strides", 1), ("dilations", 1)) if name in attributes}
        if "strides" in wide:
            wide["strides"][0] = wide["strides"][1]
        if "pads" in attributes:
            wide["pads"] = [0, attributes["pads"][0], 0, attributes["pads"][1]]
        lowered = _conv(config, attributes | wide, x[:, :, None], w[:, :, None], x_zero, w_zero, extra, form)
        return Lowered(lowered.works, lambda results: lowered.join(results)[:, :, 0])
    if x.ndim != 4:
        raise NotOnMachine(f"x has {x.ndim - 2} spatial dimensions, the machine takes 1 or 2")
    if attributes.get("pads") and min(attributes["pads"]) < 0:
        raise NotOnMachine(f"pads = {list(attributes['pads'])} crop the image")
    groups, window, dilations = attributes.get("group", 1), window_of(attributes, x.shape, w.shape[2:]), attributes.get("dilations", [1, 1])
    # Groups that fit a wave together are one product, whose other blocks are zero: alone they would leave more of the array idle.
    inputs, outputs = w.shape[1], w.shape[0] // groups
    together = max(1, min(groups, config.tile // max(inputs, outputs)))
    works, places = [], []
    for zero_point, alike in _alike("w_zero_point", w_zero, w.shape[0]):
        for first in range(0, groups, together):
            stop = min(groups, first + together)
            chosen = alike[(alike >= first * outputs) & (alike < stop * outputs)]
            if not chosen.size:
                continue
            kernel = np.full((*window.kernel, (stop - first) * inputs, len(chosen)), zero_point, w.dtype)
            for column, output in enumerate(chosen):
                at = (output // outputs - first) * inputs
                kernel[::dilations[0], ::dilations[1], at:at + inputs, column] = w[output].transpose(1, 2, 0)   # between them zeros
            images = np.ascontiguousarray(x[:, first * inputs:stop * inputs].transpose(0, 2, 3, 1))
            works.append(Work(Gemm(m=window.rows, n=len(chosen), k=images.shape[3], a_dtype=str(x.dtype), b_dtype=str(w.dtype),
                                   a_zero_point=_single("x_zero_point", x_zero), b_zero_point=zero_point, window=window, **form),
                              {"a": images, "b": kernel} | {name: value[chosen] for name, value in extra.items()}))
            places.append(chosen)

    def join(results: list[np.ndarray]) -> np.ndarray:
        whole = np.empty((window.images, w.shape[0], window.out_height, window.out_width), results[0].dtype)
        for chosen, result in zip(places, results):
            whole[:, chosen] = result.transpose(0, 3, 1, 2)
        return whole

    return Lowered(works, join)


OPERATORS = {"MatMulInteger": matmul_integer, "QLinearMatMul": qlinear_matmul, "ConvInteger": conv_integer, "QLinearConv": qlinear_conv}

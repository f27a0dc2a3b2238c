"""The integer operators of ONNX as products, convolutions and poolings of the machine, or the reason why the machine cannot."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from gen.config import Config
from sw.compiler.errors import CompileError
from sw.compiler.pooling import Pooling
from sw.compiler.tiling import Gemm
from sw.compiler.window import Window
from sw.runtime.errors import UserError
from sw.runtime.product import Work


class OnnxError(UserError):
    """A model that cannot be used; the text is one line that names the node or the input."""


class NotOnMachine(Exception):
    """Why a node runs on the host; the text completes "on the host: ..."."""


@dataclass(frozen=True)
class Lowered:
    """A node as products of the machine, and how their results make the node's."""

    works: list[Work]
    join: Callable[[list[np.ndarray]], np.ndarray]


Values = list[np.ndarray | None]


def lower(config: Config, operator: str, attributes: dict, values: Values) -> Lowered:
    """A node with its inputs (None where an optional one is left out). Raises NotOnMachine, OnnxError for inputs that do not fit."""
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


def _zero_point(name: str, value: np.ndarray | None, dtype: np.dtype) -> np.ndarray:
    """A zero point of the type of its operand; 0 where it is left out."""
    if value is None:
        return np.zeros((), dtype)
    if value.dtype != dtype or not value.size:
        raise OnnxError(f"{name} has type {value.dtype} and shape {value.shape}, its operand {dtype}")
    return value


def _single(name: str, value: np.ndarray) -> int:
    """The one value of a tensor that is the same everywhere."""
    if not (value == value.flat[0]).all():
        raise NotOnMachine(f"{name} differs along an axis, the machine has one for a product")
    return value.flat[0].item()


def _alike(name: str, value: np.ndarray, count: int, shapes: tuple[tuple[int, ...], ...]) -> list[tuple[int, np.ndarray]]:
    """Zero points of rows or columns as (zero point, the numbers of those that have it): a product has one zero point for each operand.

    `shapes`: those that mean one for each of the `count` rows or columns.
    """
    if value.size == 1 or value.shape not in shapes:
        return [(_single(name, value), np.arange(count))]
    return [(int(zero_point), np.flatnonzero(value.reshape(-1) == zero_point)) for zero_point in np.unique(value)]


def _multiplier(scales: dict[str, np.ndarray | None], outputs: int, shapes: tuple[tuple[int, ...], ...]) -> np.ndarray:
    """The float32 multipliers of all outputs, from the scales of both operands (the second may have one for each output) and the result."""
    found = []
    for number, (name, value) in enumerate(scales.items()):
        if value is None or value.dtype != np.float32:
            raise NotOnMachine(f"{name} has type {'none' if value is None else value.dtype}, the machine takes float32")
        if value.size != 1 and (number != 1 or value.shape not in shapes):
            raise NotOnMachine(f"{name} has shape {value.shape}, the machine takes one value{' or one an output' if number == 1 else ''}")
        found.append(value.reshape(-1))
    multiplier = np.broadcast_to(found[0] * found[1] / found[2], outputs).astype(np.float32)
    if not ((multiplier >= np.finfo(np.float32).tiny) & np.isfinite(multiplier)).all():
        raise NotOnMachine(f"{' * '.join(list(scales)[:2])} / y_scale is not a positive normal float32")
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
    if not a.ndim or not b.ndim or a.shape[-1] != (b.shape[-2] if b.ndim > 1 else b.shape[0]):
        raise OnnxError(f"a of shape {a.shape} and b of shape {b.shape} are not matrices that fit")
    left, right = (a[None] if a.ndim == 1 else a), (b[:, None] if b.ndim == 1 else b)
    rows, depth, columns = left.shape[-2], left.shape[-1], right.shape[-1]
    if right.ndim == 2:                             # the rows of all matrices make one
        pairs, batch = [(left.reshape(-1, depth), right)], left.shape[:-2]
    else:
        try:
            batch = np.broadcast_shapes(left.shape[:-2], right.shape[:-2])
        except ValueError:
            raise OnnxError(f"a of shape {a.shape} and b of shape {b.shape} are not as many matrices") from None
        lefts = np.broadcast_to(left, (*batch, rows, depth)).reshape(-1, rows, depth)
        rights = np.broadcast_to(right, (*batch, depth, columns)).reshape(-1, depth, columns)
        pairs = list(zip(lefts, rights))
    a_zero, b_zero = _zero_point("a_zero_point", a_zero, a.dtype), _zero_point("b_zero_point", b_zero, b.dtype)
    of_a = ((rows,), (rows, 1)) if a.ndim == 2 else ()      # one for each row, and below for each column, of single matrices only
    of_b = ((columns,), (1, columns)) if b.ndim == 2 else ()
    extra, form = {}, {}
    if scaled is not None:
        a_scale, b_scale, y_scale, y_zero = scaled
        multiplier = _multiplier({"a_scale": a_scale, "b_scale": b_scale, "y_scale": y_scale}, columns, of_b)
        extra = {"bias": np.zeros(columns, np.int32), "multiplier": multiplier}
        form = _result(y_zero)
    works, places = [], []
    for number, (one, other) in enumerate(pairs):
        for a_zero_point, of_rows in _alike("a_zero_point", a_zero, len(one), of_a):
            for b_zero_point, of_columns in _alike("b_zero_point", b_zero, columns, of_b):
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


def _result(zero_point: np.ndarray | None) -> dict:
    """Fields of a product with an 8-bit result."""
    zero_point = _operand("y_zero_point", zero_point)
    return {"output": str(zero_point.dtype), "output_zero_point": _single("y_zero_point", zero_point)}


# Convolutions


def conv_integer(config: Config, attributes: dict, values: Values) -> Lowered:
    """ConvInteger: x, w, x_zero_point, w_zero_point; int32."""
    return _conv(config, attributes, values[0], values[1], _at(values, 2), _at(values, 3), {}, {})


def qlinear_conv(config: Config, attributes: dict, values: Values) -> Lowered:
    """QLinearConv: x, x_scale, x_zero_point, w, w_scale, w_zero_point, y_scale, y_zero_point, bias."""
    x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero = values[:8]
    outputs, bias = _operand("w", w).shape[0], _at(values, 8)
    bias = np.zeros(outputs, np.int32) if bias is None else bias
    if bias.shape != (outputs,):
        raise OnnxError(f"bias has shape {bias.shape}, w makes {outputs} outputs")
    multiplier = _multiplier({"x_scale": x_scale, "w_scale": w_scale, "y_scale": y_scale}, outputs, ((outputs,),))
    extra = {"bias": bias.astype(np.int32), "multiplier": multiplier}
    return _conv(config, attributes, x, w, x_zero, w_zero, extra, _result(y_zero))


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
    groups = attributes.get("group", 1)
    if w.ndim != 4 or groups < 1 or x.shape[1] != groups * w.shape[1] or w.shape[0] % groups:
        raise OnnxError(f"x of shape {x.shape} and w of shape {w.shape} do not fit with group = {groups}")
    x_zero, w_zero = _zero_point("x_zero_point", x_zero, x.dtype), _zero_point("w_zero_point", w_zero, w.dtype)
    if attributes.get("auto_pad", "NOTSET") == "NOTSET" and min(attributes.get("pads", [0])) < 0:       # crop
        top, left, bottom, right = (max(0, -pad) for pad in attributes["pads"])
        x = x[:, :, top:x.shape[2] - bottom, left:x.shape[3] - right]
        attributes = attributes | {"pads": [max(0, pad) for pad in attributes["pads"]]}
        if not x.size:
            raise OnnxError(f"pads = {list(attributes['pads'])} leave no image")
    window, dilations = window_of(attributes, x.shape, w.shape[2:]), attributes.get("dilations", [1, 1])
    # Groups that fit a wave together are one product, whose other blocks are zero: alone they would leave more of the array idle.
    inputs, outputs = w.shape[1], w.shape[0] // groups
    together = max(1, min(groups, config.tile // max(inputs, outputs)))
    works, places = [], []
    for zero_point, alike in _alike("w_zero_point", w_zero, w.shape[0], ((w.shape[0],),)):
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


# Poolings


def max_pool(_config: Config, attributes: dict, values: Values) -> Lowered:
    """MaxPool: x of int8 or uint8."""
    x = _operand("x", values[0])
    if x.ndim != 4:
        raise NotOnMachine(f"x has {x.ndim - 2} spatial dimensions, the machine pools over 2")
    dtype = str(x.dtype)
    pooling = Pooling(window=pool_window(attributes, x.shape), channels=x.shape[1], dtype=dtype, output=dtype)
    return Lowered([Work(pooling, {"a": np.ascontiguousarray(x.transpose(0, 2, 3, 1))})], lambda results: results[0].transpose(0, 3, 1, 2))


def pool_window(attributes: dict, shape: tuple[int, ...]) -> Window:
    """The window of a pooling over images (batch, channels, height, width)."""
    if set(attributes.get("dilations", [1])) != {1}:
        raise NotOnMachine(f"dilations = {list(attributes['dilations'])}, the machine pools neighbours")
    kernel = attributes["kernel_shape"]
    window = window_of(attributes, shape, (kernel[0], kernel[1]))
    rest = [(size + before + after - reach) % window.stride for size, before, after, reach in
            zip(shape[2:], window.padding, window.padding[2:], window.kernel)]
    if attributes.get("ceil_mode", 0) and any(rest):
        raise NotOnMachine("ceil_mode = 1, the machine has no windows beyond the padding")
    return window


OPERATORS = {"MatMulInteger": matmul_integer, "QLinearMatMul": qlinear_matmul, "ConvInteger": conv_integer, "QLinearConv": qlinear_conv,
             "MaxPool": max_pool}

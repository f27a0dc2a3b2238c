"""Groups of layers with random operands, and what the golden models make of them, layer by layer."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from gen.config import Config
from sw.compiler import Gemm, Pooling, Program, Window
from sw.compiler.group_layer import INPUT, GroupLayer
from sw.compiler.group_plan import obstacles
from sw.compiler.layer_group import GroupProgram, compile_layer_group
from sw.model import predict
from sw.runtime.product import Work, golden
from tb.sw.vector_works import TYPES, numbers, random_addition, random_zero_point


def random_group(rng: np.random.Generator, config: Config) -> list[GroupLayer]:
    """Two to six layers: convolutions of one position or several, some with a residual, products, poolings; any types and zero points."""
    height, width = (int(size) for size in rng.integers(3, 8, 2))
    channels, dtype, zero_point = int(rng.integers(1, 3 * config.array.side)), str(rng.choice(TYPES)), 0
    layers: list[GroupLayer] = []
    shapes = {INPUT: (height, width, channels, dtype)}
    for number in range(int(rng.integers(2, 7))):
        height, width, channels, dtype = shapes[number - 1]
        output = str(rng.choice(TYPES))
        out_zero = random_zero_point(rng, output)
        if rng.random() < 0.3:
            kernel, kind = (min(height, 2), min(width, 2)), str(rng.choice(["max", "average"]))
            window = Window(height=height, width=width, kernel=kernel, stride=int(rng.integers(1, 3)))
            output, out_zero = (dtype, zero_point) if kind == "max" else (output, out_zero)
            product = Pooling(window=window, channels=channels, kind=kind, dtype=dtype, zero_point=zero_point, output=output,
                              output_zero_point=out_zero, multiplier=float(rng.uniform(0.5, 2)))
            residual, outputs = None, channels
        else:
            size = int(rng.choice([1, 2, 3])) if min(height, width) >= 3 else 1
            pad = size // 2
            stride = int(rng.integers(1, 3)) if rng.random() < 0.3 else 1
            window = Window(height=height, width=width, kernel=(size, size), stride=stride, padding=(pad, pad, pad, pad))
            fitting = [at for at, (h, w, _, _) in shapes.items() if at != number - 1 and (h, w) == (window.out_height, window.out_width)]
            residual = int(rng.choice(fitting)) if fitting and rng.random() < 0.6 else None
            outputs = int(rng.integers(1, 4 * config.array.side)) if residual is None else shapes[residual][2]
            addition = None
            if residual is not None:
                addition = replace(random_addition(rng, output, out_zero), dtype=shapes[residual][3])
            product = Gemm(m=window.rows, n=outputs, k=channels, a_dtype=dtype, a_zero_point=zero_point, output=output,
                           output_zero_point=out_zero, relu=bool(rng.integers(2)), window=window, addition=addition)
            out_zero = out_zero if addition is None else addition.zero_point
        layers.append(GroupLayer(product=product, source=number - 1, residual=residual))
        shapes[number], zero_point = (window.out_height, window.out_width, outputs, output), out_zero
    return layers


def random_operands(rng: np.random.Generator, layers: Sequence[GroupLayer]) -> list[dict[str, np.ndarray]]:
    """Weights, biases and multipliers of each layer, so that results fill eight bits."""
    found = []
    for layer in layers:
        product = layer.product
        if not isinstance(product, Gemm):
            found.append({})
            continue
        kernel = product.window.kernel if product.window else ()
        spread = 60 / (74 * 74 * np.sqrt(product.k * product.taps))
        found.append({"b": numbers(rng, (*kernel, product.k, product.n), product.b_dtype),
                      "bias": rng.integers(-3000, 3000, product.n).astype(np.int32),
                      "multiplier": (spread * rng.uniform(0.7, 1.4, product.n)).astype(np.float32)})
    return found


def random_input(rng: np.random.Generator, layers: Sequence[GroupLayer], batch: int) -> np.ndarray:
    """The group's input for a batch."""
    first = layers[0].product
    window = first.window
    rows = (batch * layers[0].rows_in,) if window is None else (batch, window.height, window.width)
    return numbers(rng, (*rows, layers[0].channels_in), layers[0].type_in)


def by_golden(layers: Sequence[GroupLayer], batch: int, a: np.ndarray, operands: Sequence[dict[str, np.ndarray]]) -> np.ndarray:
    """The group's result by the golden models, a layer after the other with the whole batch."""
    results = {INPUT: a}
    for number, (layer, given) in enumerate(zip(layers, operands)):
        product = layer.of(batch)
        source = results[layer.source]
        more = {} if layer.residual is None else {"residual": results[layer.residual]}
        if product.window is None:
            source = source.reshape(-1, source.shape[-1])
            more = {name: value.reshape(-1, value.shape[-1]) for name, value in more.items()}
        results[number] = golden(Work(product, {"a": source, **given, **more}))
    return results[len(layers) - 1]


def possible_group(rng: np.random.Generator, config: Config, batch: int) -> tuple[list[GroupLayer], GroupProgram]:
    """A random group that the machine can hold, with a random sub-batch."""
    while True:
        layers = random_group(rng, config)
        fitting = [count for count in range(1, batch + 1) if not list(obstacles(config, layers, batch, count))]
        if fitting:
            return layers, compile_layer_group(config, layers, batch, sub_batch=int(rng.choice(fitting)))


def traffic_of(config: Config, counters: dict[str, int]) -> tuple[int, int]:
    """Bytes read and written by the machine's counters."""
    beat = config.memory.bytes_per_cycle
    return counters["dram_read_beats"] * beat, counters["dram_write_beats"] * beat


def predicted_traffic(config: Config, program: GroupProgram | Program) -> tuple[int, int]:
    """Bytes that a program reads and writes by the cycle model."""
    return traffic_of(config, predict(config, program.instructions, program=program.regions["program"].address).counters)

"""Layers of every workload on the RTL of `small` and `base`, fewer pixels of them where they are large: exact, cycles as predicted."""

import dataclasses

import numpy as np
import pytest

from gen.config import Config
from sw.compiler import CompileError, Pooling
from sw.compiler.lower import compile_product
from sw.cost.programs import product_of, window_of
from sw.runtime.product import Work, compute
from sw.workloads.catalogue import NETWORKS, network
from sw.workloads.network import Conv, Linear, Network, Pool
from tb.sw.vector_works import numbers
from tb.system.machines import machine

PIXELS = {"small": 6, "base": 9}                    # of a side of an output at most
MOST = {"small": 1_500_000, "base": 6_000_000}      # multiply-adds of a layer
SAMPLE = 3                                          # products of a network


def shrunk(layer: Conv | Pool, pixels: int) -> Conv | Pool:
    """The layer on a smaller image, all else the same."""
    def least(size: int, kernel: int, before: int, after: int, step: int) -> int:
        return min(size, max(1, (pixels - 1) * step + kernel - before - after))

    (top, left, bottom, right), source = layer.padding, layer.source
    height = least(source[1], layer.kernel[0], top, bottom, layer.stride[0])
    width = least(source[2], layer.kernel[1], left, right, layer.stride[1])
    lines = (height + top + bottom - layer.kernel[0]) // layer.stride[0]
    columns = (width + left + right - layer.kernel[1]) // layer.stride[1]
    return dataclasses.replace(layer, source=(source[0], height, width), shape=(layer.shape[0], lines + 1, columns + 1))


def work_of(rng: np.random.Generator, config: Config, layer: Conv | Linear | Pool, adds: bool) -> Work:
    """A layer with numbers as they come."""
    if isinstance(layer, Pool):
        pooling = Pooling(window=window_of(layer, 1), channels=layer.source[0], kind=layer.kind)
        return Work(pooling, {"a": numbers(rng, (1, *layer.source[1:], layer.source[0]), "int8")})
    product, _ = product_of(config, layer, 1, adds)
    window, rows = product.window, (product.m,)
    a, b = (product.m, product.k), (product.k, product.n)
    if window:
        rows = (1, window.out_height, window.out_width)
        a, b = (1, window.height, window.width, product.k), (*window.kernel, product.k, product.n)
    spread = 1 / (70 * np.sqrt(product.k * product.taps))
    operands = {"a": numbers(rng, a, "int8"), "b": numbers(rng, b, "int8"), "bias": rng.integers(-500, 500, product.n).astype(np.int32),
                "multiplier": rng.uniform(spread / 4, spread, product.n).astype(np.float32)}
    return Work(product, operands | ({"residual": numbers(rng, (*rows, product.n), "int8")} if adds else {}))


def sample(rng: np.random.Generator, config: Config, net: Network) -> list[Work]:
    """Some of a network's layers that are different and not too large, each kind among them where the network has it."""
    layers: dict[tuple, Conv | Linear | Pool] = {}
    for layer in net.layers:
        if isinstance(layer, Conv | Pool):
            layer = shrunk(layer, PIXELS[config.name])
        if isinstance(layer, Conv | Linear | Pool) and layer.macs <= MOST[config.name]:
            layers.setdefault(tuple(value for name, value in vars(layer).items() if name not in ("name", "inputs")), layer)
    found: list[Work] = []
    pools = [layer for layer in layers.values() if isinstance(layer, Pool)]
    products = [layer for layer in layers.values() if not isinstance(layer, Pool)]
    for kind, count in ((products, SAMPLE), (pools, 1)):
        for index in rng.permutation(len(kind)):
            adds = isinstance(kind[index], Conv) and kind[index].groups == 1 and bool(rng.integers(2))
            work = work_of(rng, config, kind[index], adds)
            try:
                compile_product(config, work.product)
            except CompileError as error:       # a line of pixels that no slice of a small machine holds
                assert "slice_words" in str(error) or "width" in str(error), (net.name, error)
                continue
            found.append(work)
            count -= 1
            if not count:
                break
    return found


@pytest.mark.parametrize("preset", ["small", "base"])
def test_layers(preset):
    config, seed = machine(preset), 31
    print(f"seed {seed}")
    rng = np.random.default_rng(seed)
    works = [(name, work) for name in NETWORKS for work in sample(rng, config, network(name))]
    assert {name for name, _ in works} == set(NETWORKS)
    for (name, work), (run, wanted) in zip(works, compute(config, [work for _, work in works])):
        assert run.mismatches == (), (name, work.product)
        np.testing.assert_array_equal(run.result, wanted, err_msg=f"{name} {work.product}")

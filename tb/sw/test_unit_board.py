"""Compiled programs with every wave on a unit: results equal the golden model, faults of the board are seen, and it works over the UART."""

import dataclasses

import numpy as np
import pytest
from amaranth.sim import Simulator

from boards.icebreaker import BOARD
from boards.system import system
from gen.config import Array, Buffers, Config, Memory, Unit
from gen.isa import Mode
from gen.presets import PRESETS
from sw.compiler.lower import compile_gemm
from sw.golden.gemm import gemm as golden
from sw.golden.requantise import requantise
from sw.runtime import unit_board
from sw.runtime.errors import MachineError
from sw.runtime.gemm import gemm
from tb.unit.unit_link import SimulatedUnit


def machine(side: int, unit: str, beat: int | None = None, **buffers) -> Config:
    sizes = {"moving_words": 32, "stationary_tiles": 4, "accumulator_words": 8, "slice_words": 256, "store_lanes": 1} | buffers
    return Config(array=Array(side=side, unit=Unit(unit), multiplier_latency=1), buffers=Buffers(**sizes),
                  memory=Memory(bytes_per_cycle=beat or 2 * side))


def product(config: Config, link, m: int, n: int, k: int, seed: int, kind: type = np.int8) -> tuple[np.ndarray, np.ndarray]:
    """A random product on a unit, and by numpy."""
    rng, limits = np.random.default_rng(seed), np.iinfo(kind)
    a, b = rng.integers(limits.min, limits.max + 1, (m, k), kind), rng.integers(-128, 128, (k, n), np.int8)
    program = compile_gemm(config, m, n, k, a_dtype=str(a.dtype), a_zero_point=limits.max, b_zero_point=-128)
    after = unit_board.run(config, link, program.instructions, program.image(a=a, b=b))
    return program.result(after), golden(a, b, a_zero_point=limits.max, b_zero_point=-128)


@pytest.mark.parametrize(("config", "m", "n", "k"), [
    (machine(1, "flex"), 13, 5, 7), (machine(2, "flex", 8), 19, 7, 9), (machine(2, "quad"), 13, 5, 7), (machine(2, "single"), 13, 5, 7),
    (machine(1, "single", stationary_tiles=4), 9, 2, 12)])
def test_products(config, m, n, k):
    """Two programs on one unit: the rings go on where the first has left them. Requests are three a wave and one a stored tile."""
    unit = SimulatedUnit(config)
    for seed, kind in ((1, np.int8), (2, np.uint8)):
        result, wanted = product(config, unit, m, n, k, seed, kind)
        assert np.array_equal(result, wanted), seed
    program = compile_gemm(config, m, n, k)
    waves = sum(item.waves for item in program.instructions if item.name == "ExecGEMM")
    stores = sum(item.name == "StLBUF" for item in program.instructions)
    assert unit.calls == {"read_registers": 4, "write_memory": 6 * waves, "read_memory": 2 * stores}


def test_all_modes_of_a_small_preset():
    config = PRESETS["icebreaker"]
    program = compile_gemm(config, 10, 6, 6)
    assert {item.mode for item in program.instructions if item.name == "ExecGEMM"} == set(Mode)
    result, wanted = product(config, SimulatedUnit(config), 10, 6, 6, 3)
    assert np.array_equal(result, wanted)


def test_eight_bit_results():
    """Bias, multiplier and rounding are the host's: the functional model's store unit works on what the board has accumulated."""
    config, rng = machine(2, "flex"), np.random.default_rng(4)
    a, b = rng.integers(-128, 128, (9, 5), np.int8), rng.integers(-128, 128, (5, 3), np.int8)
    bias, multiplier = rng.integers(-1000, 1000, 3, np.int32), np.full(3, 0.01, np.float32)
    program = compile_gemm(config, 9, 3, 5, output="int8", parameters=True)
    after = unit_board.run(config, SimulatedUnit(config), program.instructions, program.image(a=a, b=b, bias=bias, multiplier=multiplier))
    assert np.array_equal(program.result(after), requantise(golden(a, b), bias, multiplier, 0, np.int8))


class Faulty(SimulatedUnit):
    """Planted faults of a board."""

    fault = ""

    def read_memory(self, address: int, size: int) -> bytes:
        data = bytearray(super().read_memory(address, size))
        data[0] ^= self.fault == "bit"
        return bytes(data)

    def read_registers(self, offset: int, count: int) -> list[int]:
        values = super().read_registers(offset, count)
        for number in range(count):
            names = {"identity": 0, "version": 4, "cycles": 16}
            values[number] += offset + 4 * number == names.get(self.fault) and (self.fault != "cycles" or count == 1)
        return values


@pytest.mark.parametrize(("fault", "text"), [
    ("identity", "the board has no unit of version 1 (identity 0x46574156, version 1)"),
    ("version", "the board has no unit of version 1 (identity 0x46574155, version 2)"),
    ("cycles", "waves took")])
def test_faults_that_stop_a_program(fault, text):
    unit = Faulty(machine(1, "flex"))
    unit.fault = fault
    with pytest.raises(MachineError, match=text.replace("(", r"\(").replace(")", r"\)")):
        product(unit.config, unit, 5, 3, 3, 5)


def test_a_wrong_bit_is_in_the_result():
    unit = Faulty(machine(1, "flex"))
    unit.fault = "bit"
    result, wanted = product(unit.config, unit, 5, 3, 3, 6)
    assert not np.array_equal(result, wanted)


CYCLE = 5e-6    # seconds of the host's clock


class Wires:
    """A host's serial port at the UART of a simulated board, and the host's clock, which the simulation drives."""

    device = "wires"

    def __init__(self, dut, divisor: int):
        self.dut, self.divisor, self.cycle = dut, divisor, 0
        self._coming, self._gone = bytearray(), bytearray()
        self._simulator = Simulator(dut)
        self._simulator.add_clock(CYCLE)
        self._simulator.add_testbench(self._send, background=True)
        self._simulator.add_testbench(self._receive, background=True)

    def monotonic(self) -> float:
        return self.cycle * CYCLE

    def sleep(self, seconds: float):
        self._run(seconds)

    def _run(self, seconds: float, until=lambda: False):
        end = self.cycle + max(1, round(seconds / CYCLE))
        while self.cycle < end and not until():
            self._simulator.advance()

    def read(self, seconds: float) -> bytes:
        self._run(seconds, lambda: self._coming)
        data = bytes(self._coming)
        self._coming.clear()
        return data

    def write(self, data: bytes):
        self._gone += data

    def close(self):
        """As a port's."""

    async def _send(self, ctx):
        while True:
            if not self._gone:
                await ctx.tick()
                continue
            byte = self._gone.pop(0)
            for bit in (0, *(byte >> i & 1 for i in range(8)), 1):
                ctx.set(self.dut.rx, bit)
                await ctx.tick().repeat(self.divisor)

    async def _receive(self, ctx):
        bits = []
        wait = 0
        while True:
            await ctx.tick()
            self.cycle += 1
            if wait:
                wait -= 1
            elif bits or not ctx.get(self.dut.tx):
                bits.append(ctx.get(self.dut.tx))
                wait = self.divisor - 1 + (self.divisor // 2 if len(bits) == 1 else 0)
                if len(bits) == 10:
                    assert bits[9] == 1
                    self._coming.append(sum(bit << i for i, bit in enumerate(bits[1:9])))
                    bits, wait = [], 0


@pytest.fixture
def wires(monkeypatch):
    """The simulated iCEBreaker at a host's port."""
    config = PRESETS["icebreaker"]
    port = Wires(system(BOARD, config, divisor=4), 4)
    monkeypatch.setattr("sw.runtime.link.time", port)
    monkeypatch.setattr("sw.runtime.board.time", port)
    monkeypatch.setattr("sw.runtime.unit_board.Port", lambda device, baud: port)
    return port


def test_the_icebreaker_end_to_end(wires):
    """From `flexwave gemm --engine board` down to two wires: exact; the cycles are the model's and said to be so."""
    with unit_board.open_board("wires") as board:
        assert isinstance(board, unit_board.UnitBoard)
        assert (board.identity.board, board.identity.clock_khz) == ("icebreaker", BOARD.clock_khz)
        config = board.configuration()
        rng = np.random.default_rng(7)
        a, b = rng.integers(0, 256, (5, 3), np.uint8), rng.integers(-128, 128, (3, 3), np.int8)
        report = gemm(config, a, b, engine="board", board=board, a_zero_point=7)
    assert report.exact and not report.mismatches and np.array_equal(report.result, golden(a, b, a_zero_point=7))
    assert report.cycles is None and " (predicted)" in report.to_text()
    assert dataclasses.asdict(report)["engine"] == "board"

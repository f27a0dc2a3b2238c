"""The whole machine on small programs: a GEMM, every way to stop, and one run after another."""

import dataclasses
from itertools import pairwise

import numpy as np
import pytest
from amaranth.sim import Simulator

from gen.config import ORGANISATIONS, Unit
from gen.isa import Cause, Instruction, Mode
from gen.presets import PRESETS
from gen.registers import registers
from gen.timing import drain
from gen.verilog import to_rtlil
from rtl.control.watchdog import PATIENCE
from rtl.top import Machine
from sw.model.cycles import predict
from tb.unit.memory_model import MemoryModel

TINY = PRESETS["tiny"]
A_AT, B_AT, C_AT = 0x400, 0x440, 0x500
ROWS = 5


class Bench:
    """A machine with memory; `run` starts a program and returns the registers when it is done."""

    def __init__(self, config, ctx, machine, memory):
        self.config, self.ctx, self.machine, self.memory = config, ctx, machine, memory
        self.offsets = {item.name: item.offset for item in registers(config.array.groups)}

    @classmethod
    def simulate(cls, script, *, config=TINY, pause: float = 0.0, seed: int = 0):
        """Calls `script(bench)` as the testbench."""
        print(f"seed {seed}")
        machine = Machine(config)
        memory = MemoryModel(machine.memory.request, machine.memory.response, data=bytearray(0x1000), latency=config.memory.latency,
                             beat=config.memory.bytes_per_cycle, pause=pause, seed=seed)

        async def bench(ctx):
            await script(cls(config, ctx, machine, memory))

        simulator = Simulator(machine)
        simulator.add_clock(1e-6)
        simulator.add_testbench(memory.process, background=True)
        simulator.add_testbench(bench)
        simulator.run()

    async def write(self, name: str, value: int):
        bus = self.machine.registers
        self.ctx.set(bus.address, self.offsets[name])
        self.ctx.set(bus.write_data, value)
        self.ctx.set(bus.write_enable, 1)
        await self.ctx.tick()
        self.ctx.set(bus.write_enable, 0)

    async def read(self, name: str) -> int:
        self.ctx.set(self.machine.registers.address, self.offsets[name])
        await self.ctx.tick()
        return self.ctx.get(self.machine.registers.read_data)

    async def start(self, program: list[Instruction] | list[bytes]):
        image = b"".join(item if isinstance(item, bytes) else item.encode() for item in program)
        self.memory.data[:len(image)] = image
        await self.write("program", 0)
        await self.write("count", len(program))
        del self.memory.beats[:]
        self.memory.cycle = -1      # the cycle of the write: the run's cycle 0 follows
        await self.write("control", 1)

    async def run(self, program: list[Instruction] | list[bytes]) -> dict[str, int]:
        await self.start(program)
        for _ in range(4000):
            done = self.ctx.get(self.machine.done)
            assert await self.read("status") & 3 == (2 if done else 1)
            if done:
                break
        else:
            raise AssertionError("not done")
        # Bursts are always finished, also when the machine stops in their middle.
        beats = [beat for _, beat in self.memory.beats]
        assert not beats or beats[-1]["last"]
        for before, after in pairwise(beats):
            assert before["last"] or (after["tag"], after["beats"]) == (before["tag"], before["beats"] - 1)
        return {name: await self.read(name) for name in self.offsets}


def gemm(rng) -> tuple[np.ndarray, bytes, bytes, list[Instruction]]:
    """One FW wave on a side of 2: C (5 x 4) = A (5 x 4) B (4 x 4), int32. Returns C, the images of A and B, and the program."""
    a, b = rng.integers(-128, 128, (ROWS, 4)), rng.integers(-128, 128, (4, 4))
    moving = np.zeros((12, 2), np.int8)
    moving[0:ROWS], moving[6:6 + ROWS] = a[:, :2], a[:, 2:]
    stationary = np.array([[b[i, :2], b[i, 2:], b[2 + i, :2], b[2 + i, 2:]] for i in range(2)], np.int8)
    program = [
        Instruction("DmaIn", signal=1, memory=A_AT, slice=0, chunks=1, beats=6),
        Instruction("DmaIn", signal=2, memory=B_AT, slice=1, chunks=1, beats=4),
        Instruction("LdLBUF_V", wait=2, slice=1, mode=Mode.FW, waves=1, signed=1),
        Instruction("LdLBUF_H", wait=1, slice=0, mode=Mode.FW, rows=ROWS, waves=1, pitch=6, signed=1),
        Instruction("ExecGEMM", signal=4, mode=Mode.FW, rows=ROWS, waves=1),
        Instruction("StLBUF", wait=4, signal=8, wide=1, rows=ROWS, output=0, slice=2, pitch=4 * ROWS),
        Instruction("DmaOut", wait=8, memory=C_AT, slice=2, chunks=1, beats=4 * ROWS),
        Instruction("End"),
    ]
    return a @ b, moving.tobytes(), stationary.tobytes(), program


def result(data: bytearray) -> np.ndarray:
    """The int32 tile at C_AT: a word holds one byte of two columns."""
    planes = np.frombuffer(bytes(data[C_AT:C_AT + 16 * ROWS]), np.uint8).reshape(2, ROWS, 4, 2)
    return np.ascontiguousarray(planes.transpose(1, 0, 3, 2)).view("<i4").reshape(ROWS, 4)


async def run_gemm(bench: Bench, rng):
    want, a, b, program = gemm(rng)
    bench.memory.data[A_AT:A_AT + len(a)], bench.memory.data[B_AT:B_AT + len(b)] = a, b
    bench.memory.data[C_AT:C_AT + 16 * ROWS] = bytes(16 * ROWS)
    found = await bench.run(program)
    assert (result(bench.memory.data) == want).all()
    assert (found["status"], found["cause"], found["error_index"]) == (2, Cause.NONE, 0)
    return found, program


def test_gemm_with_every_counter():
    async def script(bench):
        rng = np.random.default_rng(1)
        for _ in range(2):
            found, program = await run_gemm(bench, rng)
            want = predict(TINY, program).counters
            assert {name: found[name] for name in want} == want
            assert bench.memory.beats[0][0] == 1    # fetch decides in cycle 0

    Bench.simulate(script)


@pytest.mark.parametrize("seed", [1, 2])
def test_back_pressure_changes_only_the_timing(seed):
    async def script(bench):
        found, program = await run_gemm(bench, np.random.default_rng(seed))
        want = predict(TINY, program).counters
        for name in want:
            if "stall" not in name and name not in ("cycles", "array_cycles"):
                assert found[name] == want[name]
        assert found["cycles"] > want["cycles"]

    Bench.simulate(script, pause=0.4, seed=seed)


def test_each_group_has_its_own_buffer():
    """What DMA_IN puts into one place of every group, DMA_OUT gets back from each."""
    config = dataclasses.replace(TINY, array=dataclasses.replace(TINY.array, unit=Unit.SINGLE, groups=2))
    blocks = [bytes(range(16 * group, 16 * group + 16)) for group in range(2)]

    async def script(bench):
        for group, block in enumerate(blocks):
            bench.memory.data[A_AT + 16 * group:A_AT + 16 * group + 16] = block
        program = [Instruction("DmaIn", group=group, memory=A_AT + 16 * group, slice=1, address=6, beats=4) for group in range(2)]
        program.append(Instruction("Barrier"))
        program += [Instruction("DmaOut", group=group, memory=C_AT + 16 * group, slice=1, address=6, beats=4) for group in range(2)]
        found = await bench.run([*program, Instruction("End")])
        assert found["cause"] == Cause.NONE
        assert bench.memory.data[C_AT:C_AT + 32] == b"".join(blocks)

    Bench.simulate(script, config=config)


def changed(item: Instruction, bit: int) -> bytes:
    return (int.from_bytes(item.encode(), "little") ^ 1 << bit).to_bytes(32, "little")


LONG_OUT = Instruction("DmaOut", memory=0x600, slice=2, chunks=2, beats=40)
LONG_IN = Instruction("DmaIn", memory=0x600, slice=2, chunks=2, beats=40)
STOPS = {
    "opcode": ([LONG_OUT, LONG_IN, bytes(32)], Cause.OPCODE, 2),
    "version": ([LONG_OUT, changed(Instruction("Barrier"), 5)], Cause.VERSION, 1),
    "reserved": ([LONG_IN, Instruction("Barrier"), changed(Instruction("Barrier"), 255)], Cause.FIELD, 2),
    "end": ([changed(Instruction("End"), 200)], Cause.FIELD, 0),
    "end after all else": ([*[Instruction("Barrier")] * 3, changed(Instruction("End"), 200)], Cause.FIELD, 3),
    "group": ([Instruction("Barrier", group=1)], Cause.FIELD, 0),
    "ran out": ([LONG_IN, LONG_OUT], Cause.END, 2),
    "empty": ([], Cause.END, 0),
    "token": ([
        Instruction("SetConv", wait=1), Instruction("LdLBUF_V", wait=1, waves=1), Instruction("DmaIn", signal=1, chunks=1, beats=1),
        Instruction("Barrier"), Instruction("End"),
    ], Cause.TOKEN, 3),
    "token in a write burst": ([
        Instruction("DmaOut", memory=0x600, slice=2, chunks=8, beats=16), Instruction("SetConv", wait=1),
        Instruction("LdLBUF_V", wait=1, waves=1), Instruction("DmaIn", signal=1, chunks=1, beats=1), Instruction("Barrier"),
        Instruction("End"),
    ], Cause.TOKEN, 4),
    "port": ([
        Instruction("LdLBUF_H", wait=1, rows=4, waves=1, pitch=2), Instruction("LdLBUF_V", wait=2, waves=1),
        Instruction("DmaIn", signal=3, chunks=1, beats=1), Instruction("Barrier"), Instruction("End"),
    ], Cause.PORT, 3),
    "deadlock": ([
        LONG_IN, Instruction("StLBUF", wait=4), Instruction("LdLBUF_V", wait=32, waves=1),
        Instruction("LdLBUF_H", wait=16, rows=1, waves=1), Instruction("End"),
    ], Cause.DEADLOCK, 3),
    "tiles never used": ([Instruction("LdLBUF_V", waves=9), Instruction("End")], Cause.DEADLOCK, 0),
}


@pytest.mark.parametrize("name", STOPS)
def test_stops_and_starts_again(name):
    program, cause, index = STOPS[name]

    async def script(bench):
        found = await bench.run(program)
        assert (found["status"], found["cause"], found["error_index"]) == (6, cause, index)
        if name == "empty":
            assert found["cycles"] == 6 and found["fetch_beats"] == 0
        await run_gemm(bench, np.random.default_rng(2))

    Bench.simulate(script, pause=0.2 if name in ("opcode", "version") else 0.0)


def test_after_an_error_everything_under_way_runs_out():
    """Registers of shared modules are beyond the reset's reach: `done` waits as long as data may take through the array."""
    config = dataclasses.replace(TINY, array=dataclasses.replace(TINY.array, side=4, row_latency=4))
    assert drain(config) > 32       # longer than the counters need

    async def script(bench):
        await bench.start([])
        for _ in range(drain(config) + 1):
            assert not bench.ctx.get(bench.machine.done)
            await bench.ctx.tick()
        await bench.ctx.tick().repeat(12)
        assert bench.ctx.get(bench.machine.done) and await bench.read("cause") == Cause.END

    Bench.simulate(script, config=config)


def test_deadlock_is_told_after_65_cycles():
    async def script(bench):
        found = await bench.run([Instruction("LdLBUF_V", wait=1, waves=1), Instruction("End")])
        assert (found["cause"], found["error_index"]) == (Cause.DEADLOCK, 0)
        last_arrival = bench.memory.beats[-1][0] + TINY.memory.latency      # fetching is the last thing that goes on
        assert found["cycles"] == last_arrival + PATIENCE + 2

    Bench.simulate(script)


def test_end_in_the_middle_of_a_fetch_burst():
    async def script(bench):
        program = [Instruction("End")] * 6
        found = await bench.run(program)
        want = predict(TINY, program).counters
        assert {name: found[name] for name in want} == want
        assert bench.memory.beats[-1][0] + TINY.memory.latency >= found["cycles"]      # data came after the end
        await bench.start(program)
        await bench.ctx.tick().until(bench.machine.done)
        await run_gemm(bench, np.random.default_rng(3))     # at once: what is on its way must not be taken for the new program

    Bench.simulate(script)


@pytest.mark.parametrize("organisation", ORGANISATIONS)
@pytest.mark.parametrize("config", [TINY, TINY.as_bf16()], ids=["int8", "bf16"])
def test_every_organisation_converts(config, organisation):
    text, _ = to_rtlil(Machine(config.organise(organisation)))
    assert text.count("attribute \\top 1") == 1

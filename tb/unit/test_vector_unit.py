"""VECTOR against the functional model: what it reads and writes, its registers, and when it is done; in the Python simulator."""

from collections import deque

import numpy as np
import pytest
from amaranth.sim import Simulator

from gen.config import Config
from gen.isa import VECTOR_REGISTERS, Instruction, LaneOperation, Result
from gen.timing import FOLD_LATENCY, VECTOR_LATENCY
from rtl.vector.vector_unit import VectorUnit
from sw.model.float_datapath import FloatDatapath
from tb.sw.vector_programs import SLICES, WORDS, image, random_lanes, random_transpose, random_vector

CONFIGS = [Config.load("tiny-bf16").organise("4G1F"), Config.load("tiny-bf16"), Config.load("small-bf16")]     # 1, 2 and 4 columns


def duration(config: Config, instruction: Instruction) -> int:
    """Cycles from the decision to the tokens (rtl/README.md, VECTOR)."""
    values, side = instruction.values, config.array.side
    if instruction.name == "Transpose":
        return (values["count"] + 1) * side + 7
    if instruction.name == "Vector":
        return values["count"] + VECTOR_LATENCY + (FOLD_LATENCY if values["result"] == Result.SUM else 0)
    if values["operation"] == LaneOperation.DIVIDE:
        return 27 * side + 6
    return 26 * side + 6 if values["operation"] == LaneOperation.ROOT else values["span"] * (side + 5) + 3


def simulate(config: Config, instructions: list[Instruction], data: np.ndarray) -> tuple[FloatDatapath, list[int]]:
    """Runs them one after the other on slices that hold `data`; what these hold then, and the cycles from each decision to its tokens."""
    path, dut, taken = FloatDatapath(config), VectorUnit(config), []
    for index in range(SLICES):
        path.put(index, np.arange(WORDS), data.reshape(SLICES, WORDS, -1)[index])

    async def bench(ctx):
        answers: dict = {port: deque([None] * 3) for port in (dut.read_a, dut.read_b)}
        ctx.set(dut.tokens.ready, 1)
        waiting, decided, cycle = deque(instructions), None, 0
        while waiting or decided is not None:
            ctx.set(dut.instruction.valid, bool(waiting))
            if waiting:
                bits = dut.instruction.payload.bits
                ctx.set(bits, int.from_bytes(waiting[0].encode(), "little") & (1 << len(bits)) - 1)
            for port, answer in answers.items():
                asked = None
                if ctx.get(port.enable):
                    asked = [int(ctx.get(port.slice)), [int(ctx.get(address)) for address in port.addresses]]
                answer.append(asked)
                due = answer.popleft()
                for lane, word in enumerate(port.data):
                    value = path.words(due[0], np.array([due[1][lane]]))[0] if due else np.zeros(config.word_bytes, np.uint8)
                    ctx.set(word, int.from_bytes(value.tobytes(), "little"))
            enable = ctx.get(dut.write.enable)
            first = ctx.get(dut.write.address)
            for lane in range(2):
                place = (first + lane) % 2
                if enable >> place & 1:
                    word = int(ctx.get(dut.write.data[place])).to_bytes(config.word_bytes, "little")
                    path.put(int(ctx.get(dut.write.slice)), np.array([first + lane]), np.frombuffer(word, np.uint8))
            if ctx.get(dut.tokens.signal):
                assert decided is not None
                taken.append(cycle - decided)
                decided = None
            if ctx.get(dut.tokens.take):
                assert decided is None
                decided = cycle
                waiting.popleft()
            await ctx.tick()
            cycle += 1
            assert cycle < 20_000
        await ctx.tick().repeat(4)

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    return path, taken


def registers_out() -> list[Instruction]:
    """Stores all registers in the last slice."""
    return [Instruction("Vector", signal=1, count=1, a_register=1, a_address=register, d_wide=1, d_slice=SLICES - 1,
                        d_address=WORDS - 2 * (register + 1)) for register in range(VECTOR_REGISTERS)]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: f"{config.array.side}_columns")
@pytest.mark.parametrize("kind", ["vector", "lanes", "transpose"])
def test_random_instructions(kind, config):
    seed = 31 + len(kind) + config.array.side
    print(f"seed {seed}")
    rng = np.random.default_rng(seed)
    draw = {"vector": lambda: random_vector(rng), "lanes": lambda: random_lanes(rng, config),
            "transpose": lambda: random_transpose(rng, config)}[kind]
    data = image(rng, config)
    instructions = [Instruction("Vector", count=1, a_wide=register & 1, a_slice=register % SLICES, a_address=2 * register,
                                result=Result.REGISTER, result_register=register) for register in range(VECTOR_REGISTERS)]
    instructions += [draw() for _ in range(40 if kind == "vector" else 20)]
    instructions += registers_out()
    for instruction in instructions:
        instruction.values["signal"] = 1
    found, taken = simulate(config, instructions, data)
    wanted = FloatDatapath(config)
    for index in range(SLICES):
        wanted.put(index, np.arange(WORDS), data.reshape(SLICES, WORDS, -1)[index])
    for instruction in instructions:
        wanted.vector(instruction)
    np.testing.assert_array_equal(found.slices[:SLICES, :WORDS], wanted.slices[:SLICES, :WORDS])
    assert taken == [duration(config, instruction) for instruction in instructions]

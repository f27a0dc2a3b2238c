"""NearDataRank: every operation on a small simulated device against numpy, in the stated order; placement against the address map."""

import random
from dataclasses import dataclass, field

import numpy as np
import pytest
from amaranth.hdl import Cat
from amaranth.sim import Simulator

from gen.dram import DramConfig, part
from gen.nda import Operand, Operation, Policy, Step, pack
from rtl.memory.interfaces import Command
from rtl.memory.lanes import Lane
from rtl.memory.near_data_rank import NearDataRank
from sw.dram import mapping
from sw.golden import nda as golden
from tb.unit.rank_reference import Visit, locate, unpack, visits
from tb.unit.refused import refused
from tb.unit.test_rank_control import pins_of

LANES = 16
FRAMES = {"x": 5, "y": 300, "z": 77, "w": 1021}


@dataclass
class Device:
    """The blocks of one rank, and its data pins towards the near-data unit."""

    config: DramConfig
    blocks: dict[tuple[int, int, int], bytes] = field(default_factory=dict)
    rows: dict[int, int] = field(default_factory=dict)
    reads: dict[int, int] = field(default_factory=dict)                      # cycle -> beat
    writes: list[tuple[int, tuple[int, int, int], list[int]]] = field(default_factory=list)
    columns: int = 0

    def command(self, cycle: int, kind: Command, bank: int, row: int, column: int, *, near: bool):
        timing = self.config.timing
        if kind == Command.ACT:
            assert bank not in self.rows
            self.rows[bank] = row
        elif kind == Command.PRE:
            del self.rows[bank]
        elif near and kind in (Command.RD, Command.WR):
            place = (bank, self.rows[bank], column)
            self.columns += 1
            if kind == Command.WR:
                self.writes.append((cycle + timing["tCWL"], place, []))
            else:
                block = self.blocks[place]
                self.reads |= {cycle + timing["tCL"] + i: int.from_bytes(block[16 * i:16 * i + 16], "little") for i in range(4)}

    def edge(self, cycle: int, write_data: int):
        """The end of a cycle with these write beats."""
        driven = False
        for first, place, beats in self.writes:
            if first <= cycle:
                driven = True
                beats.append(write_data)
                if len(beats) == 4:
                    self.blocks[place] = b"".join(beat.to_bytes(16, "little") for beat in beats)
        self.writes = [item for item in self.writes if len(item[2]) < 4]
        assert driven or not write_data


def launch(config: DramConfig, descriptor: bytes, parameters: list[int], device: Device, rng: random.Random, *, rank: int,
           again: bool = False):
    """Write parameters and descriptor as the host does, and run until the unit has done all; `again`: the descriptor twice."""
    unit = NearDataRank(config, rank=rank)
    last, launch_row = config.part.all_banks - 1, config.part.rows - 1
    words = b"".join(word.to_bytes(4, "little") for word in parameters).ljust(512, b"\0")
    bursts = [(column, words[64 * column - 64:64 * column]) for column in range(1, 9)] + [(0, descriptor)]
    commands = {2: (Command.ACT, last, launch_row, 0)}
    beats = {}
    for number, (column, block) in enumerate(bursts):
        cycle = 20 + 6 * number
        commands[cycle] = (Command.WR, last, 0, column)
        beats |= {cycle + config.timing["tCWL"] + i: int.from_bytes(block[16 * i:16 * i + 16], "little") for i in range(4)}
    ready = max(commands)
    wanted = sum(visit.count for visit in visits(unpack(descriptor)))

    async def bench(ctx):
        nonlocal again, ready
        cycle = idle = 0
        while idle < 40 or again:
            idle = idle + 1 if device.columns == wanted else 0
            assert cycle < 120 * wanted + 2000
            if idle == 40 and again:
                again, idle, device.columns, ready = False, 0, 0, cycle + 40
                commands.update({cycle + 20: (Command.ACT, last, launch_row, 0), ready: (Command.WR, last, 0, 0)})
                if last in device.rows:
                    commands[cycle + 1] = (Command.PRE, last, 0, 0)
                first = ready + config.timing["tCWL"]
                beats.update({first + i: int.from_bytes(descriptor[16 * i:16 * i + 16], "little") for i in range(4)})
            command = commands.get(cycle, (Command.NONE, 0, 0, 0))
            ctx.set(*pins_of(config, unit, command, rank=rank))
            hold_all = cycle <= ready or (cycle // 100 % 2 and rng.random() < 0.3)
            ctx.set(Cat(unit.inhibit, unit.write_data), (rng.random() < 0.2) | hold_all << 1 | beats.get(cycle, 0) << 2)
            device.command(cycle, *command, near=False)
            near = ctx.get(unit.port.command)
            assert command[0] == Command.NONE or Command(near.kind) == Command.NONE
            device.command(cycle, Command(near.kind), near.bank, near.row, near.column, near=True)
            ctx.set(unit.port.read_data, device.reads.pop(cycle, None) or rng.getrandbits(128))
            device.edge(cycle, ctx.get(unit.port.write_data))
            await ctx.tick()
            cycle += 1
        assert device.columns == wanted and not device.writes and not ctx.get(unit.overrun)

    simulator = Simulator(unit)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


class Vectors:
    """Operands in a device, by block of the descriptor's local order."""

    def __init__(self, config: DramConfig, parameters: list[int], **fields: int):
        self.config, self.parameters, self.device = config, parameters, Device(config)
        self.descriptor = pack(**fields)
        self.fields = unpack(self.descriptor)

    def place(self, operand: Operand, block: int, stream: int = 0) -> tuple[int, int, int]:
        return locate(self.config, self.fields, self.parameters, Visit(Step(operand), stream, 0, self.fields["blocks"]), block)

    def put(self, operand: Operand, values: np.ndarray, stream: int = 0):
        for block, row in enumerate(values.reshape(-1, LANES)):
            self.device.blocks[self.place(operand, block, stream)] = row.tobytes()

    def get(self, operand: Operand, blocks: int, like: type, stream: int = 0) -> np.ndarray:
        return np.frombuffer(b"".join(self.device.blocks[self.place(operand, block, stream)] for block in range(blocks)), like)


def numbers(rng: np.random.Generator, count: int, like: type) -> np.ndarray:
    if like is np.int32:
        return rng.integers(-2**31, 2**31, count, dtype=np.int32)
    return rng.standard_normal(count).astype(np.float32)


def word(value) -> int:
    return int(np.asarray(value).view(np.uint32))


def expected(operation: Operation, a, b, c, x, y, z) -> np.ndarray:
    """Plain numpy of one type; every operator rounds once, integers wrap."""
    with np.errstate(over="ignore"):
        if operation == Operation.COPY:
            return x
        if operation == Operation.SCAL:
            return a * x
        if operation == Operation.AXPY:
            return a * x + y
        if operation == Operation.AXPBY:
            return a * x + b * y
        if operation == Operation.AXPBYPCZ:
            return (a * x + b * y) + c * z
        return x * y


ELEMENTWISE = [
    (Operation.COPY, np.int32, 1, 0, 1, 131, Policy.NONE), (Operation.SCAL, np.float32, 1, 0, 2, 19, Policy.NONE),
    (Operation.SCAL, np.int32, 1, 0, 2, 5, Policy.NEXT_RANK), (Operation.AXPY, np.float32, 2, 1, 2, 130, Policy.NONE),
    (Operation.AXPY, np.int32, 2, 0, 4, 19, Policy.NONE), (Operation.AXPBY, np.float32, 2, 1, 4, 19, Policy.STOCHASTIC_4),
    (Operation.AXPBY, np.int32, 1, 0, 8, 7, Policy.NONE), (Operation.AXPBYPCZ, np.float32, 1, 0, 2, 19, Policy.NONE),
    (Operation.AXPBYPCZ, np.int32, 2, 1, 1, 6, Policy.STOCHASTIC_16), (Operation.XMY, np.float32, 1, 0, 2, 19, Policy.NONE),
    (Operation.XMY, np.int32, 2, 0, 2, 19, Policy.NONE),
]


@pytest.mark.parametrize("operation, like, ranks, rank, reserved, blocks, policy", ELEMENTWISE)
def test_elementwise(operation, like, ranks, rank, reserved, blocks, policy):
    print(f"seed {operation}")
    rng = np.random.default_rng(operation)
    config = DramConfig(part=part("ddr4-2400r"), ranks=ranks, reserved=reserved)
    a, b, c = numbers(rng, 3, like)
    vectors = Vectors(config, [0] * 128, operation=operation, integer=like is np.int32, policy=policy, flip=int(rng.integers(16)), seed=9,
                      blocks=blocks, a=word(a), b=word(b), c=word(c), start=128 * int(rng.integers(100)), **FRAMES)
    x, y, z = (numbers(rng, LANES * blocks, like) for _ in range(3))
    for operand, values in zip((Operand.X, Operand.Y, Operand.Z), (x, y, z)):
        vectors.put(operand, values)
    launch(config, vectors.descriptor, vectors.parameters, vectors.device, random.Random(1), rank=rank)
    np.testing.assert_array_equal(vectors.get(Operand.W, blocks, like), expected(operation, a, b, c, x, y, z))


@pytest.mark.parametrize("operation, blocks", [(Operation.DOT, 130), (Operation.NRM2, 11)])
def test_sums(operation, blocks):
    print(f"seed {operation}")
    rng = np.random.default_rng(operation)
    config = DramConfig(part=part("ddr4-2400r"), ranks=2)
    vectors = Vectors(config, [0] * 128, operation=operation, blocks=blocks, start=256, **FRAMES)
    x = numbers(rng, LANES * blocks, np.float32)
    y = numbers(rng, LANES * blocks, np.float32) if operation == Operation.DOT else x
    vectors.put(Operand.X, x)
    vectors.put(Operand.Y, y)
    launch(config, vectors.descriptor, vectors.parameters, vectors.device, random.Random(2), rank=1, again=True)
    sums = np.zeros(LANES, np.float32)
    for products in (x * y).reshape(-1, LANES):
        sums += products
    np.testing.assert_array_equal(vectors.get(Operand.W, 1, np.float32), sums)


def test_matrix_times_vector():
    print("seed 4")
    rng, blocks, streams = np.random.default_rng(4), 6, 17
    config = DramConfig(part=part("ddr4-2400r"))
    factors = numbers(rng, streams, np.float32)
    parameters = [word(factor) for factor in factors] + [0] * (128 - streams)
    vectors = Vectors(config, parameters, operation=Operation.GEMV, blocks=blocks, streams=streams, step=3, flip=5, **FRAMES)
    y, columns = numbers(rng, LANES * blocks, np.float32), numbers(rng, LANES * blocks * streams, np.float32).reshape(streams, -1)
    vectors.put(Operand.Y, y)
    for stream, column in enumerate(columns):
        vectors.put(Operand.X, column, stream)
    launch(config, vectors.descriptor, parameters, vectors.device, random.Random(3), rank=0)
    for factor, column in zip(factors, columns):
        y = y + factor * column
    np.testing.assert_array_equal(vectors.get(Operand.W, blocks, np.float32), y)


@pytest.mark.parametrize("operation, reserved", [(Operation.GATHER, 2), (Operation.SCATTER, 4)])
def test_rows_of_a_table(operation, reserved):
    """Rows 3 and 1 come twice: SCATTER adds to what it wrote before."""
    print(f"seed {operation}")
    rng, blocks = np.random.default_rng(operation), 6
    config = DramConfig(part=part("ddr4-2400r"), ranks=2, reserved=reserved)
    rows = [3, 1, 3, 0, 200, 1]
    parameters = [blocks * row for row in rows] + [0] * (128 - len(rows))
    vectors = Vectors(config, parameters, operation=operation, blocks=blocks, streams=len(rows), start=128, **FRAMES)
    table = {row: numbers(rng, LANES * blocks, np.float32) for row in rows}
    y = numbers(rng, LANES * blocks, np.float32)
    vectors.put(Operand.Y, y)
    for stream, row in enumerate(rows):
        vectors.put(Operand.X, table[row], stream)
    launch(config, vectors.descriptor, parameters, vectors.device, random.Random(4), rank=0,
           again=operation == Operation.GATHER)      # the first run leaves its blocks in the operand buffer
    if operation == Operation.GATHER:
        total = table[rows[0]]
        for row in rows[1:]:
            total = total + table[row]
        np.testing.assert_array_equal(vectors.get(Operand.W, blocks, np.float32), total)
    else:
        for row in rows:
            table[row] = table[row] + y
        for stream, row in enumerate(rows):
            np.testing.assert_array_equal(vectors.get(Operand.X, blocks, np.float32, stream), table[row])


def test_every_kind_of_number():
    """Subnormal numbers, infinities, NaNs: bits as the golden model has them; what is not computed with passes unchanged."""
    print("seed 5")
    rng, blocks = np.random.default_rng(5), 8
    config = DramConfig(part=part("ddr4-2400r"))
    exponents = rng.choice([0, 0, 1, 2, 126, 127, 128, 254, 255], (2, LANES * blocks))
    x, y = (rng.integers(0, 1 << 23, exponents.shape) * rng.integers(0, 2, exponents.shape) | exponents << 23
            | rng.integers(0, 2, exponents.shape) << 31).astype(np.uint32).view(np.float32)
    results = {Operation.COPY: golden.copy(x), Operation.AXPY: golden.axpy(1.5, x, y), Operation.XMY: golden.xmy(x, y)}
    for operation, wanted in results.items():
        vectors = Vectors(config, [0] * 128, operation=operation, blocks=blocks, a=word(np.float32(1.5)), **FRAMES)
        vectors.put(Operand.X, x)
        vectors.put(Operand.Y, y)
        launch(config, vectors.descriptor, vectors.parameters, vectors.device, random.Random(5), rank=0)
        np.testing.assert_array_equal(vectors.get(Operand.W, blocks, np.uint32), wanted.view(np.uint32))


@pytest.mark.parametrize("channels, ranks, reserved", [(1, 1, 1), (1, 2, 2), (2, 2, 4), (2, 4, 8)])
def test_local_order_is_ascending_address(channels, ranks, reserved):
    """Positions of the descriptor against the address map: the blocks of a rank in a frame and in the next one of its colour."""
    config = DramConfig(part=part("ddr4-2400r"), channels=channels, ranks=ranks, reserved=reserved)
    for frame in (0, 3, 37, 109):
        raw = config.part.rows - config.frames + frame
        flip = int(mapping.hashed(config, "bank", raw))
        local = []
        for raw_row in (raw, raw + config.colours):
            blocks = np.arange(raw_row * config.frame_blocks, (raw_row + 1) * config.frame_blocks)
            found = mapping.locate(config, blocks)
            mine = (found.channel == channels - 1) & (found.rank == ranks - 1)
            local += list(zip(found.bank[mine].tolist(), found.row[mine].tolist(), found.column[mine].tolist()))
        fields = unpack(pack(operation=Operation.COPY, blocks=1, x=frame, flip=flip))
        visit = Visit(Step(Operand.X), 0, 0, 1)
        assert local == [locate(config, fields, [], visit, position) for position in range(len(local))]


def test_refused():
    config = DramConfig(part=part("ddr4-2400r"), reserved=0)
    assert refused(lambda: NearDataRank(config, rank=0)) == "reserved = 0 is outside 1 bank or more (near-data unit)"
    assert refused(lambda: NearDataRank(DramConfig(part=part("ddr4-2400r")), rank=1)) == "rank = 1 is outside 0..0"


def test_lane_passes_without_computing():
    lane = Lane()

    async def bench(ctx):
        ctx.set(lane.element, 0x7F80_0001)
        await ctx.tick().repeat(5)
        assert ctx.get(lane.result) == 0x7F80_0001

    simulator = Simulator(lane)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()

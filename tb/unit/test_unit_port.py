"""A unit behind its port: tiles written word by word as `gen.unit_map` says, waves in every mode, accumulators read back, and times."""

import numpy as np
import pytest

from gen.config import Array, Buffers, Config, Memory
from gen.isa import VERSION, Mode
from gen.timing import FETCH_LATENCY, drain
from gen.unit_map import IDENTITY, OFFSETS, UnitMap
from rtl.link.unit_port import UnitPort
from tb.unit.refused import refused
from tb.unit.unit_link import SimulatedUnit

MODES = {"flex": tuple(Mode), "quad": (Mode.ISW,), "single": (Mode.FW,)}


def machine(side: int, unit: str, beat: int | None = None, **array) -> Config:
    buffers = Buffers(moving_words=32 if unit == "flex" else 16, stationary_tiles=4, accumulator_words=8, slice_words=1024, store_lanes=1)
    return Config(array=Array(side=side, unit=unit, **array), buffers=buffers, memory=Memory(bytes_per_cycle=beat or 2 * side))  # type: ignore


class Host:
    """Writes tiles, starts waves and reads sums, by the words of rtl/README.md ("Modes and rows") and the addresses of the map alone."""

    def __init__(self, config: Config):
        self.config, self.map, self.side = config, UnitMap(config), config.array.side
        self.unit, self.word, self.tile = SimulatedUnit(config), 0, 0

    def put(self, address: int, words):
        """Rows of `side` operands, each padded to a beat."""
        padded = np.zeros((len(words), self.map.beat // 2), "<i2")
        padded[:, :self.side] = words
        self.unit.write_memory(address, padded.tobytes())

    def steps(self, mode: Mode, rows: int) -> int:
        return rows if self.config.cores == 1 else -(-rows // mode.parts)

    def load(self, mode: Mode, a: np.ndarray, b: np.ndarray):
        """Tiles of a wave of all rows of `a`."""
        s, steps = self.side, self.steps(mode, len(a))
        a = np.concatenate([a, np.zeros((4 * steps - len(a), a.shape[1]), a.dtype)])
        moving, stationary = [], []
        for t in range(steps):
            moving += {
                "single": lambda t=t: [a[t]],
                Mode.FW: lambda t=t: [a[t, :s], a[t, s:]],
                Mode.VSW: lambda t=t: [a[2 * t, :s], a[2 * t + 1, :s], a[2 * t, s:], a[2 * t + 1, s:]],
                Mode.HSW: lambda t=t: [a[2 * t], a[2 * t + 1]],
                Mode.ISW: lambda t=t: [a[4 * t + i] for i in range(4)],
            }["single" if self.config.cores == 1 else mode]()
        for i in range(s):
            stationary += {
                "single": lambda i=i: [b[i]],
                Mode.FW: lambda i=i: [b[i, :s], b[i, s:], b[s + i, :s], b[s + i, s:]],
                Mode.VSW: lambda i=i: [b[i], b[s + i]],
                Mode.HSW: lambda i=i: [b[i, :s], b[i, s:]],
                Mode.ISW: lambda i=i: [b[i]],
            }["single" if self.config.cores == 1 else mode]()
        self.put(self.map.tile("moving", mode, self.word), moving)
        self.put(self.map.tile("stationary", mode, self.tile * s), stationary)
        self.word = (self.word + steps) % self.config.buffers.moving_words
        self.tile = (self.tile + 1) % self.config.buffers.stationary_tiles

    def start(self, mode: Mode, rows: int, *, half: int, accumulate: bool):
        self.unit.write_memory(self.map.start(mode, half=half, accumulate=accumulate), rows.to_bytes(self.map.beat, "little"))

    def sums(self, mode: Mode, rows: int, half: int) -> np.ndarray:
        """The result of a tile."""
        s, pairs = self.side, self.config.column_pairs
        entry = max(self.map.beat, 4 * s)
        count = (rows + (3 if not mode.wide and pairs == 2 else 1)) // (4 if not mode.wide and pairs == 2 else 2)
        data = np.frombuffer(self.unit.read_memory(self.map.sums(half), count * 2 * pairs * entry), "<i4").reshape(count, 2, pairs, -1)
        if pairs == 1 or mode.wide:     # word, bank: the row; pair: the columns
            return data[..., :s].reshape(2 * count, pairs * s)[:rows]
        return data[..., :s].reshape(4 * count, s)[:rows]       # word, bank, pair: the row

    def register(self, name: str) -> int:
        return self.unit.read_registers(OFFSETS[name], 1)[0]

    def shape(self, mode: Mode) -> tuple[int, int]:
        """k and n of a whole tile."""
        if self.config.array.unit != "flex":
            return self.side, self.side
        return self.side * (1 + mode.tall), self.side * (1 + mode.wide)


@pytest.mark.parametrize(("side", "unit", "beat", "array"), [
    (1, "flex", 2, {"multiplier_latency": 1}), (1, "flex", 8, {}), (1, "single", 4, {}), (2, "flex", 4, {}),
    (2, "flex", 8, {"row_latency": 2}), (2, "quad", 4, {}), (2, "single", 16, {"multiplier_latency": 1}),
    (4, "flex", 8, {"multiplier_latency": 2})])
def test_waves_of_every_mode(side, unit, beat, array):
    """Overwriting and adding, in both halves, with operands over all 9 bits; rings wrap. Cycles are those of the contract."""
    config, seed = machine(side, unit, beat, **array), 10 * side + beat
    host, rng = Host(config), np.random.default_rng(seed)
    held: dict[int, tuple[Mode, np.ndarray]] = {}
    cycles = 0
    for number in range(12):
        mode = MODES[unit][number % len(MODES[unit])]
        half, accumulate = int(rng.integers(2)), bool(rng.integers(2))
        accumulate = accumulate and half in held
        mode = held[half][0] if accumulate else mode
        most = min(config.wide_rows if mode.wide else config.narrow_rows, config.moving_capacity * (1 if unit == "single" else mode.parts))
        rows = len(held[half][1]) if accumulate else int(rng.integers(1, most + 1))
        k, n = host.shape(mode)
        a, b = rng.integers(-256, 256, (rows, k)), rng.integers(-256, 256, (k, n))
        if number % 5 == 0:
            a[:], b[:] = -256, -256
        host.load(mode, a, b)
        host.start(mode, rows, half=half, accumulate=accumulate)
        held[half] = mode, a @ b + (held[half][1] if accumulate else 0)
        assert np.array_equal(host.sums(mode, rows, half), held[half][1]), (seed, number, mode, rows, half, accumulate)
        cycles += max(2, side) + host.steps(mode, rows) + drain(config)
        assert host.register("cycles") == cycles, (seed, number)
        assert host.register("position") == host.word | host.tile << 16, (seed, number)
    for half, (mode, wanted) in held.items():
        assert np.array_equal(host.sums(mode, len(wanted), half), wanted), (seed, half)


def test_memory_waits_for_the_wave():
    """From the cycle after the start to the end of the drain, status tells of it and no beat is taken; without a wave each is."""
    config = machine(2, "flex")
    host = Host(config)
    host.load(Mode.FW, np.ones((5, 4), int), np.ones((4, 4), int))
    unit, length = host.unit, 2 + 5 + drain(config)

    async def job(ctx):
        bus, states = unit.dut.registers, []
        ctx.set(bus.address, OFFSETS["status"])
        assert not await unit.request(ctx, host.map.start(Mode.FW, half=0, accumulate=False), 5)
        for _ in range(length + 2):
            await unit.tick(ctx)
            states.append(ctx.get(bus.read_data))
        assert not await unit.request(ctx, host.map.start(Mode.FW, half=0, accumulate=False), 5)
        return states, await unit.request(ctx, host.map.sums(0), None)
    assert unit.do(job) == ([1] * length + [0] * 2, length)


def test_a_beat_a_cycle():
    """Requests without a gap between them: writes, then reads whose words are two beats, each answered FETCH_LATENCY later with its tag."""
    config = machine(2, "flex")
    host, rng = Host(config), np.random.default_rng(9)
    unit, port = host.unit, host.unit.dut.memory
    a, b = rng.integers(-256, 256, (16, 4)), rng.integers(-256, 256, (4, 4))
    host.load(Mode.FW, a, b)
    host.start(Mode.FW, 16, half=0, accumulate=False)
    wanted = host.unit.read_memory(host.map.sums(0), 4 * 64)

    async def job(ctx):
        answers = []
        ctx.set(port.request.valid, 1)
        for number in range(64 + FETCH_LATENCY):
            ctx.set(port.request.valid, number < 64)
            ctx.set(port.request.p, {
                "write": 0, "tag": number % 4, "last": 1, "beats": 1, "address": host.map.sums(0) + 4 * number, "data": 0})
            assert ctx.get(port.response.valid) == (number >= FETCH_LATENCY)
            answers.append((ctx.get(port.response.p.tag), ctx.get(port.response.p.data).to_bytes(4, "little")))
            await unit.tick(ctx)
        return answers[FETCH_LATENCY:]
    answers = unit.do(job)
    assert [tag for tag, _ in answers] == [number % 4 for number in range(64)]
    assert b"".join(data for _, data in answers) == wanted
    assert np.array_equal(host.sums(Mode.FW, 16, 0), a @ b)


def test_a_tile_runs_over_the_end_of_its_ring():
    config = machine(1, "flex")
    host, rng = Host(config), np.random.default_rng(5)
    for rows in (12, 12, 12):       # the third begins at word 24 of 32
        a, b = rng.integers(-256, 256, (rows, 2)), rng.integers(-256, 256, (2, 2))
        host.load(Mode.FW, a, b)
        host.start(Mode.FW, rows, half=1, accumulate=False)
        assert np.array_equal(host.sums(Mode.FW, rows, 1), a @ b)
    assert host.word == 36 - 32


def test_nothing_else_is_written():
    """Writes to accumulators, reads of tiles, and accesses behind them leave everything as it is."""
    config = machine(2, "flex")
    host, rng = Host(config), np.random.default_rng(6)
    a, b = rng.integers(-256, 256, (7, 2)), rng.integers(-256, 256, (2, 2))
    host.load(Mode.ISW, a, b)
    tile, sums = host.map.tile("moving", Mode.ISW, 0), host.map.sums(0)
    for address in (tile, host.map.tile("stationary", Mode.ISW, 0), host.map.start(Mode.ISW, half=0, accumulate=False)):
        host.unit.read_memory(address, 8)
    assert host.register("cycles") == 0
    host.start(Mode.ISW, 7, half=0, accumulate=False)
    host.put(sums, rng.integers(-256, 256, (8, 2)))
    assert np.array_equal(host.sums(Mode.ISW, 7, 0), a @ b)


def test_registers():
    host = Host(machine(1, "flex"))
    assert [host.register(name) for name in ("identity", "version", "position", "status", "cycles")] == [IDENTITY, VERSION, 0, 0, 0]
    assert host.unit.read_registers(0x40, 2) == [0, 0]


@pytest.mark.parametrize(("config", "text"), [
    (Config(array=Array(groups=4)), "array.groups = 4 must be 1 groups (a unit alone)"),
    (Config(memory=Memory(bytes_per_cycle=8)), "memory.bytes_per_cycle = 8 is outside 16..128 bytes (a unit alone)")])
def test_refused_configurations(config, text):
    assert refused(lambda: UnitPort(config)) == text


def test_windows_do_not_overlap():
    """Every place that a host may name lies in the memory, and no two are the same."""
    for config in (machine(1, "flex"), machine(2, "flex", 8), machine(2, "single"), machine(4, "quad")):
        at, ring = UnitMap(config), config.buffers.moving_words
        starts = {at.tile(operand, mode, 0) for operand in ("moving", "stationary") for mode in at.modes} | {at.sums(0), at.sums(1)}
        starts |= {at.start(mode, half=half, accumulate=more) for mode in at.modes for half in (0, 1) for more in (False, True)}
        assert len(starts) == 2 * len(at.modes) + 2 + 4 * len(at.modes)
        ends = {start: 8 * ring * at.beat for start in starts if start < at.sums(0)}
        ends |= {at.sums(half): config.buffers.accumulator_words * 2 * config.column_pairs * at.parts * at.beat for half in (0, 1)}
        for start, size in ends.items():
            assert all(other == start or not start <= other < start + size for other in starts) and start + size <= at.size_bytes

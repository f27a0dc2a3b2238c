"""The host link against a model of the contract: every rule and check, damaged and replayed frames, slow memory, a full buffer."""

import random
import struct

import pytest
from amaranth.sim import Simulator

from gen.config import Array, Buffers, Config, Memory
from gen.link import Identity
from rtl.link.host_link import HostLink
from tb.unit.link_model import BUSY, ESCAPE, FIELD, FLAG, OK, REPEAT, Ask, Board, answer, escaped, request, write
from tb.unit.memory_model import MemoryModel
from tb.unit.refused import refused

MEMORY_BYTES = 1 << 14
REGISTERS, MEMORY = (Ask.READ_REGISTERS, Ask.WRITE_REGISTERS), (Ask.READ_MEMORY, Ask.WRITE_MEMORY)
IDENTITY = "<4sHHII16s16s"      # magic, protocol, unit, clock in kHz, memory bytes, configuration, board


def config(unit: int) -> Config:
    """A machine with a memory port of `unit` bytes."""
    side = min(unit, 16)
    return Config(array=Array(side=side), buffers=Buffers(store_lanes=1), memory=Memory(bytes_per_cycle=unit))


class Bench:
    """A host link with registers and memory around it, and the model beside it. `talk` feeds both and compares them."""

    def __init__(self, ctx, link, memory, board, rng, *, gaps, stalls):
        self.ctx, self.link, self.memory, self.board, self.rng, self.gaps, self.stalls = ctx, link, memory, board, rng, gaps, stalls
        self.waiting: list[tuple[int, bool]] = []
        self.sent = b""
        self.effects: list[tuple[str, int, bytes]] = []     # on the registers

    def status(self, *, busy: bool, ready: bool):
        """The machine runs; memory is ready."""
        self.board.busy, self.board.ready = busy, ready
        self.ctx.set(self.link.busy, busy)
        self.ctx.set(self.link.memory_ready, ready)

    async def talk(self, frames: bytes | list[tuple[int, bool]]) -> bytes:
        """Feed bytes, or bytes and whether they are damaged; wait for the answers, compare them, return them."""
        received = [(byte, False) for byte in frames] if isinstance(frames, bytes) else frames
        assert len(received) < 2048
        expected = self.board.feed(received)
        self.sent, self.waiting = b"", received
        for _ in range(2000):
            if len(self.sent) >= len(expected) and not self.waiting:
                break
            await self.ctx.tick().repeat(10)
        await self.ctx.tick().repeat(40)        # no more comes
        assert self.sent == expected
        return self.sent

    async def around(self, ctx):
        """Everything around the link but memory: puts the waiting bytes on the stream with random gaps, takes those of the answers, and
        keeps what is written to registers."""
        link, values, bus = self.link, bytearray(4096), self.link.registers
        while True:
            offered, ready = bool(self.waiting) and self.rng.randrange(self.gaps + 1) == 0, self.rng.random() >= self.stalls
            ctx.set(link.received.valid, offered)
            if offered:
                byte, error = self.waiting.pop(0)
                ctx.set(link.received.payload, {"data": byte, "error": error})
            ctx.set(link.sent.ready, ready)
            _, _, valid, sent, address, enable, data = await ctx.tick().sample(
                link.sent.valid, link.sent.payload, bus.address, bus.write_enable, bus.write_data)
            if valid and ready:
                self.sent += bytes([sent])
            ctx.set(bus.read_data, int.from_bytes(values[address & ~3:][:4], "little"))
            if enable:
                values[address:address + 4] = struct.pack("<I", data)
                self.effects.append(("register", address, struct.pack("<I", data)))


def simulate(script, *, unit: int = 4, seed: int = 0, gaps: int = 0, stalls: float = 0.0, pause: float = 0.0, latency: int = 3) -> Board:
    """Run `script(bench)` and compare what was written, in order. Returns the model."""
    print(f"seed {seed}")
    rng = random.Random(seed)
    identity = Identity(unit=unit, clock_khz=48_000, memory_bytes=MEMORY_BYTES, config="0123456789abcdef", board="bench")
    link = HostLink(config(unit), identity)
    board = Board(unit, MEMORY_BYTES, struct.pack(IDENTITY, b"FWLK", 1, unit, 48_000, MEMORY_BYTES, b"0123456789abcdef", b"bench"))
    memory = MemoryModel(link.memory.request, link.memory.response, data=bytearray(MEMORY_BYTES), latency=latency, beat=unit, pause=pause,
                         seed=seed)
    bench = Bench(None, link, memory, board, rng, gaps=gaps, stalls=stalls)

    async def main(ctx):
        bench.ctx = ctx
        bench.status(busy=False, ready=True)
        await script(bench)

    simulator = Simulator(link)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench.around, background=True)
    simulator.add_testbench(memory.process, background=True)
    simulator.add_testbench(main)
    simulator.run()
    written = [beat for _, beat in memory.beats if beat["write"]]
    assert [effect for effect in board.effects if effect[0] == "register"] == bench.effects
    assert [("memory", beat["address"], beat["data"].to_bytes(unit, "little")) for beat in written] == [
        effect for effect in board.effects if effect[0] == "memory"]
    assert bytes(memory.data) == bytes(board.memory)
    assert all(beat["beats"] == 1 and beat["last"] for _, beat in memory.beats)
    return board


def payload(rng: random.Random, size: int) -> bytes:
    """Random bytes with many that need an escape."""
    return bytes(rng.choice([FLAG, ESCAPE, 0x5D, 0x5E, rng.randrange(256)]) for _ in range(size))


@pytest.mark.parametrize("unit", [1, 2, 4, 16, 256])
def test_requests(unit):
    """Every request in several lengths, one after the other and several at once; numbers go round."""
    rng = random.Random(unit)

    async def script(bench):
        await bench.talk(request(Ask.HELLO, 250))
        number, frames = 251, []
        for group, size, kinds in ((4, 4096, REGISTERS), (unit, MEMORY_BYTES, MEMORY)):
            for length in sorted({group, min(2 * group, 256), 256}):
                for address in (0, size - length, rng.randrange((size - length) // group + 1) * group):
                    frames.append(write(kinds[1], number, address, payload(rng, length)))
                    frames.append(request(kinds[0], number + 1, address=address, length=length))
                    number += 2
        for frame in frames:
            await bench.talk(frame)
        number = 0
        await bench.talk(request(Ask.HELLO, number - 1))
        batch = b""
        for kind in (Ask.WRITE_REGISTERS, Ask.READ_MEMORY, Ask.WRITE_MEMORY, Ask.READ_REGISTERS, Ask.READ_REGISTERS) * 2:
            group = unit if kind in MEMORY else 4
            batch += (write(kind, number, 512, payload(rng, group)) if kind in (Ask.WRITE_MEMORY, Ask.WRITE_REGISTERS) else
                      bytes([FLAG]) + request(kind, number, address=512, length=group))
            number += 1
        for frame in (batch[:1900], batch[1900:]):
            if frame:
                await bench.talk(frame)

    board = simulate(script, unit=unit, seed=unit, stalls=0.5 if unit == 4 else 0.0, gaps=3 if unit == 2 else 0)
    assert board.statuses.count(OK) > 10


def test_sequence():
    """Each frame of every kind is answered once, in order, also when many come at once: the numbers go round."""
    rng, unit = random.Random(7), 8

    async def script(bench):
        for number in (0, 200):     # before any HELLO nothing is carried out or confirmed
            assert await bench.talk(request(Ask.WRITE_REGISTERS, number, length=4, payload=b"abcd")) == answer(REPEAT, 0)
        await bench.talk(request(Ask.HELLO, 0))
        number = 1
        while number < 300:
            frames = b""
            while len(frames) < 1500 and number < 300:
                kind = rng.randrange(1, 5)
                group = unit if kind in MEMORY else 4
                length = group * rng.choice([1, 1, 2])
                address = group * rng.randrange(512 // group)
                if kind in (Ask.WRITE_MEMORY, Ask.WRITE_REGISTERS):
                    frames += write(kind, number, address, payload(rng, length))
                else:
                    frames += request(kind, number, address=address, length=length)
                number += 1
            await bench.talk(frames)

    board = simulate(script, unit=unit, seed=7)
    assert board.statuses == [REPEAT] * 2 + [OK] * 300


def damages() -> list[list[tuple[int, bool]]]:
    """Frames that must be answered with REPEAT, as number 1, with and without a right CRC."""
    frame = write(Ask.WRITE_MEMORY, 1, 0x40, bytes(range(16)))
    good = [(byte, False) for byte in frame]
    found = [[(byte ^ 1 << at % 8, False) if place == at else (byte, False) for place, byte in enumerate(frame)]
             for at in range(len(frame) - 1)]
    found = [item for item in found if all(byte not in (FLAG, ESCAPE) for byte, _ in item[:-1])]
    found += [good[:at] + good[at + 1:] for at in range(len(good) - 1)]                         # a byte lost
    found += [good[:at] + [(0x11, False)] + good[at:] for at in range(len(good) - 1)]           # one too many
    found += [good[:at] + [(good[at][0], True)] + good[at + 1:] for at in (0, 5, 20, len(good) - 2)]   # a stop bit missing
    found += [good[:-1] + [(0xFF, True), (FLAG, False)], good[:-1] + [(FLAG, True), (FLAG, False)]]
    found += [good[:-1] + [(ESCAPE, False), (FLAG, False)], [(ESCAPE, False), (FLAG, False)], [(0, True), (FLAG, False)]]
    found += [[(byte, False) for byte in content + bytes([FLAG])] for content in (b"\0", b"\0" * 4, b"\0" * 12, b"\0" * 600)]

    def header(kind, length):
        return struct.pack("<BBHI", kind, 1, length, 0x40)

    contents = [header(Ask.WRITE_MEMORY, length) + bytes(size) for length, size in (
        (16, 0), (16, 8), (16, 12), (16, 20), (16, 32), (0, 16), (256, 252), (256, 260), (272, 272), (300, 256), (16 + 65536 // 2, 16),
        (16, 16 + 512), (512, 512), (272, 784), (16, 16 + 1024))]
    contents += [header(Ask.READ_MEMORY, 16) + bytes(4), header(Ask.READ_MEMORY, 16) + bytes(16), header(Ask.READ_REGISTERS, 4)[:4],
                 header(Ask.READ_REGISTERS, 4)[:7], header(Ask.HELLO, 4) + bytes(4), header(9, 4) + bytes(4)]
    return found + [[(byte, False) for byte in escaped(content)] for content in contents]


def test_damaged_frames():
    """Rule 1: damage of each kind is answered with REPEAT and does nothing; the next frame is carried out."""
    async def script(bench):
        await bench.talk(request(Ask.HELLO, 0))
        for number, frame in enumerate(damages()):
            assert await bench.talk(frame) == answer(REPEAT, 1), f"damage {number}"
        assert not bench.board.effects
        assert await bench.talk(bytes([FLAG] * 5)) == b""
        assert await bench.talk(write(Ask.WRITE_MEMORY, 1, 0x40, bytes(range(16)))) == answer(OK, 1)

    simulate(script)


def test_hello_sets_the_number():
    """Rule 2: whatever was expected, and whatever is in the address and length that it does not have."""
    async def script(bench):
        for number in (7, 7, 200, 72, 71, 255, 0, 128):
            assert (await bench.talk(request(Ask.HELLO, number, length=number, address=3 * number)))[:1] == bytes([OK])
            assert await bench.talk(request(Ask.READ_REGISTERS, number + 2, length=4)) == answer(REPEAT, number + 1)
            await bench.talk(write(Ask.WRITE_REGISTERS, number + 1, 8, b"next"))

    board = simulate(script)
    assert len(board.effects) == 8


REFUSED = [
    *((kind, 4, address) for kind in REGISTERS for address in (1, 2, 3, 4096, 8192, 1 << 31, (1 << 32) - 4)),
    *((kind, 8, 4092) for kind in (Ask.READ_REGISTERS, Ask.WRITE_REGISTERS)),
    *((kind, length, 0) for kind in REGISTERS for length in (0, 1, 2, 3, 6, 255)),
    *((Ask.READ_REGISTERS, length, 0) for length in (257, 260, 512, 516, 4096, 65532)),
    *((kind, 8, address) for kind in MEMORY for address in (
        1, 2, 4, 7, MEMORY_BYTES, 2 * MEMORY_BYTES, 1 << 31, (1 << 32) - 8)),
    *((kind, 16, MEMORY_BYTES - 8) for kind in (Ask.READ_MEMORY, Ask.WRITE_MEMORY)),
    *((kind, 256, MEMORY_BYTES - 248) for kind in (Ask.READ_MEMORY, Ask.WRITE_MEMORY)),
    *((kind, length, 0) for kind in MEMORY for length in (0, 1, 2, 4, 7, 12, 255)),
    *((Ask.READ_MEMORY, length, 0) for length in (257, 264, 512, 520, 4096, 65528)),
    *((kind, 0, 0) for kind in (5, 6, 7, 8, 128, 255)),
    *((kind, 8, 0) for kind in (5, 6, 12, 132)),
]


def test_fields():
    """Rule 3: what does not fit is answered with FIELD, also while memory is busy, and the number stays."""
    async def script(bench):
        await bench.talk(request(Ask.HELLO, 0))
        for kind, length, address in REFUSED:
            bench.status(busy=bench.rng.random() < 0.5, ready=bench.rng.random() < 0.5)
            data = bytes(length) if kind in (Ask.WRITE_MEMORY, Ask.WRITE_REGISTERS) else b""
            got = await bench.talk(request(kind, 1, length=length, address=address, payload=data))
            assert got == answer(FIELD, 1), (kind, length, address)
        bench.status(busy=False, ready=True)
        assert await bench.talk(write(Ask.WRITE_MEMORY, 1, MEMORY_BYTES - 8, b"in place")) == answer(OK, 1)

    assert len(simulate(script, unit=8).effects) == 1


def test_busy():
    """Memory is out of reach while the machine runs or memory is not ready; registers are not."""
    async def script(bench):
        await bench.talk(request(Ask.HELLO, 0))
        number = 1
        for busy, ready in ((True, True), (False, False), (True, False), (False, True)) * 2:
            bench.status(busy=busy, ready=ready)
            fine = ready and not busy
            for frame in (write(Ask.WRITE_MEMORY, number, 0x80, b"12345678"), request(Ask.READ_MEMORY, number, address=0x80, length=8)):
                assert (await bench.talk(frame))[0] == (OK if fine else BUSY)
            number += fine      # the read was then a replay
            assert await bench.talk(write(Ask.WRITE_REGISTERS, number, 8, b"word")) == answer(OK, number)
            number += 1

    board = simulate(script)
    assert [name for name, _, _ in board.effects].count("memory") == 4      # two writes of two beats


def test_replay():
    """Rule 4: up to 127 numbers back reads are done again and writes only acknowledged; farther back, and ahead, is rule 5."""
    async def script(bench):
        start = write(Ask.WRITE_REGISTERS, 1, 8, struct.pack("<I", 1))
        await bench.talk(request(Ask.HELLO, 0))
        assert await bench.talk(start) == answer(OK, 1)
        for _ in range(3):
            assert await bench.talk(start) == answer(OK, 1)
        assert await bench.talk(start + start + write(Ask.WRITE_REGISTERS, 2, 12, b"next") + start) == b"".join(
            answer(OK, number) for number in (1, 1, 2, 1))
        assert bench.effects == [("register", 8, struct.pack("<I", 1)), ("register", 12, b"next")]
        for number in range(3, 128):
            await bench.talk(write(Ask.WRITE_MEMORY, number, 8 * number, struct.pack("<Q", number)))
        # 128 is expected: 1 is the oldest that counts
        assert await bench.talk(start) == answer(OK, 1)
        assert await bench.talk(write(Ask.WRITE_REGISTERS, 0, 8, b"old!")) == answer(REPEAT, 128)
        assert await bench.talk(write(Ask.WRITE_REGISTERS, 129, 8, b"soon")) == answer(REPEAT, 128)
        assert await bench.talk(request(Ask.READ_MEMORY, 200, length=8)) == answer(REPEAT, 128)
        assert await bench.talk(request(Ask.READ_MEMORY, 0, length=8)) == answer(REPEAT, 128)
        assert await bench.talk(request(Ask.READ_MEMORY, 1, address=80, length=8)) == answer(OK, 1, struct.pack("<Q", 10))
        assert await bench.talk(request(Ask.READ_MEMORY, 127, address=81, length=8)) == answer(FIELD, 127)
        assert await bench.talk(write(Ask.WRITE_MEMORY, 127, 81, b"unlooked")) == answer(OK, 127)
        assert await bench.talk(request(77, 127)) == answer(FIELD, 127)
        bench.status(busy=True, ready=True)
        assert await bench.talk(request(Ask.READ_MEMORY, 127, address=80, length=8)) == answer(BUSY, 127)
        assert await bench.talk(write(Ask.WRITE_MEMORY, 127, 80, b"unlooked")) == answer(OK, 127)
        bench.status(busy=False, ready=True)
        await bench.talk(write(Ask.WRITE_MEMORY, 128, 0, b"finished"))

    simulate(script, unit=8)


def spoiled(rng: random.Random, frames: bytes, rate: float) -> list[tuple[int, bool]]:
    """Bytes as a bad line delivers them: some flipped, lost, doubled, inserted or with a wrong stop bit."""
    received = []
    for byte in frames:
        if rng.random() >= rate:
            received.append((byte, False))
            continue
        kind = rng.randrange(6)
        if kind == 0:
            received.append((byte ^ 1 << rng.randrange(8), False))
        elif kind == 1:
            received += [(byte, False), (rng.choice([FLAG, ESCAPE, byte, rng.randrange(256)]), False)]
        elif kind == 2:
            received.append((byte, True))
        elif kind == 3:
            received.append((rng.choice([FLAG, ESCAPE]), False))
        elif kind == 4:
            received += [(rng.randrange(256), rng.random() < 0.3) for _ in range(rng.randrange(12))]
    return received


@pytest.mark.parametrize("seed", range(3))
def test_bad_line(seed):
    """Random requests, right and wrong, replays and gaps, over a line that spoils bytes: the model's answers and effects, exactly."""
    rng = random.Random(seed)
    unit = rng.choice([1, 4, 16])

    async def script(bench):
        for _ in range(8):
            bench.status(busy=rng.random() < 0.2, ready=rng.random() < 0.9)
            frames = b""
            number = bench.board.expected
            while len(frames) < 400:
                kind = rng.choice([Ask.HELLO, *[1, 2, 3, 4] * 6, 9])
                group = unit if kind > 2 else 4
                length = group * rng.choice([1, 2, 3]) + (rng.random() < 0.05)
                address = group * rng.randrange(64) + (rng.random() < 0.05) + (rng.random() < 0.05) * rng.getrandbits(32) & 0xFFFFFFFF
                sequence = number + rng.choice([0] * 12 + [-1, -1, -5, -127, -128, 1])
                data = payload(rng, length) if kind in (2, 4) else b""
                frame = request(kind, sequence, length=length, address=address, payload=data)
                frames += frame * rng.choice([1, 1, 1, 1, 2])
                number += sequence == number
            await bench.talk(spoiled(rng, frames, rng.choice([0, 0.003, 0.02])))

    board = simulate(script, unit=unit, seed=seed, gaps=rng.choice([0, 2]), stalls=rng.choice([0, 0.6]), pause=rng.choice([0, 0.5]),
                     latency=rng.choice([1, 2, 20]))
    assert all(board.statuses.count(status) > 3 for status in (OK, FIELD, REPEAT)) and board.effects


@pytest.mark.parametrize("pause, latency", [(0.0, 1), (0.97, 2), (0.5, 100)])
def test_slow_memory(pause, latency):
    async def script(bench):
        await bench.talk(request(Ask.HELLO, 0))
        for number in range(1, 9, 2):
            await bench.talk(write(Ask.WRITE_MEMORY, number, 64 * number, payload(bench.rng, 64))
                             + request(Ask.READ_MEMORY, number + 1, address=64 * number, length=64))

    simulate(script, unit=8, seed=int(100 * pause), pause=pause, latency=latency)


def test_full_buffer():
    """Memory stands still until a host has as many bytes under way as it may; none is lost."""
    async def script(bench):
        await bench.talk(request(Ask.HELLO, 0))
        rng, frames, number, last = random.Random(3), b"", 1, 2047
        while len(frame := write(Ask.WRITE_MEMORY, number, 16 * number, payload(rng, 16))) + len(frames) <= last:
            frames, number = frames + frame, number + 1
        frames = bytes([FLAG] * (last - len(frames))) + frames
        assert len(frames) == last
        bench.memory.pause = 1.0        # accepts nothing
        expected = bench.board.feed([(byte, False) for byte in frames])
        bench.sent, bench.waiting = b"", [(byte, False) for byte in frames]
        await bench.ctx.tick().repeat(last + 500)
        assert not bench.waiting and not bench.sent
        bench.memory.pause = 0.0
        await bench.ctx.tick().repeat(10000)
        assert bench.sent == expected

    board = simulate(script, unit=16)
    assert len(board.effects) > 50


def test_refused():
    def identity(**changes):
        return Identity(**({"unit": 8, "clock_khz": 1, "memory_bytes": 1 << 20, "config": "c", "board": "b"} | changes))

    assert refused(lambda: HostLink(config(4), identity())) == "identity.unit = 8 must be 4 bytes (memory.bytes_per_cycle)"
    assert "memory_bytes = 1000 must be a power of two" in refused(lambda: HostLink(config(8), identity(memory_bytes=1000)))
    wide = Config(array=Array(side=64), buffers=Buffers(moving_words=2048), memory=Memory(bytes_per_cycle=512))
    assert refused(lambda: HostLink(wide, identity(unit=512))) == (
        "memory.bytes_per_cycle = 512 is outside 1..256 bytes (payload of a frame)")

"""The host's end of the link against the board's rules: exact on any line, within the board's buffer, and not too slow."""

import random

import numpy as np
import pytest

from gen.config import Config
from gen.link import RECEIVE_BYTES, Request, Status
from sw.runtime import frame, transfer
from sw.runtime.errors import MachineError
from sw.runtime.link import Link
from tb.link import rules
from tb.link.line import Line
from tb.link.machine import ToyMachine

TINY, SMALL = Config.load("tiny"), Config.load("small")
BAD: dict = {"drop": 0.01, "flip": 0.01}      # of the bytes, each way


@pytest.fixture(autouse=True)
def same_numbers():
    """Sessions begin with the same numbers in every run."""
    random.seed(1)


def linked(line: Line) -> Link:
    """A link with a session."""
    host = Link(line)
    host.hello()
    host.unit = line.machine.unit
    return host


# Frames: expected bytes from the contract and published CRCs

def test_crc_of_the_toy():
    assert rules.crc32(b"123456789") == 0xCBF43926 and rules.crc32(bytes(8)) == 0x6522DF69


def test_request_bytes():
    assert frame.request(Request.HELLO, 256) == bytes.fromhex("7e 0000000000000000 69df2265 7e")
    data = frame.request(Request.WRITE_MEMORY, 0x7E, address=0x7D000000, length=4, payload=bytes([0x7E, 0x7D, 0x5E, 0x5D]))
    assert data[1:].startswith(bytes.fromhex("04 7d5e 0400 0000007d5d 7d5e7d5d5e5d")) and data.count(0x7E) == 2
    assert rules.plain(data[1:-1]) == bytes.fromhex("047e04000000007d7e7d5e5d")


@pytest.mark.parametrize("size", [0, 1, 47, 256])
def test_answers(size):
    payload = bytes(random.Random(size).choices([0x7D, 0x7E, 0x5D, 0x5E, 0, 255], k=size))
    data = rules.escaped(bytes([0, 200]) + size.to_bytes(2, "little") + payload)
    answers = frame.Answers()
    assert [answer for byte in b"~~" + data for answer in answers.feed(bytes([byte]))] == [(0, 200, payload)]
    for at in range(len(data) - 1):
        assert frame.answer(data[:at] + bytes([data[at] ^ 4]) + data[at + 1:-1]) is None, at
        assert frame.answer(data[:at] + data[at + 1:-1]) is None, at


@pytest.mark.parametrize("content", ["00", "0000", "000001", "00000100", "0000030000", "04000000", "ff000000"])
def test_answers_that_are_none(content):
    """A right CRC does not help a wrong length or an unknown status."""
    assert frame.answer(rules.escaped(bytes.fromhex(content))[:-1]) is None


def test_endless_garbage_is_bounded():
    answers = frame.Answers()
    for _ in range(100):
        assert answers.feed(bytes(1000)) == []
    assert len(answers._rest) < 1000 and answers.feed(b"~" + rules.escaped(bytes(4))) == [None, (0, 0, b"")]


# Whole transfers

def check(line: Line, seed: int, transfers: int):
    """Random writes, reads and starts; memory, what is read and the number of starts must be as meant."""
    generator, host = random.Random(seed), linked(line)
    unit, size = line.machine.unit, len(line.machine.memory)
    wanted = bytearray(size)
    for number in range(transfers):
        first = generator.randrange(size // unit) * unit
        length = min(size - first, unit * generator.choice([1, 3, 20, 70]))
        data = generator.randbytes(length)
        host.write(Request.WRITE_MEMORY, first, data)
        wanted[first:first + length] = data
        assert line.machine.memory == wanted, (seed, number)
        first, length = max(0, first - 5 * unit), min(length + 9 * unit, size - first)
        assert host.read(Request.READ_MEMORY, first, length) == wanted[first:first + length], (seed, number)
        host.write(Request.WRITE_REGISTERS, 0x18, number.to_bytes(4, "little") + bytes(4))
        host.write(Request.WRITE_REGISTERS, 8, b"\1\0\0\0")
        assert line.machine.starts == number + 1, (seed, number)
        while host.read(Request.READ_REGISTERS, 12, 4)[0] & 1:
            pass
        assert host.read(Request.READ_REGISTERS, 0x18, 4) == number.to_bytes(4, "little")


@pytest.mark.parametrize("noise", [{}, BAD, {"drop": 0.001, "flip": 0.001, "insert": 0.001}, {"insert": 0.02}], ids=str)
@pytest.mark.parametrize("seed", range(4))
def test_exact(monkeypatch, noise: dict, seed):
    line = Line(ToyMachine(SMALL if seed & 1 else TINY, memory_bytes=8192, slow=1), seed=seed, **noise,
                latency=[1e-5, 1e-3, 2e-2, 1e-4][seed], work=[1e-5, 1e-4, 1e-3, 1e-1][seed]).use(monkeypatch)
    check(line, seed, 6)
    print(f"seed {seed}: {line.frames} frames, {line.bytes_in} bytes, {line.most} at most in the buffer, {line.clock.now - 1000:.2f} s")
    assert line.most <= RECEIVE_BYTES


def test_noise_would_be_noticed(monkeypatch):
    """Without its CRC a frame in this noise is soon wrong: the test above is one."""
    real = frame.answer

    def careless(part: bytes):
        content = b"".join(bytes([piece[0] ^ 0x20]) + piece[1:] if n else piece for n, piece in enumerate(part.split(b"\x7d")) if piece)
        status, length = content[:1], int.from_bytes(content[2:4], "little")
        return real(part) or ((Status.OK, content[1], content[4:-4]) if status == b"\0" and length == len(content) - 8 else None)

    monkeypatch.setattr(frame, "answer", careless)
    with pytest.raises((AssertionError, MachineError)):
        for seed in range(20):
            check(Line(ToyMachine(TINY, memory_bytes=8192, slow=1), seed=seed, **BAD).use(monkeypatch), seed, 6)


def test_repetition_would_be_noticed(monkeypatch):
    """A host that gives a repeated request a number of its own would start a program twice."""
    real = transfer.Transfer.send

    def careless(self, item, now):
        if item.asked and item.sent is None and len(self.waiting) == 1:
            del self.waiting[item.number]
            item.number = self.link.next
            self.link.next += 1
            self.waiting[item.number] = item
        return real(self, item, now)

    monkeypatch.setattr(transfer.Transfer, "send", careless)
    with pytest.raises((AssertionError, MachineError)):
        for seed in range(20):
            check(Line(ToyMachine(TINY, memory_bytes=8192, slow=1), seed=seed, **BAD).use(monkeypatch), seed, 6)


@pytest.mark.parametrize("line, rate", [({}, 150_000), ({"latency": 8e-3}, 60_000), ({**BAD, "latency": 2e-4}, 4_000),
                                        ({"drop": 1e-4, "flip": 1e-4}, 60_000)], ids=str)
def test_rate(monkeypatch, line, rate):
    """Bytes a second over 2 Mbaud (200,000 on the line), both ways."""
    line = Line(ToyMachine(SMALL, memory_bytes=1 << 16), seed=3, **line).use(monkeypatch)
    host, data = linked(line), np.random.default_rng(3).bytes(1 << 13 if line.noise_in.drop > 0.001 else 1 << 16)
    start = line.clock.now
    host.write(Request.WRITE_MEMORY, 0, data)
    middle = line.clock.now
    assert host.read(Request.READ_MEMORY, 0, len(data)) == data
    rates = len(data) / (middle - start), len(data) / (line.clock.now - middle)
    print(f"{rates[0]:,.0f} and {rates[1]:,.0f} bytes a second, {line.most} bytes at most in the buffer")
    assert min(rates) > rate and line.most <= RECEIVE_BYTES


@pytest.mark.parametrize("work", [0.02, 0.3, 2.0])
def test_slow_board(monkeypatch, work):
    """A board that takes long for every frame is not sent much twice."""
    line = Line(ToyMachine(SMALL, memory_bytes=1 << 14), work=work).use(monkeypatch)
    host, data = linked(line), np.random.default_rng(1).bytes(1 << 14)
    host.write(Request.WRITE_MEMORY, 0, data)
    assert line.machine.memory == data
    frames = line.frames
    assert host.read(Request.READ_MEMORY, 0, 1 << 14) == data
    print(f"{frames} and {line.frames - frames} frames for 64 and more")
    assert line.frames < 2 * 64 + 40 and line.most <= RECEIVE_BYTES


def test_payload_follows_the_line(monkeypatch):
    line = Line(ToyMachine(SMALL)).use(monkeypatch)
    host = linked(line)
    host.write(Request.WRITE_MEMORY, 0, bytes(1 << 14))
    assert host.pace.payload == 256
    line.noise_in.flip = line.noise_out.flip = 0.02
    host.write(Request.WRITE_MEMORY, 0, bytes(1 << 12))
    assert host.pace.payload <= 128
    line.noise_in.flip = line.noise_out.flip = 0.0
    host.write(Request.WRITE_MEMORY, 0, bytes(1 << 14))
    assert host.pace.payload == 256


def test_busy_for_a_while(monkeypatch):
    line = Line(ToyMachine(SMALL)).use(monkeypatch)
    host = linked(line)
    line.machine.not_ready = 40
    host.write(Request.WRITE_MEMORY, 64, b"12345678" * 100)
    assert line.machine.memory[64:864] == b"12345678" * 100
    line.machine.not_ready = 10**9
    with pytest.raises(MachineError, match="device = 'line': its memory is not ready after 10 seconds"):
        host.read(Request.READ_MEMORY, 64, 800)


def test_refused(monkeypatch):
    host = linked(Line(ToyMachine(SMALL)).use(monkeypatch))
    with pytest.raises(MachineError, match="device = 'line' refuses READ_MEMORY of 8 bytes at 0x10000"):
        host.read(Request.READ_MEMORY, 1 << 16, 8)
    assert len(host.read(Request.READ_MEMORY, 0, 8)) == 8


def test_line_falls_silent(monkeypatch):
    line = Line(ToyMachine(SMALL)).use(monkeypatch)
    host = linked(line)
    line.noise_out.drop = 1.0
    start = line.clock.now
    with pytest.raises(MachineError, match="device = 'line' has gone: no answer in 10 seconds"):
        host.write(Request.WRITE_MEMORY, 0, bytes(1 << 14))
    assert 10 <= line.clock.now - start < 20 and line.most <= RECEIVE_BYTES


def test_session_after_a_broken_one(monkeypatch):
    """Requests of a host that was killed are still being answered when the next one begins."""
    for seed in range(30):
        line = Line(ToyMachine(SMALL), work=0.05).use(monkeypatch)
        random.seed(seed)
        first = random.sample(range(256), 2)[0]     # the worst case: the first number that the new host will draw, already there
        line.machine.memory[:] = bytes([1]) * (1 << 16)
        for _ in range(2):
            line.write(frame.request(Request.HELLO, first))
        for number in range(1, 20):
            line.write(frame.request(Request.READ_MEMORY, first + number, address=0, length=8))
        line.advance(line.clock.now + 0.5)
        line.machine.memory[:] = bytes([2]) * (1 << 16)
        random.seed(seed)
        host = linked(line)
        assert host.read(Request.READ_MEMORY, 0, 8) == bytes([2]) * 8, seed


# The board's rules

def test_replay():
    """What was carried out before is answered again, and writes are not carried out again."""
    machine = ToyMachine(SMALL)
    board = rules.Rules(machine)

    def ask(kind, sequence, address=0, payload=b"", length=None):
        length = len(payload) if length is None else length
        return board.content(bytes([kind, sequence]) + length.to_bytes(2, "little") + address.to_bytes(4, "little") + payload)

    assert ask(rules.HELLO, 7)[:2] == bytes([rules.OK, 7]) and board.expected == 8
    assert ask(rules.WRITE_MEMORY, 8, 0, b"firstone") == bytes([rules.OK, 8, 0, 0])
    assert ask(rules.WRITE_MEMORY, 8, 0, b"secondon") == bytes([rules.OK, 8, 0, 0]) and machine.memory[:8] == b"firstone"
    assert ask(rules.WRITE_MEMORY, 10, 0, b"secondon") == bytes([rules.REPEAT, 9, 0, 0]) and machine.memory[:8] == b"firstone"
    assert ask(rules.READ_MEMORY, 8, 0, length=8) == bytes([rules.OK, 8, 8, 0]) + b"firstone" and board.expected == 9
    assert ask(rules.WRITE_MEMORY, 9, 4, b"secondon") == bytes([rules.FIELD, 9, 0, 0]) and board.expected == 9
    assert ask(rules.READ_MEMORY, (9 - 127) % 256, 0, length=8)[0] == rules.OK
    assert ask(rules.READ_MEMORY, (9 - 128) % 256, 0, length=8)[:2] == bytes([rules.REPEAT, 9])
    assert board.content(None) == bytes([rules.REPEAT, 9, 0, 0]) and ask(rules.READ_MEMORY, 9, 0, b"?", 8) == bytes([rules.REPEAT, 9, 0, 0])

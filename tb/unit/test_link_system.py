"""From pin to pin: UART, host link, shared memory on chip and the register file, with a host whose clock is off."""

import random
import struct

import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator

from gen.config import Config, Memory
from gen.link import Identity
from gen.presets import PRESETS
from gen.registers import IDENTITY
from rtl.control.registers import RegisterFile
from rtl.link.host_link import HostLink
from rtl.link.memory_share import MemoryShare
from rtl.link.uart import UartReceiver, UartTransmitter
from rtl.memory.on_chip import OnChipMemory
from tb.unit.link_model import BUSY, FLAG, OK, REPEAT, Ask, answer, request, write

TINY = Config(array=PRESETS["tiny"].array, buffers=PRESETS["tiny"].buffers, memory=Memory(bytes_per_cycle=4, latency=3))
SIZE = 1 << 10


class System(wiring.Component):
    """What a board has, without a machine: `busy` is a port, `starts` counts."""

    def __init__(self, divisor: int):
        self.divisor = divisor
        super().__init__({"rx": In(1, init=1), "tx": Out(1), "busy": In(1), "starts": Out(8)})  # type: ignore

    def elaborate(self, platform):
        m = Module()
        m.submodules.receiver = receiver = UartReceiver(divisor=self.divisor)
        m.submodules.transmitter = transmitter = UartTransmitter(divisor=self.divisor)
        m.submodules.link = link = HostLink(TINY, Identity(unit=4, clock_khz=1, memory_bytes=SIZE, config=TINY.digest(), board="bench"))
        m.submodules.registers = registers = RegisterFile(TINY)
        m.submodules.share = share = MemoryShare(TINY)
        m.submodules.memory = memory = OnChipMemory(TINY, size_bytes=SIZE)
        wiring.connect(m, receiver.bytes, link.received)
        wiring.connect(m, link.sent, transmitter.bytes)
        wiring.connect(m, link.registers, registers.bus)
        wiring.connect(m, link.memory, share.link)
        wiring.connect(m, share.memory, memory.port)
        m.d.comb += [
            receiver.rx.eq(self.rx), self.tx.eq(transmitter.tx), link.memory_ready.eq(1),
            link.busy.eq(self.busy), share.running.eq(self.busy), registers.busy.eq(self.busy)]
        m.d.sync += self.starts.eq(self.starts + registers.start)
        return m


@pytest.mark.parametrize("divisor, pace", [(4, 1.02), (5, 0.98)])
def test_from_pin_to_pin(divisor, pace):
    rng, system = random.Random(divisor), System(divisor)
    data = bytes([FLAG, 0x7D, *rng.randbytes(254)])
    digest = TINY.digest().encode()

    async def exchange(ctx, frames: bytes, expected: bytes):
        """Send at the host's pace; sample the answer at the board's. Both at once."""
        bits = [bit for byte in frames for bit in (0, *(byte >> i & 1 for i in range(8)), 1)] + [1]
        got, left, shift = b"", 0, 0
        for cycle in range(len(bits) * divisor * 2 + 10 * divisor * (len(expected) + 4)):
            ctx.set(system.rx, bits[min(int(cycle / (divisor * pace)), len(bits) - 1)])
            level = ctx.get(system.tx)
            if not left and not level:
                left = 10 * divisor
            if left:
                left -= 1
                if left % divisor == divisor // 2:
                    shift = shift >> 1 | level << 9
                if not left:
                    assert shift >> 9 and not shift & 1
                    got += bytes([shift >> 1 & 255])
            await ctx.tick()
            if len(got) == len(expected) and not left and cycle > len(bits) * divisor * pace:
                break
        assert got == expected

    async def bench(ctx):
        hello = struct.pack("<4sHHII16s16s", b"FWLK", 1, 4, 1, SIZE, digest, b"bench")
        await exchange(ctx, bytes([0x55, FLAG]) + request(Ask.HELLO, 3), answer(REPEAT, 0) + answer(OK, 3, hello))
        await exchange(ctx, write(Ask.WRITE_MEMORY, 4, 0x100, data) + request(Ask.READ_MEMORY, 5, length=64, address=0x140)
                       + request(Ask.READ_REGISTERS, 6, length=4), answer(OK, 4) + answer(OK, 5, data[64:128])
                       + answer(OK, 6, struct.pack("<I", IDENTITY)))
        start = write(Ask.WRITE_REGISTERS, 7, 8, struct.pack("<I", 1))
        await exchange(ctx, start + start, answer(OK, 7) * 2)
        assert ctx.get(system.starts) == 1
        ctx.set(system.busy, 1)
        await exchange(ctx, request(Ask.READ_MEMORY, 8, length=4) + request(Ask.READ_REGISTERS, 8, length=4, address=12),
                       answer(BUSY, 8) + answer(OK, 8, struct.pack("<I", 1)))
        ctx.set(system.busy, 0)
        await exchange(ctx, request(Ask.READ_MEMORY, 9, length=4, address=0x1FC), answer(OK, 9, data[252:]))

    simulator = Simulator(system)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()

"""A simulated `UnitPort` as a host sees it, one access after the other."""

from typing import Any

from amaranth.sim import Simulator

from gen.config import Config
from gen.timing import FETCH_LATENCY
from rtl.link.unit_port import UnitPort

PATIENCE = 10_000       # cycles in which a request must be taken


class SimulatedUnit:
    """The link that `sw.runtime.unit_board` needs, without frames: every call steps the simulation. `calls` counts them by name."""

    def __init__(self, config: Config):
        self.config, self.beat, self.cycle = config, config.memory.bytes_per_cycle, 0
        self.dut, self.calls = UnitPort(config), {}
        self._job = self._result = None
        self._simulator = Simulator(self.dut)
        self._simulator.add_clock(1e-6)
        self._simulator.add_testbench(self._serve, background=True)

    async def _serve(self, ctx):
        while True:
            if self._job is None:
                await self.tick(ctx)     # so that there is a cycle between two calls
            else:
                self._result = await self._job(ctx)
                self._job = None

    async def tick(self, ctx):
        """Let a cycle pass."""
        self.cycle += 1
        await ctx.tick()

    def do(self, job) -> Any:
        """Run a coroutine function of the simulation's context, and return what it returns."""
        self._job = job
        while self._job is not None:
            self._simulator.advance()
        return self._result

    async def request(self, ctx, address: int, data: int | None) -> int:
        """Offer one beat until it is taken, and return the cycles it waited."""
        port, waited = self.dut.memory.request, 0
        ctx.set(port.valid, 1)
        ctx.set(port.p, {"write": int(data is not None), "tag": 1, "last": 1, "beats": 1, "address": address, "data": data or 0})
        while not ctx.get(port.ready):
            waited += 1
            assert waited < PATIENCE
            await self.tick(ctx)
        await self.tick(ctx)
        ctx.set(port.valid, 0)
        return waited

    def read_memory(self, address: int, size: int) -> bytes:
        self._count("read_memory")

        async def job(ctx):
            data, response = b"", self.dut.memory.response
            for at in range(address, address + size, self.beat):
                await self.request(ctx, at, None)
                for _ in range(FETCH_LATENCY - 1):
                    assert not ctx.get(response.valid)
                    await self.tick(ctx)
                assert ctx.get(response.valid) and ctx.get(response.p.tag) == 1
                data += ctx.get(response.p.data).to_bytes(self.beat, "little")
            return data
        return self.do(job)

    def write_memory(self, address: int, data: bytes):
        self._count("write_memory")

        async def job(ctx):
            for at in range(0, len(data), self.beat):
                await self.request(ctx, address + at, int.from_bytes(data[at:at + self.beat], "little"))
        self.do(job)

    def read_registers(self, offset: int, count: int) -> list[int]:
        self._count("read_registers")

        async def job(ctx):
            bus, values = self.dut.registers, []
            for at in range(offset, offset + 4 * count, 4):
                ctx.set(bus.address, at)
                await self.tick(ctx)
                values.append(ctx.get(bus.read_data))
            return values
        return self.do(job)

    def _count(self, name: str):
        self.calls[name] = self.calls.get(name, 0) + 1

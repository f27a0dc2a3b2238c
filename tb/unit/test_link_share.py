"""Memory share: two clients with requests at random, each with memory of its own, and a machine that starts and stops."""

import random

import pytest
from amaranth.sim import Simulator

from gen.presets import PRESETS
from rtl.link.memory_share import MemoryShare
from tb.unit.memory_model import MemoryModel

TINY = PRESETS["tiny"]      # 4 bytes a beat


class Client:
    """Reads and writes `base` .. `base` + 255, one beat at a time or many; knows what every read must bring."""

    def __init__(self, port, base: int, rng: random.Random):
        self.port, self.base, self.rng = port, base, rng
        self.contents, self.awaited = bytearray(256), []
        self.offered, self.served, self.answered = None, 0, 0

    def offer(self, ctx, willing: bool):
        """A new cycle: a request stands until it is taken."""
        if self.offered is None and willing and self.rng.random() < 0.7:
            self.offered = {"write": self.rng.randrange(2), "address": self.base + 4 * self.rng.randrange(64),
                            "data": self.rng.getrandbits(32), "tag": self.rng.randrange(3), "beats": 1, "last": 1}
        ctx.set(self.port.request.valid, self.offered is not None)
        if self.offered is not None:
            ctx.set(self.port.request.payload, self.offered)

    def watch(self, ctx):
        """The end of a cycle."""
        if ctx.get(self.port.response.valid):
            answer = ctx.get(self.port.response.payload)
            assert (answer.tag, answer.data) == self.awaited.pop(0)
            self.answered += 1
        request = self.offered
        if request is not None and ctx.get(self.port.request.ready):
            self.served += 1
            self.offered = None
            place = slice(request["address"] - self.base, request["address"] - self.base + 4)
            if request["write"]:
                self.contents[place] = request["data"].to_bytes(4, "little")
            else:
                self.awaited.append((request["tag"], int.from_bytes(self.contents[place], "little")))

    @property
    def idle(self) -> bool:
        return self.offered is None and not self.awaited


@pytest.mark.parametrize("seed, pause, latency", [(1, 0.0, 1), (2, 0.6, 5), (3, 0.2, 40)])
def test_share(seed, pause, latency):
    print(f"seed {seed}")
    rng = random.Random(seed)
    share = MemoryShare(TINY)
    memory = MemoryModel(share.memory.request, share.memory.response, data=bytearray(512), latency=latency, beat=4, pause=pause, seed=seed)
    machine, link = Client(share.machine, 0, rng), Client(share.link, 256, rng)
    waited = []

    async def bench(ctx):
        running, left, pending = False, 20, None
        for _ in range(2500):
            left -= 1
            if left < 0 and (not running or machine.idle):      # a machine ends when nothing of it is under way
                running, left = not running, rng.choice([5, 60, 200])
            before = link.served
            ctx.set(share.running, running)
            machine.offer(ctx, running and left > 0)
            link.offer(ctx, True)                               # whether the machine runs or not
            valid, payload = ctx.get(share.memory.request.valid), ctx.get(share.memory.request.payload)
            if pending is not None:                             # what stood on the port unaccepted stands there still
                assert valid and {name: payload[name] for name in pending} == pending
            taken = valid and ctx.get(share.memory.request.ready)
            pending = {name: int(payload[name]) for name in ("write", "address", "data", "tag")} if valid and not taken else None
            awaited = len(link.awaited)
            machine.watch(ctx)
            link.watch(ctx)
            if machine.awaited and link.served > before:
                raise AssertionError("the link's request passed among the machine's reads")
            if awaited and machine.awaited:
                raise AssertionError("a machine's read left among the link's")
            waited.append(running and link.offered is not None)
            await ctx.tick()

    simulator = Simulator(share)
    simulator.add_clock(1e-6)
    simulator.add_testbench(memory.process, background=True)
    simulator.add_testbench(bench)
    simulator.run()
    assert machine.answered > 30 and link.answered > 30 and sum(waited) > 50


def test_no_cycle_is_lost():
    """The machine's first request, the cycle after `running` rises, passes at once; the link's, the cycle after it falls, too."""
    share = MemoryShare(TINY)

    async def bench(ctx):
        ctx.set(share.memory.request.ready, 1)
        for running, client, other in ((1, share.machine, share.link), (0, share.link, share.machine)) * 2:
            ctx.set(share.running, running)
            await ctx.tick()
            ctx.set(client.request.valid, 1)
            ctx.set(client.request.p.address, 0x40)
            ctx.set(client.request.p.write, 1)
            assert ctx.get(share.memory.request.valid) and ctx.get(client.request.ready) and not ctx.get(other.request.ready)
            assert ctx.get(share.memory.request.p.address) == 0x40
            await ctx.tick()
            ctx.set(client.request.valid, 0)
            await ctx.tick()

    simulator = Simulator(share)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()

"""Arbiter: round robin between bursts, against a few lines of Python, with random clients and a port that pauses."""

import random

import pytest
from amaranth.sim import Simulator

from gen.presets import PRESETS
from rtl.memory.arbiter import Arbiter


class Client:
    """Offers bursts of random length after random pauses."""

    def __init__(self, rng: random.Random, number: int):
        self.rng, self.number, self.left, self.pause = rng, number, 0, rng.randrange(8)

    def step(self):
        """A new cycle."""
        if not self.left:
            if self.pause:
                self.pause -= 1
            else:
                self.left = self.rng.choice([1, 1, 2, 5])

    def accepted(self):
        self.left -= 1
        if not self.left:
            self.pause = self.rng.choice([0, 0, 1, 6])


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_round_robin_between_bursts(seed):
    print(f"seed {seed}")
    rng = random.Random(seed)
    arbiter = Arbiter(PRESETS["tiny"])
    clients = [Client(rng, number) for number in range(3)]
    served = [0, 0, 0]

    async def bench(ctx):
        last, holder = 2, None
        for cycle in range(600):
            ready, enable = rng.random() < (1.0 if cycle < 200 else 0.6), cycle % 100 < 90
            ctx.set(arbiter.port.ready, ready)
            ctx.set(arbiter.enable, enable)
            for client, stream in zip(clients, arbiter.clients):
                client.step()
                ctx.set(stream.valid, client.left > 0)
                ctx.set(stream.payload, {"tag": client.number, "beats": client.left, "last": client.left == 1, "address": cycle,
                                         "data": 0, "write": 0})
            assert ctx.get(arbiter.locked) == (holder is not None)
            if holder is None and enable:
                holder = next((n for n in ((last + 1) % 3, (last + 2) % 3, last) if clients[n].left), None)
            assert ctx.get(arbiter.port.valid) == (holder is not None)
            for number, stream in enumerate(arbiter.clients):
                assert ctx.get(stream.ready) == (number == holder and ready) or holder is None
            if holder is not None:
                payload = ctx.get(arbiter.port.payload)
                assert (payload.tag, payload.beats, payload.address) == (holder, clients[holder].left, cycle)
                last = holder
                if ready:
                    served[holder] += 1
                    clients[holder].accepted()
                    if not clients[holder].left:
                        holder = None
            await ctx.tick()

    simulator = Simulator(arbiter)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert min(served) > 50

"""MemorySystem: channels behind one port, and the link of the packet interface, to the cycle."""

import random
from typing import Any

import pytest
from amaranth.hdl import Value
from amaranth.sim import Simulator

from gen.dram import LINK_LATENCY, DramConfig
from gen.nda import Operation, pack
from rtl.memory.memory_system import MemorySystem
from tb.unit.dram_rank import Ranks, small_part
from tb.unit.test_address_map import mapped


class Run:
    """Offers (gap, write, block, data) in order; reads must return what was written last. `after(ctx, dut, cycle)` sees every cycle."""

    def __init__(self, config, requests, *, after=None):
        self.config, self.requests, self.after = config, iter(requests), after
        self.dut = MemorySystem(config)
        self.ranks = [Ranks(config, seed) for seed in range(config.channels)]
        self.expected, self.waiting = {}, {}
        self.accepted, self.latencies, self.served = [], [], [0] * config.channels
        simulator = Simulator(self.dut)
        simulator.add_clock(1e-6)
        simulator.add_testbench(self._bench)
        simulator.run()

    def _fields(self, ctx, command, rank: int) -> tuple:
        bits, value, fields = self.config.field_bits, ctx.get(Value.cast(command)), []
        for width in (3, bits["bank"], bits["row"], bits["column"]):
            fields.append(value & (1 << width) - 1)
            value >>= width
        return rank, *fields

    async def _bench(self, ctx):
        config, port = self.config, self.dut.port
        entry, gap, tag, cycle, ended = None, 0, 0, 0, None
        while True:
            for number, (pins, ranks) in enumerate(zip(self.dut.channels, self.ranks)):
                host = self._fields(ctx, pins.pins.command, ctx.get(pins.pins.rank) if config.ranks > 1 else 0)
                near = [self._fields(ctx, self.dut.commands[number][rank], rank) for rank in range(config.ranks)]
                ctx.set(pins.read_data, ranks.step(cycle, host, near, ctx.get(pins.write_data), ctx.get(pins.write_mask)))
                if ctx.get(port.responses[number].valid):
                    value, since = self.waiting.pop(ctx.get(port.responses[number].p.tag))
                    assert ctx.get(port.responses[number].p.data) == value, f"cycle {cycle}"
                    self.latencies.append(cycle - since)
                    self.served[number] += 1
            quiet = ctx.get(port.quiet)
            assert not (quiet and [1 for _, since in self.waiting.values() if since < cycle])
            if self.after:
                self.after(ctx, self.dut, cycle)
            if entry is None and ended is None:
                entry = next(self.requests, None)
                gap = entry[0] if entry else 0
                ended = cycle if entry is None else None
            offered = entry if gap <= 0 else None
            gap -= 1
            ctx.set(port.request.valid, offered is not None)
            if offered:
                _, write, block, data = offered
                full = (1 << config.part.block_bytes) - 1
                ctx.set(port.request.payload, {"write": write, "tag": tag, "block": block, "data": data, "mask": full})
                if ctx.get(port.request.ready):
                    channel, *place = mapped(config, block)
                    if write:
                        self.expected[block] = data
                    else:
                        self.waiting[tag] = self.expected.get(block, self.ranks[channel].content(tuple(place))), cycle
                        self.expected.setdefault(block, self.waiting[tag][0])
                        tag += 1
                    self.accepted.append(cycle)
                    entry = None
            if quiet and ended is not None and cycle > ended + 2:
                break
            assert cycle < 8000
            await ctx.tick()
            cycle += 1
        assert not self.waiting


def config_of(**changes) -> DramConfig:
    base: dict[str, Any] = {"read_entries": 6, "write_entries": 6, "drain_high": 4, "drain_low": 2}
    return DramConfig(part=small_part(), **(base | changes))


@pytest.mark.parametrize("interface", ["ddr", "packet"])
@pytest.mark.parametrize("channels, ranks", [(1, 1), (2, 2)])
def test_random_requests(interface, channels, ranks):
    seed = 7
    print(f"seed {seed}")
    rng = random.Random(seed)
    config = config_of(interface=interface, channels=channels, ranks=ranks)
    pool = [rng.randrange(config.blocks // 2) for _ in range(40)]
    run = Run(config, [(rng.choice((0, 0, 0, 3)), rng.random() < 0.4, rng.choice(pool), rng.getrandbits(512)) for _ in range(220)])
    assert all(run.served)
    for block, value in run.expected.items():
        channel, *place = mapped(config, block)
        assert run.ranks[channel].blocks[tuple(place)] == value


@pytest.mark.parametrize("interface, way", [("ddr", 0), ("packet", 2 * LINK_LATENCY)])
def test_latency_of_a_single_read(interface, way):
    """ACT on the pins four cycles after acceptance, then tRCD, CL and the burst; the link's way there and back on top."""
    config = config_of(interface=interface)
    t = config.timing
    assert Run(config, [(3, False, 5, 0)]).latencies == [4 + t["tRCD"] + t["tCL"] + config.part.burst_cycles + way]


@pytest.mark.parametrize("interface", ["ddr", "packet"])
def test_one_request_a_cycle(interface):
    """Until the queue is full; the link's credits last for its whole delay."""
    config = config_of(interface=interface, read_entries=32)
    run = Run(config, [(0, False, number, 0) for number in range(36)])
    cycles = run.accepted[:34 if interface == "ddr" else 36]
    assert cycles == list(range(cycles[0], cycles[0] + len(cycles)))


@pytest.mark.parametrize("interface", ["ddr", "packet"])
def test_active_from_acceptance_to_the_end(interface):
    """`active` rises behind the launch's acceptance and falls when the unit is done (packet: LINK_LATENCY later)."""
    config = config_of(interface=interface, ranks=2, channels=2, hashed=False)
    last = config.part.row_blocks - 1
    register = next(b for b in range(config.blocks) if mapped(config, b) == (1, 0, 3, 63, 0))
    active, near = [], []

    def after(ctx, dut, cycle):
        active.append(ctx.get(dut.port.active))
        near.append(ctx.get(dut.commands[1][0].kind).value)

    data = int.from_bytes(pack(operation=Operation.COPY, blocks=last, x=0, w=1, streams=1), "little")
    run = Run(config, [(5, True, register, data)], after=after)
    assert set(active) == {0, 1 << 2}
    assert active.index(4) == run.accepted[0] + 1
    ended = max(cycle for cycle, kind in enumerate(near) if kind == 5)     # the last WR: busy falls as it comes on the pins
    assert len(active) - active[::-1].index(4) == ended + (LINK_LATENCY if interface == "packet" else 0)
    assert near.count(4) == near.count(5) == last

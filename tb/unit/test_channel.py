"""Channel: random requests against a dict, commands against the datasheet and, cycle by cycle, against a controller in Python."""

import random
from itertools import pairwise
from typing import Any

import pytest
from amaranth.hdl import Value
from amaranth.sim import Simulator

from gen.dram import DramConfig
from gen.nda import Operation, Policy, pack
from rtl.memory.channel import Channel
from tb.unit.channel_reference import ACT, RD, WR, ChannelReference, Request
from tb.unit.dram_rank import Ranks, small_part


class Host:
    """Drives a Channel: offers `requests` (an iterator over (gap, write, place, data, mask); place = rank, bank, row, column)."""

    def __init__(self, config, requests, *, seed: int, limit: int = 20_000, next_rank: bool = False, near_writes: int = 0):
        self.config, self.requests, self.limit = config, requests, limit
        self.next_rank, self.left = next_rank, [near_writes] * config.ranks    # the units' policy, and the writes each will do
        self.ranks = Ranks(config, seed)
        self.expected: dict[tuple, int] = {}     # contents in the order of acceptance
        self.waiting: dict[int, tuple] = {}      # tag -> place, data, cycle
        self.latencies: list[tuple] = []         # (place, cycles)
        self.accepted: list[tuple] = []          # (cycle, write, place)
        self.channel = Channel(config)
        self.reference = ChannelReference(config)
        self.launched = False                    # then the reference knows no commands, inhibit pins only
        self.busy_from = [limit] * config.ranks  # cycle from which a unit is at work; set by a launch
        self.quiet_at = 0
        self.was_active = 0

    def run(self, *, after: int = 0):
        """Until everything is quiet, and `after` cycles more."""
        simulator = Simulator(self.channel)
        simulator.add_clock(1e-6)
        simulator.add_testbench(self._bench)
        self.after = after
        simulator.run()
        assert not self.waiting
        assert {place: self.ranks.blocks[place] for place in self.expected} == self.expected
        return self

    def command(self, ctx, command, rank: int) -> tuple:
        """A command's fields as numbers; 0 where a field means nothing."""
        bits = self.config.field_bits
        value, fields = ctx.get(Value.cast(command)), []
        for width in (3, bits["bank"], bits["row"], bits["column"]):
            fields.append(value & (1 << width) - 1)
            value >>= width
        kind, bank, row, column = fields
        return (rank, kind, bank, row if kind == ACT else 0, column if kind in (RD, WR) else 0) if kind else (0,) * 5

    def _follow_launches(self, cycle: int, host: tuple, near: list[tuple]):
        """Which units are at work: from the cycle behind a descriptor's last beat until the last of their writes is on the rank."""
        rank, kind, bank, _, column = host
        last = self.config.part.all_banks - 1
        if kind == 5 and bank == last and self.reference.open[rank].get(last) == self.config.part.rows - 1 and column == 0:
            self.launched = True
            self.busy_from[rank] = cycle + self.config.timing["tCWL"] + self.config.part.burst_cycles
        for r, command in enumerate(near):
            self.left[r] -= command[1] == 5
            self.reference.predicts[r] = self.next_rank and cycle >= self.busy_from[r] and self.left[r] > 0

    async def _bench(self, ctx):
        channel, config = self.channel, self.config
        pins, request, response = channel.pins, channel.request, channel.response
        entry, gap, tag, ended, cycle = None, 0, 0, None, 0
        while True:
            host = self.command(ctx, pins.pins.command, ctx.get(pins.pins.rank) if config.ranks > 1 else 0)
            near = [self.command(ctx, channel.commands[rank], rank) for rank in range(config.ranks)]
            held = [ctx.get(Value.cast(pins.inhibit[rank])) for rank in range(config.ranks)]
            assert held == [a << 1 | b for a, b in zip(self.reference.hold_all, self.reference.hold_writes)], f"cycle {cycle}: inhibit"
            assert self.launched or host == self.reference.command, f"cycle {cycle}: {host}, not {self.reference.command}"
            self._follow_launches(cycle, host, near)
            data, mask = ctx.get(pins.write_data), ctx.get(pins.write_mask)
            ctx.set(pins.read_data, self.ranks.step(cycle, host, near, data, mask))
            if ctx.get(response.valid):
                place, value, since = self.waiting.pop(ctx.get(response.p.tag))
                assert ctx.get(response.p.data) == value, f"cycle {cycle}: {place} read wrong"
                self.latencies.append((place, cycle - since))
            if entry is None and ended is None:
                entry = next(self.requests, None)
                gap = entry[0] if entry else 0
                ended = cycle if entry is None else None
            offered = entry if gap <= 0 else None
            gap -= 1
            ctx.set(request.valid, offered is not None)
            self.reference.step(host, near, Request(offered[1], *offered[2]) if offered else None)
            assert ctx.get(request.ready) == self.reference.ready
            if offered:
                _, write, place, data, mask = offered
                ctx.set(request.payload, {"write": write, "tag": tag if not write else 0x155, "data": data, "mask": mask,
                                              "location": dict(zip(("rank", "bank", "row", "column"), place))})
                if ctx.get(request.ready):
                    before = self.expected.get(place)
                    if before is None:
                        before = self.expected[place] = self.ranks.content(place)
                    if write:
                        for byte in range(config.part.block_bytes):
                            if mask >> byte & 1:
                                before = before & ~(0xff << 8 * byte) | data & 0xff << 8 * byte
                        self.expected[place] = before
                    else:
                        assert tag not in self.waiting
                        self.waiting[tag] = place, before, cycle
                        tag = (tag + 1) % 1024
                    self.accepted.append((cycle, write, place))
                    entry = None
            self.was_active |= ctx.get(channel.active)
            quiet = ctx.get(channel.quiet)
            assert not (quiet and [since for _, _, since in self.waiting.values() if since < cycle])
            if quiet and ended is not None and cycle > ended + 40:
                self.quiet_at = self.quiet_at or cycle
            if self.quiet_at and cycle >= self.quiet_at + max(self.after, 20):    # write data may still be on its way
                break
            assert cycle < self.limit
            await ctx.tick()
            cycle += 1
        self.cycles = cycle


def random_requests(config, rng: random.Random, count: int, *, rows=(0, 1, 2), banks=None):
    """Phases with other shares of writes, other gaps and other locality."""
    part = config.part
    share, pause, near = 0.3, 0, 0.5
    place = (0, 0, 0, 0)
    for number in range(count):
        if number % 60 == 0:
            share, pause, near = rng.choice((0, 0.3, 0.5, 0.9, 1)), rng.choice((0, 0, 4, 40)), rng.choice((0.1, 0.6, 0.9))
        if rng.random() < near:
            place = (*place[:3], (place[3] + rng.choice((0, 1))) % part.row_blocks)
        else:
            place = (rng.randrange(config.ranks), rng.choice(banks or range(part.all_banks)), rng.choice(rows), rng.randrange(4))
        bits = 8 * part.block_bytes
        full = (1 << part.block_bytes) - 1
        yield (rng.randrange(pause + 1), rng.random() < share, place, rng.getrandbits(bits),
               rng.choice((full, full, rng.getrandbits(part.block_bytes))))


def config_of(family: str, **changes) -> DramConfig:
    """Small queues, so that they are full now and then."""
    base: dict[str, Any] = {"read_entries": 6, "write_entries": 8, "drain_high": 6, "drain_low": 2, "patience": 150}
    if family == "sdr":
        base |= {"reserved": 0, "read_entries": 4}
    return DramConfig(part=small_part(family), **(base | changes))


CONFIGS = {
    "ranks=2": config_of("ddr4", ranks=2), "ranks=1": config_of("ddr4"), "reserved=0": config_of("ddr4", ranks=2, reserved=0),
    "ranks=4": config_of("ddr4", ranks=4, write_entries=5, drain_high=5), "sdr": config_of("sdr"),
}


@pytest.mark.parametrize("name, seed", [(name, seed) for name in CONFIGS for seed in ((1,) if name == "ranks=4" else (1, 2))])
def test_random_requests(name, seed):
    print(f"seed {seed}")
    config = CONFIGS[name]
    host = Host(config, random_requests(config, random.Random(seed), 240), seed=seed).run(after=2 * config.gaps.refi)
    kinds = {entry[2] for entry in host.ranks.log}
    assert kinds == {"ACT", "PRE", "PREA", "RD", "WR", "REF"}
    # Every date has passed with its refresh; one that has just come due may be under way.
    for rank, done in enumerate(host.ranks.refreshes):
        owed = [t for t in range(host.cycles) if t % config.gaps.refi == (rank + 1) * config.gaps.refi // config.ranks - 1]
        assert len([t for t in owed if t < host.cycles - 100]) <= done <= len(owed)


@pytest.mark.parametrize("policy", [Policy.NONE, Policy.STOCHASTIC_4, Policy.NEXT_RANK])
def test_beside_near_data_units(policy):
    """A unit copies while the host works in the other banks and now and then in its own: both keep the rank's minima."""
    seed = 10 + policy
    print(f"seed {seed}")
    config = config_of("ddr4", ranks=2)
    rng = random.Random(seed)

    def requests():
        for rank in (0, 1):
            descriptor = pack(operation=Operation.COPY, policy=policy, blocks=40, x=0, w=1, streams=1, seed=5)
            yield 0, True, (rank, 3, 63, 0), int.from_bytes(descriptor, "little"), (1 << 64) - 1
        yield from random_requests(config, rng, 90, banks=(0, 1))
        yield from random_requests(config, rng, 30, rows=(3, 35), banks=(2, 3))    # frame 3: none of the unit's
        yield from random_requests(config, rng, 60, banks=(0, 1))

    host = Host(config, requests(), seed=seed, next_rank=policy == Policy.NEXT_RANK, near_writes=40).run()
    for rank in (0, 1):
        own = [entry for entry in host.ranks.log if entry[6] and entry[1] == rank]
        assert [len([e for e in own if e[2] == kind]) for kind in ("RD", "WR")] == [40, 40]
        assert all(entry[3] >= 2 for entry in own)
    assert host.was_active == 3 and host.ranks.log[-1][0] < host.quiet_at + 50


def test_launch_registers_come_after_all_that_is_older():
    """A write to a launch register overtakes nothing, though its row is open; others may overtake it."""
    config = config_of("ddr4", write_entries=16, drain_high=14)
    columns = [3, 1, 7, 5, 0]

    def requests():
        for column in columns:
            yield 0, True, (0, 1, column % 3, column), 1, (1 << 64) - 1
            data = b"" if column else pack(operation=Operation.COPY, blocks=6, x=4, w=5, streams=1)
            yield 0, True, (0, 3, 63, column), int.from_bytes(data, "little"), (1 << 64) - 1
            yield 0, True, (0, 3, 1, column), 1, (1 << 64) - 1

    host = Host(config, requests(), seed=3, near_writes=6).run()
    rows, served, written = {}, set(), []
    order = [place for _, _, place in host.accepted]
    for _, rank, kind, bank, row, column, near in host.ranks.log:
        if kind == "ACT":
            rows[rank, bank] = row
        elif kind == "WR" and not near:
            place = rank, bank, rows[rank, bank], column
            if place[1:3] == (3, 63):
                written.append(column)
                assert served >= set(order[:order.index(place)])
            served.add(place)
    assert written == columns


def test_writes_wait_for_the_high_mark_and_drain_to_the_low_one():
    config = config_of("ddr4", reserved=0, write_entries=16, drain_high=12, drain_low=4, patience=4000)

    def requests():
        for number in range(260):    # reads never run out; no block twice
            place = 0, number % 4, number // 64 % 8, number // 4 % 16
            yield 0, number % 3 == 0, place, number, (1 << 64) - 1

    host = Host(config, requests(), seed=4).run()
    columns = [(entry[0], entry[2]) for entry in host.ranks.log if entry[2] in ("RD", "WR")]
    last_read = max(cycle for cycle, kind in columns if kind == "RD")

    def waiting(cycle):
        """Writes accepted and not yet served; up to two of them are still on the way to the queue."""
        return sum(write and when < cycle for when, write, _ in host.accepted) - sum(k == "WR" and c < cycle for c, k in columns)

    drains = 0
    for (_, before), (cycle, kind) in pairwise(columns):
        if cycle < last_read and (before, kind) == ("RD", "WR"):
            drains += 1
            assert waiting(cycle) >= 12
        if cycle < last_read and (before, kind) == ("WR", "RD"):
            assert 3 <= waiting(cycle) <= 4 + 2 + 3      # a WR may follow the decision; two in the registers, and those that came since
    assert drains >= 4


def test_patience_bounds_a_row_miss():
    """Row hits without end on one bank; a read of another row of it is served when patience is over, not before, not much later."""
    config = config_of("ddr4", reserved=0, patience=300)
    target = 0, 0, 1, 0

    def requests():
        for number in range(150):
            if number == 20:
                yield 0, False, target, 0, 0
            yield 0, False, (0, 0, 0, number % 16), 0, 0

    host = Host(config, requests(), seed=5).run()
    latency = next(cycles for place, cycles in host.latencies if place == target)
    assert 300 < latency < 300 + 200


def test_refresh_is_forced_under_load():
    """With requests for the rank at all times a refresh waits until seven are owed, then one an interval; none is lost."""
    config = config_of("ddr4", reserved=0)
    requests = ((0, False, (0, number % 4, 0, number // 4 % 16), 0, 0) for number in range(500))
    host = Host(config, requests, seed=6, limit=30_000).run()
    done = [entry[0] for entry in host.ranks.log if entry[2] == "REF"]
    busy_until = host.accepted[-1][0]
    interval = config.gaps.refi
    assert 7 * interval - 1 <= done[0] < 7 * interval + 60
    assert busy_until > 9 * interval
    for cycle in range(0, host.cycles, 10):
        due = (cycle + 1) // interval
        assert 0 <= due - sum(when <= cycle for when in done) <= 8

"""The proofs of the DRAM system's parts, and that each of them fails when the thing proved is broken."""

import dataclasses

import pytest
from amaranth.hdl import Cat

from gen.dram import PARTS, DramConfig, part
from gen.dram_part import Minimum, Part
from rtl.memory.address_map import AddressMap
from rtl.memory.request_queue import RequestQueue
from rtl.memory.scheduler import Scheduler
from rtl.memory.trackers import FourActivates, Tracker
from tb.formal.dram_specs import (
    AddressMapSpec,
    FourActivatesSpec,
    RequestQueueSpec,
    SchedulerSpec,
    ServiceSpec,
    TrackerSpec,
    service_bound,
)
from tb.formal.prove import Disproved, prove

DDR4 = part("ddr4-2400r")
SMALL = DramConfig(part=dataclasses.replace(DDR4, rows=64, columns=64), ranks=2, reserved=2, read_entries=3, write_entries=3, drain_high=3,
                   drain_low=1, patience=16)
MAPS = {
    "1x1": DramConfig(part=DDR4),
    "2x2": DramConfig(part=DDR4, channels=2, ranks=2),
    "4x4 four reserved": DramConfig(part=DDR4, channels=4, ranks=4, reserved=4),
    "one reserved": DramConfig(part=DDR4, ranks=2, reserved=1),
    "no hash": DramConfig(part=DDR4, ranks=2, hashed=False),
    "none reserved": DramConfig(part=DDR4, reserved=0),
}
CYCLES = sorted({value for item in PARTS.values() for value in
                 dataclasses.asdict(DramConfig(part=item, reserved=0).gaps).values() if value > 1} - {
                     DramConfig(part=item, reserved=0).gaps.refi for item in PARTS.values()})


# Every minimum short, so that a proof over more cycles than the service bound stays small.
SHORT = DramConfig(
    part=Part(
        name="short", family="ddr4", doc="short minimums", clock_khz=100_000, bus_bytes=1, data_rate=2, burst=4, bank_groups=1, banks=2,
        rows=16, columns=64, timings={name: Minimum(cycles) for name, cycles in {
            "tCL": 2, "tCWL": 2, "tRCD": 2, "tRP": 2, "tRAS": 3, "tRC": 5, "tRTP": 2, "tWR": 2, "tCCD_S": 2, "tCCD_L": 3, "tRRD_S": 2,
            "tRRD_L": 2, "tFAW": 4, "tWTR_S": 0, "tWTR_L": 1, "tRTRS": 1, "tRFC": 4, "tREFI": 100, "tMRD": 2, "tINIT": 10}.items()}),
    reserved=0, read_entries=2, write_entries=2, drain_high=2, drain_low=1, patience=16, hashed=False)


class Straight(AddressMap):
    """Forgets the swap where both would change places."""

    def elaborate(self, platform):
        m = super().elaborate(platform)
        with m.If(self.block[-1]):
            m.d.comb += self.location.row[-1].eq(1)
        return m


class Leaky(AddressMap):
    """One bank bit is not swapped."""

    def elaborate(self, platform):
        m = super().elaborate(platform)
        with m.If(self.block[-3:].all()):
            m.d.comb += self.location.bank[-1].eq(self.block[8])
        return m


class Sliding(RequestQueue):
    """Entries move up one too few."""

    def elaborate(self, platform):
        m = super().elaborate(platform)
        with m.If(self.leaves[0] & self.push):
            m.d.sync += self.entries[1].eq(self.entries[1])
        return m


class Early(Tracker):
    """A near-data command counts a cycle less."""

    def elaborate(self, platform):
        m = super().elaborate(platform)
        with m.If(self.near & ~self.host):
            m.d.sync += self.left.eq(max(self.cycles - 2, 0))
        return m


class Unturned(FourActivates):
    """Looks at the counter after the one whose turn it is."""

    def elaborate(self, platform):
        m = super().elaborate(platform)
        bits = (len(self.left) - 2) // 4
        m.d.comb += self.clear.eq(Cat(self.left.word_select(i, bits) == 0 for i in range(4)).bit_select((self.left[-2:] + 1)[:2], 1))
        return m


class Greedy(Scheduler):
    """Closes rows although the rank takes no part."""

    def elaborate(self, platform):
        m = super().elaborate(platform)
        idle = ~(self.precharge | self.refresh).any()
        with m.If(idle & ~self.taking.any() & self.entries[0].status.closes):
            m.d.comb += self.command.kind.eq(2)
        return m


@pytest.mark.parametrize("name", MAPS)
def test_address_map(name):
    prove(AddressMapSpec(MAPS[name]), f"address_map_{name.replace(' ', '_')}", depth=1, mode="bmc")


@pytest.mark.parametrize("make", [Straight, Leaky])
def test_address_map_can_fail(make):
    with pytest.raises(Disproved):
        prove(AddressMapSpec(MAPS["2x2"], make=make), f"address_map_{make.__name__}", depth=1, mode="bmc")


@pytest.mark.parametrize("entries", [2, 3, 4])
def test_request_queue(entries):
    prove(RequestQueueSpec(SMALL, entries=entries), f"request_queue_{entries}", depth=3)


def test_request_queue_can_fail():
    with pytest.raises(Disproved):
        prove(RequestQueueSpec(SMALL, entries=3, make=Sliding), "request_queue_sliding", depth=8, mode="bmc")


@pytest.mark.parametrize("cycles", CYCLES)
def test_tracker(cycles):
    prove(TrackerSpec(cycles=cycles), f"tracker_{cycles}", depth=2)


def test_tracker_can_fail():
    with pytest.raises(Disproved):
        prove(TrackerSpec(cycles=5, make=Early), "tracker_early", depth=8, mode="bmc")


@pytest.mark.parametrize("cycles", [2, 5, 26])
def test_four_activates(cycles):
    prove(FourActivatesSpec(cycles=cycles), f"four_activates_{cycles}", depth=2)


def test_four_activates_can_fail():
    with pytest.raises(Disproved):
        prove(FourActivatesSpec(cycles=9, make=Unturned), "four_activates_unturned", depth=12, mode="bmc")


def test_scheduler():
    prove(SchedulerSpec(SMALL), "scheduler", depth=1, mode="prove")


def test_scheduler_can_fail():
    with pytest.raises(Disproved):
        prove(SchedulerSpec(SMALL, make=Greedy), "scheduler_greedy", depth=2, mode="bmc")


def test_service_within_the_bound():
    prove(ServiceSpec(SHORT), "service", depth=service_bound(SHORT) + 3)


def test_service_can_fail():
    with pytest.raises(Disproved):
        prove(ServiceSpec(SHORT, heard=False), "service_unheard", depth=service_bound(SHORT) + 20, mode="bmc")


def test_service_bound_is_not_idle():
    with pytest.raises(Disproved):
        prove(ServiceSpec(SHORT, slack=8), "service_slack", depth=service_bound(SHORT) + 20, mode="bmc")

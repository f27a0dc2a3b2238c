"""Faults planted in the DRAM system: the comparison of copies, the timing checker and the scoreboard each see theirs, and nothing before.

All faults are in one simulator. A write to the block `SWITCH` picks one, and the cycles until it acts, so that every run has its own.
"""

import os
import random
from types import SimpleNamespace

import numpy as np
import pytest
from amaranth.hdl import Module, Mux, Signal, Value

import rtl.memory.channel as channel_module
import rtl.memory.memory_system as memory_module
import rtl.memory.near_data_rank as rank_module
import rtl.memory.rank_control as control_module
import rtl.memory.sequencer as sequencer_module
from gen.dram import DramConfig, part
from gen.nda import Operation, Policy
from gen.simulate_dram import DramJob, DramSimulator
from gen.traffic import Core, Launch, Workload
from rtl.memory.dram_system import DramSystem
from rtl.memory.interfaces import Command
from sw.dram import checker, metrics, traffic

CONFIG = DramConfig(part=part("ddr4-2400r"), channels=1, ranks=2, reserved=2, read_entries=8, write_entries=8, drain_high=6, drain_low=2)
SWITCH = 12345                # a block of the host's that nothing else uses
LIMIT = 400_000
TRACKERS = {                  # ignored by both copies of rank 0 (tRTRS: by the channel) -> what the checker has to name
    "rcd": "tRCD", "ras": "tRAS", "rp": "tRP", "rtp": "tRTP", "wr": "tWR", "ccd_s": "tCCD_S", "ccd_l": "tCCD_L", "rrd_s": "tRRD_S",
    "rrd_l": "tRRD_L", "faw": "tFAW", "wtr_s": "tWTR_S", "wtr_l": "tWTR_L", "rtw": "tRTW", "rfc": "tRFC", "rtrs": "tRTRS",
}             # rc: tRC is tRAS + tRP for this part, so the other two keep it
COPIES = {                    # one copy of rank 0's state sees something else -> policy and operation under which it must show
    "a command is lost": (Policy.NONE, Operation.AXPY), "REF is lost": (Policy.NONE, Operation.AXPY),
    "PREA is lost": (Policy.NONE, Operation.AXPY), "the replica misses a REF": (Policy.NONE, Operation.AXPY),
    "hold_all stuck at 0": (Policy.NONE, Operation.AXPY), "hold_all stuck at 1": (Policy.NONE, Operation.AXPY),
    "hold_writes stuck at 0": (Policy.NEXT_RANK, Operation.COPY), "hold_writes stuck at 1": (Policy.NEXT_RANK, Operation.COPY),
    "a launch word flipped": (Policy.NONE, Operation.SCAL), "one extra step of the LFSR": (Policy.STOCHASTIC_16, Operation.COPY),
}
DATA = "two write slots swapped"
NUMBERS = {name: number for number, name in enumerate((*TRACKERS, *COPIES, DATA), 1)}
acting = Signal(8)            # number of the fault that acts in this cycle; driven by `FaultySystem`


def acts(name: str) -> Value:
    """Whether a fault acts."""
    return acting == NUMBERS[name]


def once(m: Module, name: str, moment: Value) -> Signal:
    """High in the first cycle in which `moment` holds while the fault acts."""
    now, done = Signal(), Signal()
    m.d.comb += now.eq(acts(name) & moment & ~done)
    with m.If(now):
        m.d.sync += done.eq(1)
    return now


class FaultySystem(DramSystem):
    """The switch, and what can go wrong on the way to rank 0."""

    def elaborate(self, platform):
        m = super().elaborate(platform)
        number, delay = Signal(8), Signal(16)
        with m.If(delay != 0):
            m.d.sync += delay.eq(delay - 1)
        switched = self.request_valid & self.request_ready & self.request_write & (self.request_block == SWITCH)
        with m.If(switched & (number == 0)):      # the launcher repeats its list
            m.d.sync += [number.eq(self.request_data[:8]), delay.eq(self.request_data[8:24])]
        m.d.comb += acting.eq(Mux(delay == 0, number, 0))
        near = m.submodules.unit_0_0
        pins, kind = near.pins.command, Signal(Command)
        m.d.comb += kind.eq(m.submodules.memory.channels[0].pins.command.kind)
        mine = m.submodules.memory.channels[0].pins.rank == 0
        lost = (once(m, "a command is lost", mine & (kind != Command.NONE)) | (acts("REF is lost") & (kind == Command.REF))
                | (acts("PREA is lost") & (kind == Command.PREA)))
        with m.If(lost):
            m.d.comb += pins.kind.eq(Command.NONE)
        for name in ("hold_all", "hold_writes"):
            for level in (0, 1):
                with m.If(acts(f"{name} stuck at {level}")):
                    m.d.comb += near.inhibit[name].eq(level)
        with m.If(acts("a launch word flipped")):
            m.d.comb += near.write_data[37].eq(~m.submodules.memory.channels[0].write_data[37])
        return m


class FaultyChannel(channel_module.Channel):
    """The channel's own faults."""

    def elaborate(self, platform):
        m = super().elaborate(platform)
        replica, slots = m.submodules.rank_0, m.submodules.write_path
        refresh = (self.pins.pins.command.kind == Command.REF) & (self.pins.pins.rank == 0)
        with m.If(once(m, "the replica misses a REF", refresh)):
            m.d.comb += replica.pins.command.kind.eq(Command.NONE)
        with m.If(acts(DATA) & (m.submodules.scheduler.note < 2)):
            m.d.comb += slots.sent_slot.eq(m.submodules.scheduler.note ^ 1)
        return m


class FaultyScheduler(channel_module.Scheduler):
    """Ignores how long the data bus belongs to another rank."""

    def _trackers(self, m, bus_rank):
        return super()._trackers(m, bus_rank) | acts("rtrs").replicate(self.config.ranks)


class FaultyActivates(control_module.FourActivates):
    """Forgets tFAW."""

    def elaborate(self, platform):
        m = super().elaborate(platform)
        with m.If(acts("faw")):
            m.d.comb += [self.clear.eq(1), self.clears.eq(1)]
        return m


class FaultyControl(control_module.RankControl):
    """Rank 0 ignores a tracker, in both copies (but for the cycle behind the command that starts it)."""

    def _trackers(self, m, platform, loads, near, close_all, refresh):
        place = control_module.place

        def planted(*rest, instance: str, **more):
            tracker = place(*rest, instance=instance, **more)
            name = instance.split("_", 1 if instance.startswith("rank") else 2)[-1]
            if name not in TRACKERS:
                return tracker
            clear, clears = (Signal(name=f"{instance}_{when}") for when in ("clear", "clears"))
            left = Signal.like(tracker.left, name=f"{instance}_left")
            m.d.comb += [clear.eq(tracker.clear | acts(name)), clears.eq(tracker.clears | acts(name)),
                         left.eq(Mux(acts(name), 0, tracker.left))]
            return SimpleNamespace(host=tracker.host, near=tracker.near, left=left, clear=clear, clears=clears)

        with pytest.MonkeyPatch.context() as patch:
            if self.rank == 0:
                patch.setattr(control_module, "place", planted)
                patch.setattr(control_module, "FourActivates", FaultyActivates)
            return super()._trackers(m, platform, loads, near, close_all, refresh)


class FaultySequencer(control_module.Sequencer):
    """Once, a step of the LFSR is followed by another in the same cycle."""

    def elaborate(self, platform):
        step, states = sequencer_module.lfsr_next, []
        twice, tried, started, done, stepped = Signal(), Signal(), Signal(), Signal(), Signal()

        def planted(state: Value) -> Value:
            states.append(state)
            return Mux(twice, step(step(state)), step(state))

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sequencer_module, "lfsr_next", planted)
            m = super().elaborate(platform)
        lfsr, = states
        before = Signal.like(lfsr)
        m.d.comb += [stepped.eq(tried & ~started & (before != lfsr)), twice.eq(acts("one extra step of the LFSR") & ~done & ~stepped)]
        m.d.sync += [before.eq(lfsr), tried.eq(twice), started.eq(self.start), done.eq(done | stepped)]
        return m


class FaultyCopy(FaultyControl):
    """The copy on the rank's side."""

    def _unit(self, *arguments):
        with pytest.MonkeyPatch.context() as patch:
            if self.rank == 0:
                patch.setattr(control_module, "Sequencer", FaultySequencer)
            return super()._unit(*arguments)


def workload(seed: int, fault: int, delay: int, near: tuple[Policy, Operation] | None) -> Workload:
    """Hits, misses, and reads of what was written before; a fault that acts from cycle `delay` on, about."""
    rng = np.random.default_rng(seed)
    count = 1200
    pool = rng.integers(0, CONFIG.blocks // 2, 40)
    few = Core(rng.integers(1, 40, count).astype(np.uint32), rng.choice(pool, count).astype(np.uint64), rng.random(count) < 0.5, 8)
    cores = (*traffic.cores(CONFIG, "mix1", requests=2 * count, seed=seed), few)
    launches = traffic.near_data(CONFIG, near[1], blocks=300, policy=near[0], seed=seed) if near else ()
    switch = Launch(SWITCH, bytes([fault]) + delay.to_bytes(2, "little") + bytes(61))
    return Workload(cores, (switch, *launches), 0 if near else 1)


@pytest.fixture(scope="module")
def runs():
    """For each fault its delay and its run; None: the same requests without a fault (a list)."""
    seed = int(os.environ.get("FLEXWAVE_SEED") or random.SystemRandom().randrange(1 << 31))
    delays = random.Random(seed)
    jobs: list[tuple[str | None, int, Workload]] = []
    for near in {None, *COPIES.values()}:
        jobs.append((None, 0, workload(seed, 0, 0, near)))
    for name, number in NUMBERS.items():
        delay = delays.randrange(100, 3000)
        jobs.append((name, delay, workload(seed, number, delay, COPIES.get(name))))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory_module, "Channel", FaultyChannel)
        patch.setattr(channel_module, "Scheduler", FaultyScheduler)
        patch.setattr(channel_module, "RankControl", FaultyControl)
        patch.setattr(rank_module, "RankControl", FaultyCopy)
        recordings = DramSimulator(CONFIG, factory=FaultySystem).run([DramJob(job, limit=LIMIT) for _, _, job in jobs])
    made: dict = {name: (delay, run) for (name, delay, _), run in zip(jobs, recordings, strict=True)}
    made[None] = [run for (name, _, _), run in zip(jobs, recordings, strict=True) if name is None]
    made["seed"] = seed
    return made


def broken(run) -> dict[str, int]:
    """How often each parameter is violated."""
    return checker.count(metrics.violations(CONFIG, run))


def test_without_a_fault(runs):
    print(f"FLEXWAVE_SEED={runs['seed']}")
    for run in runs[None]:
        assert (run.data_errors, run.errors, run.replica_mismatches, run.overruns, broken(run)) == (0, (), 0, 0, {})
        assert run.cycles > 2 * CONFIG.gaps.refi


@pytest.mark.parametrize("name", COPIES)
def test_copies_that_differ(runs, name):
    """Every cycle from then on may differ, none before."""
    print(f"FLEXWAVE_SEED={runs['seed']}")
    delay, run = runs[name]
    assert 0 < run.replica_mismatches <= run.cycles + 1 - delay


@pytest.mark.parametrize("name", TRACKERS)
def test_ignored_parameters(runs, name):
    """The checker names this parameter and no other; the copies agree about it."""
    print(f"FLEXWAVE_SEED={runs['seed']}")
    delay, run = runs[name]
    assert set(broken(run)) == {TRACKERS[name]}
    assert min(item.cycle for item in metrics.violations(CONFIG, run)) > delay
    assert run.replica_mismatches == 0


def test_write_data_in_the_wrong_place(runs):
    print(f"FLEXWAVE_SEED={runs['seed']}")
    _, run = runs[DATA]
    assert run.data_errors and any("did not return what was written last" in line for line in run.errors), run.errors
    assert broken(run) == {} and run.replica_mismatches == 0

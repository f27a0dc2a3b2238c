"""A memory-system run as a user asks for it: part, host traffic, near-data operation, policy; and its result with every check."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field

from gen.dram import DramConfig
from gen.nda import INDEXED, POLICY_NAMES, Operation
from gen.traffic import Recording, Workload
from sw.dram import metrics, traffic
from sw.runtime.errors import UserError

ENGINES = ("rtl", "model")
OPERATIONS = tuple(item.name.lower() for item in Operation)
POLICIES = tuple(POLICY_NAMES)
LIMIT = 1 << 32      # cycles after which a run is given up


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """What to run. `blocks`: local blocks of a near-data operand in each rank (of a table row for GATHER and SCATTER).

    With requests 0 there is no host and the near-data work runs `repeat` times; a trace gives as many requests as it has.
    """

    config: DramConfig
    host: str
    requests: int
    operation: str | None = None
    policy: str = "none"
    seed: int = 0
    writes: float = 0.0
    blocks: int = 0      # 0: 4096, or 64 for the rows of GATHER and SCATTER
    repeat: int = 1

    def __post_init__(self):
        if self.operation is not None and not self.config.reserved:
            raise UserError(f"nda = {self.operation!r}: {self.config.part.name} with reserved = 0 has no near-data unit")
        if self.operation is not None and not self.blocks:
            indexed = Operation[self.operation.upper()] in INDEXED
            object.__setattr__(self, "blocks", 64 if indexed else 4096)
        if not self.requests and self.operation is None:
            raise UserError("requests = 0 is outside 1.. without a near-data operation (nda)")

    def workload(self, *, near_data: bool = True) -> Workload:
        """Cores and launches."""
        cores = traffic.cores(self.config, self.host, requests=max(self.requests, 1), seed=self.seed, writes=self.writes)
        cores = cores if self.requests else ()      # its name has to be right all the same
        if self.requests and not any(len(core.blocks) for core in cores):
            raise UserError(f"host = {self.host!r} has no requests")
        launches = ()
        if near_data and self.operation is not None:
            launches = traffic.near_data(self.config, Operation[self.operation.upper()], blocks=self.blocks,
                                         policy=POLICY_NAMES[self.policy], seed=self.seed)
        return Workload(cores=cores, launches=launches, repeat=0 if cores else self.repeat)


@dataclass(frozen=True)
class Result:
    """A scenario's outcome; `alone` is the same host traffic without near-data work (None where that is the run itself)."""

    scenario: Scenario
    engine: str
    requests: int
    recording: Recording = field(repr=False)
    figures: metrics.Figures
    violations: list = field(repr=False)
    alone: Recording | None = field(default=None, repr=False)

    @property
    def host_slowdown(self) -> float | None:
        """Completion time of the host's requests, as a multiple of that without near-data work. None without a host."""
        if not self.requests:
            return None
        return (self.recording.host_done + 1) / (self.alone.host_done + 1) if self.alone else 1.0

    @property
    def failures(self) -> list[str]:
        """What must not happen, a line each."""
        counts = {"violations": len(self.violations), "data_errors": self.recording.data_errors,
                  "replica_mismatches": self.recording.replica_mismatches}
        return [f"{name} = {count}" + (f", first: {self.violations[0].text}" if name == "violations" else "")
                for name, count in counts.items() if count]

    def to_dict(self) -> dict:
        """The fields of the JSON contract."""
        scenario, figures = self.scenario, self.figures
        return {
            "part": scenario.config.part.name, "channels": scenario.config.channels, "ranks": scenario.config.ranks,
            "host": scenario.host, "nda": scenario.operation or "none", "policy": scenario.policy, "engine": self.engine,
            "cycles": figures.window, "requests": self.requests, "host_bandwidth_fraction": figures.host_bandwidth_fraction,
            "host_latency_mean": figures.host_latency_mean, "host_latency_p99": figures.host_latency_p99,
            "nda_bandwidth_fraction": figures.nda_bandwidth_fraction, "row_hit_rate": figures.row_hit_rate,
            "turnarounds": figures.turnarounds, "violations": len(self.violations),
            # The model has neither data nor replicas: null, not 0.
            "data_errors": self.recording.data_errors if self.engine == "rtl" else None,
            "replica_mismatches": self.recording.replica_mismatches if self.engine == "rtl" else None, "host_slowdown": self.host_slowdown,
            "nda_idle_fraction": figures.nda_idle_fraction, "commands": len(self.recording.commands), "refreshes": figures.refreshes,
            "cycles_without_debt": self.recording.cycles, "seed": scenario.seed,
        }

    def to_json(self) -> str:
        """The JSON contract as text."""
        return json.dumps(self.to_dict(), indent=2) + "\n"

    def to_text(self) -> str:
        """A page for people."""
        scenario, figures, config = self.scenario, self.figures, self.scenario.config
        lines = [
            ("memory", f"{config.part.name}, {config.channels} channel{'s' * (config.channels > 1)} x {config.ranks} "
             f"rank{'s' * (config.ranks > 1)}, {config.clock_khz / 1000:g} MHz, engine {self.engine}"),
            ("cycles", f"{figures.window:,} ({figures.cycles:,} until no refresh is owed)"),
            ("commands", f"{len(self.recording.commands):,}, {figures.refreshes:,} of them REF"),
        ]
        if self.requests:
            lines += [
                ("host", f"{scenario.host}, {self.requests:,} requests, {figures.host_bandwidth_fraction:.1%} of the channels' peak"),
                ("host read latency", f"mean {figures.host_latency_mean:.1f}, 99 % within {figures.host_latency_p99:.0f} cycles"),
                ("row hits", f"{figures.row_hit_rate:.1%}"),
            ]
        if scenario.operation:
            lines += [("near-data units", f"{scenario.operation}, policy {scenario.policy}, {figures.nda_bandwidth_fraction:.1%} of the "
                       f"ranks' peak, {figures.nda_idle_fraction:.1%} of what was idle")]
            if self.requests:
                lines += [("host slowdown", f"{(self.host_slowdown or 1) - 1:+.2%} against the same traffic without near-data work")]
        lines += [("turnarounds", f"{figures.turnarounds:,}")]
        checked = ", no error in the host's data, no replica mismatch" if self.engine == "rtl" else "; data and replicas: engine rtl"
        lines.append(("checks", "; ".join(self.failures) or f"no timing violation{checked}"))
        return "\n".join(f"{name:<20}{value}" for name, value in lines) + "\n"


def run(scenarios: list[Scenario], *, engine: str, progress: Callable[[str], None] | None = None, check: bool = True) -> list[Result]:
    """Run scenarios of one memory system, each with its run without near-data work where it has both. RTL runs share a simulator."""
    plans: list[tuple[Scenario, Workload]] = []
    for scenario in scenarios:
        plans.append((scenario, scenario.workload()))
        if scenario.operation and scenario.requests:
            plans.append((scenario, scenario.workload(near_data=False)))
    recordings = _record(scenarios[0].config, [workload for _, workload in plans], engine, progress)
    results: list[Result] = []
    position = 0
    for scenario in scenarios:
        workload, recording = plans[position][1], recordings[position]
        both = bool(scenario.operation and scenario.requests)
        found = metrics.violations(scenario.config, recording) if check else []
        results.append(Result(scenario, engine, metrics.requests(workload), recording,
                              metrics.figures(scenario.config, workload, recording), found,
                              recordings[position + 1] if both else None))
        position += 1 + both
    return results


def beside(scenario: Scenario, alone: Recording, *, engine: str = "model") -> Result:
    """Run a scenario whose host traffic has been run alone before."""
    workload = scenario.workload()
    recording = _record(scenario.config, [workload], engine, None)[0]
    return Result(scenario, engine, metrics.requests(workload), recording, metrics.figures(scenario.config, workload, recording),
                  metrics.violations(scenario.config, recording), alone)


def _record(config: DramConfig, workloads: list[Workload], engine: str, progress: Callable[[str], None] | None) -> list[Recording]:
    if engine == "model":
        from sw.model import dram

        recordings = []
        for number, workload in enumerate(workloads):
            if progress:
                progress(f"run {number + 1} of {len(workloads)}")
            recordings.append(dram.run(config, workload))
        return recordings
    from gen.simulate_dram import DramJob, DramSimulator

    share = (lambda part: progress(f"rtl: {part:.0%}")) if progress else None
    return list(DramSimulator(config).run([DramJob(workload, limit=LIMIT) for workload in workloads], share=share))

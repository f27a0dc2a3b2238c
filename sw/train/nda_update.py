"""Stochastic gradient descent with momentum and weight decay on the near-data units: weights, velocities and gradients stay in the DRAM.

The rule is `sw.golden.training.momentum_step`, bit for bit. All parameters of a network lie one behind the other in one vector, each from
the start of a block (16 elements, 64 bytes) on; velocities and gradients lie in two more of the same form and colour. A step is two
operations, each one launch for every unit that holds a part (with `grain` more, smaller ones):

| operation | result | bytes the units read and write, a parameter element |
|---|---|---|
| AXPBYPCZ | v = (decay w + 1 g) + momentum v | 12 + 4 |
| AXPY | w = -rate v + w | 8 + 4 |

Together 28 bytes between a unit and its own rank, none of them on the memory channel, which carries 64 bytes a launch. (An AXPY, an AXPBY
and an AXPY, with decay w + g as a vector of its own, would be 36.) A product by 1 is exact, and a sum does not depend on the order of its
two operands. A host that does it reads w, v, g and writes v, w: 20 bytes over the channel; 16 if it still has the gradient on chip.

In neither count: whoever computes a gradient writes it (4 bytes), and whoever needs weights or their bf16 copy reads them.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from gen.dram import DramConfig
from gen.nda import LANES
from gen.traffic import Core, Launch, Recording, Workload
from sw.dram import launch, metrics, traffic
from sw.dram.allocate import NdaError
from sw.dram.blas import Nda
from sw.dram.engines import model

UNIT_BYTES, HOST_BYTES = 28, 20      # a parameter element in a step: units and their ranks; a host's update over the channel
WINDOW, RUN = 32, 32                 # of a host that updates: reads under way, blocks of one vector that it moves one behind the other


@dataclass(frozen=True)
class Update:
    """One step. Bytes are those of the commands RD and WR in the run's record; None, as the cycles, for an engine without a clock."""

    launches: int             # descriptors
    cycles: int | None        # of the memory, from the first launch until it is quiet
    host_bytes: int | None    # over the memory channels: the launches
    unit_bytes: int | None    # between the units and their ranks


class NearDataUpdate:
    """The parameters of a network in the memory of `nda`, by name, and their velocities (zeros if not given).

    Any engine of `sw.dram.blas` ("rtl", "model", "untimed", or an object); with "rtl" every block and every command is compared.
    Raises NdaError for arrays that do not fit, and where a colour has no room for three vectors.
    """

    def __init__(self, nda: Nda, parameters: Mapping[str, np.ndarray], velocities: Mapping[str, np.ndarray] | None = None, *,
                 colour: int | None = None):
        if not parameters or not all(value.size for value in parameters.values()):
            raise NdaError("parameters: no elements, allowed are 1 or more in each")
        self.nda, self.shapes, self.first, end = nda, {}, {}, 0
        for name, value in parameters.items():
            self.shapes[name], self.first[name] = value.shape, end
            end += -(-value.size // LANES) * LANES
        self.padded = end
        weights = self._flat("parameters", parameters)
        speeds = np.zeros(end, np.float32) if velocities is None else self._flat("velocities", velocities)
        self.weights = nda.array(weights, colour)
        self.velocity = nda.array(speeds, self.weights.colour)
        self.gradient = nda.array(np.zeros(end, np.float32), self.weights.colour)

    @property
    def elements(self) -> int:
        """Of all parameters; `padded` with those that fill up blocks."""
        return sum(math.prod(shape) for shape in self.shapes.values())

    @property
    def parameters(self) -> dict[str, np.ndarray]:
        """The weights, a copy."""
        return self._named(self.nda.numpy(self.weights))

    @property
    def velocities(self) -> dict[str, np.ndarray]:
        """A copy."""
        return self._named(self.nda.numpy(self.velocity))

    def step(self, gradients: Mapping[str, np.ndarray], *, rate: float, momentum: float, decay: float) -> Update:
        """One update. The gradients are put into the memory first, as their producer would do; that is in no figure."""
        for name, value in (("rate", rate), ("momentum", momentum), ("decay", decay)):
            launch.scalar(name, value, self.weights.dtype)
            if not math.isfinite(value):
                raise NdaError(f"{name} = {value} is not finite")
        nda = self.nda
        nda.store(self.gradient, self._flat("gradients", gradients))
        nda.axpbypcz(decay, self.weights, 1.0, self.gradient, momentum, self.velocity, out=self.velocity, wait=False)
        nda.axpy(-rate, self.velocity, self.weights, out=self.weights, wait=False).wait()
        assert nda.last is not None
        sent, found = len(nda.last.launches), nda.last.recording
        if found is None:
            return Update(sent, None, None, None)
        return Update(sent, found.cycles, moved_bytes(nda.config, found, metrics.HOST), moved_bytes(nda.config, found, metrics.NEAR))

    def _flat(self, what: str, values: Mapping[str, np.ndarray]) -> np.ndarray:
        if set(values) != set(self.shapes):
            raise NdaError(f"{what}: {', '.join(sorted(set(values) ^ set(self.shapes)))} in one of the two sets of names only")
        flat = np.zeros(self.padded, np.float32)
        for name, shape in self.shapes.items():
            value = values[name]
            if value.dtype != np.float32 or value.shape != shape:
                raise NdaError(f"{what}: {name} is {value.dtype} {value.shape}, allowed is float32 {shape}")
            flat[self.first[name]:self.first[name] + value.size] = value.reshape(-1)
        return flat

    def _named(self, flat: np.ndarray) -> dict[str, np.ndarray]:
        return {name: flat[self.first[name]:self.first[name] + math.prod(shape)].reshape(shape) for name, shape in self.shapes.items()}


def moved_bytes(config: DramConfig, recording: Recording, source: int) -> int:
    """Bytes of the reads and writes of a run, of the host (`metrics.HOST`) or of the units (`metrics.NEAR`)."""
    record = recording.commands
    moves = np.isin(record["kind"], (metrics.RD, metrics.WR)) & (record["source"] == source)
    return int(moves.sum()) * config.part.block_bytes


def launches(config: DramConfig, elements: int, policy: str = "none", *, seed: int = 0, grain: int = 0) -> tuple[Launch, ...]:
    """The writes that launch a step for so many elements: cycles do not depend on the numbers."""
    nda = Nda(config, "untimed", policy, seed=seed, grain=grain)
    values = {"w": np.zeros(elements, np.float32)}
    NearDataUpdate(nda, values).step(values, rate=0.1, momentum=0.9, decay=5e-4)
    assert nda.last is not None
    return nda.last.launches


def host_core(elements: int) -> Core:
    """A host's update as traffic, from block 0 on: w, v, g read, v, w written, RUN blocks of each at a time. A request a cycle at most, no
    time for arithmetic."""
    blocks = -(-elements // LANES)
    places, writes = [], []
    for first in range(0, blocks, RUN):
        run = np.arange(first, min(first + RUN, blocks))
        places += [run, run + blocks, run + 2 * blocks, run + blocks, run]
        writes += [np.arange(5 * len(run)) >= 3 * len(run)]
    return Core(np.ones(5 * blocks, np.uint32), np.concatenate(places).astype(np.uint64), np.concatenate(writes), WINDOW)


@dataclass(frozen=True)
class Beside:
    """An update by the host or by the units, alone and beside the same other host traffic. Cycles of the memory, on its model.

    `update_alone`, `update`: until the update's last request or near-data command; `traffic_alone`, `traffic`: until the last request of
    the other traffic.
    """

    channel_bytes: int      # over the memory channels, for the update
    unit_bytes: int
    update_alone: int
    update: int
    traffic_alone: int
    traffic: int

    @property
    def slowdown(self) -> float:
        """Time of the other traffic beside the update, as a multiple of its time alone."""
        return self.traffic / self.traffic_alone


def beside(config: DramConfig, elements: int, *, host: str, requests: int, policy: str = "next-rank", seed: int = 0) -> dict[str, Beside]:
    """The update of so many elements by "host" and by "units" beside other traffic of the host (`sw.dram.traffic.cores`)."""
    others, updater = traffic.cores(config, host, requests=requests, seed=seed), host_core(elements)
    step = launches(config, elements, policy, seed=seed)

    def run(cores: tuple[Core, ...] = (), work: tuple[Launch, ...] = ()) -> Recording:
        return model(config, Workload(cores=cores, launches=work))

    def last(recording: Recording) -> int:
        moves = recording.commands["source"] == metrics.NEAR
        return int(recording.commands["cycle"][moves].max()) + 1

    alone = max(run(others).core_done) + 1
    by_host, both = run((updater,)), run((*others, updater))
    by_units, shared = run(work=step), run(others, step)
    return {
        "host": Beside(moved_bytes(config, by_host, metrics.HOST), 0, by_host.host_done + 1, both.core_done[-1] + 1,
                       alone, max(both.core_done[:-1]) + 1),
        "units": Beside(moved_bytes(config, by_units, metrics.HOST), moved_bytes(config, by_units, metrics.NEAR), last(by_units),
                        last(shared), alone, max(shared.core_done) + 1),
    }

"""DeLTA's time of a layer on a GPU: three software-pipelined streams, of which the slowest sets the pace of the main loop.

Per step of a CTA's main loop: the global loads (GLS: at each level latency and bytes over bandwidth), the accesses of shared memory (SAS)
and the multiply-adds (CS). CTAs run in waves of as many as fit on all SMs at once; a wave fills its pipeline once and writes back once.
"""

from dataclasses import dataclass
from math import ceil

from sw.delta.traffic import ELEMENT_BYTES, Traffic


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """A GPU. Rates of the whole chip, but for `l1` and `shared`, which are of one SM; bytes and multiply-adds a second; seconds."""

    name: str
    sms: int
    macs: float
    dram: float
    l2: float
    l1: float
    shared: float
    l1_latency: float
    l2_latency: float
    dram_latency: float
    ctas_per_sm: int
    warp_tile: tuple[int, int]      # rows and columns of a warp's part of a CTA tile
    source: str


CLOCK = 1.2e9       # Titan V's base clock, for latencies known in cycles
TITAN_V = Gpu(
    name="titan-v", sms=80, macs=13.87e12 / 2, dram=652.8e9, l2=1600e9, l1=67.5e9, shared=128 * CLOCK,
    l1_latency=28 / CLOCK, l2_latency=193 / CLOCK, dram_latency=375 / CLOCK, ctas_per_sm=2, warp_tile=(64, 32),
    source="rates: public transcriptions of DeLTA; latencies, shared memory and CTAs per SM: assumed, near what Volta is known for")
GPUS = {gpu.name: gpu for gpu in (TITAN_V,)}


@dataclass(frozen=True)
class Time:
    """Seconds of a layer, and what one step of all CTAs of an SM takes in each stream; `bound` names the slowest."""

    seconds: float
    streams: dict[str, float]

    @property
    def bound(self) -> str:
        """The stream that sets the pace."""
        return max(self.streams, key=lambda name: self.streams[name])


def time(gpu: Gpu, work: Traffic) -> Time:
    """How long a layer takes."""
    tile, steps = work.tile, work.ctas * work.steps
    active = min(gpu.sms, work.ctas)                                # SMs with work, which share what is not an SM's own
    together = min(gpu.ctas_per_sm, ceil(work.ctas / gpu.sms))      # CTAs on an SM at once
    warps = tile.m // gpu.warp_tile[0] * max(1, tile.n // gpu.warp_tile[1])
    shared = ((tile.m + tile.n) * tile.k + sum(gpu.warp_tile) * tile.k * warps) * ELEMENT_BYTES
    streams = {
        "compute": together * tile.m * tile.n * tile.k / (gpu.macs / gpu.sms),
        "shared": together * shared / gpu.shared,
        "l1": gpu.l1_latency + together * work.l1 / steps / gpu.l1,
        "l2": gpu.l2_latency + together * work.l2 / steps / (gpu.l2 / active),
        "dram": gpu.dram_latency + together * work.dram / steps / (gpu.dram / active),
    }
    fill = max(streams[name] for name in ("l1", "l2", "dram"))
    write_back = gpu.dram_latency + together * tile.m * tile.n * ELEMENT_BYTES / (gpu.dram / active)
    waves = ceil(work.ctas / (gpu.sms * together))
    return Time(waves * (fill + work.steps * max(streams.values()) + write_back), streams)

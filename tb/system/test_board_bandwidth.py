"""Bandwidth of the accelerator's DMA on a board's SDR chip: bridge, queues, refresh and row changes together, by the machine's counters."""

import numpy as np
import pytest

from gen.config import Array, Buffers, Config, Memory
from gen.dram import DramConfig, part
from gen.isa import Instruction
from gen.simulate_memory import MemorySimulator
from tb.system.machines import job

BEATS = 2048                    # of an instruction: a whole slice
CONFIG = Config(array=Array(side=2), buffers=Buffers(moving_words=64, accumulator_words=16, slice_words=8192, store_lanes=1),
                memory=Memory(bytes_per_cycle=16))      # the DMA of `base` in front of a small array
IMAGE = 1 << 17


def memory(entries: int) -> DramConfig:
    """The chip of a ULX3S at 100 MHz."""
    return DramConfig(part=part("sdr-ulx3s"), reserved=0, clock_khz=100_000, read_entries=entries, write_entries=entries,
                      drain_high=3 * entries // 4, drain_low=entries // 4)


def moves(opcode: str, count: int) -> list[Instruction]:
    """A sequential stream: slice after slice from or to consecutive addresses."""
    return [Instruction(opcode, memory=IMAGE // 2 + 16 * BEATS * (number % 2), slice=number % 2, beats=BEATS, chunks=1)
            for number in range(count)]


@pytest.mark.parametrize("entries", [4])
def test_bandwidth(entries):
    """At least 90 % of the chip's two bytes a cycle, reads and writes alone; the difference of two lengths leaves the start out."""
    dram, cycles = memory(entries), {}
    jobs = {(opcode, count): job([*moves(opcode, count), Instruction("End")], data=np.zeros(IMAGE, np.uint8), bytes_=IMAGE)
            for opcode in ("DmaIn", "DmaOut") for count in (1, 4)}
    for key, outcome in zip(jobs, MemorySimulator(CONFIG, dram).run(list(jobs.values()))):
        assert outcome.error is None
        beats = outcome.registers["dram_read_beats" if key[0] == "DmaIn" else "dram_write_beats"]
        assert beats == key[1] * BEATS
        cycles[key] = outcome.registers["cycles"]
    for opcode in ("DmaIn", "DmaOut"):
        peak = 3 * BEATS * CONFIG.memory.bytes_per_cycle / dram.part.beat_bytes
        fraction = peak / (cycles[opcode, 4] - cycles[opcode, 1])
        print(f"{opcode}, {entries} + {entries} entries: {fraction:.1%} of the peak; all {cycles[opcode, 4]:,} cycles")
        assert fraction >= 0.9

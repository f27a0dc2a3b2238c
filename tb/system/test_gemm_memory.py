"""Products with main memory in simulated DRAM: every integer is exact on DDR4 and SDR, whatever the memory does to the timing."""

import json

import numpy as np
import pytest

from gen.dram import DramConfig, part
from gen.simulate_memory import MemorySimulator, device_order
from sw.runtime.errors import UserError
from sw.runtime.gemm import gemm, gemms, random_operands
from tb.system.machines import machine

SHAPES = {"tiny": [(8, 8, 8), (40, 24, 31)], "small": [(5, 3, 2), (60, 40, 50)]}


@pytest.mark.parametrize("memory", ["ddr4-2400r", "sdr-ulx3s"])
@pytest.mark.parametrize("preset", ["tiny", "small"])
def test_products_are_exact(preset, memory):
    config = machine(preset)
    pairs = [random_operands(*shape, seed=sum(shape)) for shape in SHAPES[preset]]
    for report in gemms(config, pairs, memory=memory):
        assert report.exact and report.mismatches == ()
        assert report.cycles is not None and report.memory_ratio == report.cycles / report.model_cycles
        # The data bus carries `beat_bytes` a cycle: what was read has passed it, and together with the writes it is not four times slower.
        dram = part(memory)
        read, written = report.traffic["dram_read_bytes"], report.traffic["dram_write_bytes"]
        assert read / dram.beat_bytes <= report.cycles <= 4 * max(report.model_cycles, (read + written) / dram.beat_bytes)
        text = report.to_text()
        assert f"with {memory}" in text and f"{report.memory_ratio:.3f}" in text
        assert json.loads(report.to_json())["memory"] == memory


def test_writing_behind_the_image_is_a_fault():
    from gen.isa import Instruction
    from tb.system.machines import job

    config, dram = machine("tiny"), DramConfig(part=part("sdr-ulx3s"), reserved=0)
    far = 1 << 20
    write = job([Instruction("DmaOut", memory=far, beats=1, chunks=1), Instruction("End")])
    outcome, = MemorySimulator(config, dram).run([write])
    assert outcome.error is not None and "outside the memory image" in outcome.error


def test_device_order_is_a_bijection_of_whole_rows():
    for name in ("ddr4-2400r", "is42s16160g-7"):
        config = DramConfig(part=part(name), reserved=0)
        count = 3 * config.frame_blocks
        order = device_order(config, np.arange(count))
        assert sorted(order.tolist()) == list(range(count))
        assert not np.array_equal(order, np.arange(count))


def test_refused():
    config = machine("tiny")
    a, b = random_operands(2, 2, 2, 0)
    with pytest.raises(UserError, match=r"^memory = 'ddr5' is none of ddr4-2400r, is42s16160g-7"):
        gemm(config, a, b, memory="ddr5")
    with pytest.raises(UserError, match=r"^engine = 'model' is none of rtl \(memory = 'sdr-ulx3s'\)$"):
        gemm(config, a, b, engine="model", memory="sdr-ulx3s")

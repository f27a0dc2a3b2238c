"""The energy model: its table, and an example worked out by hand."""

import pytest

from gen.config import Array, Buffers, Config, Memory
from gen.isa import Instruction
from sw.model import energy, load_table, predict
from sw.model.energy import TABLE


def test_table():
    table = load_table()
    assert table.node == "45nm"
    assert table.mac == pytest.approx(0.2 + 0.1)            # mul8 + add32
    assert table.dram == pytest.approx(640 / 4)             # 640 pJ for 32 bits
    assert table.sram_byte(8192) == table.sram_byte(100) == pytest.approx(5 / 4)
    assert table.sram_byte(32768) == pytest.approx(20 / 8)
    assert table.sram_byte(16384) == pytest.approx((1.25 * 2.5) ** 0.5)     # halfway between the two in logarithms
    assert [table.sram_byte(2**20), table.sram_byte(2**24)] == pytest.approx([100 / 8] * 2)
    assert all(": " in source and source.split(": ", 1)[1] for source in table.sources)


@pytest.mark.parametrize("old, new, message", [
    ("45nm,dram", "40nm,dram", "mixes the nodes 40nm, 45nm"),
    ('"derived: mul8 + add32 (an int8 product added to an int32 sum)"', "", "mac8 has no source"),
    ("45nm,dram", "45nm,drum", "lacks dram"),
])
def test_refused_tables(tmp_path, old, new, message):
    path = tmp_path / "table.csv"
    path.write_text(TABLE.read_text().replace(old, new))
    with pytest.raises(ValueError, match=message):
        load_table(path)


def test_one_wave():
    # Side 2, FLEX, all memories below 8 KB: 1.25 pJ a byte. One FW wave of 4 rows, 3 beats in, 1 beat out, one int32 tile of 4 rows stored.
    config = Config(array=Array(side=2), memory=Memory(bytes_per_cycle=4),
                    buffers=Buffers(moving_words=64, accumulator_words=16, slice_words=256, store_lanes=2))
    program = [Instruction("DmaIn", beats=3), Instruction("LdLBUF_V"), Instruction("LdLBUF_H", rows=4), Instruction("ExecGEMM", rows=4),
               Instruction("StLBUF", rows=4, wide=1), Instruction("DmaOut"), Instruction("End")]
    parts = energy(config, predict(config, program).counters)
    assert parts["macs"] == pytest.approx(4 * 16 * 0.3)                             # 4 steps of 16 PEs
    assert parts["dram"] == pytest.approx((3 + 1 + 64) * 4 * 160)                   # two fetch bursts of 32 beats
    assert parts["gbuf"] == pytest.approx((4 * 4 + 8 * 2 + 8 * 2 + 32 * 2) * 1.25)  # beats; moving, stationary, stored words of 2 bytes
    assert parts["lbuf"] == pytest.approx(2 * (8 * 2 + 16) * 9 / 8 * 1.25)          # written and read: 8 moving words, 16 weights
    assert parts["obuf"] == pytest.approx((2 * 4 * 2 + 8) * 2 * 4 * 1.25)           # 4 rows in 2 pairs, read and written; 8 store reads
    assert parts["total"] == pytest.approx(sum(value for name, value in parts.items() if name != "total"))


def test_no_waves():
    parts = energy(Config(), predict(Config(), [Instruction("End")]).counters)
    assert parts["macs"] == parts["obuf"] == 0 < parts["dram"] == parts["total"]

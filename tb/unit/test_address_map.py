"""AddressMap against plain integer arithmetic: every address of small geometries, samples of a large one."""

import random

import pytest
from amaranth.sim import Simulator

from gen.dram import DramConfig, part
from rtl.memory.address_map import AddressMap
from tb.unit.dram_rank import small_part


def mapped(config: DramConfig, block: int) -> tuple[int, int, int, int, int]:
    """Channel, rank, bank, row, column by the text of the contract, with numbers instead of bits."""
    raw: dict[str, int] = dict.fromkeys(("channel", "rank", "bank", "row", "column"), 0)
    weight: dict[str, int] = dict.fromkeys(raw, 1)
    for name, bits in config.layout:
        block, digit = divmod(block, 1 << bits)
        raw[name] += digit * weight[name]
        weight[name] <<= bits
    assert block == 0
    row = raw["row"]
    if config.hashed:    # bit i of bank, rank, channel, in this order, takes the next bit of the row
        for name in ("bank", "rank", "channel"):
            row, digit = divmod(row, weight[name])
            raw[name] ^= digit
    row = raw["row"]
    if config.reserved:
        per_top, all_ones = weight["row"] * config.reserved // weight["bank"], weight["bank"] // config.reserved - 1
        (top, low_row), (high, low_bank) = divmod(row, per_top), divmod(raw["bank"], config.reserved)
        if (top == all_ones) != (high == all_ones):
            top, high = high, top
        row, raw["bank"] = top * per_top + low_row, high * config.reserved + low_bank
    return raw["channel"], raw["rank"], raw["bank"], row, raw["column"]


def results(config: DramConfig, blocks) -> list[tuple]:
    """What the component says."""
    dut = AddressMap(config)
    found = []

    async def bench(ctx):
        for block in blocks:
            ctx.set(dut.block, block)
            await ctx.delay(1e-9)
            at = ctx.get(dut.location)
            found.append((ctx.get(dut.channel), at.rank, at.bank, at.row, at.column))

    simulator = Simulator(dut)
    simulator.add_testbench(bench)
    simulator.run()
    return found


GEOMETRIES = {
    "2 channels, 2 ranks": DramConfig(part=small_part(), channels=2, ranks=2, reserved=2),
    "1 channel, 1 rank": DramConfig(part=small_part(), reserved=1),
    "nothing reserved": DramConfig(part=small_part(), ranks=2, reserved=0),
    "no hash": DramConfig(part=small_part(), channels=2, reserved=2, hashed=False),
    "other layout": DramConfig(part=small_part(), channels=2, reserved=1, layout=(
        ("column", 2), ("channel", 1), ("column", 2), ("bank", 2), ("row", 6))),
}


@pytest.mark.parametrize("name", GEOMETRIES)
def test_every_address(name):
    config = GEOMETRIES[name]
    found = results(config, range(config.blocks))
    assert found == [mapped(config, block) for block in range(config.blocks)]
    assert len(set(found)) == config.blocks                 # bijective
    if config.reserved:                                     # isolating: the top of the address space, and it alone, in the last banks
        first, unreserved = config.blocks - config.frames * config.frame_blocks, config.part.all_banks - config.reserved
        assert [at[2] >= unreserved for at in found] == [block >= first for block in range(config.blocks)]


@pytest.mark.parametrize("reserved", [1, 2])
def test_local_order_of_a_frame(reserved):
    """Ascending addresses of a frame in a rank count (low bank bits, column, high bank bits); a colour adds a constant to the bank bits."""
    config = DramConfig(part=small_part(), channels=2, ranks=2, reserved=reserved)
    k, h, columns = config.reserved_bits, config.swapped_bits, config.part.row_blocks
    found = results(config, range(config.blocks))
    flips = {}
    for frame in range(config.frames):
        start = config.blocks - (config.frames - frame) * config.frame_blocks
        ranks = {}
        for at in found[start:start + config.frame_blocks]:
            ranks.setdefault(at[:2], []).append(at[2:])
        assert len(ranks) == 4
        for unit, places in ranks.items():
            fits = [flip for flip in range(1 << k + h) if places == [
                ((1 << k + h) - (1 << k) + ((q ^ flip) & (1 << k) - 1), (q >> k + columns.bit_length() - 1 ^ flip >> k) << 6 - h | frame,
                 q >> k & columns - 1) for q in range(len(places))]]
            assert len(fits) == 1, f"frame {frame}"
            assert flips.setdefault((frame % config.colours, unit), fits[0]) == fits[0]
    assert len(set(flips.values())) == 1 << k + h


def test_samples_of_the_evaluated_system():
    seed = 1
    print(f"seed {seed}")
    rng = random.Random(seed)
    for ranks, channels in ((2, 2), (4, 1)):
        config = DramConfig(part=part("ddr4-2400r"), channels=channels, ranks=ranks)
        blocks = [0, config.blocks - 1] + [rng.randrange(config.blocks) for _ in range(300)]
        blocks += [config.blocks - 1 - rng.randrange(config.frames * config.frame_blocks) for _ in range(300)]
        assert results(config, blocks) == [mapped(config, block) for block in blocks]

"""Block numbers to places in the DRAM and back, for whole arrays; rtl/memory/README.md, "Addresses"."""

from typing import NamedTuple

import numpy as np

from gen.dram import DramConfig, DramError

FIELDS: tuple[str, ...] = ("channel", "rank", "bank", "row", "column")


class Location(NamedTuple):
    """Where blocks lie: int64 arrays (or numbers) of one shape. `bank` is the bank id, `column` counts bursts."""

    channel: np.ndarray
    rank: np.ndarray
    bank: np.ndarray
    row: np.ndarray
    column: np.ndarray


def parity(values: np.ndarray) -> np.ndarray:
    """1 where the number of one bits is odd. Values below 2^32."""
    for shift in (16, 8, 4, 2, 1):
        values = values ^ values >> shift
    return values & 1


def hashed(config: DramConfig, name: str, row: np.ndarray | int) -> np.ndarray:
    """What a raw row adds (XOR) to channel, rank or bank. Of a frame's raw row and "bank": the operands' `flip`."""
    row, added = np.asarray(row, dtype=np.int64), np.zeros_like(row)
    for bit, mask in enumerate(config.hash_masks[name]):
        added = added | parity(row & mask) << bit
    return added


def _hash(config: DramConfig, fields: dict[str, np.ndarray], row: np.ndarray) -> None:
    """Step 1 and its inverse, in place."""
    for name in config.hash_masks:
        fields[name] = fields[name] ^ hashed(config, name, row)


def _swap(config: DramConfig, bank: np.ndarray, row: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Step 2, its own inverse: high bank bits and top row bits change places if exactly one of them is all ones."""
    bits = config.swapped_bits
    if not bits:
        return bank, row
    low, top, ones = config.reserved_bits, config.field_bits["row"] - bits, (1 << bits) - 1
    high, upper = bank >> low, row >> top
    swap = (high == ones) != (upper == ones)
    return (np.where(swap, upper << low | bank & (1 << low) - 1, bank), np.where(swap, high << top | row & (1 << top) - 1, row))


def locate(config: DramConfig, blocks: np.ndarray | int) -> Location:
    """Where blocks lie. Raises DramError for a block outside the capacity."""
    blocks = np.asarray(blocks)
    wrong = (blocks < 0) | (blocks >= config.blocks)
    if wrong.any():
        raise DramError(f"block = {int(blocks[wrong].flat[0])} is outside 0..{config.blocks - 1}")
    left = blocks.astype(np.int64)
    fields = {name: np.zeros_like(left) for name in FIELDS}
    taken = dict.fromkeys(FIELDS, 0)
    for name, bits in config.layout:
        fields[name] = fields[name] | (left & (1 << bits) - 1) << taken[name]
        taken[name] += bits
        left = left >> bits
    _hash(config, fields, fields["row"])
    bank, row = _swap(config, fields["bank"], fields["row"])
    return Location(fields["channel"], fields["rank"], bank, row, fields["column"])


def block_of(config: DramConfig, channel, rank, bank, row, column) -> np.ndarray:
    """The block at a place (numbers or arrays that broadcast): the inverse of `locate`. Raises DramError for a field out of range."""
    values = dict(zip(FIELDS, np.broadcast_arrays(*(np.asarray(item, dtype=np.int64) for item in (channel, rank, bank, row, column)))))
    for name, value in values.items():
        top = (1 << config.field_bits[name]) - 1
        wrong = (value < 0) | (value > top)
        if wrong.any():
            raise DramError(f"{name} = {int(value[wrong].flat[0])} is outside 0..{top}")
    values["bank"], values["row"] = _swap(config, values["bank"], values["row"])
    _hash(config, values, values["row"])
    blocks, taken, low = np.zeros_like(values["row"]), dict.fromkeys(FIELDS, 0), 0
    for name, bits in config.layout:
        blocks = blocks | (values[name] >> taken[name] & (1 << bits) - 1) << low
        taken[name] += bits
        low += bits
    return blocks


def launch_block(config: DramConfig, channel: int, rank: int, column: int = 0) -> int:
    """The launch register `column` of a near-data unit: 0 the descriptor, 1..8 the parameter words."""
    if not config.reserved:
        raise DramError("reserved = 0: there is no near-data unit to launch")
    return int(block_of(config, channel, rank, config.part.all_banks - 1, config.part.rows - 1, column))


def in_launch_rows(config: DramConfig, blocks: np.ndarray) -> np.ndarray:
    """Which blocks lie in a row of launch registers."""
    place = locate(config, blocks)
    return (place.bank == config.part.all_banks - 1) & (place.row == config.part.rows - 1) & bool(config.reserved)


def shared_blocks(config: DramConfig) -> int:
    """Blocks of the shared region, at the top of the address space."""
    return config.frames * config.frame_blocks


def rank_frame_blocks(config: DramConfig) -> int:
    """Blocks of one frame that one near-data unit holds: its reserved banks, in all rows (g, frame)."""
    return config.reserved * config.part.row_blocks << config.swapped_bits


def local_place(config: DramConfig, frame: np.ndarray | int, position: np.ndarray | int, flip: int = 0) -> tuple[np.ndarray, ...]:
    """Bank, row, column in its rank of the block at a local position behind the start of a frame (contract: "Sequencer")."""
    k, c, h = config.reserved_bits, config.field_bits["column"], config.swapped_bits
    q, banks = np.asarray(position, dtype=np.int64), config.part.all_banks
    bank = banks - (1 << k) | (q ^ flip) & (1 << k) - 1
    high = (q >> k + c ^ flip >> k) & (1 << h) - 1
    frame = np.asarray(frame, dtype=np.int64) + (q >> k + c + h) * config.colours
    return bank, high << config.field_bits["row"] - h | frame, q >> k & (1 << c) - 1

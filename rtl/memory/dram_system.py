"""The DRAM system as it is simulated: controllers, and the near-data unit of every rank, with flat ports for the bench."""

from functools import reduce
from operator import or_

from amaranth.hdl import Cat, Const, Module, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from gen.dram import DramConfig
from rtl.memory.interfaces import TAG_BITS
from rtl.memory.lanes import Lanes
from rtl.memory.memory_system import MemorySystem
from rtl.memory.near_data_rank import NearDataRank

COMMAND_BITS = 64    # of a command on a port: kind in bits 0..2, rank 8..15, bank 16..23, column 24..39, row 40..63
BEAT_BITS = 128      # of a data port of one channel or unit: the widest beat


def system_ports(config: DramConfig) -> dict[str, wiring.Member]:
    """The ports of `DramSystem`. What there is several times lies side by side in one port, channel (or unit) 0 lowest.

    A unit is a rank: channel * ranks + rank. Requests, answers, `active` and `quiet` as in `rtl.memory.interfaces.DramPort`.
    """
    channels, units, block = config.channels, config.channels * config.ranks, config.part.block_bytes
    return {
        "request_valid": In(1),
        "request_ready": Out(1),
        "request_write": In(1),
        "request_tag": In(TAG_BITS),
        "request_block": In((config.blocks - 1).bit_length()),
        "request_data": In(8 * block),
        "request_mask": In(block),
        "response_valid": Out(channels),
        "response_tag": Out(16 * channels),
        "response_data": Out(8 * block * channels),
        "active": Out(units),
        "quiet": Out(1),
        # To the DRAM: the controllers' pins, and each near-data unit's own path into its rank
        "commands": Out(COMMAND_BITS * channels),
        "write_data": Out(BEAT_BITS * channels),
        "write_mask": Out(BEAT_BITS // 8 * channels),
        "read_data": In(BEAT_BITS * channels),
        "near_commands": Out(COMMAND_BITS * units),
        "near_write_data": Out(BEAT_BITS * units),
        "near_read_data": In(BEAT_BITS * units),
        # Of each unit: the copies of its state differ in this cycle; a launch while busy was ignored in this cycle or before
        "mismatch": Out(units),
        "overrun": Out(units),
    }


def pins(command, rank=None) -> Value:
    """A command as `COMMAND_BITS` of a port; a unit's own path has no `rank`."""
    fields = ((command.kind, 8), (Const(0, 1) if rank is None else rank, 8), (command.bank, 8), (command.column, 16), (command.row, 24))
    return Cat(Cat(value, Const(0, bits))[:bits] for value, bits in fields)


class DramSystem(wiring.Component):
    """`MemorySystem` and, where banks are reserved, every rank's near-data unit. No register of its own.

    With interface "ddr" a unit is a `NearDataRank` on its channel's pins; with "packet" it is the lanes alone, which follow the
    controller's `RankControl`, and `mismatch` stays 0.
    """

    def __init__(self, config: DramConfig):
        self.config = config
        super().__init__(system_ports(config))

    def elaborate(self, platform):
        m = Module()
        config = self.config
        beat, block, ranks = 8 * config.part.beat_bytes, 8 * config.part.block_bytes, config.ranks
        m.submodules.memory = memory = MemorySystem(config)
        request = memory.port.request
        m.d.comb += [
            request.valid.eq(self.request_valid), self.request_ready.eq(request.ready), request.p.write.eq(self.request_write),
            request.p.tag.eq(self.request_tag), request.p.block.eq(self.request_block), request.p.data.eq(self.request_data),
            request.p.mask.eq(self.request_mask), self.active.eq(memory.port.active), self.quiet.eq(memory.port.quiet),
        ]
        overrun, mismatch = [memory.overrun], []
        for number in range(config.channels):
            channel, response = memory.channels[number], memory.port.responses[number]
            m.d.comb += [
                self.response_valid[number].eq(response.valid),
                self.response_tag.word_select(number, 16).eq(response.p.tag),
                self.response_data.word_select(number, block).eq(response.p.data),
                self.commands.word_select(number, COMMAND_BITS).eq(pins(channel.pins.command, channel.pins.rank)),
                self.write_data.word_select(number, BEAT_BITS).eq(channel.write_data),
                self.write_mask.word_select(number, BEAT_BITS // 8).eq(channel.write_mask),
                channel.read_data.eq(self.read_data.word_select(number, BEAT_BITS)[:beat]),
            ]
            for rank in range(ranks if config.reserved else 0):
                unit, name = number * ranks + rank, f"unit_{number}_{rank}"
                read_data = self.near_read_data.word_select(unit, BEAT_BITS)[:beat]
                if config.interface == "packet":
                    m.submodules[name] = lanes = Lanes(config)
                    command, write_data = memory.commands[number][rank], lanes.write_data
                    m.d.comb += [lanes.work.eq(memory.work[number][rank]), lanes.read_data.eq(read_data)]
                else:
                    m.submodules[name] = near = NearDataRank(config, rank=rank)
                    command, write_data = near.port.command, near.port.write_data
                    m.d.comb += [
                        near.pins.rank.eq(channel.pins.rank), near.pins.command.eq(channel.pins.command),
                        near.inhibit.eq(channel.inhibit[rank]), near.write_data.eq(channel.write_data), near.port.read_data.eq(read_data),
                    ]
                    mismatch.append(near.state != memory.states[number][rank])
                    overrun.append(near.overrun << unit)
                m.d.comb += [
                    self.near_commands.word_select(unit, COMMAND_BITS).eq(pins(command)),
                    self.near_write_data.word_select(unit, BEAT_BITS).eq(write_data),
                ]
        m.d.comb += [self.mismatch.eq(Cat(mismatch)), self.overrun.eq(reduce(or_, overrun))]
        return m

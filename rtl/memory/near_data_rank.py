"""The near-data unit of one rank: its copy of the rank's state, and the lanes."""

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from gen.dram import DramConfig
from rtl.memory.interfaces import CommandPins, Inhibit, NearDataPort
from rtl.memory.lanes import Lanes
from rtl.memory.launch import check_near_data
from rtl.memory.rank_control import RankControl


class NearDataRank(wiring.Component):
    """Rank `rank`'s side of a channel: sees only pins (`pins`, its `inhibit`, `write_data`) and works on its DRAM through `port`.

    `port` as in `NearDataPort`; no host command is on this rank's pins in a cycle with a command there. `state` and `overrun` are those
    of its `RankControl`, which follows the same pins as the controller's. Raises ValueError for a `rank` the channel has not, DramError
    where no bank is reserved or a near-data unit does not fit the part.
    """

    def __init__(self, config: DramConfig, *, rank: int):
        check_near_data(config)
        if not 0 <= rank < config.ranks:
            raise ValueError(f"rank = {rank} is outside 0..{config.ranks - 1}")
        self.config = config
        self.rank = rank
        super().__init__({
            "pins": In(CommandPins(config)),
            "inhibit": In(Inhibit),
            "write_data": In(8 * config.part.beat_bytes),
            "port": Out(NearDataPort(config)),
            "state": Out(RankControl.state_bits(config)),
            "overrun": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.control = control = RankControl(self.config, rank=self.rank)
        m.submodules.lanes = lanes = Lanes(self.config)
        m.d.comb += [
            control.pins.rank.eq(self.pins.rank), control.pins.command.eq(self.pins.command), control.inhibit.eq(self.inhibit),
            control.write_data.eq(self.write_data), self.state.eq(control.state), self.overrun.eq(control.overrun),
            lanes.work.eq(control.work), lanes.read_data.eq(self.port.read_data),
            self.port.command.eq(control.command), self.port.write_data.eq(lanes.write_data),
        ]
        return m

"""The host's side of the DRAM system: one request port, a controller for each channel."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import Out, connect, flipped

from gen.dram import DramConfig
from rtl.memory.address_map import AddressMap
from rtl.memory.channel import Channel
from rtl.memory.interfaces import ChannelPins, DramPort, command_layout
from rtl.memory.link import Link
from rtl.memory.rank_control import RankControl
from rtl.memory.sequencer import WORK


class MemorySystem(wiring.Component):
    """Requests by block number, one a cycle; reads are answered out of order, each channel on a port of its own.

    A request is accepted when its channel takes it. Requests for one block keep their order, others need not. With interface "packet" a
    `Link` lies between the port and each channel; the ranks then take the near-data units' `commands` and `work` from here, while with
    "ddr" each rank has them of its own. `states` are the replicas' (index channel, rank).
    """

    def __init__(self, config: DramConfig):
        self.config = config
        channels, ranks = config.channels, config.ranks
        super().__init__({
            # In(DramPort(config)), member by member: Amaranth cannot flip an array inside an interface.
            "port": Out(wiring.Signature({name: member.flip() for name, member in DramPort(config).members.items()})),
            "channels": Out(ChannelPins(config)).array(channels),
            "states": Out(RankControl.state_bits(config)).array(channels, ranks),
            "commands": Out(command_layout(config)).array(channels, ranks),
            "work": Out(WORK).array(channels, ranks),
            "overrun": Out(channels * ranks),
        })

    def elaborate(self, platform):
        m = Module()
        config, port = self.config, self.port
        m.submodules.address_map = address_map = AddressMap(config)
        m.d.comb += address_map.block.eq(port.request.p.block)
        quiet = []
        for number in range(config.channels):
            m.submodules[f"channel_{number}"] = channel = Channel(config)
            pins = self.channels[number]
            m.d.comb += [
                pins.pins.rank.eq(channel.pins.pins.rank), pins.pins.command.eq(channel.pins.pins.command),
                pins.write_data.eq(channel.pins.write_data), pins.write_mask.eq(channel.pins.write_mask),
                channel.pins.read_data.eq(pins.read_data),
            ]
            for rank in range(config.ranks):
                m.d.comb += [
                    pins.inhibit[rank].eq(channel.pins.inhibit[rank]),
                    self.states[number][rank].eq(channel.states[rank]),
                    self.commands[number][rank].eq(channel.commands[rank]),
                    self.work[number][rank].eq(channel.work[rank]),
                ]
            active, idle = channel.active, channel.quiet
            request, response = channel.request, channel.response
            if config.interface == "packet":
                m.submodules[f"link_{number}"] = link = Link(config)
                connect(m, link.channel_request, channel.request)
                connect(m, channel.response, link.channel_response)
                m.d.comb += link.channel_active.eq(channel.active)
                request, response, active = link.request, link.response, link.active
                idle = channel.quiet & link.empty & ~link.active.any()
            here = Signal(name=f"for_channel_{number}")
            m.d.comb += [
                here.eq(address_map.channel == number if config.channels > 1 else 1),
                request.valid.eq(port.request.valid & here),
                request.p.write.eq(port.request.p.write),
                request.p.tag.eq(port.request.p.tag),
                request.p.location.eq(address_map.location),
                request.p.data.eq(port.request.p.data),
                request.p.mask.eq(port.request.p.mask),
                port.active.word_select(number, config.ranks).eq(active),
                self.overrun.word_select(number, config.ranks).eq(channel.overrun),
            ]
            with m.If(here):
                m.d.comb += port.request.ready.eq(request.ready)
            connect(m, response, flipped(port.responses[number]))
            quiet.append(idle)
        m.d.comb += port.quiet.eq(Cat(quiet).all())
        return m

"""What is inside a board's FPGA, whatever its pins are: machine, main memory and link, or what a small board has instead."""

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from boards.board import Board
from boards.unit_system import UnitSystem
from gen.config import Config
from rtl.control.queue import Queue
from rtl.interfaces import request_layout
from rtl.link.host_link import HostLink
from rtl.link.memory_share import MemoryShare
from rtl.link.uart import UartReceiver, UartTransmitter
from rtl.memory.bridge import Bridge
from rtl.memory.on_chip import OnChipMemory
from rtl.memory.sdr import ChipPins, SdrMemory
from rtl.top import Machine


def system(board: Board, config: Config, *, divisor: int | None = None, init_cycles: int | None = None, pads: bool = False):
    """The component that goes on a board: a `BoardSystem`, or a `UnitSystem`, which has nothing to power up."""
    if board.contents == "unit":
        return UnitSystem(board, config, divisor=divisor)
    return BoardSystem(board, config, divisor=divisor, init_cycles=init_cycles, pads=pads)


def through_register(m: Module, source, sink):
    """Connect two streams by a register, so that neither's decision has to reach the other within a cycle: an entry every other cycle."""
    with m.If(~sink.valid):
        m.d.sync += [sink.valid.eq(source.valid), sink.payload.eq(source.payload)]
    with m.Elif(sink.ready):
        m.d.sync += sink.valid.eq(0)
    m.d.comb += source.ready.eq(~sink.valid)


def connect_always(domain, source, sink):
    """Connect a stream that cannot be held up, within the cycle (`m.d.comb`) or by a register (`m.d.sync`)."""
    domain += [sink.valid.eq(source.valid), sink.payload.eq(source.payload)]


class BoardSystem(wiring.Component):
    """A machine behind two UART wires, with its memory. One clock for all.

    `running` and `ready` (main memory can be used) are for lamps. `chip`: the wires of the board's SDR chip, where it has one.
    `divisor` and `init_cycles` are smaller in simulation (bits and power-up take fewer cycles); None: what the board needs. `pads`: the
    registers that a board has in its pads are in here.
    """

    def __init__(self, board: Board, config: Config, *, divisor: int | None = None, init_cycles: int | None = None, pads: bool = False):
        self.board, self.config, self.init_cycles, self.pads = board, config, init_cycles, pads
        self.divisor = board.divisor if divisor is None else divisor
        self.dram = board.dram_config
        super().__init__({
            "rx": In(1, init=1),  # type: ignore
            "tx": Out(1, init=1),  # type: ignore
            "running": Out(1),
            "ready": Out(1),
            **({"chip": Out(ChipPins(self.dram))} if self.dram else {}),
        })

    def elaborate(self, platform):
        m = Module()
        config, board = self.config, self.board
        m.submodules.receiver = receiver = UartReceiver(divisor=self.divisor)
        m.submodules.transmitter = transmitter = UartTransmitter(divisor=self.divisor)
        m.submodules.link = link = HostLink(config, board.identity(config))
        m.submodules.machine = machine = Machine(config)
        m.submodules.share = share = MemoryShare(config)
        m.d.comb += [
            receiver.rx.eq(self.rx),
            self.tx.eq(transmitter.tx),
            link.busy.eq(machine.busy),
            share.running.eq(machine.busy),
            self.running.eq(machine.busy),
        ]
        m.d.sync += link.memory_ready.eq(self.ready)        # from the pads
        connect_always(m.d.sync, receiver.bytes, link.received)     # the pin may be far away
        wiring.connect(m, link.sent, transmitter.bytes)
        wiring.connect(m, link.registers, machine.registers)
        # The link is far from memory: what it asks for is taken where it is. Answers of the DRAM, too, come to where they are wanted, while
        # memory on chip has the latency of the cycle model.
        through_register(m, link.memory.request, share.link.request)
        wiring.connect(m, machine.memory.request, share.machine.request)
        for client, port in ((machine.memory, share.machine), (link.memory, share.link)):
            connect_always(m.d.sync if self.dram else m.d.comb, port.response, client.response)

        if self.dram:
            m.submodules.memory = memory = SdrMemory(self.dram, init_cycles=self.init_cycles, pads=self.pads)
            m.submodules.bridge = bridge = Bridge(config, self.dram)
            # Both ends know late what they do: the arbiter what it asks for, a bridge, which compares addresses, whether it takes it. So
            # room is what there was a cycle before, and with three on their way or waiting the fourth is the last.
            request, response, layout = share.memory.request, share.memory.response, request_layout(config)
            m.submodules.requests = requests = Queue(shape=layout, depth=4, registered=layout["data"].offset)
            wiring.connect(m, requests.head, bridge.accelerator.request)
            taken, pending = Signal(), Signal(range(requests.depth + 1))
            m.d.comb += taken.eq(request.valid & request.ready)
            m.d.sync += [
                requests.push.eq(taken),
                requests.entry.eq(request.payload),
                pending.eq(pending + taken - (requests.head.valid & requests.head.ready)),
                request.ready.eq(pending < requests.depth - 1),
            ]
            connect_always(m.d.comb, bridge.accelerator.response, response)
            # Nor do decisions of the two sides of the memory system's port fit into one cycle. A block takes its bus longer than two.
            through_register(m, bridge.dram.request, memory.port.request)
            wiring.connect(m, memory.port.responses[0], bridge.dram.responses[0])
            wiring.connect(m, memory.chips[0], wiring.flipped(self.chip))
            m.d.comb += [
                bridge.dram.active.eq(memory.port.active),
                bridge.dram.quiet.eq(memory.port.quiet),
                self.ready.eq(memory.ready),
            ]
        else:
            m.submodules.memory = memory = OnChipMemory(config, size_bytes=board.memory_bytes)
            wiring.connect(m, share.memory, memory.port)
            m.d.comb += self.ready.eq(1)
        return m

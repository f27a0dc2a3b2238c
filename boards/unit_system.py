"""What is inside the FPGA of a small board: a compute unit and the link. The host does the rest (sw/runtime/unit_board.py)."""

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from boards.board import Board
from gen.config import Config
from rtl.link.host_link import HostLink
from rtl.link.uart import UartReceiver, UartTransmitter
from rtl.link.unit_port import UnitPort


class UnitSystem(wiring.Component):
    """A unit behind two UART wires. One clock for all.

    `running` and `ready` (always) are for lamps. `divisor` is smaller in simulation; None: what the board needs.
    """

    def __init__(self, board: Board, config: Config, *, divisor: int | None = None):
        self.board, self.config = board, config
        self.divisor = board.divisor if divisor is None else divisor
        super().__init__({"rx": In(1, init=1), "tx": Out(1, init=1), "running": Out(1), "ready": Out(1)})  # type: ignore

    def elaborate(self, platform):
        m = Module()
        m.submodules.receiver = receiver = UartReceiver(divisor=self.divisor)
        m.submodules.transmitter = transmitter = UartTransmitter(divisor=self.divisor)
        m.submodules.link = link = HostLink(self.config, self.board.identity(self.config))
        m.submodules.unit = unit = UnitPort(self.config)
        m.d.comb += [
            receiver.rx.eq(self.rx),
            self.tx.eq(transmitter.tx),
            link.memory_ready.eq(1),
            self.running.eq(~unit.memory.request.ready),
            self.ready.eq(1),
        ]
        wiring.connect(m, receiver.bytes, link.received)
        wiring.connect(m, link.sent, transmitter.bytes)
        wiring.connect(m, link.registers, unit.registers)
        wiring.connect(m, link.memory, unit.memory)
        return m

"""What a board is: its device, clock, link, memory, and what goes on it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from amaranth.hdl import ClockSignal, Elaboratable, Module, Value
from amaranth.lib import io

from gen.config import Config
from gen.dram import DramConfig, part
from gen.link import Identity
from gen.unit_map import UnitMap


@dataclass(frozen=True, kw_only=True)
class Device:
    """An FPGA and what it has. `block_ram_bits` are those of one block RAM, parity bits included."""

    name: str
    family: str             # "ecp5", "ice40" or "gowin": which tools, which primitives
    luts: int               # with four inputs
    multipliers: int
    block_rams: int
    block_ram_bits: int
    options: dict[str, str] = field(default_factory=dict)    # how nextpnr and the packer call it


@dataclass(frozen=True, kw_only=True)
class Board:
    """One board. `config` names the preset it is meant for, the largest that fits. All of it shares one clock.

    `contents`: "machine" is a machine with its memory, "unit" a FlexSA unit alone, for which a host does the rest.
    A machine's main memory is an SDR chip (`dram`, a part of `gen.dram`) or block RAM (`memory_bytes`). `multipliers` are left to the
    array where the rest of the machine needs some; PEs beyond them are made of LUTs (on Gowin every PE takes one).
    `floorplan` fixes cells of a netlist before nextpnr gets it.
    """

    name: str
    doc: str
    contents: str = "machine"
    device: Device
    config: str
    clock_khz: int
    baud: int
    link: str                       # where the two wires of the UART are
    dram: str | None = None
    memory_bytes: int = 0           # of block RAM, where there is no `dram`
    multipliers: int = 0
    platform: Callable[[], Any]     # an amaranth-boards platform
    clock: Callable[[], Any]        # a component that drives the `sync` domain of `clock_khz` from the board's oscillator
    loader: str                     # what openFPGALoader calls the board
    floorplan: Callable[[Path], None] | None = None

    @property
    def divisor(self) -> int:
        """Clock cycles of a bit on the UART."""
        return round(1000 * self.clock_khz / self.baud)

    @property
    def dram_config(self) -> DramConfig | None:
        """The memory system for the board's chip at the board's clock; few entries, as one machine asks in order."""
        if self.dram is None:
            return None
        return DramConfig(part=part(self.dram), reserved=0, clock_khz=self.clock_khz, read_entries=4, write_entries=4, drain_high=3,
                          drain_low=1)

    @property
    def main_memory_bytes(self) -> int:
        """Bytes of main memory."""
        return self.dram_config.bytes if self.dram_config else self.memory_bytes

    def identity(self, config: Config) -> Identity:
        """What the board answers to HELLO. The memory of a unit is its windows."""
        size = UnitMap(config).size_bytes if self.contents == "unit" else self.main_memory_bytes
        return Identity(unit=config.memory.bytes_per_cycle, clock_khz=self.clock_khz, memory_bytes=size,
                        config=config.digest(), board=self.name)


def oscillator(m: Module, platform, name: str) -> Value:
    """A clock pin of an amaranth-boards platform, by its name there, behind its buffer."""
    m.submodules.oscillator = buffer = io.Buffer(io.Direction.Input, platform.request(name, 0, dir="-"))
    return buffer.i


class Oscillator(Elaboratable):
    """Drives the domain `sync` from a board's oscillator as it is. `name` is that of its pin."""

    def __init__(self, name: str):
        self.name = name

    def elaborate(self, platform):
        m = Module()
        m.d.comb += ClockSignal().eq(oscillator(m, platform, self.name))
        return m

"""Amaranth layouts of the instructions in `gen.isa`."""

from amaranth.hdl import Cat, Value, signed
from amaranth.lib import data

from gen import isa
from gen.config import Config


def instruction_layout(name: str) -> data.StructLayout:
    """Layout of one instruction, common fields first; bit offsets are those of `gen.isa.layout`."""
    return data.StructLayout({item.name: signed(item.width) if item.signed else item.width for item, _ in isa.layout(name)})


def unit_bits(config: Config, unit: isa.Unit) -> int:
    """Bits of a machine's longest instruction for a unit: the width its queue keeps."""
    return max(instruction_layout(op.name).size for op in isa.opcodes(config) if op.unit is unit)


def queued_layout(config: Config, unit: isa.Unit) -> data.StructLayout:
    """What a unit's queue keeps: the instruction's bits (cast with `instruction_layout`), and of LOAD_H's instructions `wave_words`, the
    words of the ring that each wave takes: ceil(rows / parts), none for SetConv."""
    return data.StructLayout({"bits": unit_bits(config, unit)} | ({"wave_words": 16} if unit is isa.Unit.LOAD_H else {}))


def entry_layout(config: Config, unit: isa.Unit) -> data.StructLayout:
    """What a unit gets: what its queue keeps, and a number that tells which instruction it is."""
    return data.StructLayout({"index": 32} | queued_layout(config, unit).members)


def shown_bits(config: Config) -> int:
    """Bits of an instruction, as `shown` cuts it."""
    return max(instruction_layout(op.name).size for op in isa.opcodes(config)) + 1


def shown(config: Config, bits) -> Value:
    """The bits of an instruction as the dispatcher sees them: of those that no opcode of the machine has a field for, only whether any
    is set."""
    kept = shown_bits(config) - 1
    return Cat(bits[:kept], bits[kept:].any())

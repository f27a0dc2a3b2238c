"""Amaranth layouts of the instructions in `gen.isa`."""

from amaranth import signed
from amaranth.lib import data

from gen import isa


def instruction_layout(name: str) -> data.StructLayout:
    """Layout of one instruction, common fields first; bit offsets are those of `gen.isa.layout`."""
    return data.StructLayout({item.name: signed(item.width) if item.signed else item.width for item, _ in isa.layout(name)})


def unit_bits(unit: isa.Unit) -> int:
    """Bits of the longest instruction of a unit: the width its queue keeps."""
    return max(instruction_layout(op.name).size for op in isa.OPCODES.values() if op.unit is unit)


def entry_layout(unit: isa.Unit) -> data.StructLayout:
    """A queue entry: the instruction's index in the program and its bits (cast with `instruction_layout`)."""
    return data.StructLayout({"index": 32, "bits": unit_bits(unit)})

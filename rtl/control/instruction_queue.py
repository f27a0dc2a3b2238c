"""The queue in front of a unit."""

from amaranth.hdl import Module
from amaranth.utils import ceil_log2

from gen.config import Config
from gen.isa import COMMON, Unit
from rtl.control.queue import Queue
from rtl.instruction import unit_bits

DECISIVE = {"opcode", "version", "group", "wait"}       # the fields that decide whether an instruction can start: the first ones
DECISIVE_BITS = sum(item.width for item in COMMON if item.name in DECISIVE)


def slot_bits(config: Config) -> int:
    """Bits of a queue's slots."""
    return ceil_log2(config.control.queue_depth) + 1


def instruction_queue(m: Module, kind: Unit, unit, *, depth: int) -> Queue:
    """A queue of instructions, as bits, linked to its unit, which knows each by its slot. The fields behind `wait` come a little later."""
    # The start of LOAD_H depends on most of its fields.
    registered = None if kind is Unit.LOAD_H else DECISIVE_BITS
    queue = Queue(shape=unit_bits(kind), depth=depth, registered=registered)
    m.d.comb += [
        unit.instruction.valid.eq(queue.head.valid),
        unit.instruction.p.bits.eq(queue.head.payload),
        unit.instruction.p.index.eq(queue.slot),
        queue.head.ready.eq(unit.instruction.ready),
    ]
    return queue

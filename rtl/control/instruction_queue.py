"""The queue in front of a unit."""

from amaranth.hdl import Module, Signal
from amaranth.utils import ceil_log2

from gen.config import Config
from gen.isa import COMMON, Unit
from rtl.control.queue import Queue

DECISIVE = {"opcode", "version", "group", "wait"}       # the fields that decide whether an instruction can start: the first ones
DECISIVE_BITS = sum(item.width for item in COMMON if item.name in DECISIVE)


def slot_bits(config: Config) -> int:
    """Bits of a queue's slots."""
    return ceil_log2(config.control.queue_depth) + 1


def instruction_queue(m: Module, kind: Unit, unit, *, depth: int) -> Queue:
    """A queue of instructions, as bits, linked to its unit, which knows each by its slot. The fields behind `wait` come a little later.

    Decisions come late in their cycle: an instruction leaves in the one after, and the next one is there in the second one after.
    """
    # The start of LOAD_H depends on most of its fields.
    registered = None if kind is Unit.LOAD_H else DECISIVE_BITS
    queue = Queue(shape=len(unit.instruction.p.bits), depth=depth, registered=registered)
    leaving = Signal(name=f"{kind.name.lower()}_leaving")
    m.d.sync += leaving.eq(unit.instruction.valid & unit.instruction.ready)
    m.d.comb += [
        unit.instruction.valid.eq(queue.head.valid & ~leaving),
        unit.instruction.p.bits.eq(queue.head.payload),
        unit.instruction.p.index.eq(queue.slot),
        queue.head.ready.eq(leaving),
    ]
    return queue

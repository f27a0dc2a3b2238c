"""The queue in front of a unit."""

from amaranth.hdl import Module, Signal
from amaranth.utils import ceil_log2

from gen.config import Config
from gen.isa import COMMON, Unit
from rtl.control.load_moving import wave_words
from rtl.control.queue import Queue
from rtl.instruction import queued_layout

DECISIVE = {"opcode", "version", "group", "wait"}       # the fields that decide whether an instruction can start: the first ones
DECISIVE_BITS = sum(item.width for item in COMMON if item.name in DECISIVE)


def slot_bits(config: Config) -> int:
    """Bits of a queue's slots."""
    return ceil_log2(config.control.queue_depth) + 1


def instruction_queue(m: Module, kind: Unit, unit, *, config: Config, bits) -> Queue:
    """A queue of instructions, linked to its unit, which knows each by its slot. The fields behind `wait` come a little later.

    `bits`: of the instruction to push, there from the cycle before on. Decisions come late in their cycle: an instruction leaves in the
    one after, and the next one is there in the second one after.
    """
    # The start of LOAD_H depends on most of its fields.
    layout, registered = queued_layout(config, kind), None if kind is Unit.LOAD_H else DECISIVE_BITS
    queue = Queue(shape=layout, depth=config.control.queue_depth, registered=registered)
    if kind is Unit.LOAD_H:
        m.d.sync += queue.entry.wave_words.eq(wave_words(bits, config.array.unit))
    leaving = Signal(name=f"{kind.name.lower()}_leaving")
    m.d.sync += leaving.eq(unit.instruction.valid & unit.instruction.ready)
    m.d.comb += [
        unit.instruction.valid.eq(queue.head.valid & ~leaving),
        queue.entry.bits.eq(bits),
        *(unit.instruction.p[name].eq(queue.head.p[name]) for name in layout.members),
        unit.instruction.p.index.eq(queue.slot),
        queue.head.ready.eq(leaving),
    ]
    return queue

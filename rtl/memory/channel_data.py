"""A channel's data pins: where write data waits for its command, and how the beats of a read become a response."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from gen.dram import DramConfig
from rtl.memory.interfaces import TAG_BITS, response_layout


def write_slots(config: DramConfig) -> int:
    """Blocks of write data a channel can hold: a full queue, and those whose WR is chosen but whose data is not yet read out.

    A slot is free again in the cycle behind the read, CWL cycles behind the choice of the WR, or with CWL 0 behind its last beat; WRs are a
    burst or more apart.
    """
    return config.write_entries + config.timing["tCWL"] // config.part.burst_cycles + 1


class WriteData(wiring.Component):
    """Blocks to write with their masks, in slots.

    `store` takes `block` into `slot`, the lowest free one (there is always one while the write queue is not full). `send` with
    `sent_slot` in cycle t (WR on the pins in t+1) drives its beats in t+1+CWL .. t+CWL+tBL and frees the slot. `write_mask` is 0 when
    nothing is driven; `write_data` then has no meaning. One block in a cycle; WRs a burst or more apart are taken for granted.
    Data that goes with its command (CWL 0) is read word by word while it is driven, so that the choice of the WR ends in a register.
    """

    def __init__(self, config: DramConfig):
        self.config = config
        part = config.part
        slot_bits = (write_slots(config) - 1).bit_length()
        super().__init__({
            "store": In(1),
            "block": In(data.StructLayout({"data": 8 * part.block_bytes, "mask": part.block_bytes})),
            "slot": Out(slot_bits),
            "send": In(1),
            "sent_slot": In(slot_bits),
            "write_data": Out(8 * part.beat_bytes),
            "write_mask": Out(part.beat_bytes),
        })

    def elaborate(self, platform):
        m = Module()
        part, slots = self.config.part, write_slots(self.config)
        early = not self.config.timing["tCWL"]
        m.submodules.memory = memory = Memory(shape=self.block.shape(), depth=slots, init=[])
        write, read = memory.write_port(), memory.read_port(domain="comb" if early else "sync")    # "sync" keeps its block until the next
        used, freed, taken = Signal(slots), Signal(slots), Signal(slots)
        send, slot = self.send, self.sent_slot
        for stage in range(self.config.timing["tCWL"]):
            next_send, next_slot = Signal(name=f"send_{stage}"), Signal(len(slot), name=f"slot_{stage}", reset_less=True)
            m.d.sync += [next_send.eq(send), next_slot.eq(slot)]
            send, slot = next_send, next_slot
        for i in reversed(range(slots)):
            with m.If(~used[i]):
                m.d.comb += self.slot.eq(i)
        m.d.comb += [
            taken.eq(self.store << self.slot),
            write.en.eq(self.store), write.addr.eq(self.slot), write.data.eq(self.block),
        ]
        m.d.sync += used.eq((used | taken) & ~freed)

        driving, beat, driven = Signal(), Signal(range(part.burst_cycles)), Signal(len(slot))
        if early:
            m.d.comb += [freed.eq((driving & (beat == part.burst_cycles - 1)) << driven), read.addr.eq(driven)]
        else:
            m.d.comb += [freed.eq(send << slot), read.en.eq(send), read.addr.eq(slot)]
        with m.If(send):
            m.d.sync += driven.eq(slot)
        with m.If(send):
            m.d.sync += [driving.eq(1), beat.eq(0)]
        with m.Elif(driving):
            m.d.sync += [driving.eq(beat != part.burst_cycles - 1), beat.eq(beat + 1)]
        m.d.comb += self.write_data.eq(read.data.data.word_select(beat, len(self.write_data)))
        with m.If(driving):
            m.d.comb += self.write_mask.eq(read.data.mask.word_select(beat, len(self.write_mask)))
        return m


class ReadData(wiring.Component):
    """`expect` with a tag in cycle t (RD on the pins in t+1): its beats are taken in t+1+CL .. t+CL+tBL, the response comes in t+1+CL+tBL.

    `outstanding` from t+1 up to and including the cycle of the response.
    """

    def __init__(self, config: DramConfig):
        self.config = config
        super().__init__({
            "expect": In(1),
            "tag": In(TAG_BITS),
            "read_data": In(8 * config.part.beat_bytes),
            "response": Out(stream.Signature(response_layout(config), always_ready=True)),
            "outstanding": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        stages = self.config.timing["tCL"] + self.config.part.burst_cycles + 1
        coming, tags = Signal(stages), Signal(stages * TAG_BITS, reset_less=True)
        block = Signal(8 * self.config.part.block_bytes, reset_less=True)    # the last beats
        m.d.sync += [
            coming.eq(Cat(self.expect, coming)),
            tags.eq(Cat(self.tag, tags)),
            block.eq(Cat(block, self.read_data)[len(self.read_data):]),
        ]
        m.d.comb += [
            self.response.valid.eq(coming[-1]),
            self.response.p.tag.eq(tags[-TAG_BITS:]),
            self.response.p.data.eq(block),
            self.outstanding.eq(coming.any()),
        ]
        return m

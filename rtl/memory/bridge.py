"""The bridge from the accelerator's memory port, a beat at a time, to the DRAM system's, a block at a time."""

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from gen.config import Config
from gen.dram import DramConfig
from rtl.control.queue import Queue
from rtl.interfaces import MemoryPort
from rtl.memory.interfaces import TAG_BITS, DramPort, request_layout

FLUSH_CYCLES = 16    # after which a block that is written in part goes out without further beats
AHEAD = 4            # requests that wait for the DRAM system


class BridgeError(ValueError):
    """A bridge that cannot work; one line naming field, value and allowed range."""


class Bridge(wiring.Component):
    """Gathers written beats into blocks, fetches read blocks once for consecutive beats, and returns read beats in the order asked for.

    A *piece* is the smaller of beat and block; one is taken a cycle. `reads` blocks may be on their way or waiting for their turn.
    Written pieces of a block are gathered until it is full, a written piece or a read calls for it to go, or none has come for
    `FLUSH_CYCLES`; unwritten bytes are masked. A read leaves at once, behind everything that was written to its block: the DRAM system
    keeps the order of requests to one block. A piece that comes back in cycle t is on `accelerator.response` in t+3 if it is next in turn.
    A read that follows the one before in the same block, without a write in between, joins it. `reads` None: twice the read entries.
    Beats are aligned; addresses behind the memory's end wrap. `idle`: nothing gathered, waiting or on its way. Raises BridgeError.
    """

    def __init__(self, config: Config, dram: DramConfig, *, reads: int | None = None):
        self.config, self.dram_config = config, dram
        self.beat_bytes, self.block_bytes = config.memory.bytes_per_cycle, dram.part.block_bytes
        self.piece_bytes = min(self.beat_bytes, self.block_bytes)
        low = max(8, self.beat_bytes // self.piece_bytes)
        if reads is None:
            reads = max(low, min(32, 1 << (2 * dram.read_entries - 1).bit_length()))
        self.reads = reads
        if not low <= reads <= 1 << TAG_BITS or reads & (reads - 1):
            raise BridgeError(f"reads = {reads} is outside the powers of two in {low}..{1 << TAG_BITS} blocks")
        super().__init__({"accelerator": In(MemoryPort(config)), "dram": Out(DramPort(dram)), "idle": Out(1)})

    def elaborate(self, platform):
        m = Module()
        pieces = self.block_bytes // self.piece_bytes       # of a block
        parts = self.beat_bytes // self.piece_bytes         # of a beat; one of the two is 1
        width = 8 * self.piece_bytes
        offset_bits = (pieces - 1).bit_length()
        request, response = self.accelerator.request, self.accelerator.response

        # The present piece
        number, value, taken = Signal(32 - (self.piece_bytes.bit_length() - 1)), Signal(width), Signal()
        if parts == 1:
            m.d.comb += [
                number.eq(request.p.address >> self.piece_bytes.bit_length() - 1),
                value.eq(request.p.data),
                request.ready.eq(taken),
            ]
        else:
            part = Signal(range(parts))
            m.d.comb += [
                number.eq(Cat(part, request.p.address >> self.beat_bytes.bit_length() - 1)),
                value.eq(request.p.data.word_select(part, width)),
                request.ready.eq(taken & (part == parts - 1)),
            ]
            m.d.sync += part.eq(part + taken)               # a power of two: it wraps
        block = Signal(len(self.dram.request.p.block))
        offset = Signal(max(1, offset_bits))
        m.d.comb += [block.eq(number >> offset_bits), offset.eq(number[:offset_bits])]
        writes, reads = Signal(), Signal()
        m.d.comb += [writes.eq(request.valid & request.p.write), reads.eq(request.valid & ~request.p.write)]

        m.submodules.ahead = ahead = Queue(shape=request_layout(self.dram_config), depth=AHEAD, registered=0)
        wiring.connect(m, ahead.head, wiring.flipped(self.dram.request))

        # Writes: the gathered block
        gathered, age = Signal(), Signal(range(FLUSH_CYCLES + 1))
        gathered_block, gathered_data, gathered_mask = Signal.like(block), Signal(8 * self.block_bytes), Signal(pieces)
        same, full, flush, write_taken = Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            same.eq(gathered & (gathered_block == block)),
            full.eq(gathered_mask.all() if pieces > 1 else 1),
            flush.eq(gathered & ~ahead.full & (full | (age == FLUSH_CYCLES) | (writes & ~same) | (reads & same))),
            write_taken.eq(writes & (~gathered | flush | (same & ~full))),
        ]
        with m.If(gathered & (age != FLUSH_CYCLES)):
            m.d.sync += age.eq(age + 1)
        with m.If(flush):
            m.d.sync += gathered.eq(0)
        with m.If(write_taken):
            m.d.sync += [
                gathered.eq(1),
                age.eq(0),
                gathered_block.eq(block),
                gathered_mask.eq(Mux(gathered & ~flush, gathered_mask, 0) | (1 << offset)),
                gathered_data.word_select(offset, width).eq(value),
            ]

        # Reads: a slot for each block, in a ring. The youngest one is open for pieces that follow.
        head, tail = Signal(range(self.reads)), Signal(range(self.reads))
        used = Signal(range(self.reads + 1))
        slot_layout = data.StructLayout({"tag": 2, "first": len(offset), "count": range(pieces + 1)})
        m.submodules.slots = slots = Memory(shape=slot_layout, depth=self.reads, init=[])
        slot_write, oldest = slots.write_port(), slots.read_port(domain="comb")
        arrived = Signal(self.reads)
        open_, open_slot, open_next, youngest = Signal(), Signal.like(head), Signal.like(number), Signal(slot_layout)
        joins, read_new, read_taken = Signal(), Signal(), Signal()
        m.d.comb += [
            joins.eq(reads & open_ & (open_next == number) & (number[:offset_bits] != 0) & (youngest.tag == request.p.tag)),
            read_new.eq(reads & ~joins & ~flush & ~ahead.full & (used != self.reads)),
            read_taken.eq(joins | read_new),
            taken.eq(write_taken | read_taken),
            ahead.push.eq(flush | read_new),
            ahead.entry.write.eq(flush),
            ahead.entry.tag.eq(tail),
            ahead.entry.block.eq(Mux(flush, gathered_block, block)),
            ahead.entry.data.eq(gathered_data),
            ahead.entry.mask.eq(Cat(bit.replicate(self.piece_bytes) for bit in gathered_mask)),
        ]

        # Pieces leave in order: their block is read from memory in the cycle of `leaves`
        sent, leaves, last = Signal(range(pieces + 1)), Signal(), Signal()
        m.d.comb += [
            leaves.eq((used != 0) & arrived.bit_select(head, 1)),
            last.eq(leaves & ((sent + 1 == oldest.data.count) & ~(joins & (open_slot == head)) if pieces > 1 else 1)),
            oldest.addr.eq(head),
            slot_write.en.eq(read_taken),
            slot_write.addr.eq(Mux(joins, open_slot, tail)),
            slot_write.data.tag.eq(request.p.tag),
            slot_write.data.first.eq(Mux(joins, youngest.first, offset)),
            slot_write.data.count.eq(Mux(joins, youngest.count + 1, 1)),
        ]
        with m.If(leaves):
            m.d.sync += sent.eq(Mux(last, 0, sent + 1))
        with m.If(last):
            m.d.sync += head.eq(head + 1)
            with m.If(open_slot == head):
                m.d.sync += open_.eq(0)
        with m.If(write_taken):
            m.d.sync += open_.eq(0)
        with m.If(read_taken):
            m.d.sync += [youngest.eq(slot_write.data), open_next.eq(number + 1)]
        with m.If(read_new):
            m.d.sync += [tail.eq(tail + 1), arrived.bit_select(tail, 1).eq(0), open_.eq(1), open_slot.eq(tail)]
        m.d.sync += used.eq(used + read_new - last)

        # Blocks come back in any order, one a channel in a cycle; each channel has a memory of its own
        channels = self.dram_config.channels
        sources = Array(Signal(range(max(2, channels)), name=f"source_{i}") for i in range(self.reads))
        blocks = []
        for channel, answer in enumerate(self.dram.responses):
            m.submodules[f"blocks_{channel}"] = memory = Memory(shape=8 * self.block_bytes, depth=self.reads, init=[])
            write, read = memory.write_port(), memory.read_port()
            slot = answer.p.tag[:len(head)]
            m.d.comb += [write.addr.eq(slot), write.data.eq(answer.p.data), write.en.eq(answer.valid), read.addr.eq(head)]
            with m.If(answer.valid):
                m.d.sync += arrived.bit_select(slot, 1).eq(1)
                if channels > 1:
                    m.d.sync += sources[slot].eq(channel)
            blocks.append(read.data)

        # The way out: the block is on the memories' outputs, then the piece is in a register
        coming, place, source, tag = Signal(), Signal.like(offset), Signal(range(max(2, channels))), Signal(2)
        piece_number = Signal(range(max(2, parts)))
        m.d.sync += [
            coming.eq(leaves),
            place.eq(oldest.data.first + sent),
            source.eq(sources[head]),
            tag.eq(oldest.data.tag),
            piece_number.eq(head if parts > 1 else 0),
            response.valid.eq(coming & (piece_number == parts - 1)),
            response.p.tag.eq(tag),
        ]
        chosen = Array(blocks)[source] if channels > 1 else blocks[0]
        with m.If(coming):
            m.d.sync += response.p.data.word_select(piece_number if parts > 1 else Const(0), width).eq(chosen.word_select(place, width))
        m.d.comb += self.idle.eq(~(gathered | (used != 0) | (ahead.count != 0) | coming | response.valid))
        return m

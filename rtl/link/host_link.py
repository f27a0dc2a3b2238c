"""Carries a host's requests out on the register bus and the memory port, frame by frame."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from gen.config import Config
from gen.link import ANSWER_HEADER, CRC_BYTES, PAYLOAD_BYTES, RECEIVE_BYTES, REPEATABLE, REQUEST_HEADER, Identity, Request, Status
from rtl.buffer.block_memory import BlockMemory
from rtl.control.registers import ADDRESS_BITS, RegisterBus
from rtl.interfaces import MemoryPort
from rtl.link.frame import RECEIVED, RESIDUE, Crc32, Escape, Unescape
from rtl.link.receive_buffer import ReceiveBuffer

REGISTER_BYTES = 4
MAX_MEMORY_BYTES = 1 << 31      # the largest power of two that the identity can name
HEADER_BYTES = sum(size for _, size in REQUEST_HEADER)
ANSWER_BYTES = sum(size for _, size in ANSWER_HEADER)
INDEX_BITS = (HEADER_BYTES + PAYLOAD_BYTES + CRC_BYTES).bit_length()      # counts any byte of a frame


def _beyond(value: Value, limit: int) -> Value:
    """value > limit, a power of two or one less: the bits above and, at a power of two, those below. Smaller than a comparison."""
    bits = limit.bit_length()
    if limit & (limit + 1) == 0:
        return value[bits:].any()
    return value[bits:].any() | (value[bits - 1] & value[:bits - 1].any())


class HostLink(wiring.Component):
    """The board's side of the contract in rtl/link/README.md, behind a stream of bytes each way.

    A *group* is what is accessed at once: a memory beat (`unit` bytes) or a register. A group of n bytes is written in n + 4 cycles and
    the wait for memory; one is read in 2 cycles, memory's wait and latency, and the time in which its bytes leave (two cycles a byte or
    more). One read is under way at a time. `busy`: the machine runs; `memory_ready`: main memory takes requests. `memory_bytes` of the
    identity is a power of two. Raises ValueError.
    """

    def __init__(self, config: Config, identity: Identity):
        unit = config.memory.bytes_per_cycle
        if unit > PAYLOAD_BYTES:
            raise ValueError(f"memory.bytes_per_cycle = {unit} is outside 1..{PAYLOAD_BYTES} bytes (payload of a frame)")
        if identity.unit != unit:
            raise ValueError(f"identity.unit = {identity.unit} must be {unit} bytes (memory.bytes_per_cycle)")
        size = identity.memory_bytes
        if not PAYLOAD_BYTES <= size <= MAX_MEMORY_BYTES or size & (size - 1):
            raise ValueError(f"identity.memory_bytes = {size} must be a power of two in {PAYLOAD_BYTES}..{MAX_MEMORY_BYTES} bytes")
        self.unit, self.identity = unit, identity
        super().__init__({
            "received": In(stream.Signature(RECEIVED, always_ready=True)),
            "sent": Out(stream.Signature(8)),
            "registers": Out(RegisterBus()),
            "memory": Out(MemoryPort(config)),
            "busy": In(1),
            "memory_ready": In(1),
        })

    def elaborate(self, platform):
        m = Module()
        unit = self.unit
        m.submodules.buffer = buffer = ReceiveBuffer(depth=RECEIVE_BYTES)
        m.submodules.unescape = unescape = Unescape()
        m.submodules.escape = escape = Escape()
        m.submodules.crc = crc = Crc32()                # of the frame that is received, then of its answer
        m.submodules.frame = frame = BlockMemory(width=8, depth=1 << INDEX_BITS)
        wiring.connect(m, wiring.flipped(self.received), buffer.bytes)
        wiring.connect(m, buffer.received, unescape.received)
        wiring.connect(m, escape.sent, wiring.flipped(self.sent))
        byte, answer = unescape.unescaped, escape.frame

        # The frame so far: `count` bytes, beginning with -HEADER_BYTES, so that the payload lies in `frame` from 0 on
        header = Signal(data.StructLayout({name: 8 * size for name, size in REQUEST_HEADER}), reset_less=True)
        count, damaged = Signal(INDEX_BITS, init=-HEADER_BYTES % (1 << INDEX_BITS)), Signal()
        full = count.init - 1                           # too long for any frame; stands
        m.d.sync += [
            frame.write.eq(byte.valid & byte.ready),
            frame.write_address.eq(count),
            frame.write_data.eq(byte.p.data),
        ]

        # What it asks for
        request, length, address = header.request, header.length, header.address
        hello, write, in_memory, read = Signal(), Signal(), Signal(), Signal()
        m.d.sync += [                                   # it stands long before they are looked at
            hello.eq(request == Request.HELLO),
            write.eq((request == Request.WRITE_REGISTERS) | (request == Request.WRITE_MEMORY)),
            read.eq((request == Request.READ_REGISTERS) | (request == Request.READ_MEMORY)),
            in_memory.eq((request == Request.READ_MEMORY) | (request == Request.WRITE_MEMORY)),
        ]
        index = Signal(INDEX_BITS)                      # of a byte in the payload, or in a part of the answer
        group_end = Signal()
        m.d.comb += group_end.eq(Mux(in_memory, index & (unit - 1) == unit - 1, index & (REGISTER_BYTES - 1) == REGISTER_BYTES - 1))

        # Judgement
        intact, place = Signal(), Signal(len(address) + 1, reset_less=True)     # place: the end of the access, later each group's address
        greeted, expected, behind = Signal(), Signal(8), Signal(8)
        status, judged = Signal(Status), Signal(Status)
        field = Signal()
        m.d.sync += behind.eq(expected - header.sequence)       # both stand long before they are looked at
        m.d.comb += [
            field.eq(Mux(in_memory,
                         ((address | length) & (unit - 1) != 0) | _beyond(place, self.identity.memory_bytes),
                         ((address | length) & (REGISTER_BYTES - 1) != 0) | _beyond(place, 1 << ADDRESS_BITS))
                     | ~(read | write) | (length == 0) | _beyond(length, PAYLOAD_BYTES)),
        ]
        with m.If(~intact | (~hello & (~greeted | _beyond(behind, REPEATABLE)))):
            m.d.comb += judged.eq(Status.REPEAT)
        with m.Elif(hello | (write & (behind != 0))):
            m.d.comb += judged.eq(Status.OK)
        with m.Elif(field):
            m.d.comb += judged.eq(Status.FIELD)
        with m.Elif(in_memory & (self.busy | ~self.memory_ready)):
            m.d.comb += judged.eq(Status.BUSY)

        # The group under way: bytes enter at the top and leave at the bottom
        group = Signal(8 * max(unit, REGISTER_BYTES), reset_less=True)
        gathering, arriving = Signal(2), Signal()
        shift, writes_register = Signal(), Signal()
        m.d.sync += gathering.eq(Cat(frame.read, gathering))
        m.d.comb += [
            frame.read_address.eq(index),
            arriving.eq(gathering[1]),
            self.memory.request.p.write.eq(write),
            self.memory.request.p.last.eq(1),
            self.memory.request.p.beats.eq(1),
            self.memory.request.p.address.eq(place),
            self.memory.request.p.data.eq(group[-8 * unit:]),
        ]
        m.d.sync += [       # of what a machine may have far away
            self.registers.address.eq(place),
            self.registers.write_data.eq(group[-8 * REGISTER_BYTES:]),
            self.registers.write_enable.eq(writes_register),
        ]
        with m.If(arriving | shift):
            m.d.sync += group.eq(Cat(group[8:], frame.read_data))

        identity = Const(int.from_bytes(self.identity.to_bytes(), "little"), 8 * len(self.identity.to_bytes()))
        carries = Signal()                              # the answer has a payload
        answer_length = Mux(carries, Mux(hello, len(identity) // 8, length), 0)
        m.d.comb += [
            crc.step.eq((byte.valid & byte.ready & ~byte.p.end) | escape.leaving),
            # A byte of the CRC is the complement of what moves the register on.
            crc.byte.eq(Mux(byte.ready, byte.p.data, escape.held.data ^ escape.held.check.replicate(8))),
        ]

        with m.FSM():
            with m.State("receive"):
                m.d.comb += byte.ready.eq(1)
                with m.If(byte.valid):
                    m.d.sync += damaged.eq(damaged | byte.p.damaged)
                    with m.If(byte.p.end):
                        with m.If((count != count.init) | damaged | byte.p.damaged):
                            m.d.sync += index.eq(count - CRC_BYTES)     # the length of the payload, if the frame is in order
                            m.next = "check"
                    with m.Else():
                        m.d.sync += count.eq(Mux(count == full, full, count + 1))
                        with m.If(count >= count.init):
                            m.d.sync += header.eq(Cat(header.as_value()[8:], byte.p.data))
            with m.State("check"):
                payload = Mux(write, length, 0)
                m.d.sync += intact.eq((crc.value == RESIDUE) & ~damaged & (index == payload) & ~_beyond(index, PAYLOAD_BYTES))
                m.d.sync += place.eq(address + length[:INDEX_BITS])
                m.next = "judge"
            with m.State("judge"):
                m.d.comb += crc.restart.eq(1)
                m.d.sync += [status.eq(judged), index.eq(0)]
                m.next = "conclude"
            with m.State("conclude"):
                m.d.sync += carries.eq((status == Status.OK) & (hello | read))
                m.next = "head"
                with m.If((status == Status.OK) & (hello | (behind == 0))):
                    m.d.sync += [expected.eq(header.sequence + 1), greeted.eq(1)]
                    with m.If(write):
                        m.next = "place"

            # A group
            with m.State("place"):
                m.d.sync += place.eq(address + index)
                with m.If(index == length[:INDEX_BITS]):
                    m.d.sync += index.eq(0)
                    m.next = "tail"
                    with m.If(write):
                        m.next = "head"
                with m.Elif(write):
                    m.next = "gather"
                with m.Else():
                    m.next = "access"
            with m.State("gather"):
                m.d.comb += frame.read.eq(1)
                m.d.sync += index.eq(index + 1)
                with m.If(group_end):
                    m.next = "access"
            with m.State("access"):
                with m.If(~gathering.any()):
                    m.d.comb += writes_register.eq(write & ~in_memory)
                    m.d.sync += self.memory.request.valid.eq(in_memory)     # a register: memory may be far away
                    m.next = "wait"
                    with m.If(in_memory):
                        m.next = "ask"
                    with m.Elif(write):
                        m.next = "place"
            with m.State("ask"):
                with m.If(self.memory.request.ready):
                    m.d.sync += self.memory.request.valid.eq(0)
                    m.next = "collect"
                    with m.If(write):
                        m.next = "place"
            with m.State("wait"):
                m.next = "collect"
            with m.State("collect"):
                m.d.sync += group.eq(Mux(in_memory, self.memory.response.p.data, self.registers.read_data))
                with m.If(~in_memory | self.memory.response.valid):
                    m.next = "spread"
            with m.State("spread"):
                m.d.comb += [answer.valid.eq(1), answer.p.data.eq(group), shift.eq(answer.ready)]
                with m.If(answer.ready):
                    m.d.sync += index.eq(index + 1)
                    with m.If(group_end):
                        m.next = "place"

            # The answer
            with m.State("head"):
                m.d.comb += answer.valid.eq(1)
                with m.Switch(index[:2]):
                    with m.Case(0):
                        m.d.comb += answer.p.data.eq(status)
                    with m.Case(1):
                        m.d.comb += answer.p.data.eq(Mux(status == Status.REPEAT, expected, header.sequence))
                    with m.Case(2):
                        m.d.comb += answer.p.data.eq(answer_length)
                    with m.Case(3):
                        m.d.comb += answer.p.data.eq(answer_length >> 8)
                with m.If(answer.ready):
                    m.d.sync += index.eq(index + 1)
                    with m.If(index == ANSWER_BYTES - 1):
                        m.d.sync += index.eq(0)
                        m.next = "tail"
                        with m.If(carries):
                            m.next = "place"
                            with m.If(hello):
                                m.next = "identify"
            with m.State("identify"):
                m.d.comb += [answer.valid.eq(1), answer.p.data.eq(identity.word_select(index, 8))]
                with m.If(answer.ready):
                    m.d.sync += index.eq(index + 1)
                    with m.If(index == len(identity) // 8 - 1):
                        m.d.sync += index.eq(0)
                        m.next = "tail"
            with m.State("tail"):
                m.d.comb += [answer.valid.eq(1), answer.p.data.eq(~crc.value), answer.p.end.eq(index == CRC_BYTES)]
                m.d.comb += answer.p.check.eq(1)
                with m.If(answer.ready):
                    m.d.sync += index.eq(index + 1)
                    with m.If(answer.p.end):
                        m.d.comb += crc.restart.eq(1)
                        m.d.sync += [count.eq(count.init), damaged.eq(0)]
                        m.next = "receive"
        return m

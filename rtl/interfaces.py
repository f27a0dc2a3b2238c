"""The signatures between the parts of the machine. Flows are written from the side that starts a transfer."""

from amaranth import unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from gen.config import Config
from gen.isa import COMMON

OPERAND_BITS = 9     # int8 or uint8 with a zero point subtracted, signed; `Config.operand_bits` where operands may be bf16
ADDRESS_BITS = 16    # word address in a slice
SLICE_BITS = 4
TOKEN_BITS = next(item.width for item in COMMON if item.name == "wait")


class Tag:
    """Tags of memory requests; a response carries the tag of its request."""

    FETCH = 0
    DMA_IN = 1
    DMA_OUT = 2


def request_layout(config: Config) -> data.StructLayout:
    """One beat towards memory: `beats` left in its burst including itself, `last` when that is one; byte address."""
    return data.StructLayout({
        "write": 1,
        "tag": 2,
        "last": 1,
        "beats": max(config.memory.burst_beats, config.fetch_beats).bit_length(),
        "address": 32,
        "data": 8 * config.memory.bytes_per_cycle,
    })


def response_layout(config: Config) -> data.StructLayout:
    """One beat of read data and the tag of its request."""
    return data.StructLayout({"tag": 2, "data": 8 * config.memory.bytes_per_cycle})


class MemoryPort(wiring.Signature):
    """The machine's side of main memory: a stream of request beats, and read data in order (always accepted).

    Reads and writes share the one beat a cycle. Beats of a burst have consecutive addresses.
    """

    def __init__(self, config: Config):
        super().__init__({
            "request": Out(stream.Signature(request_layout(config))),
            "response": In(stream.Signature(response_layout(config), always_ready=True)),
        })


class TokenPort(wiring.Signature):
    """A unit's link to the tokens.

    ``wait``/``group`` describe the queue head; ``ready`` says combinationally that all its tokens are there; ``take`` is asserted in the
    decision cycle; ``signal`` is a mask of tokens to increment, non-zero in the cycle in which an instruction (of ``signal_group``) ends.
    """

    def __init__(self):
        super().__init__({
            "wait": Out(TOKEN_BITS),
            "group": Out(2),
            "ready": In(1),
            "take": Out(1),
            "signal": Out(TOKEN_BITS),
            "signal_group": Out(2),
        })


class BufferRead(wiring.Signature):
    """A read port into the global buffer: up to ``words`` words of one slice, in different banks; data three cycles later."""

    def __init__(self, config: Config, *, words: int):
        super().__init__({
            "enable": Out(1),
            "slice": Out(SLICE_BITS),
            "addresses": Out(ADDRESS_BITS).array(words),
            "data": In(8 * config.word_bytes).array(words),
        })


class BufferWrite(wiring.Signature):
    """A write port into the global buffer: the words enabled in ``enable`` of ``words`` consecutive ones, from ``address``."""

    def __init__(self, config: Config, *, words: int):
        super().__init__({
            "enable": Out(words),
            "slice": Out(SLICE_BITS),
            "address": Out(ADDRESS_BITS),
            "data": Out(8 * config.word_bytes).array(words),
        })


class LocalWrite(wiring.Signature):
    """The write port of the LBUFs of one kind: one address for all cores, a word of `side` operands and an enable for each core."""

    def __init__(self, config: Config, *, depth: int):
        super().__init__({
            "enable": Out(config.cores),
            "address": Out(range(depth)),
            "data": Out(config.operand_bits * config.array.side).array(config.cores),
        })


class AccumulatorRead(wiring.Signature):
    """The store unit's read port into the output buffers of one half: one bank word of `side` accumulators, two cycles later."""

    def __init__(self, config: Config):
        super().__init__({
            "enable": Out(1),
            "half": Out(1),
            "pair": Out(1),
            "bank": Out(1),
            "word": Out(range(config.buffers.accumulator_words)),
            "data": In(unsigned(32)).array(config.array.side),
        })

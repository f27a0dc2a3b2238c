"""Signatures and payloads of the DRAM system: requests, command pins, data pins, near-data commands."""

from amaranth.hdl import Const, unsigned
from amaranth.lib import data, enum, stream, wiring
from amaranth.lib.wiring import In, Out

from gen.dram import DramConfig

TAG_BITS = 10        # of a request; a response carries its request's


class Command(enum.Enum, shape=3):
    """DRAM commands. NONE is a cycle without one."""

    NONE = 0
    ACT = 1
    PRE = 2
    PREA = 3
    RD = 4
    WR = 5
    REF = 6


class Refresh(enum.Enum, shape=2):
    """What a rank's refresh is doing: nothing, waiting to precharge all banks, waiting to refresh."""

    NORMAL = 0
    CLOSE = 1
    REFRESH = 2


def location_layout(config: DramConfig) -> data.StructLayout:
    """Where a block lies inside a channel. `bank` is the bank id; `column` counts bursts."""
    bits = config.field_bits
    return data.StructLayout({"rank": bits["rank"], "bank": bits["bank"], "row": bits["row"], "column": bits["column"]})


def in_launch_row(config: DramConfig, location):
    """Whether a location lies in the row of the launch registers: the last row of the last bank. Never without near-data units."""
    if not config.reserved:
        return Const(0, 1)
    return location.row.all() & location.bank.all()


def request_layout(config: DramConfig) -> data.StructLayout:
    """A request of the host: block number, and for a write a burst of data with a mask of the bytes to write."""
    return data.StructLayout({
        "write": 1,
        "tag": TAG_BITS,
        "block": (config.blocks - 1).bit_length(),
        "data": 8 * config.part.block_bytes,
        "mask": config.part.block_bytes,
    })


def channel_request_layout(config: DramConfig) -> data.StructLayout:
    """A request to one channel."""
    return data.StructLayout({
        "write": 1,
        "tag": TAG_BITS,
        "location": location_layout(config),
        "data": 8 * config.part.block_bytes,
        "mask": config.part.block_bytes,
    })


def response_layout(config: DramConfig) -> data.StructLayout:
    """A burst that was read."""
    return data.StructLayout({"tag": TAG_BITS, "data": 8 * config.part.block_bytes})


class DramPort(wiring.Signature):
    """The host's side: requests, one response stream a channel (always accepted), and which near-data units are at work."""

    def __init__(self, config: DramConfig):
        super().__init__({
            "request": Out(stream.Signature(request_layout(config))),
            "responses": In(stream.Signature(response_layout(config), always_ready=True)).array(config.channels),
            "active": In(config.channels * config.ranks),     # unit = channel * ranks + rank
            "quiet": In(1),
        })


def command_layout(config: DramConfig) -> data.StructLayout:
    """A command to one rank."""
    bits = config.field_bits
    return data.StructLayout({"kind": Command, "bank": bits["bank"], "row": bits["row"], "column": bits["column"]})


def rows_change_layout(config: DramConfig) -> data.StructLayout:
    """What a cycle changes in a rank's rows at its end: ACT opens `row` of `bank`, PRE closes `bank`, PREA all. At most one of them."""
    bits = config.field_bits
    return data.StructLayout({"opens": 1, "closes": 1, "closes_all": 1, "bank": bits["bank"], "row": bits["row"]})


class CommandPins(wiring.Signature):
    """Command and address pins of a channel, driven by the controller: one command a cycle to one rank."""

    def __init__(self, config: DramConfig):
        super().__init__({"rank": Out(config.field_bits["rank"]), "command": Out(command_layout(config))})


class Inhibit(data.Struct):
    """One pin, two values a cycle: rising edge hold_writes, falling edge hold_all."""

    hold_writes: unsigned(1)  # type: ignore[valid-type]
    hold_all: unsigned(1)  # type: ignore[valid-type]


class ChannelPins(wiring.Signature):
    """Everything between a controller and its ranks. Data beats carry `beat_bytes` a cycle.

    `write_data`/`write_mask`: CWL cycles behind a WR. `read_data`: CL cycles behind an RD, whichever rank drives it.
    """

    def __init__(self, config: DramConfig):
        beat = config.part.beat_bytes
        super().__init__({
            "pins": Out(CommandPins(config)),
            "inhibit": Out(Inhibit).array(config.ranks),
            "write_data": Out(8 * beat),
            "write_mask": Out(beat),
            "read_data": In(8 * beat),
        })


class NearDataPort(wiring.Signature):
    """The near-data unit's path into its rank's DRAM: its command, write beats CWL behind a WR, read beats CL behind an RD."""

    def __init__(self, config: DramConfig):
        beat = config.part.beat_bytes
        super().__init__({
            "command": Out(command_layout(config)),
            "write_data": Out(8 * beat),
            "read_data": In(8 * beat),
        })

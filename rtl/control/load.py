"""What both loaders share: the way of the words from the global buffer to the local buffers, and the observation ports."""

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from gen.config import Config
from gen.isa import Unit
from gen.timing import LOAD_LATENCY
from rtl.instruction import entry_layout, instruction_layout
from rtl.interfaces import OPERAND_BITS, BufferRead, LocalWrite, TokenPort

READ_LATENCY = 3    # global buffer: addresses to data
WRITE_LATENCY = 4   # issue to the write at the local buffers


def loader_ports(config: Config, unit: Unit, *, depth: int) -> dict:
    """Ports of a loader, except the credits it takes back (`release`)."""
    return {
        "instruction": In(stream.Signature(entry_layout(config, unit))),
        "tokens": Out(TokenPort()),
        "read": Out(BufferRead(config, words=config.load_words)),
        "write": Out(LocalWrite(config, depth=depth)),
        "ready": Out(1),
        "issuing": Out(1),
        "words": Out(3),
        "idle": Out(1),
        "waiting": Out(1),
        "index": Out(32),
    }


def head(instruction, name: str):
    """The queue head of an `entry_layout` stream seen as instruction `name`."""
    layout = instruction_layout(name)
    return layout(instruction.payload.bits[:layout.size])


class Delivery(wiring.Component):
    """From an issue cycle to the local buffers: waits for the data, subtracts the zero point (bf16 operands have none), writes.

    ``cores``, ``address``, ``zero_point``, ``is_signed`` and ``event`` belong to issue cycle i; ``data`` and ``outside`` (cores whose word
    is plain zeros) in i + 3; the write is presented in i + 4; ``ready`` repeats ``event`` in i + LOAD_LATENCY - 2; one issue a cycle.
    Integers become 9 bits wide: with a zero point outside the operands' own range they wrap. ``busy``: something is on its way.
    """

    def __init__(self, config: Config, *, depth: int):
        self._config, self._depth = config, depth
        super().__init__({
            "cores": In(config.cores),
            "address": In(range(depth)),
            "zero_point": In(signed(OPERAND_BITS)),
            "is_signed": In(1),
            "event": In(1),
            "data": In(8 * config.word_bytes).array(config.cores),
            "outside": In(config.cores),
            "write": Out(LocalWrite(config, depth=depth)),
            "ready": Out(1),
            "busy": Out(1),
        })

    def elaborate(self, platform):
        m = Module()

        def delay(value, cycles, name, *, reset_less=True):
            stages = [value]
            for i in range(cycles):
                stages.append(Signal(value.shape(), name=f"{name}_{i + 1}", reset_less=reset_less))
                m.d.sync += stages[-1].eq(stages[-2])
            return stages

        cores = delay(self.cores, WRITE_LATENCY, "cores", reset_less=False)
        events = delay(self.event, LOAD_LATENCY - 2, "event", reset_less=False)
        m.d.comb += [
            self.write.enable.eq(cores[-1]),
            self.write.address.eq(delay(self.address, WRITE_LATENCY, "address")[-1]),
            self.ready.eq(events[-1]),
            self.busy.eq(Cat(*cores[1:], *events[1:]).any()),
        ]
        zero_point = delay(self.zero_point, READ_LATENCY, "zero_point")[-1]
        is_signed = delay(self.is_signed, READ_LATENCY, "is_signed")[-1]
        config, size = self._config, 8 * self._config.operand_bytes
        for core in range(config.cores):
            values = []
            for lane in range(config.array.side):
                operand = self.data[core].word_select(lane, size)
                value = Signal(config.operand_bits, name=f"core{core}_lane{lane}", reset_less=True)
                if config.floating:
                    m.d.sync += value.eq(Mux(self.outside[core], 0, operand))
                else:
                    wide = Cat(operand, is_signed & operand[7]).as_signed()
                    m.d.sync += value.eq(Mux(self.outside[core], 0, wide - zero_point))
                values.append(value)
            m.d.comb += self.write.data[core].eq(Cat(*values))
        return m

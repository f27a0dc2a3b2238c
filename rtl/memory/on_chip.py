"""Main memory in block RAM, for boards without a memory chip, or for programs that need little."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In

from gen.config import Config, ConfigError
from rtl.buffer.block_memory import ATTRIBUTES
from rtl.interfaces import MemoryPort

READ_CYCLES = 2         # the memory and a register behind it
BLOCK_BITS = 1 << 14    # of a block RAM without its parity
LANE_BITS = 16
MAX_BYTES = 1 << 24     # more than any FPGA has


class OnChipMemory(wiring.Component):
    """`size_bytes` of memory, a power of two, zero at power-up. A beat is taken every cycle; read data comes exactly `memory.latency`
    cycles later, so the cycle model's counts hold. Beats are aligned; addresses behind the end wrap.

    `memory.latency` is 2 or more; each cycle beyond 2 costs a register as wide as a beat. Raises ConfigError.
    """

    def __init__(self, config: Config, *, size_bytes: int):
        unit, latency = config.memory.bytes_per_cycle, config.memory.latency
        if latency < READ_CYCLES:
            raise ConfigError(f"memory.latency = {latency} is outside {READ_CYCLES}..1024 cycles (main memory on chip)")
        if not 2 * unit <= size_bytes <= MAX_BYTES or size_bytes & (size_bytes - 1):
            raise ConfigError(f"size_bytes = {size_bytes} must be a power of two in {2 * unit}..{MAX_BYTES} bytes (main memory on chip)")
        self.unit, self.latency, self.size_bytes = unit, latency, size_bytes
        super().__init__({"port": In(MemoryPort(config))})

    def elaborate(self, platform):
        m = Module()
        width, depth = 8 * self.unit, self.size_bytes // self.unit
        request, response = self.port.request, self.port.response
        number, reads = request.p.address >> self.unit.bit_length() - 1, Signal()
        m.d.comb += [request.ready.eq(1), reads.eq(request.valid & ~request.p.write)]
        # In lanes this wide a block's parity bits save no block, so synthesis takes blocks as deep as they come, without multiplexers.
        lane, words = max(LANE_BITS, BLOCK_BITS // depth), []
        for first in range(0, width, lane):
            bits = slice(first, min(first + lane, width))
            m.submodules[f"lane_{first}"] = beats = memory.Memory(shape=bits.stop - first, depth=depth, init=[], attrs=ATTRIBUTES)
            read, write = beats.read_port(), beats.write_port()
            m.d.comb += [
                read.addr.eq(number),
                read.en.eq(reads),
                write.addr.eq(number),
                write.en.eq(request.valid & request.p.write),
                write.data.eq(request.p.data[bits]),
            ]
            words.append(read.data)
        # Valid and tag go beside the data; the first register of the data is the memory's.
        valid, tag, word = reads, request.p.tag, Cat(words)
        for stage in range(self.latency):
            valid, tag = self._register(m, f"valid_{stage}", valid), self._register(m, f"tag_{stage}", tag)
            if stage:
                word = self._register(m, f"word_{stage}", word)
        m.d.comb += [response.valid.eq(valid), response.p.tag.eq(tag), response.p.data.eq(word)]
        return m

    @staticmethod
    def _register(m: Module, name: str, value) -> Signal:
        """`value` a cycle later."""
        later = Signal(value.shape(), name=name, reset_less=not name.startswith("valid"))
        m.d.sync += later.eq(value)
        return later

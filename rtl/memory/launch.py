"""Launches: what the host writes to the launch row, taken from command pins and data pins."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from gen.dram import DramConfig, DramError
from gen.nda import DESCRIPTOR, LANES, PARAMETERS

BLOCK_BITS = 32 * LANES
PARAMETER_COLUMNS = PARAMETERS // LANES      # behind column 0, the descriptor
SLOT_BITS = PARAMETER_COLUMNS.bit_length()   # of a launch column


def check_near_data(config: DramConfig):
    """Raises DramError where a near-data unit does not fit: it works on four beats of four elements; a row holds all launch columns."""
    part = config.part
    if not config.reserved:
        raise DramError("reserved = 0 is outside 1 bank or more (near-data unit)")
    if 8 * part.block_bytes != BLOCK_BITS or part.burst_cycles != 4:
        raise DramError(f"part {part.name}: a burst of {part.block_bytes} bytes in {part.burst_cycles} cycles is outside "
                        f"{BLOCK_BITS // 8} bytes in 4 cycles (near-data unit)")
    if part.row_blocks <= PARAMETER_COLUMNS:
        raise DramError(f"part {part.name}: {part.row_blocks} bursts a row are outside {PARAMETER_COLUMNS + 1} or more (launch row)")
    if config.timing["tCWL"] < 2:
        raise DramError(f"part {part.name}: tCWL = {config.timing['tCWL']} is outside 2 cycles or more (near-data unit)")


def frame_bits(config: DramConfig) -> int:
    """Row bits that count frames; frame numbers wrap there."""
    return config.field_bits["row"] - config.swapped_bits


def descriptor_layout(config: DramConfig) -> data.StructLayout:
    """The descriptor's fields (`gen.nda.DESCRIPTOR`). Frame numbers are as wide as frames are counted in a row."""
    frames: dict[str, int] = dict.fromkeys(("x", "y", "z", "w", "step"), frame_bits(config))
    return data.StructLayout({name: frames.get(name, field.width) for name, field in DESCRIPTOR.items()})


class Launch(wiring.Component):
    """Captures bursts to the launch row.

    `write` in t: a host WR to the launch row is on the pins, at `column`. Its beats are on `write_data` in t+CWL .. t+CWL+3. In the last of
    these cycles a descriptor shows on `descriptor` with `start` high (combinational), or, if `busy`, is dropped and sets `overrun` for
    good; columns 1..8 are written to the parameter memory at that cycle's edge, busy or not. Byte masks do not count. `parameter` is its
    word `index`, combinationally. Other columns are ignored. `state`: all registers, the parameter words as they are written, and
    `parameter`.
    """

    def __init__(self, config: DramConfig):
        check_near_data(config)
        self.config = config
        super().__init__({
            "write": In(1),
            "column": In(config.field_bits["column"]),
            "write_data": In(8 * config.part.beat_bytes),
            "busy": In(1),
            "index": In(range(PARAMETERS)),
            "start": Out(1),
            "descriptor": Out(descriptor_layout(config)),
            "parameter": Out(32),
            "overrun": Out(1),
            "state": Out(self.state_bits(config)),
        })

    @staticmethod
    def state_bits(config: DramConfig) -> int:
        """Bits of `state`."""
        stages = config.timing["tCWL"] + config.part.burst_cycles - 1
        return stages * (1 + SLOT_BITS) + BLOCK_BITS + (1 + (PARAMETER_COLUMNS - 1).bit_length()) + 32 + 1

    def elaborate(self, platform):
        m = Module()
        latency, beats = self.config.timing["tCWL"], self.config.part.burst_cycles
        beat_bits = len(self.write_data)

        # Which bursts are on their way: an entry of `line` a cycle behind the command, so entry i is seen i+1 cycles after it.
        entry_bits = 1 + SLOT_BITS
        line = Signal((latency + beats - 1) * entry_bits)
        entry = Cat(self.write & (self.column <= PARAMETER_COLUMNS), self.column[:SLOT_BITS])
        m.d.sync += line.eq(Cat(Mux(self.write, entry, 0), line))

        # All beats but the last are kept; the last one is used as it comes.
        early = Signal(BLOCK_BITS - beat_bits)
        for beat in range(beats - 1):
            with m.If(line[(latency + beat - 1) * entry_bits]):
                m.d.sync += early.word_select(beat, beat_bits).eq(self.write_data)
        block = Signal(BLOCK_BITS)
        last = line[-entry_bits:]
        slot = last[1:]
        m.d.comb += block.eq(Cat(early, self.write_data))

        m.d.comb += self.start.eq(last[0] & (slot == 0) & ~self.busy)
        for name, field in DESCRIPTOR.items():
            low = 32 * field.word + field.low
            m.d.comb += self.descriptor[name].eq(block[low:low + field.width])
        with m.If(last[0] & (slot == 0) & self.busy):
            m.d.sync += self.overrun.eq(1)

        m.submodules.parameters = parameters = Memory(shape=BLOCK_BITS, depth=PARAMETER_COLUMNS, init=[])
        write, read = parameters.write_port(), parameters.read_port(domain="comb")
        m.d.comb += [
            write.en.eq(last[0] & (slot != 0)), write.addr.eq(slot - 1), write.data.eq(block),
            read.addr.eq(self.index // LANES), self.parameter.eq(read.data.word_select(self.index % LANES, 32)),
        ]
        written = Cat(write.en, write.addr, Mux(write.en, self.write_data, 0))
        m.d.comb += self.state.eq(Cat(line, early, written, self.parameter, self.overrun))
        return m

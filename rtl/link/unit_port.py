"""A compute unit on its own: its local buffers, its waves and its output buffers as a memory. `gen.unit_map` is the map."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In

from gen import unit_map
from gen.config import Config
from gen.isa import VERSION
from gen.timing import FETCH_LATENCY
from gen.unit_map import IDENTITY, OFFSETS, OPERAND_BYTES, WINDOW_BITS, UnitMap
from rtl.array.compute import Compute
from rtl.array.skew import delayed
from rtl.control.registers import RegisterBus
from rtl.instruction import instruction_layout
from rtl.interfaces import OPERAND_BITS, MemoryPort


class UnitPort(wiring.Component):
    """`Compute` behind a register bus and a memory port: whoever is there does the work of loaders, dispatcher and store unit.

    ``memory`` takes a beat a cycle while no wave is under way, and lets it wait otherwise: a host need not ask whether a wave is over.
    Reads are answered FETCH_LATENCY (4) cycles later; outside the accumulators they give anything, and writes there do nothing.
    A wave is under way for max(2, side) + steps + drain cycles from the one after its start. Raises ConfigError.
    """

    def __init__(self, config: Config):
        self.config, self.map = config, UnitMap(config)
        super().__init__({"registers": In(RegisterBus()), "memory": In(MemoryPort(config))})

    def elaborate(self, platform):
        m = Module()
        config, request = self.config, self.memory.request
        m.submodules.compute = compute = Compute(config, apart=True)
        running = Signal()
        m.d.comb += [
            compute.tokens.ready.eq(1),
            running.eq(compute.instruction.valid | ~compute.idle),
            request.ready.eq(~running),
        ]
        # The beat's number: window, mode (or half), place
        index = (request.p.address >> self.map.beat.bit_length() - 1)[:self.map.index_bits]
        window, mode, place = index[-WINDOW_BITS:], index[self.map.place_bits:-WINDOW_BITS], index[:self.map.place_bits]
        taken = request.valid & request.ready
        self._tiles(m, compute, taken & request.p.write, window, mode, place)
        self._start(m, compute, taken & request.p.write & (window == unit_map.START_WINDOW), mode, place)
        self._sums(m, compute, taken & ~request.p.write, mode, place)
        self._registers(m, compute, running)
        return m

    def _tiles(self, m: Module, compute: Compute, written, window, mode, place):
        """Writes of a word for one core or several; address and cores follow from the mode whose tile it belongs to."""
        lanes = Cat(self.memory.request.p.data.word_select(i, 8 * OPERAND_BYTES)[:OPERAND_BITS] for i in range(self.config.array.side))
        for operand, number in (("moving", unit_map.MOVING_WINDOW), ("stationary", unit_map.STATIONARY_WINDOW)):
            port, cores = getattr(compute, f"{operand}_write"), Signal(self.config.cores, name=f"{operand}_cores")
            m.d.comb += port.enable.eq(Mux(written & (window == number), cores, 0))
            m.d.comb += [word.eq(lanes) for word in port.data]
            with m.Switch(mode):
                for possible in self.map.modes:
                    groups = unit_map.cores(self.config, operand, possible)
                    masks = Cat(Const(sum(1 << core for core in group), self.config.cores) for group in groups)
                    bits = len(groups).bit_length() - 1
                    with m.Case(possible):
                        m.d.comb += [port.address.eq(place[bits:]), cores.eq(masks.word_select(place[:bits], self.config.cores))]

    def _start(self, m: Module, compute: Compute, started, mode, place):
        """A wave: an ExecGEMM of one wave, and word that its tiles are there."""
        entry, rows = compute.instruction, range(max(self.config.wide_rows, self.config.narrow_rows) + 1)
        kept = Signal(data.StructLayout({"rows": Signal(rows).shape(), "half": 1, "accumulate": 1, "mode": unit_map.MODE_BITS}))
        wave = Signal(instruction_layout("ExecGEMM"))
        m.d.comb += [compute.moving_ready.eq(started), compute.stationary_ready.eq(started), entry.p.bits.eq(wave), wave.waves.eq(1)]
        m.d.comb += [wave[name].eq(kept[name]) for name in kept.shape().members]
        with m.If(started):
            m.d.sync += [entry.valid.eq(1), Cat(kept.half, kept.accumulate).eq(place), kept.mode.eq(mode)]
            m.d.sync += kept.rows.eq(self.memory.request.p.data[:8 * unit_map.ROWS_BYTES])
        with m.Elif(entry.ready):
            m.d.sync += entry.valid.eq(0)

    def _sums(self, m: Module, compute: Compute, asked, half, place):
        """Reads. A word may be wider than a beat: then `part` says which beat of it."""
        response, read = self.memory.response, compute.accumulators
        part_bits, pair_bits = self.map.parts.bit_length() - 1, self.config.column_pairs - 1
        part, pair, rest = place[:part_bits], place[part_bits:part_bits + pair_bits], place[part_bits + pair_bits:]
        sums = Cat(read.data)
        m.d.comb += [
            read.enable.eq(asked),
            *(getattr(read, name).eq(value) for name, value in (("half", half), ("pair", pair), ("bank", rest[0]), ("word", rest[1:]))),
            response.valid.eq(delayed(m, asked, FETCH_LATENCY, name="asked", reset_less=False)),
            response.p.tag.eq(delayed(m, self.memory.request.p.tag, FETCH_LATENCY, name="tag")),
            response.p.data.eq(sums.word_select(delayed(m, part, FETCH_LATENCY, name="part"), len(sums) // self.map.parts)),
        ]

    def _registers(self, m: Module, compute: Compute, running):
        """Where the rings stand, and how long waves took."""
        word, tile = Signal.like(compute.moving_write.address), Signal(range(self.config.buffers.stationary_tiles))
        cycles, read = Signal(32), Signal(32)
        m.d.sync += [
            word.eq(word + compute.moving_release),
            tile.eq(tile + compute.stationary_release),
            cycles.eq(cycles + running),
            self.registers.read_data.eq(read),
        ]
        values = {
            "identity": IDENTITY,
            "version": VERSION,
            "position": Cat(word, Const(0, 16 - len(word)), tile),
            "status": running,
            "cycles": cycles,
        }
        with m.Switch(self.registers.address[2:]):
            for name, value in values.items():
                with m.Case(OFFSETS[name] >> 2):
                    m.d.comb += read.eq(value)

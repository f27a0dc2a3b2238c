"""The compute half of a group: the EXECUTE controller, local buffers, sub-cores and output buffers."""

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from gen import isa, timing
from gen.config import Config
from gen.isa import Stall
from rtl.array.skew import Delay, Line, delayed
from rtl.array.unit import ComputeUnit
from rtl.buffer.local_buffer import LocalBuffer
from rtl.buffer.output_buffer import STEP_AHEAD, OutputBuffer, step_layout
from rtl.control.execute import Execute
from rtl.instruction import entry_layout
from rtl.interfaces import AccumulatorRead, LocalWrite, TokenPort
from rtl.sharing import place


class Compute(wiring.Component):
    """Takes ExecGEMM instructions, reads what the loaders wrote and leaves accumulators for the store unit.

    The loaders write words (lane i in bits 9i .. 9i+8, of bf16 16i .. 16i+15) and pulse ``moving_ready`` / ``stationary_ready`` once a
    tile; ``moving_release`` (words, 0 for none) and ``stationary_release`` (a tile) give the room back. ``accumulators`` reads a word of
    all lanes, data FETCH_LATENCY (4) cycles later; pair p is the cores p and p + 2. A half may be read while the other one accumulates,
    but not if `apart`: then accumulators are read while the array is idle, and take half of the memory.
    Observation ports are those of `Execute`; ``streaming`` is high in the issue cycles of a stream.
    That a tile holds what its wave takes from it is the program's duty.
    """

    def __init__(self, config: Config, *, apart: bool = False):
        self.config, self.apart = config, apart
        super().__init__({
            "instruction": In(stream.Signature(entry_layout(config, isa.Unit.EXECUTE))),
            "tokens": Out(TokenPort()),
            "moving_write": In(LocalWrite(config, depth=config.buffers.moving_words)),
            "stationary_write": In(LocalWrite(config, depth=config.buffers.stationary_tiles * config.array.side)),
            "moving_ready": In(1),
            "stationary_ready": In(1),
            "moving_release": Out(range(config.moving_capacity + 1)),
            "stationary_release": Out(1),
            "accumulators": In(AccumulatorRead(config)),
            "stall": Out(Stall),
            "wave": Out(1),
            "wave_mode": Out(2),
            "streaming": Out(1),
            "active": Out(1),
            "idle": Out(1),
            "waiting": Out(1),
            "index": Out(32),
        })

    def elaborate(self, platform):
        m = Module()
        config = self.config
        m.submodules.execute = execute = Execute(config)
        m.submodules.unit = unit = ComputeUnit(config)
        wiring.connect(m, wiring.flipped(self.instruction), execute.instruction)
        wiring.connect(m, execute.tokens, wiring.flipped(self.tokens))
        for name in ("moving_ready", "stationary_ready"):
            m.d.comb += getattr(execute, name).eq(getattr(self, name))
        for name in ("moving_release", "stationary_release", "stall", "wave", "wave_mode", "active", "idle", "waiting", "index"):
            m.d.comb += getattr(self, name).eq(getattr(execute, name))
        m.d.comb += self.streaming.eq(execute.step)

        # Control in core 0's time, and how long it takes to where it is needed. `result`: from a step of a lower core to when its OBUF
        # is told. An upper core's sums are held back until its lower neighbour's come: so one step speaks for a pair.
        far = config.core_offset(config.cores - 1)
        result = timing.LBUF_LATENCY + timing.array_latency(config) - far - (config.array.side - 1) - STEP_AHEAD
        lines = {name: Line(m, getattr(execute, name), longest=longest, name=name) for name, longest in {
            "shift": far,
            "capture": timing.LBUF_LATENCY,
            "step": far + result,
            "first": far + result,
            "tall": far + result,
            "wide": timing.LBUF_LATENCY,
            "half": far + result,
            "overwrite": far + result,
        }.items()}
        m.d.comb += [
            unit.capture.eq(lines["capture"].tap(timing.LBUF_LATENCY)),
            unit.swap.eq(lines["first"].tap(timing.LBUF_LATENCY)),
            unit.tall.eq(lines["tall"].tap(timing.LBUF_LATENCY)),
            unit.wide.eq(lines["wide"].tap(timing.LBUF_LATENCY)),
        ]
        for core in range(config.cores):
            offset = config.core_offset(core)
            self._local(m, platform, "moving", core, lines["step"].tap(offset), unit)
            self._local(m, platform, "stationary", core, lines["shift"].tap(offset), unit)
        outputs = []
        for pair in range(config.column_pairs):
            cores = [pair] if config.cores == 1 else [pair + 2, pair]      # lower (or only), upper
            when = config.core_offset(cores[0]) + result
            step = Signal(step_layout(config), name=f"step_{pair}")
            keep = [Line(m, execute.keep[core], longest=when, name=f"keep_{core}", reset_less=True).tap(when) for core in cores]
            m.d.comb += [step.enable.eq(lines["step"].tap(when)), step.keep.eq(Cat(keep))]
            m.d.comb += [step[name].eq(lines[name].tap(when)) for name in ("first", "tall", "half", "overwrite")]
            outputs.append(self._output(m, platform, pair, step, [self._sums(m, platform, core, unit) for core in cores]))
        pair = delayed(m, self.accumulators.pair, timing.FETCH_LATENCY, name="pair")
        for c in range(config.array.side):
            m.d.comb += self.accumulators.data[c].eq(Mux(pair, outputs[-1].data[c], outputs[0].data[c]))
        return m

    def _local(self, m: Module, platform, operand: str, core: int, advance, unit):
        """The local buffer of one operand of a core."""
        port = getattr(self, f"{operand}_write")
        depth = 1 << len(port.address)
        buffer = place(m, platform, instance=f"{operand}_buffer_{core}", module=f"{operand}_buffer",
                       factory=lambda: LocalBuffer(self.config, depth=depth))
        m.d.comb += [
            buffer.write_enable.eq(port.enable[core]),
            buffer.write_address.eq(port.address),
            buffer.write_data.eq(port.data[core]),
            buffer.advance.eq(advance),
            getattr(unit, operand)[core].eq(buffer.word),
        ]

    def _sums(self, m: Module, platform, core: int, unit):
        """The sums of a core in the time of the lower core of its pair."""
        config = self.config
        if config.cores == 1 or core >= 2:
            return unit.sums[core]
        late = place(m, platform, instance=f"upper_sums_{core}", module="upper_sums", factory=lambda: Delay(
            shape=signed(config.sum_width), lanes=config.array.side, cycles=config.core_offset(core + 2) - config.core_offset(core)))
        m.d.comb += [late.entered[c].eq(unit.sums[core][c]) for c in range(config.array.side)]
        return late.left

    def _output(self, m: Module, platform, pair: int, step, sums: list):
        """The output buffer of a pair of cores."""
        config, read = self.config, self.accumulators
        output = place(m, platform, instance=f"output_buffer_{pair}", module="output_buffer",
                       factory=lambda: OutputBuffer(config, apart=self.apart))
        m.d.comb += [
            output.step.eq(step),
            output.enable.eq(read.enable & (read.pair == pair)),
            output.half.eq(read.half),
            output.bank.eq(read.bank),
            output.word.eq(read.word),
            *(output.sums[i][c].eq(core[c]) for i, core in enumerate(sums) for c in range(config.array.side)),
        ]
        return output

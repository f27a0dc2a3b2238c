"""The compute half of a group: the EXECUTE controller, local buffers, sub-cores and output buffers."""

from amaranth.hdl import Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from gen import isa, timing
from gen.config import Config
from gen.isa import Stall
from rtl.array.skew import Line
from rtl.array.unit import ComputeUnit
from rtl.buffer.local_buffer import LocalBuffer
from rtl.buffer.output_buffer import STEP_AHEAD, OutputBuffer, step_layout
from rtl.control.execute import Execute
from rtl.instruction import entry_layout
from rtl.interfaces import AccumulatorRead, LocalWrite, TokenPort
from rtl.sharing import place


class Compute(wiring.Component):
    """Takes ExecGEMM instructions, reads what the loaders wrote and leaves accumulators for the store unit.

    The loaders write words (lane i in bits 9i .. 9i+8) and pulse ``moving_ready`` / ``stationary_ready`` once a tile;
    ``moving_release`` (words, 0 for none) and ``stationary_release`` (a tile) give the room back. ``accumulators`` reads a word of
    all lanes, data two cycles later; pair p is the cores p and p + 2. A half may be read while the other one accumulates.
    Observation ports are those of `Execute`; ``streaming`` is high in the issue cycles of a stream.
    That a tile holds what its wave takes from it is the program's duty.
    """

    def __init__(self, config: Config):
        self.config = config
        super().__init__({
            "instruction": In(stream.Signature(entry_layout(isa.Unit.EXECUTE))),
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

        # Control in core 0's time, and how long it takes to where it is needed. `result`: from a step of core 0 to when its OBUF is told.
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
        steps = []
        for core in range(config.cores):
            offset = config.core_offset(core)
            self._local(m, platform, "moving", core, lines["step"].tap(offset), unit)
            self._local(m, platform, "stationary", core, lines["shift"].tap(offset), unit)
            keep = Line(m, execute.keep[core], longest=offset + result, name=f"keep_{core}")
            step = Signal(step_layout(), name=f"step_{core}")
            m.d.comb += [step.enable.eq(lines["step"].tap(offset + result)), step.keep.eq(keep.tap(offset + result))]
            m.d.comb += [step[name].eq(lines[name].tap(offset + result)) for name in ("first", "tall", "half", "overwrite")]
            steps.append(step)
        self._outputs(m, platform, steps, unit)
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

    def _outputs(self, m: Module, platform, steps: list[data.View], unit):
        """The output buffers and the read port over them."""
        config, read = self.config, self.accumulators
        pairs = [Signal(name="pair_read"), Signal(name="pair_data")]
        m.d.sync += [pairs[0].eq(read.pair), pairs[1].eq(pairs[0])]
        for pair in range(config.column_pairs):
            output = place(m, platform, instance=f"output_buffer_{pair}", module="output_buffer", factory=lambda: OutputBuffer(config))
            cores = [pair] if config.cores == 1 else [pair + 2, pair]
            for index, core in enumerate(cores):
                m.d.comb += output.steps[index].eq(steps[core])
                m.d.comb += [output.sums[index][c].eq(unit.sums[core][c]) for c in range(config.array.side)]
            m.d.comb += [
                output.enable.eq(read.enable & (read.pair == pair)),
                output.half.eq(read.half),
                output.bank.eq(read.bank),
                output.word.eq(read.word),
            ]
            with m.If(pairs[1] == pair):
                m.d.comb += [read.data[c].eq(output.data[c]) for c in range(config.array.side)]

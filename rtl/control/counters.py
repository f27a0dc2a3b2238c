"""The performance counters."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from gen.config import Config
from gen.isa import Mode, Stall
from gen.registers import GROUP
from rtl.control.registers import counter_names


class Observation(wiring.Signature):
    """What a group does in a cycle."""

    def __init__(self):
        super().__init__({
            "wave": Out(1),                 # a wave's stream decision
            "wave_mode": Out(Mode),
            "stall": Out(Stall),
            "streaming": Out(1),            # issue cycle of EXECUTE
            "active": Out(1),               # the array holds data
            "loading_moving": Out(1),       # issue cycle of LOAD_H, and the words it reads
            "moving_words": Out(3),
            "loading_stationary": Out(1),   # the same of LOAD_V
            "stationary_words": Out(3),
            "storing": Out(1),              # issue cycle of STORE
            "stored_words": Out(3),         # words it writes in this cycle
        })


class Counters(wiring.Component):
    """Counts while `running`; `clear` sets all to zero. `values` in the order of `counter_names`.

    What is observed in the last running cycle t is in `values` from t+2 on: inputs are registered before they are added.
    """

    def __init__(self, config: Config):
        self.config = config
        super().__init__({
            "clear": In(1),
            "running": In(1),
            "fetch_beat": In(1),
            "read_beat": In(1),
            "write_beat": In(1),
            "groups": In(Observation()).array(config.array.groups),
            "values": Out(32).array(len(counter_names(config))),
        })

    def elaborate(self, platform):
        m = Module()
        values = dict(zip(counter_names(self.config), self.values))
        amounts = {"dram_read_beats": self.read_beat, "dram_write_beats": self.write_beat, "fetch_beats": self.fetch_beat}
        for number, group in enumerate(self.groups):
            found = [group.wave & (group.wave_mode == mode) for mode in Mode]
            found += [group.stall == cause for cause in Stall]
            found += [group.loading_moving, group.loading_stationary, group.streaming, group.storing]
            found += [group.moving_words, group.stationary_words, group.stored_words]
            amounts |= {f"g{number}_{name}": amount for (name, _), amount in zip(GROUP, found, strict=True)}
        for name, amount in amounts.items():
            observed = Signal(len(amount), name=f"observed_{name}")
            m.d.sync += observed.eq(Mux(self.running, amount, 0))
            m.d.sync += values[name].eq(Mux(self.clear, 0, values[name] + observed))

        m.d.sync += values["cycles"].eq(Mux(self.clear, 0, values["cycles"] + self.running))
        # From the first active cycle on every cycle is counted, and the count noted in each active one.
        active, ran, since = Signal(), Signal(), Signal(32)
        m.d.sync += [active.eq(self.running & (sum((group.active for group in self.groups), start=0) != 0)), ran.eq(self.running)]
        with m.If(self.clear):
            m.d.sync += [since.eq(0), values["array_cycles"].eq(0)]
        with m.Elif(ran & (active | (since != 0))):
            m.d.sync += since.eq(since + 1)
            with m.If(active):
                m.d.sync += values["array_cycles"].eq(since + 1)
        return m

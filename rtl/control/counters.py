"""The performance counters."""

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from gen.config import Config
from gen.isa import Mode, Stall
from gen.registers import GROUP, GROUP_BASE, GROUP_STRIDE, registers

GROUP_SLOTS = GROUP_STRIDE // 4
SHARED_FROM = GROUP_SLOTS // 2      # counters of the whole machine: the upper half of the first group's slots, as their registers lie
SPAN = "array_cycles"               # the one counter that is not a sum


def sums(config: Config) -> dict[str, int]:
    """The counters that are sums, by name: their slots in the memory of `Counters`, one for each word of the groups' registers."""
    found = {item.name: item.offset for item in registers(config.array.groups)}
    shared = {name: SHARED_FROM + found[name] // 4 for name in ("cycles", "dram_read_beats", "dram_write_beats", "fetch_beats")}
    assert len(GROUP) <= min(shared.values()) and max(shared.values()) < GROUP_SLOTS
    return shared | {name: (offset - GROUP_BASE) // 4 for name, offset in found.items() if offset >= GROUP_BASE}


def scan_cycles(config: Config) -> int:
    """Cycles in which `Counters` looks at all of its counters once."""
    return config.array.groups * GROUP_SLOTS


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
    """Counts while `running`; `clear` sets all to zero.

    What is observed is added to small counters. One after the other they are emptied into a memory of sums, as long as `scanning` is high:
    from the cycle behind `clear` to at least `scan_cycles` + 2 cycles behind the last running one. After that `sum` is what slot `slot` of
    `sums` holds, in the same cycle; before, it is anything. `span`, from the first to the last active cycle, is final two cycles behind the
    last running one.
    """

    def __init__(self, config: Config):
        self.config = config
        self.slots = sums(config)
        super().__init__({
            "clear": In(1),
            "running": In(1),
            "scanning": In(1),
            "fetch_beat": In(1),
            "read_beat": In(1),
            "write_beat": In(1),
            "groups": In(Observation()).array(config.array.groups),
            "slot": In(ceil_log2(scan_cycles(config))),
            "sum": Out(32),
            "span": Out(32),
        })

    def elaborate(self, platform):
        m = Module()
        # Everything is registered first: units know late in a cycle what they do in it.
        def registered(value, name: str) -> Signal:
            register = Signal.like(value, name=f"{name}_registered")
            m.d.sync += register.eq(value)
            return register

        ran, clear = registered(self.running, "running"), registered(self.clear, "clear")
        beats = {"dram_read_beats": self.read_beat, "dram_write_beats": self.write_beat, "fetch_beats": self.fetch_beat}
        amounts = {"cycles": ran} | {name: registered(beat, name) for name, beat in beats.items()}
        for number, group in enumerate(self.groups):
            seen = {name: registered(getattr(group, name), f"g{number}_{name}") for name in Observation().members if name != "active"}
            found = [seen["wave"] & (seen["wave_mode"] == mode) for mode in Mode]
            found += [seen["stall"] == cause for cause in Stall]
            found += [seen[name] for name in ("loading_moving", "loading_stationary", "streaming", "storing")]
            found += [seen[name] for name in ("moving_words", "stationary_words", "stored_words")]
            amounts |= {f"g{number}_{name}": amount for (name, _), amount in zip(GROUP, found, strict=True)}

        # Small counters: each has room for what comes in between two visits.
        visited = Signal.like(self.slot)
        period = 1 << len(visited)
        waiting: list[Value] = [Const(0)] * period
        for name, amount in amounts.items():
            observed = Mux(ran, amount, 0)
            little = Signal(range(((1 << len(amount)) - 1) * period + 1), name=f"little_{name}")
            m.d.sync += little.eq(little + observed)
            with m.If(clear | (visited == self.slots[name])):
                m.d.sync += little.eq(observed)
            waiting[self.slots[name]] = little

        # The memory: in the first round the sums start anew.
        m.submodules.memory = memory = Memory(shape=32, depth=period, init=[])
        write, read = memory.write_port(), memory.read_port(domain="comb")
        before, emptied, begun = Signal(32), Signal(max(map(len, waiting))), Signal()
        m.d.sync += [
            visited.eq(visited + 1),
            emptied.eq(Array(waiting)[visited]),
            before.eq(Mux(begun, read.data, 0)),
            write.addr.eq(visited),
            write.en.eq(self.scanning),
        ]
        with m.If(visited == period - 1):
            m.d.sync += begun.eq(1)
        with m.If(clear):
            m.d.sync += [visited.eq(0), begun.eq(0), write.en.eq(0)]
        m.d.comb += [
            read.addr.eq(Mux(self.scanning, visited, self.slot)),
            self.sum.eq(read.data),
            write.data.eq(before + emptied),
        ]

        # From the first active cycle on every cycle is counted, and the count noted in each active one.
        active, counting, since = registered(Cat(group.active for group in self.groups).any(), "active"), Signal(), Signal(32)
        with m.If(clear):
            m.d.sync += [since.eq(0), counting.eq(0), self.span.eq(0)]
        with m.Elif(ran & (active | counting)):
            m.d.sync += [since.eq(since + 1), counting.eq(1)]
            with m.If(active):
                m.d.sync += self.span.eq(since + 1)
        return m

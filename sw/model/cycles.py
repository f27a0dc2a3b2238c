"""The exact cycle count of a program from its instruction list, without stepping cycles (events as in rtl/README.md)."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from gen.config import Config
from gen.isa import OPCODES, Cause, Instruction, Mode, Stall, Unit
from gen.timing import QUIET_LATENCY
from sw.model.check import ModelError, checker
from sw.model.execute import Execute
from sw.model.kernel import STOP, Kernel, Tokens
from sw.model.load import Loader
from sw.model.traffic import Dma, Fetch, Port
from sw.model.units import InOrder, Store, Vector


@dataclass(frozen=True)
class Event:
    """An instruction in time: the cycle of its (first) decision and that from which on it is done (its tokens were asserted before)."""

    unit: Unit
    group: int
    index: int
    decision: int
    end: int


@dataclass(frozen=True)
class Prediction:
    """What the machine's counters hold after a program; `counters` has the names of `gen.registers`."""

    cycles: int
    array_cycles: int
    counters: dict[str, int]
    timeline: list[Event] = field(default_factory=list, repr=False)


def predict(config: Config, instructions: Sequence[Instruction], *, program: int = 0, timeline: bool = False,
            pace: Fraction = Fraction(1)) -> Prediction:
    """Run the program in the model. Raises ModelError where the machine would stop; `program` is the program's byte address, `pace` the
    beats that the memory port accepts a cycle, 1 or fewer, evenly spread.

    A collision of two units on a port of the global buffer is not looked for.
    """
    beat = max(32, config.memory.bytes_per_cycle)
    if program % beat:
        raise ValueError(f"program = {program:#x} must be a multiple of {beat} bytes")
    return Machine(config, instructions, timeline, pace).run()


class Dispatcher:
    """Hands instructions to the units, one in two cycles at most."""

    def __init__(self, machine: "Machine", instructions: Sequence[Instruction]):
        self.machine, self.instructions = machine, instructions
        self.next = 0               # index of the next instruction
        self.time = -2              # cycle in which the last one was taken
        self.outstanding = 0        # instructions dispatched and not finished
        self.quiet_at = 0           # first cycle in which a Barrier may leave, after all of those finished so far
        self.check, self.checked = checker(machine.config), -1
        self.pumping = self.over = False

    def finished(self, end: int):
        """An instruction is done from cycle `end` on."""
        self.outstanding -= 1
        if end + QUIET_LATENCY > self.quiet_at:
            self.quiet_at = end + QUIET_LATENCY
        if not self.outstanding:
            self.pump()

    def pump(self):
        """Dispatch what can be; called whenever an instruction arrives, a queue's place comes free or all is done."""
        if self.pumping or self.over:
            return
        self.pumping = True
        while self.step():
            pass
        self.pumping = False

    def step(self) -> bool:
        """Handle the next instruction. Returns whether it left."""
        machine, index = self.machine, self.next
        if index == len(self.instructions):
            return self.stop(self.time + 1, Cause.END)
        fetch = machine.fetch
        if not fetch.available:
            return False
        time = max(self.time + 2, fetch.available[0])
        instruction = self.instructions[index]
        if self.checked != index:
            self.checked = index
            cause = self.check(instruction)
            if cause:
                return self.stop(time, cause)
        unit = machine.unit(instruction)
        if unit is None:
            if self.outstanding:
                return False
            time = max(time, self.quiet_at)
            if instruction.name == "End":
                return self.stop(time, Cause.NONE)
        else:
            if not unit.credits:
                return False
            time = max(time, unit.credits.popleft() + 1)
            self.outstanding += 1
        fetch.available.popleft()
        self.next, self.time = index + 1, time
        fetch.popped.append(time + 1)
        if unit:
            unit.push(index, instruction, time + 2)
        fetch.pump()
        return True

    def stop(self, time: int, cause: Cause) -> bool:
        """The machine stops in cycle `time`. What is under way until then may still stop it earlier."""
        self.over = True
        self.machine.kernel.at(time, STOP, self.machine.stop, cause)
        return False


class Machine:
    """All units, wired up."""

    def __init__(self, config: Config, instructions: Sequence[Instruction], timeline: bool, pace: Fraction = Fraction(1)):
        groups = range(config.array.groups)
        self.config = config
        self.kernel = Kernel()
        self.timeline: list | None = [] if timeline else None
        self.tokens = [Tokens(self.kernel) for _ in groups]
        self.port = Port(self.kernel, pace)
        self.fetch = Fetch(self, len(instructions))
        self.dispatcher = Dispatcher(self, instructions)
        self.dma_in, self.dma_out = Dma(self, Unit.DMA_IN), Dma(self, Unit.DMA_OUT)
        self.load_h = [Loader(self, Unit.LOAD_H, group) for group in groups]
        self.load_v = [Loader(self, Unit.LOAD_V, group) for group in groups]
        self.execute = [Execute(self, group, self.load_h[group], self.load_v[group]) for group in groups]
        self.store = [Store(self, group) for group in groups]
        self.port.clients = [self.fetch, self.dma_in, self.dma_out]
        self.units: dict[Unit, list[InOrder]] = {
            Unit.DMA_IN: [self.dma_in] * 4, Unit.DMA_OUT: [self.dma_out] * 4, Unit.LOAD_H: [*self.load_h], Unit.LOAD_V: [*self.load_v],
            Unit.EXECUTE: [*self.execute], Unit.STORE: [*self.store],
        }
        if config.floating:
            self.units[Unit.VECTOR] = [Vector(self, group) for group in groups]
        self.unit_of = {op.name: self.units.get(op.unit) for op in OPCODES.values()}    # type: ignore[arg-type]
        self.end = -1

    def unit(self, instruction: Instruction) -> InOrder | None:
        """The unit that gets an instruction; None for End and Barrier."""
        units = self.unit_of[instruction.name]
        return units[instruction.values["group"]] if units else None

    def stop(self, cause: int):
        """The program ends in the present cycle, well or with a cause."""
        if cause != Cause.NONE:
            raise ModelError(Cause(cause), self.dispatcher.next)
        self.end = self.kernel.now
        self.kernel.stopped = True

    def run(self) -> Prediction:
        """Run until the program's end."""
        self.fetch.pump()
        self.dispatcher.pump()
        if not self.kernel.run():
            raise ModelError(Cause.DEADLOCK, self.stuck())
        cycles = self.end + 1
        first = [unit.first for unit in self.execute if unit.first >= 0]
        array_cycles = max(unit.last for unit in self.execute) - min(first) + 1 if first else 0
        events = [Event(*item) for item in sorted(self.timeline or [], key=lambda item: item[3])]
        return Prediction(cycles, array_cycles, self.counters(cycles, array_cycles), events)

    def stuck(self) -> int:
        """Index of the first instruction that waits, unit by unit: one that has started and cannot go on, or else a queue head."""
        for kind in self.units:
            for unit in dict.fromkeys(self.units[kind]):
                index = unit.waiting()
                if index is not None or unit.queue:
                    return unit.queue[0][0] if index is None else index
        return self.dispatcher.next

    def counters(self, cycles: int, array_cycles: int) -> dict[str, int]:
        counters = {"cycles": cycles, "array_cycles": array_cycles, "dram_read_beats": self.dma_in.beats,
                    "dram_write_beats": self.dma_out.beats, "fetch_beats": self.fetch.accepted(self.end)}
        for group, (load_h, load_v, execute, store) in enumerate(zip(self.load_h, self.load_v, self.execute, self.store)):
            stalls = list(execute.stalls)
            stalls[Stall.INSTRUCTION] += cycles - sum(stalls)      # after the last wave no instruction comes
            values = {f"waves_{mode.name.lower()}": execute.waves[mode] for mode in Mode}
            values |= {f"stall_{why.name.lower()}": stalls[why] for why in Stall}
            values |= {f"busy_{unit.unit.name.lower()}": unit.busy for unit in (load_h, load_v, execute, store)}
            values |= {"moving_words": load_h.words, "stationary_words": load_v.words, "stored_words": store.words}
            counters |= {f"g{group}_{name}": value for name, value in values.items()}
        return counters

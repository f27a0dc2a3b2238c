"""An instruction-level simulator: memory image in, memory image out, no timing.

Units take their instructions in order as soon as tokens, local buffers and queues allow, in no particular order among each other. So a
program whose result depends on which of two units is faster may give something else here than on the machine.
"""

from collections import deque
from collections.abc import Callable, Sequence

import numpy as np

from gen.config import Config
from gen.isa import OPCODES, Cause, Instruction, Unit, units
from sw.model.check import ModelError, checker, streamed
from sw.model.datapath import Datapath
from sw.model.float_datapath import FloatDatapath

MEMORY_SPACE = 1 << 32
VECTOR = [op.name for op in OPCODES.values() if op.unit is Unit.VECTOR]


def run(config: Config, instructions: Sequence[Instruction], memory: np.ndarray,
        datapath: Callable[[Config], Datapath] | None = None) -> np.ndarray:
    """Run a program on a copy of `memory` (flat uint8) and return it. `datapath` makes the buffers of each group.

    Raises ModelError where the machine would stop (but does not look for TOKEN and PORT), ValueError for a DMA outside the memory or not
    on a beat. Addresses in a slice wrap.
    """
    return _Simulator(config, instructions, np.array(memory, np.uint8).reshape(-1),
                      datapath or (FloatDatapath if config.floating else Datapath)).run()


class _Started:
    """The instruction a unit works on: waves done, and for EXECUTE whether the next wave is in the shadow registers."""

    def __init__(self, index: int, instruction: Instruction):
        self.index, self.instruction = index, instruction
        self.wave = 0
        self.shifted = self.allowed = False


class _Simulator:
    """Queues, tokens and credits around the data paths of the groups."""

    def __init__(self, config: Config, instructions: Sequence[Instruction], memory: np.ndarray, datapath: Callable[[Config], Datapath]):
        self.config, self.instructions, self.memory = config, instructions, memory
        groups = range(config.array.groups)
        self.paths = [datapath(config) for _ in groups]
        self.tokens = [[0] * 16 for _ in groups]
        self.room_h, self.room_v = [config.moving_capacity for _ in groups], [config.stationary_capacity for _ in groups]
        self.ready_h, self.ready_v = [0 for _ in groups], [0 for _ in groups]
        keys = [(unit, group) for unit in units(config) for group in groups if group == 0 or unit not in (Unit.DMA_IN, Unit.DMA_OUT)]
        self.queues: dict[tuple[Unit, int], deque[tuple[int, Instruction]]] = {key: deque() for key in keys}
        self.started: dict[tuple[Unit, int], _Started | None] = dict.fromkeys(keys)
        self.check, self.next, self.ended = checker(config), 0, False

    def run(self) -> np.ndarray:
        """Give every unit its turn until the program ends or nobody can go on."""
        steps = {Unit.LOAD_H: self.load, Unit.LOAD_V: self.load, Unit.EXECUTE: self.execute}
        while not self.ended:
            progress = False
            while self.dispatch():
                progress = True
            for (unit, group), queue in self.queues.items():
                step = steps.get(unit)
                while step(unit, group) if step else self.simple(queue):
                    progress = True
            if not progress and not self.ended:
                raise ModelError(Cause.DEADLOCK, self.stuck())
        return self.memory

    def stuck(self) -> int:
        """Index of the first instruction that waits, in the order of units."""
        for key, queue in self.queues.items():
            started = self.started[key]
            if started or queue:
                return started.index if started else queue[0][0]
        return self.next

    def dispatch(self) -> bool:
        """Hand out the next instruction. Returns whether it went."""
        if self.ended:
            return False
        if self.next == len(self.instructions):
            raise ModelError(Cause.END, self.next)
        instruction = self.instructions[self.next]
        cause = self.check(instruction)
        if cause:
            raise ModelError(cause, self.next)
        unit = instruction.unit
        if unit is None:
            if any(self.queues.values()) or any(self.started.values()):
                return False
            self.ended = instruction.name == "End"
        else:
            queue = self.queues[unit, 0 if unit in (Unit.DMA_IN, Unit.DMA_OUT) else instruction.group]
            if len(queue) >= self.config.control.queue_depth:
                return False
            queue.append((self.next, instruction))
        self.next += 1
        return True

    def take(self, instruction: Instruction) -> bool:
        """Take the tokens if all are there."""
        tokens, bits = self.tokens[instruction.group], [bit for bit in range(16) if instruction.wait >> bit & 1]
        if not all(tokens[bit] for bit in bits):
            return False
        for bit in bits:
            tokens[bit] -= 1
        return True

    def signal(self, instruction: Instruction):
        for bit in range(16):
            self.tokens[instruction.group][bit] += instruction.signal >> bit & 1

    # Units

    def load(self, unit: Unit, group: int) -> bool:
        """One wave of LOAD_H or LOAD_V."""
        queue, room, ready = self.queues[unit, group], self.room_h, self.ready_h
        if unit is Unit.LOAD_V:
            room, ready = self.room_v, self.ready_v
        started = self.started[unit, group]
        if not started and not queue:
            return False
        instruction = started.instruction if started else queue[0][1]
        need = 1 if unit is Unit.LOAD_V else 0 if instruction.name == "SetConv" else streamed(instruction.mode, instruction.rows)
        if room[group] < need or not (started or self.take(instruction)):
            return False
        started = started or _Started(*queue.popleft())
        if instruction.name == "SetConv":
            self.paths[group].conv = instruction
        elif unit is Unit.LOAD_H:
            if instruction.im2col and self.paths[group].conv is None:
                raise ValueError(f"instruction {started.index} walks pixels without a SetConv before it")
            self.paths[group].load_moving(instruction, started.wave)
        else:
            self.paths[group].load_stationary(instruction, started.wave)
        room[group] -= need
        ready[group] += need > 0
        started.wave += 1
        self.started[unit, group] = started
        if started.wave >= instruction.values.get("waves", 1):
            self.started[unit, group] = None
            self.signal(instruction)
        return True

    def execute(self, unit: Unit, group: int) -> bool:
        """A shift, or a wave."""
        started, queue = self.started[unit, group], self.queues[unit, group]
        if not started or not started.shifted:
            if not self.ready_v[group] or not (started or queue):
                return False
            started = self.started[unit, group] = started or _Started(*queue.popleft())
            self.ready_v[group] -= 1
            self.room_v[group] += 1
            self.paths[group].shift()
            started.shifted = True
            return True
        instruction = started.instruction
        if not self.ready_h[group] or not (started.allowed or self.take(instruction)):
            return False
        started.allowed = True
        self.paths[group].execute(instruction, started.wave == 0)
        self.ready_h[group] -= 1
        self.room_h[group] += streamed(instruction.mode, instruction.rows)
        started.shifted = False
        started.wave += 1
        if started.wave == instruction.waves:
            self.started[unit, group] = None
            self.signal(instruction)
        return True

    def simple(self, queue: deque[tuple[int, Instruction]]) -> bool:
        """A whole instruction of a DMA unit, of STORE or of VECTOR."""
        if not queue or not self.take(queue[0][1]):
            return False
        index, instruction = queue.popleft()
        path = self.paths[instruction.group]
        steps = {"StLBUF": path.store, "LdScale": path.load_scale, "SetAdd": path.set_add, "Pool": path.pool}
        if isinstance(path, FloatDatapath):
            steps |= dict.fromkeys(VECTOR, path.vector)
        if instruction.name in steps:
            steps[instruction.name](instruction)
        else:
            self.transfer(index, instruction)
        self.signal(instruction)
        return True

    def transfer(self, index: int, instruction: Instruction):
        """DmaIn or DmaOut."""
        values, path, size = instruction.values, self.paths[instruction.group], self.config.memory.bytes_per_cycle
        count = values["beats"] * size
        for name in ("memory", "memory_stride"):
            if values[name] % size:
                raise ValueError(f"{instruction.name}.{name} = {values[name]} of instruction {index} is not a multiple of {size} bytes")
        for chunk in range(values["chunks"]):
            start = (values["memory"] + chunk * values["memory_stride"]) % MEMORY_SPACE
            if start + count > len(self.memory):
                raise ValueError(f"instruction {index} ({instruction.name}) reaches byte {start + count} of {len(self.memory)}")
            words = values["address"] + chunk * values["buffer_stride"] + np.arange(count // self.config.word_bytes)
            if instruction.name == "DmaIn":
                path.put(values["slice"], words, self.memory[start:start + count].reshape(-1, self.config.word_bytes))
            else:
                self.memory[start:start + count] = path.words(values["slice"], words).reshape(-1)

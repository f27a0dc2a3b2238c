"""A toy machine behind the link: a memory, and registers whose start runs the functional and the cycle model."""

import numpy as np

from gen.config import Config
from gen.isa import INSTRUCTION_BYTES, VERSION, Cause, Instruction, IsaError
from gen.registers import IDENTITY, registers
from sw.model import ModelError, functional, predict

STATUS_BUSY, STATUS_DONE, STATUS_ERROR = 1, 2, 4


class ToyMachine:
    """Runs programs at once, but says for `slow` reads of its status that it is busy.

    `stretch` multiplies the counters that depend on the memory's timing, as a DRAM would; `starts` counts the programs.
    """

    def __init__(self, config: Config, *, memory_bytes: int = 1 << 16, slow: int = 2, stretch: int = 1, digest: str | None = None,
                 board: str = "toy", protocol: int = 1, version: int = VERSION):
        self.config, self.unit, self.memory = config, config.memory.bytes_per_cycle, bytearray(memory_bytes)
        self.slow, self.stretch, self.digest, self.board, self.protocol = slow, stretch, digest or config.digest(), board, protocol
        self.names = {item.offset: item.name for item in registers(config.array.groups)}
        self.version, self.starts, self.not_ready = version, 0, 0
        self.after: dict[str, int] = {}
        self.reset()

    def reset(self):
        """As after power-up; the memory keeps its contents."""
        self.registers = dict.fromkeys(self.names.values(), 0) | {"identity": IDENTITY, "version": self.version}
        self.looks = 0      # reads of the status until the program is done

    def identity(self) -> bytes:
        """The payload of the answer to HELLO."""
        numbers = self.protocol.to_bytes(2, "little") + self.unit.to_bytes(2, "little") + (50_000).to_bytes(4, "little")
        numbers += len(self.memory).to_bytes(4, "little")
        return b"FWLK" + numbers + self.digest.encode().ljust(16, b"\0") + self.board.encode().ljust(16, b"\0")

    def memory_free(self) -> bool:
        """Whether memory may be used; the first `not_ready` times it may not."""
        self.not_ready -= self.not_ready > 0
        return not self.registers["status"] & STATUS_BUSY and not self.not_ready

    def read_register(self, address: int) -> int:
        """A register; looking at the status lets time pass."""
        name = self.names.get(address)
        if name == "status" and self.registers["status"] & STATUS_BUSY:
            self.looks -= 1
            self.registers |= dict.fromkeys(list(self.registers)[8:], 0xBAD)    # while it runs, counters read as anything
            if self.looks <= 0:
                self.registers |= self.after
        return self.registers[name] if name else 0

    def write_register(self, address: int, value: int):
        """Only three can be written, and none while the machine is busy."""
        name = self.names.get(address)
        if self.registers["status"] & STATUS_BUSY:
            return
        if name in ("program", "count"):
            self.registers[name] = value
        elif name == "control" and value & 1:
            self.start()

    def start(self):
        """Run the program; what it leaves in the registers shows when it is done."""
        self.starts += 1
        self.looks = self.slow
        cleared = {name: 0 for name in self.registers if name not in ("identity", "version", "program", "count")}
        self.registers |= cleared | {"status": STATUS_BUSY}
        program, count, instructions = self.registers["program"], self.registers["count"], []
        try:
            for index in range(count):
                at = program + index * INSTRUCTION_BYTES
                try:
                    instructions.append(Instruction.decode(bytes(self.memory[at:at + INSTRUCTION_BYTES])))
                except IsaError as error:
                    raise ModelError(error.cause, index) from None
            self.memory[:] = functional.run(self.config, instructions, np.frombuffer(bytes(self.memory), np.uint8)).tobytes()
            counters = predict(self.config, instructions, program=program).counters
            timed = ("cycles", "array_cycles", "stall_")
            self.after = {name: value * (self.stretch if any(text in name for text in timed) else 1) for name, value in counters.items()}
            self.after |= {"status": STATUS_DONE, "cause": Cause.NONE, "error_index": 0}
        except ModelError as error:
            self.after = {"status": STATUS_DONE | STATUS_ERROR, "cause": int(error.cause), "error_index": error.index, "cycles": 100}

"""Programs on a board that carries a FlexSA unit alone: the host interprets the program and lets the board do every wave.

The functional model stands for dispatcher, DMA, loaders, global buffer and store unit. What its local buffers get is written into the
board's as well, a wave is carried out on the board only, and what is stored was read from the board's output buffers.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from gen import timing, unit_map
from gen.config import Config
from gen.isa import INSTRUCTION_BYTES, VERSION, Instruction, IsaError, Mode
from gen.link import Request
from gen.unit_map import OFFSETS, UnitMap
from sw.model import functional, predict
from sw.model.check import ModelError, streamed
from sw.model.datapath import Datapath
from sw.runtime.board import Board, OtherContents, Outcome
from sw.runtime.errors import MachineError
from sw.runtime.link import Link
from sw.runtime.port import BAUD, Port

SPAN = 1 << 32      # the cycle counter wraps


class UnitLink(Protocol):
    """What is needed of a link: bytes of memory and registers. Memory addresses and lengths are multiples of a beat."""

    def read_memory(self, address: int, size: int) -> bytes: ...

    def write_memory(self, address: int, data: bytes): ...

    def read_registers(self, offset: int, count: int) -> list[int]: ...


def wave_cycles(config: Config, steps: int) -> int:
    """Cycles in which a wave of so many steps is under way on a board: shift, stream and drain; nothing overlaps."""
    return max(2, config.array.side) + steps + timing.drain(config)


class UnitDatapath(Datapath):
    """Slices of the global buffer on the host, local and output buffers on a board.

    `waves` and `expected` count the waves and the cycles they must have taken; `measured()` is what they took. Raises MachineError for
    a board with something else on it.
    """

    def __init__(self, config: Config, link: UnitLink):
        super().__init__(config)
        self.link, self.map = link, UnitMap(config)
        identity, version, position, _, cycles = link.read_registers(OFFSETS["identity"], 5)
        if (identity, version) != (unit_map.IDENTITY, VERSION):
            raise MachineError(f"the board has no unit of version {VERSION} (identity {identity:#x}, version {version})")
        # The rings go on where an earlier program has left them.
        self.write_h = self.read_h = position & 0xFFFF
        self.write_v = self.read_v = position >> 16
        self._start = cycles
        self.waves = self.expected = 0
        self._shifted, self._held = False, []   # the next wave's tile is taken here, not yet on the board; tiles that wait for that

    def measured(self) -> int:
        """Cycles in which waves were under way since the beginning."""
        return (self.link.read_registers(OFFSETS["cycles"], 1)[0] - self._start) % SPAN

    def load_moving(self, instruction: Instruction, wave: int):
        """Wave `wave` of an LdLBUF_H, on the host and on the board."""
        start, words = self.write_h, self.config.buffers.moving_words
        super().load_moving(instruction, wave)
        self._write("moving", instruction, start % words, self.moving[:, np.arange(start, self.write_h) % words])

    def load_stationary(self, instruction: Instruction, wave: int):
        """Wave `wave` of an LdLBUF_V, on the host and on the board."""
        tile = self.write_v % self.config.buffers.stationary_tiles
        super().load_stationary(instruction, wave)
        arguments = instruction, tile * self.side, self.stationary[:, tile].copy()
        if self._shifted:
            self._held.append(arguments)    # perhaps into the place of the tile that was taken
        else:
            self._write("stationary", *arguments)

    def shift(self):
        """The next stationary tile into the array; on the board when its wave starts."""
        super().shift()
        self._shifted = True

    def _write(self, operand: str, instruction: Instruction, word: int, tile: np.ndarray):
        """A tile as one piece of memory; `tile` is indexed by core, row and operand."""
        mode = Mode(instruction.values["mode"])
        groups = unit_map.cores(self.config, operand, mode)
        words = np.zeros((tile.shape[1], len(groups), self.map.beat // unit_map.OPERAND_BYTES), "<i2")
        words[:, :, :self.side] = np.stack([tile[group[0]] for group in groups], axis=1)
        self.link.write_memory(self.map.tile(operand, mode, word), words.tobytes())

    def execute(self, instruction: Instruction, first: bool):
        """The next wave of an ExecGEMM, on the board, which takes no further request until the wave is over."""
        values, mode = instruction.values, Mode(instruction.values["mode"])
        steps = streamed(mode, values["rows"])
        start = self.map.start(mode, half=values["half"], accumulate=bool(values["accumulate"]) or not first)
        self.link.write_memory(start, values["rows"].to_bytes(unit_map.ROWS_BYTES, "little").ljust(self.map.beat, b"\0"))
        self._shifted = False
        while self._held:
            self._write("stationary", *self._held.pop(0))
        self.read_h += steps
        self.waves += 1
        self.expected += wave_cycles(self.config, steps)

    def store(self, instruction: Instruction):
        """StLBUF of what the board has accumulated."""
        values, pairs = instruction.values, self.config.column_pairs
        narrow = not values["wide"] and pairs == 2
        words = -(-values["rows"] // (4 if narrow else 2))
        size = self.map.beat * self.map.parts
        data = self.link.read_memory(self.map.sums(values["half"]), words * 2 * pairs * size)
        sums = np.frombuffer(data, "<i4").reshape(words, 2, pairs, size // unit_map.SUM_BYTES)[..., :self.side]
        self.sums[values["half"], :, :2 * words] = sums.transpose(2, 0, 1, 3).reshape(pairs, 2 * words, self.side)
        super().store(instruction)


def run(config: Config, link: UnitLink, instructions: Sequence[Instruction], memory: np.ndarray,
        progress: Callable[[str], None] | None = None) -> np.ndarray:
    """Run a program on a copy of `memory` (flat uint8) and return it, as `sw.model.functional.run` does, with every wave on the board.

    Raises what that does, and MachineError if the board has no unit or its waves took another number of cycles than they must.
    """
    tell, paths = progress or (lambda text: None), []

    class Path(UnitDatapath):
        def execute(self, instruction: Instruction, first: bool):
            super().execute(instruction, first)
            tell(f"running, {self.waves:,} waves done")

    def datapath(config: Config) -> Datapath:
        paths.append(Path(config, link))
        return paths[-1]

    after = functional.run(config, instructions, memory, datapath)
    for path in paths:
        if (measured := path.measured()) != path.expected % SPAN:
            raise MachineError(f"{path.waves} waves took {measured} cycles on the board, not {path.expected}")
    return after


class UnitBoard(Board):
    """A board with a unit alone, used as any other. Programs and their memory stay on the host; cycles are predicted, not measured."""

    CONTENTS = unit_map.IDENTITY
    counts_cycles = False

    def check_room(self, size: int):
        """There is always room: memory is the host's."""

    def run(self, config: Config, image: np.ndarray, *, program: int, count: int, result: tuple[int, int], limit: int,
            expected: int = 0, progress: Callable[[str], None] | None = None) -> Outcome:
        """As a board with a machine does; the registers are those that the cycle model predicts for a machine."""
        code = image[program:program + count * INSTRUCTION_BYTES].tobytes()
        try:
            instructions = [Instruction.decode(code[at:at + INSTRUCTION_BYTES]) for at in range(0, len(code), INSTRUCTION_BYTES)]
            after = run(config, BoardLink(self._link), instructions, image, progress)
        except (IsaError, ModelError) as error:
            return Outcome(np.zeros(0, np.uint8), {}, f"the machine would have stopped: {error}")
        address, size = result
        return Outcome(after[address:address + size], predict(config, instructions, program=program).counters, None)


class BoardLink:
    """A `UnitLink` over the link of a board."""

    def __init__(self, link: Link):
        self._link = link

    def read_memory(self, address: int, size: int) -> bytes:
        """Bytes of the windows."""
        return self._link.read(Request.READ_MEMORY, address, size)

    def write_memory(self, address: int, data: bytes):
        """Write into the windows."""
        self._link.write(Request.WRITE_MEMORY, address, data)

    def read_registers(self, offset: int, count: int) -> list[int]:
        """`count` registers from an offset on."""
        data = self._link.read(Request.READ_REGISTERS, offset, 4 * count)
        return [int.from_bytes(data[at:at + 4], "little") for at in range(0, len(data), 4)]


def open_board(device: str, baud: int = BAUD) -> Board:
    """The board on a serial port, whatever is on it. Raises UserError if the port cannot be opened, else as `Board`."""
    port = Port(device, baud)
    try:
        try:
            return Board(port)
        except OtherContents:
            return UnitBoard(port)
    except BaseException:
        port.close()
        raise

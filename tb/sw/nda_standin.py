"""Near-data units as a reader of the launch registers: takes launches word by word as rtl/memory/README.md has them, without a clock."""

import numpy as np

from gen.dram import DramConfig
from sw.dram.engines import Place, Played
from sw.dram.mapping import locate

NAN = np.uint32(0x7FC0_0000).view(np.float32)


def flushed(x: np.ndarray) -> np.ndarray:
    return np.where(np.abs(x) < 2.0 ** -126, np.copysign(np.float32(0), x), x).astype(np.float32)


def rounded(exact: np.ndarray) -> np.ndarray:
    single = flushed(exact.astype(np.float32))
    return np.where(np.isnan(single), NAN, single)


def product(a, b, integer: bool) -> np.ndarray:
    """Of words; the double product of two float32 is exact."""
    if integer:
        return (np.uint64(a) * b.astype(np.uint64) & np.uint64(0xFFFF_FFFF)).astype(np.uint32)
    with np.errstate(all="ignore"):
        return rounded(flushed(np.asarray(a, np.uint32).view(np.float32)).astype(np.float64) *
                       flushed(b.view(np.float32)).astype(np.float64)).view(np.uint32)


def total(a: np.ndarray, b: np.ndarray, integer: bool) -> np.ndarray:
    if integer:
        return a + b
    with np.errstate(all="ignore"):
        return rounded(flushed(a.view(np.float32)).astype(np.float64) + flushed(b.view(np.float32)).astype(np.float64)).view(np.uint32)


class StandIn:
    """An engine for `sw.dram.blas.Nda`. A register write to a unit that may be at work, or a write outside the operands, is refused."""

    has_data = True

    def __init__(self):
        self.launched = 0            # descriptors
        self.seeds: set[int] = set()
        self.policies: set[int] = set()
        self.starts: set[int] = set()
        self.runs = 0

    def play(self, config: DramConfig, launches, load, store) -> Played:
        memory = dict(load)
        parameters, working = {}, set()
        top = config.part.all_banks - 1, config.part.rows - 1
        self.runs += 1
        for launch in launches:
            channel, rank, bank, row, column = (int(item) for item in locate(config, launch.block))
            unit = channel * config.ranks + rank
            assert (bank, row) == top and column <= 8 and len(launch.data) == 64
            working -= {number for number in working if launch.wait >> number & 1}
            assert unit not in working, f"unit {unit} may still be at work"
            words = np.frombuffer(launch.data, "<u4")
            if column:
                parameters.setdefault(unit, np.zeros(128, np.uint32))[16 * column - 16:16 * column] = words
            else:
                working.add(unit)
                self.launched += 1
                Unit(config, (channel, rank), memory, words, parameters.get(unit, np.zeros(128, np.uint32)), self).run()
        assert set(memory) == set(load), "a block outside the operands was written"
        return Played(None, {place: memory[place] for place in store})


class Unit:
    """One launch on one unit."""

    def __init__(self, config: DramConfig, where: tuple[int, int], memory: dict[Place, bytes], words: np.ndarray, parameters: np.ndarray,
                 record: StandIn):
        self.config, self.where, self.memory, self.parameters = config, where, memory, parameters
        w = [int(word) for word in words]
        assert not any(w[11:]) and not w[0] >> 7 & 1 and not w[0] >> 12 & 15
        self.operation, self.integer, self.flip, self.streams = w[0] & 15, bool(w[0] >> 4 & 1), w[0] >> 8 & 15, w[0] >> 16 & 255
        self.blocks, self.a, self.b, self.c, self.x, self.y, self.z, self.w, self.step, self.start = w[1:11]
        assert self.blocks >= 1 and self.start % 128 == 0
        record.policies.add(w[0] >> 5 & 3)
        record.seeds.add(w[0] >> 24)
        record.starts.add(self.start)

    def place(self, frame: int, q: int) -> Place:
        config = self.config
        k, h = config.reserved.bit_length() - 1, config.part.all_banks.bit_length() - config.reserved.bit_length()
        low, q = q % 2 ** k, q >> k
        column, q = q % config.part.row_blocks, q // config.part.row_blocks
        high, q = q % 2 ** h, q >> h
        bank = (2 ** h - 1) * 2 ** k + (low ^ self.flip % 2 ** k)
        return (*self.where, bank, (high ^ self.flip >> k) * (config.part.rows >> h) + frame + q * config.colours, column)

    def read(self, frame: int, q: int) -> np.ndarray:
        return np.frombuffer(self.memory[self.place(frame, q)], "<u4").astype(np.uint32)

    def write(self, frame: int, q: int, words: np.ndarray) -> None:
        self.memory[self.place(frame, q)] = words.astype("<u4").tobytes()

    def run(self) -> None:
        lanes = np.zeros(16, np.uint32)
        for first in range(0, self.blocks, 128):
            positions = [self.start + block for block in range(first, min(first + 128, self.blocks))]
            if self.operation in (6, 7):
                for q in positions:
                    x = self.read(self.x, q)
                    y = self.read(self.y, q) if self.operation == 6 else x
                    lanes = total(product(x, y, False), lanes, False)
            elif self.operation == 10:
                added = [self.read(self.y, q) for q in positions]
                for j in range(self.streams):
                    p = int(self.parameters[j])
                    rows = [total(self.read(self.x, p + i), added[i], False) for i in range(len(positions))]
                    for i, words in enumerate(rows):
                        self.write(self.x, p + i, words)
            else:
                for q, words in zip(positions, [self.result(q) for q in positions]):
                    self.write(self.w, q, words)
        if self.operation in (6, 7):
            self.write(self.w, self.start, lanes)

    def result(self, q: int) -> np.ndarray:
        if self.operation == 8:
            words = self.read(self.y, q)
            for j in range(self.streams):
                words = total(product(self.parameters[j], self.read(self.x + j * self.step, q), False), words, False)
            return words
        if self.operation == 9:
            i = q - self.start
            words = self.read(self.x, int(self.parameters[0]) + i)
            for j in range(1, self.streams):
                words = total(self.read(self.x, int(self.parameters[j]) + i), words, False)
            return words
        x = self.read(self.x, q)
        if self.operation == 0:
            return x
        if self.operation == 5:
            return product(x, self.read(self.y, q), self.integer)
        words = product(self.a, x, self.integer)
        if self.operation == 2:
            words = total(self.read(self.y, q), words, self.integer)
        if self.operation in (3, 4):
            words = total(product(self.b, self.read(self.y, q), self.integer), words, self.integer)
        if self.operation == 4:
            words = total(product(self.c, self.read(self.z, q), self.integer), words, self.integer)
        assert self.operation in (1, 2, 3, 4)
        return words

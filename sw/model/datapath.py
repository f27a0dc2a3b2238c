"""What the instructions of one group do to its buffers, a whole wave or instruction at a time. No time in it."""

import numpy as np

from gen.config import Config
from gen.isa import FRACTION_BITS, Instruction, Mode, Output
from sw.model.check import streamed

ADDRESS_SPACE = 1 << 16
ONE = 0x3F800000            # fp32 1.0
OPERAND_RANGE = 1 << 9      # operands with their zero point subtracted are 9 bits wide


def rows_of(mode: Mode, cores: int, core: int, steps: int) -> np.ndarray:
    """Rows of a wave that a core streams, step by step; they may lie beyond the wave's last row."""
    step, (low, right) = np.arange(steps), divmod(core, 2)
    if cores == 1 or mode is Mode.FW:
        return step
    return {Mode.VSW: 2 * step + right, Mode.HSW: 2 * step + low, Mode.ISW: 4 * step + 2 * low + right}[mode]


def requantise(total: np.ndarray, multiplier: np.ndarray, zero_point: int, relu: bool, is_signed: bool) -> np.ndarray:
    """int32 totals times fp32 multipliers (as bits), exact products rounded once to even, zero point added, saturated; uint8 bytes."""
    bits = multiplier.astype(np.int64)
    product = total.astype(np.int64) * ((bits & 0x7FFFFF) | 0x800000)    # fits 56 bits
    shift = 150 - (bits >> 23 & 0xFF)
    right = np.clip(shift, 1, 57)
    floor, rest, half = product >> right, product & ((np.int64(1) << right) - 1), np.int64(1) << (right - 1)
    rounded = floor + ((rest > half) | (rest == half) & (floor & 1 == 1))
    rounded = np.where(shift < 1, np.sign(product) << 12, rounded)      # at least 2^23 in size: saturates
    result = rounded + zero_point
    if relu:
        result = np.maximum(result, zero_point)
    return np.clip(result, *((-128, 127) if is_signed else (0, 255))).astype(np.int64).astype(np.uint8)


def numbers(data: np.ndarray, signed: bool) -> np.ndarray:
    """Bytes as numbers."""
    return data.view(np.int8).astype(np.int64) if signed else data.astype(np.int64)


class Datapath:
    """Buffers of one group: slices, rings of local buffers, output buffers and column parameters. Numbers are int8 or uint8."""

    OPERAND: type = np.int64        # what an operand and a sum are kept as

    def __init__(self, config: Config):
        self.config, self.side, self.cores = config, config.array.side, config.cores
        buffers, side = config.buffers, config.array.side
        self.slices = np.zeros((buffers.slices, buffers.slice_words, config.word_bytes), np.uint8)
        self.moving = np.zeros((self.cores, buffers.moving_words, side), self.OPERAND)
        self.stationary = np.zeros((self.cores, buffers.stationary_tiles, side, side), self.OPERAND)
        self.shadow = self.stationary[:, 0]
        # half, pair, s (parity bank s & 1, word s >> 1), column
        self.sums = np.zeros((2, config.column_pairs, 2 * buffers.accumulator_words, side), self.OPERAND)
        self.records = np.zeros((config.column_pairs, side, 8), np.uint8)      # bytes of each column's bias and multiplier
        self.conv: Instruction | None = None
        self.addition: Instruction | None = None        # SetAdd of the next StLBUF or Pool
        self.write_h = self.read_h = self.write_v = self.read_v = 0            # positions in the rings

    def words(self, number: int, addresses: np.ndarray) -> np.ndarray:
        """Words of a slice; addresses wrap."""
        return self.slices[number][addresses % ADDRESS_SPACE % self.config.buffers.slice_words]

    def put(self, number: int, addresses: np.ndarray, words: np.ndarray):
        self.slices[number][addresses % ADDRESS_SPACE % self.config.buffers.slice_words] = words

    # Loads

    def operands(self, instruction: Instruction, words: np.ndarray) -> np.ndarray:
        """Bytes as numbers with the zero point subtracted, 9 bits."""
        numbers = words.view(np.int8) if instruction.values["signed"] else words
        return (numbers.astype(np.int64) - instruction.values["zero_point"] + OPERAND_RANGE // 2) % OPERAND_RANGE - OPERAND_RANGE // 2

    def load_moving(self, instruction: Instruction, wave: int):
        """Wave `wave` of an LdLBUF_H into the rings of all cores."""
        values, mode = instruction.values, Mode(instruction.values["mode"])
        steps = streamed(mode, values["rows"])
        addresses, inside = self.walk(instruction, wave, steps * mode.parts)
        place = (self.write_h + np.arange(steps)) % self.config.buffers.moving_words
        for core in range(self.cores):
            if self.cores > 1 and mode.wide and core & 1:
                continue    # it gets its operands from the core to its left
            block = core >> 1 if self.cores > 1 and mode.tall else 0
            rows = rows_of(mode, self.cores, core, steps)
            numbers = self.operands(instruction, self.words(values["slice"], addresses[rows] + block * values["pitch"]))
            self.moving[core, place] = np.where(inside[rows, None], numbers, 0)
        self.write_h += steps

    def walk(self, instruction: Instruction, wave: int, rows: int) -> tuple[np.ndarray, np.ndarray]:
        """Slice address of each row of a wave, and whether it is inside the image."""
        v, row = instruction.values, np.arange(rows)
        if not v["im2col"]:
            return v["address"] + wave * v["wave_stride"] + row, np.ones(rows, bool)
        assert self.conv is not None
        c = self.conv.values
        position = (v["start_wave"] + wave) // c["channel_waves"]
        ends, kernel_x = divmod(v["start_kernel_x"] + position, c["kernel_width"])      # of kernel rows
        kernel_y = v["start_kernel_y"] + ends
        # The wave's place: steps to the next channel wave, to the next kernel column, to the next kernel row, counted from the first's.
        base = v["address"] + (wave - position) * v["wave_stride"] + (position - ends) * c["kernel_x_step"] + ends * c["kernel_y_step"]
        # The pixel's place: steps right, steps to the next row, steps to the next image, counted from the first row's.
        pixel = v["start_y"] * c["out_width"] + v["start_x"] + row
        line, image = pixel // c["out_width"], pixel // (c["out_width"] * c["out_height"])
        lines, images = line - v["start_y"] - image, image
        base = base + (row - lines - images) * c["x_step"] + lines * c["row_step"] + images * c["image_step"]
        x = pixel % c["out_width"] * c["stride"] - c["pad_x"] + kernel_x
        y = line % c["out_height"] * c["stride"] - c["pad_y"] + kernel_y
        return base, (x >= 0) & (x < c["in_width"]) & (y >= 0) & (y < c["in_height"])

    def load_stationary(self, instruction: Instruction, wave: int):
        """Wave `wave` of an LdLBUF_V into the rings of all cores."""
        values, mode = instruction.values, Mode(instruction.values["mode"])
        distinct = 1 if self.cores == 1 else mode.stationary_words
        first = values["address"] + (wave * self.side + np.arange(self.side)) * distinct
        for core in range(self.cores):
            low, right = divmod(core, 2)
            word = 0 if self.cores == 1 else {Mode.FW: core, Mode.VSW: low, Mode.HSW: right, Mode.ISW: 0}[mode]
            tile = self.operands(instruction, self.words(values["slice"], first + word))
            self.stationary[core, self.write_v % self.config.buffers.stationary_tiles] = tile
        self.write_v += 1

    # Waves

    def shift(self):
        """The next stationary tile into the array; its place in the LBUF-Vs may be filled again."""
        self.shadow = self.stationary[:, self.read_v % self.config.buffers.stationary_tiles].copy()
        self.read_v += 1

    def execute(self, instruction: Instruction, first: bool):
        """The next wave of an ExecGEMM, with the tile shifted last, into the output buffers."""
        values, mode = instruction.values, Mode(instruction.values["mode"])
        steps, rows = streamed(mode, values["rows"]), values["rows"]
        words = (self.read_h + np.arange(steps)) % self.config.buffers.moving_words
        self.read_h += steps
        overwrite = first and not values["accumulate"]
        upper: list[np.ndarray] = []
        for core in range(self.cores):
            source = core & 2 if mode.wide and self.cores > 1 else core
            pair, below = core & 1, self.cores > 1 and mode.tall and core > 1
            result = self.through(self.moving[source, words], self.shadow[core], upper[pair] if below else None)
            if self.cores > 1 and mode.tall and core < 2:
                upper.append(result)        # passed down into the lower core
                continue
            row = rows_of(mode, self.cores, core, steps)
            place = row if mode.wide else row >> 1
            place, result = place[row < rows] % self.sums.shape[2], result[row < rows]
            sums = self.sums[values["half"], pair]
            sums[place] = self.accumulate(None if overwrite else sums[place], result)

    def through(self, moving: np.ndarray, tile: np.ndarray, above: np.ndarray | None) -> np.ndarray:
        """What leaves a core at the bottom: moving rows times its tile, added to what came from the core above."""
        return moving @ tile if above is None else above + moving @ tile

    def accumulate(self, sums: np.ndarray | None, result: np.ndarray) -> np.ndarray:
        """Sums of an output buffer, None for those that are overwritten, with what comes from the array."""
        return ((result if sums is None else sums + result) + 2**31) % 2**32 - 2**31

    # Stores

    def set_add(self, instruction: Instruction):
        """SetAdd."""
        self.addition = instruction

    def with_residual(self, result: np.ndarray, signed: bool, block: int) -> np.ndarray:
        """8-bit results, row by row, with the residual of a SetAdd added if there was one."""
        if self.addition is None:
            return result
        add = self.addition.values
        residual = self.words(add["slice"], add["address"] + block * add["pitch"] + np.arange(len(result)))
        own, other = numbers(result, signed) - add["own_zero_point"], numbers(residual, bool(add["signed"])) - add["residual_zero_point"]
        total = own * add["multiplier"] + other * add["residual_multiplier"]
        floor, rest, half = total >> FRACTION_BITS, total & (1 << FRACTION_BITS) - 1, 1 << FRACTION_BITS - 1
        rounded = floor + ((rest > half) | (rest == half) & (floor & 1 == 1))
        if add["relu"]:
            rounded = np.maximum(rounded, 0)
        return np.clip(rounded + add["zero_point"], *((-128, 127) if signed else (0, 255))).astype(np.uint8)

    def pool(self, instruction: Instruction):
        """Pool."""
        values = instruction.values
        width, height, columns, lines = (values[name] for name in ("kernel_width", "kernel_height", "columns", "lines"))
        across = width - 1 + values["x_step"]                   # from one window to the next, before what its further lines add
        window = np.arange(width) + np.arange(height)[:, None] * (width - 1 + values["kernel_y_step"])
        down = (height - 1) * (width - 1 + values["kernel_y_step"])
        step, turn = across + down, width - 1 + values["y_step"] + down
        first = values["source_address"] + np.arange(lines)[:, None] * ((columns - 1) * step + turn) + np.arange(columns) * step
        pixels = numbers(self.words(values["source_slice"], first.reshape(-1, 1) + window.reshape(-1)), bool(values["signed"]))
        if values["average"]:
            bias = np.ascontiguousarray(self.records[0, :, :4]).view("<i4")[:, 0]
            total = (pixels.sum(axis=1) + bias + 2**31) % 2**32 - 2**31
            multiplier = np.ascontiguousarray(self.records[0, :, 4:]).view("<u4")[:, 0]
        else:
            total, multiplier = pixels.max(axis=1), np.full(self.side, ONE, np.uint32)
        signed = bool(values["output"])
        result = requantise(total, multiplier, values["zero_point"], bool(values["relu"]), signed)
        line = np.arange(lines)[:, None] * (columns - 1 + values["line_step"]) + np.arange(columns)
        # One after the other: steps may lead to a word twice.
        for address, word in zip(values["address"] + line.reshape(-1), self.with_residual(result, signed, 0)):
            self.put(values["slice"], np.array([address]), word)
        self.addition = None

    def load_scale(self, instruction: Instruction):
        """LdScale; blocks that the machine does not have are dropped."""
        values = instruction.values
        for block in range(min(values["blocks"], self.config.column_pairs)):
            words = self.words(values["slice"], values["address"] + 8 * block + np.arange(8))
            self.records[block] = words.T

    def store(self, instruction: Instruction):
        """StLBUF."""
        values, pairs = instruction.values, self.config.column_pairs
        row, narrow = np.arange(values["rows"]), not values["wide"] and pairs == 2
        planes = values["output"] == Output.INT32
        for block in range(2 if values["wide"] and pairs == 2 else 1):
            place = (row >> 1 if narrow else row) % self.sums.shape[2]
            total = self.sums[values["half"], row & 1 if narrow else block, place]
            address = values["address"] + block * values["pitch"] + row * (self.config.planes if planes else 1)
            self.write_tile(values, block, address, total)
        self.addition = None

    def write_tile(self, values: dict[str, int], block: int, address: np.ndarray, total: np.ndarray):
        """A StLBUF's results of one block to the slice: each row's first word is at its `address`."""
        multiplier = np.full(self.side, ONE, np.uint32)
        if values["parameters"]:
            total = total + np.ascontiguousarray(self.records[block, :, :4]).view("<i4")[:, 0]
            total = (total + 2**31) % 2**32 - 2**31
            multiplier = np.ascontiguousarray(self.records[block, :, 4:]).view("<u4")[:, 0]
        if values["output"] == Output.INT32:
            if values["relu"]:
                total = np.maximum(total, 0)
            for plane in range(self.config.planes):
                self.put(values["slice"], address + plane, (total >> 8 * plane & 0xFF).astype(np.uint8))
        else:
            signed = values["output"] == Output.INT8
            result = requantise(total, multiplier, values["zero_point"], bool(values["relu"]), signed)
            self.put(values["slice"], address, self.with_residual(result, signed, block))

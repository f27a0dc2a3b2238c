"""Pooling: largest operands or averages of windows, each channel by itself, as Pool instructions of one group."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np

from gen.config import Config
from gen.isa import Instruction, layout
from sw.compiler.addition import Addition
from sw.compiler.emission import Emission
from sw.compiler.errors import CompileError, refuse_outside
from sw.compiler.layout import PARAMETER_WORDS, blocks_of, ceil_div, padded_rows, round_up
from sw.compiler.steps import Slots
from sw.compiler.strips import Strip, pixels, runs, strip_parts
from sw.compiler.tokens import Token
from sw.compiler.window import Window

KINDS = ("max", "average")
OPERANDS = {"int8": (-128, 127), "uint8": (0, 255)}
_MOST = {item.name: item.top for item, _ in layout("Pool")}


@dataclass(frozen=True, kw_only=True)
class Pooling:
    """What a program computes: windows of `channels` channels to one pixel each. Padding never counts, but in the divisor of an average
    with `count_padding`.

    max: the largest operand, of the same type and zero point. average: (sum of (x - zero_point)) * multiplier / pixels, rounded once, plus
    output_zero_point, saturated to `output`; `multiplier` is the ratio of the scales. With an `addition` a residual is added to the
    results. Raises CompileError for a value out of range and for a window that lies in the padding.
    """

    window: Window
    channels: int
    kind: str = "max"
    dtype: str = "int8"
    zero_point: int = 0
    output: str = "int8"
    output_zero_point: int = 0
    multiplier: float = 1.0
    count_padding: bool = False
    addition: Addition | None = None

    def __post_init__(self):
        if isinstance(self.window, dict):
            object.__setattr__(self, "window", Window(**self.window))
        if isinstance(self.addition, dict):
            object.__setattr__(self, "addition", Addition(**self.addition))
        if self.kind not in KINDS:
            raise CompileError(f"kind = {self.kind!r} is none of {', '.join(KINDS)}")
        refuse_outside("channels", self.channels, 1, (1 << 31) - 1)
        for name, dtype, zero_point in (("dtype", self.dtype, self.zero_point), ("output", self.output, self.output_zero_point)):
            if dtype not in OPERANDS:
                raise CompileError(f"{name} = {dtype!r} is none of {', '.join(OPERANDS)}")
            refuse_outside(f"zero point of {name}", zero_point, *OPERANDS[dtype], f" ({dtype})")
        if self.kind == "max" and (self.dtype, self.zero_point) != (self.output, self.output_zero_point):
            raise CompileError(f"output = {self.output} with zero point {self.output_zero_point} must be {self.dtype} with "
                               f"{self.zero_point}, as the operands of a max pooling")
        if not np.isfinite(np.float32(self.multiplier)) or np.float32(self.multiplier) < np.finfo(np.float32).tiny:
            raise CompileError(f"multiplier = {self.multiplier} is not a positive normal finite float32")
        for axis, name in enumerate(("height", "width")):
            refuse_outside(f"kernel {name}", self.window.kernel[axis], 1, _MOST[f"kernel_{name}"])
            before, after = self.window.padding[axis], self.window.padding[axis + 2]
            if max(before, after) >= self.window.kernel[axis]:
                raise CompileError(f"padding = {max(before, after)} is outside 0..{self.window.kernel[axis] - 1} (kernel {name} - 1)")

    @property
    def m(self) -> int:
        """Output pixels of all images."""
        return self.window.rows

    @property
    def n(self) -> int:
        """Channels."""
        return self.channels

    @property
    def macs(self) -> int:
        """It has no multiply-adds."""
        return 0

    def to_dict(self) -> dict:
        """Plain values by field name."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        return values | {name: getattr(self, name) and getattr(self, name).to_dict() for name in ("window", "addition")}

    def divisor(self, height: int, width: int) -> int:
        """What the sum of a window is divided by of which height x width pixels lie in the image."""
        return self.window.taps if self.count_padding else height * width

    def parameters(self) -> dict[tuple[int, int], int]:
        """Every size of window that occurs, with the number of its column parameters."""
        if self.kind == "max":
            return {}
        sizes = {(line.size, column.size) for line in runs(self.window, 0) for column in runs(self.window, 1)}
        return {size: number for number, size in enumerate(sorted(sizes, reverse=True))}

    def records(self) -> tuple[np.ndarray, np.ndarray]:
        """Bias and multiplier for each of `parameters`."""
        sizes = list(self.parameters())
        bias = np.array([-self.zero_point * height * width for height, width in sizes], np.int32)
        return bias, np.array([self.multiplier / self.divisor(*size) for size in sizes], np.float32)


class PoolEmitter(Emission):
    """Emits a group's instructions, strip by strip, as `sw.compiler.emit.Emitter` does; `addresses`: byte addresses of the regions."""

    def __init__(self, config: Config, pooling: Pooling, group: int, blocks: range, addresses: Mapping[str, int]):
        super().__init__(config, group)
        self.pooling, self.window, self.addresses = pooling, pooling.window, addresses
        self.sizes = pooling.parameters()
        height = strip_lines(config, pooling)
        lines = self.window.images * self.window.out_height
        self.strips = [Strip(block, line, min(lines, line + height)) for block in blocks for line in range(0, lines, height)]
        words, slices = config.buffers.slice_words, config.buffers.slices - bool(self.sizes)
        outputs = 1 + (slices > 3 + bool(pooling.addition))
        residuals = outputs if pooling.addition else 0
        keys = [(strip,) for strip in self.strips]
        self.c = Slots([(slices - 1 - i, 0) for i in range(outputs)], keys, Token.C_FREE)
        self.r = Slots([(slices - 1 - outputs - i, 0) for i in range(residuals)], keys if residuals else [], Token.R_FREE)
        self.a = Slots([(i, 0) for i in range(slices - outputs - residuals)], keys, Token.A_FREE)
        self.parameter_slice, self.slice_words = config.buffers.slices - 1, words
        self.loads: deque[int] = deque()
        self.loaded = self.done = self.ahead = self.go_step = 0
        self.scaled: tuple[int, int] | None = None

    def can_load(self) -> bool:
        """Whether a strip is left whose operands have not been loaded, and there is a slot for them."""
        if self.loaded == len(self.strips):
            return False
        key = (self.strips[self.loaded],)
        return self.a.ready(key) and (not self.pooling.addition or self.r.ready(key))

    def load(self) -> list[Instruction]:
        """The loads of the next strip; before the first those of the column parameters."""
        strip, word, beat = self.strips[self.loaded], self.config.word_bytes, self.config.memory.bytes_per_cycle
        instructions = []
        if self.sizes and not self.loaded:
            instructions.append(self.emit("DmaIn", (), [Token.P_FULL], memory=self.addresses["parameters"], slice=self.parameter_slice,
                                           beats=ceil_div(len(self.sizes) * PARAMETER_WORDS * word, beat)))
        first, stop = pixels(self.window, strip, self.config.beat_words)
        padded = padded_rows(self.config, self.window.pixels)
        free = self.a.take((strip,))
        instructions.append(self.emit(
            "DmaIn", [free], [Token.A_FULL], memory=self.addresses["moving"] + (strip.block * padded + first) * word,
            slice=self.a.at[strip,][0], beats=ceil_div(stop - first, self.config.beat_words)))
        if self.pooling.addition:
            free = self.r.take((strip,))
            instructions.append(self.emit("DmaIn", [free], [Token.R_FULL], memory=self._out("residual", strip), slice=self.r.at[strip,][0],
                                           beats=self._out_beats(strip)))
        self.loaded += 1
        self.loads.append(len(instructions))
        self.ahead += len(instructions)
        return instructions

    @property
    def finished(self) -> bool:
        """Whether every strip has been emitted."""
        return self.done == len(self.strips)

    def step(self) -> list[Instruction]:
        """The next strip, whose operands have been loaded."""
        index, strip, pooling = self.done, self.strips[self.done], self.pooling
        self.ahead -= self.loads.popleft()
        self.done += 1
        free_c = self.c.take((strip,))
        origin = pixels(self.window, strip, self.config.beat_words)[0]
        places = {"source_slice": self.a.at[strip,][0], "slice": self.c.at[strip,][0]}
        parts, instructions = [values | places for values in strip_parts(pooling, strip, origin)], []
        for number, values in enumerate(parts):
            last = number == len(parts) - 1
            wait = [free_c, Token.A_FULL] if number == 0 else []
            signal = [Token.C_FULL, self.a.leave((strip,), index)] if last else []
            size = (values["kernel_height"], values["kernel_width"])
            if self.sizes and size != self.scaled:
                first = self.scaled is None
                self.scaled = size
                instructions.append(self.emit("LdScale", [Token.P_FULL] if first else (), slice=self.parameter_slice,
                                               address=self.sizes[size] * PARAMETER_WORDS, blocks=1))
            if pooling.addition:
                offset = values["address"]
                instructions.append(self.emit("SetAdd", [Token.R_FULL] if number == 0 else (), (), slice=self.r.at[strip,][0],
                                               address=offset, **pooling.addition.fields()))
                if last:
                    signal.append(self.r.leave((strip,), index))
            instructions.append(self.emit("Pool", wait, signal, **values))
        instructions.append(self.emit("DmaOut", [Token.C_FULL], [self.c.leave((strip,), index)], memory=self._out("result", strip),
                                       slice=parts[0]["slice"], beats=self._out_beats(strip)))
        return instructions

    def _out(self, region: str, strip: Strip) -> int:
        """Byte address of a strip's first result."""
        padded = padded_rows(self.config, self.window.rows)
        return self.addresses[region] + (strip.block * padded + strip.line * self.window.out_width) * self.config.word_bytes

    def _out_beats(self, strip: Strip) -> int:
        return ceil_div((strip.stop - strip.line) * self.window.out_width, self.config.beat_words)


def strip_lines(config: Config, pooling: Pooling) -> int:
    """Output lines of a strip: as many as fit a slice, so that every strip but the last ends at a whole beat. Raises CompileError."""
    window, words, beat = pooling.window, config.buffers.slice_words, config.beat_words
    lines = window.images * window.out_height
    step = beat // np.gcd(beat, window.out_width)

    def fits(count: int) -> bool:
        strips = [Strip(0, line, min(lines, line + count)) for line in range(0, lines, count)]
        source = max(stop - first for first, stop in (pixels(window, strip, beat) for strip in strips))
        return round_up(source, beat) <= words and round_up(min(count, lines) * window.out_width, beat) <= words

    candidates = [count for count in (*range(int(step), lines, int(step)), lines) if fits(count)]
    if not candidates:
        need = round_up((window.kernel[0] + (int(step) - 1) * window.stride) * window.width, beat)
        raise CompileError(f"buffers.slice_words = {words} is outside {need}..32768 words for a window's lines")
    parts = ceil_div(lines, max(candidates))
    return min(count for count in candidates if ceil_div(lines, count) == parts)


def shares(config: Config, pooling: Pooling) -> list[range]:
    """The channel blocks of each group; groups without any are left out."""
    blocks = blocks_of(config, pooling.channels)
    each = ceil_div(blocks, config.array.groups)
    return [range(first, min(blocks, first + each)) for first in range(0, blocks, each)]

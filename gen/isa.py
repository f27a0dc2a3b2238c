"""The instruction set: opcodes, fields, modes and their encoding. RTL, compiler, models, C header and tables derive from here.

An instruction is 32 bytes, little endian. Its first 48 bits are common: opcode, version, group, and two masks over the group's sixteen
tokens (counting semaphores): it starts when every token of `wait` is positive and takes one of each; when it is done it adds one to each
token of `signal`. The fields that follow belong to the opcode; bits that no field names must be zero.
"""

import enum
from dataclasses import dataclass
from functools import cache

from gen.config import Config

VERSION = 1
INSTRUCTION_BYTES = 32
INSTRUCTION_BITS = 8 * INSTRUCTION_BYTES


class Mode(enum.IntEnum):
    """Mode of a FlexSA unit; bit 0 is set when a wave is not wide (n <= side), bit 1 when it is not tall (k <= side)."""

    FW = 0
    VSW = 1
    HSW = 2
    ISW = 3

    @property
    def tall(self) -> bool:
        """Partial sums run from the upper into the lower cores."""
        return not self & 2

    @property
    def wide(self) -> bool:
        """The moving operand runs from the left into the right cores."""
        return not self & 1

    @property
    def parts(self) -> int:
        """Sub-waves among which the rows are dealt: 1, 2, 2 or 4."""
        return (1 if self.tall else 2) * (1 if self.wide else 2)

    @property
    def stationary_words(self) -> int:
        """Distinct words of a stationary row: one for each different core tile."""
        return 4 // self.parts


class Unit(enum.IntEnum):
    """The execution units, each with an in-order queue. DMA units are shared by the groups; the others exist once a group."""

    DMA_IN = 0
    DMA_OUT = 1
    LOAD_H = 2
    LOAD_V = 3
    EXECUTE = 4
    STORE = 5
    VECTOR = 6      # machines for bf16 only


class Stall(enum.IntEnum):
    """What a group's array does in a cycle: a wave occupies it, or the first of these conditions that is missing."""

    ARRAY = 0          # a wave occupies it
    INSTRUCTION = 1    # no ExecGEMM has arrived
    STATIONARY = 2     # the next stationary tile is not in the LBUF-Vs
    SHIFT = 3          # the stationary tile is on its way into the array
    MOVING = 4         # the next moving tile is not in the LBUF-Hs
    TOKEN = 5          # a token of the ExecGEMM is missing
    ACCUMULATOR = 6    # a short wave waits for a tall one in the same half


class Output(enum.IntEnum):
    """What StLBUF writes; machines with `array.dtype` bf16 know the two of floating point only."""

    INT32 = 0
    INT8 = 1
    UINT8 = 2
    FP32 = 0
    BF16 = 1


class Factor(enum.IntEnum):
    """What a Vector multiplies its element of A with."""

    ONE = 0
    A = 1
    B = 2
    REGISTER = 3


class Addend(enum.IntEnum):
    """What a Vector adds to the product."""

    NONE = 0
    B = 1
    REGISTER = 2


class Post(enum.IntEnum):
    """What a Vector does to the sum."""

    NONE = 0
    RELU = 1        # what has a negative sign becomes +0
    MASKED = 2      # +0 where the mask bit, of B, is 0
    LARGER = 3      # the larger of the sum and B
    EQUAL = 4       # 1 if it equals B, else 0
    POWER = 5       # 2^i, where i is the number in the lowest 8 bits of the sum's significand: of i + 1.5 * 2^23


class Result(enum.IntEnum):
    """Where the elements of a Vector go."""

    STREAM = 0      # to the global buffer
    MASK = 1        # a mask bit each, whether it is positive, 16 elements a word
    REGISTER = 2    # the last one to a register
    SUM = 3         # the sum of all, instead of `addend` and `post`, to a register
    LARGEST = 4     # the largest one to a register


class LaneOperation(enum.IntEnum):
    """What VectorLanes does."""

    DIVIDE = 0
    ROOT = 1
    SUM = 2         # of 2^span neighbouring columns, in each of them
    LARGEST = 3     # likewise


class Cause(enum.IntEnum):
    """Why the machine stopped."""

    NONE = 0
    OPCODE = 1       # unknown opcode
    VERSION = 2      # version field differs from the machine's
    FIELD = 3        # a field out of range, or a reserved bit set
    TOKEN = 4        # a token counter would pass its limits
    PORT = 5         # two units used one port of a global-buffer slice in the same cycle
    DEADLOCK = 6     # every unit waits and none is busy
    END = 7          # the program ran out without an End instruction


@dataclass(frozen=True)
class Field:
    """A field of an instruction: width in bits, inclusive value range, unit and meaning."""

    name: str
    width: int
    doc: str
    low: int = 0
    high: int | None = None
    signed: bool = False

    @property
    def top(self) -> int:
        """Largest legal value."""
        return self.high if self.high is not None else (1 << (self.width - self.signed)) - 1

    @property
    def bottom(self) -> int:
        """Smallest legal value."""
        return -(1 << (self.width - 1)) if self.signed else self.low


COMMON = (
    Field("opcode", 4, "which instruction"),
    Field("version", 4, "version of this table"),
    Field("group", 8, "group whose units, buffers and tokens are meant", high=3),
    Field("wait", 16, "tokens to take one of before the start"),
    Field("signal", 16, "tokens to add one to at the end"),
)
_SLICE = Field("slice", 4, "slice of the global buffer")
_ADDRESS = Field("address", 16, "first word in the slice")
_PITCH = Field("pitch", 16, "words from a row of the first column block to the same row of the second")
_MODE = Field("mode", 2, "FW 0, VSW 1, HSW 2, ISW 3")
_ZERO_POINT = Field("zero_point", 9, "subtracted from each operand", signed=True)
_SIGNED = Field("signed", 1, "operands are int8 (1) or uint8 (0)")
_DMA = (
    Field("memory", 32, "byte address of the first beat, a multiple of the beat"),
    _SLICE,
    _ADDRESS,
    Field("chunks", 16, "contiguous pieces", low=1),
    Field("beats", 16, "beats of one piece", low=1),
    Field("memory_stride", 32, "bytes from one piece to the next in memory, a multiple of the beat"),
    Field("buffer_stride", 16, "words from one piece to the next in the slice"),
)


@dataclass(frozen=True)
class Opcode:
    """An instruction: its number, name, unit and own fields (behind the common ones)."""

    code: int
    name: str
    unit: Unit | None
    fields: tuple[Field, ...]
    doc: str


OPCODES = {
    op.name: op
    for op in (
        Opcode(1, "End", None, (), "waits until everything is done and ends the program"),
        Opcode(2, "Barrier", None, (), "holds back what follows until everything before it is done"),
        Opcode(3, "DmaIn", Unit.DMA_IN, _DMA, "memory to global buffer"),
        Opcode(4, "DmaOut", Unit.DMA_OUT, _DMA, "global buffer to memory"),
        Opcode(5, "SetConv", Unit.LOAD_H, (
            Field("out_width", 12, "output pixels of an image row", low=1),
            Field("out_height", 12, "output rows of an image", low=1),
            Field("in_width", 12, "input pixels of an image row", low=1),
            Field("in_height", 12, "input rows of an image", low=1),
            Field("stride", 4, "input pixels from one output pixel to the next, in both directions", low=1),
            Field("pad_x", 4, "zero pixels left of the image"),
            Field("pad_y", 4, "zero rows above the image"),
            Field("x_step", 16, "words from one output pixel to the next"),
            Field("row_step", 16, "words from the last pixel of an output row to the first of the next"),
            Field("image_step", 16, "words from the last pixel of an image to the first of the next"),
            Field("kernel_x_step", 16, "words from the last wave of a kernel position to the first of the next column's"),
            Field("kernel_y_step", 16, "words from the last wave of a kernel row to the first of the next"),
            Field("channel_waves", 8, "waves that cover the channels of one kernel position", low=1),
            Field("kernel_width", 4, "kernel columns", low=1),
            Field("kernel_height", 4, "kernel rows", low=1),
        ), "geometry of the implicit im2col, used by the LdLBUF_H that follow"),
        Opcode(6, "LdLBUF_H", Unit.LOAD_H, (
            _SLICE,
            _ADDRESS,
            _MODE,
            Field("rate", 2, "log2 of the rows read a cycle, at most the parts of the mode", high=2),
            Field("rows", 16, "rows m of each wave", low=1),
            Field("waves", 16, "waves loaded one after the other", low=1),
            Field("pitch", 16, "words from a row of the first channel block to the same row of the second"),
            Field("wave_stride", 16, "words from one wave's tile to the next (within a kernel position)"),
            _ZERO_POINT,
            _SIGNED,
            Field("im2col", 1, "walk pixels and kernel positions of the last SetConv; otherwise rows follow each other"),
            Field("start_x", 12, "output column of the first row (im2col)"),
            Field("start_y", 12, "output row of the first row (im2col)"),
            Field("start_wave", 8, "channel wave of the first wave (im2col)"),
            Field("start_kernel_x", 4, "kernel column of the first wave (im2col)"),
            Field("start_kernel_y", 4, "kernel row of the first wave (im2col)"),
        ), "moving tiles to the LBUF-Hs"),
        Opcode(7, "LdLBUF_V", Unit.LOAD_V, (
            _SLICE,
            _ADDRESS,
            _MODE,
            Field("waves", 16, "tiles loaded one after the other", low=1),
            _ZERO_POINT,
            _SIGNED,
        ), "stationary tiles to the LBUF-Vs, broadcast to the cores that share one"),
        Opcode(0, "LdPixels", Unit.LOAD_V, (
            _SLICE,
            Field("address", 16, "word of the first wave's first pixel; with padding it may lie before the image (modulo 2^16)"),
            _MODE,
            Field("waves", 16, "tiles loaded one after the other, of pixels that follow each other", low=1),
            Field("pitch", 16, "words from a pixel of the first channel block to the same pixel of the second, in another bank"),
            Field("x_step", 16, "words from one output pixel to the next"),
            Field("row_step", 16, "words from the last pixel of an output row to the first of the next"),
            Field("image_step", 16, "words from the last pixel of an image to the first of the next"),
            Field("column", 13, "input column of the first pixel: x * stride - pad_x + kernel column", signed=True),
            Field("line", 13, "input row of the first pixel: y * stride - pad_y + kernel row", signed=True),
            Field("first_column", 5, "input column of output column 0", signed=True),
            Field("last_column", 13, "input column of the last output column", signed=True),
            Field("first_line", 5, "input row of output row 0", signed=True),
            Field("last_line", 13, "input row of the last output row", signed=True),
            Field("in_width", 12, "input pixels of an image row", low=1),
            Field("in_height", 12, "input rows of an image", low=1),
            Field("stride", 4, "input pixels from one output pixel to the next, in both directions", low=1),
        ), "stationary tiles whose rows are output pixels, at one kernel position (an implicit im2col), and whose columns are channels"),
        Opcode(8, "ExecGEMM", Unit.EXECUTE, (
            _MODE,
            Field("rows", 16, "rows m of each wave", low=1),
            Field("waves", 16, "waves, each a ShiftV of the next stationary tile and a pass of the next moving tile", low=1),
            Field("half", 1, "ping-pong half of the output buffers"),
            Field("accumulate", 1, "add to what the half holds (1), or let the first wave overwrite it (0)"),
        ), "waves of one mode into one output tile"),
        Opcode(9, "StLBUF", Unit.STORE, (
            Field("half", 1, "ping-pong half of the output buffers"),
            Field("wide", 1, "every column pair holds all rows (1), or rows alternate between the pairs (0)"),
            Field("rows", 16, "rows m of the tile", low=1),
            Field("output", 2, "INT32 0 (four byte planes a row), INT8 1, UINT8 2; of bf16 FP32 0 (two half planes a row), BF16 1", high=2),
            Field("parameters", 1, "add the bias of the last LdScale"),
            Field("relu", 1, "clip below at zero (at the zero point for 8-bit outputs)"),
            _ZERO_POINT,
            _SLICE,
            _ADDRESS,
            _PITCH,
        ), "output tile to the global buffer, requantised as ONNX QLinear defines it"),
        Opcode(10, "LdScale", Unit.STORE, (
            _SLICE,
            _ADDRESS,
            Field("blocks", 2, "column blocks, 8 words each", low=1, high=2),
        ), "bias (int32) and multiplier (fp32) of each column: word j of a block is byte j of every column's record"),
        Opcode(11, "SetAdd", Unit.STORE, (
            _SLICE,
            _ADDRESS,
            _PITCH,
            Field("multiplier", 26, "of the result's own operands, in units of 2^-24"),
            Field("residual_multiplier", 26, "of the residual operands, in units of 2^-24"),
            Field("own_zero_point", 9, "subtracted from the result's own operands", signed=True),
            Field("residual_zero_point", 9, "subtracted from the residual operands", signed=True),
            Field("zero_point", 9, "added to the sums", signed=True),
            Field("signed", 1, "residual operands are int8 (1) or uint8 (0)"),
            Field("relu", 1, "clip the sums below at the zero point"),
        ), "a residual, laid out as an 8-bit result, for the next StLBUF or Pool: it is added to what that would write"),
        Opcode(12, "Pool", Unit.STORE, (
            Field("source_slice", 4, "slice of the operands"),
            Field("source_address", 16, "first word of the first window"),
            _SIGNED,
            Field("kernel_width", 6, "columns of a window", low=1),
            Field("kernel_height", 6, "lines of a window", low=1),
            Field("kernel_y_step", 16, "words from the last column of a window's line to the first of the next"),
            Field("columns", 12, "results of a line", low=1),
            Field("lines", 12, "lines of results", low=1),
            Field("x_step", 16, "words from the last word of a window to the first of the next"),
            Field("y_step", 16, "words from the last word of a line's last window to the first of the next line's first"),
            Field("average", 1, "sum up a window, scaled as LdScale says (1), or take its largest operand (0)"),
            Field("output", 1, "UINT8 0, INT8 1"),
            Field("relu", 1, "clip below at the zero point"),
            Field("zero_point", 9, "added to the results", signed=True),
            _SLICE,
            _ADDRESS,
            Field("line_step", 16, "words from the last result of a line to the first of the next"),
        ), "windows of pixels of a channel block to a word each: largest operands, or sums scaled as the last LdScale says"),
        Opcode(13, "Vector", Unit.VECTOR, (
            Field("count", 16, "elements, `side` columns each", low=1),
            Field("factor", 2, "of A: ONE 0, A 1, B 2, REGISTER 3"),
            Field("addend", 2, "NONE 0, B 1, REGISTER 2", high=2),
            Field("post", 3, "NONE 0, RELU 1, MASKED by B, which is nothing else then, 2, LARGER than B 3, EQUAL to B 4, POWER of two 5",
                  high=5),
            Field("result", 3, "STREAM 0, MASK 1, REGISTER 2, SUM 3, LARGEST 4", high=4),
            Field("factor_register", 4, "register of Factor.REGISTER"),
            Field("addend_register", 4, "register of Addend.REGISTER"),
            Field("result_register", 4, "register that gets the result"),
            Field("a_register", 1, "A is the register that `a_address` names, in every element"),
            *(part for name, text in (("a", "A"), ("b", "B"), ("d", "the results")) for part in (
                Field(f"{name}_wide", 1, f"{text}: fp32, two words an element (1), or bf16 (0)"),
                Field(f"{name}_slice", 4, f"slice of {text}"),
                Field(f"{name}_address", 16, f"first word of {text}"),
                Field(f"{name}_step", 10, f"words from one element of {text} to the next (of masks: from word to word)", signed=True),
            )),
        ), "a * factor + addend for each element of a stream, in fp32, with a last step, to a stream or to a register"),
        Opcode(14, "VectorLanes", Unit.VECTOR, (
            Field("operation", 2, "DIVIDE A by B 0, square ROOT of A 1, SUM 2 and LARGEST 3 of neighbouring columns of A"),
            Field("span", 3, "log2 of the neighbouring columns of a SUM or LARGEST", low=1),
            Field("a_register", 4, "register of A"),
            Field("b_register", 4, "register of B"),
            Field("register", 4, "register that gets the result"),
        ), "each column of a register, or neighbouring columns among each other"),
        Opcode(15, "Transpose", Unit.VECTOR, (
            Field("count", 16, "blocks of `side` words", low=1),
            *(part for name, text in (("a", "of the operands"), ("d", "of the results")) for part in (
                Field(f"{name}_slice", 4, f"slice {text}"),
                Field(f"{name}_address", 16, f"first word {text}"),
                Field(f"{name}_step", 10, f"words from one word {text} to the next within a block", signed=True),
                Field(f"{name}_block", 16, f"words from one block {text} to the next"),
            )),
        ), "blocks of `side` words of bf16 numbers: word j gets column j, from the block's first word on"),
    )
}
BY_CODE = {op.code: op for op in OPCODES.values()}
FLOATING = ("LdPixels", "Vector", "VectorLanes", "Transpose")       # only machines for bf16 know them
VECTOR_REGISTERS = 16           # of a word's width, fp32
PARTIAL_SUMS = 8                # element i of a stream is added to partial sum i mod 8: an adder's latency is hidden
MASK_ELEMENTS = 16              # elements of a stream whose mask bits are a word
WINDOWED = ("SetAdd", "Pool")   # only machines with `vector.window` know them
INTEGER = {"zero_point", "signed", "parameters"}        # fields that must be zero where the array computes with bf16 numbers
FRACTION_BITS = 24              # of the multipliers of SetAdd


def opcodes(config: Config) -> tuple[Opcode, ...]:
    """The instructions that a machine knows."""
    unknown = {*(() if config.vector.window else WINDOWED), *(("LdScale",) if config.floating else FLOATING)}
    return tuple(op for op in OPCODES.values() if op.name not in unknown)


def units(config: Config) -> tuple[Unit, ...]:
    """The units that a machine has."""
    return tuple(unit for unit in Unit if config.floating or unit is not Unit.VECTOR)


def greatest(config: Config, item: "Field") -> int:
    """Largest legal value of a field on a machine."""
    if config.floating and item.name in INTEGER:
        return 0
    if item.name.endswith("slice"):
        return config.buffers.slices - 1
    return {"group": config.array.groups - 1, "output": Output.BF16 if config.floating else item.top}.get(item.name, item.top)


def least(config: Config, item: "Field") -> int:
    """Smallest legal value of a field on a machine."""
    return 0 if config.floating and item.name in INTEGER else item.bottom


class IsaError(ValueError):
    """An instruction that cannot be encoded or decoded; the text is one line naming field, value and range."""

    def __init__(self, text: str, cause: Cause = Cause.FIELD):
        super().__init__(text)
        self.cause = cause


@cache
def layout(name: str) -> list[tuple[Field, int]]:
    """Fields of an instruction with their bit offsets, common ones first."""
    placed, offset = [], 0
    for item in (*COMMON, *OPCODES[name].fields):
        placed.append((item, offset))
        offset += item.width
    assert offset <= INSTRUCTION_BITS
    return placed


@cache
def _template(name: str) -> tuple[dict[str, int], dict[str, tuple[int, int]]]:
    """Of an instruction: its fields as they are if not named, and the ranges of those that can be chosen."""
    known = [item for item, _ in layout(name)]
    fixed = {"opcode": OPCODES[name].code, "version": VERSION}
    return {item.name: item.low for item in known} | fixed, {item.name: (item.bottom, item.top) for item in known if item.name not in fixed}


class Instruction:
    """An instruction with named fields; unnamed ones are their lowest legal value (zero where allowed).

    Raises IsaError for an unknown name, field or a value out of range.
    """

    __slots__ = ("name", "values")

    def __init__(self, name: str, **values: int):
        if name not in OPCODES:
            raise IsaError(f"instruction {name!r} is none of {', '.join(OPCODES)}", Cause.OPCODE)
        self.name = name
        defaults, ranges = _template(name)
        self.values: dict[str, int] = defaults | values
        for key, value in values.items():
            if key not in ranges:
                if key not in defaults:
                    raise IsaError(f"{name}.{key} is not a field; known: {', '.join(defaults)}")
                self.values[key] = defaults[key]    # opcode and version are the name's
                continue
            low, high = ranges[key]
            if not low <= value <= high:
                raise IsaError(f"{name}.{key} = {int(value)} is outside {low}..{high}")
            if type(value) is not int:
                self.values[key] = int(value)

    def __getattr__(self, key: str) -> int:
        try:
            return self.values[key]
        except KeyError:
            raise AttributeError(key) from None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Instruction) and self.values == other.values

    def __repr__(self) -> str:
        shown = {key: value for key, value in self.values.items() if value and key not in ("opcode", "version")}
        return f"{self.name}({', '.join(f'{key}={value}' for key, value in shown.items())})"

    @property
    def unit(self) -> Unit | None:
        """The unit that executes it; None for End and Barrier."""
        return OPCODES[self.name].unit

    def encode(self) -> bytes:
        """Its 32 bytes."""
        word = 0
        for item, offset in layout(self.name):
            word |= (self.values[item.name] & ((1 << item.width) - 1)) << offset
        return word.to_bytes(INSTRUCTION_BYTES, "little")

    @classmethod
    def decode(cls, data: bytes) -> "Instruction":
        """Read 32 bytes. Raises IsaError with the cause the machine would stop with."""
        if len(data) != INSTRUCTION_BYTES:
            raise IsaError(f"an instruction has {INSTRUCTION_BYTES} bytes, not {len(data)}")
        word = int.from_bytes(data, "little")
        code, version = word & 15, word >> 4 & 15
        if version != VERSION:
            raise IsaError(f"version = {version} is not {VERSION}", Cause.VERSION)
        values, named = {}, 0
        for item, offset in layout(BY_CODE[code].name):
            mask = (1 << item.width) - 1
            value = word >> offset & mask
            named |= mask << offset
            values[item.name] = value - (1 << item.width) if item.signed and value >> (item.width - 1) else value
        if word & ~named:
            raise IsaError(f"{BY_CODE[code].name} has reserved bits set")
        return cls(BY_CODE[code].name, **values)

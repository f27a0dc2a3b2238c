"""The configuration: every size of a generated machine, its unit and its range. Nothing else states a width or a depth."""

import dataclasses
import difflib
import enum
import hashlib
import json
import tomllib
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path


class ConfigError(ValueError):
    """A configuration that cannot work; the text is one line naming field, value and allowed range."""


class Unit(enum.StrEnum):
    """What one group computes with (paper: FlexSA, section 8 of the reference)."""

    FLEX = "flex"        # four sub-cores with the three kinds of wire between them: one FlexSA unit
    QUAD = "quad"        # four independent sub-cores (the naive split)
    SINGLE = "single"    # one core of twice the side


class DType(enum.StrEnum):
    """What the array multiplies."""

    INT8 = "int8"        # int8 or uint8 less a zero point, exact sums of 32 bits
    BF16 = "bf16"        # bf16, sums in fp32, each addition rounded


def _range(low: int, high: int, unit: str, doc: str, *, power_of_two: bool = False):
    """Metadata of an integer field: inclusive range, unit and meaning."""
    return {"low": low, "high": high, "unit": unit, "doc": doc, "power_of_two": power_of_two}


def _integer(default: int, low: int, high: int, unit: str, doc: str, *, power_of_two: bool = False):
    return field(default=default, metadata=_range(low, high, unit, doc, power_of_two=power_of_two))


class _Section:
    """Shared range check of the sections of a configuration."""

    def __post_init__(self):
        section = type(self).__name__.lower()
        for item in dataclasses.fields(self):  # type: ignore[arg-type]
            value, meta = getattr(self, item.name), item.metadata
            if "low" not in meta:
                continue
            name = f"{section}.{item.name}"
            if isinstance(value, bool) or not isinstance(value, int):
                raise ConfigError(f"{name} must be an integer, not {value!r}")
            if not meta["low"] <= value <= meta["high"]:
                raise ConfigError(f"{name} = {value} is outside {meta['low']}..{meta['high']} {meta['unit']}")
            if meta["power_of_two"] and value & (value - 1):
                raise ConfigError(f"{name} = {value} must be a power of two in {meta['low']}..{meta['high']} {meta['unit']}")


@dataclass(frozen=True, kw_only=True)
class Array(_Section):
    """The compute units."""

    side: int = _integer(8, 1, 128, "PEs", "side of one core: rows, columns and operands of a GBUF word", power_of_two=True)
    unit: Unit = field(default=Unit.FLEX, metadata={"doc": "flex: four sub-cores with modes; quad: four apart; single: one core"})
    dtype: DType = field(default=DType.INT8, metadata={"doc": "int8: 8-bit integers, int32 sums; bf16: fp32 sums"})
    groups: int = _integer(1, 1, 4, "groups", "units with buffers of their own", power_of_two=True)
    multiplier_latency: int = _integer(3, 1, 6, "cycles", "from operand to registered product")
    row_latency: int = _integer(1, 1, 4, "cycles", "one hop of a partial sum to the row below; of bf16 the adder's registers")

    def __post_init__(self):
        for name, kind in (("unit", Unit), ("dtype", DType)):
            try:
                object.__setattr__(self, name, kind(getattr(self, name)))
            except ValueError:
                raise ConfigError(f"array.{name} = {getattr(self, name)!r} is none of {', '.join(kind)}") from None
        super().__post_init__()


@dataclass(frozen=True, kw_only=True)
class Buffers(_Section):
    """On-chip memory of one group."""

    moving_words: int = _integer(512, 16, 8192, "words", "depth of a moving-operand buffer (LBUF-H), `side` operands a word",
                                power_of_two=True)
    stationary_tiles: int = _integer(8, 4, 32, "tiles", "depth of a stationary-operand buffer (LBUF-V), `side` words a tile",
                                    power_of_two=True)
    accumulator_words: int = _integer(64, 4, 4096, "words", "depth of one parity bank and half of an output buffer (OBUF)",
                                     power_of_two=True)
    slices: int = _integer(8, 3, 16, "slices", "slices of the global buffer (GBUF), each with one read and one write port")
    slice_words: int = _integer(2048, 32, 32768, "words", "words of `side` operands in one slice", power_of_two=True)
    store_lanes: int = _integer(8, 1, 128, "columns", "columns requantised a cycle, at most `array.side`", power_of_two=True)


@dataclass(frozen=True, kw_only=True)
class Memory(_Section):
    """The port to main memory; reads and writes share its bandwidth."""

    bytes_per_cycle: int = _integer(16, 1, 1024, "bytes", "bytes of one beat, one beat a cycle", power_of_two=True)
    latency: int = _integer(32, 1, 1024, "cycles", "from an accepted read beat to its data, of the default port")
    burst_beats: int = _integer(16, 1, 256, "beats", "longest burst for which the port is granted", power_of_two=True)


@dataclass(frozen=True, kw_only=True)
class Control(_Section):
    """Instruction supply and ordering."""

    queue_depth: int = _integer(8, 2, 64, "instructions", "depth of a unit's queue")
    fetch_depth: int = _integer(32, 16, 256, "instructions", "depth of the instruction buffer", power_of_two=True)
    landing_depth: int = _integer(4, 2, 16, "instructions", "DmaIn instructions whose data may be on its way")
    tokens: int = _integer(16, 16, 16, "tokens", "counting semaphores of a group")


@dataclass(frozen=True, kw_only=True)
class Vector(_Section):
    """What the store unit can do to results besides requantising them."""

    window: int = _integer(256, 0, 4096, "pixels", "largest window of an average pooling; 0: neither pooling nor the addition of residuals")


SECTIONS = {"array": Array, "buffers": Buffers, "memory": Memory, "control": Control, "vector": Vector}
BF16_ROW_LATENCY = 4        # the most stages that an fp32 adder can have
ORGANISATIONS = ("1G1C", "1G4C", "4G4C", "1G1F", "4G1F")


@dataclass(frozen=True, kw_only=True)
class Config:
    """One machine. Raises ConfigError where sizes do not fit together."""

    name: str = "base"
    array: Array = field(default_factory=Array)
    buffers: Buffers = field(default_factory=Buffers)
    memory: Memory = field(default_factory=Memory)
    control: Control = field(default_factory=Control)
    vector: Vector = field(default_factory=Vector)

    def __post_init__(self):
        side, buffers = self.array.side, self.buffers
        if buffers.store_lanes > side:
            raise ConfigError(f"buffers.store_lanes = {buffers.store_lanes} is outside 1..{side} columns (array.side)")
        if not self.word_bytes <= self.memory.bytes_per_cycle <= 16 * self.word_bytes:
            raise ConfigError(f"memory.bytes_per_cycle = {self.memory.bytes_per_cycle} is outside {self.word_bytes}.."
                              f"{16 * self.word_bytes} bytes (1..16 words)")
        if self.floating and self.vector.window:
            raise ConfigError(f"vector.window = {self.vector.window} is outside 0..0 pixels with array.dtype = '{self.array.dtype}'")
        if self.moving_capacity < 2 * side:
            raise ConfigError(f"buffers.moving_words = {buffers.moving_words} leaves {self.moving_capacity} usable words, "
                              f"at least {2 * side} are needed")
        if self.stationary_capacity < 1:
            raise ConfigError(f"buffers.stationary_tiles = {buffers.stationary_tiles} leaves {self.stationary_capacity} usable tiles, "
                              "at least 1 is needed")
        if self.fetch_instructions > self.control.fetch_depth:
            raise ConfigError(f"control.fetch_depth = {self.control.fetch_depth} is outside {self.fetch_instructions}..256 instructions "
                              "(one fetch burst)")
        if buffers.slice_words < 16 * self.banks:
            raise ConfigError(f"buffers.slice_words = {buffers.slice_words} is outside {16 * self.banks}..32768 words")

    # Shape of a unit

    @property
    def organisation(self) -> str:
        """The paper's name, e.g. 1G1F: groups, cores, FlexSA or plain."""
        return f"{self.array.groups}G{ {Unit.FLEX: '1F', Unit.QUAD: '4C', Unit.SINGLE: '1C'}[self.array.unit] }"

    @property
    def cores(self) -> int:
        """Cores of a unit: four (0 top-left, 1 top-right, 2 bottom-left, 3 bottom-right) or one."""
        return 1 if self.array.unit is Unit.SINGLE else 4

    @property
    def column_pairs(self) -> int:
        """Columns of cores, each with an output buffer: (0, 2) and (1, 3), or the single core's own."""
        return 1 if self.array.unit is Unit.SINGLE else 2

    @property
    def core_rows(self) -> int:
        """Rows of cores in a unit."""
        return 1 if self.array.unit is Unit.SINGLE else 2

    @property
    def tile(self) -> int:
        """Largest k and n of one wave."""
        return 2 * self.array.side if self.array.unit is Unit.FLEX else self.array.side

    @property
    def pes(self) -> int:
        """Processing elements of the whole machine."""
        return self.array.groups * self.cores * self.array.side**2

    # Global buffer and memory port

    @property
    def beat_words(self) -> int:
        """GBUF words in one memory beat."""
        return self.memory.bytes_per_cycle // self.word_bytes

    @property
    def load_words(self) -> int:
        """GBUF words a loader reads in a cycle: one a core."""
        return self.cores

    @property
    def banks(self) -> int:
        """Banks of a slice; word `a` lies in bank `a mod banks`, row `a // banks`."""
        return max(4, self.beat_words)

    @property
    def fetch_instructions(self) -> int:
        """Instructions (32 bytes) of one fetch burst."""
        return max(4, self.memory.bytes_per_cycle // 32)

    @property
    def fetch_beats(self) -> int:
        """Beats of one fetch burst."""
        return self.fetch_instructions * 32 // self.memory.bytes_per_cycle

    # Local buffers. The last words of each ring stay unallocated: a later core still reads them when the first has finished.

    @property
    def moving_capacity(self) -> int:
        """Words of an LBUF-H that may be allocated to waves."""
        return self.buffers.moving_words - self.core_offset(3)

    @property
    def stationary_capacity(self) -> int:
        """Tiles of an LBUF-V that may be allocated to waves."""
        return self.buffers.stationary_tiles - (0 if self.cores == 1 else 1 + self.array.row_latency)

    @property
    def wide_rows(self) -> int:
        """Rows of an output tile when every column pair holds all of them."""
        return 2 * self.buffers.accumulator_words

    @property
    def narrow_rows(self) -> int:
        """Rows of an output tile when they are split between two column pairs."""
        return 4 * self.buffers.accumulator_words

    # Numbers

    @property
    def floating(self) -> bool:
        """Whether the array adds fp32 numbers."""
        return self.array.dtype is DType.BF16

    @property
    def operand_bits(self) -> int:
        """Bits of an operand in the array: an 8-bit integer less its zero point, or a bf16 number."""
        return 16 if self.floating else 9

    @property
    def operand_bytes(self) -> int:
        """Bytes of an operand in memory and in the global buffer."""
        return 2 if self.floating else 1

    @property
    def word_bytes(self) -> int:
        """Bytes of a GBUF word: `side` operands."""
        return self.array.side * self.operand_bytes

    @property
    def planes(self) -> int:
        """Words of a row of results as wide as the sums, 32 bits: each holds one operand's worth of their bits."""
        return 4 // self.operand_bytes

    @cached_property
    def sum_width(self) -> int:
        """Bits of a partial sum in the array: of products of 9-bit operands, `tile` of them, or fp32."""
        return 32 if self.floating else 18 + (2 * self.array.side - 1).bit_length()

    # Schedule of the array, in cycles (architecture, section 3)

    def core_offset(self, core: int) -> int:
        """Cycles by which core `core` runs behind core 0, in every mode."""
        if self.cores == 1:
            return 0
        low, right = divmod(core, 2)
        return low * self.array.side * self.array.row_latency + right * self.array.side

    # Files

    def to_dict(self) -> dict:
        """Nested plain values, as written to TOML and JSON."""
        return {"name": self.name} | {section: {key: str(value) if isinstance(value, enum.Enum) else value for key, value in
                                                dataclasses.asdict(getattr(self, section)).items()} for section in SECTIONS}

    def to_toml(self) -> str:
        """The configuration as TOML, units in comments; `from_toml` reads it back."""
        lines = [f'name = "{self.name}"']
        for section in SECTIONS:
            values = getattr(self, section)
            lines += ["", f"[{section}]"]
            for item in dataclasses.fields(values):
                value, meta = getattr(values, item.name), item.metadata
                text = f'"{value}"' if isinstance(value, str) else str(value)
                unit = f"{meta['unit']}: " if "unit" in meta else ""
                lines.append(f"{item.name} = {text}  # {unit}{meta['doc']}")
        return "\n".join(lines) + "\n"

    @classmethod
    def from_dict(cls, data: dict) -> "Config":
        """Build from nested plain values; unknown keys are refused with the nearest known one."""
        _refuse_unknown("", data, ["name", *SECTIONS])
        name = data.get("name", "custom")
        if not isinstance(name, str) or not name.replace("-", "_").isidentifier():
            raise ConfigError(f"name = {name!r} must be a word of letters, digits, - and _")
        sections = {}
        for section, kind in SECTIONS.items():
            values = data.get(section, {})
            if not isinstance(values, dict):
                raise ConfigError(f"{section} = {values!r} must be a table")
            _refuse_unknown(f"{section}.", values, [item.name for item in dataclasses.fields(kind)])
            sections[section] = kind(**values)
        return cls(name=name, **sections)

    @classmethod
    def from_toml(cls, text: str) -> "Config":
        """Parse TOML text. Raises ConfigError for syntax, unknown keys and values out of range."""
        try:
            data = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"not valid TOML: {error}") from None
        return cls.from_dict(data)

    @classmethod
    def load(cls, name_or_file: str) -> "Config":
        """A preset by name, with -bf16 behind it for bf16 numbers, or a TOML file by path."""
        from gen.presets import FLOATING, PRESETS, preset

        if found := preset(name_or_file):
            return found
        path = Path(name_or_file)
        if path.suffix != ".toml" and not path.exists():
            raise ConfigError(f"config = {name_or_file!r} is neither a file nor one of the presets {', '.join(PRESETS)}, "
                              f"each also with {FLOATING}")
        try:
            return cls.from_toml(path.read_text())
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"config = {name_or_file!r} cannot be read: {getattr(error, 'strerror', None) or error}") from None

    def digest(self) -> str:
        """Sixteen hex digits that name everything but the configuration's name.

        What a machine does not have is left out, so that it stays the same machine when others learn something new.
        """
        values = {key: value for key, value in self.to_dict().items() if key != "name" and (key != "vector" or self.vector.window)}
        if not self.floating:
            del values["array"]["dtype"]
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]

    def organise(self, organisation: str) -> "Config":
        """The same PEs, global and output buffer bytes and memory port in another of the paper's organisations. `self` must be 1G1F.

        The one core of 1G1C has one moving buffer, twice as wide: half the bytes of the four.
        """
        if organisation not in ORGANISATIONS:
            raise ConfigError(f"organisation = {organisation!r} is none of {', '.join(ORGANISATIONS)}")
        if organisation == self.organisation:
            return self
        if self.organisation != "1G1F":
            raise ConfigError(f"organisation = {organisation!r} can only be derived from a 1G1F configuration, not {self.organisation}")
        array, buffers, groups = self.array, self.buffers, int(organisation[0])
        unit = {"1F": Unit.FLEX, "4C": Unit.QUAD, "1C": Unit.SINGLE}[organisation[2:]]
        side = {"1C": 2 * array.side}.get(organisation[2:], array.side) // (2 if groups == 4 else 1)
        if side < 1:
            raise ConfigError(f"organisation = {organisation!r} needs array.side of at least 2, not {array.side}")
        shrink = 2 if groups == 4 or unit is Unit.SINGLE else 1
        return dataclasses.replace(
            self,
            array=dataclasses.replace(array, side=side, unit=unit, groups=groups),
            buffers=dataclasses.replace(
                buffers,
                moving_words=buffers.moving_words // (2 if groups == 4 else 1),
                accumulator_words=max(4, buffers.accumulator_words // (2 if groups == 4 else 1)),
                slice_words=buffers.slice_words // shrink,
                store_lanes=min(buffers.store_lanes, side),
            ),
            memory=dataclasses.replace(self.memory, bytes_per_cycle=max(self.memory.bytes_per_cycle, side * self.operand_bytes)),
        )


    def as_bf16(self) -> "Config":
        """The same PEs and words for bf16 numbers: memories and beats of twice the bytes, adders of BF16_ROW_LATENCY stages, and neither
        pooling nor residuals in the store unit, which are for integers."""
        return dataclasses.replace(
            self, name=f"{self.name}-bf16", array=dataclasses.replace(self.array, dtype=DType.BF16, row_latency=BF16_ROW_LATENCY),
            memory=dataclasses.replace(self.memory, bytes_per_cycle=self.memory.bytes_per_cycle * 2 // self.operand_bytes),
            vector=dataclasses.replace(self.vector, window=0))


def _refuse_unknown(prefix: str, data: dict, known: list[str]):
    for key in data:
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            hint = f", did you mean {near[0]!r}?" if near else f"; known: {', '.join(known)}"
            raise ConfigError(f"{prefix}{key} is not a field{hint}")

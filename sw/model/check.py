"""What the dispatcher refuses, and the error a model raises for a program that the machine would stop."""

from collections.abc import Callable

from gen.config import Config
from gen.config import Unit as Kind
from gen.isa import BY_CODE, VERSION, Addend, Cause, Factor, Instruction, LaneOperation, Mode, Post, greatest, layout, least, opcodes

_PARTS = tuple(mode.parts for mode in Mode)


class ModelError(Exception):
    """The machine would stop here: `cause` as its register would say, `index` of the instruction in the program."""

    def __init__(self, cause: Cause, index: int, text: str = ""):
        super().__init__(f"stops with {cause.name} at instruction {index}" + (f": {text}" if text else ""))
        self.cause = cause
        self.index = index


def streamed(mode: int, rows: int) -> int:
    """Steps in which a wave of `rows` rows runs through the array."""
    return -(-rows // _PARTS[mode])


def pixels_a_wave(config: Config, mode: Mode) -> int:
    """Pixels that a wave of a LdPixels takes, one a cycle: one for each row of the tile."""
    return (2 if mode.tall and config.array.unit is Kind.FLEX else 1) * config.array.side


def legal_modes(config: Config) -> tuple[Mode, ...]:
    """Modes that the unit of a machine can run."""
    return {Kind.FLEX: tuple(Mode), Kind.QUAD: (Mode.ISW,), Kind.SINGLE: (Mode.FW,)}[config.array.unit]


def check(config: Config, instruction: Instruction) -> Cause | None:
    """The dispatcher's check of one instruction: why the machine stops, or None."""
    return checker(config)(instruction)


def checker(config: Config) -> Callable[[Instruction], Cause | None]:
    """`check` for many instructions of one machine."""
    capacity, modes, tile_rows = config.moving_capacity, frozenset(legal_modes(config)), (config.narrow_rows, config.wide_rows)
    ranges = {op.name: tuple((item.name, least(config, item), greatest(config, item)) for item, _ in layout(op.name))
              for op in opcodes(config)}

    def run(instruction: Instruction) -> Cause | None:
        name, values = instruction.name, instruction.values
        op = BY_CODE.get(values["opcode"])
        if op is None or op.name != name or name not in ranges:
            return Cause.OPCODE
        if values["version"] != VERSION:
            return Cause.VERSION
        for key, low, high in ranges[name]:
            if not low <= values[key] <= high:
                return Cause.FIELD
        mode = values.get("mode")
        if mode is not None:
            if mode not in modes or (name == "LdLBUF_H" and 1 << values["rate"] > _PARTS[mode]):
                return Cause.FIELD
            if "rows" in values and streamed(mode, values["rows"]) > capacity:
                return Cause.FIELD
            if name == "ExecGEMM" and values["rows"] > tile_rows[not mode & 1]:
                return Cause.FIELD
        if name == "Vector" and values["post"] == Post.MASKED and (values["factor"] == Factor.B or values["addend"] == Addend.B):
            return Cause.FIELD
        if name == "VectorLanes" and values["operation"] >= LaneOperation.SUM and 1 << values["span"] > config.array.side:
            return Cause.FIELD
        if name == "StLBUF" and values["rows"] > tile_rows[values["wide"]]:
            return Cause.FIELD
        return None

    return run

"""Programs as text, one instruction a line: `LdLBUF_H group=0 wait=a_full signal=a_free slice=1 mode=FW ...`; `#` starts a comment.

Fields that are not named have their lowest legal value. Token masks are written as tokens joined by `+`: the compiler's names or numbers.
"""

from collections.abc import Iterable

from gen.isa import OPCODES, Instruction, IsaError, Mode, Output, layout
from sw.compiler.tokens import Token, mask

_NAMED = {"mode": Mode, "output": Output}
_MASKS = ("wait", "signal")


class AssemblerError(ValueError):
    """A line that is no instruction; the text is one line naming the line, the field, its value and the allowed range."""


def format_instruction(instruction: Instruction) -> str:
    """One instruction as text. Fields at their lowest legal value are left out, but for the group."""
    words = [instruction.name]
    for item, _ in layout(instruction.name):
        value = instruction.values[item.name]
        if item.name in ("opcode", "version") or (value == item.low and item.name != "group"):
            continue
        words.append(f"{item.name}={_format(item.name, value)}")
    return " ".join(words)


def _format(name: str, value: int) -> str:
    if name in _MASKS:
        indices = [index for index in range(value.bit_length()) if value >> index & 1]
        return "+".join(Token(index).name.lower() if index in set(Token) else str(index) for index in indices)
    return _NAMED[name](value).name if name in _NAMED and value in set(_NAMED[name]) else str(value)


def disassemble(instructions: Iterable[Instruction]) -> str:
    """A program as text; `assemble` reads it back exactly."""
    return "".join(f"{format_instruction(instruction)}\n" for instruction in instructions)


def assemble(text: str) -> list[Instruction]:
    """Read a program. Raises AssemblerError for the first line that is wrong."""
    program = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        if words:
            try:
                program.append(_parse(words))
            except (AssemblerError, IsaError) as error:
                raise AssemblerError(f"line {number}: {error}") from None
    return program


def _parse(words: list[str]) -> Instruction:
    name, *settings = words
    if name not in OPCODES:
        raise AssemblerError(f"instruction {name!r} is none of {', '.join(OPCODES)}")
    known = {item.name: item for item, _ in layout(name) if item.name not in ("opcode", "version")}
    values: dict[str, int] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if key not in known:
            raise AssemblerError(f"{name}.{key} is not a field; known: {', '.join(known)}")
        if not equals or not value:
            raise AssemblerError(f"{name}.{key} has no value; {known[key].bottom}..{known[key].top} is allowed")
        if key in values:
            raise AssemblerError(f"{name}.{key} is given twice")
        values[key] = _read(f"{name}.{key}", key, value, known[key].bottom, known[key].top)
    return Instruction(name, **values)


def _read(where: str, key: str, value: str, low: int, high: int) -> int:
    if key in _MASKS and not value.lower().startswith("0x"):
        names = {token.name.lower(): token for token in Token} | {str(index): index for index in range(16)}
        tokens = value.split("+")
        for token in tokens:
            if token not in names:
                raise AssemblerError(f"{where} = {value!r}: {token!r} is no token; known: {', '.join(names)}")
        if len({names[token] for token in tokens}) < len(tokens):
            raise AssemblerError(f"{where} = {value!r} names a token twice")
        return mask(names[token] for token in tokens)
    if key in _NAMED and value in _NAMED[key].__members__:
        return _NAMED[key][value]
    try:
        return int(value, 0)
    except ValueError:
        words = f", or {', '.join(_NAMED[key].__members__)}" if key in _NAMED else ""
        raise AssemblerError(f"{where} = {value!r} is no number in {low}..{high}{words}") from None

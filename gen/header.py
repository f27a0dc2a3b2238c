"""The C header of a machine: registers, instruction fields and sizes as macros, and a function that sets a field."""

import dataclasses
import enum

from gen import isa
from gen.config import SECTIONS, Config
from gen.registers import IDENTITY, registers

_SET_FIELD = """\
/* Set a field of an instruction: FLEXWAVE_SET(bytes, LDLBUF_H_ROWS, 128). The bytes must be zero before. */
static inline void flexwave_set(uint8_t *instruction, unsigned offset, unsigned width, uint64_t value)
{
    unsigned bit;
    for (bit = 0; bit < width; bit++)
        if (value >> bit & 1)
            instruction[(offset + bit) / 8] |= (uint8_t)(1u << ((offset + bit) % 8));
}
#define FLEXWAVE_SET(instruction, field, value) \\
    flexwave_set((instruction), FLEXWAVE_##field##_OFFSET, FLEXWAVE_##field##_WIDTH, (uint64_t)(value))
"""


def header(config: Config) -> str:
    """Text of `flexwave.h`, C99 and C++."""
    lines = [
        f"/* FlexWave machine \"{config.name}\", {config.organisation}, configuration {config.digest()}. Generated: do not edit. */",
        "#ifndef FLEXWAVE_H",
        "#define FLEXWAVE_H",
        "",
        "#include <stdint.h>",
    ]

    def section(title: str):
        lines.extend(["", f"/* {title} */"])

    def define(name: str, value: int, comment: str = "", *, hexadecimal: bool = False):
        text = f"0x{value:x}u" if hexadecimal else str(value)
        lines.append(f"#define FLEXWAVE_{name.upper()} {text}" + (f"  /* {comment} */" if comment else ""))

    section("Configuration")
    for name in SECTIONS:
        values = getattr(config, name)
        for item in dataclasses.fields(values):
            value = getattr(values, item.name)
            if isinstance(value, str):
                lines.append(f"#define FLEXWAVE_{name.upper()}_{item.name.upper()} \"{value}\"  /* {item.metadata['doc']} */")
            else:
                define(f"{name}_{item.name}", value, f"{item.metadata['unit']}: {item.metadata['doc']}")
    define("pes", config.pes, "processing elements of the whole machine")

    section("Registers: byte offsets")
    define("identity_value", IDENTITY, "what the identity register reads", hexadecimal=True)
    for item in registers(config.array.groups):
        define(f"reg_{item.name}", item.offset, f"{item.access}: {item.doc}", hexadecimal=True)

    enums: tuple[type[enum.IntEnum], ...] = (isa.Mode, isa.Stall, isa.Output, isa.Cause)
    for kind in enums:
        section((kind.__doc__ or kind.__name__).splitlines()[0])
        for member in kind:
            define(f"{kind.__name__}_{member.name}", member.value)

    section("Instructions: 32 bytes, little endian; fields as bit offset and width")
    define("isa_version", isa.VERSION)
    define("instruction_bytes", isa.INSTRUCTION_BYTES)
    for op in isa.OPCODES.values():
        define(f"opcode_{op.name}", op.code, op.doc)
    for op in isa.OPCODES.values():
        for item, offset in isa.layout(op.name):
            define(f"{op.name}_{item.name}_offset", offset, f"{item.bottom}..{item.top}: {item.doc}")
            define(f"{op.name}_{item.name}_width", item.width)
    lines += ["", _SET_FIELD.rstrip(), "", "#endif"]
    return "\n".join(lines) + "\n"

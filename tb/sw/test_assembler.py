"""The text form of programs: exact round trips, and one worded line for each mistake."""

import random

import pytest

from gen.isa import OPCODES, Instruction, layout
from gen.presets import PRESETS
from sw.compiler import compile_gemm
from sw.compiler.assembler import AssemblerError, assemble, disassemble


def random_instruction(rng: random.Random) -> Instruction:
    name = rng.choice(list(OPCODES))
    fields = {item.name: rng.choice([item.bottom, item.top, rng.randint(item.bottom, item.top)]) for item, _ in layout(name)}
    return Instruction(name, **{key: value for key, value in fields.items() if key not in ("opcode", "version")})


@pytest.mark.parametrize("seed", range(3))
def test_random_round_trip(seed):
    rng = random.Random(seed)
    program = [random_instruction(rng) for _ in range(300)]
    assert assemble(disassemble(program)) == program


def test_compiled_round_trip():
    program = compile_gemm(PRESETS["tiny"], 20, 11, 13)
    assert assemble(disassemble(program.instructions)) == list(program.instructions)


def test_comments_names_and_numbers():
    text = """
        # a comment, and an empty line

        LdLBUF_H group=1 wait=a_full+13 signal=a_free mode=VSW rate=1 rows=0x10 zero_point=-3   # behind an instruction
        StLBUF output=UINT8
        End
    """
    load, store, end = assemble(text)
    assert load == Instruction("LdLBUF_H", group=1, wait=1 << 0 | 1 << 13, signal=1 << 1, mode=1, rate=1, rows=16, zero_point=-3)
    assert store == Instruction("StLBUF", output=2) and end == Instruction("End")


@pytest.mark.parametrize("line,message", [
    ("Jump", "line 2: instruction 'Jump' is none of End, Barrier"),
    ("End slice=1", "line 2: End.slice is not a field; known: group, wait, signal"),
    ("StLBUF rows=0", "line 2: StLBUF.rows = 0 is outside 1..65535"),
    ("StLBUF rows=many", "line 2: StLBUF.rows = 'many' is no number in 1..65535"),
    ("StLBUF rows=", "line 2: StLBUF.rows has no value; 1..65535 is allowed"),
    ("StLBUF rows=1 rows=2", "line 2: StLBUF.rows is given twice"),
    ("ExecGEMM mode=XSW", "line 2: ExecGEMM.mode = 'XSW' is no number in 0..3, or FW, VSW, HSW, ISW"),
    ("ExecGEMM wait=a_fill", "line 2: ExecGEMM.wait = 'a_fill': 'a_fill' is no token; known: a_full"),
    ("ExecGEMM wait=3+3", "line 2: ExecGEMM.wait = '3+3' names a token twice"),
    ("ExecGEMM version=1", "line 2: ExecGEMM.version is not a field"),
])
def test_mistakes(line, message):
    with pytest.raises(AssemblerError) as error:
        assemble(f"End\n{line}\n")
    assert str(error.value).startswith(message) and "\n" not in str(error.value)

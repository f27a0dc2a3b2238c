"""What every compiled program must keep to: serial order, tokens, ports, banks, regions, and an end."""

from collections import defaultdict

from gen.isa import Instruction, Mode, Unit
from sw.compiler import Program
from sw.model.cycles import predict

READERS = {"DmaOut": "DMA_OUT", "LdLBUF_H": "LOAD_H", "LdLBUF_V": "LOAD_V", "LdPixels": "LOAD_V", "LdScale": "STORE"}
WRITERS = {"DmaIn": "DMA_IN", "StLBUF": "STORE"}


def check_program(program: Program):
    """All checks."""
    check_order(program)
    check_ports(program)
    predict(program.config, program.instructions)       # runs to its end: no deadlock, no field out of range


def check_order(program: Program):
    """In program order every token is there when it is waited for, a step loads what it executes, and nothing is left over."""
    tokens, loaded = defaultdict(int), defaultdict(int)
    for index, instruction in enumerate(program.instructions):
        group = instruction.group
        for token in range(16):
            if instruction.wait >> token & 1:
                tokens[group, token] -= 1
                assert tokens[group, token] >= 0, f"{index}: token {token} is not there"
        for token in range(16):
            tokens[group, token] += instruction.signal >> token & 1
        if instruction.name in ("LdLBUF_V", "LdPixels", "StLBUF"):      # a step ends
            assert not loaded[group, Unit.LOAD_H] and not loaded[group, Unit.LOAD_V], index
        if instruction.name in ("LdLBUF_H", "LdLBUF_V", "LdPixels"):
            loaded[group, instruction.unit] += instruction.waves
        if instruction.name == "ExecGEMM":
            assert loaded[group, Unit.LOAD_V] == instruction.waves and loaded[group, Unit.LOAD_H], index
            for unit in (Unit.LOAD_H, Unit.LOAD_V):
                loaded[group, unit] -= instruction.waves
    assert not any(tokens.values()) and not any(loaded.values()) and program.instructions[-1].name == "End"


def check_ports(program: Program):
    """Each slice is written by one unit and read by one unit, so ports cannot collide; each DMA stays inside its slice and its region."""
    users, conv, words = defaultdict(set), {}, program.config.buffers.slice_words
    for instruction in program.instructions:
        for kind, units in (("read", READERS), ("write", WRITERS)):
            if instruction.name in units:
                users[instruction.group, instruction.slice, kind].add(units[instruction.name])
        if instruction.name == "LdLBUF_H":
            check_load(program, conv.get(instruction.group), instruction)
        if instruction.name == "SetConv":
            conv[instruction.group] = instruction
        if instruction.name in ("DmaIn", "DmaOut"):
            size = instruction.beats * program.config.memory.bytes_per_cycle
            end = instruction.address + (instruction.chunks - 1) * instruction.buffer_stride + instruction.beats * program.config.beat_words
            assert end <= words
            last = instruction.memory + (instruction.chunks - 1) * instruction.memory_stride + size
            regions = program.regions.values()
            assert any(region.address <= instruction.memory and last <= region.address + region.bytes for region in regions)
    assert all(len(units) == 1 for units in users.values())


def check_load(program: Program, conv: Instruction | None, load: Instruction):
    """The rows of a cycle lie in different banks, with at most one end of a line among them; plain loads run at full rate."""
    mode, cores, rate = Mode(load.mode), program.config.cores, 1 << load.rate
    blocks = 2 if mode.tall and cores > 1 else 1
    place, x, y, ends = 0, load.start_x, load.start_y, [0]
    places = []
    for _ in range(load.rows):          # the walk of rtl/README.md, a row at a time
        places.append(place)
        if not load.im2col:
            place += 1
            continue
        assert conv is not None
        x += 1
        if x < conv.out_width:
            place += conv.x_step
            continue
        x, y = 0, y + 1
        ends.append(len(places))
        if y < conv.out_height:
            place += conv.row_step
        else:
            y, place = 0, place + conv.image_step
    if not load.im2col:
        assert rate == (mode.parts if cores > 1 else 1)
    for first in range(0, load.rows, rate):
        together = [place + block * load.pitch for place in places[first:first + rate] for block in range(blocks)]
        assert len({address % program.config.banks for address in together}) == len(together), "two words of a bank in one cycle"
        assert sum(first < end < first + rate for end in ends) <= 1
    assert not load.im2col or conv is None or conv.out_width >= rate

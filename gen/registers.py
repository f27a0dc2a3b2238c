"""The register map (CSRs): offsets, access and meaning. RTL, host software, C header and tables derive from here.

All registers are 32 bits wide. Counters are cleared by a start and stand still once the machine is done; while it runs they read as
anything.
"""

import enum
from dataclasses import dataclass

from gen.isa import Mode, Stall, Unit

IDENTITY = 0x46574156  # "FWAV"


class Access(enum.StrEnum):
    """Who may write a register."""

    READ = "read"
    WRITE = "read/write"


@dataclass(frozen=True)
class Register:
    """A register: byte offset, name, access and meaning."""

    offset: int
    name: str
    access: Access
    doc: str


GLOBAL = (
    ("identity", Access.READ, f"{IDENTITY:#x}"),
    ("version", Access.READ, "version of the instruction set"),
    ("control", Access.WRITE, "bit 0: writing 1 starts the program (ignored while busy)"),
    ("status", Access.READ, "bit 0 busy, bit 1 done, bit 2 stopped by an error"),
    ("cause", Access.READ, "why the machine stopped (gen.isa.Cause)"),
    ("error_index", Access.READ, "index of the instruction that stopped it"),
    ("program", Access.WRITE, "byte address of the program"),
    ("count", Access.WRITE, "instructions in the program"),
    ("cycles", Access.READ, "cycles from start to done"),
    ("array_cycles", Access.READ, "cycles from the first to the last in which an array was active"),
    ("dram_read_beats", Access.READ, "beats read by DmaIn"),
    ("dram_write_beats", Access.READ, "beats written by DmaOut"),
    ("fetch_beats", Access.READ, "beats read by instruction fetch"),
)
GROUP = (
    *((f"waves_{mode.name.lower()}", f"waves of mode {mode.name}") for mode in Mode),
    *((f"stall_{cause.name.lower()}", f"cycles of cause {cause.name} (gen.isa.Stall)") for cause in Stall),
    *((f"busy_{unit.name.lower()}", f"issue cycles of {unit.name}")
      for unit in Unit if unit not in (Unit.DMA_IN, Unit.DMA_OUT, Unit.VECTOR)),
    ("moving_words", "words read from the global buffer for LBUF-H"),
    ("stationary_words", "words sent to LBUF-Vs: a broadcast counts once, separate copies (QUAD) each"),
    ("stored_words", "words written to the global buffer by StLBUF"),
)
GROUP_BASE, GROUP_STRIDE = 0x100, 0x80


def registers(groups: int) -> list[Register]:
    """All registers of a machine with `groups` groups; those of group g are named `g<g>_<name>`."""
    placed = [Register(4 * i, name, access, doc) for i, (name, access, doc) in enumerate(GLOBAL)]
    for group in range(groups):
        base = GROUP_BASE + group * GROUP_STRIDE
        placed += [Register(base + 4 * i, f"g{group}_{name}", Access.READ, f"group {group}: {doc}") for i, (name, doc) in enumerate(GROUP)]
    return placed

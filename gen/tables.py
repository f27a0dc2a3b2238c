"""Generated tables in the READMEs: `python -m gen.tables --write` fills them, `--check` fails when one is out of date.

A table stands between the lines `<!-- table: NAME -->` and `<!-- end -->`.
"""

import argparse
import dataclasses
import json
import re
import sys

from gen import dram, isa, nda
from gen.config import ORGANISATIONS, SECTIONS, DType, Unit
from gen.files import ROOT, write_if_changed
from gen.presets import PRESETS
from gen.registers import registers

PAGES = (".", "gen", "rtl", "rtl/memory", "sw", "sw/dram", "tb", "boards")    # folders with pages
ENUMS = {"unit": Unit, "dtype": DType}      # fields of a configuration that are no integers
MARKED = re.compile(r"(<!-- table: ([a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def table(head: list[str], rows: list[list]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def instructions() -> str:
    """Every instruction: code, name, unit and meaning."""
    return table(["code", "instruction", "unit", "meaning"],
                 [[op.code, f"`{op.name}`", op.unit.name if op.unit is not None else "", op.doc] for op in isa.OPCODES.values()])


def _fields(placed: list[tuple[isa.Field, int]]) -> str:
    rows = [[f"{offset + item.width - 1}:{offset}" if item.width > 1 else offset, f"`{item.name}`", f"{item.bottom}..{item.top}", item.doc]
            for item, offset in placed]
    return table(["bits", "field", "range", "meaning"], rows)


def fields() -> str:
    """The fields of every instruction; the common ones once."""
    common = len(isa.COMMON)
    parts = ["Common to all instructions\n\n" + _fields(isa.layout("End"))]
    parts += [f"`{op.name}`: {op.doc}\n\n" + _fields(isa.layout(op.name)[common:]) for op in isa.OPCODES.values() if op.fields]
    return "\n".join(parts)


def causes() -> str:
    """Why the machine stops."""
    meaning = {
        isa.Cause.NONE: "it reached End", isa.Cause.OPCODE: "unknown opcode", isa.Cause.VERSION: "version field differs from the machine's",
        isa.Cause.FIELD: "a field out of range, or a reserved bit set", isa.Cause.TOKEN: "a token counter would pass its limits",
        isa.Cause.PORT: "two units used one port of a global-buffer slice in the same cycle",
        isa.Cause.DEADLOCK: "every unit waits and none is busy", isa.Cause.END: "the program ran out without an End instruction",
    }
    return table(["code", "cause", "meaning"], [[cause.value, cause.name, meaning[cause]] for cause in isa.Cause])


def register_map() -> str:
    """The registers; those of one group stand for all."""
    rows = [[f"{item.offset:#05x}", f"`{item.name}`", item.access, item.doc] for item in registers(1)]
    return table(["offset", "register", "access", "meaning"], rows)


def configuration() -> str:
    """Every field of a configuration with its range and the presets' values."""
    rows = []
    for section, kind in SECTIONS.items():
        for item in dataclasses.fields(kind):
            meta = item.metadata
            bounds = f"{meta['low']}..{meta['high']} {meta['unit']}" if "low" in meta else ", ".join(ENUMS[item.name])
            values = [getattr(getattr(config, section), item.name) for config in PRESETS.values()]
            rows.append([f"`{section}.{item.name}`", bounds + (", power of two" if meta.get("power_of_two") else ""), *values, meta["doc"]])
    return table(["field", "range", *PRESETS, "meaning"], rows)


def organisations() -> str:
    """The paper's organisations of `base`, all with the same number of PEs."""
    rows = []
    for name in ORGANISATIONS:
        config = PRESETS["base"].organise(name)
        array, buffers = config.array, config.buffers
        size = f"{array.side} x {array.side}"
        rows.append([name, array.groups, config.cores, size, config.pes, buffers.moving_words, buffers.slice_words])
    return table(["organisation", "groups", "cores a group", "core", "PEs", "`moving_words`", "`slice_words`"], rows)


def dram_parts() -> str:
    """The DRAM parts: organisation, and every minimum in cycles at the part's clock."""
    shown = [name for name in next(iter(dram.PARTS.values())).timings if name not in ("tMRD", "tINIT")]
    cells = [[f"`{part.name}`" for part in dram.PARTS.values()]]
    names = ["clock, MHz", "data bus, bits", "bytes of a burst", "bank groups x banks", "rows", "words of a row"]
    columns = [[f"{part.clock_khz / 1000:.4g}", 8 * part.bus_bytes, part.block_bytes, f"{part.bank_groups} x {part.banks}", part.rows,
                part.columns, *(part.cycles(part.clock_khz)[name] for name in shown)] for part in dram.PARTS.values()]
    return table(["", *cells[0]], [[name, *row] for name, row in zip([*names, *shown], zip(*columns))])


def operations() -> str:
    """The near-data operations: passes over a chunk, and the types they take."""
    rows = []
    for operation, steps in nda.STEPS.items():
        passes = [f"{'write' if step.write else 'read'} {step.operand.name.lower()}{'*' if step.repeated else ''}" for step in steps]
        if operation in nda.SUMS:
            passes.append("at the end write w")
        rows.append([operation.value, operation.name, ", ".join(passes), "fp32, int32" if operation in nda.INTEGER else "fp32"])
    return table(["code", "operation", "passes over a chunk (* once a stream)", "types"], rows)


def launch() -> str:
    """The fields of a launch descriptor."""
    return table(["word", "bits", "field"], [
        [item.word, f"{item.low + item.width - 1}:{item.low}" if item.width > 1 else item.low, f"`{name}`"]
        for name, item in nda.DESCRIPTOR.items()])


def bitstreams() -> str:
    """What the boards' images came to, as `boards.bitstreams` kept it."""
    path = ROOT / "boards" / "results.json"
    rows = []
    for name, result in json.loads(path.read_text()).items() if path.exists() else ():
        cells = result["cells"]
        clocks = ", ".join(f"{clock:.1f}" for clock in result["clocks"].values())
        rows.append([
            f"`{name}`", result["device"], f"`{result['config']}`", result["macs"], f"{cells['LUT']:,}", f"{result['lut_per_mac']:.0f}",
            f"{cells['flip-flops']:,}" if "flip-flops" in cells else "", cells["multipliers"], cells["block RAMs"], clocks,
            f"{result['median_mhz']:.1f}", f"{result['clock_mhz']:g}"])
    return table(["board", "device", "preset", "PEs", "LUT", "LUT per MAC", "flip-flops", "multipliers", "block RAMs",
                  "clock of each seed, MHz", "median", "runs at"], rows)


TABLES = {
    "bitstreams": bitstreams,
    "instructions": instructions, "fields": fields, "causes": causes, "registers": register_map, "configuration": configuration,
    "organisations": organisations, "dram-parts": dram_parts, "launch": launch, "operations": operations,
}


def fill(text: str) -> str:
    """`text` with every marked table made anew. Raises KeyError for an unknown name."""
    return MARKED.sub(lambda found: found[1] + "\n" + TABLES[found[2]]() + "\n" + found[3], text)


def main(argv: list[str] | None = None) -> int:
    """Check or write all READMEs; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    choice = parser.add_mutually_exclusive_group(required=True)
    choice.add_argument("--check", action="store_true", help="fail when a table is out of date")
    choice.add_argument("--write", action="store_true", help="write the tables that are out of date")
    options = parser.parse_args(argv)
    pages = sorted(path for folder in PAGES for path in (ROOT / folder).glob("*.md"))
    stale = [path for path in pages if fill(path.read_text()) != path.read_text()]
    for path in stale:
        if options.write:
            write_if_changed(path, fill(path.read_text()))
        print(f"{path.relative_to(ROOT)}: {'written' if options.write else 'out of date, run: make tables'}", file=sys.stderr)
    return int(bool(stale) and options.check)


if __name__ == "__main__":
    sys.exit(main())

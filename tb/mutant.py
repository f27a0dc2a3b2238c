"""What a fault of the mutation check is; the faults are in `tb/mutants.py` and `tb/mutants_dram.py`."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    """One fault: in `file`, `old` becomes `new`; some of `tests` (pytest files or node ids) must fail."""

    name: str
    file: str
    fault: str
    old: str
    new: str
    tests: tuple[str, ...]


def unit(*names: str) -> tuple[str, ...]:
    """Tests by short names: "pe" is tb/unit/test_pe.py, "pe::test_multiplier" one function in it."""
    parts = [name.partition("::") for name in names]
    return tuple(f"tb/unit/test_{module}.py{mark}{test}" for module, mark, test in parts)

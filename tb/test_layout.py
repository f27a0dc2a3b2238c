"""Who may import whom, and that the folders' names are ours alone."""

import ast
import importlib.metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("gen", "rtl", "sw", "tb", "boards")
SPECIFICATION = (
    "gen.config", "gen.presets", "gen.isa", "gen.registers", "gen.timing", "gen.dram", "gen.dram_part", "gen.nda", "gen.traffic",
    "gen.link", "gen.unit_map")

# Module prefix -> prefixes it may import besides its own package's specification; the longest matching prefix holds.
ALLOWED = {
    **dict.fromkeys(SPECIFICATION, SPECIFICATION),
    "gen": ("gen", "rtl"),
    "rtl": (*SPECIFICATION, "rtl"),
    "boards": (*SPECIFICATION, "boards", "rtl", "gen"),
    "sw.golden": (*SPECIFICATION, "sw.golden"),
    "sw.dram.mapping": SPECIFICATION,
    "sw.compiler": (*SPECIFICATION, "sw.compiler", "sw.model"),
    "sw.model": (*SPECIFICATION, "sw.model"),
    "sw.model.dram": (*SPECIFICATION, "sw.model", "sw.dram.mapping"),    # the address map in numpy
    "sw": ("gen", "boards", "sw"),
    "sw.cli": ("gen", "rtl", "boards", "sw"),
    "tb": PACKAGES,
}
NO_AMARANTH = (*SPECIFICATION, "sw.golden", "sw.compiler", "sw.model", "sw.dram.mapping")
SLOW = ("amaranth", "cocotb", "cocotb_tools", "numba", "numpy", "sklearn", "rich", "torch")


def sources() -> list[tuple[str, Path]]:
    """Every module of ours with its file."""
    found = []
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found.append((".".join(parts[:-1] if parts[-1] == "__init__" else parts), path))
    return found


def imports(module: str, path: Path, *, top_level: bool = False) -> set[str]:
    """Absolute names of the modules a file imports; of top-level statements only on request."""
    tree = ast.parse(path.read_text())
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    names = set()
    for node in tree.body if top_level else ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {item.name for item in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[:len(package.split(".")) - node.level + 1] if node.level else []
            name = ".".join([*base, *([node.module] if node.module else [])])
            ours = (ROOT / name.replace(".", "/")).is_dir()
            names |= {f"{name}.{item.name}" for item in node.names} if ours else {name}
    return names


def under(name: str, prefixes) -> bool:
    """Whether a module is one of `prefixes` or inside one."""
    return any(name == prefix or name.startswith(f"{prefix}.") for prefix in prefixes)


MODULES = sources()


@pytest.mark.parametrize("module, path", MODULES, ids=[module for module, _ in MODULES])
def test_imports(module, path):
    rule = max((prefix for prefix in ALLOWED if under(module, [prefix])), key=len)
    ours = {name for name in imports(module, path) if under(name, PACKAGES)}
    wrong = {name for name in ours if not under(name, ALLOWED[rule])}
    assert not wrong, f"{module} may import {ALLOWED[rule]}, not {sorted(wrong)}"
    if under(module, NO_AMARANTH):
        assert not under("amaranth", imports(module, path)) and not {name for name in imports(module, path) if under(name, ["amaranth"])}


def test_rules_can_fail():
    assert imports("sw.golden.x", Path(__file__)) & {"pytest"}
    assert not under("rtl.top", ALLOWED["sw.golden"]) and not under("sw.compiler.x", ALLOWED["sw.golden"])


def test_command_line_starts_fast():
    """What the command line imports at the start brings none of the large packages."""
    seen, waiting = set(), ["sw.cli.main"]
    known = dict(MODULES)
    while waiting:
        module = waiting.pop()
        if module in seen or module not in known:
            continue
        seen.add(module)
        found = imports(module, known[module], top_level=True)
        assert not {name for name in found if under(name, SLOW)}, f"{module} is imported at the start and imports {found}"
        waiting += [part for name in found for part in (name, name.rpartition(".")[0])]


def test_every_folder_is_a_package():
    missing = {str(path.parent.relative_to(ROOT)) for _, path in MODULES if not (path.parent / "__init__.py").exists()}
    assert not missing


def test_every_module_says_what_it_is():
    silent = [module for module, path in MODULES if path.read_text().strip() and not ast.get_docstring(ast.parse(path.read_text()))]
    assert not silent


def test_names_are_ours():
    owners = importlib.metadata.packages_distributions()
    assert not {name: owners[name] for name in PACKAGES if set(owners.get(name, ())) - {"flexwave"}}

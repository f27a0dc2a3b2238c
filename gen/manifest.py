"""The manifest: which configuration a Verilog file was made from, its ports and registers, and the tools that made it."""

import dataclasses
import json

from gen.config import Config
from gen.registers import registers


def manifest(config: Config, design, tools: dict[str, str]) -> str:
    """JSON text of the manifest of `design` (a `gen.verilog.Design`). Reproducible: no date, no path."""
    data = {
        "top": "flexwave",
        "organisation": config.organisation,
        "configuration": config.to_dict(),
        "configuration_digest": config.digest(),
        "ports": [{"name": "clk", "direction": "input", "width": 1}, {"name": "rst", "direction": "input", "width": 1}]
        + [dataclasses.asdict(port) for port in design.ports],
        "registers": [{"offset": item.offset, "name": item.name, "access": str(item.access), "doc": item.doc}
                      for item in registers(config.array.groups)],
        "shared_modules": list(design.shared),
        "rtlil_sha256": design.rtlil_sha256,
        "tools": tools,
    }
    return json.dumps(data, indent=2) + "\n"

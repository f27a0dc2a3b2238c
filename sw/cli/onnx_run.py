"""`flexwave run MODEL.onnx`: an ONNX model with data; its nodes on the machine where it can, on the host where it cannot."""

import io
import json
import zipfile
import zlib

from sw.cli.console import board_of, configuration, output_file, progress, read_bytes, write_bytes
from sw.runtime.errors import UserError


def run(options) -> int:
    """Run the model on the inputs of an .npz file; print where each node ran."""
    out, report_file = output_file("output", options.output), output_file("json", options.json if options.json != "-" else None)
    given = arrays(options.input)
    from sw.frontends.onnx_model import OnnxModel, load_model

    model = load_model(read_bytes("model", options.program), options.program)
    with board_of(options) as board:
        config = configuration(options, board)
        ours = OnnxModel(model, config, engine=options.engine, board=board)
        with progress(f"{options.program} on {options.engine}") as tell:
            found = ours.run(given, tell)
    report = summary(config, options.engine, ours.runs)
    if out:
        write_bytes(out, packed(found))
    if report_file:
        write_bytes(report_file, (json.dumps(report, indent=1) + "\n").encode())
    print(json.dumps(report, indent=1) if options.json == "-" else to_text(report))
    return 0


def arrays(name: str) -> dict:
    """The arrays of an .npz file by name. Raises UserError."""
    import numpy as np

    data = read_bytes("input", name)
    try:
        with np.load(io.BytesIO(data)) as file:
            return {key: file[key] for key in file.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error, AttributeError, TypeError):
        raise UserError(f"input = {name!r} is not an .npz file of plain arrays") from None


def packed(values: dict) -> bytes:
    """Arrays as an .npz file."""
    import numpy as np

    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:       # np.savez cannot write an array of the name "file"
        for name, value in values.items():
            with archive.open(f"{name}.npy", "w") as member:
                np.lib.format.write_array(member, np.asarray(value))
    return buffer.getvalue()


def summary(config, engine: str, runs) -> dict:
    """Totals of the machine's nodes, and every node."""
    def share(macs: int, cycles: int) -> float:
        return macs / (config.pes * cycles) if cycles else 0.0

    macs, cycles = sum(run.macs for run in runs), sum(run.cycles for run in runs)
    return {"config": config.name, "organisation": config.organisation, "engine": engine, "macs": macs, "cycles": cycles,
            "utilization": share(macs, cycles),
            "layers": [{"name": run.name, "operator": run.operator, "place": run.place, "reason": run.reason, "macs": run.macs,
                        "cycles": run.cycles, "utilization": share(run.macs, run.cycles)} for run in runs]}


def to_text(report: dict) -> str:
    """A line a node, and the totals."""
    rows = []
    for item in report["layers"]:
        figures = [f"{item['macs']:,}", f"{item['cycles']:,}", f"{item['utilization']:.1%}"]
        rows.append((item["name"], item["operator"], *(figures if item["place"] == "machine" else [f"on the host: {item['reason']}"])))
    wide = [max(len(row[column]) for row in (*rows, ("node", "operator"))) for column in (0, 1)]
    lines = [f"{'node':<{wide[0]}}  {'operator':<{wide[1]}}  {'multiply-adds':>14}{'cycles':>12}{'utilization':>13}"]
    for name, operator, *rest in rows:
        text = rest[0] if len(rest) == 1 else f"{rest[0]:>14}{rest[1]:>12}{rest[2]:>13}"
        lines.append(f"{name:<{wide[0]}}  {operator:<{wide[1]}}  {text}")
    on_machine = sum(item["place"] == "machine" for item in report["layers"])
    lines.append(f"\n{report['config']} ({report['organisation']}), engine {report['engine']}: {on_machine} of {len(rows)} nodes on the "
                 f"machine, {report['macs']:,} multiply-adds in {report['cycles']:,} cycles, utilization {report['utilization']:.1%}.\n"
                 "What the machine computed equals the golden model; cycles are of programs that run one after the other.")
    return "\n".join(lines)

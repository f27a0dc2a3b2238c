"""The demo: a quantised classifier of handwritten digits, every layer on the generated hardware.

Run: `make demo`, or `python -m sw.demo [--config base] [--engine rtl|model|board --device /dev/ttyUSB0]`. Exit 1 if a single integer or
cycle differs. (Cycles on a board whose memory is a DRAM are not predicted, and shown as a ratio.)
"""

import argparse
import sys
from dataclasses import dataclass, replace

import numpy as np

from gen.config import Config, ConfigError
from gen.isa import Mode
from sw.cli.console import DEFAULT_CONFIG, add_board, board_of, configuration, integer, progress
from sw.compiler.lower import compile_gemm
from sw.golden.gemm import gemm
from sw.golden.requantise import requantise
from sw.runtime import engines
from sw.runtime.errors import MachineError, UserError
from sw.runtime.report import waves
from sw.workloads.digits import Classifier, Layer, train


@dataclass(frozen=True)
class LayerRun:
    """A layer as it ran: its output, the golden one, cycles and predicted cycles, counters that differ, MACs and waves by mode."""

    layer: Layer
    output: np.ndarray
    wanted: np.ndarray
    cycles: int
    predicted: int
    mismatches: tuple[str, ...]
    macs: int
    waves: dict[str, int]

    @property
    def exact(self) -> bool:
        """Every integer equals the golden model, and every counter the prediction."""
        return np.array_equal(self.output, self.wanted) and not self.mismatches


def run_layer(config: Config, layer: Layer, inputs: np.ndarray, *, engine: str, board=None, tell) -> LayerRun:
    """Compile one layer and run it on uint8 inputs (batch x k); engine "board" runs it on `board`."""
    m, (k, n) = len(inputs), layer.weights.shape
    program = compile_gemm(config, m, n, k, a_dtype="uint8", b_dtype="int8", output=layer.output, parameters=True, relu=layer.relu,
                           output_zero_point=layer.zero_point)
    image = program.image(a=inputs, b=layer.weights, bias=layer.bias, multiplier=layer.multiplier)
    run, = engines.run(config, [program], [image], engine=engine, board=board,
                       progress=lambda text: tell(f"{layer.name}: {text}"))
    wanted = requantise(gemm(inputs, layer.weights), layer.bias, layer.multiplier, layer.zero_point, np.dtype(layer.output), layer.relu)
    return LayerRun(layer, run.result, wanted, run.counters["cycles"], run.prediction.cycles, run.mismatches, m * n * k,
                    waves(config, run.counters))


def run_network(config: Config, classifier: Classifier, *, engine: str, board=None, tell) -> list[LayerRun]:
    """Run the layers one after the other, each on what the machine made of the one before."""
    runs, values = [], classifier.images
    for layer in classifier.layers:
        runs.append(run_layer(config, layer, values, engine=engine, board=board, tell=tell))
        values = runs[-1].output
    return runs


def table(config: Config, runs: list[LayerRun]) -> str:
    """A line a layer and one for the network."""
    lines = [f"{'layer':8} {'M x K x N':14} {'integers':>16} {'cycles':>9} {'predicted':>9} {'utilization':>11}  "
             + " ".join(f"{mode.name:>5}" for mode in Mode)]
    rows = [(run.layer.name, f"{len(run.output)} x {run.layer.weights.shape[0]} x {run.layer.weights.shape[1]}", [run]) for run in runs]
    for name, shape, part in [*rows, ("network", "", runs)]:
        wrong, total = sum(np.count_nonzero(run.output != run.wanted) for run in part), sum(run.output.size for run in part)
        cycles, modes = sum(run.cycles for run in part), [sum(run.waves[mode.name] for run in part) for mode in Mode]
        lines.append(f"{name:8} {shape:14} {f'{total - wrong:,} of {total:,}':>16} {cycles:9,} "
                     f"{sum(run.predicted for run in part):9,} "
                     f"{sum(run.macs for run in part) / (config.pes * cycles):11.1%}  " + " ".join(f"{count:5}" for count in modes))
    return "\n".join(lines)


def verdict(runs: list[LayerRun], *, exact_cycles: bool, counts_cycles: bool) -> str:
    """What is said when nothing differs."""
    if not counts_cycles:
        return "every integer equals the golden model; cycles are predicted: on this board is a unit without a machine"
    if exact_cycles:
        return "every integer equals the golden model, every cycle the prediction"
    ratio = sum(run.cycles for run in runs) / sum(run.predicted for run in runs)
    return f"every integer equals the golden model; with the board's DRAM {ratio:.3f} times the cycles predicted for a fixed latency"


def main(argv: list[str] | None = None) -> int:
    """Train, quantise, run and print; 1 if anything differs from the golden model or the prediction."""
    parser = argparse.ArgumentParser(prog="demo", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--config", metavar="NAME|FILE", help=f"default: {DEFAULT_CONFIG}; with --engine board the board's own")
    parser.add_argument("--engine", choices=engines.ENGINES, default="rtl")
    parser.add_argument("--images", default="256", metavar="N", help="test images")
    add_board(parser)
    parser.set_defaults(organisation=None)
    options = parser.parse_args(argv)
    try:
        with board_of(options) as board:
            config = configuration(options, board)
            with progress("training a classifier of handwritten digits") as tell:
                classifier = train()
                every = len(classifier.images)
                images = integer("images", options.images, 1, every)
                classifier = replace(classifier, images=classifier.images[:images], labels=classifier.labels[:images])
                runs = run_network(config, classifier, engine=options.engine, board=board, tell=tell)
    except (ConfigError, UserError, MachineError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 2
    accuracy = float(np.mean(runs[-1].output.argmax(axis=1) == classifier.labels))
    where = f"engine {options.engine}" + (f" ({board.identity.board})" if board else "")
    print(f"{len(classifier.images)} handwritten digits, int8, on {config.name} ({config.organisation}, {config.pes} PEs), {where}\n")
    print(table(config, runs))
    exact = all(run.exact for run in runs)
    which = "" if images == every else f" on all {every}"
    print(f"\naccuracy {accuracy:.1%} (float network{which}: {classifier.float_accuracy:.1%})")
    counted = board is None or board.counts_cycles
    said = verdict(runs, exact_cycles=board is None or board.exact_cycles, counts_cycles=counted)
    print(said if exact else "DIFFERENT from the golden model or the prediction")
    for run in runs:
        for text in run.mismatches:
            print(f"{run.layer.name}: {text}", file=sys.stderr)
    return 0 if exact else 1


if __name__ == "__main__":
    sys.exit(main())

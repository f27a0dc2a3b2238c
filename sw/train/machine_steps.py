"""Training steps on the machine, each compared with the golden engine: every weight, gradient and activation."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gen.config import Config
from sw.compiler.errors import CompileError
from sw.golden.float32 import add
from sw.golden.training import momentum_step
from sw.model import functional, predict
from sw.runtime.engines import limit_of
from sw.runtime.errors import MachineError, UserError
from sw.train.golden_engine import GoldenEngine, Parameters, Step
from sw.train.lower.program import TrainingProgram, parameters_of
from sw.train.lower.step import Group, compile_step
from sw.train.network import Network

Tell = Callable[[str], None]


@dataclass(frozen=True)
class MachineStep:
    """A step that was run. `different`: names of the tensors that are not those of the golden engine, bit for bit."""

    different: tuple[str, ...]
    cycles: int
    model_cycles: int
    counters: dict[str, int]

    @property
    def exact(self) -> bool:
        """Whether every tensor is the golden engine's."""
        return not self.different

    def to_dict(self) -> dict:
        """For the JSON file."""
        return {"exact": self.exact, "cycles": self.cycles, "model_cycles": self.model_cycles}


@dataclass(frozen=True)
class Batch:
    """What a step is given: images (batch, height, width, channels), labels (batch), the learning rate."""

    images: np.ndarray
    labels: np.ndarray
    rate: float


def run_steps(config: Config, network: Network, parameters: Mapping[str, np.ndarray], batches: Iterable[Batch], *,
              groups: Sequence[Group] | None = None, momentum: float = 0.9, decay: float = 5e-4, engine: str = "rtl",
              tell: Tell = lambda text: None) -> list[MachineStep]:
    """Consecutive steps from `parameters` on, on the RTL or (`engine` "model") in the functional model. What one step leaves in memory is
    what the next one starts from. Raises UserError for what the machine cannot hold, MachineError where it stops."""
    program, after, found = None, None, []
    golden = GoldenEngine(network, tile=config.tile, lanes=config.array.side)
    parameters = dict(parameters)
    velocity = {name: np.zeros_like(value) for name, value in parameters.items()}
    for number, batch in enumerate(batches, 1):
        if program is None or after is None:
            tell("compiling the training step")
            program = compile_program(config, network, len(batch.images), groups, momentum, decay)
            after = program.image(parameters, velocity)
            predicted = predict(config, program.instructions, program=program.start)
        image = after
        program.feed(image, batch.images, batch.labels, batch.rate)
        tell(f"step {number}: {predicted.cycles:,} cycles on {'the RTL' if engine == 'rtl' else 'the functional model'}")
        if engine == "rtl":
            after, counters = on_rtl(config, program, image, predicted.cycles)
        else:
            after, counters = functional.run(config, program.instructions, image), predicted.counters
        tell(f"step {number}: comparing")
        step, gradients = golden_step(golden, parameters, batch, program.sub_batches)
        for name, gradient in gradients.items():
            parameters[name], velocity[name] = momentum_step(parameters[name], velocity[name], gradient, rate=batch.rate, momentum=momentum,
                                                             decay=decay)
        different = tuple(differences(program, after, step, gradients, parameters, velocity))
        wrong = [f"{name} = {counters.get(name)}, predicted {value}" for name, value in predicted.counters.items()
                 if counters.get(name) != value]
        found.append(MachineStep((*different, *wrong), counters["cycles"], predicted.cycles, counters))
    return found


def compile_program(config: Config, network: Network, batch: int, groups: Sequence[Group] | None, momentum: float,
                    decay: float) -> TrainingProgram:
    """The program of a step. Raises UserError."""
    try:
        return compile_step(config, network, batch, groups=groups, momentum=momentum, decay=decay)
    except CompileError as error:
        raise UserError(f"{network.name} on {config.name}: {error}") from None


def on_rtl(config: Config, program: TrainingProgram, image: np.ndarray, cycles: int) -> tuple[np.ndarray, dict[str, int]]:
    """Memory and registers behind a step on the RTL. Raises MachineError where it stops early."""
    from gen.simulate import Job, Simulator

    job = Job(image, program.start, len(program.instructions), (0, program.start), limit=limit_of(cycles))
    outcome, = Simulator(config).run([job])
    if outcome.error:
        raise MachineError(outcome.error)
    after = image.copy()
    after[:program.start] = outcome.result
    return after, outcome.registers


def golden_step(golden: GoldenEngine, parameters: Parameters, batch: Batch, sub_batches: Mapping[str, int]) -> tuple[Step, Parameters]:
    """The golden engine's step over the whole batch, and the gradients as sums over the sub-batches of each layer, (g0 + g1) + ...

    Activations do not depend on the other samples of a batch.
    """
    share = 1 / len(batch.images)

    def part(start: int, stop: int) -> Step:
        step = golden.forward(parameters, batch.images[start:stop])
        return golden.backward(parameters, step, batch.labels[start:stop], share)

    gradients: Parameters = {}
    for size in set(sub_batches.values()):
        names = [name for layer in golden.network.layers if sub_batches[layer.name] == size for name in parameters_of(layer)]
        steps = [part(start, start + size) for start in range(0, len(batch.images), size)]
        for name in names:
            gradients[name] = steps[0].by_parameter[name]
            for step in steps[1:]:
                gradients[name] = add(gradients[name], step.by_parameter[name])
    return part(0, len(batch.images)), gradients


def differences(program: TrainingProgram, image: np.ndarray, step: Step, gradients: Parameters, parameters: Parameters,
                velocity: Parameters) -> Iterable[str]:
    """Names of the tensors that differ from the golden engine's; those that never left the chip are not looked at."""
    for layer in program.network.layers:
        for text, found, wanted in (("{}", program.activation(image, layer.name), step.activations[layer.name]),
                                    ("gradient of {}", program.gradient(image, layer.name), step.gradients[layer.name])):
            if found is not None and not same(found, wanted):
                yield text.format(layer.name)
    for text, kind, values in (("gradient of {}", "gradient", gradients), ("velocity of {}", "velocity", velocity), ("{}", "", parameters)):
        yield from (text.format(name) for name in parameters if not same(program.parameter(image, name, kind), values[name]))


def same(found: np.ndarray, wanted: np.ndarray) -> bool:
    """Whether two arrays of float32 are the same, bit for bit."""
    left, right = (np.ascontiguousarray(one, np.float32).view(np.uint32) for one in (found, wanted))
    return found.shape == wanted.shape and np.array_equal(left, right)

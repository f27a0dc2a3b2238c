"""A compiled training step: its memory image, a batch for it, and the tensors that it leaves behind."""

import math
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from gen.config import Config
from gen.isa import INSTRUCTION_BYTES, Instruction
from sw.compiler.layout import blocks_of, round_up
from sw.train.lower.classifier import no_class_values
from sw.train.lower.memory import Memory, Tensor
from sw.train.lower.phase import MOST_CONSTANTS
from sw.train.network import INPUT, Conv, Layer, Linear, Network, Norm
from sw.train.shapes import Shape


@dataclass
class TrainingProgram:
    """A program for one machine, one network and one batch. Its tensors lie in `memory`, the program at byte `start`. `gradients`: of
    every layer's result; `on_chip`: tensors of them and of the results that never leave the chip; `sub_batches`: samples that a layer has
    at a time."""

    config: Config
    network: Network
    batch: int
    instructions: list[Instruction]
    memory: Memory
    start: int
    constants: dict[str, np.float32]
    gradients: dict[str, Tensor]
    on_chip: set[Tensor]
    sub_batches: dict[str, int]
    shapes: dict[str, Shape]

    @property
    def size(self) -> int:
        """Bytes of the memory image; a fetch reads whole bursts."""
        burst = self.config.fetch_instructions * INSTRUCTION_BYTES
        return self.start + round_up(len(self.instructions) * INSTRUCTION_BYTES, burst)

    def image(self, parameters: Mapping[str, np.ndarray], velocity: Mapping[str, np.ndarray]) -> np.ndarray:
        """A memory image with program, parameters and velocities (fp32); `feed` adds a batch."""
        image = np.zeros(self.size, np.uint8)
        code = np.frombuffer(b"".join(instruction.encode() for instruction in self.instructions), np.uint8)
        image[self.start:self.start + code.size] = code
        side = self.config.array.side
        for layer in self.network.layers:
            for name in parameters_of(layer):
                for kind, values in (("", parameters), (".velocity", velocity)):
                    self._put(image, f"{name}{kind}", to_matrix(values[name], side))
        last = self.network.layers[-1]
        assert isinstance(last, Linear)
        self._put(image, "no_class", np.array(no_class_values(last.outputs, blocks_of(self.config, last.outputs), side), np.float32))
        return image

    def feed(self, image: np.ndarray, images: np.ndarray, labels: np.ndarray, rate: float):
        """Writes a batch (batch, height, width, channels; bf16 numbers), its labels and the learning rate into a memory image."""
        classes = self.network.classes
        self._put(image, INPUT, images.reshape(-1, images.shape[-1]))
        self._put(image, "minus_wanted", -(np.arange(classes) == labels[:, None]).astype(np.float32))
        values = np.array(list((self.constants | {"minus_rate": -np.float32(rate)}).values()), np.float32)
        rows = self.memory.regions["constants"].rows // MOST_CONSTANTS       # of a constant
        self._put(image, "constants", values.repeat(rows)[:, None].repeat(self.config.array.side, axis=1))

    def _put(self, image: np.ndarray, name: str, values: np.ndarray):
        tensor = self.memory.regions[name]
        data = tensor.pack(values)
        image[tensor.address:tensor.address + data.size] = data

    def activation(self, image: np.ndarray, name: str) -> np.ndarray | None:
        """A layer's result, (batch, height, width, channels), behind the pooling (batch, channels); None if it never left the chip."""
        return self._tensor(image, self.memory.regions[name], name)

    def gradient(self, image: np.ndarray, name: str) -> np.ndarray | None:
        """The gradient of a layer's result, likewise."""
        return self._tensor(image, self.gradients[name], name)

    def _tensor(self, image: np.ndarray, tensor: Tensor, name: str) -> np.ndarray | None:
        if tensor in self.on_chip:
            return None
        shape = self.shapes[name]
        *size, channels = shape
        return tensor.unpack(image, self.batch * math.prod(size), channels).reshape(self.batch, *shape)

    def traffic(self) -> dict[str, tuple[int, int]]:
        """Bytes that the program reads from each region of memory and writes to it, without those of the program itself."""
        found: dict[str, tuple[int, int]] = {}
        starts = {tensor.address: name for name, tensor in reversed(self.memory.regions.items())}       # a whole before its parts
        ordered = sorted(starts)
        for instruction in self.instructions:
            if instruction.name in ("DmaIn", "DmaOut"):
                name = starts[ordered[bisect_right(ordered, instruction.memory) - 1]]
                size = instruction.chunks * instruction.beats * self.config.memory.bytes_per_cycle
                read, written = found.get(name, (0, 0))
                found[name] = (read + size, written) if instruction.name == "DmaIn" else (read, written + size)
        return found

    def parameter(self, image: np.ndarray, name: str, kind: str = "") -> np.ndarray:
        """A parameter, or its "velocity" or "gradient", in the form of the network's own."""
        layer = next(layer for layer in self.network.layers if name in parameters_of(layer))
        tensor = self.memory.regions[f"{name}.{kind}" if kind else name]
        if not name.endswith(".weight"):
            size = layer.outputs if isinstance(layer, Linear) else layer.channels       # type: ignore[attr-defined]
            return tensor.unpack(image, tensor.rows, self.config.array.side).reshape(-1)[:size]
        assert isinstance(layer, Conv | Linear)
        taps = taps_of(layer)
        side, blocks = self.config.array.side, blocks_of(self.config, layer.channels)
        values = tensor.unpack(image, tensor.rows, taps * blocks * side)[:layer.outputs]
        values = values.reshape(layer.outputs, taps, blocks * side)[:, :, :layer.channels].transpose(1, 2, 0)
        return values.reshape((layer.kernel, layer.kernel, layer.channels, layer.outputs) if isinstance(layer, Conv) else
                              (layer.channels, layer.outputs))


def parameters_of(layer: Layer) -> tuple[str, ...]:
    """The names of a layer's parameters."""
    kinds = {Conv: ("weight",), Norm: ("gamma", "beta"), Linear: ("weight", "bias")}.get(type(layer), ())
    return tuple(f"{layer.name}.{kind}" for kind in kinds)


def to_matrix(values: np.ndarray, side: int) -> np.ndarray:
    """A parameter as it lies in memory: weights as outputs x (kernel position, channels in whole blocks), others a block a row."""
    if values.ndim == 1:
        return np.pad(values, (0, -len(values) % side)).reshape(-1, side)
    *_, channels, outputs = values.shape
    taps = values.reshape(-1, channels, outputs)
    padded = np.pad(taps, ((0, 0), (0, -channels % side), (0, 0)))
    return padded.transpose(2, 0, 1).reshape(outputs, -1)


def taps_of(layer: Conv | Linear) -> int:
    """Positions of a layer's kernel."""
    return layer.kernel**2 if isinstance(layer, Conv) else 1

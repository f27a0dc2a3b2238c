"""A group of layers as one program: sub-batch after sub-batch passes all of them, and what lies between them never leaves the chip.

It is the forward half of mini-batch serialisation (MBS): the group's input is read once and its result written once, whatever the batch;
weights are read for every sub-batch, unless those of all layers fit the chip together.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gen.config import Config
from gen.isa import Instruction
from sw.compiler.emit_group import GroupEmitter
from sw.compiler.errors import CompileError, refuse_outside
from sw.compiler.group_layer import INPUT, GroupLayer
from sw.compiler.group_plan import last_use, make_plan, obstacles
from sw.compiler.layout import (
    PARAMETER_WORDS,
    blocks_of,
    pack_moving,
    padded_bytes,
    padded_rows,
    stationary_bytes,
    unpack_moving,
)
from sw.compiler.lower import interleave, place_all, place_program
from sw.compiler.pooling import Pooling
from sw.compiler.program import Program, ProgramError, Region
from sw.compiler.tiling import LARGEST, Gemm


@dataclass(frozen=True)
class GroupProgram:
    """A program for one machine and one group of layers, over `batch` samples in sub-batches of `sub_batch`.

    `regions` has "moving" (the group's input), "result", "program", and for each layer "stationary" and "parameters" with its number, as
    far as it has them; `memory` is the size of the whole image in bytes. `weights_stay` (`parameters_stay`): each group of the machine
    reads them once, not for every sub-batch.
    """

    config: Config
    layers: tuple[GroupLayer, ...]
    batch: int
    sub_batch: int
    weights_stay: bool
    parameters_stay: bool
    instructions: tuple[Instruction, ...]
    regions: dict[str, Region]
    memory: int

    def code(self) -> bytes:
        """The encoded instructions."""
        return b"".join(instruction.encode() for instruction in self.instructions)

    def image(self, a: np.ndarray, operands: Sequence[Mapping[str, np.ndarray]]) -> np.ndarray:
        """The whole memory image, as uint8. `a`: the input, (batch, height, width, channels) or (batch x rows, channels); `operands`: of
        each layer, as `Program.pack` takes them (b, bias, multiplier; nothing for a pooling). Raises ProgramError."""
        first = self.layers[0]
        if len(operands) != len(self.layers):
            raise ProgramError(f"operands of {len(operands)} layers, not {len(self.layers)}")
        if np.shape(a)[-1] != first.channels_in or np.size(a) != self.batch * first.rows_in * first.channels_in or a.dtype != first.type_in:
            raise ProgramError(f"the input is {np.shape(a)} of {a.dtype}, not {self.batch} x {first.rows_in} x {first.channels_in} of "
                               f"{first.type_in}")
        packed = {"moving": pack_moving(self.config, np.reshape(a, (-1, first.channels_in))),
                  "program": np.frombuffer(self.code(), np.uint8)}
        for number, (layer, given) in enumerate(zip(self.layers, operands)):
            parts = Program(self.config, layer.product, (), {}, 0).pack(**given)
            packed |= {f"{name}{number}": data for name, data in parts.items()}
        image = np.zeros(self.memory, np.uint8)
        for name, (address, _) in self.regions.items():
            if name in packed:
                image[address:address + packed[name].size] = packed[name]
            elif name != "result":
                raise ProgramError(f"the operand of region {name!r} is missing")
        return image

    def result(self, image: np.ndarray) -> np.ndarray:
        """The last layer's result out of a memory image: (batch, height, width, channels), or (batch x rows, channels)."""
        product = self.layers[-1].product
        address, size = self.regions["result"]
        values = unpack_moving(self.config, np.asarray(image)[address:address + size], self.batch * product.m, product.n, product.output)
        window = product.window
        return values if window is None else values.reshape(self.batch, window.out_height, window.out_width, product.n)


def compile_layer_group(config: Config, layers: Sequence[GroupLayer], batch: int, *, sub_batch: int | None = None,
                        base: int = 0) -> GroupProgram:
    """Compile a group of layers for a batch, in sub-batches of `sub_batch` samples: by default as many as the global buffer holds.

    The sub-batches are dealt to the groups of the machine. Every layer but the first reads results of layers before it (or the group's
    input); the last one's result is the group's. Each result has a slice of the global buffer to itself, two hold weights and one column
    parameters. Sub-batches but the last begin at whole beats of memory. Raises CompileError for what the machine cannot hold.
    """
    refuse_outside("batch", batch, 1, LARGEST)
    check(config, layers)
    if sub_batch is None:
        most = min(batch, config.buffers.slice_words)
        sub_batch = next((count for count in range(most, 1, -1) if not any(obstacles(config, layers, batch, count))), 1)
    refuse_outside("sub_batch", sub_batch, 1, batch)
    for obstacle in obstacles(config, layers, batch, sub_batch):
        raise CompileError(obstacle)
    plan = make_plan(config, layers, batch, sub_batch)
    regions = place_all(config, {name: size for name, size in sizes(config, layers, batch).items() if size}, base, {})
    starts = {name: region.address for name, region in regions.items()}
    turns = [(first, min(sub_batch, batch - first)) for first in range(0, batch, sub_batch)]
    dealt = [turns[group::config.array.groups] for group in range(config.array.groups)]
    emitters = [GroupEmitter(config, group, plan, mine, starts) for group, mine in enumerate(dealt) if mine]
    instructions = (*interleave(config, emitters), Instruction("End"))
    regions |= place_program(config, instructions, regions, base)
    memory = max(region.address + region.bytes for region in regions.values())
    return GroupProgram(config, tuple(layers), batch, sub_batch, plan.b_stays, plan.p_stays, instructions, regions, memory)


def check(config: Config, layers: Sequence[GroupLayer]):
    """Raise CompileError where a layer does not fit what it reads, or the machine."""
    if not layers:
        raise CompileError("layers = 0 is outside 1.. layers of a group")
    made = {INPUT: (layers[0].rows_in, layers[0].channels_in, layers[0].type_in)}
    for number, layer in enumerate(layers):
        product = layer.product
        where = f"layer {number}: "
        if isinstance(product, Gemm) and product.output == "int32":
            raise CompileError(f"{where}output = 'int32' is none of int8, uint8 (in a group)")
        if product.window and product.window.images != 1:
            raise CompileError(f"{where}images = {product.window.images} is outside 1..1 (of one sample)")
        if (isinstance(product, Pooling) or product.addition) and not config.vector.window:
            raise CompileError(f"{where}vector.window = 0 is outside 1..4096 pixels for a pooling or a residual")
        if (product.addition is None) != (layer.residual is None) or layer.residual == layer.source:
            raise CompileError(f"{where}residual = {layer.residual} must be another layer than source, and given with an addition")
        for role in ("source", "residual"):
            index = getattr(layer, role)
            if index is None:
                continue
            if index not in made:
                raise CompileError(f"{where}{role} = {index} is outside {INPUT}..{number - 1} (layers before it)")
            wants = (layer.rows_in, layer.channels_in, layer.type_in)
            if role == "residual":
                assert product.addition
                wants = (product.m, product.n, product.addition.dtype)
            if wants != made[index]:
                raise CompileError(f"{where}{role} = {index} has (rows, channels, type) {made[index]}, not {wants}")
        made[number] = (product.m, product.n, product.output)
    if layers[0].source != INPUT:
        raise CompileError(f"layer 0: source = {layers[0].source} must be {INPUT}, the group's input")
    for number in range(len(layers) - 1):
        if last_use(layers, number) < 0:
            raise CompileError(f"layer {number}: no layer of the group reads its result")


def sizes(config: Config, layers: Sequence[GroupLayer], batch: int) -> dict[str, int]:
    """Bytes of every region but the program's."""
    word = config.word_bytes
    first, last = layers[0], layers[-1].product
    found = {"moving": blocks_of(config, first.channels_in) * padded_rows(config, batch * first.rows_in) * word}
    for number, layer in enumerate(layers):
        product = layer.product
        if isinstance(product, Pooling):
            found[f"parameters{number}"] = padded_bytes(config, len(product.parameters()) * PARAMETER_WORDS * word)
        else:
            found[f"stationary{number}"] = stationary_bytes(config, product.k, product.n, product.taps)
            found[f"parameters{number}"] = padded_bytes(config, blocks_of(config, product.n) * PARAMETER_WORDS * word)
    return found | {"result": blocks_of(config, last.n) * padded_rows(config, batch * last.m) * word}

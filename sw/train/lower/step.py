"""A training step as one program: weights packed, forward, backward, weight gradients, update.

The whole batch goes through layer after layer, or (mini-batch serialisation) groups of layers work on sub-batches, one after the other:
what lies between the layers of a group then stays on the chip where there is room, and weight gradients are added up, (g0 + g1) + ...
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from gen.config import Config
from sw.compiler.errors import CompileError
from sw.compiler.layout import blocks_of, pitch_of, round_up
from sw.compiler.window import Window
from sw.train.lower import elementwise, norm, pooling, products, weights
from sw.train.lower.classifier import bias_gradient, cross_entropy
from sw.train.lower.convolution import Convolution
from sw.train.lower.memory import ALIGNMENT, Memory, Tensor
from sw.train.lower.phase import Code, Place, Range
from sw.train.lower.program import TrainingProgram, parameters_of, taps_of
from sw.train.lower.weight_gradient import WeightGradient
from sw.train.lower.weights import Rule
from sw.train.network import INPUT, Add, Conv, Layer, Linear, Network, Norm, Pool, WindowPool
from sw.train.shapes import shapes

SCRATCH = 4         # slices that a phase needs besides those in which tensors stay


@dataclass(frozen=True)
class Group:
    """Layers, by name and in order, that `sub_batch` samples pass together."""

    layers: tuple[str, ...]
    sub_batch: int


class Lowering:
    """Writes the program of one network, group by group, sub-batch by sub-batch, layer by layer."""

    def __init__(self, config: Config, network: Network, batch: int, groups: Sequence[Group] | None, rule: Rule):
        if not config.floating:
            raise CompileError(f"array.dtype = '{config.array.dtype}' cannot train; bf16 can")
        self.shapes = shapes(network)
        self.serialised = groups is not None
        self.groups = list(groups or [Group(tuple(layer.name for layer in network.layers), batch)])
        if [name for group in self.groups for name in group.layers] != [layer.name for layer in network.layers]:
            raise CompileError("groups must have all layers of the network, in its order")
        for group in self.groups:
            if group.sub_batch < 1 or batch % group.sub_batch:
                raise CompileError(f"sub_batch = {group.sub_batch} does not divide batch = {batch}")
            if group.sub_batch % config.beat_words:
                which = "sub_batch" if self.serialised else "batch"
                raise CompileError(f"{which} = {group.sub_batch} is no multiple of {config.beat_words} samples, the words of a beat")
        self.config, self.network, self.rule, self.side, self.batch = config, network, rule, config.array.side, batch
        self.memory = Memory(config)
        self.code = Code(config, self.memory)
        self.layers = {layer.name: layer for layer in network.layers}
        self.gradients: dict[str, str] = {}         # of layers' results: the regions, of the whole batch
        self.before: dict[str, str] = {}            # the same when the present group began
        self.images: Range = (0, batch)             # of the sub-batch
        self.group = self.groups[0]
        self.on_chip: set[Tensor] = set()

    def lower(self) -> TrainingProgram:
        """The whole step."""
        self._place()
        for layer in self.network.layers:
            if isinstance(layer, Conv | Linear):
                self._pack(layer)
        for forward, groups in ((True, self.groups), (False, reversed(self.groups))):
            for group in groups:
                self.group, self.before = group, dict(self.gradients)
                for first in range(0, self.batch, group.sub_batch):
                    self.images = first, first + group.sub_batch
                    self._sub_batch(forward)
        self._update()
        self.code.sequencer.barrier()
        start = round_up(self.memory.end, max(ALIGNMENT, self.config.memory.bytes_per_cycle))
        sub_batches = {name: group.sub_batch for group in self.groups for name in group.layers}
        return TrainingProgram(self.config, self.network, self.batch, self.code.sequencer.instructions(), self.memory, start,
                               self.code.values, {name: self.memory.regions[region] for name, region in self.gradients.items()},
                               self.on_chip, sub_batches, self.shapes)

    def _sub_batch(self, forward: bool):
        """A sub-batch through the layers of a group."""
        layers = [self.layers[name] for name in self.group.layers]
        if forward:
            for number, layer in enumerate(layers):
                self._forward(layer)
                self._release({name: name for later in layers[number + 1:] for name in later.inputs})
            return
        self.gradients = dict(self.before)
        for number, layer in enumerate(reversed(layers), 1):
            self._backward(layer)
            waiting = {later.name for later in layers[:-number]}
            self._release({name: region for name, region in self.gradients.items() if name in waiting})
        for layer in layers if self.images[0] else ():
            for name in parameters_of(layer):
                total = self.memory.regions[f"{name}.gradient"]
                elementwise.add(self.code, total, self.memory.regions[f"{name}.gradient.part"], total)

    # Memory

    def _place(self):
        """Parameters, what belongs to them, the input, and constants."""
        memory, kinds = self.memory, ("", ".velocity", ".gradient", ".gradient.part")
        for layer in self.network.layers:
            if isinstance(layer, Conv | Linear):
                blocks, rows = taps_of(layer) * blocks_of(self.config, layer.channels), blocks_of(self.config, layer.outputs) * self.side
                for kind in kinds:
                    memory.tensor(f"{layer.name}.weight{kind}", blocks, rows, 2)
        # What has one number a channel lies together: one phase updates it all.
        names = [name for layer in self.network.layers for name in parameters_of(layer) if not name.endswith(".weight")]
        sizes = [round_up(blocks_of(self.config, self.shapes[name.rpartition(".")[0]][-1]), self.config.beat_words) for name in names]
        for kind in kinds:
            pool = memory.tensor(f"vectors{kind}", 1, sum(sizes), 2)
            for name, size, first in zip(names, sizes, np.cumsum([0, *sizes]).tolist()):
                memory.regions[f"{name}{kind}"] = pool.part(first, first + size)
        blocks = blocks_of(self.config, self.network.classes)
        memory.tensor("no_class", 1, blocks, 2)
        memory.tensor("minus_wanted", blocks, self.batch)
        self._tensor(INPUT, INPUT)

    def _pixels(self, layer: str) -> int:
        """Pixels of a layer's result."""
        return int(np.prod(self.shapes[layer][:-1], dtype=int))

    def _tensor(self, name: str, layer: str, planes: int = 1) -> Tensor:
        """The sub-batch's part of a tensor of the form of a layer's result; makes room for the whole batch the first time."""
        return self._room(name, blocks_of(self.config, self.shapes[layer][-1]), self._pixels(layer), planes)

    def _room(self, name: str, blocks: int, rows: int, planes: int = 1) -> Tensor:
        """The sub-batch's part of a tensor with `rows` rows for each sample."""
        if name not in self.memory.regions:
            self.memory.tensor(name, blocks, self.batch * rows, planes)
        return self._part(self.memory.regions[name], rows)

    def _part(self, tensor: Tensor, rows: int) -> Tensor:
        """The sub-batch's part of a tensor of the whole batch."""
        first, stop = self.images
        return tensor if stop - first == self.batch else tensor.part(first * rows, stop * rows)

    def _result(self, name: str) -> Tensor:
        """The sub-batch's part of a layer's result."""
        return self._part(self.memory.regions[name], self._pixels(name))

    def _mask(self, name: str) -> Tensor:
        """The mask of a layer's result."""
        return self._room(f"{name}.mask", blocks_of(self.config, self.shapes[name][-1]), elementwise.mask_words(self._pixels(name)))

    def _into(self, parameter: str) -> Tensor:
        """Where this sub-batch's gradient of a parameter goes."""
        return self.memory.regions[f"{parameter}.gradient{'.part' if self.images[0] else ''}"]

    # What stays on the chip

    def _stay(self, tensor: Tensor, *, whole: Tensor | None = None, bring: bool = False):
        """Let a tensor of the sub-batch stay on the chip, if there is room. `whole`: its tensor of the whole batch, if nobody reads that
        from memory; `bring`: it is in memory and comes from there."""
        code, free = self.code, self.code.free_slices
        pitch = pitch_of(self.config, tensor.rows)
        if not self.serialised or tensor.planes > 1 or len(free) <= SCRATCH or tensor.blocks * pitch > self.config.buffers.slice_words:
            return
        place = Place(free[-1], 0, pitch)
        if bring:
            code.sequencer.barrier()
            code.load(tensor, place)
        code.residents[tensor] = place
        if whole is not None:
            code.without_memory.add(tensor)
            self.on_chip.add(whole)

    def _release(self, kept: dict[str, str]):
        """Free the slices of all but these: regions by the layers whose form they have."""
        tensors = {self._part(self.memory.regions[region], self._pixels(name)) for name, region in kept.items()
                   if region in self.memory.regions}
        self.code.residents = {tensor: place for tensor, place in self.code.residents.items() if tensor in tensors}

    def _read_later(self, name: str) -> bool:
        """Whether a layer's result is read from memory: by the backward pass, or by another group."""
        readers = [layer for layer in self.network.layers if name in layer.inputs]
        # The backward pass of a pooling compares what it read with its maxima.
        compared = any(isinstance(layer, WindowPool) and layer.kind == "max" and layer.inputs[0] != INPUT
                       for layer in (self.layers[name], *readers))
        return not readers or compared or any(
            isinstance(layer, Conv | Linear | Norm) or layer.name not in self.group.layers for layer in readers)

    def _fetch(self, tensor: Tensor, readers: int) -> Tensor:
        """A tensor of another group: if several layers read it, it is brought once."""
        if readers > 1 and tensor not in self.code.residents:
            self._stay(tensor, bring=True)
        return tensor

    # Weights

    def _pack(self, layer: Conv | Linear):
        """Stationary tiles of a layer, for both directions."""
        memory, taps = self.memory, taps_of(layer)
        master = memory.regions[f"{layer.name}.weight"]
        short = memory.tensor(f"{layer.name}.weight.bf16", master.blocks, master.rows)
        weights.narrowed(self.code, master, short)
        pack = [("forward", weights.pack_forward)]
        pack += [("backward", weights.pack_backward)] if layer.inputs[0] != INPUT else []
        for kind, function in pack:
            region = memory.tensor(f"{layer.name}.weight.{kind}", 1, master.elements)
            function(self.code, short, region, layer.channels, layer.outputs, taps)

    def _update(self):
        """All parameters."""
        regions = self.memory.regions
        for layer in self.network.layers:
            if isinstance(layer, Conv | Linear):
                name = f"{layer.name}.weight"
                weights.update(self.code, self.rule, regions[name], regions[f"{name}.velocity"], regions[f"{name}.gradient"], layer.outputs)
        pool = regions["vectors"]
        weights.update(self.code, self.rule, pool, regions["vectors.velocity"], regions["vectors.gradient"], pool.rows)

    def _product(self, x: Tensor, stationary: Tensor, result: Tensor, window: Window, k: int, n: int):
        """A convolution, or a product, which is one of images of a pixel."""
        if self.serialised:
            Convolution(self.code, x, stationary, result, window, k, n)
        else:
            products.product(self.code, x, stationary, result, m=window.rows, n=n, k=k, window=None if window.plain else window,
                             output="fp32" if result.planes == 2 else "bf16")

    # Forward

    def _forward(self, layer: Layer):
        """A layer's result from those before it."""
        code, regions, images, last = self.code, self.memory.regions, self.images[1] - self.images[0], layer is self.network.layers[-1]
        members = [self.layers[name] for name in self.group.layers]
        inputs = [self._fetch(self._result(name), sum(name in member.inputs for member in members)) for name in layer.inputs]
        pixels, result = self._pixels(layer.name), self._tensor(layer.name, layer.name, 2 if last else 1)
        self._stay(result, whole=None if self._read_later(layer.name) else regions[layer.name])
        match layer:
            case Conv():
                packed = regions[f"{layer.name}.weight.forward"]
                self._product(inputs[0], packed, result, self._window(layer), layer.channels, layer.outputs)
            case Norm():
                norm.forward(code, *self._norm(layer))
            case Add():
                elementwise.add_relu(code, inputs[0], inputs[1], result, self._mask(layer.name), images, pixels)
            case Pool():
                elementwise.pool(code, inputs[0], result, images, self._pixels(layer.inputs[0]))
            case WindowPool():
                pool = pooling.maximum if layer.kind == "max" else pooling.average
                pool(code, self._windows(layer), inputs[0], result)
            case Linear():
                sums, gradient = self._tensor(f"{layer.name}.sums", layer.name, 2), self._tensor(f"{layer.name}.by_result", layer.name)
                self._product(inputs[0], regions[f"{layer.name}.weight.forward"], sums, self._window(layer), layer.channels, layer.outputs)
                self._release({})
                cross_entropy(code, sums, regions[f"{layer.name}.bias"], result, self._part(regions["minus_wanted"], 1), gradient, images,
                              1 / self.batch)
                self.gradients[layer.name] = f"{layer.name}.by_result"

    def _window(self, layer: Conv | Linear) -> Window:
        """The window of a convolution over the sub-batch; of a product, whose samples are images of one pixel."""
        images = self.images[1] - self.images[0]
        if isinstance(layer, Linear):
            return Window(images=images, height=1, width=1, kernel=(1, 1))
        height, width, _ = self.shapes[layer.inputs[0]]
        return Window(images=images, height=height, width=width, kernel=(layer.kernel, layer.kernel), stride=layer.stride,
                      padding=(layer.pad, layer.pad, layer.pad, layer.pad))

    def _windows(self, layer: WindowPool) -> pooling.Windows:
        """The windows of a pooling over the sub-batch."""
        height, width, _ = self.shapes[layer.inputs[0]]
        return pooling.Windows(self.images[1] - self.images[0], height, width, layer.kernel, layer.stride)

    def _norm(self, layer: Norm) -> tuple[norm.NormShape, norm.NormTensors]:
        """What the phases of a normalisation need to know."""
        regions, images = self.memory.regions, self.images[1] - self.images[0]
        groups = norm.groups(self.config, layer.channels, layer.group)
        tensors = norm.NormTensors(
            y=self._result(layer.inputs[0]), result=self._result(layer.name), mask=self._mask(layer.name) if layer.relu else None,
            **{name: self._room(f"{layer.name}.{name}", groups, 1, 2) for name in ("minus_mean", "inverse")},
            **{name: regions[f"{layer.name}.{name}"] for name in ("gamma", "beta")})
        return norm.NormShape(images, self._pixels(layer.name), layer.group, layer.counted or layer.group, layer.relu), tensors

    # Backward

    def _backward(self, layer: Layer):
        """The gradients of a layer's input and parameters from that of its result."""
        code, source, images = self.code, layer.inputs[0], self.images[1] - self.images[0]
        gradient = self._fetch(self._gradient(layer.name), 1 + isinstance(layer, Conv | Linear))
        if isinstance(layer, Conv | Linear):
            self._weight_gradient(layer, gradient)
        if isinstance(layer, Linear):
            bias_gradient(code, gradient, self._into(f"{layer.name}.bias"), images)
        if source == INPUT:
            return
        back = self._tensor(f"{layer.name}.back", source)
        self._stay_until_read(back, f"{layer.name}.back", source, layer.inputs)
        pixels = self._pixels(source)
        match layer:
            case Linear():
                self._product(gradient, self.memory.regions[f"{layer.name}.weight.backward"], back, self._window(layer), layer.outputs,
                              layer.channels)
            case Pool():
                elementwise.pool_backward(code, gradient, back, images, pixels)
            case WindowPool(kind="max"):
                pooling.maximum_backward(code, self._windows(layer), gradient, self._result(source), self._result(layer.name), back)
            case WindowPool():
                pooling.average_backward(code, self._windows(layer), gradient, back)
            case Add():
                elementwise.masked(code, gradient, self._mask(layer.name), back, images, pixels)
                self._pass_on(layer.inputs[1], f"{layer.name}.back")
            case Norm():
                norm.backward(code, *self._norm(layer), gradient, back, self._into(f"{layer.name}.gamma"), self._into(f"{layer.name}.beta"))
            case Conv():
                self._data_gradient(layer, gradient, back)
        self._pass_on(source, f"{layer.name}.back")

    def _stay_until_read(self, tensor: Tensor, name: str, source: str, inputs: Sequence[str]):
        """Let a gradient stay on the chip, without a copy in memory if only this group reads it."""
        inside = all(one in self.group.layers for one in {source, *inputs})
        self._stay(tensor, whole=self.memory.regions[name] if inside else None)

    def _pass_on(self, name: str, region: str):
        """A gradient of a layer's result; where there are two, their sum."""
        if name in self.gradients:
            total, before = self._tensor(f"{region}.{name}", name), self._gradient(name)
            self._stay_until_read(total, f"{region}.{name}", name, ())
            elementwise.add(self.code, before, self._part(self.memory.regions[region], self._pixels(name)), total)
            region = f"{region}.{name}"
        self.gradients[name] = region

    def _gradient(self, name: str) -> Tensor:
        """The sub-batch's part of the gradient of a layer's result."""
        return self._part(self.memory.regions[self.gradients[name]], self._pixels(name))

    def _weight_gradient(self, layer: Conv | Linear, gradient: Tensor):
        """Of a convolution, or of a classifier."""
        window = self._window(layer)
        if window.rows % self.side:
            raise CompileError(f"{layer.name}: {window.images} samples give {window.rows} pixels, no multiple of array.side = {self.side}")
        rows, name = blocks_of(self.config, layer.outputs) * self.side, f"{layer.name}.exchanged.{window.images}"
        if name not in self.memory.regions:
            self.memory.tensor(name, window.rows // self.side, rows)
        exchanged = self.memory.regions[name]
        self._stay(exchanged, whole=exchanged)
        elementwise.transposed(self.code, gradient, exchanged, window.rows)
        WeightGradient(self.code, self._result(layer.inputs[0]), exchanged, self._into(f"{layer.name}.weight"), window, layer.channels)
        with suppress(KeyError):
            del self.code.residents[exchanged]

    def _data_gradient(self, layer: Conv, gradient: Tensor, back: Tensor):
        """A convolution of the gradient, zeros inserted for the stride, with the kernel turned round."""
        images, step, before = self.images[1] - self.images[0], layer.stride, layer.kernel - 1 - layer.pad
        (in_height, in_width, _), (out_height, out_width, _) = self.shapes[layer.inputs[0]], self.shapes[layer.name]
        height, width = out_height * step, out_width * step
        after = [size + layer.kernel - 1 - there - before for size, there in ((in_height, height), (in_width, width))]
        if min(before, *after) < 0:
            raise CompileError(f"{layer.name}: stride = {step} and pad = {layer.pad} of images of {in_height} x {in_width} pixels "
                               "give a data gradient that cannot be lowered")
        if step > 1:
            spread = self._room(f"{layer.name}.spread", blocks_of(self.config, layer.outputs), height * width)
            elementwise.spread(self.code, gradient, spread, images, out_height, out_width, step)
            gradient = spread
        window = Window(images=images, height=height, width=width, kernel=(layer.kernel, layer.kernel),
                        padding=(before, before, after[0], after[1]))
        self._product(gradient, self.memory.regions[f"{layer.name}.weight.backward"], back, window, layer.outputs, layer.channels)


def compile_step(config: Config, network: Network, batch: int, *, groups: Sequence[Group] | None = None, momentum: float = 0.9,
                 decay: float = 5e-4) -> TrainingProgram:
    """A training step of `batch` samples as one program. `groups`: of layers that sub-batches pass together; None: the whole batch goes
    through layer after layer. Raises CompileError, one line, for what the machine cannot hold, UserError for a network that does not fit
    together."""
    return Lowering(config, network, batch, groups, Rule(momentum, decay)).lower()

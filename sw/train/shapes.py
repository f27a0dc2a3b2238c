"""What a network's layers make of an image: sizes, and whether the network can be trained at all."""

from sw.runtime.errors import UserError
from sw.train.network import INPUT, Add, Conv, Layer, Linear, Network, Norm, Pool, WindowPool

Shape = tuple[int, ...]


def shapes(network: Network) -> dict[str, Shape]:
    """Of each layer's result, and of INPUT: (height, width, channels), behind a pool (channels,). Raises UserError naming network and layer
    where a layer does not fit what it reads."""
    found: dict[str, Shape] = {INPUT: network.image}
    for layer in network.layers:
        if layer.name in found:
            raise UserError(f"{network.name}: two layers are called {layer.name!r}")
        missing = [name for name in layer.inputs if name not in found]
        if missing or len(layer.inputs) != (2 if isinstance(layer, Add) else 1):
            raise UserError(f"{network.name}: {layer.name} reads {', '.join(missing or layer.inputs) or 'nothing'}, "
                            f"allowed: {'two layers' if isinstance(layer, Add) else 'one layer'} before it")
        try:
            found[layer.name] = _shape(layer, [found[name] for name in layer.inputs])
        except ValueError as error:
            raise UserError(f"{network.name}: {layer.name} {error}") from None
    read = {name for layer in network.layers for name in layer.inputs}
    idle = [layer.name for layer in network.layers[:-1] if layer.name not in read]
    if idle:
        raise UserError(f"{network.name}: no layer reads {idle[0]}")
    last = network.layers[-1] if network.layers else None
    if not isinstance(last, Linear) or last.outputs != network.classes:
        raise UserError(f"{network.name}: the last layer must be fully connected with {network.classes} outputs, one for each class")
    return found


def _shape(layer: Layer, inputs: list[Shape]) -> Shape:
    """The shape of one layer's result. Raises ValueError with what is wrong."""
    shape = inputs[0]
    match layer:
        case Conv() | Norm() | Pool() | WindowPool() if len(shape) != 3:
            raise ValueError("reads no image, but what is behind a pool")
        case Linear() if len(shape) != 1:
            raise ValueError("reads an image: a pool must be between")
    if isinstance(layer, (Conv, Norm, Linear)) and layer.channels != shape[-1]:
        raise ValueError(f"is for {layer.channels} channels, not {shape[-1]}")
    match layer:
        case Conv():
            size = [(side + 2 * layer.pad - layer.kernel) // layer.stride + 1 for side in shape[:2]]
            if min(layer.kernel, layer.stride, layer.outputs) < 1 or layer.pad < 0 or min(size) < 1:
                raise ValueError(f"has a kernel of {layer.kernel}, stride {layer.stride}, padding {layer.pad} and {layer.outputs} outputs "
                                 f"on {shape}")
            if layer.pad >= layer.kernel:
                raise ValueError(f"has a padding of {layer.pad}, allowed: 0..{layer.kernel - 1}")
            return size[0], size[1], layer.outputs
        case Norm():
            if layer.group < 1 or layer.channels % layer.group or 0 < layer.counted < layer.group:
                raise ValueError(f"has groups of {layer.group} of {layer.channels} channels, allowed: what divides them")
        case Add():
            if shape != inputs[1]:
                raise ValueError(f"adds {shape} and {inputs[1]}")
        case Pool():
            return shape[-1:]
        case WindowPool():
            if layer.kind not in ("max", "average"):
                raise ValueError(f"has the kind {layer.kind!r}, allowed: max, average")
            if layer.stride < 1 or not 1 <= layer.kernel <= min(shape[:2]):
                raise ValueError(f"has a kernel of {layer.kernel} and stride {layer.stride} on {shape}")
            height, width = ((side - layer.kernel) // layer.stride + 1 for side in shape[:2])
            return height, width, shape[-1]
        case Linear():
            return (layer.outputs,)
        case _:
            raise ValueError("is a layer that is not known")
    return shape


def channels(network: Network) -> dict[str, int]:
    """Output channels of every convolution."""
    return {layer.name: layer.outputs for layer in network.layers if isinstance(layer, Conv)}


"""PyTorch modules as networks of ours: layers by tracing, parameters both ways, refusals by name; the engine `torch` and PyTorch itself.

PyTorch is an extra: without it these tests are skipped.
"""

import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed (make setup leaves it out: pip install -e '.[train]')")

from torch import nn  # noqa: E402  # pyright: ignore[reportMissingImports]
from torch.nn import functional  # noqa: E402  # pyright: ignore[reportMissingImports]

from sw.cli.main import main  # noqa: E402
from sw.golden import training  # noqa: E402
from sw.golden.float32 import narrow  # noqa: E402
from sw.runtime.errors import UserError  # noqa: E402
from sw.train import data, engines, models  # noqa: E402
from sw.train.data import batches  # noqa: E402
from sw.train.network import INPUT, Add, Conv, Linear, Norm, Pool, WindowPool, digits_resnet  # noqa: E402
from sw.train.torch_engine import TorchEngine, from_torch, plain_kernels, to_torch  # noqa: E402
from sw.train.torch_front import THEIRS, copy_back, network_of, parameters_of  # noqa: E402
from tb.sw.train_works import CONFIG, few, same, trainer  # noqa: E402

IMAGE = (8, 8, 1)


class Block(nn.Module):
    """A residual block in the words of PyTorch."""

    def __init__(self, channels: int, outputs: int):
        super().__init__()
        stride = outputs // channels
        self.conv1 = nn.Conv2d(channels, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.GroupNorm(outputs // 4, outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = nn.GroupNorm(outputs // 4, outputs)
        self.down = nn.Sequential(nn.Conv2d(channels, outputs, 1, stride, bias=False),
                                  nn.GroupNorm(outputs // 4, outputs)) if stride > 1 else nn.Identity()
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        out = functional.relu(self.norm1(self.conv1(x)))
        out = self.norm2(self.conv2(out))
        out += self.down(x)
        return self.relu(out)


class Residual(nn.Module):
    """The digits' network."""

    def __init__(self, width: int = 4):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, width, 3, padding=1, bias=False), nn.GroupNorm(1, width), nn.ReLU())
        self.body = nn.Sequential(Block(width, width), Block(width, 2 * width))
        self.pool, self.flat, self.head = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2 * width, 10)

    def forward(self, x):
        return self.head(self.flat(self.pool(self.body(self.stem(x)))))


class Plain(nn.Module):
    """Layers one behind the other; `tail` goes from activations to what Linear reads, `head` is the Linear."""

    def __init__(self, *layers: nn.Module, tail=lambda x: x.mean((2, 3)), channels: int = 8):
        super().__init__()
        self.layers, self.tail, self.head = nn.Sequential(*layers), tail, nn.Linear(channels, 10)

    def forward(self, x):
        return self.head(self.tail(self.layers(x)))


def conv(channels: int = 1, outputs: int = 8, **options) -> nn.Conv2d:
    """A convolution that is supported, but for `options`."""
    return nn.Conv2d(channels, outputs, 3, **{"padding": 1, "bias": False, **options})


def test_a_residual_network():
    """Layer by layer, as digits_resnet has them: only the names differ."""
    network = network_of(Residual(), "residual", IMAGE)
    assert [(type(layer), layer.name) for layer in network.layers] == [
        (Conv, "stem.0"), (Norm, "stem.1"),
        (Conv, "body.0.conv1"), (Norm, "body.0.norm1"), (Conv, "body.0.conv2"), (Norm, "body.0.norm2"), (Add, "add"),
        (Conv, "body.1.conv1"), (Norm, "body.1.norm1"), (Conv, "body.1.conv2"), (Norm, "body.1.norm2"),
        (Conv, "body.1.down.0"), (Norm, "body.1.down.1"), (Add, "add_1"), (Pool, "pool"), (Linear, "head")]
    ours = digits_resnet(width=4, group=4)
    names = {INPUT: INPUT} | {layer.name: other.name for layer, other in zip(network.layers, ours.layers)}
    for layer, other in zip(network.layers, ours.layers):
        assert tuple(names[name] for name in layer.inputs) == other.inputs
        fields, wanted = vars(layer) | {"name": other.name, "inputs": other.inputs}, vars(other)
        assert fields == wanted
    assert (network.classes, network.image) == (10, IMAGE)


def logits_of(module: nn.Module, images: np.ndarray) -> np.ndarray:
    """PyTorch's own."""
    with torch.no_grad():
        return module(torch.tensor(images.transpose(0, 3, 1, 2).copy())).numpy()


@pytest.mark.parametrize("module", [
    Residual(),
    Plain(conv(), nn.GroupNorm(2, 8), nn.ReLU(), nn.ReLU(), nn.Identity(), conv(8, stride=2)),
    Plain(conv(outputs=6), nn.GroupNorm(3, 6), tail=lambda x: torch.flatten(functional.adaptive_avg_pool2d(x, (1, 1)), 1), channels=6),
    Plain(conv(padding=0), tail=lambda x: torch.mean(x, [-1, -2], keepdim=True).flatten(1)),
    Plain(conv(), tail=lambda x: torch.add(x, x).relu().mean(dim=(2, 3))),
    Plain(conv(), nn.MaxPool2d(3, 2), conv(8), nn.AvgPool2d((2, 2), 1)),
], ids=["residual", "relus", "functions", "methods", "addition", "poolings"])
def test_the_same_function(module):
    """Logits of our engine with the module's parameters = PyTorch's."""
    network, images = network_of(module, "net", IMAGE), few().train_images
    found = TorchEngine(network).logits(parameters_of(module, network), images)
    np.testing.assert_allclose(found, logits_of(module, images), rtol=1e-4, atol=1e-5)


def test_parameters_both_ways():
    module = Residual()
    network = network_of(module, "net", IMAGE)
    before = {name: value.detach().clone() for name, value in module.named_parameters()}
    parameters = parameters_of(module, network)
    assert len(parameters) == len(before) and parameters["body.1.conv1.weight"].shape == (3, 3, 4, 8)
    weight = module.get_parameter("body.1.conv1.weight").detach()
    assert parameters["body.1.conv1.weight"][2, 0, 3, 7] == float(weight[7, 3, 2, 0])
    other = network.parameters(3)
    copy_back(module, network, other)
    same(parameters_of(module, network), other)
    copy_back(module, network, parameters)
    for name, value in module.named_parameters():
        assert torch.equal(value, before[name]), name
    for value in parameters.values():
        np.testing.assert_array_equal(from_torch(to_torch(value)), value)
    parameters["head.weight"] = parameters["head.weight"][:3]
    with pytest.raises(UserError, match=r"^net: head.weight is \(10, 3\), in the module \(10, 8\)$"):
        copy_back(module, network, other | {"head.weight": parameters["head.weight"]})
    assert torch.equal(module.get_parameter("stem.0.weight"), before["stem.0.weight"])


@pytest.mark.parametrize("module, message", [
    (Plain(conv(), nn.LPPool2d(2, 2)), "layers.1 (LPPool2d) is not supported"),
    (Plain(conv(), nn.MaxPool2d(2, padding=1)), "layers.1 (MaxPool2d) has a padding, a dilation or ceil_mode=True"),
    (Plain(conv(), nn.MaxPool2d(2, dilation=2)), "layers.1 (MaxPool2d) has a padding, a dilation or ceil_mode=True"),
    (Plain(conv(), nn.AvgPool2d(2, ceil_mode=True)), "layers.1 (AvgPool2d) has a padding, a dilation or ceil_mode=True"),
    (Plain(conv(), nn.AvgPool2d(2, divisor_override=3)), "layers.1 (AvgPool2d) returns indices or has a divisor of its own"),
    (Plain(conv(), nn.MaxPool2d((2, 3))), "layers.1 (MaxPool2d) has the kernel (2, 3), allowed: the same in both directions"),
    (Plain(conv(), nn.AvgPool2d(3, (1, 2))), "layers.1 (AvgPool2d) has the stride (1, 2), allowed: the same in both directions"),
    (Plain(conv(), nn.MaxPool2d(9)), "layers.1 has a kernel of 9 and stride 9 on (8, 8, 8)"),
    (Plain(conv(), nn.BatchNorm2d(8)), "layers.1 (BatchNorm2d) is not supported"),
    (Plain(conv(bias=True)), "layers.0 (Conv2d) has a bias, allowed: bias=False"),
    (Plain(conv(), conv(8, groups=2)), "layers.1 (Conv2d) has groups, a dilation or a padding that is not of zeros"),
    (Plain(conv(dilation=2)), "layers.0 (Conv2d) has groups, a dilation or a padding that is not of zeros"),
    (Plain(conv(padding="same")), "layers.0 (Conv2d) has padding='same', allowed: a number"),
    (Plain(conv(padding=(1, 0))), "layers.0 (Conv2d) has the padding (1, 0), allowed: the same in both directions"),
    (Plain(conv(), nn.ReLU()), "layers.1 (ReLU) must be behind a GroupNorm or an addition"),
    (Plain(conv(), nn.GroupNorm(2, 8, eps=1e-3)), "layers.1 (GroupNorm) must have weight and bias, and eps = 1e-05"),
    (Plain(conv(), nn.AdaptiveAvgPool2d(2)), "layers.1 (AdaptiveAvgPool2d) has the output size 2, allowed: 1"),
    (Plain(conv(), tail=lambda x: x.mean((1, 2))), "mean (mean) is over (1, 2), allowed: (2, 3), all pixels"),
    (Plain(conv(), tail=lambda x: (x + x).mean((2, 3))), "add (add) has no ReLU behind it alone, as an addition must"),
    (Plain(conv(), tail=lambda x: (x + 1).mean((2, 3))), "add (add) must add two results"),
    (Plain(conv(), tail=lambda x: torch.sigmoid(x).mean((2, 3))), "sigmoid (sigmoid) is not supported"),
    (Plain(conv(), tail=lambda x: x.flatten(1), channels=512),
     "flatten (flatten) must flatten from dimension 1 on, behind the mean of all pixels"),
    (Plain(conv(), conv(4)), "layers.1 is for 4 channels, not 8"),
    (nn.Sequential(conv()), "the result must be that of a Linear layer at the end"),
])
def test_refused(module, message):
    with pytest.raises(UserError) as error:
        network_of(module, "net", IMAGE)
    assert str(error.value) == f"net: {message}"


class Nested(nn.Module):
    """A function that is not supported, two modules down."""

    def __init__(self):
        super().__init__()
        self.outer = nn.Sequential(conv(), Inner())

    def forward(self, x):
        return self.outer(x)


class Inner(nn.Module):
    def forward(self, x):
        return torch.tanh(x)


class Branching(nn.Module):
    """What tracing cannot follow."""

    def forward(self, x):
        return x if x.sum() > 0 else -x


class Twice(nn.Module):
    """One layer in two places."""

    def __init__(self):
        super().__init__()
        self.conv = conv(1, 1)

    def forward(self, x):
        return self.conv(self.conv(x))


class Shared(nn.Module):
    """A normalisation that is read with its ReLU and without."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.head = conv(), nn.GroupNorm(1, 8), nn.Linear(8, 10)

    def forward(self, x):
        y = self.norm(self.conv(x))
        return self.head(functional.relu(y + functional.relu(y)).mean((2, 3)))


@pytest.mark.parametrize("module, message", [
    (Nested(), "net: outer.1.tanh (tanh) is not supported"),
    (Branching(), "net: it cannot be traced: TraceError: symbolically traced variables cannot be used as inputs to control flow"),
    (Twice(), "net: conv (Conv2d) is used twice"),
    (Shared(), "net: relu (relu) is not all that reads norm"),
])
def test_refused_modules(module, message):
    with pytest.raises(UserError) as error:
        network_of(module, "net", IMAGE)
    assert str(error.value) == message


def test_a_run_is_that_of_pytorch():
    """Three epochs: PyTorch's own layers, loss and optimiser over the same order of images."""
    module, images = Residual(), few()
    network = network_of(module, "net", IMAGE)
    run = trainer(network, images, engine="torch", epochs=3, batch=16, seed=9)
    copy_back(module, network, run.parameters)
    optimiser = torch.optim.SGD(module.parameters(), lr=1.0, momentum=0.9, weight_decay=5e-4)
    losses = []
    for epoch in range(3):
        for number, (x, labels) in enumerate(batches(images, batch=16, seed=9, epoch=epoch)):
            for group in optimiser.param_groups:
                # Half of 0.05; from the second epoch on half a cosine of four steps.
                group["lr"] = 0.025 if not epoch else 0.025 * (1 + np.cos(np.pi * (2 * epoch + number - 2) / 4)) / 2
            with plain_kernels():
                loss = functional.cross_entropy(module(torch.tensor(x.transpose(0, 3, 1, 2).copy())), torch.tensor(labels))
                optimiser.zero_grad()
                loss.backward()
            optimiser.step()
            losses.append(float(loss.detach()))
    run.run()
    np.testing.assert_allclose([epoch.loss for epoch in run.history], np.reshape(losses, (3, 2)).mean(axis=1), rtol=1e-4)
    for name, value in parameters_of(module, network).items():
        np.testing.assert_allclose(run.parameters[name], value, rtol=1e-3, atol=1e-4, err_msg=name)


def test_gradients_beside_the_golden_engine():
    """bf16 numbers beside fp32: the same directions."""
    x, labels = next(batches(few(), batch=16, seed=0, epoch=0))
    golden, ours = (trainer(engine=engine).gradients(x, labels)[1] for engine in ("golden", "torch"))
    assert golden.keys() == ours.keys()
    for name in golden:
        size = np.linalg.norm(golden[name]) * np.linalg.norm(ours[name])
        assert (golden[name].astype(float) * ours[name]).sum() / size > 0.995, name


@pytest.mark.parametrize("kind", ["max", "average"])
@pytest.mark.parametrize(("size", "kernel", "stride"), [(8, 2, 2), (9, 3, 2), (7, 2, 3)])
def test_golden_poolings_beside_autograd(kind, size, kernel, stride):
    """Values and gradients of one pooling; no two pixels are equal."""
    print("seed 6")
    rng = np.random.default_rng(6)
    x = narrow((rng.permutation(size * size * 3) / 128 - 1).astype(np.float32).reshape(1, size, size, 3))
    given = torch.tensor(x.transpose(0, 3, 1, 2).copy(), requires_grad=True)
    result = (functional.max_pool2d if kind == "max" else functional.avg_pool2d)(given, kernel, stride)
    gradient = narrow(rng.standard_normal(tuple(result.shape)).astype(np.float32))
    result.backward(torch.tensor(gradient))
    gradient = gradient.transpose(0, 2, 3, 1)
    if kind == "max":
        y = training.max_pool(x, kernel, stride)
        back = training.max_pool_backward(gradient, x, y, kernel, stride)
    else:
        y, back = training.average_pool(x, kernel, stride), training.average_pool_backward(gradient, x.shape, kernel, stride)
    assert given.grad is not None
    for found, wanted in ((y, result.detach()), (back, given.grad)):
        np.testing.assert_allclose(found.transpose(0, 3, 1, 2), wanted.numpy(), rtol=2.0**-8, atol=1e-6)


def test_gradients_of_a_network_with_poolings():
    """PyTorch's own of the module, those of the engine `torch`, and in their direction the golden engine's."""
    module = Plain(conv(), nn.GroupNorm(2, 8), nn.MaxPool2d(3, 2), conv(8), nn.GroupNorm(2, 8), nn.ReLU(), nn.AvgPool2d(2, 1))
    network = network_of(module, "net", IMAGE)
    pools = [layer for layer in network.layers if isinstance(layer, WindowPool)]
    assert pools == [WindowPool("layers.2", ("layers.1",), "max", 3, 2), WindowPool("layers.6", ("layers.4",), "average", 2, 1)]
    x, labels = next(batches(few(), batch=16, seed=0, epoch=0))
    parameters = parameters_of(module, network)
    with plain_kernels():
        functional.cross_entropy(module(torch.tensor(x.transpose(0, 3, 1, 2).copy())), torch.tensor(labels)).backward()
    wanted = {name: from_torch(value.grad) for name, value in module.named_parameters() if value.grad is not None}
    golden, ours = (engines.engine(engine, CONFIG)(network).gradients(parameters, x, labels, 1 / 16)[1] for engine in ("golden", "torch"))
    renamed = {f"{name}.{THEIRS[part]}": (name, part) for name, part in (key.rsplit(".", 1) for key in parameters)}
    for key, value in wanted.items():
        name = ".".join(renamed[key])
        np.testing.assert_allclose(ours[name], value, rtol=1e-3, atol=1e-5, err_msg=name)
        size = np.linalg.norm(golden[name]) * np.linalg.norm(value)
        assert (golden[name].astype(float) * value).sum() / size > 0.99, name


def test_channels_that_pruning_took_out():
    """A normalisation that counts channels of zeros which are gone: the same as with them."""
    whole = (Conv("c", (INPUT,), 1, 8), Norm("n", ("c",), 8, 8, relu=True), Pool("p", ("n",)), Linear("l", ("p",), 8, 10))
    less = (Conv("c", (INPUT,), 1, 5), Norm("n", ("c",), 5, 5, relu=True, counted=8), Pool("p", ("n",)), Linear("l", ("p",), 5, 10))
    from sw.train.network import Network

    network, smaller = Network("w", IMAGE, whole), Network("s", IMAGE, less)
    parameters = network.parameters(1)
    parameters["c.weight"][..., 5:] = 0
    parameters["l.weight"][5:] = 0
    kept = {name: np.ascontiguousarray(value[:5] if name == "l.weight" else value if name == "l.bias" else value[..., :5])
            for name, value in parameters.items()}
    images = few().train_images
    wanted = TorchEngine(network).logits(parameters, images)
    np.testing.assert_allclose(TorchEngine(smaller).logits(kept, images), wanted, rtol=1e-4, atol=1e-5)


def test_a_module_on_the_command_line(tmp_path, monkeypatch, capsys):
    """With parameters of its own, the same in each run of a seed."""
    monkeypatch.setitem(data.DATA, "few", few)
    (tmp_path / "torch_model.py").write_text(
        "from torch import nn\n"
        "def make():\n"
        "    return nn.Sequential(nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.GroupNorm(2, 8), nn.ReLU(), nn.AdaptiveAvgPool2d(1),\n"
        "                         nn.Flatten(), nn.Linear(8, 10))\n")
    monkeypatch.chdir(tmp_path)
    texts = []
    for seed in "112":
        for engine in ("golden", "torch"):
            argv = ["train", "torch_model:make", "--data", "few", "--epochs", "1", "--batch", "16", "--seed", seed, "--engine", engine]
            assert main(argv) == 0
            texts.append(capsys.readouterr().out)
    assert texts[0] == texts[2] != texts[4] and texts[1] == texts[3]
    one, two, other = (models.load("torch_model:make", few(), seed=seed)[1] for seed in (1, 1, 2))
    assert one and two and other
    same(one, two)
    assert (one["0.weight"] != other["0.weight"]).any()
    del sys.modules["torch_model"]

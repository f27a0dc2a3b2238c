"""Networks that are a chain of layers: AlexNet and VGG-16 at ImageNet shapes, VGG-8 and VGG-11 at CIFAR shapes."""

from collections.abc import Iterable
from fractions import Fraction

from sw.workloads.builder import Builder, Pair
from sw.workloads.network import Network

# Output channels of the 3x3 convolutions; a "M" halves the image.
VGG = {
    "vgg16": (64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512, "M"),
    "vgg11": (64, "M", 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M"),
    "vgg8": (64, "M", 128, "M", 256, "M", 512, "M", 512, "M"),
}


def alexnet(factor: Fraction = Fraction(1)) -> Network:
    """AlexNet for one device: 64, 192, 384, 256, 256 channels, no groups."""
    build = Builder("alexnet", (3, 224, 224), factor=factor)
    last = build.conv("input", 64, 11, stride=4, padding=2, norm=False, name="conv1")
    last = build.conv(build.pool(last, "max", 3, 2), 192, 5, norm=False, name="conv2")
    last = build.conv(build.pool(last, "max", 3, 2), 384, 3, norm=False, name="conv3")
    last = build.conv(last, 256, 3, norm=False, name="conv4")
    last = build.conv(last, 256, 3, norm=False, name="conv5")
    last = build.linear(build.pool(last, "max", 3, 2), 4096, relu=True, name="fc1")
    build.linear(build.linear(last, 4096, relu=True, name="fc2"), 1000, name="fc3")
    return build.network()


def vgg16(factor: Fraction = Fraction(1)) -> Network:
    """VGG-16 without normalisation."""
    build = Builder("vgg16", (3, 224, 224), factor=factor)
    last = _convolutions(build, "vgg16", norm=False)
    last = build.linear(last, 4096, relu=True, name="fc1")
    build.linear(build.linear(last, 4096, relu=True, name="fc2"), 1000, name="fc3")
    return build.network()


def vgg_cifar(name: str, factor: Fraction = Fraction(1), *, classes: int = 100, pruned: Iterable[Pair] | None = None) -> Network:
    """VGG-8 or VGG-11 for images of 32 x 32 with one fully connected layer. `pruned`: channels read and made by each convolution."""
    build = Builder(name, (3, 32, 32), factor=factor, pruned=pruned)
    build.linear(_convolutions(build, name, norm=True), classes)
    return build.network()


def _convolutions(build: Builder, name: str, norm: bool) -> str:
    last, number = "input", 0
    for item in VGG[name]:
        if isinstance(item, int):
            number += 1
            last = build.conv(last, item, 3, norm=norm, bias=True, name=f"conv{number}")
        else:
            last = build.pool(last, "max", 2, 2)
    return last

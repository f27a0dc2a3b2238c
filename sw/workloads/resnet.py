"""ResNet-50, -101 and -152 at ImageNet shapes (bottlenecks with the stride in the 3x3, "v1.5")."""

from collections.abc import Iterable
from fractions import Fraction

from sw.workloads.builder import Builder, Pair
from sw.workloads.network import Network

BLOCKS = {"resnet50": (3, 4, 6, 3), "resnet101": (3, 4, 23, 3), "resnet152": (3, 8, 36, 3)}
EXPANSION = 4
CLASSES = 1000


def resnet(name: str, factor: Fraction = Fraction(1), *, pruned: Iterable[Pair] | None = None, features: int | None = None) -> Network:
    """One of `BLOCKS`. `pruned`: channels read and made by each convolution, block by block, the short cut's last; `features`: by the
    classifier."""
    build = Builder(name, (3, 224, 224), factor=factor, pruned=pruned)
    last = build.conv("input", 64, 7, stride=2, name="conv1")
    last = build.pool(last, "max", 3, 2, 1)
    for stage, blocks in enumerate(BLOCKS[name]):
        width = 64 << stage
        for block in range(blocks):
            with build.scope(f"stage{stage + 1}.block{block + 1}"):
                source, stride = last, 2 if stage and not block else 1
                last = build.conv(source, width, 1, name="conv1")
                last = build.conv(last, width, 3, stride=stride, name="conv2")
                last = build.conv(last, EXPANSION * width, 1, relu=False, name="conv3")
                if not block:
                    source = build.conv(source, EXPANSION * width, 1, stride=stride, relu=False, name="shortcut")
                last = build.add(last, source, relu=True)
    build.linear(build.pool(last, "average"), CLASSES, features=features)
    return build.network()

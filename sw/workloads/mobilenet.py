"""MobileNet v2 at ImageNet shapes: inverted residuals with depthwise convolutions."""

from fractions import Fraction

from sw.workloads.builder import Builder
from sw.workloads.network import Network

# Expansion, channels, blocks, stride of the first one.
STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


def mobilenet_v2(factor: Fraction = Fraction(1)) -> Network:
    """MobileNet v2; the factor scales every convolution, its last one too."""
    build = Builder("mobilenet_v2", (3, 224, 224), factor=factor)
    last, channels = build.conv("input", 32, 3, stride=2, name="conv1"), 32
    for stage, (expansion, width, blocks, stride) in enumerate(STAGES, 1):
        for block in range(blocks):
            with build.scope(f"stage{stage}.block{block + 1}"):
                source = last
                if expansion > 1:
                    last = build.conv(last, expansion * channels, 1, name="expand")
                last = build.conv(last, expansion * channels, 3, stride=1 if block else stride, depthwise=True, name="depthwise")
                last = build.conv(last, width, 1, relu=False, name="project")
                if block:
                    last = build.add(last, source)
            channels = width
    last = build.conv(last, 1280, 1, name="conv2")
    build.linear(build.pool(last, "average"), 1000)
    return build.network()

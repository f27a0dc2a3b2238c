"""Inception v3 and v4 at 299 x 299, without the auxiliary classifier.

A branch is a chain of convolutions (channels, kernel[, stride, padding]), after a pooling if it begins with one; the results are
concatenated. In v3's and v4's last modules a branch forks once more.
"""

from fractions import Fraction

from sw.workloads.builder import Builder
from sw.workloads.network import Network

AVERAGE, MAX = "average", "max"
ROW, COLUMN = (1, 3), (3, 1)                # height and width of a kernel
LONG_ROW, LONG_COLUMN = (1, 7), (7, 1)


def inception_v3(factor: Fraction = Fraction(1)) -> Network:
    """Inception v3."""
    build = Builder("inception_v3", (3, 299, 299), factor=factor)
    last = _chain(build, "input", (32, 3, 2, 0), (32, 3, 1, 0), (64, 3))
    last = build.pool(last, MAX, 3, 2)
    last = _chain(build, last, (80, 1), (192, 3, 1, 0))
    last = build.pool(last, MAX, 3, 2)
    for number, pooled in enumerate((32, 64, 64), 1):
        last = _module(build, f"a{number}", last, [(64, 1)], [(48, 1), (64, 5)], [(64, 1), (96, 3), (96, 3)], [AVERAGE, (pooled, 1)])
    last = _module(build, "b1", last, [(384, 3, 2, 0)], [(64, 1), (96, 3), (96, 3, 2, 0)], [MAX])
    for number, width in enumerate((128, 160, 160, 192), 1):
        last = _module(build, f"c{number}", last, [(192, 1)], [(width, 1), (width, LONG_ROW), (192, LONG_COLUMN)],
                       [(width, 1), (width, LONG_COLUMN), (width, LONG_ROW), (width, LONG_COLUMN), (192, LONG_ROW)], [AVERAGE, (192, 1)])
    last = _module(build, "d1", last, [(192, 1), (320, 3, 2, 0)], [(192, 1), (192, LONG_ROW), (192, LONG_COLUMN), (192, 3, 2, 0)], [MAX])
    for number in (1, 2):
        last = _module(build, f"e{number}", last, [(320, 1)], [(384, 1), [(384, ROW), (384, COLUMN)]],
                       [(448, 1), (384, 3), [(384, ROW), (384, COLUMN)]], [AVERAGE, (192, 1)])
    build.linear(build.pool(last, AVERAGE), 1000)
    return build.network()


def inception_v4(factor: Fraction = Fraction(1)) -> Network:
    """Inception v4."""
    build = Builder("inception_v4", (3, 299, 299), factor=factor)
    last = _chain(build, "input", (32, 3, 2, 0), (32, 3, 1, 0), (64, 3))
    last = _module(build, "stem1", last, [MAX], [(96, 3, 2, 0)])
    last = _module(build, "stem2", last, [(64, 1), (96, 3, 1, 0)], [(64, 1), (64, LONG_ROW), (64, LONG_COLUMN), (96, 3, 1, 0)])
    last = _module(build, "stem3", last, [(192, 3, 2, 0)], [MAX])
    for number in range(1, 5):
        last = _module(build, f"a{number}", last, [(96, 1)], [(64, 1), (96, 3)], [(64, 1), (96, 3), (96, 3)], [AVERAGE, (96, 1)])
    last = _module(build, "reduce1", last, [(384, 3, 2, 0)], [(192, 1), (224, 3), (256, 3, 2, 0)], [MAX])
    for number in range(1, 8):
        last = _module(build, f"b{number}", last, [(384, 1)], [(192, 1), (224, LONG_ROW), (256, LONG_COLUMN)],
                       [(192, 1), (192, LONG_COLUMN), (224, LONG_ROW), (224, LONG_COLUMN), (256, LONG_ROW)], [AVERAGE, (128, 1)])
    last = _module(build, "reduce2", last, [(192, 1), (192, 3, 2, 0)],
                   [(256, 1), (256, LONG_ROW), (320, LONG_COLUMN), (320, 3, 2, 0)], [MAX])
    for number in range(1, 4):
        last = _module(build, f"c{number}", last, [(256, 1)], [(384, 1), [(256, ROW), (256, COLUMN)]],
                       [(384, 1), (448, COLUMN), (512, ROW), [(256, ROW), (256, COLUMN)]], [AVERAGE, (256, 1)])
    build.linear(build.pool(last, AVERAGE), 1000)
    return build.network()


def _chain(build: Builder, source: str, *convolutions) -> str:
    """Convolutions one after the other; those without a padding keep the size."""
    for channels, kernel, *rest in convolutions:
        stride, padding = rest or (1, None)
        source = build.conv(source, channels, kernel, stride=stride, padding=padding)
    return source


def _module(build: Builder, name: str, source: str, *branches) -> str:
    """Branches side by side. A pooling alone halves the image, one before a convolution keeps it; a list within a branch is a fork."""
    results = []
    with build.scope(name):
        for number, branch in enumerate(branches, 1):
            with build.scope(f"branch{number}"):
                last = source
                for step in branch:
                    if step == MAX:
                        last = build.pool(last, MAX, 3, 2)
                    elif step == AVERAGE:
                        last = build.pool(last, AVERAGE, 3, 1, 1)
                    elif isinstance(step, list):
                        results += [_chain(build, last, fork) for fork in step]
                        last = ""
                    else:
                        last = _chain(build, last, step)
                if last:
                    results.append(last)
        return build.concat(*results)

"""Ideal cycles: single products worked out by hand from the tall/wide rule, and whole networks."""

from collections import Counter

import pytest

from gen.config import Config
from gen.isa import Mode
from sw.model.ideal import ideal
from sw.workloads.catalogue import network
from sw.workloads.network import Conv
from sw.workloads.products import Phase, products_of

ORGANISATIONS = ("1G1C", "1G4C", "4G4C", "1G1F", "4G1F")
PAPER = Config.load("paper")        # 128 x 128 PEs

# M, N, K: cycles of 1G1C, 1G4C, 1G1F; moving words of 1G1C (1G1F has the same), 1G4C.
PRODUCTS = {
    (256, 128, 128): (256, 256, 256, 32768, 65536),
    (256, 64, 128): (256, 128, 128, 32768, 32768),
    (256, 128, 64): (256, 128, 128, 16384, 32768),
    (256, 64, 64): (256, 64, 64, 16384, 16384),
    (256, 65, 65): (256, 256, 256, 16640, 33280),
    (256, 192, 192): (1024, 576, 576, 98304, 147456),
    (100352, 64, 576): (501760, 225792, 225792, 57802752, 57802752),
    (576, 64, 100352): (451584, 225792, 225792, 57802752, 57802752),
    (25088, 128, 1152): (225792, 225792, 225792, 28901376, 57802752),
}
# Network, batch, with the classifier?: utilisation in each organisation; share of 1G1F's cycles in FW, VSW, HSW, ISW.
STEPS = {
    ("vgg11", 128, False): ((.924, .995, .999, .995, .999), (.941, .045, .005, .009)),
    ("vgg11@prunetrain:0.2:30", 128, False): ((.827, .924, .947, .924, .947), (.903, .075, .011, .010)),
    ("vgg11@prunetrain:0.2:180", 128, False): ((.740, .838, .897, .838, .897), (.893, .082, .012, .013)),
    ("resnet50", 32, True): ((.851, .996, .996, .996, .996), (.851, .114, .024, .011)),
    ("resnet50@0.75", 32, False): ((.648, .884, .946, .884, .946), (.707, .217, .040, .035)),
    ("resnet50@0.5", 32, False): ((.545, .845, .995, .845, .995), (.538, .352, .065, .045)),
}


@pytest.mark.parametrize("sizes", PRODUCTS)
def test_products(sizes):
    single, quad, flex = (ideal(PAPER.organise(name), *sizes) for name in ("1G1C", "1G4C", "1G1F"))
    assert (single.cycles, quad.cycles, flex.cycles, single.moving_words, quad.moving_words) == PRODUCTS[sizes]
    assert flex.moving_words == single.moving_words


def test_modes():
    assert ideal(PAPER, 256, 192, 192).modes == {Mode.FW: 256, Mode.VSW: 128, Mode.HSW: 128, Mode.ISW: 64}
    assert ideal(PAPER, 256, 64, 576).modes == {Mode.VSW: 512, Mode.ISW: 64}


@pytest.mark.parametrize("name, batch, classifier", STEPS)
def test_training_steps(name, batch, classifier):
    built = network(name)
    products = [item for item in products_of(built, batch, training=True) if classifier or isinstance(built.by_name[item.layer], Conv)]
    utilisation, modes = [], Counter()
    for organisation in ORGANISATIONS:
        config, cycles = PAPER.organise(organisation), 0
        for item in products:
            found = ideal(config, item.m, item.n, item.k, split_k=item.phase is Phase.WEIGHT_GRADIENT)
            cycles += found.cycles * item.groups
            if organisation == "1G1F":
                modes.update({mode: count * item.groups for mode, count in found.modes.items()})
        utilisation.append(round(sum(item.macs for item in products) / (cycles * PAPER.pes), 3))
    assert tuple(utilisation) == STEPS[name, batch, classifier][0]
    assert tuple(round(modes[mode] / modes.total(), 3) for mode in Mode) == STEPS[name, batch, classifier][1]


def test_laws():
    """FlexSA takes no more cycles than one large array, moves as many words, and with rows for all parts is as fast as four small ones."""
    for m in (1, 3, 64, 100, 257):
        for n in (1, 63, 64, 65, 128, 129, 200):
            for k in (1, 64, 65, 128, 300):
                single, quad, flex = (ideal(PAPER.organise(name), m, n, k) for name in ("1G1C", "1G4C", "1G1F"))
                assert flex.cycles <= single.cycles
                assert flex.moving_words == single.moving_words <= quad.moving_words
                if m % 4 == 0:
                    assert flex.cycles == quad.cycles

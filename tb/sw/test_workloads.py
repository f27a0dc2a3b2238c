"""The built-in networks against published counts, and PruneTrain's series against its authors' logs."""

import pytest

from sw.workloads.catalogue import NETWORKS, network
from sw.workloads.network import Add, Concat, Conv, Layer, Network, NetworkError
from sw.workloads.products import Phase, product_of, products_of
from sw.workloads.prunetrain import norm_accesses, series, training_macs

# Trained parameters: torchvision's models, without auxiliary classifiers (Inception v4: timm's). Multiply-adds: ResNet-50 and the VGGs for
# CIFAR as PruneTrain's authors count them.
PARAMETERS = {
    "resnet50": 25_557_032, "resnet101": 44_549_160, "resnet152": 60_192_808, "inception_v3": 23_834_568, "inception_v4": 42_679_816,
    "alexnet": 61_100_840, "mobilenet_v2": 3_504_872, "vgg16": 138_357_544,
}
MACS = {"resnet50": 4_089_184_256, "vgg11": 152_815_616, "vgg8": 67_880_960}

# Percent of dense: training step, inference (the authors' channels and cost model; the first convolution 7x7 on both sides).
RESNET50_PERCENT = {
    ("0.1", "90"): (85.2, 84.5), ("0.2", "10"): (83.8, 83.0), ("0.2", "30"): (64.9, 63.0), ("0.2", "50"): (61.0, 58.6),
    ("0.2", "90"): (60.3, 57.8), ("0.3", "10"): (50.0, 47.2), ("0.3", "20"): (40.8, 37.4), ("0.3", "30"): (37.9, 34.2),
    ("0.3", "50"): (35.3, 31.3), ("0.3", "90"): (34.7, 30.7),
}
# Training of an epoch (50,000 samples) and inference of a sample, from the log of the run.
VGG11_LOG = {
    0: (31147046400000, 152815616), 10: (31074966600000, 152574700), 20: (28595925600000, 142007560), 30: (24629867400000, 123725564),
    40: (22041823200000, 111672280), 50: (20644053000000, 105001300), 60: (19393964400000, 98903720), 70: (18764299200000, 95942312),
    80: (18060780000000, 92302400), 90: (17639734800000, 90275060), 100: (17601133800000, 90105356), 110: (17580608400000, 90020684),
    120: (17548266000000, 89871968), 130: (17548266000000, 89871968), 140: (17502558600000, 89590880), 150: (17500005600000, 89582320),
    160: (17485656000000, 89518276), 170: (17485656000000, 89518276), 180: (17485656000000, 89518276),
}
IMAGENET, EPOCHS = 1_281_167, 90


@pytest.mark.parametrize("name", NETWORKS)
def test_counts(name):
    built = network(name)
    assert built.parameters == PARAMETERS.get(name, built.parameters)
    assert built.macs == MACS.get(name, built.macs)
    assert name in PARAMETERS or name in MACS


def test_every_layer_reads_what_is_there():
    for name in NETWORKS:
        built = network(name)
        for layer in built.layers:
            shapes = [built.shape_of(source) for source in layer.inputs]
            if isinstance(layer, Conv):
                assert layer.source == shapes[0], (name, layer.name)
            if isinstance(layer, Add):
                assert set(shapes) == {layer.shape}, (name, layer.name)
            if isinstance(layer, Concat):
                assert sum(shape[0] for shape in shapes) == layer.shape[0], (name, layer.name)
                assert {shape[1:] for shape in shapes} == {layer.shape[1:]}, (name, layer.name)


def test_multiplier_rounds_to_the_nearest():
    convolutions = [layer for layer in network("vgg16@0.33").layers if isinstance(layer, Conv)]
    assert [layer.shape[0] for layer in convolutions] == [21, 21, 42, 42, 84, 84, 84, 169, 169, 169, 169, 169, 169]
    assert convolutions[0].source[0] == 3
    depthwise = [layer for layer in network("mobilenet_v2@0.75").layers if isinstance(layer, Conv) and layer.depthwise]
    assert [layer.shape[0] for layer in depthwise[:4]] == [24, 72, 108, 108]


@pytest.mark.parametrize("ratio, epoch", RESNET50_PERCENT)
def test_prunetrain_resnet50(ratio, epoch):
    dense, pruned = network("resnet50"), network(f"resnet50@prunetrain:{ratio}:{epoch}")
    found = 100 * training_macs(pruned) / training_macs(dense), 100 * pruned.macs / dense.macs
    assert tuple(round(value, 1) for value in found) == RESNET50_PERCENT[ratio, epoch]


@pytest.mark.parametrize("epoch", VGG11_LOG)
def test_prunetrain_vgg11(epoch):
    pruned = network(f"vgg11@prunetrain:0.2:{epoch}")
    assert (50_000 * training_macs(pruned), pruned.macs) == VGG11_LOG[epoch]


def test_prunetrain_totals():
    """90 epochs of ImageNet: the authors' log prints 3,516.26986 PFLOP, and 18.21 PB (2**50) of normalisation in 16 bits."""
    dense, samples = network("resnet50"), EPOCHS * IMAGENET
    assert round(2 * training_macs(dense, samples) / 1e15, 5) == 3516.26986
    assert round(2 * norm_accesses(dense, samples) / 2**50, 2) == 18.21


def test_every_series_builds():
    assert len(series()) == 38
    for name, ratio, epoch in series():
        assert network(f"{name}@prunetrain:{ratio}:{epoch}").macs < network(name).macs or epoch == "0"


def test_products_of_a_strided_convolution():
    conv = Conv(
        name="c", inputs=("input",), source=(6, 9, 7), shape=(8, 5, 4), kernel=(3, 3), stride=(2, 2), padding=(1, 1, 1, 1), groups=2)
    products = [product_of(conv, phase, 10) for phase in Phase]
    assert [(item.m, item.n, item.k, item.groups) for item in products] == [(200, 4, 27, 2), (630, 3, 36, 2), (27, 4, 200, 2)]
    assert products[0].macs == 10 * conv.macs


def test_products_of_a_step():
    """Forward in order, then backwards; the first layer has no data gradient. In all three phases a layer of stride 1 has equal work."""
    found = list(products_of(network("vgg11"), 4, training=True))
    assert [(item.layer, item.phase) for item in found[:9]] == [(f"conv{i}", "forward") for i in range(1, 9)] + [("fc", "forward")]
    assert [(item.layer, item.phase) for item in found[9:12]] == [
        ("fc", "weight-gradient"), ("fc", "data-gradient"), ("conv8", "weight-gradient")]
    assert (found[-1].layer, found[-1].phase, len(found)) == ("conv1", "weight-gradient", 9 + 9 + 8)
    assert sum(item.macs for item in found) == 4 * (3 * 152_815_616 - 9 * 3 * 64 * 32 * 32)


@pytest.mark.parametrize("text, message", [
    ("nosuch", "network 'nosuch' is none of resnet50, "),
    ("vgg11@fast", "multiplier = 'fast' is no number"),
    ("vgg11@0", "multiplier = 0 is outside 1/16..4"),
    ("vgg11@1/0", "multiplier = '1/0' is no number"),
    ("resnet50@prunetrain:0.4:90", "resnet50@prunetrain: ratio = '0.4' is none of 0.1, 0.2, 0.3"),
    ("resnet50@prunetrain:0.3:70", "resnet50@prunetrain:0.3: epoch = '70' is none of 10, 20, 30, 50, 90"),
    ("alexnet@prunetrain:0.3:70", "alexnet has no pruned series; resnet50, vgg11, vgg8 have"),
    ("resnet50@prunetrain", "'resnet50@prunetrain' must be resnet50@prunetrain:RATIO:EPOCH"),
])
def test_refusals(text, message):
    with pytest.raises(NetworkError) as error:
        network(text)
    assert str(error.value).startswith(message)


def test_impossible_networks():
    layer = Layer(name="a", inputs=("input",), shape=(1, 1, 1))
    for layers, message in (((layer, layer), "a: there are two layers of this name"),
                            ((Layer(name="b", inputs=("a",), shape=(1, 1, 1)),), "b: its input 'a' is no layer before it"),
                            ((Layer(name="b", inputs=("input",), shape=(1, 0, 1)),), "b: shape = (1, 0, 1) must be positive")):
        with pytest.raises(NetworkError, match=message.replace("(", r"\(").replace(")", r"\)")):
            Network("n", (1, 1, 1), layers)
    with pytest.raises(NetworkError, match="c: output channels = 3 must be a multiple of groups = 2"):
        Conv(name="c", inputs=("input",), source=(2, 1, 1), shape=(3, 1, 1), kernel=(1, 1), groups=2)

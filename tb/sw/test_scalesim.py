"""SCALE-Sim's topologies: reading, refusals, its formulas on its own ResNet-50, and `flexwave compare`."""

import json

import pytest

from sw.cli.main import main
from sw.frontends.scalesim import (
    Row,
    TopologyError,
    input_stationary,
    output_stationary,
    overlapped,
    read_topology,
    weight_stationary,
)

HEADER = "Layer name, IFMAP Height, IFMAP Width, Filter Height, Filter Width, Channels, Num Filter, Strides,,,Eh\n,,,,,,,,,,\n"
# SCALE-Sim's ResNet-50 (its sizes: no padding, the stride in the first 1x1): image, kernel, channels, kernels, stride.
STAGES = {2: (56, 64, 256, "bc"), 3: (28, 128, 512, "bcd"), 4: (14, 256, 1024, "bcdef"), 5: (7, 512, 2048, "bc")}


def resnet50() -> str:
    """That file, written anew."""
    lines, size, channels = ["Conv1,224,224,7,7,3,64,2"], 56, 64
    for stage, (image, inner, outer, blocks) in STAGES.items():
        stride = size // image
        lines += [f"CB{stage}a_1,{size},{size},1,1,{channels},{inner},{stride}", f"CB{stage}a_2,{image},{image},3,3,{inner},{inner},1",
                  f"CB{stage}a_3,{image},{image},1,1,{inner},{outer},1", f"CB{stage}s,{size},{size},1,1,{channels},{outer},{stride}"]
        for block in blocks:
            lines += [f"IB{stage}{block}_{i},{image},{image},{kernel},{kernel},{read},{made},1"
                      for i, (kernel, read, made) in enumerate(((1, outer, inner), (3, inner, inner), (1, inner, outer)), 1)]
        size, channels = image, outer
    return HEADER + "".join(f"{line},,,,\n" for line in [*lines, "FC6,1,1,1,1,2048,1000,1"])


def test_resnet50_by_the_formulas():
    rows = read_topology(resnet50())
    assert len(rows) == 54
    assert sum(row.macs for row in rows) == 3_479_536_384
    wanted = {8: (63.19e6, 58.57e6, 57.00e6, 54.65e6), 16: (18.22e6, 15.68e6, 14.84e6, 13.75e6), 32: (5.754e6, 4.434e6, 3.972e6, 3.525e6),
              128: (876_886, 611_615, 482_686, 391_754)}
    for side, totals in wanted.items():
        by_kind = [[formula(row, side) for row in rows] for formula in (weight_stationary, output_stationary, input_stationary, overlapped)]
        found = (sum(by_kind[0]), sum(by_kind[1]), sum(map(min, *by_kind[:3])), sum(by_kind[3]))
        assert found == pytest.approx(totals, rel=6e-4 if side < 128 else 0)


def test_formulas_of_one_layer():
    """SCALE-Sim's own records, which are one less: 256 x 128 x 256 on 32 x 32, and AlexNet's first convolution."""
    row = Row("a", 256, 128, 256)
    assert [formula(row, 32) - 1 for formula in (weight_stationary, input_stationary, output_stationary)] == [11_199, 14_207, 10_175]
    assert weight_stationary(read_topology(HEADER + "c,227,227,11,11,3,96,4,\n")[0], 32) == 112_284


def test_reading():
    assert read_topology("Layer, M, N, K,\na , 10, 20,30\n\n,,\nb,1,2,3,1:1\n") == [Row("a", 10, 20, 30), Row("b", 1, 2, 3)]
    assert read_topology("Layer,M,N,K,Sparsity\na,10,20,30,1:4,\n") == [Row("a", 10, 20, 30)]
    assert read_topology(HEADER + "c,9,8,3,2,5,7,2,") == [Row("c", 4 * 4, 7, 30)]
    assert read_topology(HEADER + "c,10,10,3,3,1,1,4,") == [Row("c", 9, 1, 9)]      # the last position begun counts


@pytest.mark.parametrize("text, message", [
    ("", "line 1: the header is missing"),
    ("a,b,c\n1,2,3\n", "line 1: 3 columns, not 4 (name, M, N, K) or 8 (name, image height,"),
    ("n,M,N,K\n", "line 2: there is no layer"),
    ("n,M,N,K\nx,1,2\n", "line 2 (x): K is missing"),
    ("n,M,N,K\nx,1,,3\n", "line 2 (x): N is missing"),
    ("n,M,N,K\nx,1,2,3\ny,1,-2,3\n", "line 3 (y): N = -2 is outside 1..2147483647"),
    ("n,M,N,K\nx,1,2.5,3\n", "line 2 (x): N = '2.5' is not an integer in 1..2147483647"),
    (HEADER + "c,9,8,3,2,5,7\n", "line 3 (c): stride is missing"),
    (HEADER + "c,9,8,3,9,5,7,1\n", "line 3 (c): kernel width = 9 is outside 1..8, the image's"),
    (HEADER + "c,2,8,3,1,5,7,1\n", "line 3 (c): kernel height = 3 is outside 1..2, the image's"),
])
def test_refusals(text, message):
    with pytest.raises(TopologyError) as error:
        read_topology(text)
    assert str(error.value).startswith(message)


def test_compare(tmp_path, capsys):
    """One product as a layer of its own and among others costs the same; totals add up."""
    (tmp_path / "t.csv").write_text("Layer, M, N, K\na,100,20,30\nb,5,5,5\nc,100,20,30\n")
    assert main(["compare", str(tmp_path / "t.csv"), "--config", "small", "--json", "-"]) == 0
    report = json.loads(capsys.readouterr().out)
    first, _, last = report["layers"]
    assert {key: first[key] for key in first if key != "name"} == {key: last[key] for key in last if key != "name"}
    assert first["weight_stationary"] == 4 * 3 * (24 + 100 - 2)
    assert report["cycles"] == sum(layer["cycles"] for layer in report["layers"])
    assert report["macs"] == 2 * 100 * 20 * 30 + 125
    from gen.config import Config
    from sw.runtime.gemm import gemm, random_operands

    assert gemm(Config.load("small"), *random_operands(100, 20, 30, 0), engine="model").cycles == first["cycles"]
    assert main(["compare", str(tmp_path / "t.csv"), "--config", "small"]) == 0
    assert "100" in capsys.readouterr().out


@pytest.mark.parametrize("content, arguments, message", [
    (b"n,M,N,K\nx,1,0,3\n", [], "t.csv: line 2 (x): N = 0 is outside 1..2147483647"),
    (b"\xff\xfe", [], "t.csv: is not text"),
    (b"n,M,N,K\nx,2147483647,2147483647,1\n", [], "t.csv: x: "),
    (b"n,M,N,K\nx,1,1,1\n", ["--config", "nosuch"], "config = 'nosuch'"),
    (b"n,M,N,K\nx,1,1,1\n", ["--json", "/nowhere/x.json"], "json = '/nowhere/x.json': the folder"),
])
def test_compare_refuses(tmp_path, capsys, monkeypatch, content, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.csv").write_bytes(content)
    assert main(["compare", "t.csv", *arguments]) == 2
    output = capsys.readouterr()
    assert output.out == "" and output.err.startswith(f"flexwave: {message}") and output.err.count("\n") == 1

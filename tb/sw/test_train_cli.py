"""`flexwave train`: what it prints and writes, one line for a mistake before anything is done, interruption."""

import json
import os
import signal
import subprocess
import sys
import time
import warnings

import numpy as np
import pytest

from gen.files import ROOT
from sw.cli.main import main
from sw.train import checkpoint, data
from tb.sw.train_works import few

MODEL = "tb.sw.train_works:narrow_resnet"
QUICK = ("train", MODEL, "--epochs", "2", "--batch", "16")


@pytest.fixture
def images(monkeypatch):
    """A data set of 32 digits."""
    monkeypatch.setitem(data.DATA, "few", few)
    return "few"


def test_run(images, tmp_path, capsys):
    report, made = tmp_path / "page.html", tmp_path / "run.json"
    assert main([*QUICK, "--data", images, "--sub-batch", "4", "--json", str(made), "--report", str(report)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    found = json.loads(made.read_text())
    assert found["rtl_steps"] == [] and len(found["epochs"]) == 2
    for epoch in found["epochs"]:
        assert set(epoch) >= {"loss", "accuracy", "channels", "macs", "cycles", "utilisation", "energy"}
        assert epoch["channels"]["block2.conv2"] == 8 and 0 <= epoch["accuracy"] <= 1
        for cost in ("cycles", "utilisation", "energy"):
            assert set(epoch[cost]) == {"1G1C", "1G4C", "4G4C", "1G1F", "4G1F"} and min(epoch[cost].values()) > 0
    lines = out.splitlines()
    assert lines[0] == f"{MODEL} on 32 images of few, engine golden (small-bf16), batch 16, in sub-batches of 4, rate 0.05, seed 0"
    assert len(lines) == 7 and lines[3].split()[:2] == ["1", f"{found['epochs'][0]['loss']:.4f}"]
    assert lines[-1] == f"accuracy {found['epochs'][1]['accuracy']:.1%} on 16 other images"
    text = report.read_text()
    assert text.startswith("<!doctype html>") and "http" not in text and text.count("<svg") == 8
    assert sorted(os.listdir(tmp_path)) == ["page.html", "run.json"]


def test_a_batch_that_grows(images, capsys):
    """As channels go; what is left would hold more images than there are."""
    assert main([*QUICK, "--data", images, "--prune", "0.9", "--prune-every", "1", "--prune-below", "0.7", "--prune-grow", "3",
                 "--json", "-"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [epoch["batch"] for epoch in found["epochs"]] == [16, 31] and found["left"]["macs"] < found["dense"]["macs"]


def test_json_to_standard_output(images, capsys):
    assert main([*QUICK, "--data", images, "--json", "-"]) == 0
    assert len(json.loads(capsys.readouterr().out)["epochs"]) == 2


def test_resume(images, tmp_path, capsys, monkeypatch):
    """Interrupted behind the first epoch, the command goes on to the same bits."""
    whole, cut = tmp_path / "whole.npz", tmp_path / "cut.npz"
    argv = [*QUICK, "--data", images, "--prune", "0.2", "--rate", "0.04", "--checkpoint"]
    assert main([*argv, str(whole)]) == 0
    keep = checkpoint.keep

    def interrupted(path, run, about, moment):
        keep(path, run, about, moment)
        raise KeyboardInterrupt

    # The command silences warnings on its way out, which is for processes that end.
    with monkeypatch.context() as patch, warnings.catch_warnings():
        patch.setattr(checkpoint, "keep", interrupted)
        assert main([*argv, str(cut)]) == 130
    assert capsys.readouterr().err == "flexwave: interrupted\n"
    assert len(checkpoint.load(str(cut)).history) == 1
    assert main([*argv, str(cut), "--resume"]) == 0
    with np.load(whole) as wanted, np.load(cut) as found:
        assert sorted(wanted.files) == sorted(found.files)
        for name in wanted.files:
            np.testing.assert_array_equal(found[name], wanted[name], name)
    assert main([*QUICK, "--data", images, "--checkpoint", str(cut), "--resume"]) == 2
    assert capsys.readouterr().err == f"flexwave: checkpoint = {str(cut)!r} is of a run with prune = 0.2, not None\n"
    for option, wrong in (("--rate", "rate = 0.04, not 0.02"), ("--prune-every", "prune_every = 3, not 2"),
                          ("--prune-below", "prune_below = 0.005, not 1e-05"), ("--prune-grow", "prune_grow = 0, not 8")):
        assert main([*argv, str(cut), "--resume", option, wrong.rpartition(" ")[2]]) == 2
        assert capsys.readouterr().err == f"flexwave: checkpoint = {str(cut)!r} is of a run with {wrong}\n"
    assert main([*argv, str(cut)]) == 2
    assert capsys.readouterr().err == f"flexwave: checkpoint = {str(cut)!r} exists: --resume goes on from it\n"


def broken_model():
    """A factory that fails."""
    raise ValueError("no such width\nas 3")


def number_model():
    """A factory of nothing that can be trained."""
    return 3


@pytest.mark.parametrize("argv, message", [
    (["resnet"], "model = 'resnet' is none of digits-resnet, nor package.module:factory"),
    (["nowhere.at_all:model"], "model = 'nowhere.at_all:model': there is no module 'nowhere'"),
    (["tb.sw.train_works:nothing"],
     "model = 'tb.sw.train_works:nothing': AttributeError: module 'tb.sw.train_works' has no attribute 'nothing'"),
    (["tb.sw.test_train_cli:broken_model"], "model = 'tb.sw.test_train_cli:broken_model': ValueError: no such width"),
    (["tb.sw.test_train_cli:number_model"],
     "model = 'tb.sw.test_train_cli:number_model' makes int, allowed: sw.train.network.Network or torch.nn.Module"),
    (["digits-resnet", "--data", "mnist"], "data = 'mnist' is none of digits, few, spoilt"),
    (["digits-resnet", "--data", "spoilt"], "data = 'digits': train image 4 holds NaN or infinity"),
    (["digits-resnet", "--engine", "jax"], "engine = 'jax' is none of golden, torch"),
    (["digits-resnet", "--epochs", "0"], "epochs = 0 is outside 1..100000"),
    (["digits-resnet", "--epochs", "many"], "epochs = 'many' is not an integer in 1..100000"),
    (["digits-resnet", "--batch", "0"], "batch = 0 is outside 1..2147483647"),
    (["digits-resnet", "--batch", "2000"], "batch = 2000 is outside 1..1437, the images to train on"),
    (["digits-resnet", "--sub-batch", "5"], "sub_batch = 5 does not divide batch = 32"),
    (["digits-resnet", "--seed", "-1"], "seed = -1 is outside 0..2147483647"),
    (["digits-resnet", "--prune", "1"], "prune = '1' is not a number between 0 and 1"),
    (["digits-resnet", "--prune", "nan"], "prune = 'nan' is not a number between 0 and 1"),
    (["digits-resnet", "--prune", "much"], "prune = 'much' is not a number between 0 and 1"),
    *((["digits-resnet", "--rate", text], f"rate = {text!r} is not a positive number") for text in ("0", "-1", "inf", "nan", "fast")),
    *((["digits-resnet", "--prune", "0.7", "--prune-below", text], f"prune_below = {text!r} is not a positive number")
      for text in ("0", "-1", "nan", "inf", "little")),
    (["digits-resnet", "--prune", "0.7", "--prune-every", "0"], "prune_every = 0 is outside 1..100000"),
    (["digits-resnet", "--prune", "0.7", "--prune-every", "2.5"], "prune_every = '2.5' is not an integer in 1..100000"),
    (["digits-resnet", "--prune", "0.7", "--prune-grow", "-8"], "prune_grow = -8 is outside 0..2147483647"),
    (["digits-resnet", "--prune", "0.7", "--sub-batch", "4", "--prune-grow", "6"], "prune_grow = 6 is no multiple of sub_batch = 4"),
    *((["digits-resnet", f"--prune-{name}", "1"], f"prune_{name}: --prune-{name} needs --prune") for name in ("every", "below", "grow")),
    (["tb.sw.test_train_cli:grouped", "--prune", "0.2"],
     "digits-resnet: norm1 has groups of 8 of 16 channels, to prune it needs one group of all"),
    (["digits-resnet", "--rtl-steps", "-1"], "rtl_steps = -1 is outside 0..2147483647"),
    (["digits-resnet", "--config", "small"], "config = 'small' is a machine for integers: training needs bf16, e.g. small-bf16"),
    (["digits-resnet", "--json", "nowhere/x.json"], "json = 'nowhere/x.json': the folder 'nowhere' does not exist"),
    (["digits-resnet", "--checkpoint", "nowhere/x.npz"], "checkpoint = 'nowhere/x.npz': the folder 'nowhere' does not exist"),
    (["digits-resnet", "--resume"], "resume: --resume needs --checkpoint"),
    (["digits-resnet", "--resume", "--checkpoint", "x.npz"], "checkpoint = 'x.npz' cannot be read: No such file or directory"),
    ([], "the following arguments are required: MODEL (see flexwave train --help)"),
])
def test_mistakes(images, tmp_path, monkeypatch, capsys, argv, message):
    """One line, and nothing written."""
    def spoilt() -> data.Data:
        found = few()
        found.train_images[4, 1, 1, 0] = np.nan
        return data.Data(**vars(found))

    monkeypatch.setitem(data.DATA, "spoilt", spoilt)
    monkeypatch.chdir(tmp_path)
    assert main(["train", *argv]) == 2
    out, err = capsys.readouterr()
    assert (out, err) == ("", f"flexwave: {message}\n") and not os.listdir(tmp_path)


def grouped():
    """The digits' network with two groups in each normalisation."""
    from sw.train.network import digits_resnet

    return digits_resnet()


def test_without_torch(monkeypatch, capsys, tmp_path):
    """PyTorch is an extra: the line says how to install it."""
    (tmp_path / "torch_model.py").write_text("import torch\n")
    monkeypatch.chdir(tmp_path)
    for name in [name for name in sys.modules if name.partition(".")[0] == "torch" or name.startswith("sw.train.torch")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)     # an import of it fails as if it were not there
    install = ".venv/bin/python -m pip install -c requirements.lock -e '.[train]'"
    for argv, what in ((["digits-resnet", "--engine", "torch"], "engine = 'torch'"),
                       (["torch_model:make"], "model = 'torch_model:make'")):
        assert main(["train", *argv]) == 2
        out, err = capsys.readouterr()
        assert (out, err) == ("", f"flexwave: {what} needs PyTorch, which is not installed: {install}\n")


def test_a_model_of_the_current_folder(images, tmp_path, monkeypatch, capsys):
    (tmp_path / "my_model.py").write_text("from sw.train.network import digits_resnet\ndef make():\n    return digits_resnet(4, 4)\n")
    monkeypatch.chdir(tmp_path)
    path = list(sys.path)
    assert main(["train", "my_model:make", "--data", images, "--epochs", "1", "--batch", "16"]) == 0
    assert capsys.readouterr().out.startswith("my_model:make on 32 images") and sys.path == path
    del sys.modules["my_model"]


def test_interrupted(tmp_path):
    """A process of its own: Ctrl-C ends it with 130 and a line, and its checkpoint is whole."""
    path = tmp_path / "run.npz"
    argv = [sys.executable, "-m", "sw.cli.main", "train", MODEL, "--batch", "128", "--checkpoint", str(path)]
    process = subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               env=os.environ | {"PYTHONPATH": str(ROOT)})
    deadline = time.monotonic() + 50
    while not path.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (130, "", "flexwave: interrupted\n")
    assert checkpoint.load(str(path)).history and os.listdir(tmp_path) == ["run.npz"]

"""Pruned runs that are killed, anywhere: resumed, they end with the bits of one that was not, pairs of files included."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from gen.files import ROOT
from sw.cli.main import main
from sw.train import checkpoint, data
from tb.sw.train_works import few

# Five epochs with reconfigurations behind the second (channels go) and the fourth (residual branches and channels go).
RUN = ("train", "tb.sw.train_works:narrow_resnet", "--data", "128", "--epochs", "5", "--batch", "16", "--prune", "0.9",
       "--prune-every", "2", "--prune-below", "0.1", "--checkpoint")
FILES = ["run-epoch2-after.npz", "run-epoch2-before.npz", "run-epoch4-after.npz", "run-epoch4-before.npz", "run.npz"]
# Files are written behind epoch 1: run.npz; behind epoch 2: before, run.npz, after, run.npz; epoch 3: run.npz; epoch 4: as 2; epoch 5.
WRITES = 11
# A process of its own, killed where the write of the number given would become visible: 0, never.
KILLED = """
import os, signal, sys
from pathlib import Path
from sw.cli.main import main
from sw.train import data
from tb.sw.train_works import few
data.DATA["128"] = lambda: few(128)
left, replace = int(sys.argv[1]), Path.replace
def one_less(path, target):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return replace(path, target)
Path.replace = one_less
sys.exit(main(sys.argv[2:]))
"""


def start(number: int, *argv: str) -> subprocess.Popen:
    """The command in a process that is killed at a write."""
    return subprocess.Popen([sys.executable, "-c", KILLED, str(number), *RUN, *argv], cwd=ROOT, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)})


@pytest.fixture(autouse=True)
def images(monkeypatch):
    """128 digits, for runs in this process."""
    monkeypatch.setitem(data.DATA, "128", lambda: few(128))


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """The folder of a run that nobody kills."""
    path = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(data.DATA, "128", lambda: few(128))
        assert main([*RUN, str(path / "run.npz")]) == 0
    assert files(path) == FILES
    return path


def files(folder: Path) -> list[str]:
    """Names without the part of a file that a killed process leaves."""
    return sorted(name for name in os.listdir(folder) if not name.startswith("."))


def same(found: Path, wanted: Path):
    """All arrays of two files, bit for bit."""
    with np.load(found) as ours, np.load(wanted) as theirs:
        assert ours.files == theirs.files
        for name in ours.files:
            assert ours[name].dtype == theirs[name].dtype and ours[name].tobytes() == theirs[name].tobytes(), (found.name, name)


def test_pairs(whole):
    """The run prunes, and a pair holds the state before and after."""
    before, after = (checkpoint.load(str(whole / f"run-epoch2-{moment}.npz")) for moment in ("before", "after"))
    assert before.pending and not after.pending and len(before.history) == len(after.history) == 2
    assert before.network != after.network and before.parameters["block2.conv1.weight"].shape == (3, 3, 4, 8)
    assert after.parameters["block2.conv1.weight"].shape == after.velocity["block2.conv1.weight"].shape == (3, 3, 4, 6)
    last = checkpoint.load(str(whole / "run.npz"))
    assert len(last.network.layers) < len(after.network.layers) and len(last.history) == 5


@pytest.mark.parametrize("number", [3, 4, 5, WRITES])
def test_killed(whole, tmp_path, number):
    """Between a file and its copy, in the middle of a reconfiguration, between the next two, before the end."""
    path = tmp_path / "run.npz"
    process = start(number, str(path))
    out, _ = process.communicate(timeout=50)
    assert process.returncode == -signal.SIGKILL, out
    if number == 4:
        assert checkpoint.load(str(path)).pending and files(tmp_path) == ["run-epoch2-before.npz", "run.npz"]
    assert main([*RUN, str(path), "--resume"]) == 0
    assert files(tmp_path) == FILES
    for name in FILES:
        same(tmp_path / name, whole / name)


def test_killed_from_outside(whole, tmp_path):
    """At any time behind the first epoch; then again. Whatever is there, a run ends with it."""
    path = tmp_path / "run.npz"
    for delay in (0.2, 0.1):
        process = start(0, str(path), *(["--resume"] if path.exists() else []))
        deadline = time.monotonic() + 50
        while not path.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(delay)
        process.kill()
        out, _ = process.communicate(timeout=20)
        assert process.returncode in (-signal.SIGKILL, 0), out
    assert main([*RUN, str(path), "--resume"]) == 0
    for name in FILES:
        same(tmp_path / name, whole / name)


@pytest.mark.parametrize("name", FILES[:-1])
def test_from_a_file_of_the_pair(whole, tmp_path, name):
    """Copied under the run's name, it is one to go on from; the files that were written later are written again."""
    path = tmp_path / "run.npz"
    shutil.copy(whole / name, path)
    assert main([*RUN, str(path), "--resume"]) == 0
    same(path, whole / "run.npz")
    for again in files(tmp_path):
        same(tmp_path / again, whole / again)


def test_pairs_in_the_way(whole, tmp_path, capsys):
    """A new run does not write over them."""
    shutil.copy(whole / FILES[1], tmp_path / FILES[1])
    path = tmp_path / "run.npz"
    assert main([*RUN, str(path)]) == 2
    assert capsys.readouterr().err == f"flexwave: checkpoint = {str(path)!r}: {FILES[1]!r} of an older run is in the way\n"
    assert main([*RUN, str(tmp_path / "other.npz"), "--resume"]) == 2 and files(tmp_path) == [FILES[1]]

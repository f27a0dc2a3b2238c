"""SVRG on the near-data units: gradients against differences of the loss, epochs against hand-worked runs, the three ways, the command."""

import json
from fractions import Fraction

import numpy as np
import pytest

from gen.traffic import COMMAND_RECORD, READ_RECORD, Recording
from sw.cli.main import main
from sw.dram import svrg, svrg_study, svrg_time
from sw.dram.allocate import NdaError
from sw.dram.blas import Nda
from tb.sw.nda_standin import StandIn


@pytest.mark.parametrize("seed", [1, 2])
def test_gradient(seed):
    """Of the loss by differences, of the optimum, and through units that read the launch registers by the contract's words."""
    print(f"seed {seed}")
    rng = np.random.default_rng(seed)
    problem = svrg.digits(digit=seed, samples=300, penalty=0.01)
    weights = rng.normal(size=65).astype(np.float32) / 4
    expected = np.zeros(65)
    for j in range(65):
        step = 1e-5 * np.eye(65)[j]
        expected[j] = (problem.loss(weights + step) - problem.loss(weights - step)) / 2e-5
    found = svrg.Summary(Nda(svrg.system(1, 2), StandIn()), problem).gradient(weights)
    np.testing.assert_allclose(found, expected, atol=2e-6)
    assert (found == svrg.Summary(Nda(svrg.system(1, 2), "untimed"), problem).gradient(weights)).all()
    best = problem.optimum()
    here = problem.samples.astype(np.float64).T @ problem.residuals(problem.margins(best)) / 300 + 0.01 * best
    assert np.abs(here).max() < 1e-9
    assert all(problem.loss(best + rng.normal(size=65) / 100) > problem.loss(best) for _ in range(20))


def test_short_piece():
    found, nda = svrg.short_piece(StandIn())
    expected, _ = svrg.short_piece("untimed")
    assert (found == expected).all() and nda.last and "dot" in nda.last.operations
    timed, nda = svrg.short_piece("model")
    assert (timed == expected).all() and nda.last and nda.last.cycles and nda.last.cycles > 0


def recording(host: int, units: int, reads: int) -> Recording:
    """Of a host and units that take so many cycles, with reads answered evenly."""
    commands, answers = np.zeros(2, COMMAND_RECORD), np.zeros(reads, READ_RECORD)
    commands["cycle"], commands["source"] = (max(units, 1) - 1, units + 5), (1, 0)       # what the host sends after them does not count
    answers["answered"] = np.arange(1, reads + 1) * host // max(reads, 1) - 1
    return Recording(commands, answers, max(host, 1) - 1, (), max(host, units))


@pytest.mark.parametrize("cached", [True, False])
def test_epoch_by_hand(monkeypatch, cached):
    """Alone a step takes 10 cycles, GEMV 100, all DOTs 200; both at once a step takes 12, GEMV 150, DOTs 300."""
    beside = []

    def model(config, workload):
        residuals = bool(workload.cores) and workload.cores[0].blocks[0] == config.frame_blocks
        steps = len(workload.cores[0].blocks) // per if workload.cores else 0
        gemv = len(workload.launches) == sizes[0]
        if workload.cores and workload.launches:
            beside.append(steps)
            return recording(12 * steps, 150 if gemv else 300, steps * (per - 5 * (not cached)))
        if workload.launches:
            return recording(0, 100 if gemv else 200, 0)
        return recording(40 if residuals else 10 * steps, 0, 0)

    per, config, problem = 5 if cached else 25, svrg.system(1, 2), svrg.digits(samples=64)
    sizes = [len(item) for item in svrg_time.launches(config, problem, "none")]
    assert sizes[0] != sizes[1]
    monkeypatch.setattr(svrg_time, "model", model)
    clock = svrg_time.Clock(config, problem, "none", cached=cached)
    times = clock.measure(100)
    assert (times.host.inner, times.host.host_gradient) == (1000, clock.host_gradient)
    assert times.alternating == svrg_time.Epoch(units=300, residuals=40, inner=1000)
    # 12 whole steps in the GEMV's 150 cycles, 88 are left: 1056 cycles, of which the DOTs share 300.
    assert times.delayed == svrg_time.Epoch(both=450, inner=756, residuals=40) and beside == [100, 88]
    assert list(times.axis("delayed", 3)) == [0, 340 + 1246, 340 + 2 * 1246] and list(times.axis("alternating", 3)) == [0, 1340, 2680]
    # 20 steps: 8 left of them, 96 cycles, the DOTs' other 204 are their own. 10 steps end 30 cycles before the GEMV.
    assert clock.measure(20).delayed == svrg_time.Epoch(both=246, units=204, residuals=40)
    assert clock.measure(10).delayed == svrg_time.Epoch(both=120, units=30 + 200, residuals=40)


def test_epoch_on_the_model():
    """Nothing is faster beside other work, and both at once take no longer than in turn."""
    problem = svrg.digits(samples=250)
    clock = svrg_time.Clock(svrg.system(2, 2), problem)
    assert 0 < clock.gemv_alone < clock.dots_alone and clock.host_gradient >= 250 * 5 * 2      # two channels, a block in 4 cycles each
    for steps in (60, 1000):
        times = clock.measure(steps)
        assert times.delayed.both + times.delayed.inner >= times.host.inner * 0.97
        assert times.delayed.both + times.delayed.units >= (clock.gemv_alone + clock.dots_alone) * 0.97
        assert times.delayed.cycles <= times.alternating.cycles * 1.05
        assert (times.delayed.inner > 0) != (times.delayed.units > 0)


def test_host_traffic():
    row = 5                                            # blocks of 65 numbers
    inner = svrg_time.inner_core(100, 65, 100, seed=1, cached=False)
    assert len(inner.blocks) == 100 * 25 and inner.writes.sum() == 100 * row
    steps, writes = inner.blocks.reshape(100, 25), inner.writes.reshape(100, 25)
    assert (steps[:, :5] - steps[:, :1] == np.arange(5)).all() and (steps[:, 0] % row == 0).all()
    assert steps[:, 0].max() < 500 and len(np.unique(steps[:, 0])) > 40
    assert (steps[:, 5:20] == 500 + np.arange(15)).all() and (steps[:, 20:] == 500 + np.arange(5)).all()
    assert not writes[:, :20].any() and writes[:, 20:].all()
    whole = svrg_time.gradient_core(100, 65, cached=False)
    assert set(range(500)) <= set(whole.blocks.tolist()) and len(whole.blocks) == 500 + 7 * 15       # seven batches of 16
    assert (whole.blocks[whole.writes] == np.tile(505 + np.arange(5), 7)).all()
    for core, blocks in ((svrg_time.inner_core(100, 65, 100, seed=1, cached=True), steps[:, :5].reshape(-1)),
                         (svrg_time.gradient_core(100, 65, cached=True), np.arange(500))):
        assert (core.blocks == blocks).all() and not core.writes.any()


def test_three_ways():
    """Loss over the epochs; seed 0."""
    problem, config = svrg.digits(samples=250), svrg.system(2, 2)
    host, alternating, delayed = (svrg.optimise(problem, mode, epochs=6, steps=62, rate=0.1, config=config) for mode in svrg.MODES)
    np.testing.assert_allclose(host, alternating, rtol=1e-3)    # the same numbers but for float32
    np.testing.assert_allclose(delayed, svrg.optimise(problem, "delayed", epochs=6, steps=62, rate=0.1), rtol=1e-3)
    for excess in (host, alternating, delayed):
        assert len(excess) == 7 and (excess > 0).all() and excess[-1] < excess[0] / 5
    assert host[1] == pytest.approx(delayed[1]) and not np.allclose(delayed[2:], host[2:], rtol=1e-3)
    until = svrg.optimise(problem, "host", epochs=6, steps=62, rate=0.1, until=host[3])
    assert len(until) == 1 + min(k for k in range(7) if host[k] <= host[3])
    assert len(svrg.optimise(problem, "delayed", epochs=50, steps=250, rate=30.0)) < 51      # diverges, without an exception


def test_best():
    epoch = svrg_time.Epoch(inner=10)
    times = {Fraction(1): svrg_time.Times(1, epoch, epoch, epoch), Fraction(1, 2): svrg_time.Times(1, *[svrg_time.Epoch(inner=6)] * 3)}
    losses = {(Fraction(1), 0.1): np.array([1, 1e-2, 9e-4]), (Fraction(1, 2), 0.1): np.array([1, 1e-2, 5e-3, 9e-4]),
              (Fraction(1), 0.2): np.array([1, 1e-2, np.nan])}
    assert svrg_study.best("host", losses, times) == (Fraction(1, 2), 0.1)      # 18 cycles against 20
    del losses[Fraction(1, 2), 0.1], losses[Fraction(1), 0.1]
    assert svrg_study.best("host", losses | {(Fraction(1), 0.4): np.array([1, 0.5])}, times) == (Fraction(1), 0.4)


def test_command(tmp_path, capsys):
    """Short, with all it writes; the table's cycles from the points."""
    assert main(["reproduce", "svrg", "--samples", "60", "--passes", "1", "--out", str(tmp_path / "a" / "b")]) == 0
    text, folder = capsys.readouterr().out, tmp_path / "a" / "b"
    assert sorted(path.name for path in folder.iterdir()) == ["points.json", "svrg.svg", "table.md"]
    assert (folder / "table.md").read_text() in text and "favours the units" in text
    points = json.loads((folder / "points.json").read_text())["points"]
    assert [(point["cached"], point["images"], point["mode"]) for point in points] == [
        (cached, images, mode) for images in (300, 60) for cached in (True, False) for mode in svrg.MODES]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith(tuple(
        f"| {mode} " for mode in svrg.MODES))]
    assert len(rows) == len(points)
    for row, point in zip(rows, points):
        assert row[0] == point["mode"] and row[6] == f"{sum(point['parts'].values()):,}"
        for cell, target in zip(row[3:6], (1e-2, 1e-3, 1e-4)):
            reached = [cycles for cycles, excess in zip(point["cycles"], point["excess"]) if excess <= target]
            assert cell == (f"{reached[0]:,.0f}" if reached else "not reached")
    assert (folder / "svrg.svg").read_text().rstrip().endswith("</svg>")


@pytest.mark.parametrize("words, message", [
    (["--samples", "9"], "samples = 9 is outside 10..1797"), (["--passes", "0"], "passes = 0 is outside 1..1000"),
    (["--seed", "x"], "seed = 'x'"), (["--engine", "other"], "--engine"), (["--out", __file__], "is a file, not a folder"),
    (["--out", f"{__file__}/x"], "out = ")])
def test_wrong_commands(tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    assert main(["reproduce", "svrg", *words]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and not list(tmp_path.rglob("*.json"))


def test_shifted_digits():
    plain, shifted = svrg.digits(samples=20), svrg.digits(samples=20, shifted=True)
    assert shifted.samples.shape == (100, 65) and (shifted.targets == np.tile(plain.targets, 5)).all()
    images = shifted.samples[:, :64].reshape(5, 20, 8, 8)
    assert (images[0].reshape(20, 64) == plain.samples[:, :64]).all() and (shifted.samples[:, 64] == 1).all()
    up, down, left, right = images[1:]
    assert (up[:, :7] == images[0][:, 1:]).all() and not up[:, 7].any()
    assert (down[:, 1:] == images[0][:, :7]).all() and (left[:, :, :7] == images[0][:, :, 1:]).all() and not right[:, :, 0].any()


def test_mistakes():
    for text, call in (("digit = 10 is outside 0..9", lambda: svrg.digits(10)),
                       ("samples = 0 is outside 1..1797", lambda: svrg.digits(samples=0)),
                       ("an epoch of 1/8 of them has no step", lambda: svrg_study.run(svrg_study.Study(samples=3))),
                       ("steps = 0 is outside", lambda: svrg_time.Clock.measure(object.__new__(svrg_time.Clock), 0))):
        with pytest.raises(NdaError) as caught:
            call()
        assert text in str(caught.value) and "\n" not in str(caught.value)

"""SVRG on the near-data units: gradients against differences of the loss, times against hand-worked parts, the three ways' loss."""

import numpy as np
import pytest

from sw.dram import svrg
from sw.dram.allocate import NdaError
from sw.dram.blas import Nda
from tb.sw.nda_standin import StandIn

COSTS = svrg.Costs(samples=100, features=65, host_gradient=500, step=10, step_beside=12, gemv=100, dot=4, units=1000, units_beside=2000,
                   residuals=40)


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


def test_epoch_by_hand():
    assert svrg.epoch_cycles(COSTS, "host", 100) == 500 + 1000
    assert svrg.epoch_cycles(COSTS, "alternating", 100) == 1000 + 40 + 1000
    # Host part 1040, at 1.2 times the time 1248 beside the units: these have done 1248 / 2000 of their work then.
    assert svrg.epoch_cycles(COSTS, "delayed", 100) == pytest.approx(1248 + (1 - 1248 / 2000) * 1000)
    # Host part 2040, beside the units 2448: they are done after 2000, the host has done 2000 / 2448 of its part.
    assert svrg.epoch_cycles(COSTS, "delayed", 200) == pytest.approx(2000 + (1 - 2000 / 2448) * 2040)


def test_host_traffic():
    row = 5                                            # blocks of 65 numbers
    inner = svrg._inner(100, 65, 100, seed=1, cached=False)
    assert len(inner.blocks) == 100 * 25 and inner.writes.sum() == 100 * row
    steps, writes = inner.blocks.reshape(100, 25), inner.writes.reshape(100, 25)
    assert (steps[:, :5] - steps[:, :1] == np.arange(5)).all() and (steps[:, 0] % row == 0).all()
    assert steps[:, 0].max() < 500 and len(np.unique(steps[:, 0])) > 40
    assert (steps[:, 5:20] == 500 + np.arange(15)).all() and (steps[:, 20:] == 500 + np.arange(5)).all()
    assert not writes[:, :20].any() and writes[:, 20:].all()
    whole = svrg._gradient(100, 65, cached=False)
    assert set(range(500)) <= set(whole.blocks.tolist()) and len(whole.blocks) == 500 + 7 * 15       # seven batches of 16
    assert (whole.blocks[whole.writes] == np.tile(505 + np.arange(5), 7)).all()
    for core, blocks in ((svrg._inner(100, 65, 100, seed=1, cached=True), steps[:, :5].reshape(-1)),
                         (svrg._gradient(100, 65, cached=True), np.arange(500))):
        assert (core.blocks == blocks).all() and not core.writes.any()


def test_three_ways():
    """The measured parts and the loss of a small study; seed 0."""
    problem = svrg.digits(samples=250)
    study = svrg.study(config=svrg.system(2, 2), problem=problem, epochs=6, rate=0.1)
    costs = study.costs
    assert 0 < costs.gemv < costs.units and costs.dot > 0 and costs.gemv + 65 * costs.dot == pytest.approx(costs.units)
    assert costs.step <= costs.step_beside and costs.units <= costs.units_beside
    host, alternating, delayed = study.curves
    assert [curve.mode for curve in study.curves] == list(svrg.MODES)
    np.testing.assert_allclose(host.excess, alternating.excess, rtol=1e-3)    # the same numbers but for float32
    for curve in study.curves:
        assert (np.diff(curve.cycles) > 0).all() and (curve.excess > 0).all()
        assert curve.excess[-1] < curve.excess[0] / 5
    assert not np.allclose(delayed.excess[2:], host.excess[2:], rtol=1e-3)
    assert host.cycles[3] == pytest.approx(3 * svrg.epoch_cycles(costs, "host", study.steps))
    assert delayed.cycles[0] == 0 and delayed.cycles[1] > svrg.epoch_cycles(costs, "delayed", study.steps)
    rows = study.to_csv().splitlines()
    assert rows[0] == "mode,epoch,cycles,excess" and len(rows) == 1 + 3 * 7
    table = study.table(targets=(0.1, 1e-9)).splitlines()
    assert len(table) == 5 and table[2].startswith("| host |") and table[2].endswith("not reached |")


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
                       ("part_of_epoch = 0 is outside", lambda: svrg.study(problem=svrg.digits(samples=20), part_of_epoch=0))):
        with pytest.raises(NdaError) as caught:
            call()
        assert text in str(caught.value) and "\n" not in str(caught.value)

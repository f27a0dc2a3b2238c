"""Work spread over processes: order, errors, and leaving early."""

import os
import time
from multiprocessing import active_children

import pytest

from sw.workers import spread


def piece(number: int) -> tuple[int, int]:
    """Its square, and the process that has worked it out; refuses 13."""
    if number == 13:
        raise ValueError("13 is unlucky")
    time.sleep(0.01 * (number % 3))
    return number * number, os.getpid()


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_results_come_in_order(workers):
    with spread(piece, range(12), workers=workers) as found:
        squares, processes = zip(*found)
    assert squares == tuple(number * number for number in range(12))
    assert (os.getpid() in processes) == (workers == 1) and len(set(processes)) <= workers


@pytest.mark.parametrize("workers", [1, 3])
def test_an_error_comes_where_its_result_would(workers):
    with spread(piece, [1, 2, 13, 4], workers=workers) as found:
        assert [next(found)[0], next(found)[0]] == [1, 4]
        with pytest.raises(ValueError, match="13 is unlucky"):
            next(found)


def test_nothing_to_do():
    with spread(piece, []) as found:
        assert list(found) == []


def nap(path: str):
    """Leave a trace, and take long."""
    open(path, "x").close()
    time.sleep(60)


def test_an_interrupt_ends_the_processes(tmp_path):
    items, since = [str(tmp_path / str(number)) for number in range(10)], time.monotonic()
    with pytest.raises(KeyboardInterrupt), spread(nap, items, workers=2):
        while len(list(tmp_path.iterdir())) < 2:
            time.sleep(0.01)
        raise KeyboardInterrupt
    assert len(list(tmp_path.iterdir())) == 2 and not active_children() and time.monotonic() - since < 30

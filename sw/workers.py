"""Independent pieces of work, spread over the processor's cores."""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import active_children
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


@contextlib.contextmanager
def spread(function: Callable[[Item], Result], items: Sequence[Item], *, workers: int | None = None) -> Iterator[Iterator[Result]]:
    """`function` of each item, in order, worked out by `workers` processes (None: one a core; a single one is this process itself).

    Function, items and results must be picklable. An exception is raised where its result would have come. An exception that leaves the
    block, an interrupt for instance, ends the processes. Enter it before anything starts a thread: processes may be forked.
    """
    workers = min(len(items), cores() if workers is None else workers)
    if workers <= 1:
        yield map(function, items)
        return
    others = set(active_children())
    pool = ProcessPoolExecutor(workers, initializer=signal.signal, initargs=(signal.SIGINT, signal.SIG_IGN))
    try:
        yield pool.map(function, items)
    except BaseException:
        for process in set(active_children()) - others:
            process.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

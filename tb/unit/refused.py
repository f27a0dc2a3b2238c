"""Why a component refuses its parameters."""

import gc
import warnings
from collections.abc import Callable

from amaranth.hdl import UnusedElaboratable


def refused(make: Callable) -> str:
    """The text of the ValueError that `make` raises. What it half made is not elaborated, of which Amaranth would warn."""
    text = None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnusedElaboratable)
        try:
            make()
        except ValueError as error:
            text = str(error)
        gc.collect()
    assert text is not None
    return text

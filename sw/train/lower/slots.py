"""Slices of the global buffer as a cache: what was used last stays."""

from collections.abc import Hashable

NOTHING: Hashable = None


class Slots:
    """Slices, each with what was loaded into it last."""

    def __init__(self, slices: list[int]):
        self._held: dict[int, Hashable] = dict.fromkeys(slices, NOTHING)      # the one that was used longest ago comes first

    def place(self, key: Hashable) -> tuple[int, bool]:
        """The slice of a key, and whether the key has to be loaded: then it takes the slice that was used longest ago."""
        index = next((index for index, held in self._held.items() if held == key), None)
        fresh = index is None
        if index is None:
            index = next(iter(self._held))
        del self._held[index]
        self._held[index] = key
        return index, fresh

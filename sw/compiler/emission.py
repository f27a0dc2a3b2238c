"""What all emitters of a group's instructions share."""

from collections.abc import Iterable

from gen.config import Config
from gen.isa import Instruction
from sw.compiler.layout import ceil_div
from sw.compiler.tokens import Token, mask

ADDRESSES = 1 << 16     # in a slice: addresses are modulo this


class Emission:
    """Instructions of one group of the machine."""

    def __init__(self, config: Config, group: int):
        self.config, self.group = config, group

    def emit(self, name: str, wait: Iterable[Token | None] = (), signal: Iterable[Token | None] = (), **values: int) -> Instruction:
        """An instruction; None stands for no token."""
        return Instruction(name, group=self.group, wait=mask(wait), signal=mask(signal), **values)

    def beats(self, words: int) -> int:
        """Beats that cover some words."""
        return ceil_div(words, self.config.beat_words)

    def aligned(self, word: int) -> int:
        """The first word of its beat."""
        return word // self.config.beat_words * self.config.beat_words

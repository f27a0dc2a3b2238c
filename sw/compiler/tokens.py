"""Which of a group's sixteen tokens the compiler uses for what. Each counts filled or freed places, in the order in which they are used."""

import enum
from collections.abc import Iterable


class Token(enum.IntEnum):
    """Token indices. `*_FULL`: data has arrived in a slot; `*_FREE`: a slot may be written again."""

    A_FULL = 0      # moving operand in the global buffer
    A_FREE = 1
    B_FULL = 2      # stationary operand in the global buffer
    B_FREE = 3
    P_FULL = 4      # column parameters in the global buffer
    P_FREE = 5
    O_FULL = 6      # a half of the output buffers
    O_FREE = 7
    C_FULL = 8      # output tile in the global buffer
    C_FREE = 9
    GO = 10         # enough has arrived for the array to start without running dry
    R_FULL = 11     # residual of an output tile in the global buffer
    R_FREE = 12
    F_FULL = 13     # a layer's result in the global buffer, for LOAD_H (in a group of layers; for STORE it is R_FULL)


def mask(tokens: Iterable[int | None]) -> int:
    """The bit mask of some tokens; None stands for none."""
    bits = 0
    for token in tokens:
        if token is not None:
            bits |= 1 << token
    return bits

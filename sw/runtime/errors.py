"""Errors that are told to the user in one line, without a traceback."""


class UserError(ValueError):
    """A request that cannot work; the text is one line naming field, value and allowed range."""


class MachineError(RuntimeError):
    """The machine stopped before the end of a program; the text is one line with cause and index."""


class MismatchError(RuntimeError):
    """A result differs from the golden model, or a counter from the prediction; the text is one line."""

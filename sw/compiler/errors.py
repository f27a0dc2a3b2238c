"""What the compiler says about what it cannot compile."""


class CompileError(ValueError):
    """A product that cannot be compiled for a machine; the text is one line naming field, value and range."""


def refuse_outside(name: str, value: int, low: int, high: int, unit: str = ""):
    """Raise CompileError unless `value` is an integer in low..high."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise CompileError(f"{name} = {value!r} must be an integer in {low}..{high}{unit}")
    if not low <= value <= high:
        raise CompileError(f"{name} = {value} is outside {low}..{high}{unit}")

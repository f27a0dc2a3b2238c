"""The addition of a residual to 8-bit results: scales and zero points as SetAdd takes them."""

from dataclasses import asdict, dataclass

from gen.isa import FRACTION_BITS, layout
from sw.compiler.errors import CompileError, refuse_outside

ONE = 1 << FRACTION_BITS        # a multiplier of 1
_LIMITS = {item.name: (item.bottom, item.top) for item, _ in layout("SetAdd")}


@dataclass(frozen=True, kw_only=True)
class Addition:
    """What becomes of a result and its residual: (result - own_zero_point) * multiplier + (residual - residual_zero_point) *
    residual_multiplier, in units of 2^-24, rounded once (half to even), clipped at zero with `relu`, plus zero_point, saturated to the
    result's type. `dtype` is the residual's. Raises CompileError for what SetAdd cannot hold.
    """

    multiplier: int = ONE
    residual_multiplier: int = ONE
    own_zero_point: int = 0
    residual_zero_point: int = 0
    zero_point: int = 0
    dtype: str = "int8"
    relu: bool = False

    def __post_init__(self):
        for name in ("multiplier", "residual_multiplier", "own_zero_point", "residual_zero_point", "zero_point"):
            refuse_outside(f"residual {name}", getattr(self, name), *_LIMITS[name])
        if self.dtype not in ("int8", "uint8"):
            raise CompileError(f"residual dtype = {self.dtype!r} is none of int8, uint8")

    def to_dict(self) -> dict:
        """Plain values by field name."""
        return asdict(self)

    def fields(self) -> dict[str, int]:
        """The fields of SetAdd, but for the place."""
        values = {name: value for name, value in asdict(self).items() if name != "dtype"}
        return values | {"signed": int(self.dtype == "int8"), "relu": int(self.relu)}

"""A layer of a group that runs as one program: what it computes of one sample, and which results it reads."""

from dataclasses import dataclass, replace

from sw.compiler.pooling import Pooling
from sw.compiler.tiling import Gemm

INPUT = -1      # as a layer's source or residual: what the group reads


@dataclass(frozen=True, kw_only=True)
class GroupLayer:
    """What a layer computes of one sample, with 8-bit results. `source` and `residual` are the numbers of the layers before it whose
    results it reads, or INPUT."""

    product: Gemm | Pooling
    source: int = INPUT
    residual: int | None = None

    @property
    def channels_in(self) -> int:
        """Channels that it reads."""
        return self.product.channels if isinstance(self.product, Pooling) else self.product.k

    @property
    def rows_in(self) -> int:
        """Pixels (rows) of a sample that it reads."""
        return self.product.window.pixels if isinstance(self.product, Pooling) else self.product.pixels

    @property
    def type_in(self) -> str:
        """The type of what it reads."""
        return self.product.dtype if isinstance(self.product, Pooling) else self.product.a_dtype

    def of(self, samples: int) -> Gemm | Pooling:
        """What it computes of so many samples."""
        window = self.product.window and replace(self.product.window, images=samples)
        if isinstance(self.product, Pooling):
            assert window
            return replace(self.product, window=window)
        return replace(self.product, m=samples * self.product.m, window=window)

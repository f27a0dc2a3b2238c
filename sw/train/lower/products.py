"""Products and convolutions of whole batches, by the compiler."""

from sw.compiler.lower import compile_product
from sw.compiler.tiling import FLOAT, Gemm
from sw.compiler.window import Window
from sw.train.lower.memory import Tensor
from sw.train.lower.phase import Code


def product(code: Code, moving: Tensor, stationary: Tensor, result: Tensor, *, m: int, n: int, k: int, window: Window | None = None,
            output: str = FLOAT):
    """A product, or a convolution of `window`, planned by the compiler. Raises CompileError."""
    gemm = Gemm(m=m, n=n, k=k, a_dtype=FLOAT, b_dtype=FLOAT, output=output, window=window)
    program = compile_product(code.config, gemm, addresses={
        "moving": moving.address, "stationary": stationary.address, "result": result.address})
    code.sequencer.program(program.instructions)

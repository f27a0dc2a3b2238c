"""The compiler: products, convolutions and poolings to FlexWave programs. `plan` decides what stays where, `emit` how it comes about."""

from sw.compiler.addition import Addition
from sw.compiler.errors import CompileError
from sw.compiler.lower import compile_conv, compile_gemm, compile_pool
from sw.compiler.pooling import Pooling
from sw.compiler.program import Program, ProgramError, Region
from sw.compiler.tiling import Gemm
from sw.compiler.window import Window

__all__ = ["Addition", "CompileError", "Gemm", "Pooling", "Program", "ProgramError", "Region", "Window", "compile_conv", "compile_gemm",
           "compile_pool"]

"""The compiler: matrix products to FlexWave programs. `plan` decides what stays where, `emit` which instructions bring it about."""

from sw.compiler.lower import compile_gemm
from sw.compiler.program import Program, ProgramError, Region
from sw.compiler.tiling import CompileError, Gemm

__all__ = ["CompileError", "Gemm", "Program", "ProgramError", "Region", "compile_gemm"]

"""A compiled program: instructions, where its operands lie in memory, images and results, and the file it is kept in."""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gen.config import Config, ConfigError
from gen.isa import INSTRUCTION_BYTES, Instruction, IsaError
from sw.compiler.errors import CompileError
from sw.compiler.layout import pack_moving, pack_parameters, pack_stationary, unpack_result
from sw.compiler.pooling import Pooling
from sw.compiler.tiling import FLOAT, OPERANDS, Gemm

MAGIC = "FLEXWAVE PROGRAM 1"


class ProgramError(ValueError):
    """A program file, operand or image that cannot be used; the text is one line."""


class Region(NamedTuple):
    """A piece of main memory."""

    address: int
    bytes: int


@dataclass(frozen=True)
class Program:
    """A program for one machine and one product, convolution or pooling (`gemm` says what it computes).

    `regions` has "moving" (A), "stationary" (B), "result", "program" and, where used, "parameters" and "residual"; `memory` is the size of
    the whole image in bytes. `plan` holds the compiler's decisions and estimates for reports.
    """

    config: Config
    gemm: Gemm | Pooling
    instructions: tuple[Instruction, ...]
    regions: dict[str, Region]
    memory: int
    plan: dict = field(default_factory=dict)

    def code(self) -> bytes:
        """The encoded instructions."""
        return b"".join(instruction.encode() for instruction in self.instructions)

    def pack(self, **operands: np.ndarray) -> dict[str, np.ndarray]:
        """Operands as the bytes of their regions: `a` (m x k), `b` (k x n), `bias` (n, int32) with `multiplier` (n, float32),
        and `residual` (m x n).

        Of a convolution `a` is (images, height, width, k) and `b` (kernel height, kernel width, k, n); a pooling has no `b`, `bias` and
        `multiplier`.

        Raises ProgramError for an operand that is unknown, missing its partner, of the wrong shape or out of range.
        """
        gemm, packed = self.gemm, {}
        shapes, types = self._operands()
        for name, value in operands.items():
            if name not in shapes:
                raise ProgramError(f"operand {name} is none of {', '.join(shapes)}")
            if np.shape(value) != shapes[name]:
                raise ProgramError(f"operand {name} has shape {np.shape(value)}, not {shapes[name]}")
            if types.get(name) == FLOAT:
                if np.asarray(value).dtype != np.float32 or np.any(np.asarray(value).view(np.uint32) & 0xFFFF):
                    raise ProgramError(f"operand {name} must hold bf16 numbers as float32")
                continue
            low, high = OPERANDS[types[name]] if name in types else (-(1 << 31), (1 << 31) - 1)
            if name != "multiplier" and (np.asarray(value).dtype.kind not in "iu" or value.min() < low or value.max() > high):
                raise ProgramError(f"operand {name} must hold integers in {low}..{high}")
        if ("bias" in operands) != ("multiplier" in operands):
            raise ProgramError("operands bias and multiplier belong together")
        if "a" in operands:
            packed["moving"] = pack_moving(self.config, np.reshape(operands["a"], (-1, np.shape(operands["a"])[-1])))
        if isinstance(gemm, Pooling):
            if gemm.parameters():
                bias, multiplier = (np.repeat(value, self.config.array.side) for value in gemm.records())
                packed["parameters"] = pack_parameters(self.config, bias, multiplier)
        elif "b" in operands:
            packed["stationary"] = pack_stationary(self.config, np.reshape(operands["b"], (gemm.taps, gemm.k, gemm.n)), gemm.b_zero_point)
        if "residual" in operands:
            packed["residual"] = pack_moving(self.config, np.reshape(operands["residual"], (-1, gemm.n)))
        if "bias" in operands:
            packed["parameters"] = pack_parameters(self.config, operands["bias"], operands["multiplier"])
        return packed

    def _operands(self) -> tuple[dict[str, tuple], dict[str, str]]:
        """Shapes of all operands, and types of those that lie in memory as they are."""
        gemm, window = self.gemm, self.gemm.window
        rows = (gemm.m,) if window is None else (window.images, window.out_height, window.out_width)
        shapes, types = {}, {}
        if isinstance(gemm, Pooling):
            shapes["a"], types["a"] = (gemm.window.images, gemm.window.height, gemm.window.width, gemm.n), gemm.dtype
        else:
            shapes |= {"a": (gemm.m, gemm.k), "b": (gemm.k, gemm.n)} if window is None else {
                "a": (window.images, window.height, window.width, gemm.k), "b": (*window.kernel, gemm.k, gemm.n)}
            shapes |= {"bias": (gemm.n,), "multiplier": (gemm.n,)} if gemm.parameters else {}
            types |= {"a": gemm.a_dtype, "b": gemm.b_dtype}
        if gemm.addition:
            shapes["residual"], types["residual"] = (*rows, gemm.n), gemm.addition.dtype
        return shapes, types

    def image(self, **operands: np.ndarray) -> np.ndarray:
        """The whole memory image with the program, as uint8. Takes all operands of `pack`, so that nothing is left to chance."""
        packed = self.pack(**operands) | {"program": np.frombuffer(self.code(), np.uint8)}
        for name in self.regions:
            if name != "result" and name not in packed:
                raise ProgramError(f"the operand of region {name!r} is missing")
        image = np.zeros(self.memory, np.uint8)
        for name, data in packed.items():
            address = self.regions[name].address
            image[address:address + data.size] = data
        return image

    def result(self, image: np.ndarray) -> np.ndarray:
        """The m x n result out of a memory image; of a convolution (images, height, width, n)."""
        if np.size(image) < self.memory:
            raise ProgramError(f"a memory image has at least {self.memory} bytes, not {np.size(image)}")
        address, size = self.regions["result"]
        gemm, window = self.gemm, self.gemm.window
        values = unpack_result(self.config, np.asarray(image)[address:address + size], gemm.m, gemm.n, gemm.output)
        return values if window is None else values.reshape(window.images, window.out_height, window.out_width, gemm.n)

    def to_bytes(self) -> bytes:
        """The file: a line with name and version, a line with the checksum of all that follows, a line of JSON, the instructions."""
        header = {
            "config": self.config.to_dict(), "digest": self.config.digest(), "instructions": len(self.instructions),
            "pooling" if isinstance(self.gemm, Pooling) else "gemm": self.gemm.to_dict(),
            "regions": self.regions, "memory": self.memory, "plan": self.plan,
        }
        body = json.dumps(header).encode() + b"\n" + self.code()
        return f"{MAGIC}\n{hashlib.sha256(body).hexdigest()}\n".encode() + body

    @classmethod
    def from_bytes(cls, data: bytes, config: Config | None = None) -> "Program":
        """Read a file's contents. Raises ProgramError when they are foreign, damaged, or made for another machine than `config`."""
        magic, _, rest = data.partition(b"\n")
        if magic != MAGIC.encode():
            raise ProgramError(f"not a program of this version: the first line is not {MAGIC!r}")
        checksum, _, body = rest.partition(b"\n")
        if hashlib.sha256(body).hexdigest().encode() != checksum:
            raise ProgramError("the program is damaged or truncated: its checksum does not match")
        text, _, code = body.partition(b"\n")
        try:
            header = json.loads(text)
            made_for = Config.from_dict(header["config"])
            gemm = Pooling(**header["pooling"]) if "pooling" in header else Gemm(**header["gemm"])
            regions = {name: Region(*region) for name, region in header["regions"].items()}
            digest, count, memory, plan = (header[key] for key in ("digest", "instructions", "memory", "plan"))
        except (KeyError, TypeError, ValueError, AttributeError, ConfigError, CompileError) as error:
            raise ProgramError(f"the program's header cannot be read: {error}") from None
        if digest != made_for.digest() or (config is not None and digest != config.digest()):
            wanted = made_for if config is None else config
            raise ProgramError(f"the program is for the machine with digest {digest}, not {wanted.digest()} ({wanted.name})")
        if len(code) != count * INSTRUCTION_BYTES:
            raise ProgramError(f"the program has {len(code)} bytes, not {count} instructions of {INSTRUCTION_BYTES}")
        try:
            instructions = tuple(Instruction.decode(code[at:at + INSTRUCTION_BYTES]) for at in range(0, len(code), INSTRUCTION_BYTES))
        except IsaError as error:
            raise ProgramError(f"the program holds an illegal instruction: {error}") from None
        return cls(made_for, gemm, instructions, regions, memory, plan)

    def save(self, path: str | Path):
        """Write the program to a file."""
        Path(path).write_bytes(self.to_bytes())

    @classmethod
    def load(cls, path: str | Path, config: Config | None = None) -> "Program":
        """Read a program from a file; with `config`, only one that was compiled for that machine."""
        try:
            data = Path(path).read_bytes()
        except OSError as error:
            raise ProgramError(f"program {str(path)!r} cannot be read: {error.strerror or error}") from None
        return cls.from_bytes(data, config)

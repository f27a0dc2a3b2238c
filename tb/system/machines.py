"""The machines that the system benches run on, and how a test runs programs on one."""

from functools import cache

import numpy as np

from gen.config import ORGANISATIONS, Config
from gen.isa import Instruction
from gen.simulate import Job, Outcome, Simulator

PRESETS = ("tiny", "small", "base")
MACHINES = [(preset, organisation) for preset in PRESETS for organisation in ORGANISATIONS]
FLOAT_MACHINES = [*(("tiny-bf16", organisation) for organisation in ORGANISATIONS), ("small-bf16", "1G1F")]


def machine(preset: str, organisation: str = "1G1F") -> Config:
    """A preset in one of the paper's organisations."""
    return Config.load(preset).organise(organisation)


@cache
def simulator(config: Config) -> Simulator:
    """One simulator for each machine; the build is shared by all tests and kept."""
    return Simulator(config)


def run(config: Config, jobs: list[Job]) -> list[Outcome]:
    """Run jobs one after the other in one process."""
    return simulator(config).run(jobs)


def job(instructions: list[Instruction], *, data: np.ndarray | None = None, bytes_: int = 4096, result: tuple[int, int] = (0, 0),
        raw: dict[int, bytes] | None = None, count: int | None = None, **options) -> Job:
    """A job of hand-written instructions behind `bytes_` of data; `raw` replaces single instructions by other bytes."""
    code = [instruction.encode() for instruction in instructions]
    for index, value in (raw or {}).items():
        code[index] = value
    image = np.zeros(bytes_ + 32 * len(code) + 4096, np.uint8)
    if data is not None:
        image[:data.size] = data
    image[bytes_:bytes_ + 32 * len(code)] = np.frombuffer(b"".join(code), np.uint8)
    return Job(image, bytes_, len(code) if count is None else count, result, limit=options.pop("limit", 200_000), **options)

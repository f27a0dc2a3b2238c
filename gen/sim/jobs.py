"""The cocotb side of a simulation: runs the jobs of a folder one after the other on one machine.

`jobs.json` lists them; for job i the bench reads `i.image` and writes `i.result` (hex, a beat a line), this module writes `i.json` with
the registers. It touches the simulation about a hundred times a job and never while the machine runs.
"""

import json
from pathlib import Path

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge, RisingEdge

from gen.registers import registers


class Conductor:
    """Drives the register bus and the job controls of `bench.sv`, on falling edges: half a cycle away from the machine's own."""

    def __init__(self, bench):
        self.bench = bench

    async def cycle(self):
        """Let one rising edge pass."""
        await FallingEdge(self.bench.clk)

    async def write(self, offset: int, value: int):
        """Write a register."""
        self.bench.address.value = offset
        self.bench.write_data.value = value
        self.bench.write_enable.value = 1
        await self.cycle()
        self.bench.write_enable.value = 0

    async def read(self, offset: int) -> int:
        """Read a register: its data is valid in the cycle after the address."""
        self.bench.address.value = offset
        await self.cycle()
        return self.bench.read_data.value.to_unsigned()

    async def reset(self):
        """Two cycles of reset."""
        self.bench.rst.value = 1
        await self.cycle()
        await self.cycle()
        self.bench.rst.value = 0

    async def run(self, number: int, job: dict, offsets: dict[str, int]) -> dict:
        """Run one job to its end, its limit or a fault; returns the registers and what the bench saw."""
        bench = self.bench
        bench.job.value = number
        bench.image_beats.value = job["image_beats"]
        bench.result_first.value = job["result_first"]
        bench.result_last.value = job["result_last"]
        bench.stalls.value = job["stalls"]
        bench.seed.value = job["seed"]
        bench.pace_beats.value, bench.pace_cycles.value = job["pace"]
        bench.limit.value = job["limit"]
        bench.load.value = 1
        await self.cycle()
        bench.load.value = 0
        if job["reset"]:
            await self.reset()
        await self.write(offsets["program"], job["program"])
        await self.write(offsets["count"], job["count"])
        await self.write(offsets["control"], 1)
        await self.cycle()
        bench.running.value = 1
        await RisingEdge(bench.finished)
        await self.cycle()
        outcome = {
            "expired": bool(bench.expired.value),
            "fault": bench.fault_address.value.to_unsigned() if bench.fault.value else None,
            "registers": {name: await self.read(offset) for name, offset in offsets.items()},
        }
        bench.running.value = 0
        if job["result_last"] >= job["result_first"]:
            bench.store.value = 1
            await self.cycle()
            bench.store.value = 0
        await self.cycle()
        return outcome


@cocotb.test()
async def jobs(bench):
    """Every job of `jobs.json` in the current folder."""
    plan = json.loads(Path("jobs.json").read_text())
    offsets = {item.name: item.offset for item in registers(plan["groups"])}
    Clock(bench.clk, 2, unit="step").start(start_high=False)
    conductor = Conductor(bench)
    await conductor.cycle()
    await conductor.reset()
    for number, job in enumerate(plan["jobs"]):
        outcome = await conductor.run(number, job, offsets)
        part = Path(f"{number}.part")
        part.write_text(json.dumps(outcome))
        part.rename(f"{number}.json")

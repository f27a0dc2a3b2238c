"""A single data rate SDRAM chip as a testbench process: keeps data, and refuses whatever its datasheet forbids."""

import random
from math import ceil

TIMES = ("tRCD", "tRP", "tRAS", "tRC", "tRFC", "tRRD", "tWR", "tMRD")
# Read in the datasheets apart from gen.dram: bytes of the bus, rows, columns, ns from refresh to refresh; TIMES in ns (an int: in cycles)
CHIPS: dict[str, tuple[tuple[int, int, int, float], tuple[float | int, ...]]] = {
    "is42s16160g-7": ((2, 8192, 512, 64e6 / 8192), (15.0, 15.0, 37.0, 60.0, 60.0, 14.0, 14.0, 14.0)),
    "as4c32m16sb-7": ((2, 8192, 1024, 7800.0), (21.0, 21.0, 42.0, 63.0, 63.0, 14.0, 14.0, 14.0)),
    "is42s16320d-7": ((2, 8192, 1024, 64e6 / 8192), (15.0, 15.0, 37.0, 60.0, 60.0, 14.0, 14.0, 14.0)),
    "w9825g6kh-6": ((2, 8192, 512, 64e6 / 8192), (18.0, 18.0, 42.0, 60.0, 60.0, 2, 2, 2)),
    "em638325-6": ((4, 2048, 256, 64e6 / 4096), (18.0, 18.0, 42.0, 60.0, 60.0, 12.0, 2, 2)),
    "m12l64322a-5t": ((4, 2048, 256, 64e6 / 4096), (15.0, 15.0, 40.0, 55.0, 55.0, 10.0, 2, 2)),
}
BURST, BANKS, A10, POSTPONED = 8, 4, 1 << 10, 8
NEVER = -10**9
COMMANDS = {(1, 0, 0): "ACT", (0, 1, 0): "RD", (0, 1, 1): "WR", (1, 0, 1): "PRE", (1, 1, 0): "REF", (1, 1, 1): "MRS", (0, 0, 1): "BST"}


class SdrError(AssertionError):
    """The controller did what the chip does not allow; the text names cycle and rule."""


class SdrChip:
    """The chip on `pins` (a ChipPins): commands are sampled at the end of a cycle, data read by one in c is on the wires in c + CL .. .

    Power-up: nothing for `init_cycles`, all banks precharged, two auto refreshes or more, the mode register (bursts of eight, sequential).
    `data` is by (bank, row, word column). Outside read data the wires carry noise.
    """

    def __init__(self, name: str, pins, *, clock_khz: int, init_cycles: int, seed: int = 0):
        self.pins, self.init_cycles, self.name = pins, init_cycles, name
        (self.width, self.rows, self.columns, interval), times = CHIPS[name]
        self.limits = {key: value if isinstance(value, int) else ceil(round(value * clock_khz) / 10**6) for key, value in zip(TIMES, times)}
        self.interval = interval * clock_khz / 10**6
        self.random = random.Random(seed)
        self.data: dict[tuple[int, int, int], int] = {}
        self.row: list[int | None] = [None] * BANKS
        self.act, self.pre, self.wrote, self.read = ([NEVER] * BANKS for _ in range(4))
        self.last_act = self.last_ref = self.last_column = self.last_mode = NEVER
        self.driven: dict[int, tuple[int, int, int]] = {}     # cycle: what is on the wires
        self.written: dict[int, tuple[int, int, int]] = {}    # cycle: where the wires' word goes
        self.latency, self.started, self.precharged, self.refreshes = 0, None, False, 0
        self.counts = dict.fromkeys(COMMANDS.values(), 0)

    def _check(self, cycle: int, good: bool, rule: str):
        if not good:
            raise SdrError(f"cycle {cycle}: {rule} ({self.name})")

    def _after(self, cycle: int, since: int, name: str, extra: int = 0):
        self._check(cycle, cycle - since >= self.limits[name] + extra, f"{name} = {self.limits[name]} after {cycle - since - extra} cycles")

    def command(self, cycle: int, kind: str, bank: int, address: int):
        """A command sampled at the end of `cycle`."""
        self.counts[kind] += 1
        for name, since in (("tRFC", self.last_ref), ("tMRD", self.last_mode)):
            self._after(cycle, since, name)
        closed = all(row is None for row in self.row)
        if self.started is None:
            self._check(cycle, cycle >= self.init_cycles, "a command within the power-up wait")
            self._check(cycle, kind in ("PRE", "REF", "MRS") and (kind == "PRE" or self.precharged), f"{kind} in the power-up sequence")
        if kind == "MRS":
            self._check(cycle, closed and self.started is None and self.refreshes >= 2, "mode register set too early or again")
            self._after(cycle, max(self.pre), "tRP")
            self._check(cycle, address & 0x38F == 0x003 and bank == 0 and address >> 4 & 7 in (2, 3), f"mode register {address:#x}")
            self.latency, self.started, self.last_mode, self.refreshes = address >> 4 & 7, cycle, cycle, 0
        elif kind == "ACT":
            self._check(cycle, self.row[bank] is None, f"ACT of open bank {bank}")
            self._check(cycle, address < self.rows, f"row {address}")
            self._after(cycle, self.pre[bank], "tRP")
            self._after(cycle, self.act[bank], "tRC")
            self._after(cycle, self.last_act, "tRRD")
            self.row[bank], self.act[bank], self.last_act = address, cycle, cycle
        elif kind in ("RD", "WR"):
            row = self.row[bank]
            self._check(cycle, row is not None, f"{kind} of closed bank {bank}")
            self._check(cycle, address < self.columns and address % BURST == 0, f"column {address:#x}")
            self._after(cycle, self.act[bank], "tRCD")
            self._check(cycle, cycle - self.last_column >= BURST, f"{kind} cuts a burst")
            self.last_column = cycle
            since, words, first = (self.wrote, self.written, cycle) if kind == "WR" else (self.read, self.driven, cycle + self.latency)
            since[bank] = cycle
            words |= {first + i: (bank, row or 0, address + i) for i in range(BURST)}
        elif kind == "PRE":
            for one in range(BANKS) if address & A10 else [bank]:
                if self.row[one] is not None:
                    self._after(cycle, self.act[one], "tRAS")
                    self._after(cycle, self.wrote[one], "tWR", BURST - 1)
                    self._check(cycle, cycle - self.read[one] >= BURST, "PRE cuts a read burst")
                self.row[one], self.pre[one] = None, cycle
            self.precharged |= bool(address & A10)
        elif kind == "REF":
            self._check(cycle, closed, "REF with an open bank")
            self._after(cycle, max(self.pre), "tRP")
            self.last_ref = cycle
            self.refreshes += 1
        else:
            self._check(cycle, False, f"{kind} is not for this controller")

    async def process(self, ctx):
        """The testbench process: add it with `background=True`."""
        pins, cycle, masked = self.pins, 0, {}
        while True:
            word = self.driven.pop(cycle, None)
            ctx.set(pins.dq_i, self.random.getrandbits(8 * self.width) if word is None else self.data.get(word, 0))
            _, _, cke, cs, ras, cas, we, ba, a, dqm, dq, oe = await ctx.tick().sample(
                pins.cke, pins.cs, pins.ras, pins.cas, pins.we, pins.ba, pins.a, pins.dqm, pins.dq_o, pins.dq_oe)
            if cke and cs and (kind := COMMANDS.get((ras, cas, we))):
                self.command(cycle, kind, ba, a)
            self._check(cycle, not (oe and (word or cycle + 1 in self.driven)), "both sides drive the data wires or turn without a gap")
            self._check(cycle, word is None or not masked.get(cycle - 2), "dqm masks read data")
            masked = {cycle: dqm, cycle - 1: masked.get(cycle - 1)}
            if (place := self.written.pop(cycle, None)) is not None:
                self._check(cycle, bool(oe), "no write data on the wires")
                keep = sum(0xFF << 8 * i for i in range(self.width) if dqm >> i & 1)
                self.data[place] = self.data.get(place, 0) & keep | dq & ~keep
            if self.started is not None:
                owed = (cycle - self.started) / self.interval - self.refreshes
                self._check(cycle, owed < POSTPONED + 1, f"{owed:.1f} refreshes owed")
            cycle += 1

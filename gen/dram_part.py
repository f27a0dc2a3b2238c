"""A DRAM part as data: its organisation and the minimums of its datasheet."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field


class DramError(ValueError):
    """A part or memory system that cannot work; the text is one line naming field, value and allowed range."""


@dataclass(frozen=True)
class Minimum:
    """A datasheet minimum: so many clock cycles and so many nanoseconds, whichever is longer (0 where the datasheet gives only one)."""

    cycles: int = 0
    ns: float = 0.0

    def at(self, clock_khz: int) -> int:
        """Whole cycles at a clock: rounded up, exactly (picoseconds)."""
        return max(self.cycles, -(-round(self.ns * 1000) * clock_khz // 10**9))


# Every part gives each of these; the names are the datasheet's.
TIMINGS = (
    "tCL", "tCWL", "tRCD", "tRP", "tRAS", "tRC", "tRTP", "tWR", "tCCD_S", "tCCD_L", "tRRD_S", "tRRD_L", "tFAW", "tWTR_S", "tWTR_L",
    "tRTRS", "tRFC", "tREFI", "tMRD", "tINIT",
)


@dataclass(frozen=True, kw_only=True)
class Part:
    """One DRAM part as the controller sees a rank of it. `bus_bytes` is the width of the rank's data bus, columns are words of it."""

    name: str
    family: str                  # "ddr4" or "sdr"
    doc: str
    clock_khz: int               # of the commands
    bus_bytes: int
    data_rate: int               # words a clock cycle
    burst: int                   # words of a burst
    bank_groups: int
    banks: int                   # of a bank group
    rows: int
    columns: int
    refreshes_at_start: int = 0  # auto refreshes of the power-up sequence
    open_ns: float = 70_000.0    # longest time a row may stay open (tRAS max)
    timings: Mapping[str, Minimum] = field(repr=False)

    def __post_init__(self):
        def refuse(name: str, value, allowed: str):
            raise DramError(f"part {self.name}: {name} = {value} is outside {allowed}")

        if self.family not in ("ddr4", "sdr"):
            refuse("family", repr(self.family), "ddr4, sdr")
        for name, low, high in (("bus_bytes", 1, 8), ("data_rate", 1, 2), ("burst", 4, 8), ("bank_groups", 1, 4), ("banks", 2, 8),
                                ("rows", 16, 1 << 18), ("columns", 64, 1 << 12)):
            value = getattr(self, name)
            if not isinstance(value, int) or not low <= value <= high or value & (value - 1):
                refuse(name, value, f"the powers of two in {low}..{high}")
        if not 1000 <= self.clock_khz <= 3_200_000:
            refuse("clock_khz", self.clock_khz, "1000..3200000 kHz")
        if missing := [name for name in TIMINGS if name not in self.timings]:
            raise DramError(f"part {self.name}: {missing[0]} is missing")
        if unknown := [name for name in self.timings if name not in TIMINGS]:
            near = difflib.get_close_matches(unknown[0], TIMINGS, 1)
            raise DramError(f"part {self.name}: {unknown[0]} is not a parameter" + (f", did you mean {near[0]!r}?" if near else ""))
        for name, value in self.timings.items():
            if value.cycles < 0 or value.ns < 0:
                refuse(name, value, "0 or more")
        self.check(self.clock_khz)

    def check(self, clock_khz: int):
        """Whether the parameters fit together at a clock. Raises DramError."""
        def refuse(name: str, value, allowed: str):
            raise DramError(f"part {self.name} at {clock_khz} kHz: {name} = {value} is outside {allowed}")

        cycles = self.cycles(clock_khz)
        if clock_khz == self.clock_khz and cycles["tRC"] < cycles["tRAS"] + cycles["tRP"]:    # slower, each is rounded up by itself
            refuse("tRC", cycles["tRC"], f"{cycles['tRAS'] + cycles['tRP']} cycles or more (tRAS + tRP)")
        if cycles["tRAS"] < cycles["tRCD"]:
            refuse("tRAS", cycles["tRAS"], f"{cycles['tRCD']} cycles or more (tRCD)")
        for long, short in (("tCCD_L", "tCCD_S"), ("tRRD_L", "tRRD_S"), ("tWTR_L", "tWTR_S"), ("tFAW", "tRRD_S")):
            if cycles[long] < cycles[short]:
                refuse(long, cycles[long], f"{cycles[short]} cycles or more ({short})")
        if cycles["tCCD_S"] < self.burst_cycles:
            refuse("tCCD_S", cycles["tCCD_S"], f"{self.burst_cycles} cycles or more (one burst)")
        if cycles["tREFI"] < 4 * cycles["tRFC"]:
            refuse("tREFI", cycles["tREFI"], f"{4 * cycles['tRFC']} cycles or more (4 tRFC)")
        for name in ("tRCD", "tRP", "tRAS", "tRTP", "tRRD_S", "tCCD_S", "tRFC", "tCL"):
            if cycles[name] < 2:
                refuse(name, cycles[name], "2 cycles or more")
        if cycles["tREFI"] >= 1 << 16:
            refuse("tREFI", cycles["tREFI"], "1..65535 cycles")

    def cycles(self, clock_khz: int) -> dict[str, int]:
        """Every parameter in clock cycles."""
        values = {name: value.at(clock_khz) for name, value in self.timings.items()}
        values["tREFI"] = int(self.timings["tREFI"].ns * clock_khz // 10**6) or values["tREFI"]    # a maximum: rounded down
        return values

    @property
    def burst_cycles(self) -> int:
        """Clock cycles of a burst on the data bus (tBL)."""
        return self.burst // self.data_rate

    @property
    def block_bytes(self) -> int:
        """Bytes of a burst: one request."""
        return self.bus_bytes * self.burst

    @property
    def beat_bytes(self) -> int:
        """Bytes on the data bus in a clock cycle."""
        return self.bus_bytes * self.data_rate

    @property
    def row_blocks(self) -> int:
        """Bursts of a row."""
        return self.columns // self.burst

    @property
    def all_banks(self) -> int:
        """Banks of a rank; bank id = bank in group * bank_groups + bank group."""
        return self.bank_groups * self.banks

"""The ranks behind a channel's pins, for the tests: contents as a dict, and every command held against state and datasheet distances.

Distances come from the timing parameters by nda.md 7.2, command against command with the cycle of each; nothing is taken from the RTL.
"""

import random
from collections import defaultdict

from gen.dram import Minimum, Part

KINDS = ("NONE", "ACT", "PRE", "PREA", "RD", "WR", "REF")


def small_part(family: str = "ddr4", *, rows: int = 64) -> Part:
    """A made-up part: four banks, short timings, refreshes soon enough for a simulation in Python."""
    sdr = family == "sdr"
    cycles = {
        "tCL": 3 if sdr else 6, "tCWL": 0 if sdr else 4, "tRCD": 3 if sdr else 10, "tRP": 3 if sdr else 4, "tRAS": 7 if sdr else 16,
        "tRC": 10 if sdr else 21, "tRTP": 8 if sdr else 4, "tWR": 2 if sdr else 6, "tCCD_S": 8 if sdr else 4, "tCCD_L": 8 if sdr else 6,
        "tRRD_S": 2 if sdr else 4, "tRRD_L": 2 if sdr else 5, "tFAW": 2 if sdr else 21, "tWTR_S": 0 if sdr else 2,
        "tWTR_L": 0 if sdr else 5, "tRTRS": 0 if sdr else 2, "tRFC": 24, "tREFI": 190, "tMRD": 2, "tINIT": 10,
    }
    return Part(
        name=f"small-{family}", family=family, doc="made up", clock_khz=100_000, bus_bytes=2 if sdr else 8, data_rate=1 if sdr else 2,
        burst=8, bank_groups=1 if sdr else 2, banks=4 if sdr else 2, rows=rows, columns=128,
        timings={name: Minimum(value) for name, value in cycles.items()})


class Ranks:
    """All ranks of one channel. `step` once a cycle, in order."""

    def __init__(self, config, seed: int):
        self.config, self.t = config, config.timing
        self.rng = random.Random(seed)
        self.burst = config.part.burst_cycles
        self.open: list[dict] = [{} for _ in range(config.ranks)]       # bank -> row
        self.past = [defaultdict(list) for _ in range(config.ranks)]    # kind -> (cycle, bank)
        self.columns = []                                               # host's column commands: (cycle, rank, kind)
        self.blocks: dict[tuple, int] = {}
        self.reading: dict[int, int] = {}                               # cycle -> beat
        self.writing: dict[int, tuple] = {}                             # cycle -> place, beat number
        self.log = []                                                   # (cycle, rank, kind, bank, row, column, near)
        self.refreshes = [0] * config.ranks

    def content(self, place: tuple) -> int:
        """A block; one never written has a random content."""
        return self.blocks.setdefault(place, self.rng.getrandbits(8 * self.config.part.block_bytes))

    def _distance(self, cycle: int, rank: int, kind: str, least: int, *, bank=None, group=None, number: int = 1):
        """The latest but `number` - 1 command of a kind (of a bank, of a group) is at least `least` cycles ago."""
        groups = self.config.part.bank_groups
        seen = [c for c, b in self.past[rank][kind][-16:] if (bank is None or b == bank) and (group is None or b % groups == group)]
        if len(seen) >= number:
            passed = cycle - seen[-number]
            assert passed >= least, f"cycle {cycle}: rank {rank} bank {bank}: {passed} behind {kind}, {least} needed"

    def _command(self, cycle: int, rank: int, kind: str, bank: int, row: int, column: int, near: bool):
        t, burst, sdr = self.t, self.burst, self.config.part.family == "sdr"
        group, rows = bank % self.config.part.bank_groups, self.open[rank]
        same = cycle, rank
        if kind == "ACT":
            assert bank not in rows, f"cycle {cycle}: ACT of an open bank"
            for before, least in (("PRE", t["tRP"]), ("ACT", t["tRC"])):
                self._distance(*same, before, least, bank=bank)
            self._distance(*same, "ACT", t["tRRD_S"])
            self._distance(*same, "ACT", t["tRRD_L"], group=group)
            self._distance(*same, "ACT", t["tFAW"], number=4)
            self._distance(*same, "PREA", t["tRP"])
            self._distance(*same, "REF", t["tRFC"])
            rows[bank] = row
        elif kind in ("PRE", "PREA"):
            banks = [bank] if kind == "PRE" else range(self.config.part.all_banks)
            assert kind == "PREA" or bank in rows, f"cycle {cycle}: PRE of a closed bank"
            for b in banks:
                self._distance(*same, "ACT", t["tRAS"], bank=b)
                self._distance(*same, "RD", t["tRTP"], bank=b)
                self._distance(*same, "WR", t["tCWL"] + burst + t["tWR"], bank=b)
                rows.pop(b, None)
        elif kind in ("RD", "WR"):
            assert bank in rows, f"cycle {cycle}: {kind} of a closed bank"
            self._distance(*same, "ACT", t["tRCD"], bank=bank)
            other = "WR" if kind == "RD" else "RD"
            self._distance(*same, kind, t["tCCD_S"])
            self._distance(*same, kind, t["tCCD_L"], group=group)
            if kind == "RD":
                self._distance(*same, other, t["tCWL"] + burst + t["tWTR_S"])
                self._distance(*same, other, t["tCWL"] + burst + t["tWTR_L"], group=group)
            else:
                self._distance(*same, other, t["tCL"] + burst + (1 if sdr else 2) - t["tCWL"])
            if not near:
                self._data_pins(cycle, rank, kind)
                place = rank, bank, rows[bank], column
                for beat in range(burst):
                    if kind == "RD":
                        bits = 8 * self.config.part.beat_bytes
                        self.reading[cycle + t["tCL"] + beat] = self.content(place) >> beat * bits & (1 << bits) - 1
                    else:
                        self.writing[cycle + t["tCWL"] + beat] = place, beat
        else:
            assert kind == "REF" and not rows and not near, f"cycle {cycle}: {kind} with open rows"
            self._distance(*same, "PRE", t["tRP"])
            self._distance(*same, "PREA", t["tRP"])
            self._distance(*same, "REF", t["tRFC"])
            self.refreshes[rank] += 1
        self.past[rank][kind].append((cycle, bank))
        self.log.append((cycle, rank, kind, bank, row, column, near))

    def _data_pins(self, cycle: int, rank: int, kind: str):
        """The data pins change hands between ranks with tRTRS between the bursts."""
        t = self.t
        first = cycle + (t["tCL"] if kind == "RD" else t["tCWL"])
        for before, other, what in self.columns[-4:]:
            start = before + (t["tCL"] if what == "RD" else t["tCWL"])
            gap = 0 if other == rank else t["tRTRS"]
            assert first >= start + self.burst + gap, f"cycle {cycle}: beats from {first}, those before from {start}"
        self.columns.append((cycle, rank, kind))

    def step(self, cycle: int, host: tuple, near: list[tuple], write_data: int, write_mask: int) -> int:
        """The commands and the data on the pins in a cycle; (rank, kind, bank, row, column) each. Returns the read data pins."""
        commanded = set()
        for source, (rank, kind, bank, row, column) in enumerate([host, *near]):
            if KINDS[kind] != "NONE":
                assert rank not in commanded, f"cycle {cycle}: host and unit command rank {rank}"
                commanded.add(rank)
                self._command(cycle, rank, KINDS[kind], bank, row, column, source > 0)
        if cycle in self.writing:
            place, beat = self.writing.pop(cycle)
            value, size = self.content(place), self.config.part.beat_bytes
            for byte in range(size):
                if write_mask >> byte & 1:
                    at = 8 * (beat * size + byte)
                    value = value & ~(0xff << at) | (write_data >> 8 * byte & 0xff) << at
            self.blocks[place] = value
        else:
            assert write_mask == 0, f"cycle {cycle}: a write mask without a burst"
        return self.reading.pop(cycle, self.rng.getrandbits(32))

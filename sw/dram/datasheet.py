"""What the timing checker reads in the datasheets: every part's figures as the documents print them, and cycles at a clock.

This is a second reading, on purpose apart from the one the hardware is generated from: nothing here comes from `gen`.
A time is a pair (clocks, ns); the limit in cycles is the larger of the clocks and the ns divided by the clock period, rounded up.
All arithmetic is exact (fractions): 15 ns at a period of 7.5 ns are two cycles, not three.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor

Time = tuple[int, str]          # (clocks, ns); the larger counts

POSTPONED = 8                   # refreshes a rank may owe, and refreshes it may be ahead; both standards


class PartError(ValueError):
    """An unknown part, or a clock or latency that its datasheet does not allow. One line: field, value, allowed range."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Smallest distances between commands in cycles (largest for tREFI, tRAS_max), counted from command to command.

    tWR and tWTR here include write latency and burst. `other_rank` is the distance between column commands to two ranks of a channel, by
    (earlier, later), each "RD" or "WR". `restarts`: a precharge of an already closed bank begins a new tRP.
    """

    groups: int
    banks: int
    rows: int
    tRCD: int
    tRAS: int
    tRAS_max: int
    tRC: int
    tRP: int
    tRTP: int
    tWR: int
    tCCD_S: int
    tCCD_L: int
    tRRD_S: int
    tRRD_L: int
    tFAW: int
    tWTR_S: int
    tWTR_L: int
    tRTW: int
    tRFC: int
    tREFI: int
    other_rank: Mapping[tuple[str, str], int]
    restarts: bool

    def name(self, parameter: str) -> str:
        """A parameter as the part's standard calls it: SDR parts have no bank groups, so no _S and _L."""
        return parameter if self.groups > 1 else parameter.removesuffix("_L").removesuffix("_S")


@dataclass(frozen=True, kw_only=True)
class Datasheet:
    """One part: organisation, and times as printed. `tCK` is the shortest period in ns for each CAS latency, `burst` a burst in clocks,
    `burst_gap` idle clocks of the data bus when its direction turns, `tRTRS` when the rank changes."""

    name: str
    document: str
    ddr4: bool
    groups: int
    banks: int
    rows: int
    tCK: Mapping[int, Fraction]
    CL: int
    CWL: int
    burst: int
    burst_gap: int
    tRTRS: int
    tRCD: Time
    tRP: Time
    tRAS: Time
    tRAS_max: str
    tRC: Time
    tRFC: Time
    tREFI: str
    tWR: Time
    tRRD_L: Time
    tRRD_S: Time = (0, "0")
    tCCD_S: Time = (0, "0")
    tCCD_L: Time = (0, "0")
    tWTR_S: Time = (0, "0")
    tWTR_L: Time = (0, "0")
    tRTP: Time = (0, "0")
    tFAW: Time = (0, "0")

    def limits(self, clock_mhz: float | Fraction | None = None, cas_latency: int | None = None) -> Limits:
        """Cycles at a clock (None: the fastest that the CAS latency allows) and a CAS latency (None: the one of the speed grade)."""
        latency = self.CL if cas_latency is None else cas_latency
        if latency not in self.tCK:
            raise PartError(f"cas_latency {latency}: {self.name} has {', '.join(map(str, sorted(self.tCK)))}")
        fastest = 1000 / self.tCK[latency]
        clock = fastest if clock_mhz is None else Fraction(str(clock_mhz))
        if not 0 < clock <= fastest:
            raise PartError(f"clock_mhz {clock_mhz}: more than 0 and at most {float(fastest):.6g} for {self.name} at CAS latency {latency}")

        def cycles(time: Time) -> int:
            return max(time[0], ceil(Fraction(time[1]) * clock / 1000))

        def at_most(ns: str) -> int:
            return floor(Fraction(ns) * clock / 1000)

        # DDR4 counts tWR and tWTR from the clock after the last beat. SDR counts tDPL from the clock of the last word, CWL is 0, and a
        # read may follow the last word by one clock (tCDL), which is the end of the burst. A precharge stops SDR data out CL clocks
        # later, so it may be given once the burst is over less CL, that is a burst after the RD.
        end, turn = self.CWL + self.burst, self.burst + self.burst_gap - self.CWL
        write_end = end if self.ddr4 else end - 1
        whole = self.burst if not self.ddr4 else 0      # SDR: a column command within the burst would cut it off
        apart = self.burst + self.tRTRS
        return Limits(
            groups=self.groups, banks=self.banks, rows=self.rows, restarts=self.ddr4,
            tRCD=cycles(self.tRCD), tRP=cycles(self.tRP), tRAS=cycles(self.tRAS), tRC=cycles(self.tRC), tRFC=cycles(self.tRFC),
            tRAS_max=at_most(self.tRAS_max), tREFI=at_most(self.tREFI), tWR=write_end + cycles(self.tWR),
            tRTP=max(whole, cycles(self.tRTP)), tCCD_S=max(whole, cycles(self.tCCD_S)), tCCD_L=max(whole, cycles(self.tCCD_L)),
            tRRD_S=cycles(self.tRRD_S), tRRD_L=cycles(self.tRRD_L), tFAW=cycles(self.tFAW),
            tWTR_S=end + cycles(self.tWTR_S), tWTR_L=end + cycles(self.tWTR_L), tRTW=latency + turn,
            other_rank={("RD", "RD"): apart, ("WR", "WR"): apart, ("RD", "WR"): latency + apart - self.CWL,
                        ("WR", "RD"): max(1, self.CWL + apart - latency)})


def _sdr(name: str, document: str, **figures) -> Datasheet:
    """A single data rate part: four banks, CAS latency 3, bursts of eight words, one idle clock where the bus turns."""
    return Datasheet(name=name, document=document, ddr4=False, groups=1, banks=4, CL=3, CWL=0, burst=8, burst_gap=1, tRTRS=1, **figures)


def _periods(three: str, two: str) -> dict[int, Fraction]:
    return {3: Fraction(three), 2: Fraction(two)}


_ALL = (
    # tRTRS and the two clocks between read and write data are no figures of the standard; they are those of the reference's table 7.1.
    Datasheet(name="ddr4-2400r", document="JEDEC JESD79-4, DDR4-2400R, 8 Gb x8, 1 KB page, 1x refresh", ddr4=True,
              groups=4, banks=4, rows=1 << 16, tCK={16: Fraction(1000, 1200)}, CL=16, CWL=12, burst=4, burst_gap=2, tRTRS=2,
              tRCD=(0, "13.32"), tRP=(0, "13.32"), tRAS=(0, "32"), tRAS_max="70200", tRC=(0, "45.32"), tRFC=(0, "350"), tREFI="7800",
              tWR=(0, "15"), tRTP=(4, "7.5"), tCCD_S=(4, "0"), tCCD_L=(5, "5"), tRRD_S=(4, "3.3"), tRRD_L=(4, "4.9"), tFAW=(20, "21"),
              tWTR_S=(2, "2.5"), tWTR_L=(4, "7.5")),
    _sdr("is42s16160g-7", "ISSI IS42S83200G/16160G, AC electrical characteristics, -7; 8192 refreshes in 64 ms", rows=1 << 13,
         tCK=_periods("7", "7.5"), tRCD=(0, "15"), tRP=(0, "15"), tRAS=(0, "37"), tRAS_max="100000", tRC=(0, "60"), tRFC=(0, "60"),
         tREFI="7812.5", tWR=(0, "14"), tRRD_L=(0, "14")),
    _sdr("is42s16320d-7", "ISSI IS42S86400D/16320D, AC electrical characteristics, -7; 8192 refreshes in 64 ms", rows=1 << 13,
         tCK=_periods("7", "7.5"), tRCD=(0, "15"), tRP=(0, "15"), tRAS=(0, "37"), tRAS_max="100000", tRC=(0, "60"), tRFC=(0, "60"),
         tREFI="7812.5", tWR=(0, "14"), tRRD_L=(0, "14")),
    _sdr("as4c32m16sb-7", "Alliance Memory AS4C32M16SB, table 16, -7", rows=1 << 13,
         tCK=_periods("7", "10"), tRCD=(0, "21"), tRP=(0, "21"), tRAS=(0, "42"), tRAS_max="120000", tRC=(0, "63"), tRFC=(0, "63"),
         tREFI="7800", tWR=(0, "14"), tRRD_L=(0, "14")),
    _sdr("w9825g6kh-6", "Winbond W9825G6KH, AC characteristics, -6; 8192 refreshes in 64 ms", rows=1 << 13,
         tCK=_periods("6", "7.5"), tRCD=(0, "18"), tRP=(0, "18"), tRAS=(0, "42"), tRAS_max="100000", tRC=(0, "60"), tRFC=(0, "60"),
         tREFI="7812.5", tWR=(2, "0"), tRRD_L=(2, "0")),
    _sdr("em638325-6", "Etron EM638325, key specifications and AC characteristics, -6; 4096 refreshes in 64 ms", rows=1 << 11,
         tCK=_periods("6", "10"), tRCD=(0, "18"), tRP=(0, "18"), tRAS=(0, "42"), tRAS_max="100000", tRC=(0, "60"), tRFC=(0, "60"),
         tREFI="15625", tWR=(2, "0"), tRRD_L=(0, "12")),
    _sdr("m12l64322a-5t", "ESMT M12L64322A, operating AC parameters, -5; 4096 refreshes in 64 ms", rows=1 << 11,
         tCK=_periods("5", "10"), tRCD=(0, "15"), tRP=(0, "15"), tRAS=(0, "40"), tRAS_max="100000", tRC=(0, "55"), tRFC=(0, "55"),
         tREFI="15625", tWR=(2, "0"), tRRD_L=(0, "10")),
)

PARTS: Mapping[str, Datasheet] = {part.name: part for part in _ALL}


def part(name: str) -> Datasheet:
    """The datasheet of a part by its name; PartError if it is unknown."""
    if name not in PARTS:
        raise PartError(f"part {name!r}: known are {', '.join(PARTS)}")
    return PARTS[name]

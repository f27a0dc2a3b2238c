"""DRAM parts, and the memory system built from one: channels, ranks, queues, address layout. Nothing else states a DRAM timing."""

import dataclasses
from dataclasses import dataclass
from functools import cached_property

from gen.dram_part import DramError, Minimum, Part
from gen.nda import DESCRIPTOR

POSTPONED = 8    # refreshes a rank may owe (DDR4: JESD79-4, 1x refresh; SDR parts only ask for all rows in 64 ms)
SOON = 6             # cycles to a column command from which on its rank is kept free of near-data commands (tCCD_L of DDR4-2400R)
LINK_LATENCY = 8     # cycles each way between host and memory side with interface "packet"


@dataclass(frozen=True, kw_only=True)
class Gaps:
    """Least distances between commands in cycles, each named after the parameter it comes from (nda.md 7.2)."""

    rcd: int      # ACT -> RD, WR of the bank
    ras: int      # ACT -> PRE of the bank; 3 or more, so that who waits for a new row is known before it may be closed
    rc: int       # ACT -> ACT of the bank; 3 or more, too
    rp: int       # PRE -> ACT of the bank, PRE -> REF
    rtp: int      # RD -> PRE of the bank
    wr: int       # WR -> PRE of the bank
    ccd_s: int    # RD -> RD, WR -> WR of the rank
    ccd_l: int    # the same within a bank group
    rrd_s: int    # ACT -> ACT of the rank
    rrd_l: int    # the same within a bank group
    faw: int      # ACT -> fourth ACT after it, of the rank
    wtr_s: int    # WR -> RD of the rank
    wtr_l: int    # the same within a bank group
    rtw: int      # RD -> WR of the rank
    rfc: int      # REF -> ACT, PREA, REF of the rank
    refi: int     # average distance of REF
    rd_rd: int    # RD -> RD of another rank of the channel: the data bus changes hands
    rd_wr: int
    wr_rd: int
    wr_wr: int


@dataclass(frozen=True, kw_only=True)
class DramConfig:
    """One memory system. `reserved` banks a rank are the near-data units' own (0: no such unit). Raises DramError."""

    part: Part
    channels: int = 1
    ranks: int = 1
    reserved: int = 2
    interface: str = "ddr"        # "ddr": replicated NDA state beside the controller; "packet": the scheduler sits on the memory side
    read_entries: int = 32
    write_entries: int = 32
    drain_high: int = 24          # queued writes at which reads have to wait
    drain_low: int = 8            # queued writes at which reads go first again
    patience: int = 2000          # cycles at the head of a queue after which nothing else is scheduled
    clock_khz: int = 0            # 0: the part's
    hashed: bool = True           # XOR row bits into channel, rank and bank
    layout: tuple[tuple[str, int], ...] = ()    # address fields from the least significant bit, in blocks; (): see `default_layout`

    def __post_init__(self):
        def refuse(name: str, value, allowed: str):
            raise DramError(f"{name} = {value} is outside {allowed}")

        part = self.part
        for name, allowed in (("channels", (1, 2, 4)), ("ranks", (1, 2, 4))):
            if getattr(self, name) not in allowed:
                refuse(name, getattr(self, name), ", ".join(map(str, allowed)))
        if part.family == "sdr" and (self.ranks > 1 or self.reserved):
            name = "ranks" if self.ranks > 1 else "reserved"
            refuse(name, getattr(self, name), "1 (SDR part)" if name == "ranks" else "0 (no near-data unit beside an SDR chip)")
        allowed = [0] + [1 << k for k in range(self.bank_bits)]
        if self.reserved not in allowed:
            refuse("reserved", self.reserved, ", ".join(map(str, allowed)) + " banks")
        if self.interface not in ("ddr", "packet"):
            refuse("interface", repr(self.interface), "ddr, packet")
        for name in ("read_entries", "write_entries"):
            if not 2 <= getattr(self, name) <= 64:
                refuse(name, getattr(self, name), "2..64 requests")
        if not 1 <= self.drain_high <= self.write_entries:
            refuse("drain_high", self.drain_high, f"1..{self.write_entries} requests (write_entries)")
        if not 0 <= self.drain_low < self.drain_high:
            refuse("drain_low", self.drain_low, f"0..{self.drain_high - 1} requests (drain_high - 1)")
        if not 16 <= self.patience <= 65535:
            refuse("patience", self.patience, "16..65535 cycles")
        if not self.clock_khz:
            object.__setattr__(self, "clock_khz", part.clock_khz)
        if not 1000 <= self.clock_khz <= part.clock_khz:
            refuse("clock_khz", self.clock_khz, f"1000..{part.clock_khz} kHz (part {part.name})")
        part.check(self.clock_khz)
        if not self.layout:
            object.__setattr__(self, "layout", self.default_layout())
        sizes = dict.fromkeys(self.field_bits, 0)
        for name, bits in self.layout:
            if name not in sizes or bits < 0:
                refuse("layout", repr((name, bits)), f"the fields {', '.join(sizes)} with 0 bits or more")
            sizes[name] += bits
        for name, bits in sizes.items():
            if bits != self.field_bits[name]:
                refuse(f"layout: bits of {name}", bits, f"exactly {self.field_bits[name]}")
        if self.reserved:
            if self.bank_bits > DESCRIPTOR["flip"].width:
                refuse("part: banks", part.all_banks, f"1..{1 << DESCRIPTOR['flip'].width} (reserved banks: the launch field flip)")
            order = [name for name, bits in self.layout for _ in range(bits)]
            where = [i for i, name in enumerate(order) if name == "bank"]
            columns = [i for i, name in enumerate(order) if name == "column"]
            low, high = where[:self.reserved_bits], where[self.reserved_bits:]
            if (low and low[-1] > columns[0]) or (high and high[0] < columns[-1]) or order[-self.field_bits["row"]:] != \
                    ["row"] * self.field_bits["row"]:
                refuse("layout", "this order", f"those with the {self.reserved_bits} low bank bits below the column, the other bank bits "
                       "above it and the row on top (reserved banks)")

    # Address: fields in blocks, least significant first

    @property
    def bank_bits(self) -> int:
        """Bits of a bank id."""
        return self.part.all_banks.bit_length() - 1

    @property
    def reserved_bits(self) -> int:
        """Low bits of the bank id that count through the reserved banks; the others are ones in a reserved bank."""
        return max(self.reserved, 1).bit_length() - 1

    @property
    def swapped_bits(self) -> int:
        """Top row bits that change places with the high bank bits (0: no reserved banks)."""
        return self.bank_bits - self.reserved_bits if self.reserved else 0

    @cached_property
    def field_bits(self) -> dict[str, int]:
        """Width of each address field."""
        part = self.part
        return {name: count.bit_length() - 1 for name, count in (
            ("channel", self.channels), ("column", part.row_blocks), ("rank", self.ranks), ("bank", part.all_banks), ("row", part.rows))}

    def default_layout(self) -> tuple[tuple[str, int], ...]:
        """Bank bits that alternate from block to block, channel, column, rank, the other bank bits, row.

        Two bank groups in turn reach the full rate of a DDR4 channel, so one bank bit lies below the column unless the reserved banks need
        more, or none.
        """
        bits = self.field_bits
        low = self.reserved_bits if self.reserved else min(1, self.part.bank_groups - 1)
        return (("bank", low), ("channel", bits["channel"]), ("column", bits["column"]), ("rank", bits["rank"]),
                ("bank", bits["bank"] - low), ("row", bits["row"]))

    @cached_property
    def hash_masks(self) -> dict[str, tuple[int, ...]]:
        """For each bit of channel, rank and bank the row bits whose parity is added to it. Only the lowest row bits, see `colours`."""
        masks, bit = {}, 0
        for name in ("bank", "rank", "channel"):
            masks[name] = tuple((1 << bit + i) if self.hashed else 0 for i in range(self.field_bits[name]))
            bit += self.field_bits[name]
        return masks

    @property
    def colours(self) -> int:
        """Frames whose low row bits agree have one colour: the same block of each lies in the same channel, rank and bank."""
        return 1 << sum(self.field_bits[name] for name in ("bank", "rank", "channel")) if self.hashed else 1

    @property
    def blocks(self) -> int:
        """Capacity in blocks."""
        return 1 << sum(self.field_bits.values())

    @property
    def bytes(self) -> int:
        """Capacity in bytes."""
        return self.blocks * self.part.block_bytes

    @property
    def frame_blocks(self) -> int:
        """Blocks of a frame: one row index in every bank, rank and channel. The unit in which near-data operands are allocated."""
        return self.blocks // self.part.rows

    @property
    def frames(self) -> int:
        """Frames of the shared region at the top of the address space; the last one holds the launch registers."""
        return self.part.rows >> self.swapped_bits if self.reserved else 0

    # Timing

    @cached_property
    def timing(self) -> dict[str, int]:
        """Every datasheet parameter in cycles at this clock."""
        return self.part.cycles(self.clock_khz)

    @property
    def refresh_forced(self) -> int:
        """Owed refreshes at which one is done whatever waits: an interval is left to get there before a limit is reached.

        Limits: POSTPONED, and the longest time a row may stay open, which lasts from one refresh to the next.
        """
        longest = int(self.part.open_ns * self.clock_khz // 10**6)
        return max(1, min(POSTPONED, longest // self.timing["tREFI"]) - 1)

    @cached_property
    def gaps(self) -> Gaps:
        """Least distances between commands."""
        t, burst = self.timing, self.part.burst_cycles
        turn = 2 if self.part.family == "ddr4" else 1     # idle cycles of the data bus between read and write data
        return Gaps(
            rcd=t["tRCD"], ras=max(3, t["tRAS"]), rc=max(3, t["tRC"]), rp=t["tRP"], rtp=t["tRTP"], wr=t["tCWL"] + burst + t["tWR"],
            ccd_s=t["tCCD_S"], ccd_l=t["tCCD_L"], rrd_s=t["tRRD_S"], rrd_l=t["tRRD_L"], faw=t["tFAW"],
            wtr_s=t["tCWL"] + burst + t["tWTR_S"], wtr_l=t["tCWL"] + burst + t["tWTR_L"], rtw=t["tCL"] + burst + turn - t["tCWL"],
            rfc=t["tRFC"], refi=t["tREFI"],
            rd_rd=burst + t["tRTRS"], wr_wr=burst + t["tRTRS"], rd_wr=t["tCL"] + burst + t["tRTRS"] - t["tCWL"],
            wr_rd=max(2, t["tCWL"] + burst + t["tRTRS"] - t["tCL"]),
        )


SDR_STAGES = 4    # registers between controller and chip: two on the outputs, two on the read data (rtl/memory/sdr.py)


def _sdr(*, cas: int, tRCD: Minimum, tRP: Minimum, tRAS: Minimum, tRC: Minimum, tRFC: Minimum, tRRD: Minimum, tWR: Minimum, tMRD: Minimum,
         tREFI: Minimum, burst: int = 8) -> dict[str, Minimum]:
    """The timings of an SDR part: no bank groups, write data with the command, a precharge only after the last word of a burst.

    tCL is what the controller sees: the chip's CAS latency `cas` and the registers at the pins. The chip has no tFAW: four ACTs may follow
    each other at tRRD. At slow clocks every distance is still two cycles, as the controller's own commands to a rank are that far apart.
    """
    def two(value: Minimum) -> Minimum:
        return Minimum(max(2, value.cycles), value.ns)

    return {
        "tCL": Minimum(cas + SDR_STAGES), "tCWL": Minimum(0), "tRCD": two(tRCD), "tRP": two(tRP), "tRAS": two(tRAS), "tRC": two(tRC),
        "tRTP": Minimum(burst), "tWR": tWR, "tCCD_S": Minimum(burst), "tCCD_L": Minimum(burst), "tRRD_S": two(tRRD), "tRRD_L": two(tRRD),
        "tFAW": two(tRRD), "tWTR_S": Minimum(0), "tWTR_L": Minimum(0), "tRTRS": Minimum(1), "tRFC": two(tRFC), "tREFI": tREFI,
        "tMRD": tMRD, "tINIT": Minimum(0, 200_000.0),
    }


def _sdr_part(name: str, doc: str, *, clock_khz: int, bus_bytes: int, rows: int, columns: int, timings: dict[str, Minimum]) -> Part:
    """An SDR part: four banks, bursts of eight words, eight auto refreshes after power-up (two are enough for all of them)."""
    return Part(name=name, family="sdr", doc=doc, clock_khz=clock_khz, open_ns=100_000.0, bus_bytes=bus_bytes, data_rate=1, burst=8,
                bank_groups=1, banks=4, rows=rows, columns=columns, refreshes_at_start=8, timings=timings)


PARTS = {part.name: part for part in (
    Part(
        name="ddr4-2400r", family="ddr4", doc="rank of eight 8 Gb x8 chips, DDR4-2400R (JESD79-4), the evaluation of Chopim",
        clock_khz=1_200_000, open_ns=70_200.0, bus_bytes=8, data_rate=2, burst=8, bank_groups=4, banks=4, rows=1 << 16, columns=1 << 10,
        timings={
            "tCL": Minimum(16), "tCWL": Minimum(12), "tRCD": Minimum(0, 13.32), "tRP": Minimum(0, 13.32), "tRAS": Minimum(0, 32.0),
            "tRC": Minimum(0, 45.32), "tRTP": Minimum(4, 7.5), "tWR": Minimum(0, 15.0), "tCCD_S": Minimum(4), "tCCD_L": Minimum(5, 5.0),
            "tRRD_S": Minimum(4, 3.3), "tRRD_L": Minimum(4, 4.9), "tFAW": Minimum(20, 21.0), "tWTR_S": Minimum(2, 2.5),
            "tWTR_L": Minimum(4, 7.5), "tRTRS": Minimum(2), "tRFC": Minimum(0, 350.0), "tREFI": Minimum(0, 7800.0), "tMRD": Minimum(8),
            "tINIT": Minimum(0, 700_000.0),
        }),
    _sdr_part(
        "is42s16160g-7", "ISSI IS42S16160G-7, 32 MB, 16 bits (its datasheet): ULX3S, ULX4M, DE0-Nano",
        clock_khz=142_857, bus_bytes=2, rows=1 << 13, columns=1 << 9,
        timings=_sdr(
            cas=3, tRCD=Minimum(0, 15.0), tRP=Minimum(0, 15.0), tRAS=Minimum(0, 37.0), tRC=Minimum(0, 60.0), tRFC=Minimum(0, 60.0),
            tRRD=Minimum(0, 14.0), tWR=Minimum(0, 14.0), tMRD=Minimum(0, 14.0), tREFI=Minimum(0, 7812.5))),
    _sdr_part(
        "as4c32m16sb-7", "Alliance AS4C32M16SB-7, 64 MB, 16 bits (its datasheet, table 16): ULX3S with 64 MB",
        clock_khz=142_857, bus_bytes=2, rows=1 << 13, columns=1 << 10,
        timings=_sdr(
            cas=3, tRCD=Minimum(0, 21.0), tRP=Minimum(0, 21.0), tRAS=Minimum(0, 42.0), tRC=Minimum(0, 63.0), tRFC=Minimum(0, 63.0),
            tRRD=Minimum(0, 14.0), tWR=Minimum(0, 14.0), tMRD=Minimum(0, 14.0), tREFI=Minimum(0, 7800.0))),
    _sdr_part(
        "is42s16320d-7", "ISSI IS42S16320D-7, 64 MB, 16 bits (its datasheet): DE10-Lite",
        clock_khz=142_857, bus_bytes=2, rows=1 << 13, columns=1 << 10,
        timings=_sdr(
            cas=3, tRCD=Minimum(0, 15.0), tRP=Minimum(0, 15.0), tRAS=Minimum(0, 37.0), tRC=Minimum(0, 60.0), tRFC=Minimum(0, 60.0),
            tRRD=Minimum(0, 14.0), tWR=Minimum(0, 14.0), tMRD=Minimum(0, 14.0), tREFI=Minimum(0, 7812.5))),
    _sdr_part(
        "w9825g6kh-6", "Winbond W9825G6KH-6, 32 MB, 16 bits (its datasheet): some ULX3S",
        clock_khz=166_666, bus_bytes=2, rows=1 << 13, columns=1 << 9,
        timings=_sdr(
            cas=3, tRCD=Minimum(0, 18.0), tRP=Minimum(0, 18.0), tRAS=Minimum(0, 42.0), tRC=Minimum(0, 60.0), tRFC=Minimum(0, 60.0),
            tRRD=Minimum(2, 0.0), tWR=Minimum(2, 0.0), tMRD=Minimum(2, 0.0), tREFI=Minimum(0, 7812.5))),
    # 2048 rows, but 4096 refreshes in 64 ms: both 32-bit parts
    _sdr_part(
        "em638325-6", "Etron EM638325-6, 8 MB, 32 bits (its datasheet, rev. 1.4): Colorlight i5 and i9, like Tang Nano 20K",
        clock_khz=166_666, bus_bytes=4, rows=1 << 11, columns=1 << 8,
        timings=_sdr(
            cas=3, tRCD=Minimum(0, 18.0), tRP=Minimum(0, 18.0), tRAS=Minimum(0, 42.0), tRC=Minimum(0, 60.0), tRFC=Minimum(0, 60.0),
            tRRD=Minimum(0, 12.0), tWR=Minimum(2, 0.0), tMRD=Minimum(2, 0.0), tREFI=Minimum(0, 15625.0))),
    _sdr_part(
        "m12l64322a-5t", "ESMT M12L64322A-5T, 8 MB, 32 bits (its datasheet, rev. 1.2): Colorlight 5A-75 (no write masks wired there)",
        clock_khz=200_000, bus_bytes=4, rows=1 << 11, columns=1 << 8,
        timings=_sdr(
            cas=3, tRCD=Minimum(0, 15.0), tRP=Minimum(0, 15.0), tRAS=Minimum(0, 40.0), tRC=Minimum(0, 55.0), tRFC=Minimum(0, 55.0),
            tRRD=Minimum(0, 10.0), tWR=Minimum(2, 0.0), tMRD=Minimum(2, 0.0), tREFI=Minimum(0, 15625.0))),
)}
ALIASES: dict[str, str] = {
    "sdr-ulx3s": "is42s16160g-7", "sdr-ulx3s-64mb": "as4c32m16sb-7", "sdr-de10-lite": "is42s16320d-7", "sdr-colorlight-i5": "em638325-6",
}


def part(name: str) -> Part:
    """A part by name. Raises DramError."""
    name = ALIASES.get(name, name)
    if name not in PARTS:
        raise DramError(f"part = {name!r} is none of {', '.join([*PARTS, *ALIASES])}")
    return PARTS[name]


def replace(config: DramConfig, **changes) -> DramConfig:
    """A memory system that differs in some fields; the address layout follows unless it is given."""
    return dataclasses.replace(config, **({"layout": ()} | changes))

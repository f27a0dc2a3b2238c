"""The DRAM timing checker: a planted violation for each parameter, and random traces against two slow formulations of the same rules.

`Stepper` makes legal traces as a controller would, by the earliest cycle of every next command; `reference` judges a trace by looking at
all pairs of commands. Neither is the checker's running maximum, and neither takes a figure from the checker's datasheets.
"""

import dataclasses
import random
from fractions import Fraction

import pytest

from sw.dram.checker import CommandsError, Violation, check, count
from sw.dram.commands import ACT, HOST, NAMES, NDA, PRE, PREA, RD, RDA, REF, WR, WRA
from sw.dram.datasheet import PARTS, PartError, part
from tb.sw.dram_reference import DDR4, RESERVED, SDR, C, Stepper, commands, reference

BOTH = pytest.mark.parametrize("n", [DDR4, SDR], ids=["ddr4", "sdr"])


def judge(rows: list[C], n: dict, **options) -> list[Violation]:
    reserved = options.pop("reserved_banks", RESERVED)
    return check(commands(rows), part=n["part"], clock_mhz=n["clock"], channels=2, ranks=2, reserved_banks=reserved, **options)


# Datasheets. ---------------------------------------------------------------------------------------


def test_table_7_1():
    """The standard's ns at 1200 MHz are the cycles of the reference's table 7.1, and the derived ones those of 7.2."""
    table = {"tCCD_S": 4, "tCCD_L": 6, "tRCD": 16, "tRP": 16, "tRAS": 39, "tRC": 55, "tRTP": 9, "tRRD_S": 4, "tRRD_L": 6, "tFAW": 26,
             "tRFC": 420, "tREFI": 9360, "tRTW": 10, "tWTR_S": 19, "tWTR_L": 25, "tWR": 34, "groups": 4, "banks": 4, "rows": 1 << 16}
    for limits in (part("ddr4-2400r").limits(), part("ddr4-2400r").limits(1200)):
        assert {name: getattr(limits, name) for name in table} == table
        assert limits.other_rank == {("RD", "RD"): 6, ("WR", "WR"): 6, ("RD", "WR"): 10, ("WR", "RD"): 2}


@pytest.mark.parametrize("name, clock, latency, expected", [
    # tRCD, tRP, tRAS, tRC, tRFC, tRRD, WR to PRE, RD to WR, tREFI
    ("is42s16160g-7", 100, None, (2, 2, 4, 6, 6, 2, 9, 12, 781)),
    ("is42s16160g-7", 100, 2, (2, 2, 4, 6, 6, 2, 9, 11, 781)),
    ("is42s16160g-7", Fraction(400, 3), None, (2, 2, 5, 8, 8, 2, 9, 12, 1041)),
    ("is42s16320d-7", 100, None, (2, 2, 4, 6, 6, 2, 9, 12, 781)),
    ("as4c32m16sb-7", 100, None, (3, 3, 5, 7, 7, 2, 9, 12, 780)),
    ("as4c32m16sb-7", None, None, (3, 3, 6, 9, 9, 2, 9, 12, 1114)),             # 7 ns exactly: 21 ns are three cycles
    ("as4c32m16sb-7", 25.0, 2, (1, 1, 2, 2, 2, 1, 8, 11, 195)),
    ("w9825g6kh-6", 100, None, (2, 2, 5, 6, 6, 2, 9, 12, 781)),
    ("em638325-6", 100, None, (2, 2, 5, 6, 6, 2, 9, 12, 1562)),
    ("m12l64322a-5t", 125, None, (2, 2, 5, 7, 7, 2, 9, 12, 1953)),
])
def test_sdr_cycles(name, clock, latency, expected):
    limits = part(name).limits(clock, latency)
    found = (limits.tRCD, limits.tRP, limits.tRAS, limits.tRC, limits.tRFC, limits.tRRD_L, limits.tWR, limits.tRTW, limits.tREFI)
    assert found == expected
    assert (limits.tCCD_L, limits.tWTR_L, limits.tRTP) == (8, 8, 8)


@pytest.mark.parametrize("options, text", [
    ({"part": "ddr5"}, "part 'ddr5': known are ddr4-2400r"),
    ({"clock_mhz": 1201}, "clock_mhz 1201: more than 0 and at most 1200"),
    ({"clock_mhz": 0}, "clock_mhz 0"),
    ({"part": "as4c32m16sb-7", "clock_mhz": 143}, "at most 142.857"),
    ({"part": "as4c32m16sb-7", "clock_mhz": 133, "cas_latency": 2}, "at most 100"),
    ({"cas_latency": 3}, "cas_latency 3"),
])
def test_part_refused(options, text):
    with pytest.raises(PartError, match=text):
        check(commands([]), **{"part": "ddr4-2400r", "channels": 1, "ranks": 1} | options)


@pytest.mark.parametrize("row, text", [
    (C(0, PRE, 0, 0, channel=2), "channel 2, allowed is 0 to 1"),
    (C(0, PRE, 0, 0, rank=2), "rank 2"),
    (C(0, PRE, 4, 0), "bank_group 4, allowed is 0 to 3"),
    (C(0, PRE, -1, 0), "bank_group -1"),
    (C(0, RD, 0, 4), "bank 4"),
    (C(0, ACT, 0, 0, 1 << 16), "row 65536"),
    (C(0, RD, 0, 0, 1 << 16), "row 65536"),
    (C(0, ACT, 0, 0), "row -1"),
    (C(-1, PRE, 0, 0), "cycle -1"),
    (C(0, 8, 0, 0), "command 8"),
    (C(0, PRE, 0, 0, source=2), "source 2"),
])
def test_command_refused(row, text):
    with pytest.raises(CommandsError, match=f"command 1 of the trace: {text}"):
        judge([C(0, PREA), row], DDR4)
    with pytest.raises(CommandsError, match="cycles 5: the trace reaches cycle 5"):
        judge([C(5, PREA)], DDR4, cycles=5)


# Planted violations: a legal trace, in which one command moved one cycle earlier violates exactly the named parameters.


def planted(n: dict) -> dict[str, tuple[list[C], set[str]]]:
    """Name -> commands, of which the last is the one to move, and what the move violates. Times far apart keep the other rules at bay."""
    far = 200
    act, other = C(0, ACT, 0, 0, 5), C(50, ACT, n["groups"] - 1, 1, 6)
    near = C(50, ACT, 0, 1, 6)
    second = C(50, ACT, 0, 0, 5, rank=1)

    def at(cycle: int, command: int, like: C = act) -> C:
        return like._replace(cycle=cycle, command=command, row=-1)

    def whole(cycle: int, command: int) -> C:
        return C(cycle, command)

    auto_read, auto_write = far + n["RTP"] + n["RP"], far + n["WR"] + n["RP"]
    early = max(n["RCD"] + n["RTP"], n["RAS"]) + n["RP"]
    long, short = ("_L", "_S") if n["ddr4"] else ("", "")
    cases = {
        "tRCD RD": ([act, at(n["RCD"], RD)], {"tRCD"}),
        "tRCD WRA": ([act, at(n["RCD"], WRA)], {"tRCD"}),
        "tRAS PRE": ([act, at(n["RAS"], PRE)], {"tRAS"}),
        "tRAS PREA": ([act, whole(n["RAS"], PREA)], {"tRAS"}),
        # In DDR4 tRC is tRAS + tRP to the last digit, so no trace violates it alone.
        "tRC": ([act, at(n["RAS"], PRE), act._replace(cycle=n["RC"])], {"tRC", "tRP"} if n["ddr4"] else {"tRC"}),
        "tRP PRE": ([act, at(far, PRE), act._replace(cycle=far + n["RP"])], {"tRP"}),
        "tRP PREA": ([act, whole(far, PREA), act._replace(cycle=far + n["RP"])], {"tRP"}),
        "tRP REF": ([act, at(far, PRE), whole(far + n["RP"], REF)], {"tRP"}),
        "tRP RDA": ([act, at(far, RDA), act._replace(cycle=auto_read)], {"tRP"}),
        "tRP WRA": ([act, at(far, WRA), act._replace(cycle=auto_write)], {"tRP"}),
        "tRP RDA REF": ([act, at(far, RDA), whole(auto_read, REF)], {"tRP"}),
        "tRP early RDA": ([act, at(n["RCD"], RDA), whole(early, REF)], {"tRP"}),
        "tRTP PRE": ([act, at(far, RD), at(far + n["RTP"], PRE)], {"tRTP"}),
        "tRTP PREA": ([act, at(far, RD), whole(far + n["RTP"], PREA)], {"tRTP"}),
        "tWR PRE": ([act, at(far, WR), at(far + n["WR"], PRE)], {"tWR"}),
        "tWR PREA": ([act, at(far, WR), whole(far + n["WR"], PREA)], {"tWR"}),
        "tCCD_L RD": ([act, near, at(far, RD), at(far + n["CCD_L"], RD, near)], {"tCCD" + long}),
        "tCCD_L WR": ([act, near, at(far, WR), at(far + n["CCD_L"], WR, near)], {"tCCD" + long}),
        "tRRD_L": ([act, near._replace(cycle=n["RRD_L"])], {"tRRD" + long}),
        "tWTR_L": ([act, near, at(far, WR), at(far + n["WTR_L"], RD, near)], {"tWTR" + long}),
        "tCCD_S RD": ([act, other, at(far, RD), at(far + n["CCD_S"], RD, other)], {"tCCD" + short}),
        "tCCD_S WR": ([act, other, at(far, WR), at(far + n["CCD_S"], WR, other)], {"tCCD" + short}),
        "tRRD_S": ([act, other._replace(cycle=n["RRD_S"])], {"tRRD" + short}),
        "tWTR_S": ([act, other, at(far, WR), at(far + n["WTR_S"], RD, other)], {"tWTR" + short}),
        "tRTW": ([act, other, at(far, RD), at(far + n["RTW"], WR, other)], {"tRTW"}),
        "tRTRS RD RD": ([act, second, at(far, RD), at(far + n["RR"], RD, second)], {"tRTRS"}),
        "tRTRS WR WR": ([act, second, at(far, WR), at(far + n["WW"], WRA, second)], {"tRTRS"}),
        "tRTRS RD WR": ([act, second, at(far, RDA), at(far + n["RDWR"], WR, second)], {"tRTRS"}),
        "tRTRS WR RD": ([act, second, at(far, WR), at(far + n["WRRD"], RD, second)], {"tRTRS"}),
        "tRFC ACT": ([whole(0, REF), act._replace(cycle=n["RFC"])], {"tRFC"}),
        "tRFC REF": ([whole(0, REF), whole(n["RFC"], REF)], {"tRFC"}),
        "tRFC PREA": ([whole(0, REF), whole(n["RFC"], PREA)], {"tRFC"}),
        "BUS channel": ([C(10, PRE, 0, 0), C(11, PRE, 0, 0, rank=1)], {"BUS"}),
        "BUS rank": ([C(10, PRE, 0, 0), C(11, PRE, 0, 3, source=NDA)], {"BUS"}),
        "NDA tWTR": ([act, at(far, WR), C(50, ACT, 0, 3, 1, source=NDA), C(far + n["WTR_L"], RD, 0, 3, source=NDA)], {"tWTR" + long}),
        "NDA tRTW": ([act, at(far, RD), C(50, ACT, 0, 3, 1, source=NDA), C(far + n["RTW"], WR, 0, 3, source=NDA)], {"tRTW"}),
    }
    if n["ddr4"]:
        row = [C(6 * index, ACT, index, index, 1) for index in range(4)]
        cases["tFAW"] = ([*row, C(26, ACT, 0, 1, 1)], {"tFAW"})
        cases["tRP closed"] = ([C(10, PRE, 0, 0), act._replace(cycle=26)], {"tRP"})     # a PRE of a closed bank begins tRP again
    return cases


PLANTED = [pytest.param(n, rows, expected, id=f"{n['part']} {name}") for n in (DDR4, SDR) for name, (rows, expected) in planted(n).items()]


@pytest.mark.parametrize("n, rows, expected", PLANTED)
def test_planted(n, rows, expected):
    assert judge(rows, n) == []
    moved = rows[-1]._replace(cycle=rows[-1].cycle - 1)
    found = judge([*rows[:-1], moved], n)
    assert {item.parameter for item in found} == expected == set(count(found))
    for item in found:
        assert (item.cycle, item.channel, item.rank, item.bank_group, item.bank) == (moved.cycle, 0, moved.rank, moved.group, moved.bank)
        assert item.text.startswith(NAMES[moved.command])


def test_every_parameter_is_planted():
    everything = set().union(*(expected for n in (DDR4, SDR) for _, expected in planted(n).values()))
    timed = {f"t{name}" for name in DDR4 if name[0].isupper()} - {"tRR", "tWW", "tRDWR", "tWRRD", "tREFI"}
    assert everything == timed | {"tCCD", "tRRD", "tWTR", "tRTRS", "BUS"}       # STATE, RESERVED, tREFI, tRAS_max below


def test_trc_alone():
    """With a shorter tRP the DDR4 part shows tRC by itself."""
    sheet = dataclasses.replace(PARTS["ddr4-2400r"], tRP=(0, "5"))
    rows = [C(0, ACT, 0, 0, 5), C(39, PRE, 0, 0), C(55, ACT, 0, 0, 5)]
    for cycle, expected in ((55, {}), (54, {"tRC": 1})):
        assert count(check(commands([*rows[:2], rows[2]._replace(cycle=cycle)]), part=sheet, channels=1, ranks=1)) == expected


@BOTH
@pytest.mark.parametrize("rows, expected", [
    ([C(0, ACT, 0, 0, 5), C(100, ACT, 0, 0, 5)], 1),
    ([C(0, RD, 0, 0)], 1),
    ([C(0, ACT, 0, 0, 5), C(100, PRE, 0, 0), C(200, WR, 0, 0)], 1),
    ([C(0, ACT, 0, 0, 5), C(100, PREA), C(200, WR, 0, 0)], 1),
    ([C(0, ACT, 0, 0, 5), C(100, RDA, 0, 0), C(200, RD, 0, 0)], 1),
    ([C(0, ACT, 0, 0, 5), C(100, RD, 0, 0, 5), C(200, RD, 0, 0, 6)], 1),
    ([C(0, ACT, 0, 0, 5), C(100, RD, 0, 0)], 0),
    ([C(0, ACT, 0, 0, 5), C(100, REF)], 1),
    ([C(0, ACT, 0, 0, 5), C(100, REF, rank=1)], 0),
    ([C(0, ACT, 0, 0, 5), C(100, WRA, 0, 0), C(200, REF)], 0),
    ([C(0, PRE, 0, 0), C(100, PREA), C(200, PRE, 0, 1)], 0),
])
def test_state(n, rows, expected):
    assert count(judge(rows, n)) == ({"STATE": expected} if expected else {})


@BOTH
def test_two_at_once(n):
    """Different channels, and host and NDA at different ranks, do not meet on the command bus, and only host data on the data bus."""
    assert judge([C(10, PRE, 0, 0), C(10, PRE, 0, 0, channel=1), C(10, PRE, 0, 3, rank=1, source=NDA)], n) == []
    opened = [C(0, ACT, 0, 0, 5), C(1, ACT, 0, 3, 5, rank=1, source=NDA)]
    assert judge([*opened, C(100, RD, 0, 0), C(100, WR, 0, 3, rank=1, source=NDA)], n) == []
    assert count(judge([C(10, PREA), C(10, PREA), C(10, PREA, rank=1)], n)) == {"BUS": 2}


@BOTH
def test_reserved(n):
    rows = [C(0, ACT, 0, 3, 5, source=NDA), C(100, PRE, 0, 3, source=NDA)]
    assert judge(rows, n) == []
    assert count(judge(rows, n, reserved_banks={(0, 2)})) == {"RESERVED": 2}
    assert count(judge(rows, n, reserved_banks=frozenset())) == {"RESERVED": 2}
    assert count(judge([*rows, C(200, PREA, source=NDA), C(300, PRE, 0, 2, source=NDA)], n)) == {"RESERVED": 2}
    assert count(judge([C(0, PREA, 0, 3, source=NDA), C(100, REF, 0, 3, source=NDA)], n)) == {"RESERVED": 2}   # whatever their bank says
    assert judge([row._replace(source=HOST) for row in rows], n) == []


def test_sdr_ignores_a_precharge_of_a_closed_bank():
    assert judge([C(0, ACT, 0, 0, 5), C(50, PRE, 0, 0), C(51, PRE, 0, 0), C(52, ACT, 0, 0, 5)], SDR) == []


def test_longest_open_row():
    for last, expected in ((10_000, {}), (10_001, {"tRAS_max": 1})):            # 100 us at 100 MHz
        for rows in ([C(0, ACT, 0, 0, 5), C(last, PRE, 0, 0)], [C(0, ACT, 0, 0, 5), C(last, PRE, 0, 1)]):
            assert count(check(commands(rows), part="em638325-6", clock_mhz=100, channels=1, ranks=1)) == expected


# Refreshes. ----------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("late", [0, 1])
def test_refresh_limit(n, late):
    longest = 9 * n["REFI"]
    rows = [C(longest - 1, REF), C(longest - 1, REF, channel=1), C(longest, REF, rank=1), C(longest + late, REF, rank=1, channel=1)]
    assert [(item.parameter, item.channel, item.rank) for item in judge(rows, n)] == [("tREFI", 1, 1)] * late
    # The end of a run counts, and a rank that nothing refreshes.
    assert count(judge([], n, cycles=longest + late)) == ({"tREFI": 4} if late else {})


def owed_step_by_step(refreshes: list[int], interval: int, end: int) -> set[int]:
    """Cycles in which a rank owes more than 8, or 9 intervals have gone without a refresh and the next cycle brings none."""
    balance, last, found = 0, 0, set()
    for cycle in range(end + 1):
        for _ in range(refreshes.count(cycle)):
            balance, last = max(balance - 1, -8), cycle
        if cycle and cycle % interval == 0:
            balance += 1
            if balance > 8:
                found.add(cycle)
        if cycle == last + 9 * interval and cycle < end:
            found.add(cycle)
    return found


def test_refresh_balance():
    """Random refreshes, rare and in bunches, against a count cycle by cycle."""
    seed = random.randrange(1 << 32)
    print("seed", seed)
    draw = random.Random(seed)
    sheet = dataclasses.replace(PARTS["ddr4-2400r"], tREFI="10", tRFC=(1, "0"))      # 12 cycles
    seen = 0
    for _ in range(150):
        end = draw.randrange(100, 900)
        times = sorted({min(end, draw.randrange(end) // draw.choice((1, 1, 4)) + step) for _ in range(draw.randrange(end // 12))
                        for step in range(draw.choice((1, 1, 3)))})
        found = check(commands([C(cycle, REF) for cycle in times]), part=sheet, channels=1, ranks=1, cycles=end + 1)
        assert {item.parameter for item in found} <= {"tREFI"}
        expected = owed_step_by_step(times, 12, end)
        assert {item.cycle for item in found} == expected
        seen += bool(expected)
    assert 20 < seen < 150


# Random traces. ------------------------------------------------------------------------------------


def named(found: list[Violation]) -> set[tuple]:
    return {(item.parameter, item.cycle, item.channel, item.rank, item.bank_group, item.bank) for item in found}


def expected_names(rows: list[C], n: dict) -> set[tuple]:
    return {(parameter, one.cycle, one.channel, one.rank, one.group, one.bank)
            for parameter, at in reference(rows, n) for one in [rows[at]]}


@BOTH
def test_random_legal(n):
    seed = random.randrange(1 << 32)
    print("seed", seed)
    rows = Stepper(n, random.Random(seed)).run(8000)
    assert judge(rows, n) == []
    assert {row.command for row in rows} == set(range(len(NAMES))) and len(rows) > 2000


@BOTH
def test_random_changes(n):
    """One to three commands of a legal trace moved, or changed to another kind, bank or row: the same violations as the reference finds."""
    seed = random.randrange(1 << 32)
    print("seed", seed)
    draw = random.Random(seed)
    seen: set[str] = set()
    for _ in range(6):
        legal = Stepper(n, draw).run(1200 if n["ddr4"] else 350)
        assert reference(legal, n) == set()
        for _ in range(18):
            rows = list(legal)
            for _ in range(draw.randrange(1, 4)):
                at = draw.randrange(len(rows))
                one = rows[at]
                kind = draw.random()
                if kind < 0.7 or one.command in (PREA, REF):
                    rows[at] = one._replace(cycle=max(0, one.cycle + draw.choice((-1, -1, -1, 1, draw.randrange(-30, 30)))))
                elif kind < 0.8:
                    rows[at] = one._replace(bank=draw.randrange(4), group=draw.randrange(n["groups"]))
                elif kind < 0.9:
                    rows[at] = one._replace(command=draw.choice((ACT, PRE, RD, WR, RDA, WRA)), row=draw.randrange(4))
                else:
                    rows[at] = one._replace(source=1 - one.source)
            rows.sort(key=lambda row: row.cycle)
            wanted = expected_names(rows, n)
            assert named(judge(rows, n)) == wanted, [rows[at] for _, at in reference(rows, n)]
            seen |= {parameter for parameter, *_ in wanted}
    print("seen", sorted(seen))
    assert len(seen) >= (12 if n["ddr4"] else 10)

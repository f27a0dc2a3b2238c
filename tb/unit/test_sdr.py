"""SDR pins: power-up, commands and data at a chip that checks its datasheet; alone, and behind a channel with random traffic."""

import random

import pytest
from amaranth.sim import Simulator

from gen.dram import ALIASES, PARTS, SDR_STAGES, DramConfig, part
from rtl.memory.interfaces import Command
from rtl.memory.sdr import SdrMemory, SdrPins
from tb.unit.refused import refused
from tb.unit.sdr_chip import BURST, CHIPS, SdrChip, SdrError

SDR = [name for name, item in PARTS.items() if item.family == "sdr"]
INIT = 40


def system(name: str, clock_khz: int = 0) -> DramConfig:
    return DramConfig(part=part(name), reserved=0, clock_khz=clock_khz)


def test_every_chip_is_a_part():
    assert sorted(SDR) == sorted(CHIPS)
    assert all(part(alias).family == "sdr" for alias in ALIASES)


@pytest.mark.parametrize("clock_khz", [0, 100_000, 30_000])
@pytest.mark.parametrize("name", SDR)
def test_parts_keep_the_datasheet(name, clock_khz):
    """Distances between commands against the table of the chip model, which was read apart."""
    config = system(name, clock_khz)
    chip = SdrChip(name, None, clock_khz=config.clock_khz, init_cycles=0)
    gaps, limits = config.gaps, chip.limits
    for mine, theirs in (("rcd", "tRCD"), ("rp", "tRP"), ("ras", "tRAS"), ("rc", "tRC"), ("rfc", "tRFC"),
                         ("rrd_s", "tRRD"), ("faw", "tRRD")):
        assert getattr(gaps, mine) == max(3 if mine in ("ras", "rc") else 2, limits[theirs])
    assert gaps.wr >= BURST - 1 + limits["tWR"] and gaps.rtp == gaps.ccd_s == gaps.ccd_l == BURST
    assert gaps.rtw >= config.timing["tCL"] - SDR_STAGES + BURST + 1
    assert gaps.wtr_s == BURST and gaps.refi == int(chip.interval)
    assert config.bytes == chip.rows * chip.columns * chip.width * 4


class Script:
    """Commands on the channel's side as early as the datasheet's distances allow, with the data that goes with them."""

    def __init__(self, config: DramConfig, rng: random.Random, count: int):
        gaps, self.events, self.expected = config.gaps, [], []
        columns, rows = config.part.row_blocks, config.part.rows
        width, content, cycle = config.part.beat_bytes, {}, 0
        for _ in range(count):
            bank, row = rng.randrange(4), rng.randrange(rows)
            self.events.append((cycle, Command.ACT, bank, row, 0, None))
            at, wrote, end = cycle + gaps.rcd, None, cycle + gaps.ras
            for column in (rng.randrange(min(columns, 4)), columns - 1, rng.randrange(columns)) * 2:
                write = rng.random() < 0.5
                if wrote is not None:
                    at += {(0, 0): gaps.ccd_l, (1, 1): gaps.ccd_l, (0, 1): gaps.rtw, (1, 0): gaps.wtr_l}[wrote, write]
                wrote = write
                place = content.setdefault((bank, row, column), [0] * BURST)
                if write:
                    beats = [(rng.getrandbits(8 * width), rng.choice([(1 << width) - 1, rng.getrandbits(width)])) for _ in range(BURST)]
                    for i, (word, mask) in enumerate(beats):
                        keep = sum(0xFF << 8 * b for b in range(width) if not mask >> b & 1)
                        place[i] = place[i] & keep | word & ~keep
                    self.events.append((at, Command.WR, bank, 0, column, beats))
                    end = max(end, at + gaps.wr)
                else:
                    self.events.append((at, Command.RD, bank, 0, column, None))
                    self.expected += [(at + config.timing["tCL"] + i, word) for i, word in enumerate(place)]
                    end = max(end, at + gaps.rtp)
            kind = rng.choice([Command.PRE, Command.PREA])
            self.events.append((end, kind, bank, 0, 0, None))
            self.events.append((end + gaps.rp, Command.REF, 0, 0, 0, None))
            cycle = end + gaps.rp + gaps.rfc


def play(name: str, clock_khz: int, seed: int, *, shift: int = 0, init: int = INIT, strict: int = INIT):
    """Runs a script; `shift` moves every column command that much earlier or later: a planted fault."""
    config, rng = system(name, clock_khz), random.Random(seed)
    pins = SdrPins(config, init_cycles=init)
    chip = SdrChip(name, pins.chip, clock_khz=config.clock_khz, init_cycles=strict, seed=seed)
    script = Script(config, rng, 12)
    at = {cycle - shift * (kind in (Command.RD, Command.WR)): (kind, bank, row, column, beats)
          for cycle, kind, bank, row, column, beats in script.events}
    seen = {}

    async def bench(ctx):
        while not ctx.get(pins.ready):
            await ctx.tick()
        words, wires = [], pins.channel
        for cycle in range(max(at) + 40):
            kind, bank, row, column, beats = at.get(cycle, (Command.NONE, rng.randrange(4), 0, 0, None))
            ctx.set(wires.pins.command, {"kind": kind, "bank": bank, "row": row, "column": column})
            words = list(beats) if beats else words
            word, mask = words.pop(0) if words else (rng.getrandbits(8 * config.part.beat_bytes), rng.getrandbits(config.part.beat_bytes))
            ctx.set(wires.write_data, word)
            ctx.set(wires.write_mask, mask)
            seen[cycle] = ctx.get(wires.read_data)
            await ctx.tick()

    simulator = Simulator(pins)
    simulator.add_clock(1e-6)
    simulator.add_process(chip.process)
    simulator.add_testbench(bench)
    simulator.run()
    assert chip.counts["REF"] >= 8 and chip.latency == pins.latency == 3
    assert [seen[cycle] for cycle, _ in script.expected] == [word for _, word in script.expected]


@pytest.mark.parametrize("name", SDR)
@pytest.mark.parametrize("clock_khz", [0, 75_000])
def test_commands_and_data(name, clock_khz):
    seed = SDR.index(name) + clock_khz
    print(f"seed {seed}")
    try:
        play(name, clock_khz, seed)
    except SdrError as error:
        pytest.fail(str(error))


def test_the_chip_sees_faults():
    with pytest.raises(SdrError, match="tRCD"):
        play("is42s16160g-7", 0, 1, shift=1)
    with pytest.raises(SdrError, match="power-up"):
        play("is42s16160g-7", 0, 1, strict=INIT + SDR_STAGES // 2 + 1)


def traffic(name: str, clock_khz: int, seed: int, count: int = 400, **options):
    """Random requests through a controller: a few rows of all banks, a third of them writes with masks."""
    config = DramConfig(part=part(name), reserved=0, clock_khz=clock_khz, **options)
    rng = random.Random(seed)
    memory = SdrMemory(config, init_cycles=INIT)
    chips = [SdrChip(name, chip, clock_khz=config.clock_khz, init_cycles=INIT, seed=seed + i) for i, chip in enumerate(memory.chips)]
    size, content, expected = config.part.block_bytes, {}, {}
    spread = [rng.randrange(config.blocks) for _ in range(3)]
    requests = []
    for _ in range(count):
        block = (rng.choice(spread) + rng.choice([0, 0, 1, 2, rng.randrange(4096)])) % config.blocks
        requests.append((rng.random() < 0.35, block, rng.getrandbits(8 * size), rng.choice([(1 << size) - 1, rng.getrandbits(size)])))

    async def bench(ctx):
        free, idle, cycle = list(range(1024)), 0, 0
        while requests or expected or idle < 30:
            offered = bool(requests) and rng.random() < 0.5 and bool(free)
            ctx.set(memory.port.request.valid, offered)
            if offered:
                write, block, value, mask = requests[0]
                tag = rng.choice(free)
                ctx.set(memory.port.request.payload, {"write": write, "tag": tag, "block": block, "data": value, "mask": mask})
                if ctx.get(memory.port.request.ready):
                    assert ctx.get(memory.ready)
                    requests.pop(0)
                    old = content.get(block, 0)
                    if write:
                        keep = sum(0 if mask >> i & 1 else 0xFF << 8 * i for i in range(size))
                        content[block] = old & keep | value & ~keep
                    else:
                        expected[tag] = old
                        free.remove(tag)
            for port in memory.port.responses:
                if ctx.get(port.valid):
                    answer = ctx.get(port.payload)
                    assert answer.data == expected.pop(answer.tag), f"cycle {cycle}"
                    free.append(answer.tag)
            idle = 0 if requests or expected or not ctx.get(memory.port.quiet) else idle + 1
            cycle += 1
            assert cycle < 40_000
            await ctx.tick()

    simulator = Simulator(memory)
    simulator.add_clock(1e-6)
    for chip in chips:
        simulator.add_process(chip.process)
    simulator.add_testbench(bench)
    simulator.run()
    assert sum(chip.counts["RD"] for chip in chips) > count / 3 and all(chip.counts["WR"] for chip in chips)
    assert sum(sum(chip.data.values()) != 0 for chip in chips) == len(chips)


@pytest.mark.parametrize(("name", "clock_khz", "channels"), [
    ("is42s16160g-7", 0, 1), ("as4c32m16sb-7", 50_000, 2), ("m12l64322a-5t", 0, 1)])
def test_random_traffic(name, clock_khz, channels):
    seed = 7 + channels
    print(f"seed {seed}")
    traffic(name, clock_khz, seed, channels=channels, read_entries=8, write_entries=8, drain_high=6, drain_low=2)


def test_refresh_counts_from_ready():
    """However long the power-up takes, the memory system's first cycle is the first with `ready`."""
    config = system("is42s16160g-7")
    seen = []
    for init in (INIT, INIT + 333):
        memory = SdrMemory(config, init_cycles=init)

        async def bench(ctx, memory=memory, init=init):
            chip, ready, first = memory.chips[0], None, None
            for cycle in range(init + 2 * config.gaps.refi):
                if ready is None and ctx.get(memory.ready):
                    ready = cycle
                refresh = ctx.get(chip.ras) and ctx.get(chip.cas) and not ctx.get(chip.we)
                if ready is not None and first is None and cycle > ready + 1 and refresh:
                    first = cycle
                assert ctx.get(memory.port.request.ready) == (ready is not None)
                await ctx.tick()
            assert ready is not None and first is not None
            seen.append((ready - init, first - ready))

        simulator = Simulator(memory)
        simulator.add_clock(1e-6)
        simulator.add_testbench(bench)
        simulator.run()
    assert seen[0] == seen[1] and config.gaps.refi <= seen[0][1] <= config.gaps.refi + 8


def test_refused():
    config = system("is42s16160g-7")
    assert refused(lambda: SdrPins(config, init_cycles=0)) == "init_cycles = 0 is outside 1.. cycles"
    assert refused(lambda: SdrPins(DramConfig(part=part("ddr4-2400r")))) == "part = 'ddr4-2400r' is no SDR part"

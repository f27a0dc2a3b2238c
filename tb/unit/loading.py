"""Bench of the loaders: a queue, tokens, credits and a global buffer around one, as the contract describes them; logs every cycle."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from amaranth.sim import Simulator

from gen.config import Array, Buffers, Config, Memory, Unit
from gen.isa import Instruction


def machine(unit: Unit, side: int = 2, *, floating: bool = False, **buffers) -> Config:
    """A small machine, for integers or for bf16 numbers."""
    sizes = {"moving_words": 32, "stationary_tiles": 8, "accumulator_words": 16, "slices": 4, "slice_words": 1024, "store_lanes": 1}
    config = Config(array=Array(side=side, unit=unit), buffers=Buffers(**(sizes | buffers)), memory=Memory(bytes_per_cycle=4))
    return config.as_bf16() if floating else config


@dataclass
class Log:
    """What happened, by cycle."""

    decisions: list[int] = field(default_factory=list)              # an instruction left the queue
    issues: list[int] = field(default_factory=list)
    words: dict[int, int] = field(default_factory=dict)             # in issue cycles
    ready: list[int] = field(default_factory=list)                  # asserted
    signals: list[tuple[int, int, int]] = field(default_factory=list)     # cycle, group, mask asserted
    writes: dict[int, dict[int, tuple[int, list[int]]]] = field(default_factory=dict)   # cycle -> core -> address, operands
    idle: list[int] = field(default_factory=list)
    waiting: dict[int, int] = field(default_factory=dict)           # cycle -> index


def serve(slice_words: np.ndarray, banks: int, addresses: list[int]) -> list[bytes]:
    """The global buffer's words for one read: the first lane that addresses a bank is served, others get that bank's word."""
    rows = {}
    for address in addresses:
        rows.setdefault(address % banks, address)
    return [bytes(slice_words[rows[address % banks] % len(slice_words)]) for address in addresses]


def run(dut, config: Config, contents: np.ndarray, program: list[tuple[int, Instruction]], *, releases: dict[int, int], cycles: int,
        tokens: dict[int, int] | None = None, wave_words: Callable[[Instruction], int] | None = None) -> Log:
    """Simulate: each instruction heads the queue from its cycle at the earliest; `releases` gives credits by cycle, `tokens` the cycle in
    which a token becomes positive (0 without an entry); `wave_words` are what LOAD_H's queue says of an instruction."""
    log, tokens = Log(), tokens or {}
    side, bits = config.array.side, config.operand_bits

    async def bench(ctx):
        queue, answers = list(enumerate(program)), {}
        for cycle in range(cycles):
            valid = bool(queue) and queue[0][1][0] <= cycle
            ctx.set(dut.instruction.valid, valid)
            if valid:
                index, (_, instruction) = queue[0]
                size = len(dut.instruction.payload.bits)
                ctx.set(dut.instruction.payload.bits, int.from_bytes(instruction.encode(), "little") & ((1 << size) - 1))
                ctx.set(dut.instruction.payload.index, index + 100)
                if wave_words:
                    ctx.set(dut.instruction.payload.wave_words, wave_words(instruction))
            wait = ctx.get(dut.tokens.wait)
            ctx.set(dut.tokens.ready, all(tokens.get(i, 0) <= cycle for i in range(16) if wait >> i & 1))
            ctx.set(dut.release, releases.get(cycle, 0))
            for lane, word in enumerate(answers.pop(cycle, [b"\xa5" * config.word_bytes] * config.cores)):
                ctx.set(dut.read.data[lane], int.from_bytes(word, "little"))
            assert ctx.get(dut.tokens.take) == ctx.get(dut.instruction.ready)
            if ctx.get(dut.instruction.ready):
                assert valid
                log.decisions.append(cycle)
                queue.pop(0)
            if ctx.get(dut.issuing):
                log.issues.append(cycle)
                log.words[cycle] = ctx.get(dut.words)
            else:
                assert not ctx.get(dut.words)
            if ctx.get(dut.read.enable):
                where = ctx.get(dut.read.slice)
                assert where < len(contents), f"slice {where} is read, of {len(contents)}"
                answers[cycle + 3] = serve(contents[where], config.banks, [ctx.get(address) for address in dut.read.addresses])
            if ctx.get(dut.ready):
                log.ready.append(cycle)
            if mask := ctx.get(dut.tokens.signal):
                log.signals.append((cycle, ctx.get(dut.tokens.signal_group), mask))
            if enable := ctx.get(dut.write.enable):
                address = ctx.get(dut.write.address)
                log.writes[cycle] = {}
                for core in range(config.cores):
                    if enable >> core & 1:
                        value = ctx.get(dut.write.data[core])
                        values = [value >> bits * i & (1 << bits) - 1 for i in range(side)]
                        log.writes[cycle][core] = (address, [v - 512 if bits == 9 and v & 256 else v for v in values])
            if ctx.get(dut.idle):
                log.idle.append(cycle)
            if ctx.get(dut.waiting):
                log.waiting[cycle] = ctx.get(dut.index)
            await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    return log


@dataclass
class Wave:
    """One wave of the closed form: what it needs, how long it issues, and when."""

    instruction: int
    credits: int
    n: int
    first: bool
    last: bool
    decision: int = -1


def schedule(waves: list[Wave], program: list[tuple[int, Instruction]], *, capacity: int, releases: dict[int, int],
             tokens: dict[int, int] | None = None, rng: np.random.Generator | None = None) -> list[Wave]:
    """Decision cycles by the contract: every condition visible, and the one before in its last issue cycle or gone.

    With `rng` each wave's credits come back some random time after its decision, one wave a cycle: added to `releases`.
    """
    done, end, popped = [], 0, -1
    for wave in waves:
        arrival, instruction = program[wave.instruction]
        cycle = end
        if wave.first:
            cycle = max(cycle, arrival, popped + 1, *((tokens or {}).get(i, 0) for i in range(16) if instruction.wait >> i & 1))
        taken = sum(other.credits for other in done)
        while capacity - taken + sum(n for when, n in releases.items() if when < cycle) < wave.credits:
            cycle += 1
            assert cycle < 100_000, "the test's releases never suffice"
        popped = cycle if wave.first else popped
        done.append(replace(wave, decision=cycle))
        end = cycle + wave.n
        if rng is not None and wave.credits:
            back = cycle + 1 + int(rng.integers(0, 40))
            while back in releases:
                back += 1
            releases[back] = wave.credits
    return done


def check(log: Log, waves: list[Wave], program: list[tuple[int, Instruction]]):
    """Decisions, issue cycles, tokens and idle against a schedule."""
    issues = [wave.decision + 1 + i for wave in waves for i in range(wave.n)]
    assert log.decisions == [wave.decision for wave in waves if wave.first]
    assert log.issues == issues
    ends = [(wave.decision + wave.n, program[wave.instruction][1]) for wave in waves if wave.last]
    assert log.signals == [(end, instruction.group, instruction.signal) for end, instruction in ends if instruction.signal]
    busy = {cycle for i, wave in enumerate(waves) if wave.first
            for cycle in range(wave.decision + 1, next(w.decision + w.n for w in waves[i:] if w.last) + 1)}
    assert set(log.idle).isdisjoint(busy) and set(log.idle) | busy >= set(range(max(busy) + 5))

"""Random machines and random programs for them, for comparing models."""

import random

from gen.config import Array, Buffers, Config, Control, Memory, Vector
from gen.config import Unit as Kind
from gen.isa import OPCODES, Instruction, Mode, Unit


def random_config(rng: random.Random) -> Config:
    """A small machine with awkward sizes."""
    side, row_latency = rng.choice((1, 2, 2, 4)), rng.choice((1, 1, 2, 3))
    kind = rng.choice((Kind.FLEX, Kind.FLEX, Kind.QUAD, Kind.SINGLE))
    beat_words = rng.choice((1, 2, 4, 16))
    return Config(
        name="random",
        array=Array(side=side, unit=kind, groups=rng.choice((1, 1, 2, 4)), multiplier_latency=rng.randint(1, 6), row_latency=row_latency),
        buffers=Buffers(
            moving_words=rng.choice((32, 64)), stationary_tiles=rng.choice((4, 8, 16) if row_latency < 3 else (8, 16)), accumulator_words=8,
            slices=4, slice_words=256, store_lanes=rng.choice([lanes for lanes in (1, 2, 4) if lanes <= side]),
        ),
        memory=Memory(bytes_per_cycle=side * beat_words, latency=rng.choice((1, 2, 3, 7, 20, 40)), burst_beats=rng.choice((1, 2, 4, 16))),
        control=Control(
            queue_depth=rng.choice((2, 2, 3, 4, 8)), fetch_depth=rng.choice((16, 16, 32)), landing_depth=rng.choice((2, 2, 3, 4)),
        ),
        vector=Vector(window=rng.choice((0, 16, 16))),
    )


class _Pool:
    """Tokens that instructions so far have added and none has taken: a wait takes only what an earlier instruction gives.

    Unless `shared`, each token is taken by one unit only, so that nobody takes what another instruction counts on.
    """

    def __init__(self, rng: random.Random, groups: int, eagerness: float, shared: bool):
        self.rng, self.eagerness = rng, eagerness
        self.counts = [[0] * 16 for _ in range(groups)]
        self.takers = [[None if shared else rng.choice(list(Unit)) for _ in range(16)] for _ in range(groups)]

    def masks(self, group: int, unit: Unit | None) -> dict[str, int]:
        wait = signal = 0
        for bit, count in enumerate(self.counts[group]):
            if count and self.takers[group][bit] in (None, unit) and self.rng.random() < self.eagerness:
                wait |= 1 << bit
                self.counts[group][bit] -= 1
        for _ in range(self.rng.choice((0, 1, 1, 2))):
            signal |= 1 << self.rng.randrange(16)
        for bit in range(16):
            self.counts[group][bit] += signal >> bit & 1
        return {"wait": wait, "signal": signal}


def random_program(rng: random.Random, config: Config, jobs: int) -> list[Instruction]:
    """A program whose waves are loaded as they are executed. It may still deadlock or collide on a token."""
    groups = config.array.groups
    pool = _Pool(rng, groups, rng.choice((0.0, 0.1, 0.3, 0.6)), rng.random() < 0.2)
    modes = {Kind.FLEX: tuple(Mode), Kind.QUAD: (Mode.ISW,), Kind.SINGLE: (Mode.FW,)}[config.array.unit]
    bold = rng.random() < 0.3       # loads after their use, and more than the rings hold
    program: list[Instruction] = []

    def add(name: str, group: int, **values: int):
        program.append(Instruction(name, group=group, **pool.masks(group, OPCODES[name].unit), **values))

    def waves(group: int):
        mode = rng.choice(modes)
        rows = rng.choice((1, 2, 3, rng.randint(1, 16), 4 * config.array.side))
        rows = min(rows, config.wide_rows if mode.wide else config.narrow_rows, config.moving_capacity * mode.parts)
        count, rate = rng.choice((1, 1, 2, 3, 8)), rng.randint(0, mode.parts.bit_length() - 1)
        if not bold:
            count = max(1, min(count, config.stationary_capacity // 2, config.moving_capacity * mode.parts // (2 * rows)))
        cut = rng.randint(0, count)
        loads = [("LdLBUF_V", {"mode": mode, "waves": part}) for part in (cut, count - cut) if part]
        loads += [("LdLBUF_H", {"mode": mode, "rate": rate, "rows": rows, "waves": count})]
        execute = [("ExecGEMM", {"mode": mode, "rows": rows, "waves": count, "half": rng.randint(0, 1)})]
        rng.shuffle(loads)
        todo = loads + execute
        if bold:
            rng.shuffle(todo)
        for name, values in todo:
            add(name, group, **values)

    for _ in range(jobs):
        group, what = rng.randrange(groups), rng.random()
        if what < 0.45:
            waves(group)
        elif what < 0.75:
            add(rng.choice(("DmaIn", "DmaOut")), group, chunks=rng.choice((1, 1, 2, 5)), beats=rng.choice((1, 2, 3, 7, 20)))
        elif what < 0.9:
            wide = rng.randint(0, 1)
            if config.vector.window and rng.random() < 0.3:
                add("SetAdd", group, multiplier=1)
            if config.vector.window and rng.random() < 0.3:
                add("Pool", group, columns=rng.randint(1, 4), lines=rng.randint(1, 3), kernel_width=rng.randint(1, 3),
                    kernel_height=rng.randint(1, 3), average=rng.randint(0, 1))
                continue
            add("StLBUF", group, wide=wide, rows=rng.randint(1, 8), output=rng.randint(0, 2))
        elif what < 0.94:
            add("LdScale", group, blocks=rng.randint(1, 2))
        elif what < 0.97:
            add("SetConv", group)
        else:
            program.append(Instruction("Barrier"))
    program.append(Instruction("End"))
    for _ in range(rng.choice((0, 0, 0, 3, 9))):
        program.append(Instruction("Barrier"))      # never reached, but fetched
    return program

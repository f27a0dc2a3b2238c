"""Tokens that a Sequencer hands out: units of any speed keep the order that the data asks for, and no token is left over."""

import random

import pytest

from gen.isa import Instruction, Unit
from sw.compiler import sequencer
from sw.compiler.sequencer import Sequencer

NAMES = {"DmaIn": Unit.DMA_IN, "DmaOut": Unit.DMA_OUT, "LdLBUF_H": Unit.LOAD_H, "LdLBUF_V": Unit.LOAD_V, "StLBUF": Unit.STORE,
         "Vector": Unit.VECTOR}
WRITERS, READERS = ("DmaIn", "StLBUF", "Vector"), ("DmaOut", "LdLBUF_H", "LdLBUF_V", "Vector")


def random_program(rng: random.Random) -> tuple[Sequencer, list[tuple[str, set, set]]]:
    """Operations on a few slices, and what each reads and writes; barriers now and then."""
    made, operations = Sequencer(), []
    for _ in range(rng.randint(5, 60)):
        if rng.random() < 0.05:
            made.barrier()
            continue
        name = rng.choice(list(NAMES))
        reads = set(rng.sample(range(4), rng.randint(0, 2))) if name in READERS else set()
        writes = {rng.randrange(4)} if name in WRITERS else set()
        made.add(name, reads, writes)
        operations.append((name, reads, writes))
    return made, operations


def names(instructions: list[Instruction]) -> list[str]:
    """Of all but barriers and the end."""
    return [one.name for one in instructions if one.unit is not None]


def run(instructions: list[Instruction], rng: random.Random) -> list[tuple[int, int]]:
    """Start and end of every instruction but barriers on units of random speed, which wait for their tokens and for nothing else. Fails if
    units get stuck or tokens are left over at a barrier."""
    times: list[tuple[int, int] | None] = [None] * len(instructions)
    tokens: dict[int, list[int]] = {}       # when each was signalled
    free = dict.fromkeys(Unit, 0)
    barrier = 0
    queues: dict[Unit, list[int]] = {unit: [] for unit in Unit}

    def drain():
        progress = True
        while progress:
            progress = False
            for unit, queue in queues.items():
                if not queue:
                    continue
                one = instructions[queue[0]]
                wanted = [bit for bit in range(16) if one.wait >> bit & 1]
                if all(tokens.get(bit) for bit in wanted):
                    start = max([free[unit], barrier, *(tokens[bit].pop(0) for bit in wanted)])
                    end = start + rng.choice([1, 2, 50, 500])
                    times[queue.pop(0)], free[unit], progress = (start, end), end, True
                    for bit in range(16):
                        if one.signal >> bit & 1:
                            tokens.setdefault(bit, []).append(end)

    for number, instruction in enumerate(instructions):
        if instruction.unit is not None:
            queues[instruction.unit].append(number)
            continue
        drain()
        assert not any(queues.values()), "units are stuck"
        assert not any(tokens.values()), "tokens are left over"
        barrier = max([barrier, *free.values()])
    return [time for time in times if time is not None]


def too_early(operations: list[tuple[str, set, set]], times: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Pairs of operations of which the later one starts before the earlier one is done, though data or a port is at stake."""
    found = []
    for late, (name, reads, writes) in enumerate(operations):
        for early, (other, before_reads, before_writes) in enumerate(operations[:late]):
            meet = before_writes & (reads | writes) or before_reads & (reads | writes)
            if meet and name != other and times[late][0] < times[early][1]:
                found.append((early, late))
    return found


@pytest.mark.parametrize("seed", range(200))
def test_order_and_tokens(seed):
    print(f"seed {seed}")
    rng = random.Random(seed)
    made, operations = random_program(rng)
    instructions = made.instructions()
    assert names(instructions) == [name for name, _, _ in operations]
    for _ in range(5):
        assert not too_early(operations, run(instructions, rng))


def test_a_missing_wait_is_seen(monkeypatch):
    """The check above can fail: without waiting the order is lost."""
    monkeypatch.setattr(Sequencer, "_wait", lambda self, operation, other: None)
    rng = random.Random(0)
    found = 0
    for _ in range(20):
        made, operations = random_program(rng)
        found += bool(too_early(operations, run(made.instructions(), rng)))
    assert found > 10


def test_waits_only_where_it_has_to():
    """What another wait has made sure needs no token; a unit does not wait for itself."""
    made = Sequencer()
    made.add("DmaIn", (), [0])
    made.add("Vector", [0], [1])
    made.add("Vector", [1], [2])
    made.add("DmaOut", [2, 0])        # VECTOR is done, so DMA_IN is
    waits = [bin(one.wait).count("1") for one in made.instructions()]
    assert waits == [0, 1, 0, 1, 0]


def test_programs_of_their_own_lie_between_barriers():
    made = Sequencer()
    made.add("DmaIn", (), [0])
    made.program([Instruction("LdLBUF_V", wait=5, signal=9), Instruction("End")])
    made.add("DmaOut", [0])
    found = made.instructions()
    assert [one.name for one in found] == ["DmaIn", "Barrier", "LdLBUF_V", "Barrier", "DmaOut", "End"]
    assert (found[2].wait, found[2].signal, found[4].wait) == (5, 9, 0)


def test_more_pairs_than_tokens(monkeypatch):
    """A barrier comes between."""
    monkeypatch.setattr(sequencer, "TOKENS", 1)
    made = Sequencer()
    made.add("DmaIn", (), [0])
    made.add("Vector", [0], [1])
    made.add("DmaOut", [1])
    found = made.instructions()
    assert [one.name for one in found] == ["DmaIn", "Vector", "Barrier", "DmaOut", "End"]
    assert [one.wait for one in found] == [0, 1, 0, 0, 0]

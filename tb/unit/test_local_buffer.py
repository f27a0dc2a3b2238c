"""The local buffer: a ring of words, each LBUF_LATENCY cycles after it was asked for."""

import random

import pytest

from gen.timing import LBUF_LATENCY
from rtl.buffer.local_buffer import LocalBuffer
from tb.unit.refused import refused
from tb.unit.test_array import machine
from tb.unit.test_pe import trace


@pytest.mark.parametrize(("side", "depth", "seed"), [(1, 4, 0), (2, 8, 1), (4, 16, 2)])
def test_words_come_in_ring_order(side, depth, seed):
    rng = random.Random(seed)
    words, inputs, due = [], [], {}
    read = 0
    for t in range(400):
        free = len(words) - read < depth
        advance = read < len(words) and rng.random() < 0.6          # a word is read from the cycle after its write
        values = {"advance": advance, "write_enable": free and rng.random() < 0.6, "write_address": len(words) % depth,
                  "write_data": rng.getrandbits(9 * side)}
        if advance:
            due[t + LBUF_LATENCY] = words[read]
            read += 1
        if values["write_enable"]:
            words.append(values["write_data"])
        inputs.append(values)
    seen = trace(LocalBuffer(machine(side, "flex", 1, 1), depth=depth), inputs, ["word"])
    assert len(due) > 100
    assert all(seen[t]["word"] == word for t, word in due.items() if t < len(seen)), seed


@pytest.mark.parametrize("depth", [0, 1, 6])
def test_depth_is_checked(depth):
    assert refused(lambda: LocalBuffer(machine(2, "flex", 1, 1), depth=depth)) == f"depth = {depth} must be a power of two, at least 2"

"""The proofs, and that each of them fails when the thing proved is broken."""

import pytest
from amaranth.hdl import Cat, Signal

from gen.presets import PRESETS
from rtl.control.queue import Queue
from rtl.control.tokens import Tokens
from rtl.memory.arbiter import CLIENTS, Arbiter
from tb.formal.prove import Disproved, prove
from tb.formal.specs import ArbiterSpec, QueueSpec, TokensSpec


class Overflowing(Queue):
    """Says a cycle too late that it is full."""

    def elaborate(self, platform):
        m = super().elaborate(platform)
        with m.If(self.count < self.depth - 1):
            m.d.sync += self.full.eq(0)
        with m.Else():
            m.d.sync += self.full.eq(self.count == self.depth)
        return m


class Forgetful(Queue):
    """Puts what is being pushed in the place of the oldest entry when it holds two."""

    def elaborate(self, platform):
        m = super().elaborate(platform)
        with m.If(self.push & (self.count == 2)):
            m.d.sync += self.head.payload.eq(self.entry)
        return m


class Unsaid(Tokens):
    """Does not notice that a token was taken twice."""

    def elaborate(self, platform):
        m = super().elaborate(platform)
        with m.If(self.counts[3] < 0):
            m.d.comb += self.error.eq(0)
        return m


class Restless(Tokens):
    """Shows a token two cycles after it was taken if another one is left."""

    def elaborate(self, platform):
        m = super().elaborate(platform)
        first, second = self.units[:2]
        taken = Signal(2)
        m.d.sync += taken.eq(Cat(second.take & second.wait[2], taken))
        with m.If(taken[1] & (self.counts[2] > 1) & (first.wait == 1 << 2)):
            m.d.comb += first.ready.eq(1)
        return m


class Losing(Tokens):
    """Loses a signal when two ports signal the same token at once."""

    def elaborate(self, platform):
        m = super().elaborate(platform)
        with m.If(self.units[0].signal[7] & self.units[1].signal[7]):
            m.d.sync += self.counts[7].eq(self.counts[7] + 1)
        return m


class Hasty(Arbiter):
    """Lets go of a burst whose beat is not accepted at once."""

    def elaborate(self, platform):
        m = super().elaborate(platform)
        with m.If(~self.port.ready):
            m.d.sync += self.locked.eq(0)
        return m


class Unfair(Arbiter):
    """The first client always comes first."""

    def elaborate(self, platform):
        m = super().elaborate(platform)
        with m.If(~self.locked & self.enable & self.clients[0].valid):
            m.d.comb += self.grant.eq(1)
        return m


class Double(Arbiter):
    """Tells two clients that their beats were accepted."""

    def elaborate(self, platform):
        m = super().elaborate(platform)
        m.d.comb += self.clients[1].ready.eq(self.port.ready & (self.grant[1] | self.grant[CLIENTS - 1]))
        return m


@pytest.mark.parametrize(("depth", "cycles"), [(2, 10), (3, 9)])
def test_queue_keeps_order(depth, cycles):
    prove(QueueSpec(depth=depth), f"queue_{depth}", cycles, "bmc")     # twice around the smaller one; to fill and empty takes 2 * depth


@pytest.mark.parametrize("broken", [Overflowing, Forgetful])
def test_queue_proof_can_fail(broken):
    with pytest.raises(Disproved):
        prove(QueueSpec(depth=3, make=broken), f"queue_{broken.__name__.lower()}", 12, "bmc")


def test_tokens_are_conserved():
    prove(TokensSpec(ports=3), "tokens", 4)


@pytest.mark.parametrize("broken", [Unsaid, Losing, Restless])
def test_tokens_proof_can_fail(broken):
    with pytest.raises(Disproved):
        prove(TokensSpec(ports=3, make=broken), f"tokens_{broken.__name__.lower()}", 8, "bmc")


def test_arbiter_is_fair_and_holds_bursts():
    prove(ArbiterSpec(PRESETS["tiny"]), "arbiter", 4)


@pytest.mark.parametrize("broken", [Hasty, Unfair, Double])
def test_arbiter_proof_can_fail(broken):
    with pytest.raises(Disproved):
        prove(ArbiterSpec(PRESETS["tiny"], make=broken), f"arbiter_{broken.__name__.lower()}", 12, "bmc")

"""Everything that uses the memory port, burst by burst: instruction fetch, DMA_IN, DMA_OUT and the arbiter between them."""

from collections import deque
from fractions import Fraction
from typing import TYPE_CHECKING, Protocol

from gen.isa import INSTRUCTION_BYTES, Instruction, Unit
from gen.timing import ASK_LATENCY, DMA_IN_LATENCY, DMA_OUT_LATENCY
from sw.model.kernel import GRANT, Kernel
from sw.model.units import InOrder

if TYPE_CHECKING:
    from sw.model.cycles import Machine


NEVER = 1 << 62


class Client(Protocol):
    """Who uses the port."""

    def granted(self, time: int, limit: int) -> int:
        """The burst on offer is granted in cycle `time`, and so are those behind it whose turn comes in cycle `limit` or before. Returns
        the cycle in which the last beat is accepted."""
        ...


class Pace:
    """A port that accepts `beats` a cycle, 1 or fewer: in the cycles 1 .. t, floor(t * beats). Fetch is the first to ask, in cycle 1."""

    def __init__(self, beats: Fraction):
        self.beats, self.cycles = beats.numerator, beats.denominator

    def upto(self, cycle: int) -> int:
        """Beats that can have been accepted up to and with a cycle."""
        return cycle * self.beats // self.cycles

    def at(self, number: int) -> int:
        """The cycle in which beat `number`, counted from 1, is accepted if all are used."""
        return -(-number * self.cycles // self.beats)


class Port:
    """The arbiter: grants a burst in the cycle in which the port is free and a client has a beat on offer, after the last client first."""

    def __init__(self, kernel: Kernel, beats: Fraction = Fraction(1)):
        self.kernel, self.pace = kernel, Pace(beats)
        self.clients: list[Client] = []
        self.offers: list[int | None] = [None, None, None]  # cycle from which a client has a beat on offer
        self.free_at, self.last = 0, 2
        self.due: int | None = None     # cycle of the arbitration on the heap
        self.active = False

    def offer(self, client: int, time: int):
        """The client has its next burst on offer from cycle `time`."""
        self.offers[client] = time
        if not self.active:
            self.schedule()

    def schedule(self):
        time = max(self.free_at, min(offer for offer in self.offers if offer is not None))
        if self.due is None or time < self.due:
            self.due = time
            self.kernel.at(time, GRANT, self.grant, time)

    def grant(self, time: int):
        """Arbitrate in cycle `time`, and ahead of the clock as long as nothing else can happen before."""
        if time != self.due:
            return      # an earlier one has taken its place
        self.due, self.active = None, True
        offers, heap = self.offers, self.kernel.heap
        while True:
            for step in (1, 2, 3):
                client = (self.last + step) % 3
                offer = offers[client]
                if offer is not None and offer <= time:
                    break
            else:
                raise AssertionError("a grant without an offer")
            offers[client], self.last = None, client
            limit = heap[0][0] if heap else NEVER   # until another client has an offer, or may have
            for offer in offers:
                if offer is not None and offer <= limit:
                    limit = offer - 1
            self.free_at = self.clients[client].granted(time, limit) + 1
            known = [offer for offer in offers if offer is not None]
            if not known:
                break
            time = max(self.free_at, min(known))
            if heap and time > heap[0][0]:
                self.schedule()     # an event before may bring another offer
                break
        self.active = False


class Fetch:
    """Instruction fetch (client 0): bursts into the instruction buffer."""

    def __init__(self, machine: "Machine", count: int):
        config = machine.config
        self.machine, self.count = machine, count
        self.size, self.beats = config.fetch_instructions, config.fetch_beats
        self.depth, self.latency, self.beat_bytes = config.control.fetch_depth, config.memory.latency, config.memory.bytes_per_cycle
        self.allocated = 0
        self.idle_at: int | None = 0
        self.popped: deque[int] = deque()   # cycles of the pops that no decision has needed yet
        self.seen = 0                       # pops before those
        self.seen_at = -1                   # cycle of the last of them
        self.available: deque[int] = deque()
        self.bursts: list[int] = []         # cycles of their first beats

    def pump(self):
        """Decide the next burst if the cycle is known."""
        if self.idle_at is None or self.allocated >= self.count:
            return
        need = self.allocated + self.size - self.depth
        while self.seen < need:
            if not self.popped:
                return
            self.seen_at = self.popped.popleft()
            self.seen += 1
        decision = max(self.idle_at, self.seen_at + 1)
        self.allocated += self.size
        self.idle_at = None
        self.machine.port.offer(0, decision + 1)

    def granted(self, time: int, limit: int) -> int:
        pace = self.machine.port.pace
        number = pace.upto(time - 1) + 1        # of the burst's first beat
        last = pace.at(number + self.beats - 1)
        self.bursts.append(pace.at(number))
        start = len(self.bursts) * self.size - self.size
        for i in range(min(self.size, self.count - start)):
            accepted = pace.at(number + ((i + 1) * INSTRUCTION_BYTES - 1) // self.beat_bytes)
            self.available.append(accepted + self.latency + 1)
        self.idle_at = last + 1
        self.machine.dispatcher.pump()
        self.pump()
        return last

    def accepted(self, end: int) -> int:
        """Beats accepted up to cycle `end`."""
        pace = self.machine.port.pace
        return sum(min(self.beats, max(0, pace.upto(end) - pace.upto(first - 1))) for first in self.bursts)


class Dma(InOrder):
    """DMA_IN (client 1) or DMA_OUT (client 2)."""

    def __init__(self, machine: "Machine", unit: Unit):
        super().__init__(machine, unit, 0)
        config = machine.config
        self.client = 1 if unit is Unit.DMA_IN else 2
        self.longest, self.latency = config.memory.burst_beats, config.memory.latency
        self.landing = deque([-1] * (config.control.landing_depth if unit is Unit.DMA_IN else 1))   # cycles in which places came free
        self.chunks = self.chunk = self.left = 0    # chunks to come with the present one, beats of a chunk, beats left of the present one
        self.current = (-1, Instruction("End"), -1)      # index, instruction, decision
        self.beats = 0

    def earliest(self) -> int | None:
        if self.free_at is None or not self.queue or not self.landing:
            return None
        return max(self.free_at, self.queue[0][2], self.landing[0] + 1)

    def decide(self, index: int, instruction: Instruction, time: int):
        self.current = (index, instruction, time)
        self.chunks, self.chunk = instruction.values["chunks"], instruction.values["beats"]
        self.left = self.chunk
        self.free_at = None
        self.landing.popleft()
        self.machine.port.offer(self.client, time + (ASK_LATENCY if self.unit is Unit.DMA_IN else DMA_OUT_LATENCY))

    def granted(self, time: int, limit: int) -> int:
        pace, left, longest = self.machine.port.pace, self.left, self.longest
        number = pace.upto(time - 1)            # of the last beat accepted before
        while True:
            beats = left if left < longest else longest
            number += beats
            last = pace.at(number)
            self.beats += beats
            left -= beats
            if not left:
                self.chunks -= 1
                left = self.chunk
            if last >= limit or not self.chunks:
                break
        self.left = left
        if self.chunks:
            self.machine.port.offer(self.client, last + 1)
            return last
        index, instruction, start = self.current
        if self.unit is Unit.DMA_IN:
            landed = last + self.latency
            self.landing.append(landed)
            self.free_at = last + 1
            self.finish(index, instruction, start, landed + DMA_IN_LATENCY)
        else:
            self.landing.append(last + 1)
            self.free_at = last + 2
            self.finish(index, instruction, start, last + 2)
        self.pump()
        return last

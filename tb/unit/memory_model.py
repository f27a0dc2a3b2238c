"""Main memory as a testbench process: takes a beat a cycle, answers reads in order after a fixed latency; may pause at random."""

import random
from collections import deque


class MemoryModel:
    """Serves the streams of a memory port from `data`; `response` may be None for a client that only writes.

    `beats` notes every accepted beat: cycle and the request's fields. `pause` is the probability with which a cycle accepts nothing, and
    with which a due answer is held back. Cycle 0 is the process's first.
    """

    def __init__(self, request, response, *, data: bytearray, latency: int, beat: int, pause: float = 0.0, seed: int = 0):
        self.request, self.response, self.data = request, response, data
        self.latency, self.beat, self.pause = latency, beat, pause
        self.random = random.Random(seed)
        self.beats: list[tuple[int, dict]] = []
        self.cycle = 0

    def _paused(self) -> bool:
        return self.pause > 0 and self.random.random() < self.pause

    async def process(self, ctx):
        """The testbench process: add it with `background=True`."""
        due: deque[tuple[int, int, int]] = deque()
        while True:
            ready = not self._paused()
            ctx.set(self.request.ready, ready)
            if self.response is not None:
                answer = bool(due) and due[0][0] <= self.cycle and not self._paused()
                ctx.set(self.response.valid, answer)
                if answer:
                    _, tag, value = due.popleft()
                    ctx.set(self.response.payload, {"tag": tag, "data": value})
            _, _, valid, payload = await ctx.tick().sample(self.request.valid, self.request.payload)
            if valid and ready:
                beat = {name: int(payload[name]) for name in ("write", "tag", "last", "beats", "address", "data")}
                self.beats.append((self.cycle, beat))
                place = slice(beat["address"], beat["address"] + self.beat)
                assert place.stop <= len(self.data), f"address {beat['address']:#x} is outside memory"
                if beat["write"]:
                    self.data[place] = beat["data"].to_bytes(self.beat, "little")
                else:
                    due.append((self.cycle + self.latency, beat["tag"], int.from_bytes(self.data[place], "little")))
            self.cycle += 1

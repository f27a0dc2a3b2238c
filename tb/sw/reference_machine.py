"""A cycle-stepping transcription of rtl/README.md: registers that change at the end of a cycle, every unit looked at in every cycle.

Deliberately naive, and independent of sw.model: it is what the event model is compared with.
"""

from collections import defaultdict
from fractions import Fraction

from gen.config import Unit as Kind
from gen.isa import Mode, Stall, Unit
from gen.timing import (
    ACCUMULATOR_LATENCY,
    ADD_LATENCY,
    ASK_LATENCY,
    DMA_IN_LATENCY,
    DMA_OUT_LATENCY,
    LOAD_LATENCY,
    POOL_LATENCY,
    SCALE_LATENCY,
    SET_ADD_LATENCY,
    STORE_LATENCY,
    TOKEN_LATENCY,
    drain,
)


class Stopped(Exception):
    """The machine stopped with a cause (its name) at an instruction."""


class Reference:
    """Runs one program to its end; the results are the counters."""

    def __init__(self, config, program, pace=Fraction(1)):
        self.pace = pace        # beats that the port accepts a cycle
        self.config, self.program = config, program
        self.side, self.t = config.array.side, 0
        self.after = defaultdict(list)      # cycle -> register updates at its end
        self.before = defaultdict(list)     # cycle -> things that arrive in it (memory responses)
        self.n = defaultdict(int)           # counters
        groups = range(config.array.groups)
        self.token = {(g, b): 0 for g in groups for b in range(16)}
        self.taken = defaultdict(int)       # takes by group, token and cycle
        self.queue = {(Unit.DMA_IN, 0): [], (Unit.DMA_OUT, 0): []}
        for g in groups:
            for unit in (Unit.LOAD_H, Unit.LOAD_V, Unit.EXECUTE, Unit.STORE):
                self.queue[unit, g] = []
        self.leaving = defaultdict(lambda: -2)      # (unit, group) -> cycle of the last decision that took the head
        self.unfinished = defaultdict(int)  # (unit, group) -> instructions started whose tokens are not visible yet
        # fetch, dispatch
        self.allocated = self.popped = 0
        self.fetching = 0                   # beats of the present burst still to be accepted
        self.buffer = []                    # available instructions (indices)
        self.arrived = self.dispatched = 0
        # port
        self.owner, self.last_client = None, 2
        self.dma = {unit: {"beats": [], "from": None, "ins": None} for unit in (Unit.DMA_IN, Unit.DMA_OUT)}
        self.landing = 0
        # groups
        self.load = {}
        self.free = {}
        self.ready = {}
        self.execute = {}
        self.store_idle_from = dict.fromkeys(groups, 0)
        self.adding: set[int] = set()      # groups whose next StLBUF or Pool has a residual
        for g in groups:
            for unit in (Unit.LOAD_H, Unit.LOAD_V):
                self.load[unit, g] = {"ins": None, "left": 0, "from": 0}
                self.ready[unit, g] = 0
            self.free[Unit.LOAD_H, g] = config.moving_capacity
            self.free[Unit.LOAD_V, g] = config.stationary_capacity
            self.execute[g] = {"ins": None, "to_shift": 0, "to_stream": 0, "shifted": None, "shadow_free": True, "first": False,
                               "stream": None, "interval": 0, "tall": False, "half": None, "index": None}
        self.first_active, self.last_active = None, None
        self.quiet_cycles = 0

    # helpers

    def end_of(self, cycle, update):
        assert cycle >= self.t
        self.after[cycle].append(update)

    def add(self, table, key, value, cycle=None):
        def update():
            table[key] += value
        self.end_of(self.t if cycle is None else cycle, update)

    def put(self, table, key, value, cycle=None):
        def update():
            table[key] = value
        self.end_of(self.t if cycle is None else cycle, update)

    def tokens_there(self, ins):
        return all(self.token[ins.group, b] > 0 and not self.taken[ins.group, b, self.t - 2] for b in range(16) if ins.wait >> b & 1)

    def take(self, ins):
        for b in range(16):
            if ins.wait >> b & 1:
                self.add(self.token, (ins.group, b), -1, self.t + 1)
                self.taken[ins.group, b, self.t] += 1

    def start(self, unit, g, ins):
        self.add(self.unfinished, (unit, g), 1)

    def finish(self, unit, g, ins, asserted):
        """Tokens asserted in a cycle."""
        for b in range(16):
            if ins.signal >> b & 1:
                self.add(self.token, (ins.group, b), 1, asserted + TOKEN_LATENCY - 1)
        self.add(self.unfinished, (unit, g), -1, asserted)

    def head(self, unit, g):
        return self.queue[unit, g][0] if self.queue[unit, g] and self.leaving[unit, g] != self.t - 1 else None

    def pop(self, unit, g):
        queue = self.queue[unit, g]
        self.end_of(self.t + 1, lambda: queue.pop(0))
        self.leaving[unit, g] = self.t
        self.active = True

    # the units, one cycle each

    def step_fetch(self):
        count = len(self.program)
        if self.fetching == 0 and self.allocated < count \
                and self.allocated - self.popped + self.config.fetch_instructions <= self.config.control.fetch_depth:
            self.active = True
            self.add(self.__dict__, "allocated", self.config.fetch_instructions)
            self.put(self.__dict__, "fetching", self.config.fetch_beats)

    def fetch_response(self):
        """A beat of program: instructions that are complete are available from the next cycle."""
        self.arrived += 1
        complete = self.arrived * self.config.memory.bytes_per_cycle // 32
        self.end_of(self.t, lambda: setattr(self, "complete", complete))

    complete = 0

    def illegal(self, ins):
        c = self.config
        if ins.group >= c.array.groups:
            return True
        return "slice" in ins.values and ins.slice >= c.buffers.slices

    quiet = True    # in the cycle before, and nothing was on its way to a queue
    pushing = False

    def step_dispatch(self):
        # An instruction is on its way to its queue in the cycle after its dispatch.
        quiet = not any(self.queue.values()) and not any(self.unfinished.values()) and not self.pushing
        self.pushing, before = False, self.dispatched_to_units
        self.dispatch()
        self.pushing = self.dispatched_to_units != before
        self.quiet = quiet

    dispatched_to_units = 0
    dispatched_at = -2

    def dispatch(self):
        if self.dispatched == len(self.program):
            raise Stopped("END", self.dispatched)
        if self.dispatched >= self.complete or self.t < self.dispatched_at + 2:
            return
        ins, index = self.program[self.dispatched], self.dispatched
        if self.illegal(ins):
            raise Stopped("FIELD", index)
        if ins.unit is None:
            if not self.quiet:
                return
            if ins.name == "End":
                self.done = True
                return
        else:
            key = (ins.unit, 0 if ins.unit in (Unit.DMA_IN, Unit.DMA_OUT) else ins.group)
            if len(self.queue[key]) >= self.config.control.queue_depth:
                return
            self.end_of(self.t + 1, lambda: self.queue[key].append((index, ins)))
            self.dispatched_to_units += 1
        self.active = True
        self.dispatched_at = self.t
        self.add(self.__dict__, "popped", 1, self.t + 1)
        self.add(self.__dict__, "dispatched", 1)

    def step_dma(self, unit):
        state, head = self.dma[unit], self.head(unit, 0)
        if state["ins"] is not None or head is None or not self.tokens_there(head[1]):
            return
        if unit is Unit.DMA_IN and self.landing >= self.config.control.landing_depth:
            return
        ins = head[1]
        self.pop(unit, 0)
        self.take(ins)
        self.start(unit, 0, ins)
        beats = []
        for _ in range(ins.chunks):
            for i in range(ins.beats):
                beats.append(i == ins.beats - 1 or (i + 1) % self.config.memory.burst_beats == 0)
        self.put(state, "beats", beats)
        self.put(state, "ins", ins)
        self.put(state, "from", self.t + (ASK_LATENCY if unit is Unit.DMA_IN else DMA_OUT_LATENCY))
        if unit is Unit.DMA_IN:
            self.add(self.__dict__, "landing", 1)

    def valid(self, client):
        """Whether a client has a beat on offer in this cycle."""
        if client == 0:
            return self.fetching > 0
        state = self.dma[Unit.DMA_IN if client == 1 else Unit.DMA_OUT]
        return bool(state["beats"]) and self.t >= state["from"]

    def step_port(self):
        client = self.owner
        if client is None:
            for i in (1, 2, 3):
                if self.valid((self.last_client + i) % 3):
                    client = (self.last_client + i) % 3
                    break
            else:
                return
        assert self.valid(client)
        self.active = True
        if self.t * self.pace // 1 == (self.t - 1) * self.pace // 1:       # not accepted in this cycle
            self.put(self.__dict__, "owner", client)
            return
        answer = self.t + self.config.memory.latency
        if client == 0:
            last = self.fetching == 1
            self.n["fetch_beats"] += 1
            self.add(self.__dict__, "fetching", -1)
            self.before[answer].append(self.fetch_response)
        else:
            unit = Unit.DMA_IN if client == 1 else Unit.DMA_OUT
            state = self.dma[unit]
            ins, last, finished = state["ins"], state["beats"][0], len(state["beats"]) == 1
            self.n["dram_read_beats" if client == 1 else "dram_write_beats"] += 1
            self.put(state, "beats", state["beats"][1:])
            if finished:
                self.put(state, "ins", None, self.t + (client == 2))
                if client == 1:
                    self.before[answer].append(lambda: self.landed(ins))
                else:
                    self.finish(unit, 0, ins, self.t + 1)
        self.put(self.__dict__, "owner", None if last else client)
        if last:
            self.put(self.__dict__, "last_client", client)

    def landed(self, ins):
        """The last beat of a DmaIn is at the port."""
        self.add(self.__dict__, "landing", -1)
        self.finish(Unit.DMA_IN, 0, ins, self.t + DMA_IN_LATENCY - 1)

    def step_load(self, unit, g):
        state = self.load[unit, g]
        if self.t < state["from"]:
            self.active = True
            return
        first = state["left"] == 0
        if first:
            head = self.head(unit, g)
            if head is None:
                return
            ins = head[1]
            if not self.tokens_there(ins):
                return
        else:
            ins = state["ins"]
        if ins.name == "SetConv":
            self.pop(unit, g)
            self.take(ins)
            self.start(unit, g, ins)
            self.put(state, "from", self.t + 1)
            self.finish(unit, g, ins, self.t + 1)
            self.n[f"g{g}_busy_load_h"] += 1
            return
        mode, kind = Mode(ins.mode), self.config.array.unit
        if unit is Unit.LOAD_H:
            parts, rate = mode.parts, 1 << ins.rate
            need = -(-ins.rows // parts)
            n = -(-ins.rows // rate)
            visible = self.t + LOAD_LATENCY if rate == parts else self.t + n - 1 + LOAD_LATENCY
            words = ins.rows * (2 if kind is Kind.FLEX and mode in (Mode.FW, Mode.VSW) else 1)
        else:
            need, n, visible = 1, self.side, self.t + LOAD_LATENCY
            words = self.side * {Kind.FLEX: {0: 4, 1: 2, 2: 2, 3: 1}[ins.mode], Kind.QUAD: 4, Kind.SINGLE: 1}[kind]
        if self.free[unit, g] < need:
            return
        self.active = True
        if first:
            self.pop(unit, g)
            self.take(ins)
            self.start(unit, g, ins)
            self.put(state, "ins", ins)
            self.put(state, "index", head[0])
        left = ins.waves - 1 if first else state["left"] - 1
        self.put(state, "left", left)
        self.put(state, "from", self.t + n)
        self.add(self.free, (unit, g), -need)
        self.add(self.ready, (unit, g), 1, visible - 1)
        self.n[f"g{g}_busy_{unit.name.lower()}"] += n
        self.n[f"g{g}_{'moving' if unit is Unit.LOAD_H else 'stationary'}_words"] += words
        if left == 0:
            self.finish(unit, g, ins, self.t + n)

    def step_execute(self, g):
        x = self.execute[g]
        head = self.head(Unit.EXECUTE, g)
        covered = x["stream"] is not None and self.t <= x["stream"] + x["interval"]
        # stream
        streams, missing = False, None
        if x["shifted"] is None:
            if x["to_shift"] == 0 and head is None:
                missing = Stall.INSTRUCTION
            elif self.ready[Unit.LOAD_V, g] == 0:
                missing = Stall.STATIONARY
            else:
                missing = Stall.SHIFT
        else:
            ins, mode = x["ins"], Mode(x["ins"].mode)
            tall = mode in (Mode.FW, Mode.VSW)
            penalty = 0
            if x["stream"] is not None and x["tall"] and not tall and x["half"] == ins.half:
                penalty = self.side * self.config.array.row_latency + 1
            if self.t < x["shifted"] + self.side - 1:
                missing = Stall.SHIFT
            elif self.ready[Unit.LOAD_H, g] == 0:
                missing = Stall.MOVING
            elif x["first"] and not self.tokens_there(ins):
                missing = Stall.TOKEN
            elif x["stream"] is not None and self.t < x["stream"] + x["interval"] + penalty:
                missing = Stall.ACCUMULATOR
            else:
                streams = True
        if covered:
            self.n[f"g{g}_stall_array"] += 1
        else:
            self.n[f"g{g}_stall_{(Stall.SHIFT if streams else missing or Stall.SHIFT).name.lower()}"] += 1
        if streams:
            self.active = True
            steps = -(-ins.rows // mode.parts)
            if x["first"]:
                self.take(ins)
            self.add(self.ready, (Unit.LOAD_H, g), -1)
            self.add(self.free, (Unit.LOAD_H, g), steps, self.t + steps)
            self.put(x, "stream", self.t)
            self.put(x, "interval", max(steps, self.side, ACCUMULATOR_LATENCY))
            self.put(x, "tall", tall)
            self.put(x, "half", ins.half)
            self.put(x, "shifted", None)
            self.put(x, "shadow_free", True)
            self.put(x, "first", False)
            self.n[f"g{g}_waves_{mode.name.lower()}"] += 1
            self.n[f"g{g}_busy_execute"] += steps
            last = self.t + steps + drain(self.config)
            if self.first_active is None or self.t + 1 < self.first_active:
                self.first_active = self.t + 1
            self.last_active = last if self.last_active is None else max(self.last_active, last)
            if x["to_shift"] == 0:
                self.finish(Unit.EXECUTE, g, ins, last)
        # shift
        if x["shadow_free"] and self.ready[Unit.LOAD_V, g] > 0 and (x["to_shift"] > 0 or head is not None):
            self.active = True
            if x["to_shift"] == 0:
                assert head is not None
                self.pop(Unit.EXECUTE, g)
                self.start(Unit.EXECUTE, g, head[1])
                self.put(x, "ins", head[1])
                self.put(x, "index", head[0])
                self.put(x, "first", True)
                self.put(x, "to_shift", head[1].waves - 1)
            else:
                self.put(x, "to_shift", x["to_shift"] - 1)
            self.put(x, "shadow_free", False)
            self.put(x, "shifted", self.t)
            self.add(self.ready, (Unit.LOAD_V, g), -1)
            self.add(self.free, (Unit.LOAD_V, g), 1, self.t + self.side)

    def step_store(self, g):
        head = self.head(Unit.STORE, g)
        if self.t < self.store_idle_from[g] or head is None or not self.tokens_there(head[1]):
            return
        ins = head[1]
        self.pop(Unit.STORE, g)
        self.take(ins)
        self.start(Unit.STORE, g, ins)
        groups = self.side // self.config.buffers.store_lanes
        if ins.name in ("StLBUF", "Pool"):
            if ins.name == "StLBUF":
                words = ins.rows * (2 if ins.wide and self.config.array.unit is not Kind.SINGLE else 1)
                n, behind = words * groups, STORE_LATENCY
                self.n[f"g{g}_stored_words"] += words * (4 if ins.output == 0 else 1)
            else:
                words = ins.columns * ins.lines
                n, behind = words * max(ins.kernel_width * ins.kernel_height, groups), STORE_LATENCY + POOL_LATENCY + groups - 1
                self.n[f"g{g}_stored_words"] += words
            done = self.t + n + behind + (ADD_LATENCY if g in self.adding else 0)
            self.adding.discard(g)
        elif ins.name == "SetAdd":
            n, done = groups, self.t + groups + SET_ADD_LATENCY
            self.adding.add(g)
        else:
            n = 8 * ins.blocks * groups
            done = self.t + n + SCALE_LATENCY
        self.n[f"g{g}_busy_store"] += n
        self.finish(Unit.STORE, g, ins, done)
        self.put(self.store_idle_from, g, done + 1)

    def waiting(self):
        """Index of the first instruction that waits, in the order of units: a started one, or else a queue head."""
        for unit, g in sorted(self.queue):
            started = None
            if unit is Unit.EXECUTE and (self.execute[g]["to_shift"] or self.execute[g]["shifted"] is not None):
                started = self.execute[g]["index"]
            if unit in (Unit.LOAD_H, Unit.LOAD_V) and self.load[unit, g]["left"]:
                started = self.load[unit, g]["index"]
            if started is not None:
                return started
            if self.queue[unit, g]:
                return self.queue[unit, g][0][0]
        return self.dispatched

    def run(self, limit=10**6):
        self.done = False
        groups = range(self.config.array.groups)
        while not self.done:
            assert self.t < limit
            self.active = False
            for arrive in self.before.pop(self.t, ()):
                arrive()
            self.step_fetch()
            self.step_dispatch()
            for unit in (Unit.DMA_IN, Unit.DMA_OUT):
                self.step_dma(unit)
            self.step_port()
            for g in groups:
                self.step_load(Unit.LOAD_H, g)
                self.step_load(Unit.LOAD_V, g)
                self.step_execute(g)
                self.step_store(g)
            for update in self.after.pop(self.t, ()):
                update()
            if min(self.token.values()) < 0 or max(self.token.values()) > 255:
                raise Stopped("TOKEN", None)
            if self.active or self.done or self.after or self.before:
                self.quiet_cycles = 0
            else:
                self.quiet_cycles += 1
                if self.quiet_cycles > 64:
                    raise Stopped("DEADLOCK", self.waiting())
            self.t += 1
        self.n["cycles"] = self.t
        first, last = self.first_active, self.last_active
        self.n["array_cycles"] = 0 if first is None or last is None else last - first + 1
        return self

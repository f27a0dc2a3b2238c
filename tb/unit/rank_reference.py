"""Reference of one rank: rtl/memory/README.md, "One rank", in plain Python with absolute cycle numbers instead of counters."""

from dataclasses import dataclass, field

from gen.dram import DramConfig
from gen.nda import CHUNK_BLOCKS, DESCRIPTOR, INDEXED, LANES, STEPS, SUMS, Operand, Operation, Policy, Step, lfsr_seed, lfsr_step, settle
from rtl.memory.interfaces import Command

NEVER = -10**9
NOTHING = (Command.NONE, 0, 0, 0)
SOON = 6


@dataclass
class Visit:
    """One pass over one chunk: what the sequencer does between two settles."""

    step: Step
    stream: int
    first: int          # blocks of the operand before this chunk
    count: int
    sums: bool = False


@dataclass
class Running:
    """A launch in progress."""

    fields: dict[str, int]
    visits: list[Visit]
    lfsr: int
    block: int = 0
    settled: int = 0    # first cycle in which a column command may be due


@dataclass
class Outputs:
    """What the rank decides in one cycle about the next."""

    free: bool
    open: dict[int, int]                     # bank -> row
    frozen: bool
    busy: bool
    policy: Policy
    finished: bool
    overrun: bool
    command: tuple[Command, int, int, int]   # on the rank in this cycle: kind, bank, row, column
    committed: tuple[Command, int, int, int]
    visit: Visit | None
    block: int
    allowed: dict[Command, list[bool]] = field(default_factory=dict)
    soon: list[bool] = field(default_factory=list)


def unpack(block: bytes) -> dict[str, int]:
    """A descriptor's fields."""
    words = [int.from_bytes(block[4 * i:4 * i + 4], "little") for i in range(LANES)]
    return {name: words[item.word] >> item.low & (1 << item.width) - 1 for name, item in DESCRIPTOR.items()}


def visits(fields: dict[str, int]) -> list[Visit]:
    """Everything an operation does, in order."""
    operation, found = Operation(fields["operation"]), []
    steps = STEPS[operation]
    repeated = [step for step in steps if step.repeated]
    before = [] if not repeated else list(steps[:steps.index(repeated[0])])
    after = list(steps) if not repeated else list(steps[len(before) + len(repeated):])
    for first in range(0, fields["blocks"], CHUNK_BLOCKS):
        count = min(CHUNK_BLOCKS, fields["blocks"] - first)
        found += [Visit(step, 0, first, count) for step in before]
        if repeated:
            found += [Visit(step, stream, first, count) for stream in range(fields["streams"]) for step in repeated]
        found += [Visit(step, 0, first, count) for step in after]
    if operation in SUMS:
        found.append(Visit(Step(Operand.W, write=True), 0, 0, 1, sums=True))
    return found


def locate(config: DramConfig, fields: dict[str, int], parameters: list[int], visit: Visit, block: int) -> tuple[int, int, int]:
    """Bank, row and column of a block."""
    operand, operation = visit.step.operand, fields["operation"]
    if operation in INDEXED and operand == Operand.X:
        position = parameters[visit.stream] + block
    else:
        position = fields["start"] + visit.first + block
    frame = fields["xyzw"[operand]]
    if operation == Operation.GEMV and operand == Operand.X:
        frame += visit.stream * fields["step"]
    columns = config.part.row_blocks
    low, rest = position % config.reserved, position // config.reserved
    column, rest = rest % columns, rest // columns
    high, rest = rest % (config.part.all_banks // config.reserved), rest // (config.part.all_banks // config.reserved)
    frame = (frame + rest * config.colours) % config.frames
    flip = fields["flip"]
    bank = config.part.all_banks - config.reserved + (low ^ flip % config.reserved)
    row = (high ^ flip // config.reserved) * config.frames + frame
    return bank, row, column


class RankReference:
    """One rank. Call `decide` and then `advance` once a cycle; `cycle` is the present one."""

    def __init__(self, config: DramConfig):
        self.config, self.cycle = config, 0
        self.banks, self.groups = config.part.all_banks, config.part.bank_groups
        self.seen: dict[tuple, int] = {}         # kind, bank or None, group or None -> last cycle on the rank
        self.activates: list[int] = []           # cycles of ACTs
        self.rows: dict[int, int] = {}
        self.frozen = self.overrun = False
        self.command = NOTHING
        self.running: Running | None = None
        self.parameters = [0] * 128
        self.bursts: list[tuple[int, int, list[int]]] = []     # launch bursts on their way: first data cycle, column, beats
        self.due_write = False

    # Legality: by subtraction of cycles

    def since(self, kind: Command, now: int, *, bank: int | None = None, group: int | None = None) -> int:
        """Cycles from the last command of a kind, to a bank or a group or at all, to `now`."""
        return now - self.seen.get((kind, bank, group), NEVER)

    def timing_allows(self, kind: Command, bank: int) -> bool:
        """Whether the datasheet's minima allow a command in the next cycle; open rows aside."""
        g, now, group = self.config.gaps, self.cycle + 1, bank % self.groups
        gap = self.since
        if kind == Command.ACT:
            return (min(gap(Command.PRE, now, bank=bank), gap(Command.PREA, now)) >= g.rp and gap(Command.ACT, now, bank=bank) >= g.rc
                    and gap(Command.ACT, now) >= g.rrd_s and gap(Command.ACT, now, group=group) >= g.rrd_l
                    and (len(self.activates) < 4 or now - self.activates[-4] >= g.faw) and gap(Command.REF, now) >= g.rfc)
        if kind == Command.PRE:
            return (gap(Command.ACT, now, bank=bank) >= g.ras and gap(Command.RD, now, bank=bank) >= g.rtp
                    and gap(Command.WR, now, bank=bank) >= g.wr)
        if kind in (Command.RD, Command.WR):
            columns = min(gap(Command.RD, now), gap(Command.WR, now)) >= g.ccd_s \
                and min(gap(Command.RD, now, group=group), gap(Command.WR, now, group=group)) >= g.ccd_l \
                and gap(Command.ACT, now, bank=bank) >= g.rcd
            if kind == Command.WR:
                return columns and gap(Command.RD, now) >= g.rtw
            return columns and gap(Command.WR, now) >= g.wtr_s and gap(Command.WR, now, group=group) >= g.wtr_l
        if kind == Command.PREA:
            return gap(Command.REF, now) >= g.rfc and all(self.timing_allows(Command.PRE, b) for b in range(self.banks))
        return (not self.rows and gap(Command.REF, now) >= g.rfc and gap(Command.PREA, now) >= g.rp
                and gap(Command.PRE, now) >= g.rp)

    # The near-data unit

    def proposal(self) -> tuple[Command, int, int, int]:
        """D of this cycle; notes whether a write is due under a stochastic policy."""
        self.due_write = False
        now = self.running
        if now is None or self.frozen:
            return NOTHING
        visit = now.visits[0]
        bank, row, column = locate(self.config, now.fields, self.parameters, visit, now.block)
        kind = Command.WR if visit.step.write else Command.RD
        if self.rows.get(bank) == row and self.cycle >= now.settled and self.timing_allows(kind, bank):
            mask = {Policy.STOCHASTIC_4: 3, Policy.STOCHASTIC_16: 15}.get(Policy(now.fields["policy"]), 0)
            self.due_write = kind == Command.WR and mask > 0
            return NOTHING if self.due_write and now.lfsr & mask else (kind, bank, row, column)
        looked = [bank ^ i for i in range(self.config.reserved if visit.count - now.block > 1 else 1)]
        for other in looked:
            if other not in self.rows and self.timing_allows(Command.ACT, other):
                return (Command.ACT, other, row, column)
        for other in looked:
            if other in self.rows and self.rows[other] != row and self.timing_allows(Command.PRE, other):
                return (Command.PRE, other, row, column)
        return NOTHING

    def decide(self, host: tuple[Command, int, int, int], *, hold_writes: bool, hold_all: bool, full: bool = True) -> Outputs:
        """Everything visible in this cycle. `host`: command on the pins to this rank. `full`: also the tables of what is allowed."""
        proposed = self.proposal()
        refused = host[0] != Command.NONE or hold_all or (hold_writes and proposed[0] == Command.WR)
        committed = NOTHING if refused else proposed
        now = self.running
        column = committed[0] in (Command.RD, Command.WR)
        last = now is not None and column and len(now.visits) == 1 and now.block == now.visits[0].count - 1
        out = Outputs(
            free=host[0] == Command.NONE and committed[0] == Command.NONE, open=dict(self.rows), frozen=self.frozen, busy=now is not None,
            policy=Policy(now.fields["policy"]) if now else Policy.NONE, finished=last, overrun=self.overrun, command=self.command,
            committed=committed, visit=now.visits[0] if now else None, block=now.block if now else 0)
        if full:
            out.allowed = {kind: [self.timing_allows(kind, bank) for bank in range(self.banks)]
                           for kind in (Command.ACT, Command.PRE, Command.RD, Command.WR)}
            out.allowed |= {kind: [self.timing_allows(kind, 0)] for kind in (Command.PREA, Command.REF)}
            # rcd <= 6 means: six cycles on, or earlier, a column command may follow the ACT
            out.soon = [self.since(Command.ACT, self.cycle + 1, bank=b) >= self.config.gaps.rcd - SOON for b in range(self.banks)]
        return out

    def advance(self, host: tuple[Command, int, int, int], committed: tuple[Command, int, int, int], write_data: int):
        """The edge at the end of this cycle."""
        cycle = self.cycle
        if self.due_write:
            assert self.running
            self.running.lfsr = lfsr_step(self.running.lfsr)
        if host[0] == Command.WR and host[1] == self.banks - 1 and self.rows[host[1]] == self.config.part.rows - 1:
            self.bursts.append((cycle + self.config.timing["tCWL"], host[3], []))
        for when, command in ((cycle, host), (cycle + 1, committed)):
            self._note(when, command)
        self.command = committed
        busy = self.running is not None
        if committed[0] in (Command.RD, Command.WR):
            self._column_done()
        for first, column, beats in self.bursts:
            if first <= cycle:
                beats.append(write_data)
                if len(beats) == 4:
                    self._launch_write(column, b"".join(beat.to_bytes(16, "little") for beat in beats), busy=busy)
        self.bursts = [burst for burst in self.bursts if len(burst[2]) < 4]
        self.cycle += 1

    def _note(self, when: int, command: tuple[Command, int, int, int]):
        kind, bank, row, _ = command
        if kind == Command.NONE:
            return
        for scope in ((None, None), (bank, None), (None, bank % self.groups)):
            self.seen[kind, *scope] = when
        if kind == Command.ACT:
            self.rows[bank] = row
            self.activates.append(when)
        elif kind == Command.PRE:
            del self.rows[bank]
        elif kind == Command.PREA:
            self.rows.clear()
            self.frozen = True
        elif kind == Command.REF:
            self.frozen = False

    def _column_done(self):
        now = self.running
        assert now
        now.block += 1
        if now.block == now.visits[0].count:
            short = now.visits[0].count * self.config.part.burst_cycles < settle(self.config.timing)
            del now.visits[0]
            now.block = 0
            if short or (now.visits and now.visits[0].sums):
                now.settled = self.cycle + settle(self.config.timing)
            if not now.visits:
                self.running = None

    def _launch_write(self, column: int, block: bytes, *, busy: bool):
        if column == 0 and busy:
            self.overrun = True
        elif column == 0:
            fields = unpack(block)
            self.running = Running(fields, visits(fields), lfsr_seed(fields["seed"]))
        elif column <= 8:
            self.parameters[16 * (column - 1):16 * column] = [int.from_bytes(block[4 * i:4 * i + 4], "little") for i in range(16)]

"""What one rank is doing: open rows, datasheet minima, and the near-data unit's command. Beside the controller and on the rank."""

from functools import reduce
from operator import or_

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from gen.dram import SOON, DramConfig
from gen.nda import Policy
from rtl.memory.interfaces import Command, CommandPins, Inhibit, command_layout, rows_change_layout
from rtl.memory.launch import Launch, check_near_data
from rtl.memory.sequencer import WORK, Sequencer
from rtl.memory.trackers import FourActivates, Tracker, counter_bits, load_values
from rtl.sharing import place

BANK_TRACKERS = ("rcd", "ras", "rc", "rp", "rtp", "wr")
GROUP_TRACKERS = ("ccd_l", "rrd_l", "wtr_l")
ALLOWED = ("act_ok", "pre_ok", "read_ok", "write_ok")
FREE = ("next_act_free", "next_read_free", "next_write_free")
HELD = ("act_held", "pre_held", "column_held")
RANK_TRACKERS = ("ccd_s", "rrd_s", "wtr_s", "rtw", "rfc")


class RankControl(wiring.Component):
    """The state of rank `rank` of a channel, from what is on the command pins, and what its near-data unit commits to.

    Cycle exact: "One rank" in rtl/memory/README.md. In cycle t `pins` and `inhibit` are those of t, `write_data` the data pins (for
    launches); outputs decide about t+1. A bit of a vector is a bank id.

    ============================ =======================================================================================
    `committed`                  the unit commits a command: it is on the rank in the next cycle
    `open`, `rows`               banks with an open row; `rows.word_select(bank, row bits)` is a bank's row
    `change`                     what becomes of `open` and `rows` at the end of this cycle
    `act_ok`, `pre_ok`           the minima for ACT (PRE) of the bank are over; whether it is closed (open) is not included
    `read_ok`, `write_ok`        the same for RD and WR; neither the open row nor other ranks of the channel are included
    `next_act_ok` and so on      these four in the next cycle, as far as the minima differ from bank to bank,
    `next_act_free` and so on    as far as they are the whole rank's (PRE has none),
    `act_held` and so on         and whether what is commanded in this cycle holds ACT (PRE, RD and WR) back in its bank
    `soon`                       tRCD of the bank is over in 6 cycles or less
    `prea_ok`, `ref_ok`          PREA, REF are legal
    `frozen`                     between PREA and REF: the unit proposes nothing
    `busy`, `policy`             a launch is running; its policy (NONE when none is)
    `finished`                   its last column command is committed in this cycle
    `overrun`                    a launch came while one was running, and was ignored; stays
    `command`, `work`            near-data command on the rank in t (register, committed in t-1) and what a column command is for
    `state`                      every register, for the comparison of two copies; of the parameter memory what is written and used
    ============================ =======================================================================================

    `committed`, `change`, `finished` and `next_...` follow `pins` and `inhibit` in the same cycle; `state` holds, besides registers, words
    of a launch as they arrive.
    With `reserved` = 0 there is no unit: no command, never busy. Raises ValueError for a `rank` the channel has not, DramError for a part
    a near-data unit does not fit.
    """

    def __init__(self, config: DramConfig, *, rank: int):
        if not 0 <= rank < config.ranks:
            raise ValueError(f"rank = {rank} is outside 0..{config.ranks - 1}")
        if config.reserved:
            check_near_data(config)
        self.config, self.rank = config, rank
        banks = config.part.all_banks
        super().__init__({
            "pins": In(CommandPins(config)),
            "inhibit": In(Inhibit),
            "write_data": In(8 * config.part.beat_bytes),
            "committed": Out(1),
            "open": Out(banks),
            "rows": Out(banks * config.field_bits["row"]),
            "change": Out(rows_change_layout(config)),
            **{name: Out(banks, init=(1 << banks) - 1) for name in ALLOWED},  # type: ignore[call-arg]
            **{f"next_{name}": Out(banks) for name in ALLOWED},
            **dict.fromkeys((*FREE, *HELD), Out(1)),
            "soon": Out(banks),
            "prea_ok": Out(1),
            "ref_ok": Out(1),
            "frozen": Out(1),
            "policy": Out(Policy),
            "busy": Out(1),
            "finished": Out(1),
            "overrun": Out(1),
            "command": Out(command_layout(config)),
            "work": Out(WORK),
            "state": Out(self.state_bits(config)),
        })

    @staticmethod
    def state_bits(config: DramConfig) -> int:
        """Bits of `state`."""
        part, gaps = config.part, config.gaps
        bits = part.all_banks * (1 + config.field_bits["row"] + sum(counter_bits(getattr(gaps, name)) for name in BANK_TRACKERS))
        bits += part.bank_groups * sum(counter_bits(getattr(gaps, name)) for name in GROUP_TRACKERS)
        bits += sum(counter_bits(getattr(gaps, name)) for name in RANK_TRACKERS) + FourActivates.state_bits(gaps.faw) + 1
        if config.reserved:
            bits += Launch.state_bits(config) + Sequencer.state_bits(config) + command_layout(config).size + WORK.size
        return bits

    def elaborate(self, platform):
        m = Module()
        config = self.config
        banks, row_bits = config.part.all_banks, config.field_bits["row"]
        pins = self.pins.command
        host = Signal()
        m.d.comb += host.eq((pins.kind != Command.NONE) & (self.pins.rank == self.rank if config.ranks > 1 else 1))

        # The command that takes effect at the end of this cycle: the host's, on the rank now, or else the unit's, on the rank next cycle.
        near = Signal(command_layout(config))
        m.d.comb += self.committed.eq(near.kind != Command.NONE)
        loads = {}
        for kind in (Command.ACT, Command.PRE, Command.RD, Command.WR):
            loads[kind] = from_host, from_near = Signal(name=f"host_{kind.name}"), Signal(name=f"near_{kind.name}")
            m.d.comb += [from_host.eq(host & (pins.kind == kind)), from_near.eq(near.kind == kind)]
        close_all, refresh = Signal(), Signal()
        m.d.comb += [close_all.eq(host & (pins.kind == Command.PREA)), refresh.eq(host & (pins.kind == Command.REF))]

        change = self.change
        m.d.comb += [
            change.opens.eq(loads[Command.ACT][0] | loads[Command.ACT][1]), change.closes.eq(loads[Command.PRE][0] | loads[Command.PRE][1]),
            change.closes_all.eq(close_all), change.bank.eq(Mux(host, pins.bank, near.bank)), change.row.eq(Mux(host, pins.row, near.row)),
        ]
        for bank in range(banks):
            with m.If(change.opens & (change.bank == bank)):
                m.d.sync += [self.open[bank].eq(1), self.rows.word_select(bank, row_bits).eq(change.row)]
            with m.If(change.closes_all | (change.closes & (change.bank == bank))):
                m.d.sync += self.open[bank].eq(0)
        with m.If(close_all):
            m.d.sync += self.frozen.eq(1)
        with m.Elif(refresh):
            m.d.sync += self.frozen.eq(0)
        state = [self._trackers(m, platform, loads, near, close_all, refresh), self.open, self.rows, self.frozen]

        if config.reserved:
            state.append(self._unit(m, near, host, loads[Command.WR][0] & pins.bank.all()))
        registers = Cat(*state)
        assert len(registers) == len(self.state), f"state has {len(registers)} bits, not {len(self.state)}"
        m.d.comb += self.state.eq(registers)
        return m

    def _trackers(self, m: Module, platform, loads: dict, near, close_all: Signal, refresh: Signal) -> Value:
        """Trackers and what follows from them. `loads`: by kind, whether host and unit command it. Returns the trackers' registers."""
        part, gaps = self.config.part, self.config.gaps
        banks, groups = part.all_banks, part.bank_groups
        act, pre, rd, wr = (loads[kind] for kind in (Command.ACT, Command.PRE, Command.RD, Command.WR))
        column = (rd[0] | wr[0], rd[1] | wr[1])
        everywhere, nowhere = Const(1, 1), Const(0, 1)
        trackers = []

        def track(name: str, instance: str, host: Value, unit: Value):
            cycles = getattr(gaps, name)
            tracker = place(m, platform, instance=instance, module=f"tracker_{cycles}", factory=lambda: Tracker(cycles=cycles))
            m.d.comb += [tracker.host.eq(host), tracker.near.eq(unit)]
            trackers.append(tracker)
            return tracker

        def named(command, count: int) -> list[Value]:
            """Whether a command names each of the `count` banks or groups; bank ids count through the groups first."""
            return [command.bank[:count.bit_length() - 1] == i if count > 1 else everywhere for i in range(count)]

        def track_each(level: str, count: int, by_name: dict) -> dict[str, list]:
            places = list(zip(named(self.pins.command, count), named(near, count)))
            return {name: [track(name, f"{level}_{i}_{name}", (host & here) | (close_all if name == "rp" else nowhere), unit & there)
                           for i, (here, there) in enumerate(places)] for name, (host, unit) in by_name.items()}

        bank = track_each("bank", banks, {"rcd": act, "ras": act, "rc": act, "rp": pre, "rtp": rd, "wr": wr})
        group = track_each("group", groups, {"ccd_l": column, "rrd_l": act, "wtr_l": wr})
        by_rank = {"ccd_s": column, "rrd_s": act, "wtr_s": wr, "rtw": rd, "rfc": (refresh, nowhere)}
        rank = {name: track(name, f"rank_{name}", *commands) for name, commands in by_rank.items()}
        m.submodules.rank_faw = faw = FourActivates(cycles=gaps.faw)
        m.d.comb += [faw.host.eq(act[0]), faw.near.eq(act[1])]

        def clears(banked: tuple, grouped: tuple) -> Value:
            """A bit a bank: these trackers will allow its command in the next cycle, unless `held`."""
            bits = Value.cast((1 << banks) - 1)
            for name in banked:
                bits &= Cat(tracker.left <= 1 for tracker in bank[name])
            for name in grouped if groups > 1 else ():
                bits &= Cat(tracker.clears for tracker in group[name]).replicate(part.banks)
            return bits[:banks]

        def free(grouped: tuple, ranked: tuple) -> Value:
            """The same for what all banks share; a lone group is the rank's."""
            return Cat(*(group[name][0].clears for name in grouped if groups == 1), *(tracker.clears for tracker in ranked)).all()

        def held(banked: dict) -> Value:
            """Whether the command of this cycle starts one of these minima of its bank."""
            return reduce(or_, (command for name, commands in banked.items()
                                for command, cycles in zip(commands, load_values(getattr(gaps, name))) if cycles), Const(0, 1))

        starts_pause = close_all if load_values(gaps.rp)[0] else nowhere    # in all banks
        m.d.comb += [
            self.act_held.eq(held({"rp": pre, "rc": act})),
            self.pre_held.eq(held({"ras": act, "rtp": rd, "wr": wr})),
            self.column_held.eq(held({"rcd": act})),
            self.next_act_ok.eq(clears(("rp", "rc"), ("rrd_l",))),
            self.next_act_free.eq(free(("rrd_l",), (rank["rrd_s"], faw, rank["rfc"])) & ~starts_pause),
            self.next_pre_ok.eq(clears(("ras", "rtp", "wr"), ())),
            self.next_read_ok.eq(clears(("rcd",), ("ccd_l", "wtr_l"))),
            self.next_read_free.eq(free(("ccd_l", "wtr_l"), (rank["ccd_s"], rank["wtr_s"]))),
            self.next_write_ok.eq(clears(("rcd",), ("ccd_l",))),
            self.next_write_free.eq(free(("ccd_l",), (rank["ccd_s"], rank["rtw"]))),
            self.soon.eq(Cat(tracker.left <= SOON for tracker in bank["rcd"])),
            self.prea_ok.eq(self.pre_ok.all() & rank["rfc"].clear),
            self.ref_ok.eq(~self.open.any() & Cat(tracker.clear for tracker in bank["rp"]).all() & rank["rfc"].clear),
        ]
        not_here = Cat(self.change.bank != i for i in range(banks))
        for name, is_free, is_held in (("act", self.next_act_free, self.act_held), ("pre", 1, self.pre_held),
                                       ("read", self.next_read_free, self.column_held), ("write", self.next_write_free, self.column_held)):
            others = Mux(is_held, not_here, ~Const(0, banks))
            m.d.sync += getattr(self, f"{name}_ok").eq(getattr(self, f"next_{name}_ok") & Mux(is_free, others, 0))
        return Cat(*(tracker.left for tracker in trackers), faw.left)

    def _unit(self, m: Module, near, host: Signal, written: Value) -> Value:
        """The near-data unit: launches, sequencer, and the command `near` it commits. `written`: the host writes to the last bank. Returns
        the registers."""
        config = self.config
        row_bits, first = config.field_bits["row"], config.part.all_banks - config.reserved
        m.submodules.launch = launch = Launch(config)
        m.submodules.sequencer = sequencer = Sequencer(config)
        m.d.comb += [
            # A WR carries no row on the pins: it goes to the row that is open.
            launch.write.eq(written & self.rows[-row_bits:].all()), launch.column.eq(self.pins.command.column),
            launch.write_data.eq(self.write_data), launch.busy.eq(sequencer.busy), launch.index.eq(sequencer.stream),
            sequencer.start.eq(launch.start), sequencer.descriptor.eq(launch.descriptor), sequencer.parameter.eq(launch.parameter),
            sequencer.rows.eq(self.rows[first * row_bits:]), sequencer.frozen.eq(self.frozen),
            *(getattr(sequencer, name).eq(getattr(self, name)[first:]) for name in ("open", "act_ok", "pre_ok", "read_ok", "write_ok")),
            self.busy.eq(sequencer.busy), self.policy.eq(sequencer.policy), self.finished.eq(sequencer.finished),
            self.overrun.eq(launch.overrun),
        ]
        refused = host | self.inhibit.hold_all | (self.inhibit.hold_writes & (sequencer.proposal.kind == Command.WR))
        with m.If(~refused):
            m.d.comb += [near.eq(sequencer.proposal), sequencer.committed.eq(sequencer.proposal.kind != Command.NONE)]
        column = Signal()
        m.d.comb += column.eq((near.kind == Command.RD) | (near.kind == Command.WR))
        m.d.sync += self.command.eq(near)
        with m.If(column):
            m.d.sync += self.work.eq(sequencer.work)
        with m.Else():
            m.d.sync += [self.work.read.eq(0), self.work.write.eq(0)]
        return Cat(launch.state, sequencer.state, self.command, self.work)

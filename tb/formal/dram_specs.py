"""What must hold of the DRAM system's parts: address map, request queues, timing trackers, scheduler."""

from functools import reduce
from operator import or_

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from gen.dram import DramConfig
from rtl.memory.address_map import AddressMap
from rtl.memory.interfaces import TAG_BITS, Command, in_launch_row
from rtl.memory.rank_control import RankControl
from rtl.memory.request_queue import RequestQueue, entry_layout
from rtl.memory.scheduler import Scheduler
from rtl.memory.trackers import FourActivates, Tracker
from tb.formal.specs import given, must, observer


class AddressMapSpec(wiring.Component):
    """Two different blocks never share a place, and there are as many places as blocks: a bijection.

    Isolating: a block lies in a reserved bank if and only if its top row bits are ones, that is at the top of the address space.
    """

    def __init__(self, config: DramConfig, *, make=AddressMap):
        self.config, self.make = config, make
        bits = (config.blocks - 1).bit_length()
        super().__init__({"one": In(bits), "other": In(bits)})

    def elaborate(self, platform):
        m = observer()
        config = self.config
        places = []
        for name, block in (("one", self.one), ("other", self.other)):
            m.submodules[name] = part = self.make(config)
            m.d.comb += part.block.eq(block)
            fields = {"channel": part.channel} | {name: part.location[name] for name in ("rank", "bank", "row", "column")}
            places.append(Cat(value[:config.field_bits[field]] for field, value in fields.items()))
            m.d.comb += must(~Cat(value[config.field_bits[field]:] for field, value in fields.items()).any())
            if config.reserved:
                shared = Signal(name=f"shared_{name}")
                m.d.comb += [
                    shared.eq(block[len(block) - config.swapped_bits:].all()),    # the row is on top of the layout
                    must(part.location.bank[config.reserved_bits:].all() == shared),
                ]
        assert len(places[0]) == len(self.one)
        m.d.comb += must((places[0] == places[1]) == (self.one == self.other))
        return m


class RequestQueueSpec(wiring.Component):
    """Arrival order, nothing lost, nothing twice: an entry, marked whenever the solver likes, stays at its place until it is removed."""

    def __init__(self, config: DramConfig, *, entries: int, make=RequestQueue):
        self.config, self.entries, self.make = config, entries, make
        super().__init__({"push": In(1), "note": In(1), "remove": In(entries), "mark": In(1)})

    def elaborate(self, platform):
        m = observer()
        m.submodules.queue = queue = self.make(self.config, entries=self.entries, note_bits=1)
        inside = Signal(range(self.entries + 1))
        removes = Signal()
        m.d.comb += [
            given(self.remove & (self.remove - 1) == 0),
            given(self.remove & ~((1 << inside) - 1)[:self.entries] == 0),
            given(~self.push | (inside != self.entries)),
            removes.eq(self.remove.any()),
            queue.push.eq(self.push), queue.entry.note.eq(self.note), queue.leaves.eq(-self.remove),
            must(queue.valid == ((1 << inside) - 1)[:self.entries]),
            must(queue.full == (inside == self.entries)), must(inside <= self.entries),
        ]
        m.d.sync += inside.eq(inside + self.push - removes)
        marked, note, place = Signal(), Signal(), Signal(range(self.entries))
        below = Cat(self.remove.bit_select(i, 1) & (i < place) for i in range(self.entries)).any()
        with m.If(~marked & self.mark & self.push):
            m.d.sync += [marked.eq(1), note.eq(self.note), place.eq(inside - removes)]
        with m.Elif(marked):
            m.d.sync += [place.eq(place - below), marked.eq(~self.remove.bit_select(place, 1))]
        with m.If(marked):
            m.d.comb += [must(place < inside), must(Cat(entry.note for entry in queue.entries).bit_select(place, 1) == note)]
        # The age of entry 0.
        age = Signal(range(self.config.patience + 1))
        with m.If(self.remove[0] | (inside == 0)):
            m.d.sync += age.eq(0)
        with m.Elif(age != self.config.patience):
            m.d.sync += age.eq(age + 1)
        m.d.comb += [must(queue.waited == age), must(queue.urgent == (age == self.config.patience))]
        return m


def _age(m: Module, name: str, host, near, top: int):
    """Cycles since the last command was on the rank, as seen now, up to `top`; `top` from the start on."""
    age = Signal(range(top + 1), init=top, name=name)
    with m.If(host):
        m.d.sync += age.eq(1)      # on the pins now, a cycle ago in the next
    with m.Elif(near):
        m.d.sync += age.eq(0)      # on the rank in the next cycle
    with m.Elif(age != top):
        m.d.sync += age.eq(age + 1)
    return age


def _foretold(m: Module, tracker):
    """Whether there was a cycle before, and what the tracker said in it of this one."""
    known, clears = Signal(), Signal()
    m.d.sync += [known.eq(1), clears.eq(tracker.clears)]
    return known, clears


class TrackerSpec(wiring.Component):
    """A tracker allows a command for the next cycle exactly when that is `cycles` or more after the last first command."""

    def __init__(self, *, cycles: int, make=Tracker):
        self.cycles, self.make = cycles, make
        super().__init__({"host": In(1), "near": In(1)})

    def elaborate(self, platform):
        m = observer()
        m.submodules.tracker = tracker = self.make(cycles=self.cycles)
        age = _age(m, "age", self.host, self.near, self.cycles)
        known, clears = _foretold(m, tracker)
        m.d.comb += [
            given(~(self.host & self.near)),
            # A host command and a near-data one in the cycle after it cannot be: the controller's rule of free ranks.
            tracker.host.eq(self.host), tracker.near.eq(self.near),
            must(age <= self.cycles),
            must(tracker.clear == (age + 1 >= self.cycles)),
            must(tracker.left == Mux(age + 1 >= self.cycles, 0, self.cycles - 1 - age)),
            must(~known | (tracker.clear == clears)),
        ]
        return m


class FourActivatesSpec(wiring.Component):
    """The fifth ACT is allowed exactly when it is `cycles` or more after the first of the last four."""

    def __init__(self, *, cycles: int, make=FourActivates):
        self.cycles, self.make = cycles, make
        super().__init__({"host": In(1), "near": In(1)})

    def elaborate(self, platform):
        m = observer()
        m.submodules.tracker = tracker = self.make(cycles=self.cycles)
        top = self.cycles
        ages = [Signal(range(top + 1), init=top, name=f"age_{i}") for i in range(4)]    # the youngest first
        older = [Mux(age == top, top, age + 1) for age in ages]
        m.d.comb += [given(~(self.host & self.near)), tracker.host.eq(self.host), tracker.near.eq(self.near)]
        with m.If(self.host | self.near):
            m.d.sync += [ages[0].eq(Mux(self.host, min(1, top), 0)), *(there.eq(here) for there, here in zip(ages[1:], older))]
        with m.Else():
            m.d.sync += [there.eq(here) for there, here in zip(ages, older)]
        bits = (len(tracker.left) - 2) // 4
        turn = tracker.left[-2:]
        for i, age in enumerate(ages):    # the youngest is in the counter before the one whose turn it is
            counter = Cat(tracker.left[:4 * bits]).word_select((turn + 3 - i)[:2], bits)
            m.d.comb += [must(age <= top), must(counter == Mux(age + 1 >= top, 0, top - 1 - age))]
        known, clears = _foretold(m, tracker)
        m.d.comb += [must(tracker.clear == (ages[3] + 1 >= top)), must(~known | (tracker.clear == clears))]
        return m


def _know(m: Module, config: DramConfig, scheduler: Scheduler, entries, valid, rank):
    """Give a scheduler entries whose status fits the banks, which `rank` describes, and the rows they wait for."""
    marks = []
    for i, (there, here) in enumerate(zip(scheduler.entries, entries)):
        location, status = here.location, there.status
        bank = Cat(location.bank, location.rank)
        is_open = rank.open.bit_select(bank, 1)
        hit = is_open & (rank.rows.word_select(bank, config.field_bits["row"]) == location.row)
        column = Mux(scheduler.write, rank.write_ok, rank.read_ok).bit_select(bank, 1)
        m.d.comb += [
            there.location.eq(location), there.note.eq(here.note), status.open.eq(is_open), status.hit.eq(hit),
            status.moves.eq(valid[i] & hit & column), status.opens.eq(valid[i] & ~is_open & rank.act_ok.bit_select(bank, 1)),
            status.closes.eq(valid[i] & is_open & ~hit & rank.pre_ok.bit_select(bank, 1)),
        ]
        marks.append((valid[i] & hit & ((~in_launch_row(config, location)) if i else 1)) << bank)
    m.d.comb += scheduler.wanted_rows.eq(reduce(or_, marks))


class SchedulerSpec(wiring.Component):
    """Legal, of one request, and progress: the oldest entry of an urgent queue gets its command as soon as its rank allows it.

    Whatever else is queued and whatever state the banks are in (free inputs): a command goes to a rank that takes part, ACT to a closed
    bank, PRE to an open one, RD and WR to the open row of the entry that leaves. With an urgent queue nothing is done for any other entry.
    So an urgent entry waits for refresh and for its own PRE, ACT and column command's minimums, and for nothing else.
    """

    def __init__(self, config: DramConfig, *, make=Scheduler):
        self.config, self.make = config, make
        banks = config.ranks * config.part.all_banks
        entries = max(config.read_entries, config.write_entries)
        super().__init__({
            "entries": In(entry_layout(config, note_bits=TAG_BITS)).array(entries), "valid": In(entries), "write": In(1), "urgent": In(1),
            "open": In(banks), "rows": In(banks * config.field_bits["row"]), "act_ok": In(banks), "pre_ok": In(banks),
            "read_ok": In(banks), "write_ok": In(banks), "soon": In(banks), "taking": In(config.ranks), "precharge": In(config.ranks),
            "refresh": In(config.ranks),
        })

    def elaborate(self, platform):
        m = observer()
        config = self.config
        m.submodules.scheduler = scheduler = self.make(config)
        for name in ("valid", "write", "urgent", "soon", "taking", "precharge", "refresh"):
            m.d.comb += getattr(scheduler, name).eq(getattr(self, name))
        _know(m, config, scheduler, self.entries, self.valid, self)
        remove = scheduler.leaves & ~(scheduler.leaves << 1)[:len(scheduler.leaves)]
        maintenance = self.precharge | self.refresh
        m.d.comb += [given(self.precharge & self.refresh == 0), given(maintenance & (maintenance - 1) == 0),
                     given(self.valid & (self.valid + 1) == 0)]
        kind, bank = scheduler.command.kind.as_value(), Cat(scheduler.command.bank, scheduler.rank)
        column = (kind == Command.RD.value) | (kind == Command.WR.value)
        own = (kind == Command.ACT.value) | (kind == Command.PRE.value) | column

        def of(bits):
            return bits.bit_select(bank, 1)

        taking = self.taking.bit_select(scheduler.rank, 1) if config.ranks > 1 else self.taking
        with m.If(maintenance.any()):
            m.d.comb += [must(kind == Mux(self.refresh.any(), Command.REF.value, Command.PREA.value)), must(~scheduler.leaves.any())]
            if config.ranks > 1:
                m.d.comb += must(maintenance.bit_select(scheduler.rank, 1))
        with m.Else():
            m.d.comb += [must((kind == Command.NONE.value) | own), must(~own | taking)]
        m.d.comb += [
            must(~(kind == Command.ACT.value) | (of(self.act_ok) & ~of(self.open))),
            must(~(kind == Command.PRE.value) | (of(self.pre_ok) & of(self.open))),
            must(~(kind == Command.RD.value) | (of(self.read_ok) & ~self.write)),
            must(~(kind == Command.WR.value) | (of(self.write_ok) & self.write)),
            must(~column | of(self.open)),
            must(column == scheduler.leaves.any()),
            must(scheduler.leaves | (scheduler.leaves << 1)[:len(scheduler.leaves)] == scheduler.leaves),
            must(remove & ~self.valid == 0),
        ]
        row = self.rows.word_select(bank, config.field_bits["row"])
        locations = [entry.location for entry in scheduler.entries]
        for i, location in enumerate(locations):
            with m.If(remove[i]):
                m.d.comb += [must(Cat(location.bank, location.rank) == bank), must(location.row == row),
                             must(location.column == scheduler.command.column)]
                if i:
                    m.d.comb += must(~in_launch_row(config, location))
                # The oldest of its row goes first, so requests for one block keep their order.
                for older in range(i):
                    same = Cat(location.bank, location.rank, location.row) == Cat(
                        locations[older].bank, locations[older].rank, locations[older].row)
                    m.d.comb += must(~same | ((in_launch_row(config, location)) if older else 0))
        # Progress of the oldest.
        first = locations[0]
        place = Cat(first.bank, first.rank)
        is_open, hit = self.open.bit_select(place, 1), self.rows.word_select(place, config.field_bits["row"]) == first.row
        with m.If(self.urgent & ~maintenance.any() & self.valid[0]):
            m.d.comb += must(~own | (bank == place))
            allowed = self.taking.bit_select(first.rank, 1) if config.ranks > 1 else self.taking
            with m.If(allowed & ~is_open & self.act_ok.bit_select(place, 1)):
                m.d.comb += must((kind == Command.ACT.value) & (scheduler.command.row == first.row))
            with m.If(allowed & is_open & ~hit & self.pre_ok.bit_select(place, 1)):
                m.d.comb += must(kind == Command.PRE.value)
            if config.ranks == 1:
                may = Mux(self.write, self.write_ok, self.read_ok).bit_select(place, 1)
                with m.If(allowed & is_open & hit & may):
                    m.d.comb += must(column & remove[0])
        return m


def service_bound(config: DramConfig) -> int:
    """Cycles in which the oldest entry of an urgent queue is served, if no refresh and no near-data command comes between.

    At worst it waits for its bank's precharge, opens its row, and waits for the data bus; each of its three commands and the last one
    before cost a cycle on their way to the pins and one in which the rank takes no other.
    """
    gaps = config.gaps
    close = max(gaps.ras, gaps.rtp, gaps.wr)
    opening = max(gaps.rp, gaps.rc, gaps.rrd_l, gaps.faw)
    move = max(gaps.rcd, gaps.wtr_l, gaps.rtw, gaps.ccd_l)
    return close + opening + move


class ServiceSpec(wiring.Component):
    """Once a queue is urgent its oldest entry leaves within `service_bound`, whatever the rank did before and whatever else is queued.

    Scheduler and RankControl are joined as in Channel, the queue is free but keeps its entry 0, and no refresh is wanted. Proved by
    induction over more cycles than the bound, so from every state the trackers can be in. `heard`: the scheduler is told of the urgency.
    """

    def __init__(self, config: DramConfig, *, heard: bool = True, slack: int = 0):
        self.config, self.heard, self.slack = config, heard, slack
        entries = max(config.read_entries, config.write_entries)
        super().__init__({"entries": In(entry_layout(config, note_bits=TAG_BITS)).array(entries), "valid": In(entries), "write": In(1),
                          "urgent": In(1)})

    def elaborate(self, platform):
        m = observer()
        config = self.config
        m.submodules.scheduler = scheduler = Scheduler(config)
        m.submodules.rank = rank = RankControl(config, rank=0)
        _know(m, config, scheduler, self.entries, self.valid, rank)
        commanded = Signal()
        m.d.sync += commanded.eq(scheduler.command.kind != Command.NONE)
        m.d.comb += [
            scheduler.soon.eq(rank.soon), scheduler.valid.eq(self.valid), scheduler.write.eq(self.write),
            scheduler.urgent.eq(self.urgent & self.heard), scheduler.taking.eq(~commanded),
            given(self.valid & (self.valid + 1) == 0), given(self.valid[0] | ~self.urgent),
        ]
        m.d.sync += rank.pins.command.eq(scheduler.command)
        # An urgent entry 0 stays until it is served.
        last = Signal(self.entries[0].shape())
        write, urgent, served = Signal(), Signal(), Signal()
        m.d.comb += served.eq(scheduler.leaves[0])
        m.d.sync += [last.eq(self.entries[0]), write.eq(self.write), urgent.eq(self.urgent & ~served)]
        with m.If(urgent):
            m.d.comb += [given(self.urgent), given(self.write == write), given(self.entries[0].as_value() == last.as_value())]
        bound = service_bound(config) - self.slack
        waited = Signal(range(bound + 3))
        with m.If(~self.urgent | served):
            m.d.sync += waited.eq(0)
        with m.Elif(waited != bound + 2):
            m.d.sync += waited.eq(waited + 1)
        m.d.comb += must(waited <= bound)
        return m

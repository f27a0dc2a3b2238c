"""One channel of the memory system: a request's way from the port to the command pins, and what the near-data units are told."""

from functools import reduce
from operator import or_

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from gen.dram import DramConfig
from gen.nda import Policy
from rtl.memory.channel_data import ReadData, WriteData
from rtl.memory.interfaces import (
    TAG_BITS,
    ChannelPins,
    Command,
    channel_request_layout,
    command_layout,
    in_launch_row,
    response_layout,
)
from rtl.memory.rank_control import HELD, RankControl
from rtl.memory.refresh import Refresh
from rtl.memory.request_queue import RequestQueue, after_change
from rtl.memory.scheduler import Scheduler
from rtl.memory.sequencer import WORK


def is_for(location, rank: int):
    """Whether a location is of a rank. With one rank the field has no bits."""
    return location.rank == rank if len(location.rank) else Const(1, 1)


def launches(config: DramConfig, request, rank: int):
    """Whether a stream of requests hands over a descriptor for a rank's unit in this cycle."""
    location = request.p.location
    return (request.valid & request.ready & request.p.write & in_launch_row(config, location) & (location.column == 0)
            & is_for(location, rank))


class Channel(wiring.Component):
    """Queues, scheduler, refresh and a replica of each rank's state. See "One channel" in rtl/memory/README.md for every cycle.

    A request accepted in cycle t can have its first command on the pins in t+4, its data CL (CWL) cycles behind the RD (WR); a read's
    response comes in the cycle behind its last beat. One request a cycle in. `active`: units with a launch under way; `quiet`: nothing is.
    `states`, `commands`, `work` and `overrun` are the replicas'; with interface "packet" they serve the ranks.
    """

    def __init__(self, config: DramConfig):
        self.config = config
        ranks = config.ranks
        super().__init__({
            "request": In(stream.Signature(channel_request_layout(config))),
            "response": Out(stream.Signature(response_layout(config), always_ready=True)),
            "pins": Out(ChannelPins(config)),
            "active": Out(ranks),
            "quiet": Out(1),
            "states": Out(RankControl.state_bits(config)).array(ranks),
            "commands": Out(command_layout(config)).array(ranks),
            "work": Out(WORK).array(ranks),
            "overrun": Out(ranks),
        })

    def elaborate(self, platform):
        m = Module()
        config = self.config
        m.submodules.write_path = write_data = WriteData(config)
        m.submodules.read_path = read_data = ReadData(config)
        m.submodules.reads = reads = RequestQueue(config, entries=config.read_entries, note_bits=TAG_BITS)
        m.submodules.writes = writes = RequestQueue(config, entries=config.write_entries, note_bits=len(write_data.slot))
        m.submodules.scheduler = scheduler = Scheduler(config)
        m.submodules.refreshes = refresh = Refresh(config)
        replicas = []
        for rank in range(config.ranks):
            m.submodules[f"rank_{rank}"] = replica = RankControl(config, rank=rank)
            m.d.comb += [
                replica.pins.rank.eq(self.pins.pins.rank), replica.pins.command.eq(self.pins.pins.command),
                replica.inhibit.eq(self.pins.inhibit[rank]), replica.write_data.eq(self.pins.write_data),
                self.states[rank].eq(replica.state), self.commands[rank].eq(replica.command), self.work[rank].eq(replica.work),
                self.overrun[rank].eq(replica.overrun),
            ]
            replicas.append(replica)

        arriving, incoming, announced, forced = self._entry(m, reads, writes, write_data, replicas)
        draining, urgent = self._mode(m, reads, writes, forced)
        wanted, reserved = self._waiting(reads, writes)

        # The active queue, what the ranks allow and what they owe; the choice, on the pins in the next cycle.
        free, commanded = Signal(config.ranks), Signal(config.ranks)
        m.d.comb += [
            free.eq(~(commanded | Cat(replica.committed for replica in replicas))),
            refresh.wanted.eq(wanted), refresh.free.eq(free),
            refresh.prea_ok.eq(Cat(replica.prea_ok for replica in replicas)),
            refresh.ref_ok.eq(Cat(replica.ref_ok for replica in replicas)),
            scheduler.taking.eq(free & refresh.normal),
            scheduler.precharge.eq(refresh.precharge), scheduler.refresh.eq(refresh.refresh),
            scheduler.write.eq(draining),
            scheduler.urgent.eq(urgent),
            scheduler.valid.eq(Mux(draining, writes.valid, reads.valid)),
            scheduler.wanted_rows.eq(Mux(draining, writes.wanted_rows, reads.wanted_rows)),
            reads.leaves.eq(Mux(draining, 0, scheduler.leaves)),
            writes.leaves.eq(Mux(draining, scheduler.leaves, 0)),
            read_data.expect.eq(reads.leaves[-1]), read_data.tag.eq(scheduler.note),
            write_data.send.eq(writes.leaves[-1]), write_data.sent_slot.eq(scheduler.note),
            read_data.read_data.eq(self.pins.read_data),
            self.pins.write_data.eq(write_data.write_data), self.pins.write_mask.eq(write_data.write_mask),
            self.response.valid.eq(read_data.response.valid), self.response.payload.eq(read_data.response.payload),
        ]
        for queue, column in ((reads, "next_read"), (writes, "next_write")):
            for inner, outer in (("act_ok", "next_act_ok"), ("pre_ok", "next_pre_ok"), ("column_ok", f"{column}_ok"),
                                 ("act_free", "next_act_free"), ("column_free", f"{column}_free"),
                                 *((name, name) for name in HELD)):
                m.d.comb += getattr(queue, inner).eq(Cat(getattr(replica, outer) for replica in replicas))
        m.d.comb += scheduler.soon.eq(Cat(replica.soon for replica in replicas))
        for i, entry in enumerate(scheduler.entries):
            for part in ("location", "note", "status"):
                m.d.comb += Value.cast(entry[part]).eq(Mux(draining, self._field(writes, i, part), self._field(reads, i, part)))
        m.d.sync += [
            self.pins.pins.rank.eq(scheduler.rank), self.pins.pins.command.eq(scheduler.command),
            commanded.eq((scheduler.command.kind != Command.NONE) << scheduler.rank),
        ]

        # Inhibit pins. `soon` keeps the unit's column commands off when the host's, which waits for the same minima, becomes legal.
        for rank, replica in enumerate(replicas):
            pin, predicts = self.pins.inhibit[rank], Signal(name=f"predicts_{rank}")
            m.d.comb += predicts.eq(replica.policy == Policy.NEXT_RANK)
            m.d.sync += [
                pin.hold_all.eq(~refresh.normal[rank] | reserved[rank] | (scheduler.urgent & is_for(scheduler.entries[0].location, rank))
                                | scheduler.next_ranks[rank]),
                pin.hold_writes.eq(predicts & ~draining & (
                    (reads.valid[0] & is_for(reads.entries[0].location, rank)) | announced[rank] | scheduler.hit_ranks[rank])),
            ]
            with m.If(launches(config, self.request, rank)):
                m.d.sync += self.active[rank].eq(1)
            with m.Elif(replica.finished):
                m.d.sync += self.active[rank].eq(0)
        m.d.comb += self.quiet.eq(refresh.idle & ~(
            arriving | incoming | reads.valid[0] | writes.valid[0] | read_data.outstanding | self.active.any()))
        return m

    @staticmethod
    def _field(queue: RequestQueue, index: int, part: str):
        """A part of an entry as a value; 0 behind the queue's end (the longer queue has more entries)."""
        return Value.cast(queue.entries[index][part]) if index < queue.size else Const(0, 1)

    def _entry(self, m: Module, reads: RequestQueue, writes: RequestQueue, write_data: WriteData, replicas: list):
        """The two registers in front of the queues. Returns whether each is full, the ranks they announce a read for, and `forced`."""
        config = self.config
        layout = channel_request_layout(config)
        arriving, incoming = Signal(layout, reset_less=True), Signal(layout, reset_less=True)
        arrived, waiting, forwards, held, enters = (Signal(name=name) for name in ("arrived", "waiting", "forwards", "held", "enters"))
        is_open, hit = Signal(name="incoming_open"), Signal(name="incoming_hit")
        m.d.comb += [
            self.request.ready.eq(~arrived | forwards),
            forwards.eq(arrived & (~waiting | enters)),
            held.eq(Mux(incoming.write, self._clashes(reads), self._clashes(writes))),      # by an entry of the other queue
            enters.eq(waiting & ~held & ~Mux(incoming.write, writes.full, reads.full)),
            reads.push.eq(enters & ~incoming.write),
            reads.entry.note.eq(incoming.tag),
            writes.push.eq(enters & incoming.write),
            writes.entry.note.eq(write_data.slot),
            write_data.store.eq(writes.push),
            write_data.block.data.eq(incoming.data), write_data.block.mask.eq(incoming.mask),
        ]
        changes = [replica.change for replica in replicas]
        for queue in (reads, writes):
            m.d.comb += [
                *(there.eq(here) for there, here in zip(queue.changes, changes)),
                queue.compare.eq(forwards), queue.compared.eq(arriving.location),
                queue.entry.location.eq(incoming.location), queue.entry.status.open.eq(is_open), queue.entry.status.hit.eq(hit),
            ]
        with m.If(self.request.ready):
            m.d.sync += arrived.eq(self.request.valid)
        with m.If(self.request.ready & self.request.valid):
            m.d.sync += arriving.eq(self.request.payload)
        with m.If(forwards):
            m.d.sync += [waiting.eq(1), incoming.eq(arriving)]
        with m.Elif(enters):
            m.d.sync += waiting.eq(0)

        # What is known of the request's row: looked up on the way into `incoming`, followed from then on.
        place = Signal(range(config.ranks * config.part.all_banks))
        found_open, found_hit = Signal(), Signal()
        rows = Cat(replica.rows for replica in replicas)
        m.d.comb += [
            place.eq(Cat(arriving.location.bank, arriving.location.rank)),
            found_open.eq(Cat(replica.open for replica in replicas).bit_select(place, 1)),
            found_hit.eq(found_open & (rows.word_select(place, config.field_bits["row"]) == arriving.location.row)),
        ]
        with m.If(forwards):
            m.d.sync += Cat(is_open, hit).eq(Cat(*after_change(config, changes, arriving.location, found_open, found_hit)[:2]))
        with m.Else():
            m.d.sync += Cat(is_open, hit).eq(Cat(*after_change(config, changes, incoming.location, is_open, hit)[:2]))
        announced = [
            (arrived & ~arriving.write & is_for(arriving.location, rank)) | (waiting & ~incoming.write & is_for(incoming.location, rank))
            for rank in range(config.ranks)]
        return arrived, waiting, announced, waiting & ~incoming.write & held

    @staticmethod
    def _clashes(queue: RequestQueue) -> Value:
        """Whether an entry of a queue names the block of `incoming`."""
        return Cat(entry.status.clash for entry in queue.entries).any()

    def _mode(self, m: Module, reads: RequestQueue, writes: RequestQueue, forced):
        """Whether writes are served: the register `draining`; and another, whether the queue that is served is urgent."""
        config, draining, want = self.config, Signal(name="draining"), Signal(name="want")
        launching = Cat(in_launch_row(config, entry.location) for entry in writes.entries) & writes.valid
        enough = Mux(draining, writes.valid[config.drain_low], writes.valid[config.drain_high - 1])     # more than low, or high
        m.d.comb += want.eq(writes.valid[0] & (writes.urgent | ~reads.valid[0] | forced | launching.any() | enough))
        drains, urgent = want & ~reads.urgent, Signal(name="served_urgent")
        m.d.sync += [draining.eq(drains), urgent.eq(Mux(drains, writes.next_urgent, reads.next_urgent))]
        return draining, urgent

    def _waiting(self, reads: RequestQueue, writes: RequestQueue):
        """The ranks that an entry is for, and those that an entry for a reserved bank is for."""
        config = self.config
        ranks, reserved = [], []
        for queue in (reads, writes):
            for i, entry in enumerate(queue.entries):
                location = entry.location
                ranks.append(queue.valid[i] << location.rank if len(location.rank) else queue.valid[i])
                if config.reserved:
                    shared = queue.valid[i] & location.bank[config.reserved_bits:].all()
                    reserved.append(shared << location.rank if len(location.rank) else shared)
        return reduce(or_, ranks), reduce(or_, reserved) if reserved else Const(0, config.ranks)

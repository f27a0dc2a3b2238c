"""The machine: groups, the units they share, the memory port, registers and counters."""

from collections.abc import Iterable
from functools import reduce
from itertools import pairwise
from operator import or_

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from gen.config import Config
from gen.isa import Cause, Unit
from gen.timing import drain
from rtl.control.counters import Counters, Observation, scan_cycles
from rtl.control.decoder import Checker, Decoder, own
from rtl.control.dma_in import DmaIn
from rtl.control.dma_out import DmaOut
from rtl.control.fetch import Fetch
from rtl.control.instruction_queue import instruction_queue, slot_bits
from rtl.control.registers import RegisterBus, RegisterFile
from rtl.control.tokens import route
from rtl.control.watchdog import Journal, Watchdog
from rtl.group import Group
from rtl.interfaces import MemoryPort, Tag
from rtl.memory.arbiter import Arbiter
from rtl.sharing import everywhere, family, place

ERROR_LATENCY = 5       # an instruction is dispatched, tokens are taken or signalled: and that is why the machine stops


def selected(choices: list, values: Iterable):
    """The value whose choice is high, of which one at most is; else 0."""
    return reduce(or_, (Mux(choice, value, 0) for choice, value in zip(choices, values)))


class Core(wiring.Component):
    """Runs the program from the first cycle after reset on; whoever holds it decides when that is.

    `stop` is high in the cycle in which End leaves or an error stops the machine: then `failed` is high as well, and `cause` and
    `error_index` say more; if End itself is faulty, `ERROR_LATENCY` cycles later. That is how long an error takes to stop the machine,
    from the cycle in which something is wrong (a collision three). Those found together come in the order dispatch, TOKEN, PORT, DEADLOCK;
    token errors and collisions have the index of the instruction that was the next to be dispatched `ERROR_LATENCY` cycles before. With
    `enable` low no new burst gets the memory port; `settled`: none is under way and no data is awaited.
    """

    def __init__(self, config: Config):
        self.config = config
        super().__init__({
            "enable": In(1),
            "program": In(32),
            "count": In(32),
            "memory": Out(MemoryPort(config)),
            "stop": Out(1),
            "failed": Out(1),
            "cause": Out(Cause),
            "error_index": Out(32),
            "settled": Out(1),
            "beats": Out(3),                                        # a beat of each `Tag` is accepted
            "observed": Out(Observation()).array(config.array.groups),
        })

    def elaborate(self, platform):
        m = Module()
        config = self.config
        m.submodules.fetch = fetch = Fetch(config)
        m.submodules.decoder = decoder = Decoder(config)
        m.submodules.dma_in = dma_in = DmaIn(config)
        m.submodules.dma_out = dma_out = DmaOut(config)
        m.submodules.arbiter = arbiter = Arbiter(config)
        groups = []
        for number in range(config.array.groups):
            groups.append(Group(config))
            m.submodules[f"group_{number}"] = groups[-1]
            wiring.connect(m, groups[-1].observed, wiring.flipped(self.observed[number]))

        # Instructions
        m.d.comb += [
            fetch.program.eq(self.program), fetch.count.eq(self.count),
            decoder.valid.eq(fetch.instruction.valid), fetch.instruction.ready.eq(decoder.ready),
            *(getattr(decoder, name).eq(getattr(fetch, name)) for name in ("kind", "group", "ends")),
        ]
        shared = {Unit.DMA_IN: dma_in, Unit.DMA_OUT: dma_out}
        queues = []
        for number, (kind, unit) in enumerate(shared.items()):
            queue = instruction_queue(m, kind, unit, config=config, bits=fetch.instruction.payload)
            m.submodules[f"queue_{kind.name.lower()}"] = queue
            queues.append(queue)
            m.d.comb += [
                queue.push.eq(decoder.push_shared[number]),
                decoder.full_shared[number].eq(queue.full),
            ]
        for group, push, full in zip(groups, decoder.push, decoder.full):
            m.d.comb += [group.bits.eq(fetch.instruction.payload), group.push.eq(push), full.eq(group.full)]

        # Units shared by the groups
        route(m, unit=dma_in.tokens, groups=[group.dma_in_tokens for group in groups])
        route(m, unit=dma_out.tokens, groups=[group.dma_out_tokens for group in groups])
        for number, group in enumerate(groups):
            # Of a single group the number need not be looked at.
            written, read = (where == number if len(groups) > 1 else 1 for where in (dma_in.write_group, dma_out.read_group))
            m.d.comb += [
                group.dma_in.enable.eq(Mux(written, dma_in.write.enable, 0)),
                group.dma_in.slice.eq(dma_in.write.slice),
                group.dma_in.address.eq(dma_in.write.address),
                *(there.eq(here) for there, here in zip(group.dma_in.data, dma_in.write.data)),
                group.dma_out.enable.eq(dma_out.read.enable & read),
                group.dma_out.slice.eq(dma_out.read.slice),
                *(there.eq(here) for there, here in zip(group.dma_out.addresses, dma_out.read.addresses)),
            ]
            with m.If(read):
                m.d.comb += [here.eq(there) for here, there in zip(dma_out.read.data, group.dma_out.data)]

        # Memory port
        for client, unit in zip(arbiter.clients, (fetch, dma_in, dma_out)):
            wiring.connect(m, unit.request, client)
        wiring.connect(m, arbiter.port, wiring.flipped(self.memory.request))
        accepted, response = Signal(), self.memory.response
        asked, answered, awaited = Signal(), Signal(), Signal(32)
        m.d.comb += [
            arbiter.enable.eq(self.enable),
            accepted.eq(self.memory.request.valid & self.memory.request.ready),
            self.settled.eq(~arbiter.locked & ~asked & (awaited == 0)),
        ]
        m.d.sync += [asked.eq(accepted & ~self.memory.request.p.write), answered.eq(response.valid)]
        m.d.sync += awaited.eq(awaited + Cat(asked ^ answered, answered & ~asked).as_signed())
        for unit in (fetch, dma_in):
            m.d.comb += [unit.response.valid.eq(response.valid), unit.response.payload.eq(response.payload)]
        m.d.comb += [self.beats[tag].eq(accepted & (self.memory.request.p.tag == tag)) for tag in (Tag.FETCH, Tag.DMA_IN, Tag.DMA_OUT)]

        # Every unit: whether it is given an instruction and in which slot; whether it waits, and with the instruction in which slot. In the
        # order in which a deadlock names it: units first, then groups.
        places = [(decoder.push_shared[i], queue.push_slot, unit.waiting, unit.index)
                  for i, (queue, unit) in enumerate(zip(queues, shared.values()))]
        places += [(push[i], group.push_slots[i], group.stuck[i], group.stuck_slots[i])
                   for i in range(len(own(config))) for group, push in zip(groups, decoder.push)]
        m.submodules.watchdog = watchdog = Watchdog(units=len(places), slot_bits=slot_bits(config))
        m.submodules.journal = journal = Journal(units=len(places), slot_bits=slot_bits(config))
        pushes = [push for push, *_ in places]
        m.d.comb += [
            journal.note.eq(Cat(pushes).any()),
            journal.number.eq(selected(pushes, range(len(pushes)))),
            journal.slot.eq(selected(pushes, [push_slot for _, push_slot, *_ in places])),
            journal.written.eq(fetch.index),
            journal.read_number.eq(watchdog.unit),
            journal.read_slot.eq(watchdog.slot),
        ]
        for number, (_, _, waiting, slot) in enumerate(places):
            m.d.comb += [watchdog.waiting[number].eq(waiting), watchdog.slots[number].eq(slot)]

        # The end. What is dispatched is checked behind its back: until the machine stops it does not matter what the queues hold.
        m.submodules.checker = checker = Checker(config)
        indices = [fetch.index, *(Signal(32, name=f"index_{age}") for age in range(1, ERROR_LATENCY))]
        m.d.sync += [later.eq(earlier) for earlier, later in pairwise(indices)]
        m.d.comb += [
            checker.valid.eq(fetch.instruction.valid & self.enable),
            checker.bits.eq(fetch.instruction.payload),
            checker.exhausted.eq(fetch.exhausted & self.enable),
            watchdog.active.eq(Cat(
                fetch.busy, fetch.instruction.valid & fetch.instruction.ready, *(group.active for group in groups),
                *(~unit.idle & ~unit.waiting for unit in shared.values()),
            ).any()),
            self.stop.eq(decoder.ended | self.failed),
        ]
        # Whether all was quiet in the cycle before, and nothing has left since that will be anything but.
        active, quiet = Signal(), Signal(init=1)
        m.d.comb += active.eq(Cat(
            *(queue.head.valid | ~unit.idle for queue, unit in zip(queues, shared.values())), *(group.busy for group in groups),
        ).any())
        m.d.sync += quiet.eq(~active & ~Cat(*decoder.push_shared, *decoder.push).any())
        m.d.comb += decoder.quiet.eq(quiet)
        found, cause, token_error, collision = Signal(), Signal(Cause), Signal(), Signal()
        m.d.sync += [       # from far apart
            found.eq(checker.found),
            cause.eq(checker.cause),
            token_error.eq(Cat(group.token_error for group in groups).any()),
            collision.eq(Cat(group.collision for group in groups).any()),
        ]
        m.d.sync += [
            self.failed.eq(found | token_error | collision | watchdog.expired),
            self.cause.eq(Cause.DEADLOCK),
            self.error_index.eq(indices[-1]),
        ]
        with m.If(found):
            m.d.sync += self.cause.eq(cause)
        with m.Elif(token_error):
            m.d.sync += self.cause.eq(Cause.TOKEN)
        with m.Elif(collision):
            m.d.sync += self.cause.eq(Cause.PORT)
        with m.Else():
            m.d.sync += self.error_index.eq(journal.index)
        return m


class Machine(wiring.Component):
    """A whole accelerator behind a register bus and a memory port.

    A start written to the bus in cycle w makes w+1 the first cycle of the run (cycle 0). After its last cycle t the burst under way is
    finished and data on its way is awaited; when the counters are final (`scan_cycles` later) `done` rises and stays up until the
    next start; `busy` is up from w+1 until then. Outside a run every unit is held in reset, so runs are independent of each other, also
    after an error. Buffers keep their contents.
    """

    def __init__(self, config: Config):
        self.config = config
        super().__init__({"registers": In(RegisterBus()), "memory": Out(MemoryPort(config)), "busy": Out(1), "done": Out(1)})

    def elaborate(self, platform):
        m = Module()
        config = self.config
        held = Signal(init=1)
        core = place(m, platform, instance="core", module="machine_core", factory=lambda: Core(config),
                     reset=everywhere(m, family(platform), held, name="held_everywhere"))
        m.submodules.registers = registers = RegisterFile(config)
        m.submodules.counters = counters = Counters(config)
        wiring.connect(m, wiring.flipped(self.registers), registers.bus)
        wiring.connect(m, core.memory, wiring.flipped(self.memory))

        running, settling, flushing = Signal(), Signal(), Signal()
        flush_range = range(max(drain(config), scan_cycles(config)) + 1)
        flush = Signal(flush_range)
        with m.If(registers.start):
            m.d.sync += [running.eq(1), self.busy.eq(1), held.eq(0), self.done.eq(0)]
            m.d.sync += [registers.cause.eq(Cause.NONE), registers.error_index.eq(0)]
        with m.If(running & core.stop):
            m.d.sync += [running.eq(0), settling.eq(1)]
        with m.If(self.busy & (registers.cause == Cause.NONE) & core.failed):
            m.d.sync += [registers.cause.eq(core.cause), registers.error_index.eq(core.error_index)]
        # End may have been faulty: the errors of its last cycle are waited for.
        since_stop = Signal(range(ERROR_LATENCY + 1))
        with m.If(running):
            m.d.sync += since_stop.eq(0)
        with m.Elif(since_stop != ERROR_LATENCY):
            m.d.sync += since_stop.eq(since_stop + 1)
        with m.If(settling & core.settled & (since_stop == ERROR_LATENCY)):
            m.d.sync += [settling.eq(0), held.eq(1), flushing.eq(1)]
            # What is counted has to reach the counters' memory, and data without a reset has to run out.
            m.d.sync += flush.eq(len(flush_range) - 1)
        with m.If(flushing):
            m.d.sync += flush.eq(flush - 1)
            with m.If(flush == 0):
                m.d.sync += [flushing.eq(0), self.busy.eq(0), self.done.eq(1)]

        m.d.comb += [
            core.enable.eq(running),
            core.program.eq(registers.program),
            core.count.eq(registers.count),
            registers.busy.eq(self.busy),
            registers.done.eq(self.done),
            counters.clear.eq(registers.start),
            counters.running.eq(running),
            counters.fetch_beat.eq(core.beats[Tag.FETCH]),
            counters.read_beat.eq(core.beats[Tag.DMA_IN]),
            counters.write_beat.eq(core.beats[Tag.DMA_OUT]),
            counters.scanning.eq(self.busy),
            counters.slot.eq(registers.slot),
            registers.sum.eq(counters.sum),
            registers.span.eq(counters.span),
        ]
        for observed, group in zip(core.observed, counters.groups):
            wiring.connect(m, observed, group)
        return m

"""The machine: groups, the units they share, the memory port, registers and counters."""

from amaranth.hdl import Cat, Module, Mux, ResetInserter, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from gen.config import Config
from gen.isa import Cause, Unit
from gen.timing import drain
from rtl.control.counters import Counters, Observation
from rtl.control.decoder import OWN, Decoder
from rtl.control.dma_in import DmaIn
from rtl.control.dma_out import DmaOut
from rtl.control.fetch import Fetch
from rtl.control.queue import Queue
from rtl.control.registers import RegisterBus, RegisterFile
from rtl.control.tokens import route
from rtl.control.watchdog import Watchdog
from rtl.group import Group
from rtl.instruction import entry_layout
from rtl.interfaces import MemoryPort, Tag
from rtl.memory.arbiter import Arbiter


class Core(wiring.Component):
    """Runs the program from the first cycle after reset on; whoever holds it decides when that is.

    `stop` is high in the cycle in which End leaves or an error is found; `cause` is NONE for End, and if End itself is faulty, not NONE in
    the cycle after. Errors are found in the cycle behind them, those of one cycle in the order dispatch, TOKEN, PORT, DEADLOCK; token
    errors and collisions have the index of the instruction that is the next to be dispatched. With `enable` low no new burst gets the
    memory port; `settled`: none is under way and no data is awaited.
    """

    def __init__(self, config: Config):
        self.config = config
        super().__init__({
            "enable": In(1),
            "program": In(32),
            "count": In(32),
            "memory": Out(MemoryPort(config)),
            "stop": Out(1),
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
        wiring.connect(m, fetch.instruction, decoder.instruction)
        m.d.comb += [fetch.program.eq(self.program), fetch.count.eq(self.count), decoder.exhausted.eq(fetch.exhausted)]
        m.d.comb += decoder.kind.eq(fetch.kind)
        shared = {Unit.DMA_IN: dma_in, Unit.DMA_OUT: dma_out}
        queues = []
        for number, (kind, unit) in enumerate(shared.items()):
            m.submodules[f"queue_{kind.name.lower()}"] = queue = Queue(shape=entry_layout(kind), depth=config.control.queue_depth)
            queues.append(queue)
            m.d.comb += [
                queue.push.eq(decoder.push_shared[number]),
                queue.entry.index.eq(fetch.index),
                queue.entry.bits.eq(fetch.instruction.payload),
                decoder.full_shared[number].eq(queue.full),
            ]
            wiring.connect(m, queue.head, unit.instruction)
        for group, push, full in zip(groups, decoder.push, decoder.full):
            m.d.comb += [group.index.eq(fetch.index), group.bits.eq(fetch.instruction.payload), group.push.eq(push), full.eq(group.full)]

        # Units shared by the groups
        route(m, unit=dma_in.tokens, groups=[group.dma_in_tokens for group in groups])
        route(m, unit=dma_out.tokens, groups=[group.dma_out_tokens for group in groups])
        for number, group in enumerate(groups):
            m.d.comb += [
                group.dma_in.enable.eq(Mux(dma_in.write_group == number, dma_in.write.enable, 0)),
                group.dma_in.slice.eq(dma_in.write.slice),
                group.dma_in.address.eq(dma_in.write.address),
                *(there.eq(here) for there, here in zip(group.dma_in.data, dma_in.write.data)),
                group.dma_out.enable.eq(dma_out.read.enable & (dma_out.read_group == number)),
                group.dma_out.slice.eq(dma_out.read.slice),
                *(there.eq(here) for there, here in zip(group.dma_out.addresses, dma_out.read.addresses)),
            ]
            with m.If(dma_out.read_group == number):
                m.d.comb += [here.eq(there) for here, there in zip(dma_out.read.data, group.dma_out.data)]

        # Memory port
        for client, unit in zip(arbiter.clients, (fetch, dma_in, dma_out)):
            wiring.connect(m, unit.request, client)
        wiring.connect(m, arbiter.port, wiring.flipped(self.memory.request))
        accepted, response = Signal(), self.memory.response
        awaited = Signal(32)
        m.d.comb += [
            arbiter.enable.eq(self.enable),
            accepted.eq(self.memory.request.valid & self.memory.request.ready),
            self.settled.eq(~arbiter.locked & (awaited == 0)),
        ]
        m.d.sync += awaited.eq(awaited + (accepted & ~self.memory.request.p.write) - response.valid)
        for unit in (fetch, dma_in):
            m.d.comb += [unit.response.valid.eq(response.valid), unit.response.payload.eq(response.payload)]
        m.d.comb += [self.beats[tag].eq(accepted & (self.memory.request.p.tag == tag)) for tag in (Tag.FETCH, Tag.DMA_IN, Tag.DMA_OUT)]

        # The end. Units first, then groups: the order in which a deadlock names the instruction it waits with.
        stuck = [(unit.waiting, unit.index) for unit in shared.values()]
        stuck += [(group.stuck[i], group.stuck_indices[i]) for i in range(len(OWN)) for group in groups]
        # The checks take most of a cycle, so what they find is acted on in the next one.
        checked, index = Signal(Cause), Signal(32)
        m.d.sync += [checked.eq(Mux(self.enable, decoder.cause, Cause.NONE)), index.eq(fetch.index)]
        m.submodules.watchdog = watchdog = Watchdog(units=len(stuck))
        m.d.comb += [
            watchdog.waiting.eq(Cat(waiting for waiting, _ in stuck)),
            *(there.eq(index) for there, (_, index) in zip(watchdog.indices, stuck)),
            watchdog.active.eq(Cat(
                fetch.busy, fetch.instruction.valid & fetch.instruction.ready, *(group.active for group in groups),
                *(~unit.idle & ~unit.waiting for unit in shared.values()),
            ).any()),
            decoder.quiet.eq(~Cat(
                *(queue.head.valid | ~unit.idle for queue, unit in zip(queues, shared.values())), *(group.busy for group in groups),
            ).any()),
            self.error_index.eq(index),
            self.stop.eq(decoder.ended | (self.cause != Cause.NONE)),
        ]
        with m.If(checked != Cause.NONE):
            m.d.comb += self.cause.eq(checked)
        with m.Elif(Cat(group.token_error for group in groups).any()):
            m.d.comb += self.cause.eq(Cause.TOKEN)
        with m.Elif(Cat(group.collision for group in groups).any()):
            m.d.comb += self.cause.eq(Cause.PORT)
        with m.Elif(watchdog.expired):
            m.d.comb += [self.cause.eq(Cause.DEADLOCK), self.error_index.eq(watchdog.index)]
        return m


class Machine(wiring.Component):
    """A whole accelerator behind a register bus and a memory port.

    A start written to the bus in cycle w makes w+1 the first cycle of the run (cycle 0). After its last cycle t the burst under way is
    finished and data on its way is awaited; then `done` rises (t+3 at the earliest, when all counters are final) and stays up until the
    next start. Outside a run every unit is held in reset, so runs are independent of each other, also after an error. Buffers keep
    their contents.
    """

    def __init__(self, config: Config):
        self.config = config
        super().__init__({"registers": In(RegisterBus()), "memory": Out(MemoryPort(config)), "done": Out(1)})

    def elaborate(self, platform):
        m = Module()
        config = self.config
        held = Signal(init=1)
        core = Core(config)
        m.submodules.core = ResetInserter(held)(core)
        m.submodules.registers = registers = RegisterFile(config)
        m.submodules.counters = counters = Counters(config)
        wiring.connect(m, wiring.flipped(self.registers), registers.bus)
        wiring.connect(m, core.memory, wiring.flipped(self.memory))

        running, busy, settling, flushing = Signal(), Signal(), Signal(), Signal()
        flush = Signal(range(drain(config)))
        with m.If(registers.start):
            m.d.sync += [running.eq(1), busy.eq(1), held.eq(0), self.done.eq(0)]
            m.d.sync += [registers.cause.eq(Cause.NONE), registers.error_index.eq(0)]
        with m.If(running & core.stop):
            m.d.sync += [running.eq(0), settling.eq(1)]
        with m.If((running | settling) & (registers.cause == Cause.NONE) & (core.cause != Cause.NONE)):
            m.d.sync += [registers.cause.eq(core.cause), registers.error_index.eq(core.error_index)]
        with m.If(settling & core.settled):
            m.d.sync += [settling.eq(0), held.eq(1), flushing.eq(1)]
            # Modules shared in the Verilog flow have registers that no reset inserter reaches. After End they are at rest; after an error
            # what is in them has to run out.
            m.d.sync += flush.eq(Mux(registers.cause == Cause.NONE, 0, drain(config) - 1))
        with m.If(flushing):
            m.d.sync += flush.eq(flush - 1)
            with m.If(flush == 0):
                m.d.sync += [flushing.eq(0), busy.eq(0), self.done.eq(1)]

        m.d.comb += [
            core.enable.eq(running),
            core.program.eq(registers.program),
            core.count.eq(registers.count),
            registers.busy.eq(busy),
            registers.done.eq(self.done),
            counters.clear.eq(registers.start),
            counters.running.eq(running),
            counters.fetch_beat.eq(core.beats[Tag.FETCH]),
            counters.read_beat.eq(core.beats[Tag.DMA_IN]),
            counters.write_beat.eq(core.beats[Tag.DMA_OUT]),
            *(there.eq(here) for there, here in zip(registers.counters, counters.values)),
        ]
        for observed, group in zip(core.observed, counters.groups):
            wiring.connect(m, observed, group)
        return m

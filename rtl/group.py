"""A group: one array unit with its buffers, loaders, store unit, queues and tokens."""

from amaranth.hdl import Cat, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from gen.config import Config
from gen.isa import Unit, units
from rtl.array.compute import Compute
from rtl.buffer.global_buffer import GlobalBuffer
from rtl.control.counters import Observation
from rtl.control.decoder import own
from rtl.control.instruction_queue import instruction_queue, slot_bits
from rtl.control.load_moving import LoadMoving
from rtl.control.load_stationary import LoadStationary
from rtl.control.tokens import Tokens
from rtl.instruction import shown_bits
from rtl.interfaces import BufferRead, BufferWrite, TokenPort
from rtl.vector.store import Store
from rtl.vector.vector_unit import VectorUnit


class Group(wiring.Component):
    """Takes instructions for its own units (masks in the order of `own`) and the DMA units' access to its buffer.

    An instruction is known by its slot in its unit's queue: `push_slots` are those of the instructions that come next. `busy`: a queue
    holds something or a unit is not idle. `active`: some unit is getting on with something. `stuck`: units that wait, with the slot of the
    instruction they wait with. The two errors stop the machine.
    """

    def __init__(self, config: Config):
        self.config = config
        count = len(own(config))
        super().__init__({
            "bits": In(shown_bits(config)),
            "push": In(count),
            "push_slots": Out(slot_bits(config)).array(count),
            "full": Out(count),
            "dma_in_tokens": In(TokenPort()),
            "dma_out_tokens": In(TokenPort()),
            "dma_in": In(BufferWrite(config, words=config.beat_words)),
            "dma_out": In(BufferRead(config, words=config.beat_words)),
            "observed": Out(Observation()),
            "busy": Out(1),
            "active": Out(1),
            "stuck": Out(count),
            "stuck_slots": Out(slot_bits(config)).array(count),
            "token_error": Out(1),
            "collision": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        config = self.config
        m.submodules.compute = compute = Compute(config)
        m.submodules.global_buffer = buffer = GlobalBuffer(config)
        m.submodules.load_moving = load_moving = LoadMoving(config)
        m.submodules.load_stationary = load_stationary = LoadStationary(config)
        m.submodules.store = store = Store(config)
        m.submodules.tokens = tokens = Tokens(ports=len(units(config)))
        mine = {Unit.LOAD_H: load_moving, Unit.LOAD_V: load_stationary, Unit.EXECUTE: compute, Unit.STORE: store}
        if config.floating:
            m.submodules.vector = vector = VectorUnit(config)
            mine[Unit.VECTOR] = vector
            wiring.connect(m, vector.read_a, buffer.vector_a)
            wiring.connect(m, vector.read_b, buffer.vector_b)
            wiring.connect(m, vector.write, buffer.vector_write)

        queued = []
        for number, kind in enumerate(own(config)):
            unit = mine[kind]
            m.submodules[f"queue_{kind.name.lower()}"] = queue = instruction_queue(m, kind, unit, config=config, bits=self.bits)
            m.d.comb += [
                queue.push.eq(self.push[number]),
                self.push_slots[number].eq(queue.push_slot),
                self.full[number].eq(queue.full),
                self.stuck[number].eq(unit.waiting),
                self.stuck_slots[number].eq(unit.index),
            ]
            queued.append(queue.head.valid)
            wiring.connect(m, unit.tokens, tokens.units[kind])
        m.d.comb += [
            self.busy.eq(Cat(*queued, *(~unit.idle for unit in mine.values())).any()),
            self.active.eq(Cat(~unit.idle & ~unit.waiting for unit in mine.values()).any()),
            self.token_error.eq(tokens.error),
            self.collision.eq(buffer.collision),
        ]

        wiring.connect(m, wiring.flipped(self.dma_in_tokens), tokens.units[Unit.DMA_IN])
        wiring.connect(m, wiring.flipped(self.dma_out_tokens), tokens.units[Unit.DMA_OUT])
        wiring.connect(m, wiring.flipped(self.dma_in), buffer.dma_in)
        wiring.connect(m, wiring.flipped(self.dma_out), buffer.dma_out)
        wiring.connect(m, load_moving.read, buffer.load_h)
        wiring.connect(m, load_stationary.read, buffer.load_v)
        if not config.floating:
            wiring.connect(m, store.read, buffer.store_read)
        wiring.connect(m, store.write, buffer.store_write)
        if config.vector.window:
            wiring.connect(m, store.residual, buffer.residual)
        wiring.connect(m, load_moving.write, compute.moving_write)
        wiring.connect(m, load_stationary.write, compute.stationary_write)
        wiring.connect(m, store.accumulators, compute.accumulators)
        m.d.comb += [
            compute.moving_ready.eq(load_moving.ready),
            compute.stationary_ready.eq(load_stationary.ready),
            load_moving.release.eq(compute.moving_release),
            load_stationary.release.eq(compute.stationary_release),
            self.observed.wave.eq(compute.wave),
            self.observed.wave_mode.eq(compute.wave_mode),
            self.observed.stall.eq(compute.stall),
            self.observed.streaming.eq(compute.streaming),
            self.observed.active.eq(compute.active),
            self.observed.loading_moving.eq(load_moving.issuing),
            self.observed.moving_words.eq(load_moving.words),
            self.observed.loading_stationary.eq(load_stationary.issuing),
            self.observed.stationary_words.eq(load_stationary.words),
            self.observed.storing.eq(store.issuing),
            self.observed.stored_words.eq(store.words),
        ]
        return m

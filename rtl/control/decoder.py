"""The dispatcher: checks instructions and hands them to the units' queues, in order."""

from amaranth.hdl import Array, Cat, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from gen.config import Config
from gen.config import Unit as Kind
from gen.isa import VERSION, Addend, Cause, Factor, Field, LaneOperation, Mode, Opcode, Post, Unit, greatest, layout, least, opcodes, units
from rtl.control.fetch import GROUP_BITS, kinds
from rtl.instruction import instruction_layout, shown_bits

SHARED = (Unit.DMA_IN, Unit.DMA_OUT)                                        # units that exist once


def own(config: Config) -> tuple[Unit, ...]:
    """The units of each group."""
    return tuple(unit for unit in units(config) if unit not in SHARED)


def legal_modes(config: Config) -> tuple[Mode, ...]:
    """Modes that the unit of a machine can run."""
    return {Kind.FLEX: tuple(Mode), Kind.QUAD: (Mode.ISW,), Kind.SINGLE: (Mode.FW,)}[config.array.unit]


def _outside(config: Config, item: Field, value: Value) -> list[Value]:
    """Conditions under which a field of any instruction is out of its range."""
    low, high = least(config, item), greatest(config, item)
    full_low, full_high = (-(1 << item.width - 1), (1 << item.width - 1) - 1) if item.signed else (0, (1 << item.width) - 1)
    return ([value < low] if low > full_low else []) + ([value > high] if high < full_high else [])


def _by_mode(mode: Value, limit) -> Value:
    """`limit(mode)`, as a lookup by the mode field."""
    return Array([limit(item) for item in Mode])[mode]


def _unfit(config: Config, op: Opcode, fields: data.View) -> list[Value]:
    """Conditions under which an instruction with fields in range does not fit this machine."""
    names = {item.name for item in op.fields}
    found: list[Value] = []
    if "mode" in names:
        found += [fields.mode == mode for mode in Mode if mode not in legal_modes(config)]
        if "rows" in names:     # streamed <= capacity, without the division
            found.append(fields.rows > _by_mode(fields.mode, lambda mode: mode.parts * config.moving_capacity))
    if op.name == "LdLBUF_H":
        found.append(fields.rate > _by_mode(fields.mode, lambda mode: mode.parts.bit_length() - 1))
    if op.name == "ExecGEMM":
        found.append(fields.rows > _by_mode(fields.mode, lambda mode: config.wide_rows if mode.wide else config.narrow_rows))
    if op.name == "Vector":     # B cannot be both mask bits and numbers
        found.append((fields.post == Post.MASKED) & ((fields.factor == Factor.B) | (fields.addend == Addend.B)))
    if op.name == "VectorLanes":
        found.append((fields.operation >= LaneOperation.SUM) & (fields.span > exact_log2(config.array.side)))
    if op.name == "StLBUF":
        found.append(fields.rows > Array([config.narrow_rows, config.wide_rows])[fields.wide])
    return found


def wrong(config: Config, op: Opcode, bits: Value) -> list[Value]:
    """Conditions under which an instruction with this opcode, as `shown` cuts it, breaks a rule of `gen.isa` or of the machine."""
    placed = layout(op.name)
    fields = data.View(instruction_layout(op.name), bits[:instruction_layout(op.name).size])
    found = [condition for item, _ in placed for condition in _outside(config, item, getattr(fields, item.name))
             if item.name not in ("opcode", "version")]
    found.append(bits[placed[-1][1] + placed[-1][0].width:].any())    # fields leave no gaps: reserved bits are those behind the last
    return found + _unfit(config, op, fields)


class Checker(wiring.Component):
    """Why an instruction must not be executed, as `shown` cuts it; without a `valid` one, whether the program has run out.

    `found` and, if it is high, `cause` belong to what was given three cycles before; one instruction a cycle.
    """

    def __init__(self, config: Config):
        self.config = config
        super().__init__({"valid": In(1), "bits": In(shown_bits(config)), "exhausted": In(1), "found": Out(1), "cause": Out(Cause)})

    def elaborate(self, platform):
        m = Module()
        # First the instruction; then which one it is, and every rule of every instruction; then what counts.
        valid, bits, exhausted = Signal(), Signal.like(self.bits), Signal()
        m.d.sync += [valid.eq(self.valid), bits.eq(self.bits), exhausted.eq(self.exhausted)]
        common = data.View(instruction_layout("End"), bits[:instruction_layout("End").size])
        checked, old, ended = Signal(), Signal(), Signal()
        m.d.sync += [checked.eq(valid), old.eq(common.version != VERSION), ended.eq(exhausted & ~valid)]
        known, faulty = [], []
        for op in opcodes(self.config):
            conditions = Cat(wrong(self.config, op, bits))
            known.append(Signal(name=f"is_{op.name}"))
            broken = Signal(len(conditions), name=f"broken_{op.name}")
            m.d.sync += [known[-1].eq(common.opcode == op.code), broken.eq(conditions)]
            faulty.append(known[-1] & broken.any())
        m.d.sync += [
            self.found.eq(ended | (checked & (old | ~Cat(known).any() | Cat(faulty).any()))),
            self.cause.eq(Mux(ended, Cause.END, Mux(~Cat(known).any(), Cause.OPCODE, Mux(old, Cause.VERSION, Cause.FIELD)))),
        ]
        return m


class Decoder(wiring.Component):
    """In the cycle in which it is shown (`valid`), an instruction is taken (`ready`) if its unit's queue has room, and pushed in the next.

    `kind`, `group` and `ends` are the instruction's `fetch.route_of`. Barrier leaves when `quiet`; End then raises `ended`. A faulty
    instruction leaves as well: `Checker` finds it, and the machine stops. Pushes go to the shared units (DMA_IN, DMA_OUT) and to each
    group's `own`. All else is combinational.
    """

    def __init__(self, config: Config):
        self.config = config
        groups = config.array.groups
        super().__init__({
            "valid": In(1),
            "ready": Out(1),
            "kind": In(kinds(config)),
            "group": In(GROUP_BITS),
            "ends": In(1),
            "quiet": In(1),
            "full_shared": In(len(SHARED)),
            "full": In(len(own(config))).array(groups),
            "push_shared": Out(len(SHARED)),
            "push": Out(len(own(config))).array(groups),
            "ended": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        room = Cat(*(self.kind[unit] & ~full for unit, full in zip(SHARED, self.full_shared)))
        m.d.sync += self.push_shared.eq(Mux(self.valid, room, 0))
        rooms = [room.any(), self.kind[-1] & self.quiet]
        for group, (full, push) in enumerate(zip(self.full, self.push)):
            mine = self.group == group if len(self.push) > 1 else 1
            room = Cat(self.kind[unit] & mine & ~full[number] for number, unit in enumerate(own(self.config)))
            m.d.sync += push.eq(Mux(self.valid, room, 0))
            rooms.append(room.any())
        m.d.comb += [
            self.ready.eq(Cat(*rooms).any()),
            self.ended.eq(self.valid & self.quiet & self.ends),
        ]
        return m

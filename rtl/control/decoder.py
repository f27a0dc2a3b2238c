"""The dispatcher: checks instructions and hands them to the units' queues, in order."""

from amaranth.hdl import Array, Cat, Module, Mux, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from gen.config import Config
from gen.config import Unit as Kind
from gen.isa import INSTRUCTION_BITS, OPCODES, VERSION, Cause, Field, Mode, Opcode, Unit, layout
from rtl.control.fetch import KINDS
from rtl.instruction import instruction_layout

SHARED = (Unit.DMA_IN, Unit.DMA_OUT)                                        # units that exist once
OWN = (Unit.LOAD_H, Unit.LOAD_V, Unit.EXECUTE, Unit.STORE)                  # units of each group


def legal_modes(config: Config) -> tuple[Mode, ...]:
    """Modes that the unit of a machine can run."""
    return {Kind.FLEX: tuple(Mode), Kind.QUAD: (Mode.ISW,), Kind.SINGLE: (Mode.FW,)}[config.array.unit]


def _outside(config: Config, item: Field, value: Value) -> list[Value]:
    """Conditions under which a field of any instruction is out of its range."""
    low, high = item.bottom, item.top
    if item.name == "group":
        high = config.array.groups - 1
    if item.name == "slice":
        high = config.buffers.slices - 1
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
    if op.name == "StLBUF":
        found.append(fields.rows > Array([config.narrow_rows, config.wide_rows])[fields.wide])
    return found


def wrong(config: Config, op: Opcode, bits: Value) -> Value:
    """Whether the 256 bits of an instruction with this opcode break a rule of `gen.isa` or of the machine (Cause.FIELD)."""
    placed = layout(op.name)
    fields = data.View(instruction_layout(op.name), bits[:instruction_layout(op.name).size])
    found = [condition for item, _ in placed for condition in _outside(config, item, getattr(fields, item.name))
             if item.name not in ("opcode", "version")]
    found.append(bits[placed[-1][1] + placed[-1][0].width:].any())    # fields leave no gaps: reserved bits are those behind the last
    return Cat(*found, *_unfit(config, op, fields)).any()


class Decoder(wiring.Component):
    """One instruction a cycle: in the cycle in which it is shown it is checked, and pushed if its unit's queue has room.

    `kind` is the instruction's `fetch.kind_of`. Barrier leaves when `quiet`; End then raises `ended`. `cause` is not NONE in the first
    cycle in which a faulty instruction is shown, or in which the program is `exhausted`; the machine stops on it, so a faulty instruction
    may leave as well. Pushes go to the shared units (DMA_IN, DMA_OUT) and to each group's own (LOAD_H, LOAD_V, EXECUTE, STORE).
    Combinational throughout.
    """

    def __init__(self, config: Config):
        self.config = config
        groups = config.array.groups
        super().__init__({
            "instruction": In(stream.Signature(INSTRUCTION_BITS)),
            "kind": In(KINDS),
            "exhausted": In(1),
            "quiet": In(1),
            "full_shared": In(len(SHARED)),
            "full": In(len(OWN)).array(groups),
            "push_shared": Out(len(SHARED)),
            "push": Out(len(OWN)).array(groups),
            "ended": Out(1),
            "cause": Out(Cause),
        })

    def elaborate(self, platform):
        m = Module()
        bits, valid = self.instruction.payload, self.instruction.valid
        common = data.View(instruction_layout("End"), bits[:instruction_layout("End").size])

        with m.If(valid), m.Switch(common.opcode):
            for op in OPCODES.values():
                with m.Case(op.code):
                    with m.If(common.version != VERSION):
                        m.d.comb += self.cause.eq(Cause.VERSION)
                    with m.Elif(wrong(self.config, op, bits)):
                        m.d.comb += self.cause.eq(Cause.FIELD)
            with m.Default():
                m.d.comb += self.cause.eq(Cause.OPCODE)
        with m.Elif(self.exhausted):
            m.d.comb += self.cause.eq(Cause.END)

        # The checks are not in the way of the push: they stop the machine, and then it does not matter what the queues hold.
        room = Cat(*(self.kind[unit] & ~full for unit, full in zip(SHARED, self.full_shared)))
        m.d.comb += self.push_shared.eq(Mux(valid, room, 0))
        rooms = [room.any(), self.kind[-1] & self.quiet]
        for group, (full, push) in enumerate(zip(self.full, self.push)):
            room = Mux(common.group[:2] == group, Cat(self.kind[unit] & ~full[number] for number, unit in enumerate(OWN)), 0)
            m.d.comb += push.eq(Mux(valid, room, 0))
            rooms.append(room.any())
        m.d.comb += [
            self.instruction.ready.eq(Cat(*rooms).any()),
            self.ended.eq(valid & self.quiet & (common.opcode == OPCODES["End"].code)),
        ]
        return m

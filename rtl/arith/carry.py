"""Adders on ECP5 carry cells (CCU2C): what gates or selects an operand goes into the cells' own LUTs. Plain RTL elsewhere.

A cell adds two positions. In each, a LUT of inputs A to D gives g(A, B) ^ h(C, D), the half sum; where it is 0 the carry is g, read
from the same table at C = D = 0: so h must be 0 there, and g and h are the two operands. A chain begins with a position that only
generates its carry-in, A & B, and never looks at the carry from the cell before: its CIN may stay open.
"""

from collections.abc import Callable

from amaranth.hdl import C, Cat, Instance, Module, Mux, Signal, Value

from rtl.sharing import family

Table = Callable[[int, int, int, int], int]


def _init(table: Table) -> int:
    """INIT of a LUT4: bit i is the output for A, B, C, D = the bits of i, A lowest."""
    return sum((table(*(i >> n & 1 for n in range(4))) & 1) << i for i in range(16))


def _start(a, b, c, d):
    return a & b & ~(c & d)         # C and D are high: no half sum, carry A & B


def chain(m: Module, *, name: str, table: Table, operands, carry=(0, 0), width: int) -> Signal:
    """Sum of g and h over `width` positions plus ``carry[0] & carry[1]``, modulo 2^width.

    `table` is g(a, b) ^ h(c, d) with h(0, 0) = 0. Each of the four `operands` is `width` bits, or one bit for all positions.
    """
    wide = [Value.cast(operand) for operand in operands]
    positions = [(_start, (*carry, 1, 1))]
    positions += [(table, [operand[i] if len(operand) > 1 else operand for operand in wide]) for i in range(width)]
    positions += [(table, (0, 0, 0, 0))] * (len(positions) % 2)
    total, carries = Signal(len(positions), name=f"{name}_sum"), Signal(len(positions) // 2, name=f"{name}_carry")
    for cell in range(len(carries)):
        ports = {"o_COUT": carries[cell]} if cell + 1 < len(carries) else {}
        ports |= {"i_CIN": carries[cell - 1]} if cell else {}
        for half, (function, inputs) in enumerate(positions[2 * cell:2 * cell + 2]):
            ports |= {f"i_{pin}{half}": value for pin, value in zip("ABCD", inputs)}
            ports |= {f"o_S{half}": total[2 * cell + half], f"p_INIT{half}": C(_init(function), 16), f"p_INJECT1_{half}": "NO"}
        m.submodules[f"{name}_{cell}"] = Instance("CCU2C", **ports)
    return total[1:width + 1]       # type: ignore[return-value]


def extend(value, width: int) -> Value:
    """`value` with `width` bits, sign-extended if it is signed."""
    value = Value.cast(value)
    sign = value[-1] if value.shape().signed else C(0, 1)
    return Cat(value, sign.replicate(max(width - len(value), 0)))[:width]


def add(m: Module, platform, x, y, *, name: str) -> Value:
    """x + y modulo 2^n, n the width of `x`."""
    width = len(x)
    if family(platform) != "ecp5":
        return (x + y)[:width]
    y = extend(y, width)
    if width % 2 or width < 4:
        return chain(m, name=name, table=lambda a, b, c, d: a ^ c, operands=(x, 1, y, 1), width=width)
    # The position that begins the chain makes the carry of bit 0: one cell less, for one LUT.
    rest = chain(m, name=name, table=lambda a, b, c, d: a ^ c, operands=(x[1:], 1, y[1:], 1), carry=(x[0], y[0]), width=width - 1)
    return Cat(x[0] ^ y[0], rest)


def add_gated(m: Module, platform, x, y, enable, *, name: str) -> Value:
    """x + (y if enable, else 0) modulo 2^n, n the width of `x`."""
    width = len(x)
    if family(platform) != "ecp5":
        return (x + Mux(enable, y, 0))[:width]
    return chain(m, name=name, table=lambda a, b, c, d: a ^ (c & d), operands=(x, 1, extend(y, width), enable), width=width)


def add_selected(m: Module, platform, x, zero, one, select, *, name: str) -> Value:
    """x + (one if select, else zero) modulo 2^n, n the width of `x`."""
    width = len(x)
    if family(platform) != "ecp5":
        return (x + Mux(select, one, zero))[:width]
    return chain(m, name=name, table=lambda a, b, c, d: a ^ (c if b else d), width=width,
                 operands=(x, select, extend(one, width), extend(zero, width)))

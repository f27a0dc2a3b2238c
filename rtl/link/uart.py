"""A UART, 8N1: bytes to and from two pins that idle high."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from rtl.link.frame import RECEIVED

MIN_DIVISOR = 4     # below, a receiver that knows a start bit's edge to a cycle may miss the middle of the stop bit
DATA_BITS = 8


def check(divisor: int):
    """Raise ValueError for a divisor with which the receiver would not be safe."""
    if divisor < MIN_DIVISOR:
        raise ValueError(f"divisor = {divisor} is below {MIN_DIVISOR} clock cycles a bit")


class UartReceiver(wiring.Component):
    """Bytes from pin `rx`, `divisor` clock cycles a bit; the sender's bits may be longer or shorter by 2 %.

    A byte is on `bytes` for one cycle, the one after the middle of its stop bit has passed two synchronising registers. `error`: the stop
    bit is not one. The next byte begins with the next falling edge; a start bit that is not low in its middle was noise and is ignored.
    Raises ValueError.
    """

    def __init__(self, *, divisor: int):
        check(divisor)
        self.divisor = divisor
        super().__init__({"rx": In(1, init=1), "bytes": Out(stream.Signature(RECEIVED, always_ready=True))})  # type: ignore

    def elaborate(self, platform):
        m = Module()
        line = Signal(3, init=0b111)        # the oldest level on top: synchronised, and one cycle older
        level, before = line[1], line[2]
        left = Signal(range(DATA_BITS + 3))             # bits to come, start and stop bit included; 0: idle
        timer = Signal(range(self.divisor))
        m.d.sync += [line.eq(Cat(self.rx, line)), self.bytes.valid.eq(0)]
        with m.If(left == 0):
            # An edge falls up to a cycle before the first low level, so the middle is half a cycle earlier than it seems.
            m.d.sync += timer.eq((self.divisor - 1) // 2 - 1)
            with m.If(before & ~level):
                m.d.sync += left.eq(DATA_BITS + 2)
        with m.Elif(timer != 0):
            m.d.sync += timer.eq(timer - 1)
        with m.Else():                                  # the middle of a bit
            m.d.sync += [timer.eq(self.divisor - 1), left.eq(left - 1)]
            with m.If(left == 1):
                m.d.sync += [self.bytes.valid.eq(1), self.bytes.p.error.eq(~level)]
            with m.Else():
                m.d.sync += self.bytes.p.data.eq(Cat(self.bytes.p.data[1:], level))
            with m.If((left == DATA_BITS + 2) & level):
                m.d.sync += left.eq(0)
        return m


class UartTransmitter(wiring.Component):
    """Bytes to pin `tx`, `divisor` clock cycles a bit.

    Bits begin every `divisor` cycles from reset on; a byte taken in cycle t has its start bit from t+1 on, and bytes follow each other
    without a gap, 10 bits each. `bytes.ready` is a register. Raises ValueError.
    """

    def __init__(self, *, divisor: int):
        check(divisor)
        self.divisor = divisor
        super().__init__({"bytes": In(stream.Signature(8)), "tx": Out(1, init=1)})  # type: ignore

    def elaborate(self, platform):
        m = Module()
        bits = Signal(DATA_BITS + 1, init=(1 << DATA_BITS + 1) - 1)     # the present one lowest; ones come from above: stop bit, rest
        left, timer = Signal(range(DATA_BITS + 2)), Signal(range(self.divisor))     # bits behind the present one; cycles of this one
        turn, free = Signal(), Signal(init=1)           # free: the bit that ends is the last one
        m.d.comb += [turn.eq(timer == 0), self.tx.eq(bits[0]), self.bytes.ready.eq(free)]
        m.d.sync += [timer.eq(Mux(turn, self.divisor - 1, timer - 1)), free.eq((timer == 1) & (left == 0))]
        with m.If(turn):
            m.d.sync += bits.eq(Cat(bits[1:], Const(1, 1)))
            with m.If(left != 0):
                m.d.sync += left.eq(left - 1)
            with m.Elif(self.bytes.valid):
                m.d.sync += [bits.eq(Cat(Const(0, 1), self.bytes.payload)), left.eq(DATA_BITS + 1)]
        return m

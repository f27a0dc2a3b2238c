"""Pooling: the words of a window, read one after the other, to one largest operand or one sum for each column."""

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from gen.config import Config
from gen.timing import FETCH_LATENCY, POOL_LATENCY
from rtl.instruction import instruction_layout
from rtl.interfaces import BufferRead

WORD_DELAY = 4      # from a read of the global buffer to its word, registered


class WindowWalk(wiring.Component):
    """The addresses of all windows, word by word: columns of a window, its lines, windows of a line, lines of windows.

    With `load` it follows the fields of a Pool (`taken`); with `start` too it begins in the next cycle. Each window takes as many cycles
    as it has words, or `least` if that is more; its reads come last. `issuing` marks all of these cycles, `reading` those with a read, of
    `address`; `opens` and `closes` the first and the last read of a window, `ends` the very last.
    """

    def __init__(self, layout, *, least: int):
        self._least = least
        super().__init__({
            "load": In(1), "start": In(1), "pool": In(layout), "taken": Out(layout),
            "issuing": Out(1), "reading": Out(1), "address": Out(16), "opens": Out(1), "closes": Out(1), "ends": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        pool = self.taken
        pause, short = Signal(range(self._least + 1)), Signal(range(self._least + 1))   # cycles without a read: still, of each window
        m.d.comb += self.reading.eq(self.issuing & (pause == 0))

        # A counter turns when all before it do; the address steps as the last one of them that turns says.
        turns, step, at_start = self.reading, 1, []
        for name, turned in (("kernel_width", pool.kernel_y_step), ("kernel_height", pool.x_step), ("columns", pool.y_step), ("lines", 0)):
            whole, left, last = getattr(pool, name), Signal.like(getattr(pool, name), name=f"{name}_left"), Signal(name=f"{name}_last")
            m.d.comb += last.eq(left == 1)
            with m.If(self.load):
                m.d.sync += left.eq(getattr(self.pool, name))
            with m.Elif(turns):
                m.d.sync += left.eq(Mux(last, whole, left - 1))
            turns = turns & last
            step = Mux(turns, turned, step)
            at_start.append(left == whole)
            if name == "kernel_height":
                m.d.comb += [self.closes.eq(turns), self.opens.eq(self.reading & at_start[0] & at_start[1])]
        m.d.comb += self.ends.eq(turns)

        with m.If(self.load):
            words = self.pool.kernel_width * self.pool.kernel_height
            fewer = Mux(words < self._least, self._least - words, 0)
            m.d.sync += [
                self.issuing.eq(self.start), pool.eq(self.pool), self.address.eq(self.pool.source_address), pause.eq(fewer),
                short.eq(fewer),
            ]
        with m.Elif(self.issuing):
            m.d.sync += [pause.eq(Mux(self.reading, Mux(self.closes, short, 0), pause - 1)), self.issuing.eq(~self.ends)]
            with m.If(self.reading):
                m.d.sync += self.address.eq(self.address + step)
        return m


def reduced_shape(config: Config):
    """The sum of a window's 8-bit operands, signed or not."""
    return signed(9 + max(1, config.vector.window - 1).bit_length())


class WindowReduce(wiring.Component):
    """Largest operands or sums of the words of a window, for all columns of a word.

    `word` belongs to the read of WORD_DELAY - 1 cycles before, `opens` and `closes` to the read of this cycle. `reduced` holds a window's
    values from WORD_DELAY + 2 cycles behind its last read on, until the next window's. A window of more pixels than `vector.window` may
    overflow its sums; that is not enforced.
    """

    def __init__(self, config: Config):
        self._side, self._shape = config.array.side, reduced_shape(config)
        super().__init__({
            "opens": In(1), "closes": In(1), "average": In(1), "is_signed": In(1), "word": In(8 * self._side),
            "reduced": Out(self._shape).array(self._side),
        })

    def elaborate(self, platform):
        m = Module()
        word, opens, closes = Signal.like(self.word), self.opens, self.closes
        m.d.sync += word.eq(self.word)
        for cycle in range(WORD_DELAY):
            later = [Signal(name=f"{name}_{cycle + 1}") for name in ("opens", "closes")]
            m.d.sync += [later[0].eq(opens), later[1].eq(closes)]
            opens, closes = later
        closed = Signal()
        m.d.sync += closed.eq(closes)
        for column, reduced in enumerate(self.reduced):
            bits, value = word.word_select(column, 8), Signal(signed(9), name=f"value_{column}")
            so_far = Signal(self._shape, name=f"so_far_{column}")
            m.d.comb += value.eq(Cat(bits, self.is_signed & bits[-1]).as_signed())
            with m.If(opens):
                m.d.sync += so_far.eq(value)
            with m.Elif(self.average):
                m.d.sync += so_far.eq(so_far + value)
            with m.Elif(value > so_far):
                m.d.sync += so_far.eq(value)
            with m.If(closed):
                m.d.sync += reduced.eq(so_far)
        return m


class Pooling(wiring.Component):
    """Pool, up to the place where the results of the array come in.

    `load`, `start`, `pool`, `issuing` and `ends` are the walk's. POOL_LATENCY cycles behind a window's last read its lane groups begin to
    take their turns: `fetch` stands for the read of an output buffer then, `group` is its lane group, and FETCH_LATENCY cycles later
    `reduced` holds the values in the place of sums.
    """

    def __init__(self, config: Config):
        assert POOL_LATENCY + FETCH_LATENCY == WORD_DELAY + 2
        self._config, self._groups = config, config.array.side // config.buffers.store_lanes
        super().__init__({
            "load": In(1), "start": In(1), "pool": In(instruction_layout("Pool")), "issuing": Out(1), "ends": Out(1),
            "read": Out(BufferRead(config, words=1)),
            "fetch": Out(1), "group": Out(range(max(2, self._groups))),
            "reduced": Out(reduced_shape(config)).array(config.array.side),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.walk = walk = WindowWalk(instruction_layout("Pool"), least=self._groups)
        m.submodules.reduce = reduce = WindowReduce(self._config)
        taken = walk.taken
        m.d.comb += [
            walk.load.eq(self.load), walk.start.eq(self.start), walk.pool.eq(self.pool),
            self.issuing.eq(walk.issuing), self.ends.eq(walk.ends),
            self.read.enable.eq(walk.reading), self.read.slice.eq(taken.source_slice), self.read.addresses[0].eq(walk.address),
            reduce.opens.eq(walk.opens), reduce.closes.eq(walk.closes), reduce.word.eq(self.read.data[0]),
            reduce.average.eq(taken.average), reduce.is_signed.eq(taken.signed),
            *(there.eq(here) for there, here in zip(self.reduced, reduce.reduced)),
        ]
        closed, left = Signal(POOL_LATENCY), Signal(range(self._groups))    # lane groups that still have to come
        m.d.sync += [closed.eq(Cat(walk.closes, closed)), left.eq(Mux(closed[-1], self._groups - 1, Mux(left != 0, left - 1, 0)))]
        m.d.comb += [self.fetch.eq(closed[-1] | (left != 0)), self.group.eq(Mux(closed[-1], 0, self._groups - left))]
        return m

"""Output buffer (OBUF) of a pair of cores: accumulators in two parity banks and two halves, added to in place."""

from amaranth.hdl import Cat, Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from gen.config import Config, Unit
from rtl.arith.carry import add, add_selected
from rtl.arith.float32 import Add
from rtl.buffer.block_memory import BlockMemory
from rtl.sharing import place

STEP_AHEAD = 3     # cycles by which a step precedes its results in lane 0
BANKS = HALVES = 2


def step_layout(config: Config) -> data.StructLayout:
    """What the results of a pair of cores need to find their accumulators; one step a streamed row.

    `enable`: there are results, `first`: the first of a wave; `tall`, `half`, `overwrite`: of the wave; `keep`: the row of the lower
    (or only) and of the upper core exists (one that does not is counted, but not written).
    """
    return data.StructLayout({"enable": 1, "first": 1, "tall": 1, "half": 1, "overwrite": 1, "keep": config.core_rows})


class AccumulatorLane(wiring.Component):
    """One column of one bank: `depth` words of 32 bits, held twice where they are added to and fetched in the same cycle (not if `apart`).

    A sum takes four cycles: ``read_enable`` with ``read_word``, two cycles later ``overwrite`` (add to zero) with the result, in the
    next cycle ``select`` (the second of the `feeds` results), ``write_enable`` and ``write_word``. Of fp32 the write comes row_latency
    cycles later, behind the adder, and ``select`` stays. ``fetched`` is the word two cycles after ``fetch``. A word may be read and
    fetched from the cycle after its write.
    """

    def __init__(self, config: Config, *, depth: int, feeds: int, apart: bool = False):
        self.config, self.depth, self.feeds, self.apart = config, depth, feeds, apart
        super().__init__({
            "read_enable": In(1),
            "read_word": In(range(depth)),
            "overwrite": In(1),
            "write_enable": In(1),
            "write_word": In(range(depth)),
            "select": In(1),
            "sums": In(signed(config.sum_width)).array(feeds),
            "fetch": In(1),
            "fetch_word": In(range(depth)),
            "fetched": Out(unsigned(32)),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.words = words = BlockMemory(width=32, depth=self.depth)
        copy = words
        if not self.apart:
            m.submodules.copy = copy = BlockMemory(width=32, depth=self.depth)
        word = Signal(32, reset_less=True)
        m.d.sync += word.eq(Mux(self.overwrite, 0, words.read_data))     # a synchronous clear
        results = [Signal.like(self.sums[0], name=f"result_{i}", reset_less=True) for i in range(self.feeds)]
        m.d.sync += [result.eq(self.sums[i]) for i, result in enumerate(results)]     # here the way from the array ends
        if self.config.floating:
            m.submodules.adder = adder = Add(latency=self.config.array.row_latency)
            m.d.comb += [adder.a.eq(word), adder.b.eq(results[0] if self.feeds == 1 else Mux(self.select, results[1], results[0]))]
            total = adder.result
        else:
            total = (add(m, platform, word, results[0], name="add") if self.feeds == 1 else
                     add_selected(m, platform, word, results[0], results[1], self.select, name="add"))
        for each in (words,) if self.apart else (words, copy):
            m.d.comb += [each.write.eq(self.write_enable), each.write_address.eq(self.write_word), each.write_data.eq(total)]
        m.d.comb += [words.read.eq(self.read_enable), words.read_address.eq(self.read_word), self.fetched.eq(copy.read_data)]
        if self.apart:
            with m.If(self.fetch):
                m.d.comb += [words.read.eq(1), words.read_address.eq(self.fetch_word)]
        else:
            m.d.comb += [copy.read.eq(self.fetch), copy.read_address.eq(self.fetch_word)]
        return m


class AccumulatorBank(wiring.Component):
    """One bank of `side` lanes. The command goes from lane to lane, so that skewed results need no deskewing.

    A command (``enable`` with ``word``, ``overwrite``, ``select``) precedes its result in lane 0 by two cycles and lane c's by 2 + c.
    The sum is written in the cycle after the result (of fp32 row_latency cycles later), and the same word may come again
    `accumulator_latency` cycles after it came. ``fetch`` reads word
    ``fetch_word`` of all lanes at once into ``fetched``, two cycles later.
    """

    def __init__(self, config: Config, *, feeds: int, apart: bool = False):
        self.config, self.feeds, self.apart, self.depth = config, feeds, apart, HALVES * config.buffers.accumulator_words
        side = config.array.side
        super().__init__({
            "enable": In(1),
            "word": In(range(self.depth)),
            "overwrite": In(1),
            "select": In(1),
            "sums": In(signed(config.sum_width)).array(feeds, side),
            "fetch": In(1),
            "fetch_word": In(range(self.depth)),
            "fetched": Out(unsigned(32)).array(side),
        })

    def elaborate(self, platform):
        m = Module()
        config, side = self.config, self.config.array.side
        stages = [(self.enable, self.word, self.overwrite, self.select)]
        adding = config.array.row_latency if config.floating else 0
        for i in range(1, side + 3 + adding):
            stage = (Signal(name=f"enable_{i}"), *(Signal.like(item, name=f"{name}_{i}", reset_less=True)
                                                   for name, item in zip(("word", "overwrite", "select"), stages[0][1:])))
            m.d.sync += [new.eq(old) for new, old in zip(stage, stages[-1])]
            stages.append(stage)
        for c in range(side):
            lane = place(m, platform, instance=f"lane_{c}", module=f"accumulator_lane_{self.feeds}",
                         factory=lambda: AccumulatorLane(config, depth=self.depth, feeds=self.feeds, apart=self.apart))
            (reading, word, _, _), _, (_, _, overwrite, _), (_, _, _, select) = stages[c:c + 4]
            writing, write_word, _, _ = stages[c + 3 + adding]
            m.d.comb += [
                lane.read_enable.eq(reading),
                lane.read_word.eq(word),
                lane.overwrite.eq(overwrite),
                lane.write_enable.eq(writing),
                lane.write_word.eq(write_word),
                lane.select.eq(select),
                lane.fetch.eq(self.fetch),
                lane.fetch_word.eq(self.fetch_word),
                self.fetched[c].eq(lane.fetched),
                *(lane.sums[feed].eq(self.sums[feed][c]) for feed in range(self.feeds)),
            ]
        return m


class OutputBuffer(wiring.Component):
    """Accumulators of one column pair: 2 halves x 2 banks x `accumulator_words` words x `side` lanes of 32 bits.

    ``sums[0]`` comes from the lower core of the pair (or the only one), ``sums[1]`` from the upper one, in the same cycles. Step
    number i of a wave comes STEP_AHEAD (3) cycles before its results in lane 0 and 3 + c before lane c's, one a cycle. In tall modes
    the lower core's result i goes to bank i mod 2, word i div 2, and the upper core's to none; in short ones the lower core's to
    bank 1 and the upper core's to bank 0, word i: so a bank adds one result a cycle, whatever modes follow each other.
    A result in cycle u is written in u + 1 and readable by reads from u + 2 on; of fp32 both come row_latency cycles later. So a word may
    come again after `accumulator_latency`.
    ``enable`` with ``half``, ``bank`` and ``word`` reads all lanes into ``data``, FETCH_LATENCY (4) cycles later, while other words
    accumulate; if `apart`, only while nothing accumulates (nor is about to), which saves half of the memory.
    """

    def __init__(self, config: Config, *, apart: bool = False):
        self.config, self.apart = config, apart
        side, cores = config.array.side, config.core_rows
        super().__init__({
            "step": In(step_layout(config)),
            "sums": In(signed(config.sum_width)).array(cores, side),
            "enable": In(1),
            "half": In(1),
            "bank": In(1),
            "word": In(range(config.buffers.accumulator_words)),
            "data": Out(unsigned(32)).array(side),
        })

    def elaborate(self, platform):
        m = Module()
        config, side, words = self.config, self.config.array.side, self.config.buffers.accumulator_words
        step, count = Signal(step_layout(config)), Signal(range(2 * words))
        m.d.sync += step.eq(self.step)
        with m.If(self.step.enable):
            m.d.sync += count.eq(Mux(self.step.first, 0, count + 1))
        # A register here and one behind the banks: buffers and their reader are apart.
        fetch, fetch_word, banks = Signal(), Signal(range(HALVES * words), reset_less=True), Signal(3, reset_less=True)
        m.d.sync += [fetch.eq(self.enable), fetch_word.eq(Cat(self.word, self.half)), banks.eq(Cat(self.bank, banks))]
        word = Mux(step.tall, count >> 1, count)[:words.bit_length() - 1]
        fetched = []
        for number in range(BANKS):
            feeds = self._feeds(number)
            bank = place(m, platform, instance=f"bank_{number}", module=f"accumulator_bank_{len(feeds)}",
                         factory=lambda feeds=feeds: AccumulatorBank(config, feeds=len(feeds), apart=self.apart))
            m.d.comb += [
                bank.enable.eq(step.enable & Mux(step.tall, (count[0] == number) & step.keep[0], step.keep[feeds[-1]])),
                bank.word.eq(Cat(word, step.half)),
                bank.overwrite.eq(step.overwrite),
                bank.select.eq(~step.tall),
                bank.fetch.eq(fetch & (banks[0] == number)),
                bank.fetch_word.eq(fetch_word),
            ]
            for index, core in enumerate(feeds):
                m.d.comb += [bank.sums[index][c].eq(self.sums[core][c]) for c in range(side)]
            fetched.append(bank.fetched)
        data = [Signal(32, name=f"data_{c}", reset_less=True) for c in range(side)]
        m.d.sync += [data[c].eq(Mux(banks[2], fetched[1][c], fetched[0][c])) for c in range(side)]
        m.d.comb += [self.data[c].eq(data[c]) for c in range(side)]
        return m

    def _feeds(self, bank: int) -> list[int]:
        """Cores of the pair (0 lower or only, 1 upper) that may feed a bank: in tall modes the first, in short ones the last."""
        match self.config.array.unit:
            case Unit.FLEX:
                return [0] if bank else [0, 1]
            case Unit.QUAD:
                return [0] if bank else [1]
            case Unit.SINGLE:
                return [0]

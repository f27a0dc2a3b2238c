"""Output buffer (OBUF) of a pair of cores: accumulators in two parity banks and two halves, added to in place."""

from amaranth.hdl import Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from gen.config import Config, Unit
from rtl.buffer.block_memory import BlockMemory
from rtl.sharing import place

STEP_AHEAD = 3     # cycles by which a step precedes its result in lane 0
BANKS = HALVES = 2


def step_layout() -> data.StructLayout:
    """What a core's result needs to find its accumulator; one step a streamed row.

    `enable`: there is a result, `first`: the first of a wave; `tall`, `half`, `overwrite`: of the wave; `keep`: the row exists
    (one that does not is counted, but not written).
    """
    return data.StructLayout({"enable": 1, "first": 1, "tall": 1, "half": 1, "overwrite": 1, "keep": 1})


class AccumulatorLane(wiring.Component):
    """One column of one bank and half: words of 32 bits.

    ``data`` is the word two cycles after ``read_enable``. ``write_enable`` stores the sum of the cycle before's ``data``, or zero if
    ``overwrite`` was set, and result, of which there are `feeds`, the second chosen by ``select``. A word may be read from the cycle
    after its write.
    """

    def __init__(self, config: Config, *, feeds: int):
        self.words, self.feeds = config.buffers.accumulator_words, feeds
        super().__init__({
            "read_enable": In(1),
            "read_word": In(range(self.words)),
            "write_enable": In(1),
            "write_word": In(range(self.words)),
            "overwrite": In(1),
            "select": In(1),
            "sums": In(signed(config.sum_width)).array(feeds),
            "data": Out(unsigned(32)),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.words = words = BlockMemory(width=32, depth=self.words)
        result = Signal(self.sums[0].shape(), reset_less=True)     # here the way from the array ends
        word = Signal(32, reset_less=True)
        m.d.sync += word.eq(Mux(self.overwrite, 0, words.read_data))     # a synchronous clear
        m.d.sync += result.eq(Mux(self.select, self.sums[1], self.sums[0]) if self.feeds == 2 else self.sums[0])
        m.d.comb += [
            words.read.eq(self.read_enable),
            words.read_address.eq(self.read_word),
            words.write.eq(self.write_enable),
            words.write_address.eq(self.write_word),
            words.write_data.eq(result + word.as_signed()),
            self.data.eq(words.read_data),
        ]
        return m


class AccumulatorBank(wiring.Component):
    """One bank and half of `side` lanes. The command goes from lane to lane, so that skewed results need no deskewing.

    A command (``enable`` with ``word``, ``overwrite``, ``select``) precedes its result in lane 0 by two cycles and lane c's by 2 + c.
    The sum is written in the cycle after the result. The same word may come again four cycles later. ``fetch`` reads word
    ``fetch_word`` of all lanes at once into ``data``, two cycles later; it is overruled in a lane in which a command reads, which is
    not reported.
    """

    def __init__(self, config: Config, *, feeds: int):
        self.config, self.feeds = config, feeds
        side, words = config.array.side, config.buffers.accumulator_words
        super().__init__({
            "enable": In(1),
            "word": In(range(words)),
            "overwrite": In(1),
            "select": In(1),
            "sums": In(signed(config.sum_width)).array(feeds, side),
            "fetch": In(1),
            "fetch_word": In(range(words)),
            "data": Out(unsigned(32)).array(side),
        })

    def elaborate(self, platform):
        m = Module()
        config, side = self.config, self.config.array.side
        stages = [(self.enable, self.word, self.overwrite, self.select)]
        for i in range(1, side + 3):
            stage = (Signal(name=f"enable_{i}"), *(Signal.like(item, name=f"{name}_{i}", reset_less=True)
                                                   for name, item in zip(("word", "overwrite", "select"), stages[0][1:])))
            m.d.sync += [new.eq(old) for new, old in zip(stage, stages[-1])]
            stages.append(stage)
        for c in range(side):
            lane = place(m, platform, instance=f"lane_{c}", module=f"accumulator_lane_{self.feeds}",
                         factory=lambda: AccumulatorLane(config, feeds=self.feeds))
            (reading, word, _, _), _, (_, _, overwrite, select), (writing, write_word, _, _) = stages[c:c + 4]
            m.d.comb += [
                lane.read_enable.eq(reading | self.fetch),
                lane.read_word.eq(Mux(reading, word, self.fetch_word)),
                lane.write_enable.eq(writing),
                lane.write_word.eq(write_word),
                lane.overwrite.eq(overwrite),
                lane.select.eq(select),
                self.data[c].eq(lane.data),
                *(lane.sums[feed].eq(self.sums[feed][c]) for feed in range(self.feeds)),
            ]
        return m


class OutputBuffer(wiring.Component):
    """Accumulators of one column pair: 2 halves x 2 banks x `accumulator_words` words x `side` lanes of 32 bits.

    ``steps[0]`` and ``sums[0]`` come from the lower core of the pair (or the only one), ``steps[1]`` and ``sums[1]`` from the
    upper one. Step number i of a wave comes STEP_AHEAD (3) cycles before its result in lane 0 and 3 + c before lane c's, one a
    cycle. In tall modes the lower core's step i goes to bank i mod 2, word i div 2, and the upper core's to none; in short ones
    the lower core's to bank 1 and the upper core's to bank 0, word i.
    A result in cycle u is written in u + 1 and readable by reads from u + 2 on: a word may come again after ACCUMULATOR_LATENCY.
    Tall and short waves may overlap in different halves; that two results never meet in one memory is the schedule's duty.
    ``enable`` with ``half``, ``bank`` and ``word`` reads all lanes into ``data``, two cycles later, while the other half may accumulate.
    """

    def __init__(self, config: Config):
        self.config = config
        side, cores = config.array.side, config.core_rows
        super().__init__({
            "steps": In(step_layout()).array(cores),
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
        steps, counts = [], []
        for i in range(config.core_rows):
            step, count = Signal(step_layout(), name=f"step_{i}"), Signal(range(2 * words), name=f"count_{i}")
            m.d.sync += step.eq(self.steps[i])
            with m.If(self.steps[i].enable):
                m.d.sync += count.eq(Mux(self.steps[i].first, 0, count + 1))
            steps.append(step)
            counts.append(count)

        selected = [Signal(2), Signal(2)]
        m.d.sync += [selected[0].eq(self.half * HALVES + self.bank), selected[1].eq(selected[0])]
        for half in range(HALVES):
            for number in range(BANKS):
                feeds = self._feeds(number)
                bank = place(m, platform, instance=f"half_{half}_bank_{number}", module=f"accumulator_bank_{len(feeds)}",
                             factory=lambda feeds=feeds: AccumulatorBank(config, feeds=len(feeds)))
                commands = []
                for core in feeds:
                    step, count = steps[core], counts[core]
                    mine = step.enable & step.keep & (step.half == half)
                    if core == 0:
                        mine = mine & Mux(step.tall, count[0] == number, number)
                    else:
                        mine = mine & ~step.tall
                    commands.append((mine, Mux(step.tall, count >> 1, count), step.overwrite))
                enables = [enable for enable, _, _ in commands]
                chosen = enables[-1] if len(feeds) == 2 else 0
                enable, word, overwrite = commands[0] if len(feeds) == 1 else (
                    enables[0] | chosen, *(Mux(chosen, upper, lower) for lower, upper in zip(commands[0][1:], commands[1][1:])))
                m.d.comb += [
                    bank.enable.eq(enable),
                    bank.word.eq(word),
                    bank.overwrite.eq(overwrite),
                    bank.select.eq(chosen),
                    bank.fetch.eq(self.enable & (self.half == half) & (self.bank == number)),
                    bank.fetch_word.eq(self.word),
                ]
                for index, core in enumerate(feeds):
                    m.d.comb += [bank.sums[index][c].eq(self.sums[core][c]) for c in range(side)]
                with m.If(selected[1] == half * HALVES + number):
                    m.d.comb += [self.data[c].eq(bank.data[c]) for c in range(side)]
        return m

    def _feeds(self, bank: int) -> list[int]:
        """Cores of the pair (0 lower or only, 1 upper) that may feed a bank."""
        match self.config.array.unit:
            case Unit.FLEX:
                return [0] if bank else [0, 1]
            case Unit.QUAD:
                return [0] if bank else [1]
            case Unit.SINGLE:
                return [0]

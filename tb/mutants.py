"""The faults of the mutation check: each a single change of the RTL, and the tests that must notice it.

A fault is what one wrong line of hardware would be: a register too many, a multiplexer the wrong way round, a counter off by one.
`old` occurs exactly once in its file. The tests are the nearest ones, so that the check stays fast; others may notice the fault as well.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    """One fault: in `file`, `old` becomes `new`; some of `tests` (pytest files or node ids) must fail."""

    name: str
    file: str
    fault: str
    old: str
    new: str
    tests: tuple[str, ...]


def unit(*names: str) -> tuple[str, ...]:
    """Tests by short names: "pe" is tb/unit/test_pe.py, "pe::test_multiplier" one function in it."""
    parts = [name.partition("::") for name in names]
    return tuple(f"tb/unit/test_{module}.py{mark}{test}" for module, mark, test in parts)


ARRAY = [
    Mutant("multiplier-stage", "rtl/array/multiplier.py", "the third register of the multiplier is missing",
           "stages - Product.LATENCY", "0", unit("pe::test_multiplier")),
    Mutant("product-operand", "rtl/arith/product.py", "one operand of the multiplier has no register",
           "product.eq(a * b)", "product.eq(a * self.b)", unit("pe::test_multiplier")),
    Mutant("pe-moving-register", "rtl/array/pe.py", "the moving operand passes a PE without a register",
           "self.moving_out.eq(moving)", "self.moving_out.eq(self.moving_in)", unit("subcore")),
    Mutant("pe-swap-source", "rtl/array/pe.py", "the swap takes the stationary operand that is passing by, not the shadow",
           "active.eq(shadow)", "active.eq(self.stationary_in)", unit("subcore")),
    Mutant("pe-capture-early", "rtl/array/pe.py", "the capture token goes down as fast as the operands",
           "delayed(m, self.capture_in, rows + 1 - self.early", "delayed(m, self.capture_in, rows - self.early", unit("subcore")),
    Mutant("pe-sum-register", "rtl/array/pe.py", "a register of the partial sum too many",
           "delayed(m, total, rows, name", "delayed(m, total, rows + 1, name", unit("subcore")),
    Mutant("row-swap-broadcast", "rtl/array/row.py", "the swap token reaches all columns at once",
           "moving, swap = pe.moving_out, pe.swap_out", "moving, swap = pe.moving_out, self.swap_in", unit("subcore")),
    Mutant("core-early-row", "rtl/array/core.py", "the last row is the early one, not the one above",
           "early = r == side - 2", "early = r == side - 1", unit("subcore")),
    Mutant("skew-register", "rtl/array/skew.py", "the last lane of the skew triangle lacks a register",
           "delayed(m, lane, i * self.step,", "delayed(m, lane, i * self.step - (i == self.lanes_ - 1),", unit("array")),
    Mutant("unit-wide-mux", "rtl/array/unit.py", "the multiplexer between left and right core is the wrong way round",
           "cores[q - 1].moving_out[lane], own)", "own, cores[q - 1].moving_out[lane])", unit("array")),
    Mutant("unit-tall-skew", "rtl/array/unit.py", "the select between upper core and zero does not follow the skew of the columns",
           "tall.tap(offset + meeting + lane)", "tall.tap(offset + meeting)", unit("array")),
    Mutant("compute-read-select", "rtl/array/compute.py", "the column pair of an accumulator read is one register short",
           "m.If(pairs[1] == pair)", "m.If(pairs[0] == pair)", unit("compute::test_a_half_is_read_while_the_other_accumulates")),
]

BUFFER = [
    Mutant("memory-output-register", "rtl/buffer/block_memory.py", "the output register of the block memories is missing",
           "self.read_data.eq(word)", "self.read_data.eq(read.data)", unit("local_buffer")),
    Mutant("obuf-overwrite-early", "rtl/buffer/output_buffer.py", "the overwrite bit is taken one stage early",
           "lane.overwrite.eq(overwrite)", "lane.overwrite.eq(stages[c + 1][2])",
           unit("output_buffer")),
    Mutant("obuf-parity", "rtl/buffer/output_buffer.py", "even rows go to the odd bank",
           "count[0] == number", "count[0] != number", unit("output_buffer")),
    Mutant("obuf-upper-in-tall", "rtl/buffer/output_buffer.py", "the upper core writes its half sums in tall modes, too",
           "mine = mine & ~step.tall", "mine = mine & 1", unit("compute::test_accumulators_and_cycles")),
    Mutant("gbuf-bank-wrap", "rtl/buffer/global_buffer.py", "a write takes the next row one bank too soon",
           "Mux(first > bank, following, row)", "Mux(first >= bank, following, row)", unit("global_buffer")),
    Mutant("gbuf-bank-select", "rtl/buffer/global_buffer.py", "the bank select of a reader is one register short",
           "data.eq(choose(words, bank_2))", "data.eq(choose(words, bank_1))", unit("global_buffer")),
    Mutant("gbuf-collision", "rtl/buffer/global_buffer.py", "only collisions with the first port are noticed",
           "for other, there in ports[:i])", "for other, there in ports[:min(i, 1)])", unit("global_buffer::test_collision")),
    Mutant("rows-image-end", "rtl/buffer/address.py", "an image row ends one pixel late",
           "at_end.eq((over >= 0)", "at_end.eq((over > 0)", unit("address::test_rows")),
    Mutant("rows-filler", "rtl/buffer/address.py", "the first row that does not count is fetched from its own address",
           "Mux(place >= self.rows,", "Mux(place > self.rows,", unit("address::test_rows")),
    Mutant("waves-channels", "rtl/buffer/address.py", "the kernel moves on one channel wave late",
           "conv.channel_waves - 1", "conv.channel_waves", unit("address::test_waves")),
    Mutant("pixels-edge", "rtl/buffer/pixels.py", "the pixel just beyond the right or lower edge counts as inside",
           "(position >= size)", "(position > size)", unit("address::test_pixels")),
]

CONTROL = [
    Mutant("queue-empty", "rtl/control/queue.py", "the queue shows an entry when its last one has left",
           "self.head.valid.eq(behind | pushed)", "self.head.valid.eq((self.count != 0) | pushed)", unit("queue")),
    Mutant("queue-bypass", "rtl/control/queue.py", "a new entry overtakes those that wait behind the head",
           "Mux(behind, read.data, self.entry)", "Mux(self.full, read.data, self.entry)", unit("queue")),
    Mutant("queue-wrap", "rtl/control/queue.py", "the ring behind the head of a queue is too short",
           "position == self.depth - 1", "position == self.depth - 3", unit("queue")),
    Mutant("tokens-taken", "rtl/control/tokens.py", "a token that is taken stays",
           "count.eq(raised - taken)", "count.eq(raised)", unit("tokens")),
    Mutant("tokens-route", "rtl/control/tokens.py", "tokens are signalled to the group of the queue head, not of the one that is done",
           "m.If(unit.signal_group == number)", "m.If(unit.group == number)", unit("tokens")),
    Mutant("decoder-rate", "rtl/control/decoder.py", "the limit of rate is one too high",
           "mode.parts.bit_length() - 1)", "mode.parts.bit_length())", unit("decoder::test_checks")),
    Mutant("decoder-group", "rtl/control/decoder.py", "one group beyond the last is accepted",
           "high = config.array.groups - 1", "high = config.array.groups", unit("decoder::test_checks")),
    Mutant("decoder-full", "rtl/control/decoder.py", "an instruction is pushed into a full queue of a group",
           "self.kind[unit] & ~full[number]", "self.kind[unit]", unit("decoder::test_each_goes_to_its_queue")),
    Mutant("decoder-route", "rtl/control/decoder.py", "an instruction goes to the groups above its own as well",
           "common.group[:2] == group", "common.group[:2] <= group", unit("decoder::test_each_goes_to_its_queue")),
    Mutant("fetch-space", "rtl/control/fetch.py", "fetching wants room for one instruction more than it fetches",
           "(space >= burst)", "(space > burst)", unit("fetch::test_every_cycle")),
    Mutant("fetch-tag", "rtl/control/fetch.py", "data of DMA_IN is taken for instructions",
           "self.response.valid & (self.response.p.tag == Tag.FETCH)", "self.response.valid",
           unit("fetch::test_answers_for_others_are_not_instructions")),
    Mutant("fetch-bypass", "rtl/control/fetch.py", "a row that arrives overtakes the one that waits",
           "Mux(stored != 0, read.data, row)", "Mux(stored > 1, read.data, row)", unit("fetch::test_every_cycle")),
    Mutant("walk-chunk", "rtl/control/walk.py", "every chunk but the first is a beat too long",
           "beats_ahead.eq(beats - 2)", "beats_ahead.eq(beats - 1)", unit("dma::test_dma_in")),
    Mutant("dma-in-landing", "rtl/control/dma_in.py", "one instruction more than landing_depth is on its way",
           "count != config.control.landing_depth - 1", "count != config.control.landing_depth", unit("dma::test_dma_in")),
    Mutant("dma-out-latency", "rtl/control/dma_out.py", "words are taken a cycle before they arrive",
           "ahead.push.eq(arriving[-1])", "ahead.push.eq(arriving[-2])", unit("dma::test_dma_out")),
    Mutant("dma-out-room", "rtl/control/dma_out.py", "beats on their way are not counted as taking room",
           "room.eq(room + sent - self.read.enable)", "room.eq(room)", unit("dma::test_dma_out")),
    Mutant("execute-penalty", "rtl/control/execute.py", "a short wave does not wait for the tall one before it",
           "Mux(conflict, passed, over)", "over", unit("execute::test_every_cycle_is_as_the_closed_form_says")),
    Mutant("execute-shift", "rtl/control/execute.py", "a wave waits a cycle too long for its stationary tile",
           "ready.eq(pending & (shift_left <= 2)", "ready.eq(pending & (shift_left <= 1)",
           unit("execute::test_every_cycle_is_as_the_closed_form_says")),
    Mutant("execute-round", "rtl/control/execute.py", "steps of four sub-waves are rounded wrongly",
           "(wave.rows + 3) >> 2", "(wave.rows + 2) >> 2", unit("execute::test_every_cycle_is_as_the_closed_form_says")),
    Mutant("execute-fill", "rtl/control/execute.py", "the second and third sub-wave's last rows are mixed up",
           "fill.any(), fill[1]", "fill[1], fill.any()", unit("execute::test_every_cycle_is_as_the_closed_form_says")),
    Mutant("execute-held", "rtl/control/execute.py", "the unit calls itself idle while an instruction's next tile is long in coming",
           "held.eq(pending | (waves != 0))", "held.eq(pending)", unit("execute::test_every_cycle_is_as_the_closed_form_says")),
    Mutant("load-padding", "rtl/control/load.py", "padding is zero before the zero point is subtracted, not after",
           "Mux(self.outside[core], 0, wide - zero_point)", "Mux(self.outside[core], 0, wide) - zero_point",
           unit("load_moving::test_random_im2col")),
    Mutant("load-h-last", "rtl/control/load_moving.py", "a wave of an even number of steps takes one more",
           "last.eq(left <= (2 <<", "last.eq(left < (2 <<", unit("load_moving::test_random_im2col")),
    Mutant("load-h-ring", "rtl/control/load_moving.py", "the ring's write address advances with every step",
           "target.eq(target + row_end)", "target.eq(target + 1)", unit("load_moving::test_random_strided")),
    Mutant("load-h-credit", "rtl/control/load_moving.py", "room given back in the cycle of a decision is lost",
           "free + self.release - taken", "free - taken", unit("load_moving::test_random_strided")),
    Mutant("load-v-last", "rtl/control/load_stationary.py", "a tile is one row too long",
           "last.eq(row + 2 == side)", "last.eq(row + 1 == side)", unit("load_stationary")),
    Mutant("load-v-word", "rtl/control/load_stationary.py", "columns and rows of cores are mixed up in VSW and HSW",
           "Mux(mode == Mode.VSW, low, right)", "Mux(mode == Mode.VSW, right, low)", unit("load_stationary::test_random_programs")),
    Mutant("load-v-index", "rtl/control/load_stationary.py", "a deadlock names the instruction behind the one that waits",
           "self.index.eq(Mux(more, index,", "self.index.eq(Mux(0, index,", unit("load_stationary::test_waits_for_a_slot_and_says_so")),
    Mutant("counters-span", "rtl/control/counters.py", "the span of active cycles ends a cycle early",
           "\"array_cycles\"].eq(since + 1)", "\"array_cycles\"].eq(since)", unit("counters::test_counts")),
    Mutant("registers-busy", "rtl/control/registers.py", "the program can be changed while the machine runs",
           "self.bus.write_enable & ~self.busy", "self.bus.write_enable", unit("counters::test_bus")),
    Mutant("registers-error", "rtl/control/registers.py", "the error bit rises before the run is done",
           "self.done & (self.cause != Cause.NONE)", "self.cause != Cause.NONE", unit("counters::test_bus")),
    Mutant("watchdog-patience", "rtl/control/watchdog.py", "a deadlock is told a cycle late",
           "cycles == PATIENCE - 2", "cycles == PATIENCE - 1", unit("watchdog")),
    Mutant("watchdog-sum", "rtl/control/watchdog.py", "quiet cycles are added up, in a row or not",
           ", cycles.eq(0)]", "]", unit("watchdog")),
]

VECTOR = [
    Mutant("requantise-even", "rtl/vector/requantise.py", "halves are rounded up, not to even",
           "kept[0] & (sticky | integer[0])", "kept[0]", unit("requantise::test_special")),
    Mutant("requantise-sticky", "rtl/vector/requantise.py", "the last bit of the fine shift is forgotten in rounding",
           "(fine > i) & coarse[i]", "(fine > i + 1) & coarse[i]", unit("requantise")),
    Mutant("requantise-relu", "rtl/vector/requantise.py", "an int32 result is clipped at zero without relu",
           "self.relu & (total < 0)", "total < 0", unit("requantise::test_special")),
    Mutant("store-pair", "rtl/vector/store.py", "narrow and wide tiles are read from each other's column pair",
           "Mux(narrow, row[0], block)", "Mux(narrow, block, row[0])", unit("store::test_random_programs")),
    Mutant("store-result-early", "rtl/vector/store.py", "8-bit results are taken a cycle before they are there",
           "flight[RESULT_DELAY - 2]", "flight[RESULT_DELAY - 3]", unit("store::test_random_programs")),
    Mutant("store-planes", "rtl/vector/store.py", "a row of byte planes takes the room of three",
           "target + Mux(planes, 4, 1)", "target + Mux(planes, 3, 1)", unit("store::test_random_programs")),
    Mutant("store-scale-blocks", "rtl/vector/store.py", "LdScale takes a bit of its slice for StLBUF's `wide`",
           "last_block.eq(~to_scale & head.wide if", "last_block.eq(head.wide if", unit("store::test_random_programs")),
    Mutant("store-tokens", "rtl/vector/store.py", "the latencies of StLBUF and LdScale are mixed up",
           "Mux(is_scale, SCALE_LATENCY, STORE_LATENCY)", "Mux(is_scale, STORE_LATENCY, SCALE_LATENCY)",
           unit("store::test_random_programs")),
]

MEMORY = [
    Mutant("arbiter-order", "rtl/memory/arbiter.py", "the client served last comes first again",
           "for step in range(1, CLIENTS + 1)", "for step in range(CLIENTS)", unit("arbiter")),
    Mutant("arbiter-release", "rtl/memory/arbiter.py", "the port is given up with a burst's last beat not yet accepted",
           "~(self.port.ready & self.port.p.last)", "~self.port.p.last", unit("arbiter")),
    Mutant("arbiter-hold", "rtl/memory/arbiter.py", "a burst under way is held back with the new ones",
           "m.If(self.locked | self.enable)", "m.If(self.enable)", unit("arbiter")),
    Mutant("top-settle", "rtl/top.py", "the machine is done while data is still on its way",
           "m.If(settling & core.settled)", "m.If(settling)", unit("top_structure::test_end_in_the_middle_of_a_fetch_burst")),
    Mutant("top-flush", "rtl/top.py", "after an error the machine is done with data still in the array",
           "flush.eq(Mux(registers.cause == Cause.NONE, 0, drain(config) - 1))", "flush.eq(0)",
           unit("top_structure::test_after_an_error_everything_under_way_runs_out")),
    Mutant("top-group", "rtl/top.py", "DMA_OUT reads the word of the wrong group",
           "m.If(dma_out.read_group == number)", "m.If(number == 0)", unit("top_structure::test_each_group_has_its_own_buffer")),
]

MUTANTS = ARRAY + BUFFER + CONTROL + VECTOR + MEMORY

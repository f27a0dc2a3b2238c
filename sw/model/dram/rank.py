"""A rank, compiled: what each command holds back, and the near-data unit's sequencer. Absolute cycles instead of the hardware's counters.

Arguments of all compiled functions: k CONSTANTS, w REQUESTs, v LAUNCHes, s STATE (see `tables`), u unit, c channel, r rank, t cycle.
"""

from numba import njit

NONE, ACT, PRE, PREA, RD, WR, REF = range(7)


@njit(cache=True)
def aim(k, w, v, s, u):
    """Where the unit's next column command goes."""
    n, chunk, block = v[s.launch[u]], s.chunk[u], s.block[u]
    operation, step = n.operation, s.step[u]
    operand, write, left = k.operand[operation, step], k.write[operation, step], min(k.chunk, n.blocks - k.chunk * chunk)
    position = n.start + k.chunk * chunk + block
    frame = n.frame[operand]
    if s.summing[u]:
        write, left, position, frame = 1, 1, n.start, n.frame[3]
    elif operand == k.operand_x and operation >= k.indexed:
        position = s.parameters[u, s.stream[u] & 127] + block
    elif operand == k.operand_x and operation == k.gemv:
        frame += s.stream[u] * n.step
    low, high = position & (1 << k.reserved_bits) - 1, position >> k.reserved_bits + k.column_bits
    s.aim_write[u] = write
    s.aim_bank[u] = k.first_reserved | low ^ n.flip & (1 << k.reserved_bits) - 1
    top = (high ^ n.flip >> k.reserved_bits) & (1 << k.swapped_bits) - 1
    s.aim_row[u] = top << k.row_low | frame + (high >> k.swapped_bits) * k.colours
    s.aim_column[u] = position >> k.reserved_bits & (1 << k.column_bits) - 1
    s.left[u] = left - block
    s.length[u] = left


@njit(cache=True)
def may_act(s, u, bank, group, at):
    """Whether a closed bank may be activated in cycle `at`."""
    return at >= s.act_from[u, bank] and at >= s.group_act[u, group] and at >= s.rank_act[u] and at >= s.four[u, s.four_next[u]]


@njit(cache=True)
def shifted(k, number):
    """A step of the generator: four shifts."""
    for _ in range(4):
        bit = 0
        for tap in k.taps:
            bit ^= number >> tap & 1
        number = (number << 1 | bit) & 0xFFFF
    return number


@njit(cache=True)
def propose(k, w, v, s, u, t):
    """D(t): kind and bank. Takes the generator's step."""
    if not s.busy[u] or s.frozen[u]:
        return NONE, 0
    at, bank, row = t + 1, s.aim_bank[u], s.aim_row[u]
    group = bank & k.groups - 1
    if s.row[u, bank] == row and t >= s.settle_from[u] and at >= s.column_from[u, bank]:
        if s.aim_write[u]:
            if at >= s.rank_wr[u] and at >= s.group_wr[u, group]:
                policy = v[s.launch[u]].policy
                if policy == 1 or policy == 2:
                    number = s.lfsr[u]
                    s.lfsr[u] = shifted(k, number)
                    if number & (3 if policy == 1 else 15):
                        return NONE, 0
                return WR, bank
        elif at >= s.rank_rd[u] and at >= s.group_rd[u, group]:
            return RD, bank
    banks = k.reserved if s.left[u] > 1 else 1
    for i in range(banks):
        if s.row[u, bank ^ i] < 0 and may_act(s, u, bank ^ i, (bank ^ i) & k.groups - 1, at):
            return ACT, bank ^ i
    for i in range(banks):
        if s.row[u, bank ^ i] >= 0 and s.row[u, bank ^ i] != row and at >= s.pre_from[u, bank ^ i]:
            return PRE, bank ^ i
    return NONE, 0


@njit(cache=True)
def apply(k, s, u, at, kind, bank, row):
    """A command on the pins of a rank in cycle `at`: what it holds back."""
    group = bank & k.groups - 1
    if kind == ACT:
        s.row[u, bank] = row
        s.open_banks[u] += 1
        s.column_from[u, bank] = at + k.rcd
        s.pre_from[u, bank] = max(s.pre_from[u, bank], at + k.ras)
        s.rank_prea[u] = max(s.rank_prea[u], at + k.ras)
        s.act_from[u, bank] = max(s.act_from[u, bank], at + k.rc)
        s.rank_act[u] = max(s.rank_act[u], at + k.rrd_s)
        s.group_act[u, group] = max(s.group_act[u, group], at + k.rrd_l)
        s.four[u, s.four_next[u]] = at + k.faw
        s.four_next[u] = s.four_next[u] + 1 & 3
    elif kind in (PRE, PREA):
        for other in range(k.banks):
            if kind == PREA or other == bank:
                if s.row[u, other] >= 0:
                    s.open_banks[u] -= 1
                s.row[u, other] = -1
                s.act_from[u, other] = max(s.act_from[u, other], at + k.rp)
        s.rank_ref[u] = max(s.rank_ref[u], at + k.rp)
        if kind == PREA:
            s.frozen[u] = 1
    elif kind == RD:
        s.pre_from[u, bank] = max(s.pre_from[u, bank], at + k.rtp)
        s.rank_prea[u] = max(s.rank_prea[u], at + k.rtp)
        s.rank_rd[u] = max(s.rank_rd[u], at + k.ccd_s)
        s.group_rd[u, group] = max(s.group_rd[u, group], at + k.ccd_l)
        s.rank_wr[u] = max(s.rank_wr[u], at + max(k.ccd_s, k.rtw))
        s.group_wr[u, group] = max(s.group_wr[u, group], at + k.ccd_l)
    elif kind == WR:
        s.pre_from[u, bank] = max(s.pre_from[u, bank], at + k.wr)
        s.rank_prea[u] = max(s.rank_prea[u], at + k.wr)
        s.rank_rd[u] = max(s.rank_rd[u], at + max(k.ccd_s, k.wtr_s))
        s.group_rd[u, group] = max(s.group_rd[u, group], at + max(k.ccd_l, k.wtr_l))
        s.rank_wr[u] = max(s.rank_wr[u], at + k.ccd_s)
        s.group_wr[u, group] = max(s.group_wr[u, group], at + k.ccd_l)
    else:
        s.rank_act[u] = max(s.rank_act[u], at + k.rfc)
        s.rank_prea[u] = max(s.rank_prea[u], at + k.rfc)
        s.rank_ref[u] = max(s.rank_ref[u], at + k.rfc)
        s.frozen[u] = 0


@njit(cache=True)
def advance(k, w, v, s, u, t):
    """After a committed column command: the sequencer's next block, step, repetition, chunk, or the end."""
    s.block[u] += 1
    if s.left[u] == 1:
        s.block[u] = 0
        if k.burst * s.length[u] < k.settle:
            s.settle_from[u] = t + k.settle
        n = v[s.launch[u]]
        operation, step = n.operation, s.step[u]
        if s.summing[u]:
            s.busy[u] = 0
        elif k.repeated[operation, step] and not k.repeated[operation, step + 1] and s.stream[u] < n.streams - 1:
            s.stream[u] += 1
            while step and k.repeated[operation, step - 1]:
                step -= 1
            s.step[u] = step
        elif step + 1 < k.steps[operation]:
            s.step[u] = step + 1
        else:
            s.step[u] = s.stream[u] = 0
            if k.chunk * (s.chunk[u] + 1) < n.blocks:
                s.chunk[u] += 1
            elif k.sums[operation]:
                s.summing[u] = 1
                s.settle_from[u] = t + k.settle
            else:
                s.busy[u] = 0
    if s.busy[u]:
        aim(k, w, v, s, u)
    else:
        s.active[u] = 0


@njit(cache=True)
def arrive(k, w, v, s, u, launch, column, busy):
    """The last beat of a block for a launch register is on the data pins."""
    if 1 <= column <= 8:
        s.parameters[u, 16 * (column - 1):16 * column] = v[launch].words
        if s.busy[u]:
            aim(k, w, v, s, u)
    elif column == 0 and busy:
        s.overrun[u] = 1
    elif column == 0:
        s.launch[u] = launch
        s.busy[u] = 1
        s.chunk[u] = s.step[u] = s.stream[u] = s.block[u] = s.summing[u] = s.settle_from[u] = 0
        s.lfsr[u] = max(v[launch].seed, 1) * 0x0101
        aim(k, w, v, s, u)

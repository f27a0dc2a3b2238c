"""A channel, compiled: queues, mode, scheduler, refresh, inhibit pins."""

from numba import njit

from sw.model.dram.rank import ACT, NONE, PRE, PREA, RD, REF, WR, advance, apply, arrive, may_act, propose

NORMAL, CLOSE, REFRESH = range(3)
HOST, NEAR = range(2)


@njit(cache=True)
def is_launch(k, w, n):
    """Whether a request is for a launch register's descriptor."""
    return k.reserved > 0 and w[n].row == k.row_top and w[n].bank == k.banks - 1 and w[n].column == 0


@njit(cache=True)
def launches(k, bank, row):
    """Whether a place is in the row of the launch registers."""
    return k.reserved and row == k.row_top and bank == k.banks - 1


@njit(cache=True)
def choose(k, w, v, s, c, t, which, urgent):
    """The channel's command for t+1 from its active queue: (kind, place) or (NONE, 0). Refresh is looked at before."""
    at, q = t + 1, s.queue[c, which]
    count = 1 if urgent else s.count[c, which]
    kind, place, shut = NONE, 0, False
    for i in range(count):
        n = q[i]
        r, bank, row = w[n].rank, w[n].bank, w[n].row
        u = c * k.ranks + r
        opened = s.row[u, bank]
        if opened == row:
            if i == 0 or not launches(k, bank, row):
                s.hit[u, bank] = t
        elif opened >= 0:
            shut = True
        if s.commit[u] or (s.pin_kind[c] and s.pin_rank[c] == r) or s.refresh[u]:
            continue
        group = bank & k.groups - 1
        if opened == row:
            if at < s.column_from[u, bank] or (i and launches(k, bank, row)):
                continue
            if which == 0:
                if at >= s.rank_rd[u] and at >= s.group_rd[u, group] and (r == s.bus_rank[c] or at >= s.bus_rd[c]):
                    return RD, i
            elif at >= s.rank_wr[u] and at >= s.group_wr[u, group] and (r == s.bus_rank[c] or at >= s.bus_wr[c]):
                return WR, i
        elif opened < 0 and kind == NONE and may_act(s, u, bank, group, at):
            kind, place = ACT, i
    if kind == NONE and shut:
        for i in range(count):
            n = q[i]
            r, bank = w[n].rank, w[n].bank
            u = c * k.ranks + r
            opened = s.row[u, bank]
            if opened >= 0 and opened != w[n].row and at >= s.pre_from[u, bank] and s.hit[u, bank] != t and not (
                    s.commit[u] or (s.pin_kind[c] and s.pin_rank[c] == r) or s.refresh[u]):
                return PRE, i
    return kind, place


@njit(cache=True)
def meets(w, s, c, n):
    """Whether an entry of the other queue names the same block."""
    other = 0 if w[n].write else 1
    for i in range(s.count[c, other]):      # noqa: SIM110 - any() with a generator is not compiled
        if w[s.queue[c, other, i]].block == w[n].block:
            return True
    return False


@njit(cache=True)
def enters(k, w, v, s, c):
    """Whether `incoming` moves into its queue in this cycle."""
    n = s.incoming[c]
    return n >= 0 and (s.count[c, 1] < k.size[1] if w[n].write else s.count[c, 0] < k.size[0]) and not meets(w, s, c, n)


@njit(cache=True)
def predict(k, w, v, s, c, t, urgent):
    """The inhibit pins of t+1, into `s.next_...`."""
    which, watched, oldest = s.draining[c], False, True
    for u in range(c * k.ranks, (c + 1) * k.ranks):
        s.next_all[u] = s.refresh[u] != NORMAL or s.guests[u] > 0
        s.next_writes[u] = 0
        watched |= s.busy[u] or s.coming_head[u] != s.coming_end[u]
    if not watched:
        return      # nobody looks at the pins in t+1
    if urgent:
        s.next_all[c * k.ranks + w[s.queue[c, which, 0]].rank] = 1
    for i in range(s.count[c, which]):
        n = s.queue[c, which, i]
        u, bank = c * k.ranks + w[n].rank, w[n].bank
        if s.row[u, bank] == w[n].row:
            s.next_writes[u] = not which
            if s.column_from[u, bank] - 1 - t <= k.soon:
                if oldest or w[n].rank == s.bus_rank[c]:
                    s.next_all[u] = 1
                oldest = False
    if not which:
        for n in (s.arriving[c], s.incoming[c], s.queue[c, 0, 0] if s.count[c, 0] else -1):
            if n >= 0 and not w[n].write:
                s.next_writes[c * k.ranks + w[n].rank] = 1
    for u in range(c * k.ranks, (c + 1) * k.ranks):
        if not s.busy[u] or v[s.launch[u]].policy != k.next_rank:
            s.next_writes[u] = 0


@njit(cache=True)
def put(out, used, at, c, r, source, kind, bank, row, column):
    """A line of the command trace."""
    o = out[used]
    o[0], o[1], o[2], o[3], o[4], o[5] = at, c, r, source, kind, bank
    o[6], o[7] = row if kind == ACT else 0, column if kind in (RD, WR) else 0


@njit(cache=True)
def step_channel(k, w, v, s, c, t, takes, out, used):
    """One cycle of a channel and its ranks. `takes`: the request that `arriving` takes, or -1. Returns the number of commands recorded."""
    # near-data units: what each commits in t
    for r in range(k.ranks):
        u = c * k.ranks + r
        kind, bank = propose(k, w, v, s, u, t)
        if s.hold_all[u] or (kind == WR and s.hold_writes[u]) or (s.pin_kind[c] and s.pin_rank[c] == r):
            kind = NONE
        s.commit[u], s.commit_bank[u] = kind, bank
    # the channel's command for t+1
    which = s.draining[c]
    reads, writes = s.count[c, 0], s.count[c, 1]
    late_read, late_write = s.waited[c, 0] == k.patience, s.waited[c, 1] == k.patience
    urgent = late_write if which else late_read
    kind, place, rank = NONE, 0, 0
    for r in range(k.ranks):
        u = c * k.ranks + r
        if kind == NONE and s.refresh[u] != NORMAL and not s.commit[u] and not (s.pin_kind[c] and s.pin_rank[c] == r):
            if s.refresh[u] == CLOSE:
                if t + 1 >= s.rank_prea[u]:
                    kind, rank = PREA, r
            elif s.open_banks[u] == 0 and t + 1 >= s.rank_ref[u]:
                kind, rank = REF, r
    request = -1
    if kind == NONE and s.count[c, which] > 0:
        kind, place = choose(k, w, v, s, c, t, which, urgent)
        if kind:
            request = s.queue[c, which, place]
            rank = w[request].rank
    predict(k, w, v, s, c, t, urgent)
    # what enters a queue
    entering = s.incoming[c]
    held = entering >= 0 and meets(w, s, c, entering)
    forced = held and not w[entering].write
    for u in range(c * k.ranks, (c + 1) * k.ranks):
        if s.guests[u] and not forced:
            for i in range(writes):
                n = s.queue[c, 1, i]
                forced |= launches(k, w[n].bank, w[n].row)
    moves = enters(k, w, v, s, c)
    want = writes > 0 and (late_write or reads == 0 or forced or (writes > k.drain_low if which else writes >= k.drain_high))

    # the edge of t: refresh
    for r in range(k.ranks):
        u = c * k.ranks + r
        s.hold_all[u], s.hold_writes[u] = s.next_all[u], s.next_writes[u]
        if s.refresh[u] == NORMAL:
            if s.owed[u] > 0 and (s.entries[u] == 0 or s.owed[u] >= k.forced):
                s.refresh[u] = CLOSE
        elif kind in (PREA, REF) and rank == r:
            if kind == PREA:
                s.refresh[u] = REFRESH
            else:
                s.refresh[u] = NORMAL
                s.owed[u] -= 1
        if t % k.refi == (r + 1) * k.refi // k.ranks - 1:
            s.owed[u] += 1
    # command on the pins in t
    if s.pin_kind[c]:
        u, bank = c * k.ranks + s.pin_rank[c], s.pin_bank[c]
        apply(k, s, u, t, s.pin_kind[c], bank, s.pin_row[c])
        if s.pin_kind[c] == RD:
            end = s.back_end[c]
            s.back[c, end & 255, 0], s.back[c, end & 255, 1] = t + k.answer, s.pin_request[c]
            s.back_end[c] = end + 1
        elif s.pin_kind[c] == WR and k.reserved and bank == k.banks - 1 and s.row[u, bank] == k.row_top:
            end = s.coming_end[u]
            s.coming[u, end & 255, 0], s.coming[u, end & 255, 1] = t + k.last_beat, s.pin_request[c]
            s.coming_end[u] = end + 1
    if kind:
        s.pin_rank[c], s.pin_request[c] = rank, request
        if request >= 0:
            s.pin_bank[c], s.pin_row[c] = w[request].bank, w[request].row
            put(out, used, t + 1, c, rank, HOST, kind, w[request].bank, w[request].row, w[request].column)
        else:
            put(out, used, t + 1, c, rank, HOST, kind, 0, 0, 0)
        used += 1
    s.pin_kind[c] = kind
    # near-data commands, on the rank in t+1; launches
    for r in range(k.ranks):
        u = c * k.ranks + r
        busy, kind_near = s.busy[u], s.commit[u]
        if kind_near:
            apply(k, s, u, t + 1, kind_near, s.commit_bank[u], s.aim_row[u])
            put(out, used, t + 1, c, r, NEAR, kind_near, s.commit_bank[u], s.aim_row[u], s.aim_column[u])
            used += 1
            if kind_near in (RD, WR):
                advance(k, w, v, s, u, t)
        head = s.coming_head[u]
        if head < s.coming_end[u] and s.coming[u, head & 255, 0] == t:
            launch = s.coming[u, head & 255, 1]
            s.coming_head[u] = head + 1
            arrive(k, w, v, s, u, launch - k.first[k.players - 1], w[launch].column, busy)
    # the channel's registers
    leaves = kind in (RD, WR)
    s.draining[c] = want and not late_read
    for q in range(2):
        if s.count[c, q] == 0 or (leaves and which == q and place == 0):
            s.waited[c, q] = 0
        elif s.waited[c, q] < k.patience:
            s.waited[c, q] += 1
    if leaves:
        u = c * k.ranks + rank
        s.entries[u] -= 1
        s.guests[u] -= w[request].bank >= k.first_reserved
        s.count[c, which] -= 1
        for i in range(place, s.count[c, which]):
            s.queue[c, which, i] = s.queue[c, which, i + 1]
        s.bus_rank[c] = rank
        s.bus_rd[c] = t + 1 + (k.rd_rd if kind == RD else k.wr_rd)
        s.bus_wr[c] = t + 1 + (k.rd_wr if kind == RD else k.wr_wr)
    if moves:
        q = 1 if w[entering].write else 0
        s.queue[c, q, s.count[c, q]] = entering
        s.count[c, q] += 1
        u = c * k.ranks + w[entering].rank
        s.entries[u] += 1
        s.guests[u] += w[entering].bank >= k.first_reserved
    if moves or entering < 0:
        s.incoming[c] = s.arriving[c]
        s.arriving[c] = -1
    if takes >= 0:
        s.arriving[c] = takes
        if is_launch(k, w, takes):
            s.active[c * k.ranks + w[takes].rank] = 1
    return used

"""The DRAM system cycle by cycle, compiled: cores and launcher, the link of the packet interface, channels, answers."""

from numba import njit

from sw.model.dram.channel import enters, is_launch, step_channel
from sw.model.dram.rank import RD


@njit(cache=True)
def quiet(k, s, t):
    """Whether nothing is left to do but refreshes of the future."""
    for c in range(k.channels):
        if s.arriving[c] >= 0 or s.incoming[c] >= 0 or s.count[c, 0] or s.count[c, 1] or s.back_head[c] != s.back_end[c]:
            return False
        if s.pin_kind[c] == RD or s.way_head[c] != s.way_end[c]:
            return False
        for u in range(c * k.ranks, (c + 1) * k.ranks):
            if s.owed[u] or s.refresh[u] or s.active[u] or s.shown[u]:
                return False
    return True


@njit(cache=True)
def offer(k, w, v, s, t):
    """Who owns the request port in t: (player, request), or (-1, -1). Also whether the cores and the launcher are done."""
    players = k.players
    launcher, owner, ready, cores_done = players - 1, -1, -1, True
    for i in range(1, players + 1):
        p = (s.served + i) % players
        if p == launcher:
            continue
        n = k.first[p] + s.next[p]
        if n == k.first[p + 1]:
            continue
        cores_done = False
        if s.offered[p] < 0 and t >= s.last[p] + w[n].gap and (w[n].write or s.outstanding[p] < k.window[p]):
            s.offered[p] = t
    launches = k.first[players] - k.first[launcher]
    done = launches == 0 or (k.repeat > 0 and s.repetition == k.repeat)
    asks = False
    if not done:
        wait = v[s.next[launcher]].wait
        if k.repeat == 0 and cores_done and wait:
            done = True
        else:
            asks = True
            for u in range(k.channels * k.ranks):
                if wait >> u & 1 and (s.shown[u] if k.link else s.active[u]):
                    asks = False
    for i in range(1, players + 1):
        p = (s.served + i) % players
        if (asks if p == launcher else s.offered[p] >= 0):
            owner, ready = p, k.first[p] + s.next[p]
            break
    return owner, ready, cores_done, done


@njit(cache=True)
def is_ready(k, w, v, s, c):
    """Whether the channel takes a request in this cycle."""
    return s.arriving[c] < 0 or s.incoming[c] < 0 or enters(k, w, v, s, c)


@njit(cache=True)
def pass_link(k, w, v, s, c, t, request):
    """A cycle of the link: what the channel takes (or -1), and whether the host's request (or -1) is accepted."""
    credits = k.depth - (s.way_end[c] - s.credit_head[c])
    if s.credit_head[c] < s.way_head[c] and s.credit[c, s.credit_head[c] & 255] <= t:
        s.credit_head[c] += 1
        credits += 1
    takes, accepted, head = -1, request >= 0 and credits > 0, s.way_head[c]
    if head < s.way_end[c] and s.way[c, head & 255, 0] <= t and is_ready(k, w, v, s, c):
        takes = s.way[c, head & 255, 1]
        s.credit[c, head & 255] = t + k.link
        s.way_head[c] = head + 1
    for u in range(c * k.ranks, (c + 1) * k.ranks):
        s.history[u] = (s.history[u] << 1 | s.active[u]) & (2 << k.link) - 1
        if s.history[u] >> k.link - 1 == 2:
            s.shown[u] = 0
    if accepted:
        end = s.way_end[c]
        s.way[c, end & 255, 0], s.way[c, end & 255, 1] = t + k.link, request
        s.way_end[c] = end + 1
        if w[request].write and is_launch(k, w, request):
            s.shown[c * k.ranks + w[request].rank] = 1
    return takes, accepted


@njit(cache=True)
def wake(k, w, v, s, t):
    """The next cycle in which something can happen, if the machine rests in t and no launch waits; else t."""
    if not quiet(k, s, t):
        return t
    for c in range(k.channels):
        if s.pin_kind[c] or s.draining[c]:
            return t
        for u in range(c * k.ranks, (c + 1) * k.ranks):
            if s.busy[u] or s.coming_head[u] != s.coming_end[u] or s.hold_all[u] or s.hold_writes[u]:
                return t
    soonest = t + k.refi
    for r in range(k.ranks):
        due = (r + 1) * k.refi // k.ranks - 1
        soonest = min(soonest, t + (due - t) % k.refi)
    for p in range(k.players - 1):
        n = k.first[p] + s.next[p]
        if n < k.first[p + 1]:
            soonest = min(soonest, s.last[p] + w[n].gap)
    return max(soonest, t)


@njit(cache=True)
def cycles(k, w, v, s, out, reads, limit):
    """Runs until the end, for `limit` cycles, or until a buffer is nearly full. Returns commands and reads recorded."""
    used, answered, t = 0, 0, s.time
    launcher, stop = k.players - 1, t + limit
    room, read_room = len(out) - 2 * k.channels * (k.ranks + 1), len(reads) - k.channels
    while t < stop and used < room and answered < read_room:
        owner, request, cores_done, launcher_done = offer(k, w, v, s, t)
        if owner < 0 and launcher_done:
            if cores_done and s.reading == 0 and quiet(k, s, t):
                s.ended = 1
                break
            later = wake(k, w, v, s, t)
            if later > t:
                t = min(later, stop)
                continue
        for c in range(k.channels):
            accepted = owner >= 0 and w[request].channel == c
            if k.link:
                takes, accepted = pass_link(k, w, v, s, c, t, request if accepted else -1)
            else:
                accepted = accepted and is_ready(k, w, v, s, c)
                takes = request if accepted else -1
            used = step_channel(k, w, v, s, c, t, takes, out, used)
            # answers in t
            head = s.back_head[c]
            if head < s.back_end[c] and s.back[c, head & 255, 0] + k.link == t:
                n = s.back[c, head & 255, 1]
                p = w[n].player
                s.back_head[c] = head + 1
                s.outstanding[p] -= 1
                s.reading -= 1
                s.done[p] = t
                o = reads[answered]
                o[0], o[1], o[2], o[3] = w[n].asked, t, p, n - k.first[p]
                answered += 1
            if accepted:
                s.served = owner
                s.next[owner] += 1
                if owner == launcher:
                    if k.first[owner] + s.next[owner] == k.first[owner + 1]:
                        s.next[owner] = 0
                        s.repetition += 1
                else:
                    w[request].asked = s.offered[owner]
                    s.offered[owner] = -1
                    s.last[owner] = t
                    s.accepted += 1
                    if w[request].write:
                        s.done[owner] = t
                    else:
                        s.outstanding[owner] += 1
                        s.reading += 1
        t += 1
    s.time = t
    return used, answered

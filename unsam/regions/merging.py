"""The compiled core of `unsam.regions.conquer`; see there for the rule and the idea."""

from __future__ import annotations

import math

import numpy as np

from unsam.regions.compiled import borrower, kernel, reduction
from unsam.regions.merging_state import (
    ACROSS,
    AFTER,
    ALONG,
    BEST,
    CHILD,
    COMPUTED,
    DEGREE,
    FRESH,
    GUESSED,
    HEAD,
    HEAP,
    KEY,
    MARK,
    NODE,
    NONE,
    NORM,
    OTHER,
    OWNER,
    ROOTS,
    SAME,
    SIBLING,
    SIMILARITY,
    SLOT,
    STALE,
    TURN,
    VERSION,
    State,
    list_insert,
    list_remove,
    other_node,
    push,
    remove,
)

# Similarities are multiples of 1 / SCALE; float64 sums over some thousand channels err by less.
SCALE = 2.0**48
# Allowance for rounding in bounds.
SLACK = 2.0**-48
# Above this, features count as the same: among them rounding would decide, not content.
SAME_FROM = 1.0 - 2.0**-38
# Stale edges computed again, per edge of the graph, before guesses come first.
GUESS_FROM = 8
# At this number of neighbours, marking is cheaper than searching a neighbour's list.
MARK_FROM = 24


@kernel
def merge_graph(
    sums: np.ndarray, edges: np.ndarray, thresholds: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Merge until no pair reaches the last threshold.

    Args:
        sums: ``float64 [N, D]``, mean feature times size; overwritten.
        edges: ``int64 [E, 2]``, unique, smaller id first.
        thresholds: ``float64 [T]``.

    Returns:
        merges ``int64 [K, 2]``, similarity ``float64 [K]``, counts ``int64 [T]``.
    """
    n = len(sums)
    state = _start(sums, edges)
    merges = np.empty((max(n - 1, 0), 2), np.int64)
    similarity = np.empty(max(n - 1, 0), np.float64)
    counts = np.zeros(len(thresholds), np.int64)
    done = 0
    for t in range(len(thresholds)):
        while n > 0:
            s = state.winner[1]
            if state.reals[s, BEST] < thresholds[t] or state.reals[s, BEST] == -np.inf:
                break
            edge = _settle(state, s)
            if edge == NONE:
                # Many computed again: one cluster has most of the others around it.
                if state.tally[1] == 0 and state.tally[0] > GUESS_FROM * len(edges):
                    _shorten(state)
                continue
            u, v = (
                state.slots[state.halves[2 * edge, SLOT], NODE],
                state.slots[state.halves[2 * edge + 1, SLOT], NODE],
            )
            merges[done, 0] = min(u, v)
            merges[done, 1] = max(u, v)
            similarity[done] = state.values[edge, SIMILARITY]
            _merge(state, edge, n + done)
            done += 1
        counts[t] = done
    return merges[:done], similarity[:done], counts


@kernel
def _start(sums: np.ndarray, edges: np.ndarray) -> State:
    n, e = len(sums), len(edges)
    leaves = 1
    while leaves < n:
        leaves *= 2
    state = State(
        sums,
        np.empty(sums.shape, np.float32),
        np.empty(sums.shape[1], np.float64),
        np.full((n, 9), NONE),
        np.zeros((n, 5), np.float64),
        np.full((e, 7), NONE),
        np.zeros((e, 2), np.float64),
        np.full((2 * e, 3), NONE),
        np.full(2 * leaves, NONE),
        np.empty(e, np.int64),
        np.empty(e, np.int64),
        np.zeros(2, np.int64),
    )
    for i in range(n):
        state.slots[i, NODE] = i
        state.slots[i, DEGREE] = 0
        state.slots[i, VERSION] = 0
        state.reals[i, BEST] = -np.inf
        state.reals[i, NORM] = math.sqrt(_dot(sums[i], sums[i]))
        state.winner[leaves + i] = i
    for i in range(e):
        # The larger id owns, as it does after merges: its edges then order by the other node.
        state.halves[2 * i, SLOT], state.halves[2 * i + 1, SLOT] = edges[i, 0], edges[i, 1]
        state.edges[i, OWNER] = edges[i, 1]
        list_insert(state, 2 * i + 1)
        _compute(state, i)
    for i in range(e):
        list_insert(state, 2 * i)
    for i in range(n):
        _bound(state, i)
    for position in range(leaves - 1, 0, -1):
        state.winner[position] = _better(
            state, state.winner[2 * position], state.winner[2 * position + 1]
        )
    return state


@reduction
def _dot(a: np.ndarray, b: np.ndarray) -> float:
    total = 0.0
    for i in range(len(a)):
        total += a[i] * b[i]
    return total


@reduction
def _dot_short(a: np.ndarray, b: np.ndarray) -> float:
    total = np.float32(0.0)
    for i in range(len(a)):
        total += a[i] * b[i]
    return float(total)


@borrower
def _compute(state: State, edge: int) -> None:
    """Compute the similarity of `edge` and put it into the right heap of its owner."""
    u, v = state.halves[2 * edge, SLOT], state.halves[2 * edge + 1, SLOT]
    lengths = state.reals[u, NORM] * state.reals[v, NORM]
    cosine = 0.0
    if lengths > 0.0:
        cosine = min(1.0, max(-1.0, _dot(state.sums[u], state.sums[v]) / lengths))
        cosine = _rounded(cosine)
    owner = state.edges[edge, OWNER]
    state.values[edge, SIMILARITY] = cosine
    state.values[edge, KEY] = math.acos(min(1.0, cosine + SLACK)) + state.reals[owner, TURN]
    state.edges[edge, COMPUTED] = state.slots[owner, VERSION]
    push(state, owner, SAME if cosine == 1.0 else FRESH, edge)


@borrower
def _rounded(cosine: float) -> float:
    return 1.0 if cosine >= SAME_FROM else np.rint(cosine * SCALE) / SCALE


@borrower
def _settle(state: State, s: int) -> int:
    """Return the best edge of slot `s` if it is known exactly, else make one bound tighter."""
    if state.slots[s, OTHER] == NONE:
        edge = state.slots[s, ROOTS + STALE]
        state.tally[0] += 1
    elif state.slots[s, ROOTS + SAME] != NONE:
        edge = state.slots[s, ROOTS + SAME]
        if state.edges[edge, COMPUTED] == state.slots[s, VERSION]:
            return edge
    else:
        return state.slots[s, ROOTS + FRESH]
    remove(state, edge)
    if (
        state.tally[1] > 0
        and state.edges[edge, HEAP] == STALE
        and state.edges[edge, GUESSED] != state.slots[s, VERSION]
    ):
        _guess(state, edge)
    else:
        _compute(state, edge)
    _refresh(state, s)
    return NONE


@borrower
def _shorten(state: State) -> None:
    """Prepare `_guess` for all slots."""
    state.axis[:] = 0.0
    for s in range(len(state.sums)):
        if state.slots[s, NODE] != NONE:
            for d in range(len(state.axis)):
                state.axis[d] += state.sums[s, d]
    length = math.sqrt(_dot(state.axis, state.axis))
    for d in range(len(state.axis)):
        state.axis[d] /= max(length, 1e-300)
    for s in range(len(state.sums)):
        if state.slots[s, NODE] != NONE:
            _shorten_one(state, s)
    state.tally[1] = 1


@borrower
def _shorten_one(state: State, s: int) -> None:
    along = _dot(state.sums[s], state.axis)
    total = 0.0
    for d in range(len(state.axis)):
        rest = state.sums[s, d] - along * state.axis[d]
        state.short[s, d] = rest
        total += rest * rest
    state.reals[s, ALONG] = along
    state.reals[s, ACROSS] = math.sqrt(total)


@borrower
def _guess(state: State, edge: int) -> None:
    """Tighten the bound of a stale edge in single precision, at half the memory traffic.

    Sums are split into the part along a common axis, kept in double precision, and the rest, whose
    product is all that single precision may spoil: by less than D * 2^-23 of the lengths. In flat
    photos the rests are tiny and so is the error; where it is not, the exact value follows.
    """
    u, v = state.halves[2 * edge, SLOT], state.halves[2 * edge + 1, SLOT]
    owner = state.edges[edge, OWNER]
    state.edges[edge, GUESSED] = state.slots[owner, VERSION]
    lengths = state.reals[u, NORM] * state.reals[v, NORM]
    if lengths > 0.0:
        product = state.reals[u, ALONG] * state.reals[v, ALONG]
        product += _dot_short(state.short[u], state.short[v])
        error = len(state.axis) * 2.0**-23 * state.reals[u, ACROSS] * state.reals[v, ACROSS]
        limit = min(1.0, max(-1.0, (product + error) / lengths + SLACK))
        key = math.acos(limit) + state.reals[owner, TURN]
        state.values[edge, KEY] = max(state.values[edge, KEY], key)
    push(state, owner, STALE, edge)


@borrower
def _merge(state: State, edge: int, new_node: int) -> None:
    """Merge the two clusters of `edge` into node `new_node`."""
    a, b = state.halves[2 * edge, SLOT], state.halves[2 * edge + 1, SLOT]
    if state.slots[a, DEGREE] < state.slots[b, DEGREE]:
        a, b = b, a
    remove(state, edge)
    list_remove(state, 2 * edge)
    list_remove(state, 2 * edge + 1)
    count = _take_own_edges(state, a)
    count = _take_edges_of(state, a, b, count)
    _turn(state, a, b, state.values[edge, SIMILARITY])
    sums_a, sums_b = state.sums[a], state.sums[b]
    for i in range(len(sums_a)):
        sums_a[i] += sums_b[i]
    state.reals[a, NORM] = math.sqrt(_dot(sums_a, sums_a))
    if state.tally[1] > 0:
        _shorten_one(state, a)
    state.slots[a, NODE] = new_node
    state.slots[a, VERSION] += 1
    state.slots[b, NODE] = NONE
    state.slots[b, ROOTS:] = NONE
    for i in range(count):
        _compute(state, state.pending[i])
    _refresh(state, b)
    _refresh(state, a)


@borrower
def _take_own_edges(state: State, a: int) -> int:
    """Make slot `a` the owner of all its edges; return how many are pending."""
    count = 0
    half = state.slots[a, HEAD]
    while half != NONE and state.edges[half >> 1, OWNER] != a:
        edge = half >> 1
        other = state.edges[edge, OWNER]
        remove(state, edge)
        _refresh(state, other)
        state.edges[edge, OWNER] = a
        state.pending[count] = edge
        count += 1
        # In the other list it now is one of the edges owned by others: to the front.
        list_remove(state, half ^ 1)
        list_insert(state, half ^ 1)
        half = state.halves[half, AFTER]
    return count


@borrower
def _take_edges_of(state: State, a: int, b: int, count: int) -> int:
    """Hand the edges of slot `b` to slot `a`; drop those that `a` has already."""
    marked = state.slots[b, DEGREE] >= MARK_FROM
    if marked:
        half = state.slots[a, HEAD]
        while half != NONE:
            state.slots[state.halves[half ^ 1, SLOT], MARK] = half >> 1
            half = state.halves[half, AFTER]
    half = state.slots[b, HEAD]
    while half != NONE:
        following = state.halves[half, AFTER]
        edge, c = half >> 1, state.halves[half ^ 1, SLOT]
        if state.edges[edge, OWNER] == c:
            remove(state, edge)
            _refresh(state, c)
        known = state.slots[c, MARK] != NONE if marked else _linked(state, a, c)
        list_remove(state, half)
        list_remove(state, half ^ 1)
        if not known:
            state.edges[edge, OWNER] = a
            state.halves[half, SLOT] = a
            list_insert(state, half)
            list_insert(state, half ^ 1)
            state.pending[count] = edge
            count += 1
        half = following
    if marked:
        half = state.slots[a, HEAD]
        while half != NONE:
            state.slots[state.halves[half ^ 1, SLOT], MARK] = NONE
            half = state.halves[half, AFTER]
    return count


@borrower
def _linked(state: State, a: int, c: int) -> bool:
    if state.slots[a, DEGREE] < state.slots[c, DEGREE]:
        a, c = c, a
    half = state.slots[c, HEAD]
    while half != NONE:
        if state.halves[half ^ 1, SLOT] == a:
            return True
        half = state.halves[half, AFTER]
    return False


@borrower
def _turn(state: State, a: int, b: int, cosine: float) -> None:
    """Add the angle by which slot `a` turns when it absorbs `b`; its fresh edges become stale."""
    low = max(-1.0, cosine - SLACK)
    along = state.reals[a, NORM] + state.reals[b, NORM] * low
    angle = math.pi
    if state.reals[a, NORM] > 0.0 and along > 0.0:
        angle = (
            math.atan2(state.reals[b, NORM] * math.sqrt(1.0 - low * low), along)
            if low > 0
            else angle
        )
    state.reals[a, TURN] += angle
    size = 0
    if state.slots[a, ROOTS + FRESH] != NONE:
        state.stack[0] = state.slots[a, ROOTS + FRESH]
        state.slots[a, ROOTS + FRESH] = NONE
        size = 1
    while size > 0:
        size -= 1
        edge = state.stack[size]
        for following in (state.edges[edge, CHILD], state.edges[edge, SIBLING]):
            if following != NONE:
                state.stack[size] = following
                size += 1
        push(state, a, STALE, edge)


@borrower
def _bound(state: State, s: int) -> None:
    """Bound the best similarity among the edges that slot `s` owns."""
    best, other = -np.inf, NONE
    if state.slots[s, ROOTS + SAME] != NONE:
        best, other = 1.0, other_node(state, state.slots[s, ROOTS + SAME])
    elif state.slots[s, ROOTS + FRESH] != NONE:
        edge = state.slots[s, ROOTS + FRESH]
        best, other = state.values[edge, SIMILARITY], other_node(state, edge)
    stale = state.slots[s, ROOTS + STALE]
    if stale != NONE:
        angle = (
            state.values[stale, KEY] - state.reals[s, TURN] - 1e-15 * (1.0 + state.reals[s, TURN])
        )
        limit = 1.0
        if angle > 0.0:
            limit = _rounded(math.cos(min(angle, math.pi)) + SLACK)
        # On a tie the bound goes first: the pair behind it may have the lower id.
        if limit >= best:
            best, other = limit, NONE
    state.reals[s, BEST] = best
    state.slots[s, OTHER] = other


@borrower
def _refresh(state: State, s: int) -> None:
    """Bring the tournament tree up to date after a change in slot `s`."""
    _bound(state, s)
    position = (len(state.winner) // 2 + s) // 2
    while position > 0:
        state.winner[position] = _better(
            state, state.winner[2 * position], state.winner[2 * position + 1]
        )
        position //= 2


@borrower
def _better(state: State, s: int, t: int) -> int:
    if t == NONE or s == NONE:
        return max(s, t)
    if state.reals[s, BEST] != state.reals[t, BEST]:
        return s if state.reals[s, BEST] > state.reals[t, BEST] else t
    if state.slots[s, OTHER] != state.slots[t, OTHER]:
        return s if state.slots[s, OTHER] < state.slots[t, OTHER] else t
    return s if state.slots[s, NODE] < state.slots[t, NODE] else t

"""The compiled core of `divide_and_conquer.conquer`; see there for the rule and the idea.

Clusters live in slots 0 to N-1; a merge keeps the slot with more neighbours. Edges never multiply:
a merge drops the pair's edge and one of each pair of parallel edges, and hands the others over.
Each edge lies in one of three pairing heaps of its owner:

- STALE: computed before the owner's last turn; ordered by the lower bound of the angle;
- FRESH: computed since; ordered by similarity, then by the id of the other node;
- SAME: similarity 1 when last computed; ordered by the id of the other node. Nothing can beat 1,
  so these need not be bounded again, only confirmed, in order of ids, until one holds.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from divide_and_conquer.compiled import borrower, kernel, reduction

STALE, FRESH, SAME = 0, 1, 2
NONE = -1
# Similarities are multiples of 1 / SCALE; float64 sums over some thousand channels err by less.
SCALE = 2.0**48
# Allowance for rounding in bounds.
SLACK = 2.0**-48
# Above this, features count as the same: among them rounding would decide, not content.
SAME_FROM = 1.0 - 2.0**-38
# At this number of neighbours, marking is cheaper than searching a neighbour's list.
MARK_FROM = 24


class _State(NamedTuple):
    """Arrays of one run, a row for each slot, edge or half-edge; columns are named below.

    Few arrays with rows, because a compiled call passes every array of the state along, and
    because one merge reads most columns of the rows that it touches.

    Half-edges 2e and 2e + 1 are the two ends of edge e; each is in the doubly linked list of the
    slot it stands at. In a list, edges that the slot does not own come first.
    """

    sums: np.ndarray  # float64 [N, D]: sum of member features
    slots: np.ndarray  # int64 [N, 9]
    reals: np.ndarray  # float64 [N, 3]
    edges: np.ndarray  # int64 [E, 6]
    values: np.ndarray  # float64 [E, 2]
    halves: np.ndarray  # int64 [2E, 3]
    winner: np.ndarray  # tournament tree over slots: the slot with the best edge below
    stack: np.ndarray  # int64 [E], for walking a heap
    pending: np.ndarray  # int64 [E], edges to be computed after the merge


# Columns of slots. NODE: id of the cluster, NONE when absorbed. DEGREE: neighbours. VERSION: merges
# so far. HEAD: first half-edge. OTHER: other node of the best edge, NONE while that is a bound.
# MARK: edge to the surviving slot. ROOTS and two more: roots of the three heaps.
NODE, DEGREE, VERSION, HEAD, OTHER, MARK, ROOTS = 0, 1, 2, 3, 4, 5, 6
# Columns of reals. NORM: length of the sum. TURN: total angle by which the direction may have
# turned. BEST: upper bound of the best similarity among owned edges.
NORM, TURN, BEST = 0, 1, 2
# Columns of edges. OWNER: the slot whose heaps hold it. COMPUTED: version of the owner at the last
# computation. HEAP: which heap. CHILD, SIBLING, PREVIOUS: links in the heap.
OWNER, COMPUTED, HEAP, CHILD, SIBLING, PREVIOUS = 0, 1, 2, 3, 4, 5
# Columns of values: similarity when last computed; its angle plus the owner's turn at that time.
SIMILARITY, KEY = 0, 1
# Columns of halves: the slot it stands at; next and previous in the list of that slot.
SLOT, AFTER, BEFORE = 0, 1, 2


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
def _start(sums, edges):  # type: ignore[no-untyped-def]
    n, e = len(sums), len(edges)
    leaves = 1
    while leaves < n:
        leaves *= 2
    state = _State(
        sums,
        np.full((n, 9), NONE),
        np.zeros((n, 3), np.float64),
        np.full((e, 6), NONE),
        np.zeros((e, 2), np.float64),
        np.full((2 * e, 3), NONE),
        np.full(2 * leaves, NONE),
        np.empty(e, np.int64),
        np.empty(e, np.int64),
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
        _list_insert(state, 2 * i + 1)
        _compute(state, i)
    for i in range(e):
        _list_insert(state, 2 * i)
    for i in range(n):
        _bound(state, i)
    for position in range(leaves - 1, 0, -1):
        state.winner[position] = _better(
            state, state.winner[2 * position], state.winner[2 * position + 1]
        )
    return state


@reduction
def _dot(a, b):  # type: ignore[no-untyped-def]
    total = 0.0
    for i in range(len(a)):
        total += a[i] * b[i]
    return total


@borrower
def _compute(state, edge):  # type: ignore[no-untyped-def]
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
    _push(state, owner, SAME if cosine == 1.0 else FRESH, edge)


@borrower
def _rounded(cosine):  # type: ignore[no-untyped-def]
    return 1.0 if cosine >= SAME_FROM else np.rint(cosine * SCALE) / SCALE


@borrower
def _settle(state, s):  # type: ignore[no-untyped-def]
    """Return the best edge of slot `s` if it is known exactly, else make one bound exact."""
    if state.slots[s, OTHER] == NONE:
        edge = state.slots[s, ROOTS + STALE]
    elif state.slots[s, ROOTS + SAME] != NONE:
        edge = state.slots[s, ROOTS + SAME]
        if state.edges[edge, COMPUTED] == state.slots[s, VERSION]:
            return edge
    else:
        return state.slots[s, ROOTS + FRESH]
    _remove(state, edge)
    _compute(state, edge)
    _refresh(state, s)
    return NONE


@borrower
def _merge(state, edge, new_node):  # type: ignore[no-untyped-def]
    """Merge the two clusters of `edge` into node `new_node`."""
    a, b = state.halves[2 * edge, SLOT], state.halves[2 * edge + 1, SLOT]
    if state.slots[a, DEGREE] < state.slots[b, DEGREE]:
        a, b = b, a
    _remove(state, edge)
    _list_remove(state, 2 * edge)
    _list_remove(state, 2 * edge + 1)
    count = _take_own_edges(state, a)
    count = _take_edges_of(state, a, b, count)
    _turn(state, a, b, state.values[edge, SIMILARITY])
    sums_a, sums_b = state.sums[a], state.sums[b]
    for i in range(len(sums_a)):
        sums_a[i] += sums_b[i]
    state.reals[a, NORM] = math.sqrt(_dot(sums_a, sums_a))
    state.slots[a, NODE] = new_node
    state.slots[a, VERSION] += 1
    state.slots[b, NODE] = NONE
    state.slots[b, ROOTS:] = NONE
    for i in range(count):
        _compute(state, state.pending[i])
    _refresh(state, b)
    _refresh(state, a)


@borrower
def _take_own_edges(state, a):  # type: ignore[no-untyped-def]
    """Make slot `a` the owner of all its edges; return how many are pending."""
    count = 0
    half = state.slots[a, HEAD]
    while half != NONE and state.edges[half >> 1, OWNER] != a:
        edge = half >> 1
        other = state.edges[edge, OWNER]
        _remove(state, edge)
        _refresh(state, other)
        state.edges[edge, OWNER] = a
        state.pending[count] = edge
        count += 1
        # In the other list it now is one of the edges owned by others: to the front.
        _list_remove(state, half ^ 1)
        _list_insert(state, half ^ 1)
        half = state.halves[half, AFTER]
    return count


@borrower
def _take_edges_of(state, a, b, count):  # type: ignore[no-untyped-def]
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
            _remove(state, edge)
            _refresh(state, c)
        known = state.slots[c, MARK] != NONE if marked else _linked(state, a, c)
        _list_remove(state, half)
        _list_remove(state, half ^ 1)
        if not known:
            state.edges[edge, OWNER] = a
            state.halves[half, SLOT] = a
            _list_insert(state, half)
            _list_insert(state, half ^ 1)
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
def _linked(state, a, c):  # type: ignore[no-untyped-def]
    if state.slots[a, DEGREE] < state.slots[c, DEGREE]:
        a, c = c, a
    half = state.slots[c, HEAD]
    while half != NONE:
        if state.halves[half ^ 1, SLOT] == a:
            return True
        half = state.halves[half, AFTER]
    return False


@borrower
def _turn(state, a, b, cosine):  # type: ignore[no-untyped-def]
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
        _push(state, a, STALE, edge)


@borrower
def _bound(state, s):  # type: ignore[no-untyped-def]
    """Bound the best similarity among the edges that slot `s` owns."""
    best, other = -np.inf, NONE
    if state.slots[s, ROOTS + SAME] != NONE:
        best, other = 1.0, _other_node(state, state.slots[s, ROOTS + SAME])
    elif state.slots[s, ROOTS + FRESH] != NONE:
        edge = state.slots[s, ROOTS + FRESH]
        best, other = state.values[edge, SIMILARITY], _other_node(state, edge)
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
def _refresh(state, s):  # type: ignore[no-untyped-def]
    """Bring the tournament tree up to date after a change in slot `s`."""
    _bound(state, s)
    position = (len(state.winner) // 2 + s) // 2
    while position > 0:
        state.winner[position] = _better(
            state, state.winner[2 * position], state.winner[2 * position + 1]
        )
        position //= 2


@borrower
def _better(state, s, t):  # type: ignore[no-untyped-def]
    if t == NONE or s == NONE:
        return max(s, t)
    if state.reals[s, BEST] != state.reals[t, BEST]:
        return s if state.reals[s, BEST] > state.reals[t, BEST] else t
    if state.slots[s, OTHER] != state.slots[t, OTHER]:
        return s if state.slots[s, OTHER] < state.slots[t, OTHER] else t
    return s if state.slots[s, NODE] < state.slots[t, NODE] else t


@borrower
def _other_node(state, edge):  # type: ignore[no-untyped-def]
    return state.slots[
        state.halves[2 * edge, SLOT] + state.halves[2 * edge + 1, SLOT] - state.edges[edge, OWNER],
        NODE,
    ]


@borrower
def _list_insert(state, half):  # type: ignore[no-untyped-def]
    s = state.halves[half, SLOT]
    first = state.slots[s, HEAD]
    state.halves[half, BEFORE] = NONE
    state.halves[half, AFTER] = first
    if first != NONE:
        state.halves[first, BEFORE] = half
    state.slots[s, HEAD] = half
    state.slots[s, DEGREE] += 1


@borrower
def _list_remove(state, half):  # type: ignore[no-untyped-def]
    s, left, right = state.halves[half, SLOT], state.halves[half, BEFORE], state.halves[half, AFTER]
    if left == NONE:
        state.slots[s, HEAD] = right
    else:
        state.halves[left, AFTER] = right
    if right != NONE:
        state.halves[right, BEFORE] = left
    state.slots[s, DEGREE] -= 1


@borrower
def _less(state, heap, x, y):  # type: ignore[no-untyped-def]
    if heap == STALE:
        return state.values[x, KEY] < state.values[y, KEY]
    if heap == FRESH and state.values[x, SIMILARITY] != state.values[y, SIMILARITY]:
        return state.values[x, SIMILARITY] > state.values[y, SIMILARITY]
    return _other_node(state, x) < _other_node(state, y)


@borrower
def _link(state, heap, x, y):  # type: ignore[no-untyped-def]
    """Join two pairing heaps by their roots; return the root."""
    if _less(state, heap, y, x):
        x, y = y, x
    first = state.edges[x, CHILD]
    state.edges[y, SIBLING] = first
    if first != NONE:
        state.edges[first, PREVIOUS] = y
    state.edges[y, PREVIOUS] = x
    state.edges[x, CHILD] = y
    return x


@borrower
def _push(state, s, heap, edge):  # type: ignore[no-untyped-def]
    state.edges[edge, HEAP] = heap
    state.edges[edge, CHILD] = NONE
    state.edges[edge, SIBLING] = NONE
    state.edges[edge, PREVIOUS] = NONE
    root = state.slots[s, ROOTS + heap]
    state.slots[s, ROOTS + heap] = edge if root == NONE else _link(state, heap, root, edge)


@borrower
def _remove(state, edge):  # type: ignore[no-untyped-def]
    """Take `edge` out of the heap it lies in."""
    s, heap = state.edges[edge, OWNER], state.edges[edge, HEAP]
    rest = _join_children(state, heap, edge)
    if state.slots[s, ROOTS + heap] == edge:
        state.slots[s, ROOTS + heap] = rest
        return
    left, right = state.edges[edge, PREVIOUS], state.edges[edge, SIBLING]
    if state.edges[left, CHILD] == edge:
        state.edges[left, CHILD] = right
    else:
        state.edges[left, SIBLING] = right
    if right != NONE:
        state.edges[right, PREVIOUS] = left
    if rest != NONE:
        state.slots[s, ROOTS + heap] = _link(state, heap, state.slots[s, ROOTS + heap], rest)


@borrower
def _join_children(state, heap, edge):  # type: ignore[no-untyped-def]
    """Join the children of a heap node pairwise, left to right, then right to left."""
    node = state.edges[edge, CHILD]
    pairs = NONE
    while node != NONE:
        second = state.edges[node, SIBLING]
        following = NONE
        root = node
        if second != NONE:
            following = state.edges[second, SIBLING]
            root = _link(state, heap, node, second)
        state.edges[root, SIBLING] = pairs
        pairs = root
        node = following
    root = NONE
    while pairs != NONE:
        following = state.edges[pairs, SIBLING]
        root = pairs if root == NONE else _link(state, heap, root, pairs)
        pairs = following
    if root != NONE:
        state.edges[root, SIBLING] = NONE
        state.edges[root, PREVIOUS] = NONE
    return root

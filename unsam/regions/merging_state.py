"""The state of a merging run for `unsam.regions.merging`: slots, edges, lists and heaps.

Clusters live in slots 0 to N-1; a merge keeps the slot with more neighbours. Edges never multiply:
a merge drops the pair's edge and one of each pair of parallel edges, and hands the others over.
Each edge lies in one of three pairing heaps (Fredman et al. 1986) of its owner:

- STALE: computed before the owner's last turn; ordered by the lower bound of the angle;
- FRESH: computed since; ordered by similarity, then by the id of the other node;
- SAME: similarity 1 when last computed; ordered by the id of the other node. Nothing can beat 1,
  so these need not be bounded again, only confirmed, in order of ids, until one holds.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from unsam.regions.compiled import borrower

STALE, FRESH, SAME = 0, 1, 2
NONE = -1


class State(NamedTuple):
    """Arrays of one run, a row for each slot, edge or half-edge; columns are named below.

    Few arrays with rows, because a compiled call passes every array of the state along, and
    because one merge reads most columns of the rows that it touches.

    Half-edges 2e and 2e + 1 are the two ends of edge e; each is in the doubly linked list of the
    slot it stands at. In a list, edges that the slot does not own come first.
    """

    sums: np.ndarray  # float64 [N, D]: sum of member features
    short: np.ndarray  # float32 [N, D]: sums without their part along the axis; see `guess`
    axis: np.ndarray  # float64 [D]: direction of the sum of everything
    slots: np.ndarray  # int64 [N, 9]
    reals: np.ndarray  # float64 [N, 5]
    edges: np.ndarray  # int64 [E, 7]
    values: np.ndarray  # float64 [E, 2]
    halves: np.ndarray  # int64 [2E, 3]
    winner: np.ndarray  # tournament tree over slots: the slot with the best edge below
    stack: np.ndarray  # int64 [E], for walking a heap
    pending: np.ndarray  # int64 [E], edges to be computed after the merge
    tally: np.ndarray  # int64 [2]: stale edges computed again; whether `short` is in use


# Columns of slots. NODE: id of the cluster, NONE when absorbed. DEGREE: neighbours. VERSION: merges
# so far. HEAD: first half-edge. OTHER: other node of the best edge, NONE while that is a bound.
# MARK: edge to the surviving slot. ROOTS and two more: roots of the three heaps.
NODE, DEGREE, VERSION, HEAD, OTHER, MARK, ROOTS = 0, 1, 2, 3, 4, 5, 6
# Columns of reals. NORM: length of the sum. TURN: total angle by which the direction may have
# turned. BEST: upper bound of the best similarity among owned edges. ALONG: part of the sum along
# the axis. ACROSS: length of the rest.
NORM, TURN, BEST, ALONG, ACROSS = 0, 1, 2, 3, 4
# Columns of edges. OWNER: the slot whose heaps hold it. COMPUTED: version of the owner at the last
# computation. HEAP: which heap. CHILD, SIBLING, PREVIOUS: links in the heap. GUESSED: version of
# the owner at the last guess.
OWNER, COMPUTED, HEAP, CHILD, SIBLING, PREVIOUS, GUESSED = 0, 1, 2, 3, 4, 5, 6
# Columns of values: similarity when last computed; its angle plus the owner's turn at that time.
SIMILARITY, KEY = 0, 1
# Columns of halves: the slot it stands at; next and previous in the list of that slot.
SLOT, AFTER, BEFORE = 0, 1, 2


@borrower
def other_node(state: State, edge: int) -> int:
    """Return the node at the end of `edge` that does not own it."""
    return state.slots[
        state.halves[2 * edge, SLOT] + state.halves[2 * edge + 1, SLOT] - state.edges[edge, OWNER],
        NODE,
    ]


@borrower
def list_insert(state: State, half: int) -> None:
    """Put a half-edge at the front of the list of its slot."""
    s = state.halves[half, SLOT]
    first = state.slots[s, HEAD]
    state.halves[half, BEFORE] = NONE
    state.halves[half, AFTER] = first
    if first != NONE:
        state.halves[first, BEFORE] = half
    state.slots[s, HEAD] = half
    state.slots[s, DEGREE] += 1


@borrower
def list_remove(state: State, half: int) -> None:
    """Take a half-edge out of the list of its slot."""
    s, left, right = state.halves[half, SLOT], state.halves[half, BEFORE], state.halves[half, AFTER]
    if left == NONE:
        state.slots[s, HEAD] = right
    else:
        state.halves[left, AFTER] = right
    if right != NONE:
        state.halves[right, BEFORE] = left
    state.slots[s, DEGREE] -= 1


@borrower
def less(state: State, heap: int, x: int, y: int) -> bool:
    """Return whether edge `x` comes before `y` in a heap of that kind."""
    if heap == STALE:
        return state.values[x, KEY] < state.values[y, KEY]
    if heap == FRESH and state.values[x, SIMILARITY] != state.values[y, SIMILARITY]:
        return state.values[x, SIMILARITY] > state.values[y, SIMILARITY]
    return other_node(state, x) < other_node(state, y)


@borrower
def link(state: State, heap: int, x: int, y: int) -> int:
    """Join two pairing heaps by their roots; return the root."""
    if less(state, heap, y, x):
        x, y = y, x
    first = state.edges[x, CHILD]
    state.edges[y, SIBLING] = first
    if first != NONE:
        state.edges[first, PREVIOUS] = y
    state.edges[y, PREVIOUS] = x
    state.edges[x, CHILD] = y
    return x


@borrower
def push(state: State, s: int, heap: int, edge: int) -> None:
    """Put `edge` into a heap of slot `s`."""
    state.edges[edge, HEAP] = heap
    state.edges[edge, CHILD] = NONE
    state.edges[edge, SIBLING] = NONE
    state.edges[edge, PREVIOUS] = NONE
    root = state.slots[s, ROOTS + heap]
    state.slots[s, ROOTS + heap] = edge if root == NONE else link(state, heap, root, edge)


@borrower
def remove(state: State, edge: int) -> None:
    """Take `edge` out of the heap it lies in."""
    s, heap = state.edges[edge, OWNER], state.edges[edge, HEAP]
    rest = join_children(state, heap, edge)
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
        state.slots[s, ROOTS + heap] = link(state, heap, state.slots[s, ROOTS + heap], rest)


@borrower
def join_children(state: State, heap: int, edge: int) -> int:
    """Join the children of a heap node pairwise, left to right, then right to left."""
    node = state.edges[edge, CHILD]
    pairs = NONE
    while node != NONE:
        second = state.edges[node, SIBLING]
        following = NONE
        root = node
        if second != NONE:
            following = state.edges[second, SIBLING]
            root = link(state, heap, node, second)
        state.edges[root, SIBLING] = pairs
        pairs = root
        node = following
    root = NONE
    while pairs != NONE:
        following = state.edges[pairs, SIBLING]
        root = pairs if root == NONE else link(state, heap, root, pairs)
        pairs = following
    if root != NONE:
        state.edges[root, SIBLING] = NONE
        state.edges[root, PREVIOUS] = NONE
    return root

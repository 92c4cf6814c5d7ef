"""A graph of branches -> lines: straight on at crossings, over gaps, round to where they began.

Limits: at a crossing of three lines or more in one place the pairing is greedy, straightest pair first.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from .graph import (
    Branch,
    Node,
    cut_spurs,
    heading,
    length_of,
    merge_crossings,
    sharpen,
    skeleton_graph,
    turn_of,
)
from .ink import Ink

STRAIGHT = math.radians(75)  # a line that turns more at a crossing ends there ...
CORNER = math.radians(140)  # ... unless only two branches are left, which then make a corner
WIDEST = 0.1  # of the picture's longer side: no wider gap is closed
FACING = math.radians(60)  # ends that look farther past each other than this are no gap


def trace_lines(ink: Ink, *, bridge: float, most: int) -> list[np.ndarray]:
    """Lines (n, 2) as x, y in pixels, centres of pixels at whole numbers; a closed one ends as it begins.

    One point is a dot. Gaps of up to `bridge` pixels between ends that face each other are closed, of at most
    WIDEST. More than `most` lines, counted before, are a ValueError.
    """
    branches, nodes = skeleton_graph(ink)
    dots = [node.centre[None] for node in nodes if not node.at]  # blots thinned to a small cross
    sharpen(branches, nodes, ink.width)  # before its tip is taken for a hair
    cut_spurs(branches, nodes, ink)
    sharpen(branches, nodes, ink.width)
    nodes = merge_crossings(branches, nodes, ink)
    partners = _pair(nodes, ink.width)
    lines = [
        line
        for line, attached in _walk(branches, partners)
        if not attached or length_of(line) > ink.width  # else what is left between two crossings
    ]
    if len(lines) + len(dots) > most:
        raise ValueError(
            f"the picture holds {len(lines) + len(dots)} lines, wanted at most {most}: this is texture or a "
            f"photo, not a drawing. Raise threshold, or find its edges first (a line art preprocessor)."
        )
    lines = _bridge(lines, min(bridge, WIDEST * max(ink.mask.shape)), ink.width)
    return [_dot(line) if length_of(line) <= _dot_size(line, ink) else line for line in lines] + dots


def _dot(line: np.ndarray) -> np.ndarray:
    return line.mean(0, keepdims=True)


def _dot_size(line: np.ndarray, ink: Ink) -> float:
    x, y = np.rint(line[len(line) // 2]).astype(int)
    return max(ink.width, 1.2 * float(ink.radius[y, x]))


def _pair(nodes: list[Node], width: float) -> dict:
    """(branch, end) -> (branch, end) where a line goes on, both ways."""
    partners = {}
    reach = 3 * width + 3
    for node in nodes:
        ends = list(node.at)
        turns = sorted(
            (turn_of(one, two, (node.radius, node.radius), reach), i, j)
            for i, one in enumerate(ends)
            for j, two in enumerate(ends[:i])
        )
        free = set(range(len(ends)))
        for turn, i, j in turns:
            few = len(free) == 2
            if (
                i in free
                and j in free
                and turn <= (math.inf if len(ends) == 2 else CORNER if few else STRAIGHT)
            ):
                free -= {i, j}
                partners[ends[i]], partners[ends[j]] = ends[j], ends[i]
    return partners


def _walk(branches: dict[Branch, None], partners: dict) -> Iterator[tuple[np.ndarray, bool]]:
    """Lines, and whether they touch a crossing."""
    todo = dict.fromkeys(sorted(branches, key=lambda b: tuple(b.points[0])))
    for closed in (False, True):
        for start in list(todo):
            if start not in todo:
                continue
            if start.ends == [None, None]:
                del todo[start]
                yield start.points, False
                continue
            begin = next((end for end in (0, 1) if (start, end) not in partners), 0 if closed else None)
            if begin is None:
                continue
            pieces, here = [], (start, begin)
            if not closed and start.ends[begin] is not None:
                pieces.append(_meeting(start, begin)[None])
            while True:
                branch, end = here
                todo.pop(branch, None)
                pieces.append(_trimmed(branch)[:: 1 if end == 0 else -1])
                last = (branch, 1 - end)
                if last not in partners:
                    if branch.ends[1 - end] is not None:
                        pieces.append(_meeting(*last)[None])
                    break
                here = partners[last]
                if len(branch.ends[1 - end].at) == 2:
                    pieces.append(branch.ends[1 - end].centre[None])
                if here[0] not in todo:
                    pieces.append(pieces[0][:1])
                    break
            yield np.concatenate(pieces), True


def _trimmed(branch: Branch) -> np.ndarray:
    """The points outside of the crossings' own ink; the middle one if there are none."""
    keep = np.ones(len(branch.points), bool)
    for node in branch.ends:
        if node is not None and len(node.at) > 2:
            distance = np.hypot(*(branch.points[:, None] - node.pixels[None]).transpose(2, 0, 1)).min(1)
            keep &= distance > node.radius
    return branch.points[keep] if keep.any() else branch.points[[len(branch.points) // 2]]


def _meeting(branch: Branch, end: int) -> np.ndarray:
    """Where a line that ends at a crossing meets it: the pixel of the crossing that it points at."""
    node = branch.ends[end]
    p, u = heading(branch, end, node.radius / 2, 3 * node.radius + 3)
    away = node.pixels - p
    off = np.abs(away[:, 0] * u[1] - away[:, 1] * u[0])
    return node.pixels[int((off + 0.1 * np.hypot(*away.T)).argmin())]


def _bridge(lines: list[np.ndarray], gap: float, width: float) -> list[np.ndarray]:
    """Joins lines whose ends face each other over at most `gap` pixels, nearest and straightest first."""
    from scipy.spatial import cKDTree

    ends = [
        (i, end)
        for i, line in enumerate(lines)
        if len(line) > 1 and not np.array_equal(line[0], line[-1])
        for end in (0, 1)
    ]
    if gap <= 0 or len(ends) < 2:
        return lines
    places, ways = [], []
    for i, end in ends:
        p, u = heading(Branch(lines[i], [None, None]), end, 0, 4 * width + 3)
        places.append(lines[i][0 if end == 0 else -1])
        ways.append(u)
    places, ways = np.array(places), np.array(ways)
    offers = []
    owner, tree = np.array([i for i, _ in ends]), cKDTree(places)
    for a, (i, _) in enumerate(ends):
        near = np.array(tree.query_ball_point(places[a], gap))
        near = near[near > a]
        if len(lines[i]) < 3 * gap:
            near = near[owner[near] != i]
        across = places[near] - places[a]
        distance = np.hypot(*across.T)
        turn = np.where(
            distance < 1,
            _angles(ways[a], -ways[near]),
            np.maximum(_angles(ways[a], across), _angles(-ways[near], across)),
        )
        facing = turn < FACING
        scores = distance[facing] * (1 + 2 * turn[facing])
        offers += zip(scores.tolist(), [a] * len(scores), near[facing].tolist(), strict=True)
    joined = {}
    for _, a, b in sorted(offers):
        if a not in joined and b not in joined:
            joined[a], joined[b] = b, a
    return _chain(lines, ends, joined)


def _angles(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """(K,) radians between vectors u and v, (2,) or (K, 2)."""
    return np.abs(np.arctan2(u[..., 0] * v[..., 1] - u[..., 1] * v[..., 0], (u * v).sum(-1)))


def _chain(lines: list[np.ndarray], ends: list[tuple[int, int]], joined: dict[int, int]) -> list[np.ndarray]:
    number = {key: k for k, key in enumerate(ends)}
    linked = {ends[a]: ends[b] for a, b in joined.items()}
    result, used = [], set()
    for closed in (False, True):
        for i in range(len(lines)):
            if i in used:
                continue
            free = [end for end in (0, 1) if (i, end) not in linked]
            if not free and not closed:
                continue
            pieces, here = [], (i, free[0] if free else 0)
            while True:
                used.add(here[0])
                pieces.append(lines[here[0]][:: 1 if here[1] == 0 else -1])
                last = (here[0], 1 - here[1])
                if last not in number or last not in linked:
                    break
                here = linked[last]
                if here[0] in used:
                    pieces.append(pieces[0][:1])
                    break
            result.append(np.concatenate(pieces))
    return result

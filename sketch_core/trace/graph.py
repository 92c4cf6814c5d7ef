"""A skeleton -> a tidy graph: branches between crossings, without the hairs that thinning leaves.

The skeleton is least to be trusted near a crossing: it bends towards the other line, and two lines that cross
at a small angle share it for a while. Crossings whose inks overlap, and those at the two ends of a stretch
that two lines share, become one.

Limits: a needle (two lines that meet in a thin point) keeps its tip only where its lines turn back sharply.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from .ink import Ink

NEEDLE = math.radians(50)  # two lines at a smaller angle run as one for a while
MAX_CROSSINGS = 6000  # more are texture, not a drawing
SLACK = 1.4  # how much longer than geometry says


@dataclass(eq=False)
class Branch:
    """A chain of pixels between two crossings.

    points (n, 2) as x, y; ends[0] is the node at points[0], ends[1] that at points[-1], None where none is.
    """

    points: np.ndarray
    ends: list

    def length(self) -> float:
        return length_of(self.points)

    def away(self, end: int) -> np.ndarray:
        """The points beginning at that end."""
        return self.points if end == 0 else self.points[::-1]


@dataclass(eq=False)
class Node:
    """A crossing: its pixels (n, 2) as x, y, and the radius of the ink there."""

    pixels: np.ndarray
    radius: float
    at: list = field(default_factory=list)  # (branch, which end of it)

    @property
    def centre(self) -> np.ndarray:
        return self.pixels.mean(0)


def length_of(line: np.ndarray) -> float:
    return float(np.hypot(*np.diff(line, axis=0).T).sum())


def skeleton_graph(ink: Ink) -> tuple[dict[Branch, None], list[Node]]:
    """Branches, in an order that only the picture sets, and crossings; some of these without branches."""
    from scipy import ndimage

    skeleton = ink.skeleton
    eight = np.ones((3, 3))
    neighbours = ndimage.convolve(skeleton.astype(np.uint8), eight.astype(np.uint8), mode="constant")
    crossing = skeleton & (neighbours > 3)  # the pixel itself is counted
    labels, count = ndimage.label(crossing, eight)
    rows, columns = np.nonzero(crossing)
    order = np.argsort(labels[rows, columns], kind="stable")
    rows, columns = rows[order], columns[order]
    starts = np.searchsorted(labels[rows, columns], np.arange(1, count + 2))
    if count > MAX_CROSSINGS:
        raise ValueError(
            f"the picture holds {count} crossings, wanted at most {MAX_CROSSINGS}: this is texture, "
            f"not a drawing. Raise threshold, or find its edges first (a line art preprocessor)."
        )
    nodes = []
    for first, last in zip(starts[:-1], starts[1:], strict=True):
        pixels = np.stack([columns[first:last], rows[first:last]], 1).astype(float)
        nodes.append(Node(pixels, float(ink.radius[rows[first:last], columns[first:last]].max())))
    branches = {}
    for chain, touched in _chains(skeleton & ~crossing, labels):
        ends = [nodes[label - 1] if label else None for label in touched]
        branch = Branch(chain, ends)
        branches[branch] = None
        for end, node in enumerate(ends):
            if node is not None:
                node.at.append((branch, end))
    return branches, nodes


def _chains(pixels: np.ndarray, labels: np.ndarray) -> Iterator[tuple[np.ndarray, list[int]]]:
    """Paths through `pixels`, each with the labels of the crossings that its two ends touch (0: none).

    A loop that touches no crossing repeats its first pixel at its end.
    """
    padded = np.pad(labels, 1)
    width = padded.shape[1]
    around = [-width, -1, 1, width, -width - 1, -width + 1, width - 1, width + 1]  # straight steps first
    flat = padded.ravel()
    todo = set(np.flatnonzero(np.pad(pixels, 1)).tolist())
    degree = {p: sum(p + step in todo for step in around) for p in todo}

    def walk(start: int) -> list[int]:
        path = [start]
        todo.discard(start)
        while True:
            following = next((path[-1] + step for step in around if path[-1] + step in todo), None)
            if following is None:
                return path
            todo.discard(following)
            path.append(following)

    for closed in (False, True):
        for start in sorted(todo):
            if start not in todo or (degree[start] > 1 and not closed):
                continue
            path = walk(start)
            if closed:
                touched = [0, 0]
                path.append(path[0])
            elif len(path) == 1:
                near = list(dict.fromkeys(int(flat[path[0] + s]) for s in around if flat[path[0] + s]))
                touched = (near + [0, 0])[:2]
            else:
                touched = [
                    next((int(flat[p + s]) for s in around if flat[p + s]), 0) for p in (path[0], path[-1])
                ]
            y, x = np.divmod(np.array(path), width)
            yield np.stack([x - 1, y - 1], 1).astype(float), touched


# --- tidying


def _remove(branch: Branch, branches: dict[Branch, None]) -> None:
    branches.pop(branch, None)
    for node in branch.ends:
        if node is not None:
            node.at = [(other, end) for other, end in node.at if other is not branch]


def cut_spurs(branches: dict[Branch, None], nodes: list[Node], ink: Ink) -> None:
    """Removes the hairs that thinning leaves on bumps of a thick line: they end where the ink does."""
    while True:
        spurs = []
        for branch in branches:
            if (branch.ends[0] is None) == (branch.ends[1] is None):
                continue
            end = 0 if branch.ends[0] is not None else 1
            node = branch.ends[end]
            reach = float(np.hypot(*(branch.away(end)[-1] - node.centre)))
            if reach <= 1.5 * node.radius + 1 and len(node.at) > 2:
                spurs.append((reach, len(spurs), branch, node))
        if not spurs:
            return
        touched = set()
        for _, _, branch, node in sorted(spurs, key=lambda spur: spur[:2]):
            if node not in touched:  # of two hairs at one node the shorter goes; look again before the next
                touched.add(node)
                _remove(branch, branches)
        for node in touched:
            _join_through(node, branches)


def _join_through(node: Node, branches: dict[Branch, None]) -> None:
    """Two branches that a node no longer keeps apart become one."""
    if len(node.at) != 2 or node.at[0][0] is node.at[1][0]:
        return
    (first, a), (second, b) = node.at
    middle = node.pixels[[int(np.hypot(*(node.pixels - node.centre).T).argmin())]]
    points = np.concatenate([first.away(a)[::-1], middle, second.away(b)])
    _join((first, a), (second, b), points, branches)


def _join(one, two, points: np.ndarray, branches: dict[Branch, None]) -> None:
    (first, a), (second, b) = one, two
    joined = Branch(points, [first.ends[1 - a], second.ends[1 - b]])
    _remove(first, branches)
    _remove(second, branches)
    branches[joined] = None
    for end, other in enumerate(joined.ends):
        if other is not None:
            other.at.append((joined, end))


def merge_crossings(branches: dict[Branch, None], nodes: list[Node], ink: Ink) -> list[Node]:
    """Crossings whose inks overlap, or that two lines run through side by side, become one."""
    for branch in sorted(branches, key=Branch.length):
        a, b = branch.ends
        if a is None or b is None or branch not in branches:
            continue
        if a is b:
            if branch.length() <= 2 * a.radius:
                _remove(branch, branches)
            continue
        apart = float(np.hypot(*(a.centre - b.centre)))
        if apart <= max(a.radius, b.radius) or _run_together(branch, a, b, ink.width):
            _remove(branch, branches)
            a.pixels = np.concatenate([a.pixels, branch.points, b.pixels])
            a.radius = max(a.radius, b.radius)
            for other, end in b.at:
                other.ends[end] = a
                a.at.append((other, end))
            b.at = []
    return [node for node in nodes if node.at]


def _run_together(branch: Branch, a: Node, b: Node, width: float) -> bool:
    """Is this the stretch that two lines share where they cross at a small angle?"""
    if len(a.at) != 3 or len(b.at) != 3:
        return False
    left = [other for other in a.at if other[0] is not branch]
    right = [other for other in b.at if other[0] is not branch]
    if len(left) != 2 or len(right) != 2:
        return False
    reach = 3 * width + 2
    angle = max(math.pi - bend_of(*left, reach), math.pi - bend_of(*right, reach))
    if angle > math.radians(80) or branch.length() > 2 * _one_line(angle, width):
        return False

    def turn(one, two):
        return turn_of(one, two, (a.radius, b.radius), reach)

    crossing = turn(left[0], right[0]), turn(left[1], right[1])
    other = turn(left[0], right[1]), turn(left[1], right[0])
    return min(max(crossing), max(other)) < math.radians(40)


def _one_line(angle: float, width: float) -> float:
    """How far from the point where two lines meet at that angle their inks part, with some slack."""
    return SLACK * width / (2 * math.sin(max(angle, 0.1) / 2)) + width


def sharpen(branches: dict[Branch, None], nodes: list[Node], width: float) -> None:
    """A thin point, where two lines run as one up to its tip, becomes one line to the tip and back."""
    reach = 3 * width + 3
    for node in nodes:
        free = [(branch, end) for branch, end in node.at if branch.ends[1 - end] is None]
        if len(node.at) != 3 or not free:
            continue
        tip, end = point = min(free, key=lambda at: at[0].length())
        one, two = (at for at in node.at if at != point)
        if one[0] is two[0]:
            continue
        angle = math.pi - bend_of(one, two, reach)
        turns = [turn_of(side, point, (node.radius, node.radius), reach) for side in (one, two)]
        if angle < NEEDLE and tip.length() <= _one_line(angle, width) and max(turns) < math.radians(50):
            corner = tip.away(end)[-1:]
            sides = [branch.away(at) for branch, at in (one, two)]
            cut = [side[min(round(node.radius), len(side) - 1) :] for side in sides]
            _remove(tip, branches)
            _join(one, two, np.concatenate([cut[0][::-1], corner, cut[1]]), branches)


def heading(branch: Branch, end: int, skip: float, reach: float) -> tuple[np.ndarray, np.ndarray]:
    """Where the line stands and which way it goes as it comes to that end: a point, a unit vector.

    The last `skip` pixels are not looked at, the `reach` before them are.
    """
    points = branch.away(end)
    along = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(points, axis=0).T))])
    skip = min(skip, along[-1] / 2)
    seen = points[(along >= skip) & (along <= skip + reach)]
    if len(seen) < 2:
        seen = points[-2:] if len(points) > 1 else points
    if len(seen) < 2:
        return seen[0], np.zeros(2)
    half = len(seen) // 2
    way = seen[:half].mean(0) - seen[half:].mean(0)
    return seen[0], way / max(float(np.hypot(*way)), 1e-9)


def angle_between(u: np.ndarray, v: np.ndarray) -> float:
    return abs(math.atan2(u[0] * v[1] - u[1] * v[0], float(u @ v)))


def turn_of(one, two, skips: tuple[float, float], reach: float) -> float:
    """How much a line turns, in radians, that comes along `one`, crosses over and leaves along `two`."""
    p, u = heading(*one, skips[0] / 2, reach)
    q, v = heading(*two, skips[1] / 2, reach)
    across = q - p
    if not u.any() or not v.any():
        return math.pi / 2
    if float(np.hypot(*across)) < 2:
        return angle_between(u, -v)
    return angle_between(u, across) + angle_between(across, -v)


def bend_of(one, two, reach: float) -> float:
    return angle_between(heading(*one, 1, reach)[1], -heading(*two, 1, reach)[1])

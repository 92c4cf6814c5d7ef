"""`python -m sketch_core evaluate repairs`: what rectify, heal and complete give back of damaged drawings.

Real drawings of a split are damaged and mended; a judge that took no part in it names them clean, damaged and
mended. What share of the lost recognition comes back is (after - before) / (clean - before).

  rectify   every point of a drawing is displaced by a normal deviate of LEVEL x K x 255 units on each axis.
            Nobody says what it shows ("guessed"), or its class is told ("told").
  heal      each point is lost with that probability; lines end before lost points and begin again after.
  complete  only the first half of the strokes is there, of drawings of two and more.

Chamfer: how far the pixels of line of two fitted drawings lie from one another, in pixels of 64, both ways
averaged. "own" is the share of the other mended drawings of its class that are farther from a mended drawing
than its own original is.

Limits: points displaced independently are not how a hand shakes; halves are by the number of strokes. Heal is
told which points of which stroke are lost, and so how many there were, but not where they lay.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from ..arguments import Parser
from ..data.damage import displaced, half
from ..data.dataset import StrokeDataset, class_name, read_class
from ..data.records import replacing
from ..lost import broken, by_chance
from ..metrics.intervals import bootstrap_interval
from ..raster import contact_sheet, rasterize
from ..recognizer import Recognizer, load_recognizer
from ..strokes import QUICKDRAW_CANVAS, Sketch
from .classes import choose_classes
from .protocol import judge_note

K = 0.24  # of the canvas: at level 50 % it leaves 8 % of 840 validation drawings recognized
LEVELS = (0.0, 0.1, 0.2, 0.3, 0.5)
LOST = (0.1, 0.3)
JUDGE = "judge"
PIXELS = 64
VERBS = ("rectify", "heal", "complete")


def unlabelled(sketch: Sketch) -> Sketch:
    """The same drawing; nobody says what it shows."""
    return dataclasses.replace(sketch, label=None)


class Damaged:
    """Real drawings of one split, and a judge of them.

    sketches  drawings, labelled;  targets (B,) where their classes stand in the judge's list.
    """

    def __init__(self, sketches: Sequence[Sketch], judge: Recognizer, seed: int = 0) -> None:
        self.sketches, self.judge, self.seed = list(sketches), judge, seed
        if not self.sketches:
            raise ValueError("there is no drawing to damage, wanted at least one. Raise --count.")
        if unknown := sorted({str(one.label) for one in self.sketches} - set(judge.classes)):
            raise ValueError(
                f"the judge does not know {', '.join(unknown)}, so it cannot tell what comes back. "
                f"Leave that out of --classes, or choose another --judge."
            )
        self.targets = np.array([judge.classes.index(sketch.label) for sketch in sketches])
        self.clean = self.right(sketches)

    def right(self, sketches: Sequence[Sketch]) -> np.ndarray:
        """(B,) bool, which the judge gives their class."""
        return self.judge.scores(sketches).argmax(1) == self.targets

    def rng(self, i: int) -> np.random.Generator:
        """The same damage to drawing i, whatever else is measured."""
        return np.random.default_rng([self.seed, i])

    def told(self, sketches: Sequence[Sketch]) -> list[Sketch]:
        """The same drawings with their true classes."""
        return [
            dataclasses.replace(sketch, label=own.label)
            for sketch, own in zip(sketches, self.sketches, strict=True)
        ]

    def report(self, before: Sequence[Sketch], guessed: Sequence[Sketch], told: Sequence[Sketch]) -> dict:
        """Figures of drawings before and after, in shares; intervals are over drawings, the same in all."""
        was = self.right(before)
        found = {"count": len(was), "before": was.mean(), "clean": self.clean.mean()}
        found["named"] = np.mean([a.label == b.label for a, b in zip(guessed, self.sketches, strict=True)])
        for name, after in (("guessed", guessed), ("told", told)):
            now = self.right(after)
            found |= {name: now.mean(), f"{name}_share": returned(self.clean, was, now)}
            found[f"{name}_gained"] = bootstrap_interval(now.astype(float) - was)
        return found


def returned(clean: np.ndarray, before: np.ndarray, after: np.ndarray) -> float:
    """What share of the recognition that was lost is back, of three (B,) of bool; nan where none was lost."""
    lost = clean.mean() - before.mean()
    return float((after.mean() - before.mean()) / lost) if lost > 0 else float("nan")


def rectified(damaged: Damaged, model, level: float, **options) -> tuple[dict, dict[str, list[Sketch]]]:
    """Figures and drawings of `rectify` at one level of displacement."""
    from ..rectifier import rectify

    far = level * K * QUICKDRAW_CANVAS[0]
    rough = [unlabelled(displaced(one, far, damaged.rng(i))) for i, one in enumerate(damaged.sketches)]
    guessed = rectify(model, rough, **options)
    told = rectify(model, damaged.told(rough), **options)
    found = {"level": level, **damaged.report(rough, guessed, told)}
    for name, after in (("guessed", guessed), ("told", told)):
        to_own, own = nearness(after, damaged.sketches)
        found |= {f"{name}_own": own, f"{name}_to_original": to_own}
        found[f"{name}_to_given"] = nearness(after, rough)[0]
    found["before_to_original"] = nearness(rough, damaged.sketches)[0]
    return found, {"clean": damaged.sketches, "rough": rough, "guessed": guessed, "told": told}


def healed(damaged: Damaged, model, share: float, **options) -> tuple[dict, dict[str, list[Sketch]]]:
    """Figures and drawings of `heal` with a share of the points lost."""
    from ..redraw import heal

    marked = [by_chance(sketch, share, damaged.rng(i)) for i, sketch in enumerate(damaged.sketches)]
    left = [unlabelled(broken(*one)) for one in marked]
    masks = [masks for _, masks in marked]
    blank = [blanked(*one) for one in marked]
    guessed = heal(model, blank, lost=masks, **options)
    told = heal(model, damaged.told(blank), lost=masks, **options)
    found = {"level": share, **damaged.report(left, guessed, told)}
    return found, {"clean": damaged.sketches, "rough": left, "guessed": guessed, "told": told}


def completed(damaged: Damaged, model, **options) -> tuple[dict, dict[str, list[Sketch]]]:
    """Figures and drawings of `complete` from the first half of the strokes."""
    from ..redraw import complete

    halves = [unlabelled(half(sketch)) for sketch in damaged.sketches]
    guessed = complete(model, halves, **options)
    told = complete(model, damaged.told(halves), **options)
    found = {"level": 0.5, **damaged.report(halves, guessed, told)}
    kept = [
        all(np.array_equal(a, b) for a, b in zip(one.strokes, given.strokes, strict=False))
        for given, after in ((halves, guessed), (halves, told))
        for one, given in zip(after, given, strict=True)
    ]
    found["prefix_exact"] = np.mean(kept)
    return found, {"clean": damaged.sketches, "rough": halves, "guessed": guessed, "told": told}


def blanked(sketch: Sketch, lost: Sequence[np.ndarray]) -> Sketch:
    """The drawing with nothing left of where its lost points were; nobody says what it shows.

    They lie evenly on the line from the last point that stays to the next one of the stroke, and on the one
    where there is but one; where there is none, on the last point that stays of strokes before, or else the
    first of all. So bounds, and the length and the bends of what is lost, are those of what stays.
    """
    stays = np.concatenate([stroke[~mask] for stroke, mask in zip(sketch.strokes, lost, strict=True)])
    nearest, strokes = stays[0], []
    for stroke, mask in zip(sketch.strokes, lost, strict=True):
        at, left = np.arange(len(stroke)), np.flatnonzero(~mask)
        if len(left):
            points = np.stack([np.interp(at, left, stroke[left, axis]) for axis in (0, 1)], 1)
            points[left], nearest = stroke[left], stroke[left[-1]]
        else:
            points = np.tile(nearest, (len(stroke), 1))
        strokes.append(points)
    return dataclasses.replace(sketch, strokes=tuple(strokes), label=None)


# ---- how near drawings are -------------------------------------------------------------------------


def nearness(drawn: Sequence[Sketch], originals: Sequence[Sketch]) -> tuple[float, float]:
    """Mean Chamfer distance of drawings from their originals, and the mean share of the other drawings of
    the same original's class that are farther from a drawing than its own original is."""
    ours, theirs = pixels(drawn), pixels(originals)
    labels = np.array([original.label or "" for original in originals])
    own = np.array([chamfer(a, b) for a, b in zip(ours, theirs, strict=True)])
    farther = [
        np.mean([chamfer(ours[i], ours[j]) > own[i] for j in np.flatnonzero(labels == labels[i]) if j != i])
        for i in range(len(ours))
        if (labels == labels[i]).sum() > 1 and labels[i]
    ]
    return float(own.mean()), float(np.mean(farther)) if farther else float("nan")


def pixels(sketches: Sequence[Sketch]) -> list[np.ndarray]:
    """Of each drawing, fitted, the places (n, 2) of its pixels of line."""
    ink = rasterize(sketches, PIXELS, line_width=1.0)
    return [np.argwhere(one > 0.5 * one.max()).astype(np.float32) for one in ink]


def chamfer(a: np.ndarray, b: np.ndarray) -> float:
    """The mean of both ways' mean distance from each place (n, 2) to the nearest of the other's (m, 2)."""
    square = (a**2).sum(1)[:, None] + (b**2).sum(1)[None] - 2 * a @ b.T
    return float(sum(np.sqrt(np.maximum(square.min(axis), 0)).mean() for axis in (0, 1)) / 2)


# ---- the command -----------------------------------------------------------------------------------


def parser() -> argparse.ArgumentParser:
    p = Parser(
        prog="python -m sketch_core evaluate repairs",
        description="Damages real drawings, mends them, and asks a judge what came back.",
    )
    p.add_argument("--data", type=Path, required=True, help="folder of Quick, Draw! .npz files")
    p.add_argument("--model", default="default", help="name or .safetensors file (default: embedded)")
    p.add_argument("--judge", default=JUDGE, help="recognizer that took no part: name or .safetensors file")
    p.add_argument("--classes", default="deep", help="deep, paper, all, or a comma list (default: deep)")
    p.add_argument("--count", type=int, default=5, help="drawings of each class (default 5)")
    p.add_argument("--split", choices=["valid", "test"], default="test", help="which drawings (default test)")
    p.add_argument("--verbs", default=",".join(VERBS), help=f"some of {', '.join(VERBS)} (default: all)")
    p.add_argument("--levels", default=_text(LEVELS), help=f"of displacement (default {_text(LEVELS)})")
    p.add_argument("--lost", default=_text(LOST), help=f"shares of lost points (default {_text(LOST)})")
    p.add_argument("--strength", type=float, default=0.5, help="of rectify (default 0.5)")
    p.add_argument("--guidance", type=float, help="how strongly the class is followed")
    p.add_argument("--steps", type=int, help="denoising steps")
    p.add_argument("--sampler", help="ddim, ddpm, heun or dpmpp_2m")
    p.add_argument(
        "--seed", type=int, default=0, help="of the choice, the damage and the drawing (default 0)"
    )
    p.add_argument("--out", type=Path, help="JSON file to write the figures to")
    p.add_argument("--sheets", type=Path, metavar="DIR", help="folder for PNGs: clean, damaged, mended, told")
    p.add_argument("--force", action="store_true", help="overwrite those files")
    return p


def main(argv: Sequence[str]) -> int:
    """Prints one table a verb."""
    from ..knitter import load

    p = parser()
    args = p.parse_args(list(argv))
    verbs = [verb for verb in args.verbs.split(",") if verb]
    if unknown := [verb for verb in verbs if verb not in VERBS]:
        p.error(f"unknown verb {unknown[0]!r}. Known: {', '.join(VERBS)}")
    if args.out is not None and args.out.exists() and not args.force:
        raise ValueError(f"{args.out} exists already. Add --force to overwrite it, or choose another name.")
    levels, lost = (_numbers(p, text) for text in (args.levels, args.lost))
    judge, model = load_recognizer(args.judge), load(args.model)
    known = [class_name(path) for path in sorted(args.data.glob("*.npz"))]
    classes = choose_classes(args.classes, known)
    sketches = chosen(args.data, classes, args.split, args.count, args.seed)
    damaged = Damaged(sketches, judge, args.seed)
    options = {"steps": args.steps, "guidance": args.guidance, "sampler": args.sampler, "seed": args.seed}
    runs: list[tuple[str, Callable]] = []
    if "rectify" in verbs:
        own = {"strength": args.strength, **options}
        runs += [("rectify", lambda at=at: rectified(damaged, model, at, **own)) for at in levels]
    if "heal" in verbs:
        runs += [("heal", lambda at=at: healed(damaged, model, at, **options)) for at in lost]
    if "complete" in verbs:
        several = [one for one in sketches if len(one.strokes) > 1]
        if not several:
            raise ValueError(
                f"none of the {len(sketches)} drawings has two strokes, so none can be halved. Raise "
                f"--count, choose other --classes, or leave complete out of --verbs."
            )
        some = Damaged(several, judge, args.seed)
        runs.append(("complete", lambda: completed(some, model, **options)))
    note, weights = judge_note(args.judge), judge_note(args.model)
    sys.stdout.write(
        f"model {weights['file']}, sha256 {weights['sha256'][:16]}\n"
        f"judge {note['file']}, sha256 {note['sha256'][:16]}\n"
        f"{len(sketches)} {args.split} drawings of {len(classes)} classes, seed {args.seed}; K {K:g}\n" + HEAD
    )
    report = []
    for verb, run in runs:
        found, drawings = run()
        found = {"verb": verb} | {name: _plain(value) for name, value in found.items()}
        report.append(found)
        sys.stdout.write(line(found))
        sys.stdout.flush()
        if args.sheets is not None:
            _sheet(args, drawings, f"{verb}-{round(100 * found['level']):02d}.png")
    if args.out is not None:
        told = {
            "model": weights,
            "settings": {"strength": args.strength, **options},
            "judge": note,
            "split": args.split,
            "classes": classes,
            "count": args.count,
            "k": K,
        }
        with replacing(args.out) as file:
            file.write((json.dumps({**told, "seed": args.seed, "runs": report}, indent=1) + "\n").encode())
    return 0


def chosen(data: Path, classes: Sequence[str], split: str, count: int, seed: int) -> list[Sketch]:
    """`count` drawings of each class, fewer where there are fewer; the choice of a class is its own."""
    files = {class_name(path): path for path in sorted(Path(data).glob("*.npz"))}
    sketches = []
    for c, name in enumerate(classes):
        rows = read_class(files[name])[split]
        if not rows:
            raise ValueError(f"{data} holds no {split} drawings of {name}. Leave that class out.")
        found = StrokeDataset.from_rows(rows, [0] * len(rows), (name,))
        order = np.random.default_rng([seed, c]).permutation(len(rows))
        sketches += [found.sketch(i) for i in sorted(order[:count])]
    return sketches


HEAD = (
    "verb      level  before  guessed    told   clean   gap back: guessed  told   named right   "
    "own nearer: guessed  told   to original: before  guessed  told   to given: guessed  told\n"
)


def line(found: dict) -> str:
    """A line of the table, shares in percent."""

    def percent(name: str, width: int) -> str:
        value = found.get(name)
        return " " * width if value is None or np.isnan(value) else f"{100 * value:{width}.1f}"

    text = f"{found['verb']:9}{100 * found['level']:5.0f}%"
    text += percent("before", 8) + percent("guessed", 9) + percent("told", 8) + percent("clean", 8)
    text += percent("guessed_share", 20) + percent("told_share", 6) + percent("named", 14)
    text += percent("guessed_own", 22) + percent("told_own", 6)
    if "before_to_original" in found:
        text += f"{found['before_to_original']:23.2f}{found['guessed_to_original']:9.2f}"
        text += (
            f"{found['told_to_original']:6.2f}{found['guessed_to_given']:20.2f}{found['told_to_given']:6.2f}"
        )
    return text + "\n"


def _sheet(args: argparse.Namespace, drawings: dict[str, list[Sketch]], name: str) -> None:
    """A PNG of the first drawing of each class: clean, damaged, mended, and mended when told."""
    first, cells, captions = set(), [], []
    for i, clean in enumerate(drawings["clean"]):
        if clean.label not in first:
            first.add(clean.label)
            cells += [drawings[key][i] for key in drawings]
            captions += [clean.label, "", drawings["guessed"][i].label or "", "told"]
    args.sheets.mkdir(parents=True, exist_ok=True)
    with replacing(args.sheets / name) as file:
        contact_sheet(cells, columns=8, cell=128, captions=captions).save(file, format="PNG")


def _plain(value):
    return tuple(map(float, value)) if isinstance(value, tuple) else float(value)


def _text(numbers: Sequence[float]) -> str:
    return ",".join(f"{value:g}" for value in numbers)


def _numbers(p: argparse.ArgumentParser, text: str) -> list[float]:
    try:
        found = [float(part) for part in text.split(",") if part.strip()]
    except ValueError:
        p.error(f"{text!r} is no list of numbers. Write 0,0.1,0.3")
    if not all(0 <= value <= 1 for value in found):
        p.error(f"{text!r} has a number beyond 0 to 1")
    return found

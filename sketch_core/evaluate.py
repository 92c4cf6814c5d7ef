"""The protocol: draw, name, measure, and put every figure beside what real drawings get.

Three sets of drawings, the same number of each class in each:
  fake   drawn by the model;
  test   real, of the test split, which neither model nor recognizer has seen;
  floor  real, of the valid split: what a perfect model would get against test at this sample size.
Recognition is the share of drawings that the recognizer gives their class, averaged over classes. Precision,
recall (k = 3), FID and KID compare test with fake, and test with floor, on the recognizer's features, all
classes together. Strokes, ink (length of line, the drawing fitted to a 255 x 255 canvas) and points are means
over all drawings. Nearest distances lead from each fake, and from each test drawing, to the nearest drawing
of its class in the train split, on features and on small pictures: a copy is nearer than test drawings are.

Limits: a recognizer trained on Quick, Draw! judges Quick, Draw!; it is no judge of beauty. Tune a model with
another recognizer than the one it is reported with (`--recognizer`), and never train on the test split.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from .data.dataset import StrokeDataset, class_name
from .data.records import replacing
from .metrics import (
    bootstrap_interval,
    fid,
    kid,
    nearest_distances,
    precision_recall,
    quantile_interval,
)
from .raster import contact_sheet, rasterize
from .recognizer import Recognizer, load_recognizer
from .strokes import QUICKDRAW_CANVAS, Sketch, fit

DEEP_CLASSES = (  # those of the project's training data with 880 drawings or more
    "airplane, alarm clock, ambulance, ant, apple, backpack, basket, butterfly, cactus, calculator, "
    "campfire, candle, car, coffee cup, crab, duck, eye, face, ice cream, monkey, mouth, pig, pineapple, "
    "power outlet, radio, shoe, suitcase, sun"
).split(", ")
PAPER_CLASSES = "moon airplane fish umbrella train spider shoe apple lion bus".split()  # SketchKnitter's ten

PICTURE = 24  # pixels a side of the pictures that nearest distances compare
PICTURE_LINE = 2.0  # pixels; thick, so that lines a pixel apart still overlap
K = 3  # neighbours, of precision and recall
QUANTILES = {"median": 0.5, "p5": 0.05}  # of nearest distances

Draw = Callable[
    ..., list[Sketch]
]  # draw(class_name, count=, seed=) -> that many drawings, as SketchModel.draw


@dataclass(frozen=True)
class Measured:
    """Drawings and what is known of each, B rows everywhere."""

    sketches: list[Sketch]
    labels: np.ndarray  # (B,) which of the evaluated classes it should show
    found: np.ndarray  # (B,) which class of the recognizer it is taken for
    features: np.ndarray  # (B, D)
    pictures: np.ndarray  # (B, P)
    strokes: np.ndarray  # (B,) how many
    ink: np.ndarray  # (B,) length of line on a 255 x 255 canvas
    points: np.ndarray  # (B,) how many


@dataclass(frozen=True)
class Real:
    """The real side of an evaluation, measured once and used for any number of models."""

    classes: list[str]
    counts: list[int]  # drawings of each class, on every side
    recognizer: Recognizer
    targets: np.ndarray  # (C,) where each class stands in the recognizer's own list
    test: Measured
    floor: Measured
    train: list[tuple[np.ndarray, np.ndarray]]  # of each class: features (n, D) and pictures (n, P)
    nearest: dict[str, dict[str, np.ndarray]]  # of "real" and "floor": (B,) on "features" and on "pictures"


@dataclass(frozen=True)
class Bar:
    """One line of the promise: `value` must be at least `low` and at most `high`."""

    name: str
    value: float
    low: float = -math.inf
    high: float = math.inf

    @property
    def met(self) -> bool:
        return self.low <= self.value <= self.high


def measure(sketches: Sequence[Sketch], labels: Sequence[int], recognizer: Recognizer) -> Measured:
    """What the recognizer and a ruler say of the drawings."""
    sketches = list(sketches)
    return Measured(
        sketches=sketches,
        labels=np.asarray(labels, dtype=np.int64),
        found=recognizer.scores(sketches).argmax(1),
        features=recognizer.features(sketches),
        pictures=small_pictures(sketches),
        strokes=np.array([len(sketch.strokes) for sketch in sketches], dtype=np.float64),
        ink=np.array([ink_length(sketch) for sketch in sketches]),
        points=np.array([sketch.num_points for sketch in sketches], dtype=np.float64),
    )


def ink_length(sketch: Sketch) -> float:
    """Length of line of the drawing fitted to a 255 x 255 canvas: the size it was drawn at does not count."""
    strokes = fit(sketch, QUICKDRAW_CANVAS).strokes
    return float(sum(np.hypot(*np.diff(stroke.astype(np.float64), axis=0).T).sum() for stroke in strokes))


def small_pictures(sketches: Sequence[Sketch]) -> np.ndarray:
    """(B, PICTURE * PICTURE) float32 ink of the fitted drawings."""
    return rasterize(sketches, PICTURE, line_width=PICTURE_LINE, padding=0.05).reshape(
        len(sketches), PICTURE**2
    )


def measure_real(
    data: str | Path,
    classes: Sequence[str],
    *,
    count: int,
    recognizer: Recognizer,
    seed: int = 0,
    on_progress: Callable[[int, int], None] | None = None,
) -> Real:
    """The real side: `count` drawings of each class, fewer where the test or valid split holds fewer.

    data     folder of Quick, Draw! files with train, valid and test splits.
    classes  names as in that folder; each must be one of the recognizer's.
    """
    if count < K + 1:
        raise ValueError(
            f"count is {count}, wanted {K + 1} or more: distances to {K} neighbours are compared."
        )
    place = {name: i for i, name in enumerate(recognizer.classes)}
    strangers = [name for name in classes if name not in place]
    if strangers:
        raise ValueError(
            f"the recognizer does not know {', '.join(strangers[:5])}. Leave such classes out, or "
            f"give another recognizer."
        )
    if len(set(classes)) != len(classes) or not classes:
        raise ValueError(f"got {len(classes)} classes, wanted one at least and none twice. Correct the list.")
    splits = {split: _by_class(data, split, classes) for split in ("test", "valid", "train")}
    for name in classes:
        for split, (_, rows) in splits.items():
            if len(rows[name]) == 0:
                raise ValueError(f"{data} holds no {split} drawings of {name}. Leave that class out.")
    counts = [min(count, len(splits["test"][1][n]), len(splits["valid"][1][n])) for n in classes]

    measured, train = {}, []
    for s, split in enumerate(("test", "valid")):
        dataset, rows = splits[split]
        sketches, labels = [], []
        for c, name in enumerate(classes):
            rng = np.random.default_rng([seed, s, place[name]])  # the choice of a class is its own
            sketches += [dataset.sketch(i) for i in sorted(rng.permutation(rows[name])[: counts[c]])]
            labels += [c] * counts[c]
        measured[split] = measure(sketches, labels, recognizer)
    dataset, rows = splits["train"]
    for c, name in enumerate(classes):
        sketches = [dataset.sketch(i) for i in rows[name]]
        train.append((recognizer.features(sketches), small_pictures(sketches)))
        if on_progress is not None:
            on_progress(c + 1, len(classes))
    targets = np.array([place[name] for name in classes])
    sides = (("real", measured["test"]), ("floor", measured["valid"]))
    nearest = {name: nearest_training(side, train) for name, side in sides}
    return Real(
        list(classes), counts, recognizer, targets, measured["test"], measured["valid"], train, nearest
    )


def nearest_training(side: Measured, train: Sequence[tuple[np.ndarray, np.ndarray]]) -> dict[str, np.ndarray]:
    """Distance (B,) of each drawing to the nearest training drawing of its class, on either space."""
    found = {"features": np.zeros(len(side.labels)), "pictures": np.zeros(len(side.labels))}
    for c, (features, pictures) in enumerate(train):
        own = side.labels == c
        if own.any():
            found["features"][own] = nearest_distances(side.features[own], features)
            found["pictures"][own] = nearest_distances(side.pictures[own], pictures)
    return found


def evaluate(
    draw: Draw, real: Real, *, seed: int = 0, on_progress: Callable[[int, int], None] | None = None
) -> tuple[dict, list[Sketch]]:
    """Draws as many of each class as the real side holds; the report of `compare`, and the drawings."""
    sketches: list[Sketch] = []
    for c, (name, count) in enumerate(zip(real.classes, real.counts, strict=True)):
        drawn = list(draw(name, count=count, seed=seed))
        if len(drawn) != count:
            raise ValueError(
                f"the model drew {len(drawn)} of {name}, wanted {count}. Its draw ignores count."
            )
        sketches += drawn
        if on_progress is not None:
            on_progress(c + 1, len(real.classes))
    return compare(sketches, real), sketches


def compare(sketches: Sequence[Sketch], real: Real) -> dict:
    """The report on drawings in the order of `real.classes`, `real.counts` of each; plain JSON values."""
    if len(sketches) != sum(real.counts):
        raise ValueError(
            f"got {len(sketches)} drawings, wanted {sum(real.counts)}, as many as the real side has."
        )
    labels = np.repeat(np.arange(len(real.classes)), real.counts)
    fake = measure(sketches, labels, real.recognizer)
    empty = fake.ink == 0  # nothing, or dots only
    right = {
        "fake": (fake.found == real.targets[labels]) & ~empty,
        "real": real.test.found == real.targets[labels],
    }
    nearest = {"fake": nearest_training(fake, real.train)} | real.nearest

    report: dict = {
        "classes": len(real.classes),
        "drawings": len(sketches),
        "per_class_count": _range(real.counts),
    }
    top1 = {side: _macro(values, labels) for side, values in right.items()}
    report["top1"] = top1 | {
        "ratio": _ratio(top1["fake"], top1["real"]),
        "fake_interval": bootstrap_interval(right["fake"], labels),
        "real_interval": bootstrap_interval(right["real"], labels),
    }
    precision, recall = precision_recall(real.test.features, fake.features, K)
    floor_precision, floor_recall = precision_recall(real.test.features, real.floor.features, K)
    report["precision"] = _beside_floor(precision, floor_precision)
    report["recall"] = _beside_floor(recall, floor_recall)
    for name, distance in (("fid", fid), ("kid", kid)):
        report[name] = {
            "fake": distance(real.test.features, fake.features),
            "floor": distance(real.test.features, real.floor.features),
        }
    for name in ("strokes", "ink", "points"):
        means = {side: float(getattr(m, name).mean()) for side, m in (("fake", fake), ("real", real.test))}
        report[name] = means | {"ratio": _ratio(means["fake"], means["real"])}
    report["nearest"] = {
        space: {side: _spread(distances[space]) for side, distances in nearest.items()}
        | {"real_interval": {n: quantile_interval(nearest["real"][space], q) for n, q in QUANTILES.items()}}
        for space in ("features", "pictures")
    }
    report["empty"] = int(empty.sum())
    report["bars"] = [asdict(bar) | {"met": bar.met} for bar in bars(report)]
    report["all_met"] = all(bar["met"] for bar in report["bars"])
    report["by_class"] = [
        {
            "class": name,
            "count": real.counts[c],
            "top1_fake": float(right["fake"][labels == c].mean()),
            "top1_real": float(right["real"][labels == c].mean()),
            "taken_for": _most_common(fake.found[(labels == c) & ~right["fake"]], real.recognizer.classes),
            "strokes_ratio": _ratio(fake.strokes[labels == c].mean(), real.test.strokes[labels == c].mean()),
            "ink_ratio": _ratio(fake.ink[labels == c].mean(), real.test.ink[labels == c].mean()),
            "nearest_ratio": _ratio(
                float(np.median(nearest["fake"]["features"][labels == c])),
                float(np.median(nearest["real"]["features"][labels == c])),
            ),
            "empty": int(empty[labels == c].sum()),
        }
        for c, name in enumerate(real.classes)
    ]
    return _plain(report)


def bars(report: dict) -> list[Bar]:
    """What first light promises of the deep classes, on the figures of a report."""
    nearest = report["nearest"]
    return [
        Bar("top-1, share of real", report["top1"]["ratio"], low=0.60),
        Bar("recall, share of floor", report["recall"]["ratio"], low=0.75),
        *(
            Bar(
                f"nearest {space}, {name} over real",
                _ratio(sides["fake"][name], sides["real"][name]),
                low=1.0,
            )
            for space, sides in nearest.items()
            for name in ("median", "p5")
        ),
        Bar("strokes, share of real", report["strokes"]["ratio"], low=0.85, high=1.15),
        Bar("ink, share of real", report["ink"]["ratio"], low=0.85, high=1.15),
        Bar("empty drawings", report["empty"], high=0),
    ]


def table(report: dict) -> str:
    """The report for people: figures, bars, classes."""
    r = report
    low, high = r["per_class_count"]
    each = str(low) if low == high else f"{low} to {high}"
    lines = [f"{r['drawings']} drawings, {r['classes']} classes, {each} each", ""]
    lines.append(f"{'':34}{'model':>10}{'real':>10}{'ratio':>8}")

    def line(name: str, fake: float, real: float, digits: int, ratio: float | None = None) -> None:
        share = "" if ratio is None else _number(ratio, 8, 2)
        lines.append(f"{name:34}{_number(fake, 10, digits)}{_number(real, 10, digits)}{share}")

    line("top-1", r["top1"]["fake"], r["top1"]["real"], 3, r["top1"]["ratio"])
    for name in ("precision", "recall"):
        line(f"{name} (real: valid, test)", r[name]["fake"], r[name]["floor"], 3, r[name]["ratio"])
    line("FID (real: valid, test)", r["fid"]["fake"], r["fid"]["floor"], 2)
    line("KID (real: valid, test)", r["kid"]["fake"], r["kid"]["floor"], 4)
    for name, digits in (("strokes", 2), ("ink", 0), ("points", 1)):
        line(name, r[name]["fake"], r[name]["real"], digits, r[name]["ratio"])
    for space, sides in r["nearest"].items():
        for name, words in (("median", "median"), ("p5", "5th percentile")):
            fake, real = sides["fake"][name], sides["real"][name]
            line(f"nearest {space}, {words}", fake, real, 3, _ratio(fake, real))
            low, high = sides["real_interval"][name]
            lines[-1] += f"   valid {sides['floor'][name]:.3f}, 95 % of real {low:.3f} to {high:.3f}"
    low, high = r["top1"]["fake_interval"]
    lines += [f"95 % interval of top-1: {low:.3f} to {high:.3f}; empty drawings: {r['empty']}", ""]
    for bar in r["bars"]:
        limits = [f">= {bar['low']:g}"] if bar["low"] is not None else []
        limits += [f"<= {bar['high']:g}"] if bar["high"] is not None else []
        verdict = "met " if bar["met"] else "MISS"
        lines.append(f"{verdict}  {bar['name']:40}{_number(bar['value'], 8, 3)}  {', '.join(limits)}")
    lines += ["", f"{'class':26}{'top-1':>7}{'real':>7}{'strokes':>9}{'ink':>7}{'nearest':>9}  taken for"]
    for c in r["by_class"]:
        figures = [
            ("top1_fake", 7),
            ("top1_real", 7),
            ("strokes_ratio", 9),
            ("ink_ratio", 7),
            ("nearest_ratio", 9),
        ]
        row = "".join(_number(c[name], width, 2) for name, width in figures)
        lines.append(f"{c['class'][:25]:26}{row}  {c['taken_for'] or ''}")
    return "\n".join(lines) + "\n"


def _number(value: float | None, width: int, digits: int) -> str:
    """None is how a report writes a number without bounds."""
    return f"{'inf':>{width}}" if value is None else f"{value:{width}.{digits}f}"


def sheet(sketches: Sequence[Sketch], real: Real, *, columns: int = 10):
    """PIL image: a row a class, its first drawings, each captioned with what the recognizer takes it for."""
    columns, chosen, at = min(columns, *real.counts), [], 0
    for count in real.counts:
        chosen += sketches[at : at + columns]
        at += count
    captions = [names[0][0] for names in real.recognizer.recognize(chosen)]
    return contact_sheet(chosen, columns=columns, cell=96, captions=captions)


def _by_class(
    data: str | Path, split: str, classes: Sequence[str]
) -> tuple[StrokeDataset, dict[str, np.ndarray]]:
    """A split and the rows of it that belong to each class."""
    dataset = StrokeDataset.from_folder(data, split=split, classes=list(classes))
    labels = np.asarray(dataset.labels)
    return dataset, {name: np.flatnonzero(labels == i) for i, name in enumerate(dataset.classes)}


def _macro(values: np.ndarray, labels: np.ndarray) -> float:
    return float(np.mean([values[labels == c].mean() for c in np.unique(labels)]))


def _ratio(a: float, b: float) -> float:
    """a / b; 1 when both are 0, infinite when only b is."""
    return float(a / b) if b else (math.inf if a else 1.0)


def _beside_floor(fake: float, floor: float) -> dict[str, float]:
    return {"fake": fake, "floor": floor, "ratio": _ratio(fake, floor)}


def _spread(distances: np.ndarray) -> dict[str, float]:
    return {name: float(np.quantile(distances, q)) for name, q in QUANTILES.items()}


def _most_common(found: np.ndarray, names: Sequence[str]) -> str | None:
    return names[int(np.bincount(found).argmax())] if len(found) else None


def _range(counts: Sequence[int]) -> tuple[int, int]:
    return min(counts), max(counts)


def _plain(value):
    """JSON has no infinity and no tuples: None and lists."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value


def choose_classes(text: str, known: Sequence[str]) -> list[str]:
    """`deep`, `paper`, `all`, or names with commas between them, as the `known` ones are spelled."""
    if not known:
        raise ValueError("the data folder holds no .npz files. Give the folder of Quick, Draw! files.")
    if text == "all":
        return list(known)
    wanted: Sequence[str] = {"deep": DEEP_CLASSES, "paper": PAPER_CLASSES}.get(text) or text.split(",")
    spelled = {_folded(name): name for name in known}
    strangers = [name for name in wanted if _folded(name) not in spelled]
    if strangers:
        raise ValueError(
            f"no drawings of {', '.join(strangers[:5])} in the data folder. Give names of its files, "
            f"'deep', 'paper' or 'all'."
        )
    return [spelled[_folded(name)] for name in wanted]


def _folded(name: str) -> str:
    return name.strip().replace("_", " ").casefold()


def main(argv: Sequence[str]) -> int:
    """`python -m sketch_core evaluate`: exit status 0 when it ran, whether the bars are met or not."""
    p = argparse.ArgumentParser(
        prog="python -m sketch_core evaluate",
        description="Draws with a model and measures the drawings beside real ones.",
    )
    p.add_argument("--model", default="default", help="name or .safetensors file (default: the embedded one)")
    p.add_argument(
        "--data", type=Path, required=True, help="folder of Quick, Draw! .npz files with their splits"
    )
    p.add_argument("--classes", default="deep", help="deep, paper, all, or a comma list (default: deep)")
    p.add_argument(
        "--count", type=int, default=40, help="drawings of each class, as the splits allow (default 40)"
    )
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--steps", type=int, help="passed on to the model, as are the next three")
    p.add_argument("--guidance", type=float)
    p.add_argument("--sampler")
    p.add_argument("--schedule")
    p.add_argument(
        "--recognizer", default="recognizer", help="name or .safetensors file (default: the embedded one)"
    )
    p.add_argument("--out", type=Path, help="JSON file to write the report to")
    p.add_argument("--sheet", type=Path, help="PNG file to write drawings of every class to")
    p.add_argument("--force", action="store_true", help="overwrite those files")
    args = p.parse_args(list(argv))

    from .knitter import load  # so that --help does not wait for it

    for path in (args.out, args.sheet):
        if path is not None and path.exists() and not args.force:
            raise ValueError(f"{path} exists already. Add --force to overwrite it, or choose another name.")
        if path is not None and not path.parent.is_dir():
            raise ValueError(f"{path.parent} is not a folder. Make it first, or choose another one.")
    model, recognizer = load(args.model), load_recognizer(args.recognizer)
    known = [class_name(path) for path in sorted(args.data.glob("*.npz"))]
    classes = choose_classes(args.classes, known)
    real = measure_real(
        args.data,
        classes,
        count=args.count,
        recognizer=recognizer,
        seed=args.seed,
        on_progress=_progress("measuring"),
    )
    options = {name: getattr(args, name) for name in ("steps", "guidance", "sampler", "schedule")}
    options = {name: value for name, value in options.items() if value is not None}
    began = time.monotonic()
    report, sketches = evaluate(
        lambda name, *, count, seed: model.draw(name, count=count, seed=seed, **options),
        real,
        seed=args.seed,
        on_progress=_progress("drawing"),
    )
    settings = {
        "model": args.model,
        "recognizer": str(args.recognizer),
        "classes": args.classes,
        "seed": args.seed,
    }
    report = {"settings": settings | options, "seconds": round(time.monotonic() - began, 1)} | report
    sys.stdout.write(table(report))
    if args.out is not None:
        with replacing(args.out) as file:
            file.write((json.dumps(report, indent=1) + "\n").encode())
    if args.sheet is not None:
        with replacing(args.sheet) as file:
            sheet(sketches, real).save(file, format="PNG")
    return 0


def _progress(what: str) -> Callable[[int, int], None]:
    """A line on a terminal's standard error, nothing in a pipe."""
    if not sys.stderr.isatty():
        return lambda done, total: None

    def show(done: int, total: int) -> None:
        sys.stderr.write(f"\r{what} class {done} of {total}" + ("\n" if done == total else ""))
        sys.stderr.flush()

    return show

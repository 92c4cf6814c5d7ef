"""SketchKnitter's ablations in one run: `python -m sketch_core train ablations --data DIR --out DIR`.

Every variant is trained from nothing for the same number of processor minutes on the same few classes, draws
with the same seeds, and is measured by one judge beside real drawings: four ways to write a drawing down
(`representations.py`), three networks; then DDIM with linear and quadratic spacing on the transformer. One
table, one JSON file, one sheet. A variant that is trained stays trained: the same command goes on with the
next, and `--force` measures anew.

All variants share losses, optimizers, batches and augmentation, less what only some could have: nothing is
given of a drawing (`known`), no points are dropped and no loss is taken of where offsets lead, as both mean
nothing to absolute positions; one variant has that loss, which our own training adds. Sampling is without
guidance, so that a class is all a network is told.

Limits: a few minutes teach a network little; what is best after them need not be best after days. There is
one training a variant: the intervals are the drawings', and say nothing of how two trainings would differ.
"""

from __future__ import annotations

import argparse
import io
import itertools
import json
import logging
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..arguments import Parser
from ..data.dataset import StrokeDataset, class_name
from ..data.npz import write_npz
from ..data.records import replacing
from ..evaluate.cache import FeatureCache
from ..evaluate.classes import choose_classes
from ..evaluate.drawing import Counter, draw_all
from ..evaluate.figures import figures_of
from ..evaluate.measuring import PICTURE, PICTURE_LINE, Real, measure_real
from ..evaluate.printing import number
from ..evaluate.protocol import JUDGE, judge_note, protocol
from ..evaluate.report import compare, plain
from ..evaluate.resampling import check_enough
from ..knitter import SketchModel, load
from ..ledger import cache_folder
from ..raster import contact_sheet
from ..recognizer import load_recognizer
from ..strokes import Sketch
from .command import Progress
from .config import TrainConfig
from .loop import train
from .representations import FORMS, rejoined, rewritten, shuffled_points

log = logging.getLogger(__name__)

FORMAT = 1  # of the JSON file
STEPS = 30  # of DDPM, by which all variants draw
DDIM_STEPS = (10, 20, 30)
SPACINGS = {"linear": "uniform", "quadratic": "quadratic"}  # the paper's word, and this library's
ON_SHEET = 4  # drawings of a class
FIGURES = (("top1", 8, 3), ("fid", 8, 2), ("recall", 8, 3))  # flat name, width and digits in the table


@dataclass(frozen=True)
class Variant:
    """One training: in which form drawings are written down (`FORMS`), and which network learns them how."""

    about: str
    form: str = "offsets"
    architecture: str = "stroke_transformer"
    model: Mapping[str, object] = field(default_factory=dict)
    options: Mapping[str, float] = field(default_factory=dict)  # of `TrainConfig`, in place of those SHARED

    def settings(self, width: int, depth: int) -> dict:
        """Fields of the network's config; the U-Net's width is its number of points."""
        if self.architecture == "stroke_unet":
            return dict(self.model)
        heads = {"heads": max(1, width // 64)} if self.architecture == "stroke_transformer" else {}
        return {"width": width, "depth": depth} | heads | dict(self.model)


BASE = "transformer"
VARIANTS = {
    BASE: Variant("transformer, offsets in drawing order"),
    "place": Variant("  with a loss of where they lead", options={"place_weight": 0.25}),
    "noise_on_places": Variant("offsets, noise white on places", model={"noise": "places"}),
    "absolute": Variant("absolute coordinates", form="absolute"),
    "stroke_shuffle": Variant("stroke shuffle", form="stroke shuffle"),
    "point_shuffle": Variant("point shuffle", form="point shuffle"),
    "birnn": Variant("bidirectional RNN", architecture="stroke_birnn"),
    "unet": Variant(
        "U-Net, as small, v and cosine",
        architecture="stroke_unet",
        model={"num_res_blocks": 1, "channel_mult": [1, 1], "prediction": "v", "schedule": "cosine"},
    ),
    "unet_published": Variant(
        "U-Net as published, eps and linear",
        architecture="stroke_unet",
        model={"num_res_blocks": 2},
    ),
}
SHARED = {
    "power": 0.0,  # every class equally often
    "known": 0.0,
    "drop": 0.0,
    "place_weight": 0.0,
    "tokens": 3072,
    "warmup": 50,
    "decay": 0.3,
    "checkpoint_minutes": float("inf"),  # what is unfinished begins anew
}


@dataclass(frozen=True)
class Row:
    """A line of the table: drawings and what was measured of them.

    network  parameters, steps, drawings seen and processor seconds of the training; empty for real drawings.
    """

    about: str
    sketches: list[Sketch]
    figures: dict
    calls: float | None = None
    network: Mapping[str, float] = field(default_factory=dict)


# ---- training, drawing, measuring -----------------------------------------------------------------


def train_variant(
    variant: Variant,
    folder: Path,
    *,
    data: Path,
    classes: Sequence[str],
    minutes: float,
    seed: int = 0,
    width: int = 128,
    depth: int = 4,
    max_points: int = 96,
    on_step: Callable | None = None,
) -> Path:
    """The weights of a variant, trained for so many processor minutes unless they are in `folder` already."""
    weights = folder / "weights.safetensors"
    if weights.exists():
        return weights
    checkpoint = folder / "checkpoint.pt"
    checkpoint.unlink(missing_ok=True)  # to go on from it would spend a second budget
    with tempfile.TemporaryDirectory() as copies:
        splits = {
            split: rewritten(
                StrokeDataset.from_folder(data, split, classes),
                FORMS[variant.form],
                max_points=max_points,
                seed=seed,
            )
            for split in ("train", "valid")
        }
        for c, name in enumerate(splits["train"].classes):
            drawings = {s: [d[i] for i in np.flatnonzero(d.labels == c)] for s, d in splits.items()}
            write_npz(Path(copies, f"{name.replace(' ', '_')}.npz"), drawings)
        config = TrainConfig(
            data=copies,
            out=str(folder),
            architecture=variant.architecture,
            model=json.dumps(variant.settings(width, depth)),
            minutes=minutes,
            max_points=max_points,
            seed=seed,
            **SHARED | dict(variant.options),
        )
        train(config, on_step=on_step, clock=time.process_time)
    checkpoint.unlink()
    return weights


def draw(model: SketchModel, form: str, real: Real, *, seed: int, **settings) -> tuple[list[Sketch], float]:
    """As many drawings of each class as the real side has, read in their form, and network calls of each."""
    counter = Counter()

    def of_class(name: str, *, count: int, seed: int) -> list[Sketch]:
        options = {"count": count, "seed": seed, "guidance": 1.0, "on_step": counter}
        return FORMS[form].decode(model.sample(name, **options, **settings))

    found = draw_all(of_class, real, [seed], counter=counter)
    return found.sketches, found.calls


def rows_of(trained: Mapping[str, Path], real: Real, *, seed: int = 0, resamples: int = 0) -> list[Row]:
    """The table: every trained variant by DDPM, the transformer by DDIM, real drawings."""

    def row(about: str, sketches: list[Sketch], calls: float | None, network: Mapping[str, float]) -> Row:
        report = plain(compare(sketches, real, resamples=resamples))
        intervals = {"top1": report["top1"]["fake_interval"]} | report.get("intervals", {})
        figures = figures_of(report) | {"strokes": report["strokes"]["fake"]}
        figures["intervals"] = {name: intervals[name] for name, _, _ in FIGURES if name in intervals}
        log.info("%s: top-1 %.3f, FID %.2f", about.strip(), figures["top1"], figures["fid"])
        return Row(about, sketches, figures, calls, network)

    found = []
    for name, weights in trained.items():
        variant, model, network = VARIANTS[name], *read(weights)
        sketches, calls = draw(model, variant.form, real, seed=seed, sampler="ddpm", steps=STEPS)
        found.append(row(variant.about, sketches, calls, network))
        if variant.form == "point shuffle":
            found.append(row("  its strokes rejoined", [rejoined(s) for s in sketches], calls, network))
    if BASE in trained:
        model, network = read(trained[BASE])
        for (words, schedule), steps in itertools.product(SPACINGS.items(), DDIM_STEPS):
            settings = {"sampler": "ddim", "schedule": schedule, "steps": steps}
            sketches, calls = draw(model, "offsets", real, seed=seed, **settings)
            found.append(row(f"transformer, DDIM {words}", sketches, calls, network))
    others = real.floor.sketches
    found.append(row("real", others, None, {}))
    if "point_shuffle" in trained:
        rng = np.random.default_rng(seed)
        lost = [rejoined(shuffled_points(s, rng)) for s in others]
        found.append(row("real, point shuffle, rejoined", lost, None, {}))
    return found


def read(weights: Path) -> tuple[SketchModel, dict[str, float]]:
    """A model, and its parameters, steps, drawings seen and processor seconds."""
    model = load(weights)
    return model, {"parameters": sum(p.numel() for p in model.network.parameters())} | dict(
        model.metadata.training
    )


# ---- what is shown --------------------------------------------------------------------------------


def table(rows: Sequence[Row], real: Real) -> str:
    """A line a row; below it the halves of its 95 % intervals."""
    each = real.counts[0] if len(set(real.counts)) == 1 else f"{min(real.counts)} to {max(real.counts)}"
    width = max(len(row.about) for row in rows) + 2
    heads = {"million": 9, "seen": 8, "calls": 7, "top-1": 8, "FID": 8, "recall": 8, "strokes": 9}
    lines = [f"{len(rows[0].sketches)} drawings a line, {each} each of {', '.join(real.classes)}", ""]
    lines.append(" " * width + "".join(f"{words:>{w}}" for words, w in heads.items()))
    for row in rows:
        n, f = row.network, row.figures
        cells = number(n["parameters"] / 1e6, 9, 2) + f"{n['drawings_seen']:>8}" if n else " " * 17
        cells += " " * 7 if row.calls is None else number(row.calls, 7, 0)
        cells += "".join(number(f[name], w, digits) for name, w, digits in FIGURES)
        lines.append(f"{row.about:{width}}" + cells + number(f["strokes"], 9, 2))
        halves = " " * 24
        for name, w, digits in FIGURES:
            low, high = f["intervals"].get(name, (None, None))
            halves += " " * w if low is None else number((high - low) / 2, w, digits)
        lines.append((f"{'    +/-':{width}}" + halves).rstrip())
    return "\n".join(lines) + "\n"


def sheet(rows: Sequence[Row], real: Real, cell: int = 72) -> Image.Image:
    """The first drawings of every class in every row, the row's words above them; 16 greys."""
    first = np.cumsum([0, *real.counts[:-1]])
    chosen = [i + k for i, n in zip(first, real.counts, strict=True) for k in range(min(ON_SHEET, n))]
    strips = [contact_sheet([r.sketches[i] for i in chosen], columns=len(chosen), cell=cell) for r in rows]
    line, font = 18, ImageFont.load_default(12)
    image = Image.new("L", (strips[0].width, len(rows) * (cell + line)), 255)
    pen = ImageDraw.Draw(image)
    for i, (row, strip) in enumerate(zip(rows, strips, strict=True)):
        calls = "" if row.calls is None else f", {row.calls:.0f} calls"
        pen.text((4, i * (cell + line) + 3), row.about.strip() + calls, fill=0, font=font)
        image.paste(strip.convert("L"), (0, i * (cell + line) + line))
    return image.quantize(16)


# ---- the command ----------------------------------------------------------------------------------


def parser() -> argparse.ArgumentParser:
    p = Parser(prog="python -m sketch_core train ablations", description=__doc__.split("\n\n")[1])
    p.add_argument("--data", type=Path, required=True, help="folder of Quick, Draw! files with their splits")
    p.add_argument("--out", type=Path, required=True, help="folder for weights, ablations.json and .png")
    p.add_argument("--classes", default="sun,face,apple", help="comma list (default: sun,face,apple)")
    p.add_argument(
        "--minutes",
        type=_within(float, 1e-3, 1e5),
        default=3.0,
        help="processor minutes a variant (default 3)",
    )
    p.add_argument(
        "--count", type=_within(int, 1, 10_000), default=16, help="drawings of a class and row (default 16)"
    )
    p.add_argument("--variants", default="all", help=f"comma list of {', '.join(VARIANTS)} (default: all)")
    p.add_argument(
        "--width",
        type=_within(int, 2, 4096),
        default=128,
        help="of the transformer and the RNN, even (default 128)",
    )
    p.add_argument("--depth", type=_within(int, 1, 64), default=4, help="layers of both (default 4)")
    p.add_argument(
        "--max-points",
        type=_within(int, 8, 512),
        default=96,
        help="longer drawings are simplified (default 96)",
    )
    p.add_argument(
        "--seed",
        type=_within(int, 0, 2**31 - 1),
        default=0,
        help="of training, and of what is drawn (default 0)",
    )
    p.add_argument(
        "--resamples", type=_within(int, 0, 10_000), default=100, help="half samples for intervals, 0 = none"
    )
    p.add_argument("--judge", default=JUDGE, metavar="FILE", help="recognizer (default: the pack's judge)")
    p.add_argument("--force", action="store_true", help="overwrite ablations.json and .png")
    return p


def _within(kind: type, low: float, high: float) -> Callable[[str], float]:
    """An argparse type: a number of that kind, from low to high."""

    def number(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text!r} is no {kind.__name__} from {low:g} to {high:g}")
        return value

    return number


def main(argv: Sequence[str] | None = None) -> int:
    args = parser().parse_args(argv)
    level = logging.INFO if sys.stderr.isatty() else logging.WARNING
    logging.basicConfig(level=level, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr)
    names = choose_variants(args.variants)
    results = args.out / "ablations.json", args.out / "ablations.png"
    for path in results:
        if path.exists() and not args.force:
            raise ValueError(f"{path} exists already. Add --force to measure anew, or choose another --out.")
    classes = choose_classes(args.classes, [class_name(path) for path in sorted(args.data.glob("*.npz"))])
    judge = load_recognizer(args.judge)
    sha256 = judge_note(args.judge)["sha256"]
    cache = FeatureCache(cache_folder() / "features", judge=sha256, picture=(PICTURE, PICTURE_LINE))
    real = measure_real(args.data, classes, count=args.count, judge=judge, seed=args.seed, cache=cache)
    if args.resamples:
        check_enough(real, args.resamples)
    options = {name: getattr(args, name) for name in ("minutes", "seed", "width", "depth", "max_points")}
    settle(args.out, options | {"classes": sorted(classes), "data": real.data_sha256})
    trained = {}
    for i, name in enumerate(names, 1):
        log.info("variant %d of %d: %s", i, len(names), VARIANTS[name].about)
        with Progress() as progress:
            trained[name] = train_variant(
                VARIANTS[name],
                args.out / name,
                data=args.data,
                classes=classes,
                on_step=progress,
                **options,
            )
    rows = rows_of(trained, real, seed=args.seed, resamples=args.resamples)
    told = {"format": FORMAT, "plan": options}
    told["protocol"] = protocol(real, seeds=[args.seed], choice=args.seed, judge=args.judge, inception=None)
    told["rows"] = [
        {"about": r.about.strip(), "calls": r.calls, "network": dict(r.network)} | r.figures for r in rows
    ]
    picture = io.BytesIO()
    sheet(rows, real).save(picture, format="PNG", optimize=True)
    contents = (json.dumps(plain(told), indent=1) + "\n").encode(), picture.getbuffer()
    for path, content in zip(results, contents, strict=True):
        with replacing(path) as file:
            file.write(content)
    sys.stdout.write(table(rows, real))
    return 0


def choose_variants(text: str) -> list[str]:
    """The variants of `all` or a comma list, in the order of `VARIANTS`."""
    wanted = list(VARIANTS) if text == "all" else [part.strip() for part in text.split(",") if part.strip()]
    strangers = [name for name in wanted if name not in VARIANTS]
    if strangers or not wanted:
        raise ValueError(
            f"no variant {', '.join(strangers) or repr(text)}. Known: {', '.join(VARIANTS)}, or 'all'."
        )
    return [name for name in VARIANTS if name in wanted]


def settle(folder: Path, plan: Mapping[str, object]) -> None:
    """Writes down what all variants of a folder share, or refuses a folder of another plan."""
    path = folder / "plan.json"
    if path.exists():
        before = json.loads(path.read_text("utf-8"))
        differ = [name for name in plan if before.get(name) != plan[name]]
        if differ:
            raise ValueError(
                f"{folder} holds variants of another plan: {', '.join(differ)} differ. "
                f"Give the same options, or choose another --out."
            )
        return
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        file.write((json.dumps(plan, indent=1) + "\n").encode())

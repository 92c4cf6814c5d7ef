"""`python -m sketch_core evaluate`: its options, and what they start."""

from __future__ import annotations

import argparse
import io
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch

from ..arguments import Parser
from ..data.dataset import class_name
from ..data.records import replacing
from ..hub import find_weights, sha256_of
from ..ledger import cache_folder
from ..metrics.geometry import need_gudhi
from ..recognizer import load_recognizer
from ..strokes import Sketch
from . import plot
from .cache import FeatureCache
from .classes import choose_classes
from .comparing import check_comparable, differences
from .drawing import ASKING, Counter, Draw, draw_all, drawer, try_settings
from .figures import figures_of
from .inception import load_inception
from .measuring import PICTURE, PICTURE_LINE, OnProgress, Real, measure_real
from .printing import differences_table, heading, sheet, sweep_table, table
from .protocol import FORMAT, JUDGE, PLANS, judge_note, protocol, read_runs
from .report import compare, plain
from .resampling import check_enough
from .sweep import KINDS, quality_plot, settings_grid


def evaluate(
    draw: Draw, real: Real, *, seed: int = 0, on_progress: OnProgress | None = None
) -> tuple[dict, list[Sketch]]:
    """Draws as many of each class as the real side holds; the report of `compare`, and the drawings."""
    drawn = draw_all(draw, real, [seed], on_progress=on_progress)
    return compare(drawn.sketches, real), drawn.sketches


def parser() -> argparse.ArgumentParser:
    p = Parser(
        prog="python -m sketch_core evaluate",
        description="Draws with a model and measures the drawings beside real ones.",
        epilog="Every figure stands beside what real drawings get. A file of --out can be printed again "
        "(--from) and compared with another run of the same protocol (--against).",
    )
    p.add_argument("--model", default="default", help="name or .safetensors file (default: the embedded one)")
    p.add_argument("--data", type=Path, help="folder of Quick, Draw! .npz files with their splits")
    p.add_argument("--classes", default="deep", help="deep, paper, all, or a comma list (default: deep)")
    p.add_argument(
        "--protocol",
        choices=PLANS,
        default="quick",
        help="quick: 40 drawings of a class, one seed; full: 50, three seeds, intervals, Geometry Score",
    )
    p.add_argument("--count", type=_whole, help="drawings of each class and seed, as the splits allow")
    p.add_argument("--seed", type=_seed, default=0, help="of the choice of real drawings, and of --seeds")
    p.add_argument(
        "--seeds", type=_seeds, metavar="A,B,C", help="draw once with each (default: as --protocol)"
    )
    p.add_argument("--resamples", type=_whole, metavar="N", help="half samples for intervals; 0: none")
    p.add_argument("--geometry", type=_whole, metavar="RUNS", help="runs of the Geometry Score; 0: none")
    p.add_argument("--steps", type=int, help="passed on to the model, as are the next three")
    p.add_argument("--guidance", type=float)
    p.add_argument("--sampler")
    p.add_argument("--schedule", help="a name, or threshold:T:M, the shortcut that asks its network")
    p.add_argument(
        "--sweep", nargs="+", metavar="NAME=A,B", help=f"measure all combinations of {', '.join(KINDS)}"
    )
    p.add_argument(
        "--judge",
        "--recognizer",
        default=JUDGE,
        metavar="FILE",
        help="recognizer whose classes and features count: name or .safetensors file (default: one that "
        "comes with the pack for this alone)",
    )
    p.add_argument(
        "--inception",
        type=Path,
        metavar="FILE",
        help="weights of Inception v3: figures on its features, too",
    )
    p.add_argument("--device", default="cpu", help="where networks run: cpu, cuda, cuda:1, mps (default cpu)")
    p.add_argument("--cache", type=Path, metavar="DIR", help="where features of real drawings are kept")
    p.add_argument(
        "--from", dest="source", nargs="+", type=Path, metavar="JSON", help="print these files; draw nothing"
    )
    p.add_argument("--against", type=Path, metavar="JSON", help="compare with the run of this file")
    p.add_argument("--out", type=Path, help="JSON file to write the report to")
    p.add_argument("--plot", type=Path, metavar="FILE", help=".svg or .png of quality against calls and time")
    p.add_argument(
        "--curves",
        type=Path,
        metavar="FILE",
        help=".svg or .png of recognizability and noise against t; measures nothing else (100 steps)",
    )
    p.add_argument("--sheet", type=Path, help="PNG file to write drawings of every class to")
    p.add_argument("--json", action="store_true", help="print the figures as one flat JSON object, no table")
    p.add_argument("--force", action="store_true", help="overwrite those files")
    return p


def main(argv: Sequence[str]) -> int:
    """`python -m sketch_core evaluate`: exit status 0 when it ran, whether the bars are met or not."""
    p = parser()
    args = p.parse_args(list(argv))
    if (args.data is None) == (args.source is None):
        p.error("give --data DIR to measure, or --from JSON to print what was measured")
    if args.source is not None and args.sheet is not None:
        p.error("--sheet needs drawings, which a file of --from does not hold")
    for name in ("plot", "curves"):
        path = getattr(args, name)
        if path is not None and path.suffix not in (".svg", ".png"):
            p.error(f"--{name} {path.name} must end in .svg or .png")
    _check_free([args.out, args.plot, args.curves, args.sheet], force=args.force)
    if args.curves is not None:
        return _curves(args)
    other = None if args.against is None else read_runs(args.against)[0]
    runs, drawn, real = (_read(args.source), [], None) if args.source else _measure(args, other)
    _print(args, runs, other)
    if args.out is not None:
        contents = runs[0] if len(runs) == 1 else {"format": FORMAT, "runs": runs}
        with replacing(args.out) as file:
            file.write((json.dumps(contents, indent=1) + "\n").encode())
    if args.plot is not None:
        with replacing(args.plot) as file:
            file.write(_image(quality_plot(runs), args.plot.suffix))
    if args.sheet is not None:
        with replacing(args.sheet) as file:
            sheet(drawn, real).save(file, format="PNG")
    return 0


def _measure(args: argparse.Namespace, other: dict | None) -> tuple[list[dict], list[Sketch], Real]:
    """The reports of all settings, the drawings of the last, and the real side."""
    from ..knitter import load  # so that --help does not wait for it

    plan = PLANS[args.protocol]
    given = {name: getattr(args, name) for name in KINDS}
    given = {name: value for name, value in given.items() if value is not None}
    grid = [given | settings for settings in settings_grid(args.sweep or [])]
    seeds = args.seeds or [args.seed + seed for seed in plan.seeds]
    resamples = plan.resamples if args.resamples is None else args.resamples
    geometry = _geometry(args, plan.geometry)
    known = [class_name(path) for path in sorted(args.data.glob("*.npz"))]
    classes = choose_classes(args.classes, known)
    model, judge = load(args.model), load_recognizer(args.judge)
    _move(args.device, model.network, judge.network)
    for settings in grid:
        try_settings(model, classes[0], settings)
    inception = None if args.inception is None else load_inception(args.inception)
    place = args.cache or cache_folder() / "features"
    real = measure_real(
        args.data,
        classes,
        count=plan.count if args.count is None else args.count,
        judge=judge,
        seed=args.seed,
        inception=inception,
        cache=FeatureCache(place, judge=judge_note(args.judge)["sha256"], picture=(PICTURE, PICTURE_LINE)),
        on_progress=_progress("measuring class"),
    )
    if resamples:
        check_enough(real, resamples)
    shared = protocol(real, seeds=seeds, choice=args.seed, judge=args.judge, inception=args.inception)
    shared["versions"]["on"] = args.device
    if other is not None:
        check_comparable(plain(shared), other["protocol"])
    weights = find_weights(args.model)
    note = {"model": weights.name, "model_sha256": sha256_of(weights)}
    runs, drawn = [], None
    for done, settings in enumerate(grid, 1):
        counter = Counter()
        words = "drawing class" if len(grid) == 1 else f"setting {done} of {len(grid)}, drawing class"
        drawn = draw_all(
            drawer(model, settings, counter), real, seeds, counter=counter, on_progress=_progress(words)
        )
        report = compare(
            drawn.sketches,
            real,
            seeds=len(seeds),
            resamples=resamples,
            geometry=geometry,
            on_progress=_progress("half sample"),
        )
        told = {
            "format": FORMAT,
            "protocol": shared,
            "settings": note | model.sampling | settings | ({"steps": None} if _asks(settings) else {}),
            "calls": drawn.calls,
            "shortcut_calls": drawn.shortcut_calls,
            "seconds_a_sketch": drawn.seconds,
            "cpu_seconds_a_sketch": drawn.cpu_seconds,
        }
        runs.append(plain(told | report))
    return runs, drawn.sketches, real


def _geometry(args: argparse.Namespace, planned: int) -> int:
    """Runs of the Geometry Score: what was asked for, or what the plan says where gudhi is installed."""
    runs = planned if args.geometry is None else args.geometry
    try:
        if runs:
            need_gudhi()
    except ValueError as error:
        if args.geometry is not None:
            raise
        sys.stderr.write(f"sketch_core: {error} It is left out.\n")
        return 0
    return runs


def _move(device: str, *networks: torch.nn.Module) -> None:
    try:
        for network in networks:
            network.to(device)
    except (RuntimeError, AssertionError) as error:  # unknown, or not of this torch
        raise ValueError(f"cannot use the device {device!r}. Give cpu, or one that torch has.") from error


def _asks(settings: Mapping) -> bool:
    """Whether it is a shortcut that asks, which takes as many steps as it needs."""
    return str(settings.get("schedule", "")).startswith(ASKING)


def _read(paths: Sequence[Path]) -> list[dict]:
    """The runs of all files, which must compare."""
    runs = [run for path in paths for run in read_runs(path)]
    for run in runs[1:]:
        check_comparable(runs[0]["protocol"], run["protocol"])
    return runs


def _print(args: argparse.Namespace, runs: Sequence[dict], other: dict | None) -> None:
    """Figures of a run, or the lines of a sweep; then what differs from the other run."""
    if args.json:
        flat = [figures_of(run) for run in runs]
        sys.stdout.write(json.dumps(flat[0] if len(flat) == 1 else flat) + "\n")
        return
    if len(runs) == 1:
        sys.stdout.write(heading(runs[0]) + table(runs[0]))
    else:
        sys.stdout.write(heading(runs[0]) + sweep_table(runs))
    for run in runs if other is not None else ():
        sys.stdout.write("\n" + differences_table(differences(run, other)))


def _curves(args: argparse.Namespace) -> int:
    """The curves of a model: printed, drawn, and written to --out."""
    from ..knitter import load
    from .curves import curves, curves_plot, curves_table

    if args.data is None:
        raise ValueError("--curves needs --data DIR, whose file names say which classes there are.")
    known = [class_name(path) for path in sorted(args.data.glob("*.npz"))]
    settings = {name: getattr(args, name) for name in ("sampler", "guidance", "steps")}
    settings = {"sampler": "ddpm"} | {name: value for name, value in settings.items() if value is not None}
    model, judge = load(args.model), load_recognizer(args.judge)
    _move(args.device, model.network, judge.network)
    found = curves(
        model,
        judge,
        choose_classes(args.classes, known),
        count=args.count or 8,
        seed=args.seed,
        on_progress=_progress("drawing class"),
        **settings,
    )
    sys.stdout.write(json.dumps(found) + "\n" if args.json else curves_table(found))
    if args.out is not None:
        about = {"model": find_weights(args.model).name, "model_sha256": sha256_of(find_weights(args.model))}
        about |= {"judge": judge_note(args.judge), "seed": args.seed, "count": args.count or 8} | settings
        with replacing(args.out) as file:
            file.write((json.dumps({"format": FORMAT, "settings": about, "curves": found}) + "\n").encode())
    with replacing(args.curves) as file:
        file.write(_image(curves_plot(found), args.curves.suffix))
    return 0


def _image(canvas: plot.Canvas, suffix: str) -> bytes:
    if suffix == ".svg":
        return plot.to_svg(canvas).encode()
    buffer = io.BytesIO()
    plot.to_image(canvas).save(buffer, format="PNG")
    return buffer.getvalue()


def _check_free(paths: Sequence[Path | None], *, force: bool) -> None:
    for path in paths:
        if path is not None and path.exists() and not force:
            raise ValueError(f"{path} exists already. Add --force to overwrite it, or choose another name.")
        if path is not None and not path.parent.is_dir():
            raise ValueError(f"{path.parent} is not a folder. Make it first, or choose another one.")


def _whole(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 0")
    return int(text)


def _seed(text: str) -> int:
    if (seed := _whole(text)) >= 2**64:
        raise argparse.ArgumentTypeError(f"{text} is no seed, wanted 0 to {2**64 - 1}")
    return seed


def _seeds(text: str) -> list[int]:
    seeds = [_seed(part) for part in text.split(",")]
    if len(set(seeds)) != len(seeds):
        raise argparse.ArgumentTypeError(f"{text} names a seed twice")
    return seeds


def _progress(what: str) -> Callable[[int, int], None]:
    """A line on a terminal's standard error, nothing in a pipe."""
    if not sys.stderr.isatty():
        return lambda done, total: None

    def show(done: int, total: int) -> None:
        sys.stderr.write(f"\r{what} {done} of {total}" + ("\n" if done == total else ""))
        sys.stderr.flush()

    return show
